"""What is done once is done as well: a launch that is repeated, a check that is not, a dispatcher that is not asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("triton")

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from konvlib.geometry import conv_geometry
from konvlib.konvolution import operators as konvolutions
from konvlib.layers import memory, operators
from konvlib.registration import meets_kernel
from tests.kernels.operators import integers, running

NAMES = (
    *("layer", "layer with a bias", "few channels", "few channels in doubles", "polynomials"),
    *("transpose", "transpose of few channels", "slopes", "weight", "weight of few channels", "weight of polynomials"),
    *("depthwise", "depthwise transpose", "depthwise weight", "largest", "largest, sent back"),
    *("mean", "mean, sent back", "columns", "columns, sent back", "expanded", "expanded, contracted"),
)
LATE = ("layer of a late input", "layer of a late bias")


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


@pytest.mark.parametrize("name", [*NAMES, *LATE])
def test_a_launch_that_is_repeated_is_the_one_that_triton_makes(name):
    assert found()[name]["by Triton"]
    assert found()[name]["again"] == found()[name]["by Triton"]


@pytest.mark.parametrize("name", NAMES)
def test_triton_is_asked_once(name):
    assert found()[name]["through Triton"] == 0


@pytest.mark.parametrize("name", LATE)
def test_triton_is_asked_again_for_what_is_not_aligned(name):
    """Its kernel is another one: addresses of the aligned one's tensors are multiples of 16 bytes."""
    assert found()[name]["through Triton"] == 1
    aligned = "layer" if name.endswith("input") else "layer with a bias"
    assert found()[name]["again"][0][4] != found()[aligned]["again"][0][4]


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
    kappa, expansion = w.unsqueeze(1).expand(-1, 3, *[-1] * (w.dim() - 1)), ("legendre", "tanh", True)
    fused = konvolutions.Fused(layer, konvolutions.Expansion(2, *expansion))
    assert konvolutions.whole_konv.check(shown, kappa, bias, *expansion, *rest) == fused


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_what_degree_0_adds_is_the_same_in_fewer_operations(case, has_bias, dtype):
    x_shape, w_shape, options = case
    x, kappa = torch.ones(x_shape, dtype=dtype), integers((w_shape[0], 3, *w_shape[1:]), "cpu", dtype=dtype)
    bias = integers(w_shape[:1], "cpu", dtype=dtype, seed=1) if has_bias else None
    shown, layer, _ = operators.shown(x, conv_geometry(x_shape, w_shape, **options))
    fused = konvolutions.Fused(layer, konvolutions.Expansion(2, "legendre", "tanh", True))
    constants = konvolutions._kept(fused, dtype, x.device)
    wanted = konvolutions.added(kappa, bias, konvolutions._planned(shown, fused)[1], dtype)
    assert torch.equal(konvolutions._added_at_once(kappa, bias, constants, dtype), wanted)


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
