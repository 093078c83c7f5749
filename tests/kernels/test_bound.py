"""What is done once is done as well: a launch that is repeated, a check that is not, a dispatcher that is not asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("triton")

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from konvlib.geometry import (
    avg_pool_geometry,
    col2im_geometry,
    conv_geometry,
    conv_transpose_geometry,
    im2col_geometry,
    konv_geometry,
    max_pool_geometry,
)
from konvlib.images import pooling_operators as poolings
from konvlib.konvolution import aten, tensors
from konvlib.konvolution import operators as konvolutions
from konvlib.layers import bound, memory, operators
from konvlib.matrices import operators as columns
from konvlib.registration import meets_kernel
from konvlib.transposes import tensors as transposes
from tests.kernels.operators import integers, running

NAMES = (
    *("layer", "layer with a bias", "few channels", "few channels in doubles", "polynomials"),
    *("transpose", "transpose of few channels", "slopes", "weight", "weight of few channels", "weight of polynomials"),
    *("depthwise", "depthwise transpose", "depthwise weight", "largest", "largest, sent back"),
    *("mean", "mean, sent back", "columns", "columns, sent back", "expanded", "expanded, contracted"),
)
BOXES = (
    *("boxes", "boxes, no bias", "boxes of points", "boxes, unpacked weight", "boxes of one tensor", "runs"),
    *("transposed boxes", "transposed boxes of a stride", "weight by boxes", "weight of points"),
    *("halo", "halo, no bias", "halo, input padded", "halo beside", "columns of degrees", "kappa by boxes"),
)
LATE = ("layer of a late input", "layer of a late bias", "boxes of a late input", "halo of a late input")


@cache
def found() -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kernels.driverless"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TRITON_INTERPRET": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*NAMES, *BOXES, *LATE])
def test_a_launch_that_is_repeated_is_the_one_that_triton_makes(name):
    assert found()[name]["by Triton"]
    assert found()[name]["again"] == found()[name]["by Triton"]


@pytest.mark.parametrize("name", [*NAMES, *BOXES])
def test_triton_is_asked_once(name):
    assert found()[name]["through Triton"] == 0


@pytest.mark.parametrize("name", BOXES)
def test_kernels_in_gluon_are_launched_with_boxes_of_the_tensors_of_the_call(name):
    """But for runs, which have none."""
    boxes = [told for launch in found()[name]["again"] for told in launch if str(told).startswith("['boxes")]
    assert bool(boxes) == (name != "runs")


def test_what_is_kept_is_kept_for_other_strides_and_dtypes_too():
    """Launches of one geometry, by turns, of tensors that lie otherwise in memory: each is Triton's own."""
    turns = found()["turns"]
    assert turns["again"] == turns["by Triton"]
    assert turns["through Triton"] == 0
    assert 2 * len({json.dumps(launch[5:]) for launch in turns["again"]}) == len(turns["again"]) == 16


@pytest.mark.parametrize("name", LATE)
def test_triton_is_asked_again_for_what_is_not_aligned(name):
    """Its kernel is another one: addresses of the aligned one's tensors are multiples of 16 bytes."""
    assert found()[name]["through Triton"] == 1
    aligned = {LATE[0]: "layer", LATE[1]: "layer with a bias", LATE[3]: "halo"}
    if name in aligned:  # else no other box begins there, and the layer has the kernel without boxes
        assert found()[name]["again"][-1][4] != found()[aligned[name]]["again"][-1][4]


