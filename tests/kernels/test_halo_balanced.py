"""Konvolution by a halo in equal shares: its kernels in NumPy against the definition, its shares, its mistakes."""

from __future__ import annotations

import random
from itertools import product

import pytest
import torch

import konvlib
from konvlib.geometry import conv_geometry, konv_geometry
from konvlib.konvolution import plans, preparation, tensors
from konvlib.layers import autotune
from konvlib.layers.polynomials import Expansion
from tests.engine import backends
from tests.kernels.launches import Counted, Launches
from tests.kernels.operators import integers, on_cuda, poisoned, running
from tests.kernels.test_mutants import mutate

pytest.importorskip("triton.experimental.gluon", reason="Gluon came with Triton 3.5")

from konvlib.konvolution import halo, halo_balanced, ways
from tests.kernels import emulated_gluon
from tests.kernels.offline import halo_balanced as offline
from tests.kernels.test_halo import operands
from tests.kernels.test_halo_beside import expected
from tests.kernels.test_preparation import packed

GEOMETRIES = {  # shape, outputs, kernel, degrees, basis, masked, bias, options, processors
    "one program": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}, 1),
    "halves": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}, 3),
    "a program for a turn": ((2, 80, 9, 7), 130, (3, 2), 2, "chebyshev", True, "map", {"padding": 1}, 99),
    "stride": ((5, 64, 8, 8), 72, (3, 3), 3, "hermite", True, "map", {"padding": 1, "stride": 2}, 5),
    "points": ((3, 200, 9, 15), 130, (1, 1), 3, "monomial", True, "channel", {"stride": 2}, 5),
    "one degree": ((3, 200, 9, 15), 72, (1, 1), 1, "chebyshev", True, None, {}, 3),
    "columns apart": ((2, 64, 19, 9), 72, (4, 3), 2, "hermite", True, None, {"dilation": (1, 2), "stride": (2, 1)}, 4),
    "five of six": ((2, 100, 11, 9), 200, (3, 3), 2, "chebyshev2", False, "map", {"padding": (2, 0)}, 5),
    "one axis": ((9, 150, 33), 72, (5,), 2, "chebyshev2", True, "channel", {"padding": 3, "dilation": 2}, 4),
    "seven": ((1, 64, 12, 10), 300, (7, 7), 1, "legendre", True, None, {"padding": 3, "stride": 2}, 5),
    "sides": (
        (5, 48, 12, 9),
        72,
        (4, 2),
        2,
        "monomial",
        True,
        "map",
        {"padding": ((1, 2), (0, 1)), "stride": (2, 3)},
        5,
    ),
    "rows apart": ((3, 64, 17, 6), 72, (3, 2), 4, "chebyshev", True, None, {"dilation": (3, 1), "stride": (2, 1)}, 5),
    "few lines": ((16, 128, 4, 4), 130, (3, 3), 2, "chebyshev", True, "map", {"padding": 1}, 5),
    "whole tiles": ((9, 64, 9, 7), 72, (3, 3), 2, "chebyshev", True, "channel", {"padding": 1}, 5),
}


def layer_of(geometry):
    shape, outputs, kernel, *_, options, _ = geometry
    return conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)


def emulated(x, kappa, bias, layer, expansion, processors, *, module=None, late=False):
    """Both launches in NumPy, the parts NaN before they are written, as outputs are; nothing is written twice."""
    walk = halo.walk_of(layer)
    y = torch.full((layer.batch, *layer.output_size, layer.out_channels), float("nan"), dtype=x.dtype).movedim(-1, 1)
    found = halo_balanced.shares_of(layer, processors)
    with poisoned():
        parts = halo_balanced.parts_of(x, found)
    added = halo.as_added(bias, walk)
    launches = halo_balanced.launched(y, x, packed(kappa, walk), parts, added, layer, expansion, found)
    for kernel, *launch in launches:
        emulated_gluon.run(getattr(module, kernel.__name__) if module else kernel, *launch, late=late)
    return y


def is_right(geometry, **options):
    shape, outputs, kernel, degrees, basis, masked, bias, _, processors = geometry
    layer = layer_of(geometry)
    assert halo_balanced.fits(layer, torch.bfloat16)
    given = *operands(shape, outputs, kernel, degrees, bias, layer), layer, Expansion(degrees, basis, "none", masked)
    return torch.equal(emulated(*given, processors, **options), expected(*given).bfloat16())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_kernels_compute_the_layer(name, late):
    assert is_right(GEOMETRIES[name], late=late)


