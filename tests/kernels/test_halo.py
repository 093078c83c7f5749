"""Konvolution by a halo in shared memory: its body in NumPy against the definition, its mistakes, and its layers.

The other forms of the halo call the same functions: mistakes in these are looked for here.
"""

from __future__ import annotations

from functools import partial
from itertools import cycle, product

import pytest
import torch

from konvlib import runtime
from konvlib.geometry import conv_geometry
from konvlib.layers.autotune import Tile

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo
from konvlib.konvolution.preparation import prepared
from tests.kernels import emulated_gluon, halos

GEOMETRIES = {  # shape, outputs, kernel, degrees, basis, masked, bias, options
    "square": ((2, 64, 14, 14), 64, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}),
    "stride": ((3, 64, 8, 8), 72, (3, 3), 3, "chebyshev", True, "map", {"padding": 1, "stride": 2}),
    "points": ((2, 80, 9, 5), 130, (1, 1), 3, "monomial", True, "channel", {"stride": 2}),
    "columns apart": ((2, 64, 9, 7), 48, (3, 2), 2, "hermite", True, None, {"dilation": (1, 2), "stride": (2, 1)}),
    "second kind": ((2, 64, 7, 11), 64, (3, 5), 2, "chebyshev2", False, "map", {"padding": (2, 0), "dilation": (1, 2)}),
    "one axis": ((9, 64, 33), 64, (7,), 2, "chebyshev2", True, "channel", {"padding": 3, "dilation": 2}),
    "seven": ((1, 64, 12, 10), 128, (7, 7), 1, "chebyshev", True, None, {"padding": 3, "stride": 2}),
    "sides": ((2, 48, 12, 9), 64, (4, 2), 2, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "steps": ((2, 48, 12, 9), 64, (4, 2), 2, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "dilation": 3}),
    "small": ((16, 128, 4, 4), 128, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}),
    "rows apart": ((1, 48, 17, 6), 64, (3, 2), 2, "chebyshev", True, None, {"dilation": (3, 1), "stride": (2, 1)}),
}
TILES = (*halo.WIDE, *halo.NARROW, Tile(64, 64, 128, 4, 3))
CASES = list(zip(GEOMETRIES, cycle(TILES)))


def is_right(name, tile, **options):
    """Each program in NumPy, products read as late and copies made as early as may be; unwritten outputs are NaN."""
    x, kappa, bias, layer, expansion = halos.given_of(GEOMETRIES[name])
    y, walk = halos.unwritten(x, layer), halo.walk_of(layer)
    with runtime.interpreted():
        weight, _ = prepared(kappa, layer, walk)
    launch = halo.launched(y, x, weight, halo.as_added(bias, walk), layer, expansion, halo.blocks_of(layer, tile))
    emulated_gluon.run(*launch, **options)
    return torch.equal(y, halos.expected(x, kappa, bias, layer, expansion).bfloat16())


@pytest.mark.parametrize(("name", "tile"), CASES)
def test_the_body_computes_the_layer(name, tile):
    assert is_right(name, tile)