LAYERS = [
    ((2, 3, 9), (4, 3, 2), {"axes": 1, "stride": 2, "padding": ((1, 0),)}),
    ((2, 4, 7, 5), (6, 2, 3, 2), {"axes": 2, "groups": 2, "padding": "same", "dilation": (1, 2)}),
    ((0, 4, 7, 5), (6, 4, 3, 2), {"axes": 2, "padding": (2, 1), "padding_mode": "reflect"}),
    ((1, 2, 4, 5, 6), (3, 2, 2, 1, 3), {"axes": 3, "stride": (9**9, 1, 2), "padding_mode": "circular", "padding": 1}),
]


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_what_an_operator_is_given_is_what_it_would_have_found(case):
    x_shape, w_shape, options = case
    x, w, bias = torch.ones(x_shape), torch.ones(w_shape), torch.ones(w_shape[0])
    shown, layer, rest = operators.shown(x, conv_geometry(x_shape, w_shape, **options))
    assert operators.conv.check(shown, w, bias, *rest) == layer
    y = torch.ones(layer.output_shape)
    assert operators.conv_transpose.check(y, w, None, shown.shape[2:], *rest) == layer
    if y.numel():
        assert operators.conv_weight_grad.check(shown, y, w.shape[2:], *rest) == layer
    kappa, expansion = w.unsqueeze(1).expand(-1, 3, *[-1] * (w.dim() - 1)), ("legendre", "tanh", True)
    fused = konvolutions.Fused(layer, konvolutions.Expansion(2, *expansion))
    assert konvolutions.whole_konv.check(shown, kappa, bias, *expansion, *rest) == fused
    rest = *expansion, *rest
    assert konvolutions.konv_input_grad.check(y, shown, kappa[:, 1:], *rest) == fused
    if y.numel():
        assert konvolutions.konv_kappa_grad.check(shown, y, 2, kappa.shape[3:], *rest) == fused
    found = tensors.fused(konv_geometry(x_shape, kappa.shape, **options), *expansion[:2])
    assert found == (None if layer_pads_otherwise(options) else (fused, (*expansion, *map(tuple, rest[3:6]), rest[6])))


def layer_pads_otherwise(options: dict) -> bool:
    return options.get("padding_mode", "zeros") != "zeros"


POOLS = [
    ((2, 3, 9), {"kernel_size": 3, "axes": 1, "padding": ((1, 0),)}),
    ((2, 3, 9, 7), {"kernel_size": (3, 2), "axes": 2, "stride": (2, 1), "padding": 1}),
    ((1, 3, 8, 7), {"kernel_size": (3, 2), "axes": 2, "stride": (3, 2), "ceil_mode": True}),
    ((1, 2, 4, 5, 6), {"kernel_size": (2, 1, 3), "axes": 3, "stride": (9**9, 1, 2)}),
]


@pytest.mark.parametrize("case", POOLS, ids=str)
def test_what_the_operator_of_a_pooling_is_given_is_what_it_would_have_found(case):
    shape, options = case
    x, pool = torch.ones(shape), max_pool_geometry(shape, **options)
    window = poolings.geometry_of(pool)
    assert poolings.max_pool.check(x, *window, pool.output_size) == pool
    y, rest = torch.ones(pool.output_shape), (*window[:3], True)
    taps = poolings.max_pool.raw(x, *window, pool.output_size)[1]
    assert poolings.max_pool_scatter.check(y, taps, *window, pool.input_size) == pool
    for counts in (True, False):
        pool, rest = avg_pool_geometry(shape, **options, count_include_pad=counts), window[:3]
        assert poolings.avg_pool.check(x, *rest, pool.output_size, counts) == pool
        assert poolings.avg_pool_scatter.check(y, *rest, pool.input_size, counts) == pool


@pytest.mark.parametrize("padding", [0, ((1, 0), (0, 2))])
def test_what_the_operators_of_columns_are_given_is_what_they_would_have_found(padding):
    options = {"kernel_size": (3, 2), "stride": (2, 1), "padding": padding}
    x = torch.ones(2, 3, 9, 7)
    layer = im2col_geometry(x.shape, **options)
    assert columns.im2col.check(x, *columns.windows_of(layer)) == layer
    cols = columns.im2col.raw(x, *columns.windows_of(layer))
    layer = col2im_geometry(cols.shape, output_size=(9, 7), **options)
    assert columns.col2im.check(cols, *columns.windows_of(layer), layer.input_size) == layer


