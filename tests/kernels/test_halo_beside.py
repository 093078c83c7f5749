"""Konvolution by a halo, degrees side by side: its body in NumPy against the definition, its layers, its mistakes."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from konvlib.geometry import conv_geometry
from konvlib.konvolution import bases
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_beside, halo_beside_kernel
from tests.kernels import emulated_gluon, halos
from tests.kernels.halos import drawn, expected, given_of, layer_of, on_hopper, operands, packed, unwritten

GEOMETRIES = {  # shape, outputs, kernel, degrees, basis, masked, bias, options
    "five": ((2, 16, 9, 7), 32, (5, 5), 4, "chebyshev", True, "map", {"padding": 2}),
    "swapped": ((2, 64, 7, 9), 64, (3, 3), 4, "chebyshev", True, "map", {"padding": 1}),
    "stride": ((3, 32, 8, 9), 48, (3, 3), 2, "hermite", True, "channel", {"padding": 1, "stride": 2}),
    "points": ((2, 80, 9, 5), 40, (1, 1), 4, "monomial", True, "channel", {"stride": 2}),
    "outputs": ((2, 24, 9, 7), 200, (3, 2), 8, "hermite", True, None, {"dilation": (1, 2), "stride": (2, 1)}),
    "three degrees": ((2, 16, 9, 7), 13, (2, 3), 3, "chebyshev", True, "map", {"padding": (1, 2)}),
    "six degrees": ((2, 30, 6, 11), 16, (3, 5), 6, "hermite", False, "map", {"padding": (2, 0), "dilation": (1, 2)}),
    "one axis": ((9, 16, 33), 64, (7,), 4, "chebyshev2", True, "channel", {"padding": 3, "dilation": 2}),
    "seven": ((1, 32, 12, 10), 64, (7, 7), 2, "chebyshev", True, None, {"padding": 3, "stride": 2}),
    "sides": ((2, 12, 12, 9), 24, (4, 2), 4, "monomial", True, "map", {"padding": ((1, 2), (0, 1)), "stride": (2, 3)}),
    "rows apart": ((1, 16, 17, 6), 16, (3, 2), 4, "chebyshev", True, None, {"dilation": (3, 1), "stride": (2, 1)}),
    "long": ((5, 16, 70, 6), 32, (5, 3), 8, "hermite", True, "map", {"padding": (2, 1)}),
}
CASES = [(name, tile) for name, geometry in GEOMETRIES.items() for tile in halo_beside.tiles_of(layer_of(geometry))]


def launch_of(x, weight, bias, layer, expansion, tile):
    """What a launch writes, and the launch."""
    y, blocks = unwritten(x, layer), halo_beside.blocks_of(layer, expansion.degrees, tile)
    added = halo.as_added(bias, halo.walk_of(layer))
    return y, halo_beside.launched(y, x, weight, added, layer, expansion, blocks)


def weights_of(kappa, layer, expansion):
    return packed(kappa, halo.walk_of(layer), halo_beside.width_of(layer, expansion.degrees))


def emulated(x, kappa, bias, layer, expansion, tile, **options):
    """Each program in NumPy, products read as late and copies made as early as may be; unwritten outputs are NaN."""
    y, launch = launch_of(x, weights_of(kappa, layer, expansion), bias, layer, expansion, tile)
    emulated_gluon.run(*launch, **options)
    return y


def is_right(geometry, tile, **options):
    given = given_of(geometry)
    assert halo_beside.fits(given[3], torch.bfloat16, given[4].degrees)
    return torch.equal(emulated(*given, tile, **options), expected(*given).bfloat16())


@pytest.mark.parametrize(("name", "tile"), CASES)
def test_the_body_computes_the_layer(name, tile):
    assert is_right(GEOMETRIES[name], tile)


def drawn_layer(seed):
    """A layer that the kernel serves, and one of its tiles."""
    return drawn(
        seed, batches=4, channels=(8, 16, 24, 32, 47, 64), outputs=(9, 16, 32, 64), degrees=(2, 6),
        fits=lambda layer, degrees: halo_beside.fits(layer, torch.bfloat16, degrees),
        last=lambda draw, layer: draw.choice(halo_beside.tiles_of(layer)),
    )  # fmt: skip


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 60))])
def test_the_body_computes_layers_that_are_drawn(seed):
    geometry, tile = drawn_layer(seed)
    assert is_right(geometry, tile), (geometry, tile)


@pytest.mark.parametrize("basis", ["legendre", "chebyshev"])
def test_squashed_samples_are_rounded_once_expanded(basis):
    """Polynomials are rounded to bfloat16 before they are multiplied, what is summed once more."""
    shape, layer = (2, 16, 9, 7), conv_geometry((2, 16, 9, 7), (32, 16, 3, 3), axes=2)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16().movedim(1, -1).contiguous()
    x, kappa = x.movedim(-1, 1), operands(shape, 32, (3, 3), 4, None, layer)[1]
    y = emulated(x, kappa, None, layer, Expansion(4, basis, "tanh", True), halo_beside.tiles_of(layer)[0])
    values = torch.from_numpy(bases.values(basis, np.tanh(x.double().numpy()), 4)[1:]).bfloat16().double()
    z = values.movedim(0, 1).flatten(1, 2)
    want = torch.nn.functional.conv2d(z, kappa.double().flatten(1, 2))
    error = (y.double() - want).abs()
    assert (error <= 2**-8 * want.abs() + 2**-12).all()


def large_samples_are_right(**options):
    """Three degrees of samples whose fourth power would be infinite: what fills the last column is zero."""
    layer = conv_geometry((2, 16, 5, 4), (16, 16, 2, 2), axes=2)
    x, kappa, _ = operands(layer.input_shape, 16, (2, 2), 3, None, layer)
    kappa[:, 1:] = 0
    given = x * 2.0**40, kappa, None, layer, Expansion(3, "monomial", "none", True)
    return torch.equal(emulated(*given, Tile(256, 16, 192, 8, 3), **options), expected(*given).bfloat16())


def test_a_degree_that_is_not_there_is_not_evaluated():
    assert large_samples_are_right()


MUTANTS = {  # function, right, wrong
    "degrees overlap": ("konv_beside_kernel", "(atom - 1) * GROUP + 1, main", "atom, main"),
    "the halo's degrees overlap": ("konv_beside_kernel", "(atom - 1) * GROUP + 1, more", "atom, more"),
    "a stage too few": (
        "konv_beside_kernel",
        "ATOMS: gl.constexpr = (DEGREES + GROUP - 1) //",
        "ATOMS: gl.constexpr = DEGREES //",
    ),
    "channels of the first block": ("next_tap", "c + WIDTH, c)", "c, c)"),
    "blocks too far apart": ("konv_beside_kernel", "c, KERNEL_W, WIDTH)", "c, KERNEL_W, CHANNELS)"),
    "blocks of 64 channels": ("konv_beside_kernel", "gl.cdiv(in_channels, WIDTH)", "gl.cdiv(in_channels, CHANNELS)"),
    "channels beyond the last": ("konv_beside_kernel", "left = in_channels - c\n", "left = in_channels\n"),
    "roles not swapped back": (
        "konv_beside_kernel",
        "total = total.permute((1, 0))",
        "total = total.reshape([BLOCK_M, BLOCK_N])",
    ),
    "pixels not turned": ("multiply", "shown.permute((1, 0)), acc", "shown, acc"),
    "the first row tap of all groups": ("konv_beside_kernel", "begin + first * STEP", "begin"),
    "the first row tap of a group": ("multiply", "slot + i * STEP", "slot"),
    "one buffer": ("konv_beside_kernel", "begin = buffer * SPAN", "begin = 0"),
    "every product left under way": (
        "konv_beside_kernel",
        "warpgroup_mma_wait(RUNNING, [acc])",
        "warpgroup_mma_wait(2 * RUNNING, [acc])",
    ),
    "weights of the first group": ("konv_beside_kernel", "place * TOGETHER, STEP", "0, STEP"),
    "weights of the first row tap": ("multiply", "weights.index(tile + i)", "weights.index(tile)"),
    "a place too near": ("places_of", "(group + AHEAD) % RING", "group % RING"),
    "rows without dilation": ("konv_beside_kernel", "% PHASES * dilation_h", "% PHASES"),
    "columns without dilation": ("konv_beside_kernel", "u_w * dilation_w\n", "u_w\n"),
    "the halo begins early": ("konv_beside_kernel", "more, SLOTS, EXTRA", "more, 0, EXTRA"),
    "the bias of the first row": ("write", "kind_h * stride_bh", "kind_h * 0"),
    "two degrees exchanged": ("side_by_side", "gl.join(third, fourth)", "gl.join(fourth, third)"),
    "pairs of degrees exchanged": ("side_by_side", "(0, 3, 2, 1)", "(0, 2, 3, 1)"),
    "channels before degrees": ("side_by_side", "block.permute((0, 2, 1))", "block"),
    "one step too few": ("side_by_side", "before, n + 3, layout", "before, n + 2, layout"),
    "degrees after the last": ("degree_after", "if n < DEGREES", "if n < DEGREES + 1"),
}
TELLING = {  # GEOMETRIES that tell mistakes, with tiles
    "five": Tile(256, 32, 320, 8, 3),
    "six degrees": Tile(256, 16, 192, 8, 3),
    "three degrees": Tile(256, 16, 192, 8, 3),
    "swapped": Tile(64, 128, 64, 4, 5),
    "one axis": Tile(64, 128, 64, 4, 5),
    "stride": Tile(64, 256, 192, 8, 3),
    "outputs": Tile(128, 128, 64, 8, 6),
    "long": Tile(256, 32, 192, 8, 3),
    "rows apart": Tile(256, 16, 192, 8, 3),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_mistake_changes_a_layer(name):
    mistaken = {"mutant": MUTANTS[name]}
    layers = [partial(is_right, GEOMETRIES[layer], tile, **mistaken) for layer, tile in TELLING.items()]
    assert halos.changes([*layers, partial(large_samples_are_right, **mistaken)])


@pytest.mark.parametrize(("rows", "width", "warps"), [(256, 16, 8), (256, 32, 8), (128, 16, 4), (128, 32, 8)])
def test_threads_that_write_together_meet_no_bank_twice(rows, width, warps):
    """Each sample is one thread's, and its 16 bytes lie where the swizzle of 128 bytes puts them."""
    layout = halo_beside_kernel.spread_of.fn(rows, width, warps)
    own, lanes, others = layout.reg_bases, layout.lane_bases, layout.warp_bases
    assert (len(lanes), 2 ** len(others)) == (5, warps)
    spanned = [*own, *lanes, *others]
    places = {
        tuple(np.bitwise_xor.reduce([b for b, on in zip(spanned, bits, strict=True) if on] or [[0, 0]]))
        for bits in product((0, 1), repeat=len(spanned))
    }
    assert len(places) == 2 ** len(spanned) == rows * width
    assert own[:3] == [[0, 1], [0, 2], [0, 4]]
    for degree in range(64 // width):
        banks = set()
        for bits in product((0, 1), repeat=3):
            row, channel = np.bitwise_xor.reduce([b for b, on in zip(lanes, bits, strict=False) if on] or [[0, 0]])
            banks.add((degree * width + channel) // 8 ^ row % 8)
        assert len(banks) == 8


@pytest.mark.parametrize(
    ("shape", "weight", "degrees", "served"),
    [
        ((1, 16, 9, 9), (32, 16, 3, 3), 4, True),
        ((1, 8, 9, 9), (32, 8, 3, 3), 4, True),
        ((1, 7, 9, 9), (32, 7, 3, 3), 4, False),  # more than half of the columns are empty
        ((1, 16, 9, 9), (32, 16, 3, 3), 1, False),
        ((1, 16, 9, 9), (7, 16, 3, 3), 4, False),
        ((1, 64, 9, 9), (64, 64, 3, 3), 4, True),
        ((1, 64, 9, 9), (65, 64, 3, 3), 4, False),  # of 64 channels and more than 64 outputs
        ((1, 32, 9, 9), (128, 32, 3, 3), 4, True),
        ((1, 16, 99), (32, 16, 9), 4, False),
        ((0, 16, 9, 9), (32, 16, 3, 3), 4, False),
    ],
)
def test_which_layers_are_served(shape, weight, degrees, served):
    layer = conv_geometry(shape, weight, axes=len(shape) - 2)
    assert halo_beside.fits(layer, torch.bfloat16, degrees) == served
    assert not halo_beside.fits(layer, torch.float32, degrees)


def test_every_layer_has_a_tile_that_fits_in_shared_memory():
    for kernel, stride, outputs in product(range(1, 8), (1, 2), halo_beside.TILES):
        layer = conv_geometry((2, 16, 32, 32), (outputs, 16, kernel, kernel), axes=2, stride=stride)
        assert halo_beside.tiles_of(layer)


@on_hopper
def test_a_card_computes_it(seed, dtype):
    """All tiles of a layer that is drawn, twice, exactly: in the emulator no swizzle and no fence shows."""
    *given, layer, expansion = given_of(drawn_layer(seed)[0])
    wanted, (x, kappa, bias) = expected(*given, layer, expansion).to(dtype), halos.on_the_card(given, dtype)
    weight = weights_of(kappa, layer, expansion)
    for tile in halo_beside.tiles_of(layer):
        for _ in range(2):
            y, launch = launch_of(x, weight, bias, layer, expansion, tile)
            launch[0][launch[1]](**launch[2])
            assert torch.equal(y.cpu(), wanted), tile