def programs_by_tile(found):
    """How many programs do each tile, turn by turn."""
    does = [turn // found.share for turn in range(found.tiles * found.turns)]
    assert set(does) == set(range(found.programs))
    return [len({*does[begin : begin + found.turns]}) for begin in range(0, len(does), found.turns)]


def test_tiles_are_done_by_one_program_by_two_and_by_more():
    """What the layers above show: whole tiles beside shared ones, and programs with several tiles."""
    seen = {name: halo_balanced.shares_of(layer_of(layer), layer[-1]) for name, layer in GEOMETRIES.items()}
    counts = {name: {*programs_by_tile(found)} for name, found in seen.items()}
    assert counts["one program"] == counts["whole tiles"] == {1}
    assert {1, 2} in counts.values()
    assert {2, 3} <= set().union(*counts.values())
    assert seen["one program"].tiles > 1
    assert seen["a program for a turn"].share == 1
    assert any(found.share > found.turns and found.share % found.turns for found in seen.values())


def drawn(seed):
    """A layer that the kernel serves, and of how many programs: each number drawn."""
    draw = random.Random(seed)
    axes = draw.choice((1, 2, 2, 2))

    def each(*values):
        return tuple(draw.choice(values) for _ in range(axes))

    while True:
        kernel, size = each(*range(1, 8)), each(*range(3, 15))
        options = {"stride": each(1, 2), "dilation": each(1, 1, 2), "padding": each(0, 1, 2, 3)}
        shape, outputs = (draw.randint(1, 9), draw.choice((48, 64, 100, 200)), *size), draw.choice((65, 128, 200, 300))
        degrees, basis = draw.randint(1, 4), draw.choice(("monomial", "chebyshev", "chebyshev2", "hermite"))
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, options["dilation"], strict=True)]
        if any(r > n + 2 * p for r, n, p in zip(reach, size, options["padding"], strict=True)):
            continue
        if halo_balanced.fits(conv_geometry(shape, (outputs, shape[1], *kernel), axes=axes, **options), torch.bfloat16):
            bias, processors = draw.choice((None, "channel", "map")), draw.randint(1, 20)
            return shape, outputs, kernel, degrees, basis, draw.random() < 0.7, bias, options, processors


@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(8, 60))])
def test_the_kernels_compute_layers_that_are_drawn(seed):
    geometry = drawn(seed)
    assert is_right(geometry, late=seed % 2 == 1), geometry


def test_parts_of_a_tile_are_added_from_the_first_to_the_last():
    """What rounding shows: of 1, 2**60 and -2**60 nothing is left in this order, and 1 in the other."""
    layer = layer_of(GEOMETRIES["a program for a turn"])
    x, kappa, _ = operands(layer.input_shape, 130, (3, 2), 2, None, layer)
    y = torch.full((2, *layer.output_size, 130), float("nan")).movedim(-1, 1)
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
    "the first row tap for all": ("konv_balanced_kernel", "begin + (first + i) * STEP", "begin"),
    "one buffer": ("konv_balanced_kernel", "begin = buffer * SPAN", "begin = 0"),
    "every product left under way": (
        "konv_balanced_kernel",
        "warpgroup_mma_wait(RUNNING,",
        "warpgroup_mma_wait(2 * RUNNING,",
    ),
    "weights of the first group": ("konv_balanced_kernel", "place * TOGETHER + i", "i"),
    "rows without dilation": ("konv_balanced_kernel", "% PHASES * dilation_h", "% PHASES"),
    "columns without dilation": (
        "konv_balanced_kernel",
        "u_w * dilation_w\n                move",
        "u_w\n                move",
    ),
    "the halo begins early": ("konv_balanced_kernel", "first_slot + SLOTS + e_rows", "first_slot + e_rows"),
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
def test_each_mistake_changes_a_layer(name, tmp_path):
    mutant = mutate("konvolution/halo_balanced_kernel", *MUTANTS[name], tmp_path)
    for layer in TELLING:
        try:  # a mistake may read memory that is not there, or wait for a copy that never comes
            if not is_right(GEOMETRIES[layer], module=mutant):
                return
        except (AssertionError, ArithmeticError, AttributeError, IndexError, ValueError):
            return
    pytest.fail("nothing changes")


@pytest.mark.parametrize(("tiles", "turns", "processors"), [*product((1, 2, 7, 106), (1, 6, 24), (1, 2, 5, 132))])
def test_shares_are_equal_and_as_short_as_processors_permit(tiles, turns, processors):
    found = halo_balanced.shares(tiles, turns, processors)
    assert found.programs <= processors
    assert (found.share - 1) * processors < tiles * turns <= found.share * found.programs
    assert found.split == sum(count > 1 for count in programs_by_tile(found))