@pytest.mark.parametrize("options", [{}, {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}, {"groups": 2}])
def test_what_the_operator_of_a_transpose_is_given_is_what_it_would_have_found(options):
    x, w = torch.ones(2, 4, 5, 6), torch.ones(4, 6 // options.get("groups", 1), 3, 2)
    layer = conv_transpose_geometry(x.shape, w.shape, axes=2, **options)
    assert transposes._extended(x, layer)[0] is x
    _, _, rest = operators.shown(x, layer)
    assert operators.conv_transpose.check(x, w, None, layer.input_size, *rest) == layer


class Kernel:
    """Stands for one of Triton's that is compiled anew for each call."""

    pre_run_hooks, arg_names = (), ["x_ptr", "y_ptr", "BLOCK"]

    def __init__(self) -> None:
        self.by_triton, self.run = [], []

    def __getitem__(self, grid: tuple[int, ...]):
        def launched(**given):
            self.by_triton.append((grid, given))
            return Compiled(self)

        return launched


class Compiled:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: tuple[int, ...]):
        return lambda *given: self.kernel.run.append((grid, given))


@pytest.fixture
def kernel(monkeypatch) -> Kernel:
    monkeypatch.setattr(bound, "KINDS", (Kernel,))
    monkeypatch.setattr(bound, "CompiledKernel", Compiled)
    monkeypatch.setattr(bound, "_kept", {})
    return Kernel()


def told(block: int, x: torch.Tensor, y: torch.Tensor) -> tuple[tuple[int], dict]:
    return (x.shape[0],), {"x_ptr": x.T, "y_ptr": y, "BLOCK": block}


def test_a_launch_of_one_tensor_twice_is_right_for_two(kernel):
    x, y = torch.ones(3, 4), torch.zeros(3, 4)
    bound.launch(kernel, told, (16,), x, x)
    bound.launch(kernel, told, (16,), x, y)
    ((grid, given),) = kernel.run
    assert grid == (3, 1, 1)
    assert given[0] is x
    assert given[1] is y
    assert given[2] == 16


@pytest.mark.parametrize("other", ["key", "strides", "dtype", "function"])
def test_another_launch_is_not_what_is_kept(kernel, other):
    x = torch.ones(3, 4)
    y = {"strides": torch.ones(4, 3).T, "dtype": x.double()}.get(other, x)
    bound.launch(kernel, told, (16,), x, x)
    of = (lambda *given: told(*given)) if other == "function" else told
    bound.launch(kernel, of, (32 if other == "key" else 16,), x, y)
    assert not kernel.run
    assert len(kernel.by_triton) == 2


@pytest.mark.parametrize("what", ["made", "shifted", "not told by the key", "a grid not told by the key"])
def test_what_the_key_does_not_tell_is_not_kept(kernel, what):
    """Tensors that are made for the call, or begin elsewhere, and numbers that change from call to call."""
    x, y, count = torch.ones(3, 4), torch.zeros(3, 4), iter(range(1, 99))
    arguments = {
        "made": lambda x, y: {"x_ptr": torch.empty_like(x), "y_ptr": y, "BLOCK": 16},
        "shifted": lambda x, y: {"x_ptr": x[1:], "y_ptr": y, "BLOCK": 16},
        "not told by the key": lambda x, y: {"x_ptr": x, "y_ptr": y, "BLOCK": next(count)},
        "a grid not told by the key": lambda x, y: {"x_ptr": x, "y_ptr": y, "BLOCK": 16},
    }[what]

    def of(x, y):
        return (next(count) if "grid" in what else 3,), arguments(x, y)

    for _ in range(3):
        bound.launch(kernel, of, (), x, y)
    assert len(kernel.by_triton) == 3
    assert not kernel.run


def test_no_tensor_is_kept(kernel):
    x, y = torch.ones(3, 4), torch.zeros(3, 4)
    bound.launch(kernel, told, (16,), x, y)
    kernel.by_triton.clear()
    gone = weakref.ref(x), weakref.ref(y)
    del x, y
    assert [ref() for ref in gone] == [None, None]
    assert bound._kept