MUTANTS = {  # function, right, wrong
    "the first row tap of all groups": ("konv_halo_kernel", "begin + first * STEP", "begin"),
    "one buffer": ("konv_halo_kernel", "begin = buffer * SPAN", "begin = 0"),
    "no next buffer": ("konv_halo_kernel", "0, buffer + 1)", "0, buffer)"),
    "every product left under way": ("konv_halo_kernel", "wait(RUNNING, [acc])", "wait(2 * RUNNING, [acc])"),
    "weights of the first place": ("konv_halo_kernel", "place * TOGETHER, STEP", "0, STEP"),
    "one place after another": ("konv_halo_kernel", "place = after", "place = place"),
    "one turn after another": ("konv_halo_kernel", "parity ^ 1, parity)", "parity, parity)"),
    "channels beyond the last": ("konv_halo_kernel", "left = in_channels - c\n", "left = in_channels\n"),
    "rows without dilation": ("konv_halo_kernel", "% PHASES * dilation_h", "% PHASES"),
    "columns without dilation": ("konv_halo_kernel", "u_w * dilation_w\n", "u_w\n"),
    "the halo is the first slots": ("konv_halo_kernel", "more, SLOTS, EXTRA", "more, 0, EXTRA"),
    "the halo lies in the first slots": ("konv_halo_kernel", "begin + SLOTS", "begin"),
    "slots after none": ("windows_of", "first_slot + AFTER + rows", "first_slot + rows"),
    "rows without padding": ("windows_of", "y_h * stride_h - padding_h, FAR", "y_h * stride_h, FAR"),
    "rows without stride": ("windows_of", "y_h * stride_h - padding_h, FAR", "y_h - padding_h, FAR"),
    "columns without padding": ("windows_of", "y_w * stride_w - padding_w", "y_w * stride_w"),
    "columns without stride": ("windows_of", "y_w * stride_w - padding_w", "y_w - padding_w"),
    "pixels that are not there": ("windows_of", "gl.where(there, y_h", "gl.where(slots > 0, y_h"),
    "the same channels again": ("next_tap", "c + WIDTH, c)", "c, c)"),
    "channels from tap to tap": ("next_tap", "u_w == KERNEL_W, c + WIDTH", "u_w > 0, c + WIDTH"),
    "column taps without end": ("next_tap", "u_w == KERNEL_W, 0, u_w)", "u_w > KERNEL_W, 0, u_w)"),
    "a place that is full": ("places_of", "(group + AHEAD) % RING", "group % RING"),
    "the group's place in all turns": ("places_of", "+ group // RING) % 2", ") % 2"),
    "one parity for all turns": ("places_of", "(turn * (GROUPS // RING) + group", "(group"),
    "no place after the last": ("places_of", "gl.where(place == RING - 1, 0, place + 1)", "place + 1"),
    "two places after": ("places_of", "free = after if AHEAD == 1", "free = place if AHEAD == 1"),
    "places too near": ("places_of", "place - 2, place", "place - 1, place"),
    "places too far": ("places_of", "place + AHEAD)", "place + AHEAD - 1)"),
    "the first row tap of a group": ("multiply", "slot + i * STEP", "slot"),
    "weights of the first row tap": ("multiply", "weights.index(tile + i)", "weights.index(tile)"),
    "weights not turned": ("multiply", "weight.permute((1, 0))", "weight"),
    "the bias of the first row": ("write", "kind_h * stride_bh", "kind_h * 0"),
    "the bias of the first column": ("write", "kind_w * stride_bw", "kind_w * 0"),
    "rows that are thrown away": ("write", "(there & (y_h < out_h))", "there"),
    "pixels after the last": ("write", "(there & (y_h < out_h))", "(y_h < out_h)"),
    "outputs beyond the last": ("write", "(offs_o < out_channels)[None, :]", "(offs_o >= 0)[None, :]"),
}
TELLING = ("columns apart", "rows apart", "sides", "second kind", "steps", "points")


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_changes_a_layer(name):
    tiles = dict(CASES)
    assert halos.changes(partial(is_right, layer, tiles[layer], mutant=MUTANTS[name]) for layer in TELLING)


def test_slots_lie_between_images_only_where_a_tap_would_read_the_next():
    """With stride 2 an odd size needs none: the last row's tap meets padding, as the next image's first row does."""
    gaps = [
        halo.walk_of(conv_geometry((1, 64, n), (64, 64, 3), axes=1, stride=s, padding=1)).gap
        for n, s in [(8, 1), (8, 2), (9, 2)]
    ]
    assert gaps == [1, 1, 0]


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((1, 64, 9, 9), (64, 32, 3, 3), {"groups": 2}),
        ((1, 16, 9, 9), (64, 16, 3, 3), {}),
        ((1, 64, 9, 9), (16, 64, 3, 3), {}),
        ((1, 64, 9, 9, 9), (64, 64, 3, 3, 3), {}),
        ((1, 64, 99), (64, 64, 9), {}),
        ((1, 64, 9, 9), (64, 64, 3, 3), {"stride": 3}),
        ((0, 64, 9, 9), (64, 64, 3, 3), {}),
    ],
)
def test_other_layers_are_not_served(shape, weight, options):
    layer = conv_geometry(shape, weight, axes=len(shape) - 2, **options)
    assert not halo.fits(layer, torch.bfloat16)
    plain = conv_geometry((1, 64, 9, 9), (64, 64, 3, 3), axes=2)
    assert halo.fits(plain, torch.bfloat16)
    assert not halo.fits(plain, torch.float32)


def test_every_tile_fits_in_shared_memory():
    for kernel, stride in product(range(1, 8), (1, 2)):
        layer = conv_geometry((2, 64, 32, 32), (128, 64, kernel, kernel), axes=2, stride=stride)
        assert all(halo.blocks_of(layer, tile) for tile in (halo.WIDE[0], halo.NARROW[0]))