def test_layers_of_the_benchmark_gain_where_tiles_fill_no_waves():
    layers = {  # batch, inputs, size, outputs, degrees: whether a share is that much shorter
        (32, 128, 28, 128, 4): (203, 6, 10, 12, True),
        (32, 256, 14, 256, 4): (106, 12, 10, 12, True),
        (64, 512, 7, 512, 4): (112, 24, 21, 24, True),
        (8, 128, 128, 128, 8): (1032, 6, 47, 48, True),
        (64, 256, 56, 256, 3): (3192, 12, 291, 300, True),
        (32, 128, 28, 128, 2): (203, 6, 10, 12, False),  # too little work for the cost
        (21, 128, 28, 128, 4): (135, 6, 7, 12, True),
        (20, 128, 28, 128, 4): (127, 6, 6, 6, False),  # one wave, nearly full
    }
    for (batch, inputs, size, outputs, degrees), (tiles, turns, share, waves, gains) in layers.items():
        layer = conv_geometry((batch, inputs, size, size), (outputs, inputs, 3, 3), axes=2, padding=1)
        found = halo_balanced.shares_of(layer, 132)
        assert (found.tiles, found.turns, found.share) == (tiles, turns, share)
        assert -(-tiles // 132) * turns == waves
        assert halo_balanced.gains(layer, degrees, 132) == gains


def test_what_outputs_are_turned_in_has_room_beside_the_buffers():
    """It takes 32 KiB of its own, since buffers stay in use: no layer takes more than the largest that is compiled."""
    *_, dilation = offline.LAYERS["the largest"]
    sizes = {}
    for kernel, stride, apart in product(range(1, 8), (1, 2), range(1, 20)):
        layer = conv_geometry((2, 64, 300, 9), (128, 64, kernel, 1), axes=2, stride=stride, dilation=(apart, 1))
        if halo_balanced.fits(layer, torch.bfloat16):
            blocks = halo.blocks_of(layer, halo_balanced.TILE)
            slots = blocks["BUFFERS"] * (blocks["SLOTS"] + blocks["EXTRA"])
            sizes[kernel, stride, apart] = slots * 1024 + blocks["RING"] * (blocks["TOGETHER"] * 128 * 128)
    assert max(sizes.values()) == sizes[3, 2, dilation]
    assert max(sizes.values()) + 2**15 < halo.SHARED_MEMORY - 2**12


class Emulated:
    """A kernel, in NumPy, and how often it ran."""

    def __init__(self, kernel):
        self.kernel, self.runs = kernel, 0

    def __getitem__(self, grid):
        def run(**arguments):
            self.runs += 1
            emulated_gluon.run(self.kernel, grid, arguments)

        return run


@pytest.fixture
def balanced(monkeypatch):
    """Konvolution in equal shares on this machine, where the table of choices names it; of so many processors."""
    kernels = {name: Emulated(getattr(halo_balanced, name)) for name in ("konv_balanced_kernel", "add_shares_kernel")}
    for name, kernel in kernels.items():
        monkeypatch.setattr(halo_balanced, name, kernel)
    monkeypatch.setattr(autotune, "multiprocessors", lambda x: 5)
    monkeypatch.setattr(halo_balanced, "serves", lambda x, layer, degrees: halo_balanced.fits(layer, x.dtype))
    monkeypatch.setattr(autotune, "_measured", {})
    with running("kernel"):
        yield kernels


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="in NumPy")
@pytest.mark.parametrize(("axes", "basis", "pad"), [(1, "chebyshev2", "basis"), (2, "monomial", "input")])
def test_a_whole_layer_goes_this_way_only_where_it_was_measured(balanced, monkeypatch, axes, basis, pad):
    x = integers((2, 50, 7, 6)[: 2 + axes], "cpu", dtype=torch.float16).clamp(-1, 1)
    kappa = integers((70, 3, 50, 3, 2)[: 3 + axes], "cpu", dtype=torch.float16, seed=1).clamp(-1, 1)
    bias = integers((70,), "cpu", dtype=torch.float16, seed=2)
    options = {"axes": axes, "padding": (1, 2)[:axes], "pad": pad}
    given = konv_geometry(x.shape, kappa.shape, bias.shape, **options)
    with poisoned():
        unmeasured = tensors.konv(x, kappa, bias, given, basis)
        assert not any(kernel.runs for kernel in balanced.values())
        monkeypatch.setattr(autotune, "_known", lambda y: Named())
        y = tensors.konv(x, kappa, bias, given, basis)
    split = axes == 2  # on one axis there is one turn
    assert [kernel.runs for kernel in balanced.values()] == [1, int(split)]
    arrays = [tensor.double().numpy() for tensor in (x, kappa, bias)]
    naive = getattr(backends.definition("konvolution"), f"konv{axes}d")
    exact = torch.from_numpy(naive(*arrays, basis=basis, padding=options["padding"], pad=pad))
    assert torch.equal(y, exact.half())
    assert torch.equal(unmeasured, y)