def test_no_more_launches_are_kept_than_a_number(kernel, monkeypatch):
    monkeypatch.setattr(bound, "MOST", 4)
    x = torch.ones(3, 4)
    for block in range(9):
        bound.launch(kernel, told, (block,), x, x)
        assert 1 <= len(bound._kept) <= 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_what_degree_0_adds_is_its_sum_over_what_each_output_sees(case, has_bias, dtype):
    x_shape, w_shape, options = case
    x, kappa = torch.ones(x_shape, dtype=dtype), integers((w_shape[0], 3, *w_shape[1:]), "cpu", dtype=dtype)
    bias = integers(w_shape[:1], "cpu", dtype=dtype, seed=1) if has_bias else None
    _, layer, _ = operators.shown(x, conv_geometry(x_shape, w_shape, **options))
    fused = konvolutions.Fused(layer, konvolutions.Expansion(2, "legendre", "tanh", True))
    constants = konvolutions._kept(fused, dtype, x.device)
    wanted = aten.degree_0(kappa[:, :1], bias, constants).to(dtype)
    added = konvolutions.added(kappa, bias, constants, dtype)
    assert torch.equal(added if added.dim() == 1 else added[0], wanted)


WAITING = {
    "nothing": (nullcontext, 0),
    "no gradients": (torch.no_grad, 0),
    "inference": (torch.inference_mode, 0),
    "another default device": (lambda: torch.device("cpu"), 0),
    "a mode": (lambda: FlopCounterMode(display=False), 1),
    "a profile": (lambda: profile(activities=[ProfilerActivity.CPU]), 1),
}


@pytest.mark.parametrize("name", WAITING)
def test_the_dispatcher_is_asked_where_something_waits_there(name, monkeypatch):
    context, asked = WAITING[name]
    raw, calls = operators.conv.raw, []
    monkeypatch.setattr(operators.conv, "raw", lambda *given: calls.append(given) or raw(*given))
    with running("kernel") as device, context():
        x, w = integers((2, 3, 9), device), integers((4, 3, 2), device)
        konvlib.conv1d(x, w)
    assert len(calls) == asked


def test_a_profile_names_the_operator():
    with running("kernel") as device, profile(activities=[ProfilerActivity.CPU]) as seen:
        konvlib.conv1d(integers((2, 3, 9), device), integers((4, 3, 2), device))
    assert "konvlib::conv" in {event.key for event in seen.key_averages()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_view_that_negates_is_negated(dtype):
    with running("kernel") as device:
        x, w = integers((2, 3, 9), device, dtype=dtype), integers((4, 3, 2), device, dtype=dtype)
        negated = torch._neg_view(x)
        assert not meets_kernel([negated])
        assert torch.equal(konvlib.conv1d(negated, w), -konvlib.conv1d(x, w))
        kappa = torch.stack((w, w), 1)
        assert torch.equal(konvlib.konv1d(negated, kappa), konvlib.konv1d(-x, kappa))
        zeros = torch._efficientzerotensor((2, 3, 9), dtype=dtype, device=device)
        assert not konvlib.conv1d(zeros, w).any()


def test_results_may_be_changed_in_place():
    with running("kernel") as device:
        x, w = (integers(shape, device, requires_grad=True) for shape in ((2, 3, 9), (4, 3, 2)))
        for layer in (konvlib.conv1d, lambda x, w: konvlib.konv1d(x, torch.stack((w, w), 1))):
            grads = [torch.autograd.grad(change(layer(x, w)).sum(), (x, w)) for change in (torch.relu, torch.relu_)]
            assert all(map(torch.equal, *grads))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 1, 4, 5), (1, 3, 1, 1), (0, 3, 4, 5), (2, 3, 4, 5, 6)], ids=str)
def test_what_is_written_lies_as_what_is_promised(shape, last):
    like = torch.ones(2, *[3] * (len(shape) - 1))
    like = like.movedim(1, -1).contiguous().movedim(-1, 1) if last else like
    promised, written = memory.empty(like, shape), memory.fresh(like, shape)
    assert (written.shape, written.stride()) == (promised.shape, promised.stride())


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3, 1, 1), (4, 1, 2, 3), (4, 3, 2, 3), (4, 3, 2, 1, 3)], ids=str)
def test_a_weight_that_lies_packed_is_its_packed_form(shape):
    for w in (torch.randn(shape), torch.randn(shape).movedim(1, -1).contiguous().movedim(-1, 1), torch.randn(shape).mT):
        packed = memory.packed_weight(w)
        assert memory.lies_packed(w.shape, w.stride()) == (packed.data_ptr() == w.data_ptr())
