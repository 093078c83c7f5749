"""Konvolution by a halo in equal shares: its kernels in NumPy against the definition, and their mistakes.

Of what is shared, and which layers gain by it, see test_halo_shares.py.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch

from konvlib.layers.polynomials import Expansion
from tests.kernels.operators import poisoned

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_balanced
from tests.kernels import emulated_gluon, halos
from tests.kernels.halos import drawn, expected, given_of, layer_of, on_hopper, operands, packed, unwritten

GEOMETRIES = {  # shape, outputs, kernel, degrees, basis, masked, bias, options
    "one program": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}),
    "halves": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}),
    "a program for a turn": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}),
    "stride": ((5, 64, 8, 8), 72, (3, 3), 3, "hermite", True, "map", {"padding": 1, "stride": 2}),
    "points": ((3, 200, 9, 15), 130, (1, 1), 3, "monomial", True, "channel", {"stride": 2}),
    "one degree": ((3, 200, 9, 15), 72, (1, 1), 1, "chebyshev", True, None, {}),
    "columns apart": ((2, 64, 19, 9), 72, (4, 3), 2, "hermite", True, None, {"dilation": (1, 2), "stride": (2, 1)}),
    "five of six": ((2, 100, 11, 9), 200, (3, 3), 2, "chebyshev2", False, "map", {"padding": (2, 0)}),
    "one axis": ((9, 150, 33), 72, (5,), 2, "chebyshev2", True, "channel", {"padding": 3, "dilation": 2}),
    "seven": ((1, 64, 12, 10), 300, (7, 7), 1, "legendre", True, None, {"padding": 3, "stride": 2}),
    "sides": ((5, 48, 12, 9), 72, (4, 2), 2, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "rows apart": ((3, 64, 17, 6), 72, (3, 2), 4, "chebyshev", True, None, {"dilation": (3, 1), "stride": (2, 1)}),
    "few lines": ((16, 128, 4, 4), 130, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}),
    "whole tiles": ((9, 64, 9, 7), 72, (3, 3), 2, "chebyshev", True, "channel", {"padding": 1}),
}
PROCESSORS = {
    "one program": 1,
    "halves": 3,
    "a program for a turn": 99,
    "stride": 5,
    "points": 5,
    "one degree": 3,
    "columns apart": 4,
    "five of six": 5,
    "one axis": 4,
    "seven": 5,
    "sides": 5,
    "rows apart": 5,
    "few lines": 5,
    "whole tiles": 5,
}


def launches_of(x, weight, bias, layer, expansion, processors):
    """What both launches write, and the launches; the parts are NaN before they are written, as outputs are."""
    y, found = unwritten(x, layer), halo_balanced.shares_of(layer, processors)
    with poisoned():
        parts = halo_balanced.parts_of(x, found)
    added = halo.as_added(bias, halo.walk_of(layer))
    return y, halo_balanced.launched(y, x, weight, parts, added, layer, expansion, found)


def is_right(geometry, processors, **options):
    """Both launches in NumPy; nothing is written twice."""
    x, kappa, bias, layer, expansion = given_of(geometry)
    assert halo_balanced.fits(layer, torch.bfloat16)
    y, launches = launches_of(x, packed(kappa, halo.walk_of(layer)), bias, layer, expansion, processors)
    for launch in launches:
        emulated_gluon.run(*launch, **options)
    return torch.equal(y, expected(x, kappa, bias, layer, expansion).bfloat16())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_kernels_compute_the_layer(name, late):
    assert is_right(GEOMETRIES[name], PROCESSORS[name], late=late)


def drawn_layer(seed):
    """A layer that the kernel serves, and of how many programs."""
    return drawn(
        seed, batches=9, channels=(48, 64, 100, 200), outputs=(65, 128, 200, 300), degrees=(1, 4),
        fits=lambda layer, _: halo_balanced.fits(layer, torch.bfloat16), last=lambda draw, _: draw.randint(1, 20),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 60))])
def test_the_kernels_compute_layers_that_are_drawn(seed):
    geometry, processors = drawn_layer(seed)
    assert is_right(geometry, processors, late=seed % 2 == 1), (geometry, processors)


def test_parts_of_a_tile_are_added_from_the_first_to_the_last():
    """What rounding shows: of 1, 2**60 and -2**60 nothing is left in this order, and 1 in the other."""
    layer = layer_of(GEOMETRIES["a program for a turn"])
    x, kappa, _ = operands(layer.input_shape, 130, (3, 2), 2, None, layer)
    y = unwritten(x.float(), layer)
    found = halo_balanced.shares_of(layer, 99)
    assert (found.turns, found.share) == (4, 1)
    weight, expansion = packed(kappa, halo.walk_of(layer)), Expansion(2, "chebyshev", "none", True)
    parts = halo_balanced.parts_of(x, found).fill_(float("nan"))
    _, (kernel, grid, arguments) = halo_balanced.launched(y, x, weight, parts, None, layer, expansion, found)
    for program, value in enumerate((1.0, 2.0**60, -(2.0**60), 0.0) * 4):
        parts[2 * program + (program % 4 == 0)] = value
    emulated_gluon.run(kernel, grid, arguments)
    assert (y == 0).all()


MUTANTS = {  # function, right, wrong
    "every program starts anew": ("konv_balanced_kernel", "start = gl.program_id(0) * share", "start = share * 0"),
    "a turn too few": ("konv_balanced_kernel", "gl.minimum(start + share, gl", "gl.minimum(start + share - 1, gl"),
    "a tile too few": ("konv_balanced_kernel", "gl.cdiv(stop, turns)", "gl.maximum(stop // turns, 1)"),
    "each tile from its first turn": (
        "konv_balanced_kernel",
        "gl.maximum(start, tile * turns), gl.minimum",
        "tile * turns, gl.minimum",
    ),
    "each tile to its last turn": (
        "konv_balanced_kernel",
        "gl.minimum(stop, tile * turns + turns)",
        "tile * turns + turns",
    ),
    "pixels of outputs": ("konv_balanced_kernel", "tile // blocks_n * SLOTS, tile %", "tile * SLOTS, tile %"),
    "outputs of pixels": ("konv_balanced_kernel", "tile % blocks_n * BLOCK_N\n", "tile * BLOCK_N\n"),
    "the first column tap first": (
        "konv_balanced_kernel",
        "u_w, c = first_turn % turns % KERNEL_W,",
        "u_w, c = first_turn * 0,",
    ),
    "the first channels first": (
        "konv_balanced_kernel",
        "first_turn % turns // KERNEL_W * CHANNELS",
        "first_turn * 0",
    ),
    "samples of the first tap": ("konv_balanced_kernel", "move = right * stride_xw + c\n", "move = c\n"),
    "samples of the first channels": (
        "konv_balanced_kernel",
        "move = right * stride_xw + c\n",
        "move = right * stride_xw\n",
    ),
    "padding of the first tap": (
        "konv_balanced_kernel",
        "load(x_main + move, at_h, at_w + right,",
        "load(x_main + move, at_h, at_w,",
    ),
    "the halo's padding of the first tap": (
        "konv_balanced_kernel",
        "load(x_more + move, e_h, e_w + right,",
        "load(x_more + move, e_h, e_w,",
    ),
    "channels beyond the last": (
        "konv_balanced_kernel",
        "at_h, at_w + right, offs_c, in_h, in_w, in_channels - c,",
        "at_h, at_w + right, offs_c, in_h, in_w, in_channels,",
    ),
    "the ring begins anew": (
        "konv_balanced_kernel",
        "range(first_turn - start, last_turn - start)",
        "range(0, last_turn - first_turn)",
    ),
    "weights of the first turn": (
        "konv_balanced_kernel",
        "start % turns * (KERNEL_H * DEGREES), start",
        "start * 0, start",
    ),
    "weights of the first outputs": (
        "konv_balanced_kernel",
        "start // turns % blocks_n * BLOCK_N, stop",
        "start * 0, stop",
    ),
    "a turn of weights too few": ("konv_balanced_kernel", "* BLOCK_N, stop - start\n", "* BLOCK_N, stop - start - 1\n"),
    "a turn of weights too many": (
        "konv_balanced_kernel",
        "* BLOCK_N, stop - start\n",
        "* BLOCK_N, stop - start + 1\n",
    ),
    "no turn ends before the first": ("konv_balanced_kernel", "i % GROUPS == GROUPS - 1", "False"),
    "turns end early": ("konv_balanced_kernel", "(group + AHEAD) % GROUPS == GROUPS - 1", "group == GROUPS - 1"),
    "sums go on from tile to tile": (
        "konv_balanced_kernel",
        "tile * turns < start, 0, 1)",
        "tile * turns < start, 1, 0)",
    ),
    "one place for both parts": ("konv_balanced_kernel", "gl.where(tile * turns < start, 0, 1)", "0"),
    "parts are written as outputs": (
        "konv_balanced_kernel",
        "last_turn - first_turn == turns",
        "last_turn - first_turn > 0",
    ),
    "outputs are written as parts": ("konv_balanced_kernel", "last_turn - first_turn == turns", "turns < 0"),
    "products left under way": (
        "konv_balanced_kernel",
        "total = warpgroup_mma_wait(0,",
        "total = warpgroup_mma_wait(1,",
    ),
    "the first row tap for all": ("konv_balanced_kernel", "begin + first * STEP", "begin"),
    "one buffer": ("konv_balanced_kernel", "begin = buffer * SPAN", "begin = 0"),
    "every product left under way": (
        "konv_balanced_kernel",
        "warpgroup_mma_wait(RUNNING,",
        "warpgroup_mma_wait(2 * RUNNING,",
    ),
    "weights of the first group": ("konv_balanced_kernel", "place * TOGETHER, STEP", "0, STEP"),
    "rows without dilation": ("konv_balanced_kernel", "% PHASES * dilation_h", "% PHASES"),
    "columns without dilation": (
        "konv_balanced_kernel",
        "u_w * dilation_w\n                move",
        "u_w\n                move",
    ),
    "the halo begins early": ("konv_balanced_kernel", "more, SLOTS, EXTRA", "more, 0, EXTRA"),
    "tiles that are whole": ("add_shares_kernel", "(second * share > tile * turns) &", "(second > 0) &"),
    "a tile written twice": ("add_shares_kernel", "second * share - share <= tile * turns", "second > 0"),
    "a tile that begins with a share": ("add_shares_kernel", "share - share <= tile", "share - share < tile"),
    "the first part missing": ("add_shares_kernel", "second * 2 - 1", "second * 2"),
    "a part too few": (
        "add_shares_kernel",
        "gl.cdiv((tile + 1) * turns, share)",
        "gl.minimum(second + 1, share * turns)",
    ),
    "a part too many": (
        "add_shares_kernel",
        "gl.cdiv((tile + 1) * turns, share)",
        "gl.cdiv((tile + 1) * turns, share) + 1",
    ),
    "the same part again": ("add_shares_kernel", "program * 2", "second * 2"),
    "one row for all": ("add_shares_kernel", "% (SLOTS // ROWS) * ROWS", "* 0"),
    "rows of the tile's first": ("add_shares_kernel", "tile // blocks_n * SLOTS + rows", "tile // blocks_n * SLOTS"),
    "outputs of the first": ("add_shares_kernel", "tile % blocks_n * BLOCK_N, bias_ptr", "tile * 0, bias_ptr"),
    "slots of one pixel": ("part_of", "first_slot * (LANES * BLOCK_N)", "first_slot * BLOCK_N"),
    "the bias of the first row": ("write", "kind_h * stride_bh", "kind_h * 0"),
    "rows that are thrown away": ("write", "(there & (y_h < out_h))", "there"),
    "outputs beyond the last": ("write", "(offs_o < out_channels)[None, :]", "(offs_o >= 0)[None, :]"),
    "queued for no one": ("queue_weights", "gl.where(left > 0, tiles, 0)", "tiles"),
    "one tile's weights": ("queue_weights", "coming == tiles, 0, coming)", "coming == tiles, coming, coming)"),
    "the same outputs again": ("queue_weights", "coming == tiles, next_n, coming_n)", "coming < 0, next_n, coming_n)"),
    "outputs without end": ("queue_weights", "coming_n + BLOCK_N < out_channels, coming_n", "coming_n >= 0, coming_n"),
}
TELLING = (
    "halves",
    "five of six",
    "points",
    "stride",
    "few lines",
    "a program for a turn",
    "columns apart",
    "rows apart",
)


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_changes_a_layer(name):
    layers = ((GEOMETRIES[layer], PROCESSORS[layer]) for layer in TELLING)
    mistaken = (partial(is_right, *layer, mutant=MUTANTS[name]) for layer in layers)
    assert halos.changes(mistaken, met=(*halos.MET, AttributeError))  # the last: sums that are under way


@on_hopper
def test_a_card_computes_it(seed, dtype):
    """A layer that is drawn, in few shares and in many, twice, exactly: in NumPy no swizzle and no fence shows."""
    geometry, processors = drawn_layer(seed)
    *given, layer, expansion = given_of(geometry)
    wanted, (x, kappa, bias) = expected(*given, layer, expansion).to(dtype), halos.on_the_card(given, dtype)
    weight = packed(kappa, halo.walk_of(layer))
    for count in (processors, 132, processors):
        y, launches = launches_of(x, weight, bias, layer, expansion, count)
        for launch in launches:
            launch[0][launch[1]](**launch[2])
        assert torch.equal(y.cpu(), wanted), count
