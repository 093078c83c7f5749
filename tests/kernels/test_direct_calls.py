"""Operators called by their names, ``torch.ops.konvlib``: what they are given is checked before anything is computed.

So it is where kernels run and where none does, where torch only traces, and under its transforms. And every derivative
of theirs is right, in reverse and in forward mode.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from konvlib.operators import OPERATORS
from tests.engine import transforms
from tests.engine.backends import DEVICE
from tests.kernels.operators import on_cuda, random, running


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


TAPS = ones(2, 3, 3, dtype=torch.int32)
LAYER = ([2], [1, 0], [1], 1)
POLYNOMIALS = ("chebyshev", "tanh", True)
WINDOWS = ([2], [2], [1, 0], [1])
GOOD = {
    "conv": (ones(2, 3, 6), ones(4, 3, 2), ones(4), *LAYER),
    "conv_transpose": (ones(2, 4, 3), ones(4, 3, 2), ones(3), [6], *LAYER),
    "conv_weight_grad": (ones(2, 3, 6), ones(2, 4, 3), [2], *LAYER),
    "konv": (ones(2, 3, 6), ones(4, 2, 3, 2), ones(4), *POLYNOMIALS, *LAYER),
    "whole_konv": (ones(2, 3, 6), ones(4, 3, 3, 2), ones(4), *POLYNOMIALS, *LAYER),
    "konv_input_grad": (ones(2, 4, 3), ones(2, 3, 6), ones(4, 2, 3, 2), *POLYNOMIALS, *LAYER),
    "konv_kappa_grad": (ones(2, 3, 6), ones(2, 4, 3), 2, [2], *POLYNOMIALS, *LAYER),
    "im2col": (ones(2, 3, 6), *WINDOWS, [3]),
    "col2im": (ones(2, 6, 3), *WINDOWS, [3], [6]),
    "max_pool": (ones(2, 3, 6), *WINDOWS, [3]),
    "max_pool_scatter": (ones(2, 3, 3), TAPS, *WINDOWS, [6]),
    "avg_pool": (ones(2, 3, 6), *WINDOWS[:3], [3], True),
    "avg_pool_scatter": (ones(2, 3, 3), *WINDOWS[:3], [6], True),
    "convolve_window": (ones(2, 6), ones(1, 3), 1, 5, [], "auto"),
}
"""A good call of each operator."""

FLAT = "padding must have 2 entries, before and after each axis"
WRONG = {
    "stride": [
        ([], "stride must (be one integer or 1, one per axis|have one entry)"),
        ([0], "stride.* must be at least 1"),
        ([1, 1], "(stride|padding) must"),
    ],
    "padding": [([1], FLAT), ([], FLAT), ([1, 1, 1, 1], FLAT), ([-1, 0], "padding.* must be at least 0, got -1")],
    "dilation": [([], "dilation must"), ([0], "dilation.* must be at least 1"), ([99], "must (let|fit|have|be)")],
    "groups": [
        (0, "groups must be at least 1, got 0"),
        (-1, "groups must be at least 1, got -1"),
        (5, "5 groups|// 5"),
    ],
    "kernel": [([], "kernel must have one entry"), ([0], "kernel_size.* must be at least 1"), ([99], "must ")],
    "kernel_size": [([], "kernel_size must"), ([0], "kernel_size.* must be at least 1"), ([6], "dy must have")],
    "windows": [(wrong, r"windows must be \(.,\), as many") for wrong in ([], [0], [7], [3, 1])],
    "size": [([], "size must"), ([0], "must "), ([60], "must ")],
    "input_size": [([], "input_size must"), ([0], "input_size.* must be at least 1"), ([60], "dy must have")],
    "basis": [("fourier", "basis must be one of")],
    "squash": [("relu", "squash must be one of none, tanh, got 'relu'")],
    "degrees": [(0, "degrees must be at least 1, got 0")],
    "method": [("zzz", "method must be one of auto, direct, fft, overlap-add, got 'zzz'")],
    "summed": [(wrong, "summed must be different leading axes") for wrong in ([-1], [0], [-2, -2], [-9])],
    "length": [(-1, "length must be at least 0, got -1")],
}
"""What is refused of each argument, and words of the error."""

BIAS = r"bias must have shape \(.,\), one value per output channel"
SHAPES = [
    *(("conv", place, shape, "w must have|must have 3 axes") for place, shape in ((0, (2, 4, 6)), (1, (4, 5, 2)))),
    *(("conv", 2, shape, BIAS) for shape in ((5,), (1, 4), ())),
    *(("conv_transpose", place, shape, "dy must have") for place, shape in ((0, (2, 5, 3)), (0, (2, 4, 4)))),
    ("conv_transpose", 2, (4,), BIAS),
    ("conv_weight_grad", 1, (2, 4, 4), "dy must have"),
    ("konv", 0, (2, 4, 6), "kappa must have 4 // 1 = 4 channels on axis 2"),
    ("konv", 1, (4, 0, 3, 2), "kappa must not be empty on axis 1"),
    ("konv", 2, (1, 3, 4), BIAS),
    ("whole_konv", 0, (2, 4, 6), "kappa must have 4 // 1 = 4 channels on axis 2"),
    ("whole_konv", 1, (4, 0, 3, 2), "kappa must not be empty on axis 1"),
    ("whole_konv", 1, (4, 1, 3, 2), "degrees must be at least 1, got 0"),
    *(("whole_konv", 2, shape, BIAS) for shape in ((5,), (1, 4, 3), ())),
    ("konv_input_grad", 0, (2, 5, 3), "dy must have"),
    ("konv_input_grad", 1, (2, 3, 9), "dy must have"),
    ("konv_kappa_grad", 1, (3, 4, 3), "dy must have"),
    ("col2im", 0, (2, 7, 3), "cols must have"),
    ("col2im", 0, (2, 6, 4), "cols must have"),
    ("max_pool_scatter", 1, (2, 3, 4), "taps must have dy's shape"),
    ("max_pool_scatter", 0, (2, 3, 5), "dy's windows must be"),
    ("avg_pool_scatter", 0, (2, 3, 5), "dy's windows must be"),
    ("convolve_window", 0, (), "f and g must have equally many axes, one at least"),
    ("convolve_window", 1, (3, 4), "f and g must have leading axes that broadcast"),
]
"""Operands of a shape that does not fit the others."""


def cases():
    for name, good in GOOD.items():
        arguments = [argument.name for argument in OPERATORS[name].raw._schema.arguments]
        tensors = [place for place, given in enumerate(good) if isinstance(given, torch.Tensor)]
        for place, argument in enumerate(arguments):
            for value, words in WRONG.get(argument, ()):
                yield pytest.param(name, place, value, ValueError, words, id=f"{name}, {argument}={value}")
        for place in tensors:
            wrong = [("integers", good[place].long(), TypeError, "must be of dtype")]
            if arguments[place] != "bias":
                wrong.append(("an axis more", good[place][None], ValueError, "must have|must be"))
            if len(tensors) > 1 and name != "max_pool_scatter":
                wrong.append(("doubles", good[place].double(), TypeError, "must have one dtype"))
            if len(tensors) > 1:
                wrong.append(("another device", good[place].to("meta"), ValueError, "must be on one device"))
            for what, value, error, words in wrong:
                yield pytest.param(name, place, value, error, words, id=f"{name}, {arguments[place]}: {what}")
    for name, place, shape, words in SHAPES:
        dtype = GOOD[name][place].dtype
        yield pytest.param(name, place, ones(*shape, dtype=dtype), ValueError, words, id=f"{name}, {place}: {shape}")


def called(name, changes, convert=lambda tensor: tensor):
    given = [changes.get(place, value) for place, value in enumerate(GOOD[name])]
    return getattr(torch.ops.konvlib, name)(*[convert(g) if isinstance(g, torch.Tensor) else g for g in given])


def on(device):
    return lambda tensor: tensor if tensor.is_meta else tensor.to(device)


def refused(call, error, words):
    with pytest.raises((ValueError, TypeError), match=words) as raised:
        call()
    assert type(raised.value) is error
    assert " must " in str(raised.value)


@pytest.mark.parametrize(("name", "place", "value", "error", "words"), list(cases()))
def test_what_is_wrong_is_refused_by_name(name, place, value, error, words):
    changes = {place: value}
    for implementation in ("aten", "kernel"):
        with running(implementation) as device:
            refused(lambda: called(name, changes, on(device)), error, words)
            with torch.inference_mode():
                refused(lambda: called(name, changes, on(device)), error, words)
    with FakeTensorMode() as mode:
        refused(lambda: called(name, changes, mode.from_tensor), error, words)
    if place:
        loss = lambda first: called(name, {0: first, **changes}).sum()  # noqa: E731
        refused(lambda: torch.func.grad(loss)(GOOD[name][0]), error, words)


@pytest.mark.parametrize("implementation", ["aten", "kernel"])
@pytest.mark.parametrize("name", GOOD)
def test_what_is_good_is_computed(name, implementation):
    with running(implementation) as device:
        results = called(name, {}, on(device))
    with FakeTensorMode() as mode:
        promised = called(name, {}, mode.from_tensor)
    pairs = zip(*([r] if isinstance(r, torch.Tensor) else r for r in (results, promised)), strict=True)
    assert all((result.shape, result.dtype) == (promise.shape, promise.dtype) for result, promise in pairs)


BAD_TAPS = [(-1, 1), (2, 1), (7, 1), (0, 0)]
"""Taps and their windows: there are two taps, and tap 0 of window 0 lies in the padding."""


@pytest.mark.parametrize(("tap", "window"), BAD_TAPS)
def test_a_tap_that_shows_no_sample_is_refused_where_it_can_be_seen(tap, window):
    for implementation in ("aten", "kernel"):
        with running(implementation) as device:
            if device == "cpu":
                taps = TAPS.clone()
                taps[1, 2, window] = tap
                refused(lambda taps=taps: called("max_pool_scatter", {1: taps}), ValueError, "taps must be from 0 to 1")


@on_cuda
@pytest.mark.gpu
@pytest.mark.parametrize(("tap", "window"), BAD_TAPS)
def test_a_tap_that_shows_no_sample_sends_nothing_on_a_device(tap, window):
    """Also where the composite runs, and where a derivative looks."""
    taps, shown = TAPS.clone().cuda(), ones(2, 3, 3).index_fill(2, torch.tensor(window), 0)
    taps[:, :, window] = tap
    dy = ones(2, 3, 3).cuda().requires_grad_()
    for graph in (False, True):
        dx = called("max_pool_scatter", {0: dy, 1: taps})
        assert torch.equal(dx.cpu(), called("max_pool_scatter", {0: shown}))
        (looked,) = torch.autograd.grad(dx.sum(), dy, create_graph=graph)
        assert torch.equal(looked.detach().cpu(), shown)


def test_every_operator_is_tried():
    registered = [name for name in torch._C._dispatch_get_all_op_names() if name.startswith("konvlib::")]
    assert sorted(GOOD) == sorted(OPERATORS) == sorted(name.removeprefix("konvlib::") for name in registered)


# In another process

EXPORT = """
import sys, torch, konvlib

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.konv = konvlib.Konv1d(2, 3, 2, padding=((1, 0),))

    def forward(self, x):
        return konvlib.max_pool1d(self.konv(x), 2)

