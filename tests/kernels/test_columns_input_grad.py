"""Konvolution's input gradient by columns of a degree and a channel: its Gluon kernel in the emulator, exactly."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.konvolution import columns, operators, ways
from konvlib.layers import autotune
from konvlib.layers.autotune import Tile
from konvlib.layers.pixel_boxes import fits
from konvlib.layers.polynomials import BASES, Expansion
from tests.engine import backends
from tests.kernels import emulated_gluon, halos
from tests.kernels.emulated_memory import Descriptor
from tests.kernels.offline import columns as offline
from tests.kernels.offline import compiling
from tests.kernels.operators import poisoned
from tests.kernels.test_layers import last

LIMITS = {"columns 128 channels 128 64 64 8 4": 114, "columns degree 3 128 64 64 8 5": 150}
"""Instructions of a step, a tenth more than there were."""

pytestmark = pytest.mark.skipif(runtime.gluon is None, reason="Triton is missing")

SEEDS = 40
EXACT = ("monomial", "chebyshev", "chebyshev2", "hermite")
"""The bases whose recurrences have whole numbers."""


def operands(layer, degrees: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Small integers: ``dy``, ``x`` and the coefficients."""
    draw = torch.Generator().manual_seed(seed)
    shapes = layer.output_shape, layer.input_shape, (layer.out_channels, degrees, *layer.weight_shape[1:])
    dy, x, kappa = (torch.randint(-2, 3, shape, generator=draw).double() for shape in shapes)
    return last(dy), last(x), kappa


def emulated(dy, x, kappa, layer, expansion: Expansion, tile: Tile, changed=(), at_once: int = 2, **options: Any):
    """The launcher as it is, with the emulator as its kernel; what it leaves unwritten is NaN.

    ``changed`` are arguments of the kernel that a small layer would not have.
    """
    dx, w = torch.full_like(x, math.nan), columns.side_by_side(kappa.half(), tile.block_n)
    kernel, grid, arguments = columns.launched(dx, dy.half(), x.half(), w, layer, expansion, tile, at_once)
    unrounded = {"dy_desc": Descriptor(arguments["dy_desc"], torch.float64)}
    emulated_gluon.run(kernel, grid, arguments | unrounded | dict(changed), **options)
    return dx


def expected(dy, x, kappa, layer, expansion: Expansion) -> torch.Tensor:
    sides = [side for pair in layer.padding for side in pair]
    rest = (expansion.basis, expansion.squash, True, list(layer.stride), sides, list(layer.dilation), layer.groups)
    return operators.konv_input_grad.composite(dy, x, kappa, *rest)


def drawn(seed: int):
    """A layer of the box: one or two axes, kernels 1 to 5, strides, dilations and paddings up to 3, degrees 1 to 8."""
    draw = random.Random(seed)
    while True:
        axes = draw.choice((1, 2, 2))
        shape = draw.randint(1, 3), draw.choice((16, 24, 40, 64, 72)), *(draw.randint(1, 9) for _ in range(axes))
        weight = 8 * draw.randint(1, 9), shape[1], *(draw.randint(1, 5) for _ in range(axes))
        options = {name: tuple(draw.randint(1, 3) for _ in range(axes)) for name in ("stride", "dilation")}
        sides = tuple((draw.randint(0, 3), draw.randint(0, 3)) for _ in range(axes))
        try:
            layer = conv_geometry(shape, weight, axes=axes, padding=sides, **options)
        except ValueError:
            continue
        if not fits(last(torch.empty(layer.output_shape, dtype=torch.half))):  # one pixel whose step is not 16 bytes
            continue
        expansion = Expansion(draw.randint(1, 8), draw.choice(BASES), draw.choice(("none", "tanh")), True)
        tile = draw.choice(columns.tiles_of(layer, expansion.degrees))
        return layer, expansion, tile._replace(num_stages=draw.randint(2, 4))