@pytest.mark.skipif(backends.DEVICE != "cpu", reason="launches are counted, not made")
@pytest.mark.parametrize(("processors", "sums"), [(5, ["sums"]), (1, [])])
def test_a_call_is_two_launches_and_one_for_the_sums(balanced, monkeypatch, processors, sums):
    """What degree 0 adds is found by the kernel that packs the coefficients, as without shares."""
    for module in (plans, tensors):
        monkeypatch.setattr(module, "is_plain", lambda *tensors: True)
    monkeypatch.setattr(autotune, "_known", lambda y: Named())
    monkeypatch.setattr(autotune, "multiprocessors", lambda x: processors)
    x = torch.ones(2, 64, 9, 9, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    layer, names = konvlib.Konv2d(64, 72, 3, degree=4, padding=1, dtype=x.dtype), []
    monkeypatch.setattr(halo_balanced, "konv_balanced_kernel", Counted("balanced", names))
    monkeypatch.setattr(halo_balanced, "add_shares_kernel", Counted("sums", names))
    monkeypatch.setattr(preparation, "prepare_kernel", Counted("prepare", names))
    layer(x)
    with Launches() as mode:
        names.clear()
        mode.names = names
        layer(x)
    assert names == ["prepare", "balanced", *sums]


class Named:
    """A table of choices that names this way for each layer, and no tile."""

    def get(self, name):
        return "balanced" if name.startswith("konv degree ") else None


@pytest.mark.parametrize("tune", ["all", "1"])
@pytest.mark.parametrize(("seconds", "chosen"), [([3.0, 3, 1, 0.95], "balanced"), ([3, 3, 1, 0.99], "library")])
def test_it_is_measured_where_all_is_beside_the_way_that_is_known(monkeypatch, tune, seconds, chosen):
    """The table may be older than the way; it is taken for a few hundredths, since it needs no other memory."""
    layer, expansion = conv_geometry((2, 64, 5, 6), (72, 64, 3, 3), axes=2), Expansion(4, "chebyshev", "none", True)
    x, kappa, _ = operands(layer.input_shape, 72, (3, 3), 4, None, layer)
    name, taken, timings = "degree 4 chebyshev none", [], iter(seconds)
    monkeypatch.setenv("KONVLIB_TUNE", tune)
    monkeypatch.setattr(autotune, "_measured", {})
    monkeypatch.setattr(autotune, "_known", lambda _: {autotune.key(f"konv {name}", layer, x): "library"})
    monkeypatch.setattr(autotune, "_may_measure", lambda _: True)
    monkeypatch.setattr(autotune, "_seconds", lambda run: next(timings))
    monkeypatch.setattr(halo_balanced, "serves", lambda *_: True)
    monkeypatch.setattr(halo_balanced, "konv", lambda *_: taken.append("balanced"))
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
    """A layer that is drawn, in few shares and in many, twice, exactly: in NumPy no swizzle and no fence shows."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("the kernel is Hopper's")
    shape, outputs, kernel, degrees, basis, masked, bias, options, processors = drawn(seed)
    layer = conv_geometry(shape, (outputs, shape[1], *kernel), axes=len(kernel), **options)
    given, expansion = operands(shape, outputs, kernel, degrees, bias, layer), Expansion(degrees, basis, "none", masked)
    wanted, walk = expected(*given, layer, expansion).to(dtype), halo.walk_of(layer)
    x, kappa, b = (None if tensor is None else tensor.to("cuda", dtype) for tensor in given)
    weight, rest = packed(kappa, walk), (halo.as_added(b, walk), layer, expansion)
    for count in (processors, 132, processors):
        y = x.new_full((layer.batch, *layer.output_size, outputs), float("nan")).movedim(-1, 1)
        found = halo_balanced.shares_of(layer, count)
        for launch in halo_balanced.launched(y, x, weight, halo_balanced.parts_of(x, found), *rest, found):
            launch[0][launch[1]](**launch[2])
        assert torch.equal(y.cpu(), wanted), count
