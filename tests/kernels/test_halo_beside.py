"""Konvolution by a halo, degrees side by side: its body in NumPy against the definition, its layers, its mistakes."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch

import konvlib
from konvlib.geometry import conv_geometry, konv_geometry
from konvlib.konvolution import bases, operators, plans, preparation, tensors
from konvlib.layers import autotune
from konvlib.layers.autotune import Tile
from konvlib.layers.polynomials import Expansion
from tests.engine import backends
from tests.kernels.launches import Counted, Launches
from tests.kernels.operators import integers, on_cuda, poisoned, running
from tests.kernels.test_mutants import mutate

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_beside, halo_beside_kernel, ways
from tests.kernels import emulated_gluon
from tests.kernels.test_halo import operands
from tests.kernels.test_preparation import packed

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
CASES = [
    (name, tile)
    for name, (shape, outputs, kernel, *_, options) in GEOMETRIES.items()
    for tile in halo_beside.tiles_of(conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options))
]


def emulated(x, kappa, bias, layer, expansion, tile, kernel=halo_beside_kernel.konv_beside_kernel):
    """Each program in NumPy, products read as late and copies made as early as may be; unwritten outputs are NaN."""
    walk, degrees = halo.walk_of(layer), expansion.degrees
    weight = packed(kappa, walk, halo_beside.width_of(layer, degrees))
    y = torch.full((layer.batch, *layer.output_size, layer.out_channels), float("nan"), dtype=x.dtype).movedim(-1, 1)
    blocks = halo_beside.blocks_of(layer, degrees, tile)
    _, *launch = halo_beside.launched(y, x, weight, halo.as_added(bias, walk), layer, expansion, blocks)
    emulated_gluon.run(kernel, *launch)
    return y


def expected(x, kappa, bias, layer, expansion):
    padding = [side for pair in layer.padding for side in pair]
    rest = (*expansion[1:], list(layer.stride), padding, list(layer.dilation), 1)
    return operators.konv.composite(*[None if t is None else t.double() for t in (x, kappa, bias)], *rest)


def is_right(geometry, tile, **options):
    shape, outputs, kernel, degrees, basis, masked, bias, rest = geometry
    layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **rest)
    assert halo_beside.fits(layer, torch.bfloat16, degrees)
    given = *operands(shape, outputs, kernel, degrees, bias, layer), layer, Expansion(degrees, basis, "none", masked)
    return torch.equal(emulated(*given, tile, **options), expected(*given).bfloat16())


@pytest.mark.parametrize(("name", "tile"), CASES)
def test_the_body_computes_the_layer(name, tile):
    assert is_right(GEOMETRIES[name], tile)


def drawn(seed):
    """A layer that the kernel serves, drawn: each of its numbers."""
    draw = random.Random(seed)
    axes = draw.choice((1, 2, 2, 2))

    def each(*values):
        return tuple(draw.choice(values) for _ in range(axes))

    while True:
        kernel, size = each(*range(1, 8)), each(*range(3, 15))
        options = {"stride": each(1, 2), "dilation": each(1, 1, 2), "padding": each(0, 1, 2, 3)}
        shape, outputs = (draw.randint(1, 4), draw.choice((8, 16, 24, 32, 47, 64)), *size), draw.choice((9, 16, 32, 64))
        degrees, basis = draw.randint(2, 6), draw.choice(("monomial", "chebyshev", "chebyshev2", "hermite"))
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, options["dilation"], strict=True)]
        if any(r > n + 2 * p for r, n, p in zip(reach, size, options["padding"], strict=True)):
            continue
        layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=axes, **options)
        if halo_beside.fits(layer, torch.bfloat16, degrees):
            bias, tile = draw.choice((None, "channel", "map")), draw.choice(halo_beside.tiles_of(layer))
            return (shape, outputs, kernel, degrees, basis, draw.random() < 0.7, bias, options), tile


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 60))])
def test_the_body_computes_layers_that_are_drawn(seed):
    geometry, tile = drawn(seed)
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
    "channels of the first block": ("konv_beside_kernel", "c + WIDTH, c)", "c, c)"),
    "blocks of 64 channels": ("konv_beside_kernel", "gl.cdiv(in_channels, WIDTH)", "gl.cdiv(in_channels, CHANNELS)"),
    "channels beyond the last": ("konv_beside_kernel", "left = in_channels - c\n", "left = in_channels\n"),
    "roles not swapped back": (
        "konv_beside_kernel",
        "total = total.permute((1, 0))",
        "total = total.reshape([BLOCK_M, BLOCK_N])",
    ),
    "pixels not turned": ("konv_beside_kernel", "shown.permute((1, 0)), acc", "shown, acc"),
    "the first row tap for all": ("konv_beside_kernel", "begin + (first + i) * STEP", "begin"),
    "one buffer": ("konv_beside_kernel", "begin = buffer * SPAN", "begin = 0"),
    "every product left under way": (
        "konv_beside_kernel",
        "warpgroup_mma_wait(RUNNING, [acc])",
        "warpgroup_mma_wait(2 * RUNNING, [acc])",
    ),
    "weights of the first group": ("konv_beside_kernel", "place * TOGETHER + i", "i"),
    "a place too near": (
        "konv_beside_kernel",
        "free = group % RING, (group + AHEAD) % RING",
        "free = group % RING, group % RING",
    ),
    "rows without dilation": ("konv_beside_kernel", "% PHASES * dilation_h", "% PHASES"),
    "columns without dilation": ("konv_beside_kernel", "u_w * dilation_w\n", "u_w\n"),
    "the halo begins early": ("konv_beside_kernel", "first_slot + SLOTS + e_rows", "first_slot + e_rows"),
    "the bias of the first row": ("konv_beside_kernel", "kind_h * stride_bh", "kind_h * 0"),
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
def test_each_mistake_changes_a_layer(name, tmp_path):
    mutant = mutate("konvolution/halo_beside_kernel", *MUTANTS[name], tmp_path)
    for layer, tile in TELLING.items():
        try:
            if not is_right(GEOMETRIES[layer], tile, kernel=mutant.konv_beside_kernel):
                return
        except (AssertionError, ArithmeticError, IndexError, ValueError):  # no such memory, a copy that never comes
            return
    assert not large_samples_are_right(kernel=mutant.konv_beside_kernel), "nothing changes"


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


class Emulated:
    """The kernel, in NumPy, and how often it ran."""

    def __init__(self):
        self.runs = 0

    def __getitem__(self, grid):
        def run(**arguments):
            self.runs += 1
            emulated_gluon.run(halo_beside_kernel.konv_beside_kernel, grid, arguments)

        return run


@pytest.fixture
def beside(monkeypatch):
    """Konvolution with degrees side by side on this machine, where the table of choices names it."""
    kernel = Emulated()
    monkeypatch.setattr(halo_beside, "konv_beside_kernel", kernel)
    monkeypatch.setattr(halo_beside, "serves", lambda x, layer, degrees: halo_beside.fits(layer, x.dtype, degrees))
    monkeypatch.setattr(autotune, "_measured", {})
    with running("kernel"):
        yield kernel


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
@pytest.mark.parametrize(("axes", "basis", "pad"), [(1, "chebyshev2", "basis"), (2, "monomial", "input")])
def test_a_whole_layer_goes_this_way_only_where_it_was_measured(beside, monkeypatch, axes, basis, pad):
    x = integers((2, 16, 7, 6)[: 2 + axes], "cpu", dtype=torch.float16).clamp(-1, 1)
    kappa = integers((9, 5, 16, 3, 2)[: 3 + axes], "cpu", dtype=torch.float16, seed=1).clamp(-1, 1)
    bias = integers((9,), "cpu", dtype=torch.float16, seed=2)
    options = {"axes": axes, "padding": (1, 2)[:axes], "pad": pad}
    given = konv_geometry(x.shape, kappa.shape, bias.shape, **options)
    with poisoned():
        unmeasured = tensors.konv(x, kappa, bias, given, basis)
        assert not beside.runs
        monkeypatch.setattr(autotune, "_known", lambda y: Named())
        y = tensors.konv(x, kappa, bias, given, basis)
    assert beside.runs == 1
    arrays = [tensor.double().numpy() for tensor in (x, kappa, bias)]
    naive = getattr(backends.definition("konvolution"), f"konv{axes}d")
    exact = torch.from_numpy(naive(*arrays, basis=basis, padding=options["padding"], pad=pad))
    assert torch.equal(y, exact.half())
    assert torch.equal(unmeasured, y)


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="launches are counted, not made")
def test_a_call_is_two_launches(beside, monkeypatch):
    """What degree 0 adds is found by the kernel that packs the coefficients, as for one degree to an atom."""
    for module in (plans, tensors):
        monkeypatch.setattr(module, "is_plain", lambda *tensors: True)
    monkeypatch.setattr(autotune, "_known", lambda y: Named())
    x = torch.ones(2, 16, 9, 9, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    layer, names = konvlib.Konv2d(16, 32, 3, degree=4, padding=1, dtype=x.dtype), []
    monkeypatch.setattr(halo_beside, "konv_beside_kernel", Counted("beside", names))
    monkeypatch.setattr(preparation, "prepare_kernel", Counted("prepare", names))
    layer(x)
    with Launches() as mode:
        names.clear()
        mode.names = names
        layer(x)
    assert names == ["prepare", "beside"]


class Named:
    """A table of choices that names this way for each layer, and no tile."""

    def get(self, name):
        return "beside" if name.startswith("konv degree ") else None


@pytest.mark.parametrize("tune", ["all", "1"])
@pytest.mark.parametrize(("seconds", "chosen"), [([3.0, 3, 2, 1], "beside"), ([3, 3, 1, 0.95], "library")])
def test_it_is_measured_where_all_is_beside_the_way_that_is_known(monkeypatch, tune, seconds, chosen):
    """The table may be older than the way."""
    layer, expansion = conv_geometry((2, 16, 5, 6), (24, 16, 3, 3), axes=2), Expansion(4, "chebyshev", "none", True)
    x, kappa, _ = operands(layer.input_shape, 24, (3, 3), 4, None, layer)
    name, taken, timings = "degree 4 chebyshev none", [], iter(seconds)
    monkeypatch.setenv("KONVLIB_TUNE", tune)
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_known", lambda _: {autotune.key(f"konv {name}", layer, x): "library"})
    monkeypatch.setattr(autotune, "_may_measure", lambda _: True)
    monkeypatch.setattr(autotune, "_seconds", lambda run: next(timings))
    monkeypatch.setattr(halo_beside, "serves", lambda *_: True)
    monkeypatch.setattr(halo_beside, "konv", lambda *_: taken.append("beside"))
    monkeypatch.setattr(ways.aten, "conv", lambda *_: taken.append("library") or x)
    monkeypatch.setattr(ways, "_expanded", lambda *_: (x, layer))
    ways.konv(x, kappa, None, layer, expansion)
    measured = {autotune.key(f"konv {name}", layer, x): chosen}
    assert taken == [chosen if tune == "all" else "library"]
    assert autotune._measured == (measured if tune == "all" else {})


@on_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_card_computes_it(seed, dtype):
    """All tiles of a layer that is drawn, twice, exactly: in the emulator no swizzle and no fence shows."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("the kernel is Hopper's")
    (shape, outputs, kernel, degrees, basis, masked, bias, options), _ = drawn(seed)
    layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)
    given, expansion = operands(shape, outputs, kernel, degrees, bias, layer), Expansion(degrees, basis, "none", masked)
    wanted, walk = expected(*given, layer, expansion).to(dtype), halo.walk_of(layer)
    x, kappa, b = (None if tensor is None else tensor.to("cuda", dtype) for tensor in given)
    weight = packed(kappa, walk, halo_beside.width_of(layer, degrees))
    for tile in halo_beside.tiles_of(layer):
        blocks = halo_beside.blocks_of(layer, degrees, tile)
        for _ in range(2):
            y = x.new_full((layer.batch, *layer.output_size, outputs), float("nan")).movedim(-1, 1)
            launch = halo_beside.launched(y, x, weight, halo.as_added(b, walk), layer, expansion, blocks)
            launch[0][launch[1]](**launch[2])
            assert torch.equal(y.cpu(), wanted), tile