def agrees(found: torch.Tensor, wanted: torch.Tensor, expansion: Expansion) -> bool:
    if expansion.squash == "none" and expansion.basis in EXACT:
        return torch.equal(found, wanted)
    return torch.allclose(found, wanted, rtol=1e-6, atol=1e-4 * float(wanted.abs().max()))  # tanh in single precision


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_gradient_is_exact_in_a_random_box(seed):
    """Phases in any order, offsets of 64 bits as well, copies as early or as late as may be."""
    layer, expansion, tile = drawn(seed)
    given = *operands(layer, expansion.degrees, seed), layer, expansion
    changed = {"order": seed // 2 % 3, "INT64": seed % 3 == 0}
    found = emulated(*given, tile, late=bool(seed % 2), changed=changed)
    assert agrees(found, expected(*given), expansion), (layer, expansion, tile)


LAYERS = {
    "two products": ((2, 40, 5, 6), (72, 40, 3, 2), 6, "legendre", "tanh", {"padding": ((1, 0), (2, 1))}),
    "strides": ((3, 16, 7, 8), (40, 16, 3, 4), 4, "hermite", "none", {"stride": (2, 3), "padding": 1}),
    "steps": ((2, 24, 9, 12), (24, 24, 3, 4), 3, "chebyshev2", "none", {"dilation": (2, 3), "stride": 2}),
    "one row": ((3, 72, 5, 7), (80, 72, 1, 1), 4, "chebyshev", "tanh", {}),
}
TILES = {"two products": (128, 32, 64, 8, 3), "strides": (64, 16, 32, 4, 2), "steps": (64, 64, 32, 4, 4)}
MUTANTS = {
    "a phase for another": ("phase // stride_w, phase % stride_w", "phase % stride_w, phase // stride_w"),
    "columns of another block": ("kernel_w + u_w) * columns + block * BLOCK_N", "kernel_w + u_w) * columns"),
    "one tap further than there is": ("unit_w * columns, unit_h", "columns, unit_h"),
    "one row further than there is": ("unit_h * kernel_w * columns", "kernel_w * columns"),
    "padding ignored": ("origin = (phase + padding +", "origin = (phase +"),
    "the first tap of all phases": ("first = remainder // gcd * inverse % unit", "first = remainder * 0"),
    "taps where there are none": ("gl.where(remainder % gcd == 0, gl.maximum", "gl.where(gcd > 0, gl.maximum"),
    "dilation ignored": ("-(dilation // gcd), first", "-(dilation // dilation), first"),
    "rows before columns": ("v_w == taps_w", "v_w == taps_w + 1"),
    "a row does not begin anew": ("i_w = gl.where(ends, first_w, i_w)", "i_w = i_w"),
    "the next row not reached": ("i_h = gl.where(ends, i_h + gap_h, i_h)", "i_h = i_h"),
    "coefficients of the row before": ("tap = gl.where(ends, row, tap)", "tap = tap"),
    "channels beyond a block left out": ("gl.cdiv(out_channels, BLOCK_K)", "1"),
    "the second product's columns": ("at = tap + MAIN * BLOCK_C", "at = tap"),
    "the last step not copied": ("step + SLOTS - 1 < steps", "step + SLOTS < steps"),
    "the ring turned the wrong way": ("SLOTS - 1, slot - 1)", "0, slot + 1)"),
    "a slot filled while it is read": ("warpgroup_mma_wait(1, [acc])", "warpgroup_mma_wait(2, [acc])"),
    "the next tile's copies in other slots": ("gl.where(slot + i < SLOTS, slot + i, slot + i - SLOTS)", "i"),
    "another tile's copies": ("tile + gl.num_programs(0), tiles", "tile + 1, tiles"),
    "an arrival not waited for": ("turn ^ 1", "turn"),
    "halves the wrong way round": (
        "by_degree(first, COUNT // 2) + by_degree(second,",
        "by_degree(second, COUNT // 2) + by_degree(first,",
    ),
    "degrees from the first": ("each[DEGREES - 1 - i]", "each[i]"),
    "slopes that do not pass on": ("next_a += above", "above = above"),
    "the factor of a slope": ("total = a * (1.0 * K)", "total = a * (1.0 * K + 1.0)"),
    "Legendre's factor": ("a * (2.0 * K - 1.0)", "a * (2.0 * K + 1.0)"),
    "Legendre's step": ("((2.0 * K - 1.0) / K)", "((2.0 * K + 1.0) / K)"),
    "Legendre's second step": ("(K / (K + 1.0))", "(K / (K + 2.0))"),
    "Hermite's step": ("before * (1.0 * K)", "before * (1.0 * K + 1.0)"),
    "the slope of tanh": ("dx * (1.0 - t * t)", "dx * (1.0 - t)"),
    "rows of a box": ("offs_m // BOX_W % BOX_H", "offs_m // BOX_W"),
    "images of a box": ("n + offs_m // (BOX_W * BOX_H)", "n + offs_m // BOX_W"),
    "inputs beyond the last row": ("(j_h < in_h) & (j_w < in_w)", "(j_w < in_w)"),
    "inputs beyond the last column": ("(j_h < in_h) & (j_w < in_w)", "(j_h < in_h)"),
    "channels beyond the last": ("mask & (offs_c < in_channels)", "mask & (offs_c < in_channels + 8)"),
}


def one(name: str, **options: Any) -> bool:
    shape, weight, degrees, basis, squash, rest = LAYERS[name]
    layer, expansion = conv_geometry(shape, weight, axes=2, **rest), Expansion(degrees, basis, squash, True)
    tile = Tile(*TILES[name]) if name in TILES else columns.tiles_of(layer, degrees)[0]
    given = *operands(layer, degrees, 5), layer, expansion
    return agrees(emulated(*given, tile, **options), expected(*given), expansion)


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_that_tell_mistakes_are_right(name):
    assert all(one(name, late=late) for late in (False, True))


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_changes_a_gradient(name):
    both = ((layer, late) for layer in LAYERS for late in (False, True))
    mistaken = (partial(one, layer, late=late, mutant=MUTANTS[name]) for layer, late in both)
    assert halos.changes(mistaken, met=(AssertionError, IndexError))


def test_the_gradient_is_that_of_the_definition():
    layer = conv_geometry((1, 16, 3, 4), (8, 16, 2, 3), axes=2, stride=(1, 2), padding=1)
    dy, x, kappa = operands(layer, 3, 1)
    found = emulated(dy, x, kappa, layer, Expansion(3, "chebyshev", "none", True), Tile(64, 16, 32, 4, 3))
    whole = torch.cat((torch.ones_like(kappa[:, :1]), kappa), 1)
    given = [t.numpy().astype(int) for t in (dy, x, whole)]
    naive = backends.definition("konvolution")
    assert (found.numpy() == naive.konv2d_input_grad(*given, stride=(1, 2), padding=1)).all()


def test_coefficients_lie_by_tap_block_and_degree():
    """Filled with zeros: a third degree beside two, for whole boxes of columns, and the channels of the last block."""
    kappa = torch.arange(5 * 5 * 40 * 3 * 2).reshape(5, 5, 40, 3, 2) + 1
    w = columns.side_by_side(kappa, 32).unflatten(1, (3, 2, 2, 6, 32))
    for o, u_h, u_w, block, k, c in np.ndindex(*w.shape):
        channel = 32 * block + c
        assert w[o, u_h, u_w, block, k, c] == (kappa[o, k, channel, u_h, u_w] if k < 5 and channel < 40 else 0)


@pytest.mark.parametrize("degrees", range(1, 9))
def test_every_tile_fits(degrees):
    """Whole boxes of columns, in one or two products of the tensor cores, and no more than registers and memory."""
    for channels, outputs in ((16, 8), (24, 40), (64, 64), (130, 128), (512, 512)):
        layer = conv_geometry((2, channels, 9, 9), (outputs, channels, 3, 3), axes=2)
        tiles = columns.tiles_of(layer, degrees)
        assert columns.likely_tiles(layer, degrees, 132)
        for block_m, block_c, block_k, warps, slots in tiles:
            span = columns.span_of(degrees, block_c)
            main, rest = columns.main_of(span), span - columns.main_of(span)
            assert span >= degrees
            assert all(n & (n - 1) == 0 and n * block_c % 64 == 0 for n in (main, rest))
            assert span * block_c <= 256
            assert block_m % (16 * warps) == 0
            assert block_m * span * block_c <= 128 * 32 * warps
            assert slots * 2 * block_k * (block_m + span * block_c) <= columns.SHARED_MEMORY


@pytest.mark.parametrize("pixels", [64, 128, 256])
def test_boxes_cover_the_pixels_and_copies_may_be_so_large(pixels):
    for sizes in ((1, 1, 1), (3, 9, 7), (32, 56, 56), (1, 1, 100352), (64, 7, 7), (1000, 1, 3)):
        layer = columns.Pixels(sizes[0], sizes[1:], (3, 3), (1, 1), (1, 1), (1, 1))
        box, counts = layer.boxes(pixels)
        assert math.prod(box) == pixels
        assert counts == [-(-n // extent) for n, extent in zip(sizes, box, strict=True)]
        assert max(box) <= 256


@pytest.mark.parametrize(
    ("shape", "weight", "degrees", "options"),
    [
        ((1, 64, 9, 9), (64, 32, 3, 3), 3, {"groups": 2}),
        ((1, 8, 9, 9), (64, 8, 3, 3), 3, {}),
        ((1, 64, 9, 9), (60, 64, 3, 3), 3, {}),
        ((1, 64, 9, 9, 9), (64, 64, 3, 3, 3), 3, {}),
        ((1, 64, 9, 9), (64, 64, 3, 3), 9, {}),
        ((0, 64, 9, 9), (64, 64, 3, 3), 3, {}),
    ],
)
def test_other_layers_are_not_served(shape, weight, degrees, options):
    layer = conv_geometry(shape, weight, axes=len(shape) - 2, **options)
    assert not columns.could_serve(layer, torch.bfloat16, Expansion(degrees, "chebyshev"))
    plain = conv_geometry((1, 64, 9, 9), (64, 64, 3, 3), axes=2)
    assert columns.could_serve(plain, torch.bfloat16, Expansion(3, "chebyshev"))
    assert not columns.could_serve(plain, torch.float32, Expansion(3, "chebyshev"))
    assert not columns.could_serve(plain, torch.bfloat16, Expansion(3, "bessel"))


@pytest.mark.parametrize("served", [True, False])
def test_it_is_taken_only_where_the_table_names_it_and_it_serves(monkeypatch, served):
    layer, expansion = conv_geometry((2, 16, 5, 6), (24, 16, 3, 3), axes=2), Expansion(2, "chebyshev", "none", True)
    dy, x, kappa = operands(layer, 2, 0)
    taken: list[str] = []
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(columns, "serves", lambda *_: served)
    monkeypatch.setattr(columns, "conv_transpose", lambda *_: taken.append("columns"))
    monkeypatch.setattr(ways.polynomial_input_grad, "conv_transpose", lambda *_: taken.append("fused"))
    ways.konv_input_grad(dy, x, kappa, layer, expansion)
    named = {autotune.key("konv_input_grad degree 2 chebyshev none", layer, x): "columns"}
    monkeypatch.setattr(autotune, "_known", lambda _: named)
    ways.konv_input_grad(dy, x, kappa, layer, expansion)
    assert taken == ["fused", "columns" if served else "fused"]


@pytest.mark.parametrize("first", [True, False])
def test_a_gradient_that_copies_cannot_address_is_laid_anew(monkeypatch, first):
    """One whose channels do not lie together, or whose pixels do not begin at 16 bytes."""
    layer, expansion = conv_geometry((2, 16, 5, 6), (24, 16, 3, 3), axes=2), Expansion(2, "chebyshev", "none", True)
    dy, x, kappa = (t.half() for t in operands(layer, 2, 0))
    other = dy.contiguous() if first else last(torch.nn.functional.pad(dy, (0, 0, 0, 0, 1, 0)))[:, 1:]
    assert not fits(other)
    given: list[torch.Tensor] = []

    def launched(dx, dy, *_):
        given.append(dy)
        return None, (1,), {}

    monkeypatch.setattr(columns, "launched", launched)
    monkeypatch.setattr(columns, "konv_columns_kernel", {(1,): lambda **_: None})
    columns.conv_transpose(other, kappa, x, layer, expansion)
    assert fits(given[0])
    assert torch.equal(given[0], dy)


def test_its_main_loop_is_short_and_nothing_spills():
    """A step of 128 pixels by 256 columns has as many products as two of today's 128 by 128."""
    rows = [row for row in offline.ROWS if row.name in LIMITS]
    reports = compiling.figures(rows)
    assert len(reports) == len(LIMITS)
    for name, report in reports.items():
        assert report["instructions"] <= LIMITS[name], name
        assert report["spilled"] == report["stack"] == 0, name
        assert report["shared"] <= compiling.SHARED_MEMORY, name
        assert report["registers"] * report["warps"] * 32 <= 65536, name


@halos.on_hopper
def test_a_card_computes_it(seed, dtype):
    """All tiles of a layer of the box, twice the same; integers exactly but for the rounding of the result."""
    layer, expansion, _ = drawn(seed)
    dy, x, kappa = operands(layer, expansion.degrees, seed)
    exact = expansion.squash == "none" and expansion.basis in EXACT
    # No sum on the way is more than single precision counts to; other samples are reals.
    x = x.clamp(-1, 1) if exact else (x + 0.37 * torch.cos(torch.arange(x.numel()).view_as(x))).to(dtype).double()
    wanted = expected(dy, x, kappa, layer, expansion).to(dtype)
    given = halos.on_the_card((dy, x), dtype)
    for tile in columns.tiles_of(layer, expansion.degrees):
        w, found = columns.side_by_side(kappa.to("cuda", dtype), tile.block_n), []
        for _ in range(2):
            with poisoned():
                dx = torch.empty_like(given[1])
            kernel, grid, arguments = columns.launched(dx, *given, w, layer, expansion, tile)
            kernel[grid](**arguments)
            found.append(dx.cpu())
        assert torch.equal(*found), tile
        finite = wanted.double().abs().nan_to_num(posinf=0).max()
        assert (
            torch.equal(found[0], wanted)
            if exact
            else torch.allclose(
                found[0].double(), wanted.double(), rtol=2 * torch.finfo(dtype).eps, atol=1e-5 * float(finite)
            )
        ), tile