device, folder = sys.argv[1:]
model, x = Model().to(device), torch.randn(2, 2, 8, device=device)
program = torch.export.export(model, (x,))
called = {str(node.target).partition(".")[2].partition(".")[0] for node in program.graph.nodes
          if str(node.target).startswith("konvlib.")}
assert called == {"konv", "max_pool"}, called
torch.export.save(program, folder + "/model.pt2")
torch.save((x, model(x).detach()), folder + "/pair.pt")
"""
LOAD = """
import sys, torch
{registered}
x, y = torch.load(sys.argv[1] + "/pair.pt")
z = torch.export.load(sys.argv[1] + "/model.pt2").module()(x)
assert torch.allclose(z, y, rtol=1e-3, atol=1e-4)
"""


@pytest.mark.slow
def test_what_was_exported_with_kernels_is_loaded_in_a_new_process(tmp_path):
    """One import registers all operators; without it torch says which one it misses."""
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if DEVICE == "cpu" else {})
    prepare = "from konvlib import runtime; runtime.INTERPRET = True\n" if DEVICE == "cpu" else ""
    export = [sys.executable, "-c", prepare + EXPORT, DEVICE, str(tmp_path)]
    subprocess.run(export, check=True, env=environment)
    load = [sys.executable, "-c", LOAD.format(registered="import konvlib.operators"), str(tmp_path)]
    subprocess.run(load, check=True)
    missing = [sys.executable, "-c", LOAD.format(registered="import konvlib"), str(tmp_path)]
    failed = subprocess.run(missing, check=False, capture_output=True, text=True)
    assert failed.returncode
    assert "konvlib" in failed.stderr


# Derivatives

DIFFERENTIATED = [
    transforms.first_derivatives,
    transforms.second_derivatives,
    transforms.third_and_fourth_derivatives,
    transforms.func_grad,
    transforms.func_vjp,
    transforms.func_jvp,
    transforms.both_jacobians,
    transforms.func_hessian,
    transforms.vmap_over_each_and_all,
    transforms.vmap_of_grad,
    transforms.dual_numbers,
]


def differentiable(name, device):
    """An operator as a function of its operands, the first of its results, and operands of different numbers."""
    good, places = GOOD[name], [place for place, given in enumerate(GOOD[name]) if isinstance(given, torch.Tensor)]
    places = [place for place in places if good[place].is_floating_point()]
    operands = [random(good[place].shape, device, seed=place) / 2 for place in places]

    def function(*operands):
        changes = dict(zip(places, operands, strict=True))
        result = called(name, changes, on(device))
        return result if isinstance(result, torch.Tensor) else result[0]

    return function, operands


@pytest.mark.parametrize("check", DIFFERENTIATED, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", GOOD)
def test_every_derivative_of_what_is_called_by_its_name(name, check):
    with running("aten") as device:
        check(*differentiable(name, device))


@pytest.mark.parametrize("name", GOOD)
def test_every_derivative_beside_a_kernel(name):
    with running("kernel") as device:
        function, operands = differentiable(name, device)
        for check in (transforms.func_vjp, transforms.func_hessian, transforms.vmap_of_grad, transforms.dual_numbers):
            check(function, operands)
        given = transforms.leaves(operands)
        assert torch.autograd.gradcheck(function, given, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, given, fast_mode=True)
