"""Which kernels a call launches on an H100, counted on any machine: nothing is launched, and no result is right.

A tensor says that it is on a CUDA device, the device that it is Hopper, and every kernel of konvlib writes down its
name instead of running.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import konvlib
from konvlib import runtime
from konvlib.konvolution import plans, tensors
from konvlib.layers import autotune
from konvlib.operators import OPERATORS

DEVICE = "NVIDIA H100 80GB HBM3"
NO_WORK = ("aten::empty", "aten::new_empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty_strided")


class Launches(TorchDispatchMode):
    """Counts what would be launched: operations of ATen that compute, and kernels."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "konvlib":
            with self:
                return OPERATORS[function._opname]._computed(*args)
        result = function(*args, **(kwargs or {}))
        name, given = function._schema.name, [value for value in args if isinstance(value, torch.Tensor)]
        is_view = any(value.untyped_storage().data_ptr() == result.untyped_storage().data_ptr() for value in given)
        if name not in NO_WORK and (not is_view or name.endswith("_")):
            self.names.append(name)
        return result


class Counted:
    """A kernel that is not launched, but counted."""

    def __init__(self, name, names):
        self.name, self.names = name, names

    def __getitem__(self, grid):
        return lambda *_, **__: self.names.append(self.name)


def of_call(call: Callable[[], Any]) -> list[str]:
    """The names of the kernels and operations that a call launches, in order; what it prepares once is prepared."""
    with _pretended() as names:
        call()
        return launched_by(call, names)


def launched_by(call: Callable[[], Any], names: list[str]) -> list[str]:
    """What one call launches, in order, where `Counted` kernels write into ``names``."""
    with Launches() as mode:
        names.clear()
        mode.names = names
        call()
    return list(names)


@contextmanager
def _pretended() -> Iterator[list[str]]:
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for found in pkgutil.walk_packages(konvlib.__path__, "konvlib."):
            if found.name.rsplit(".", 1)[-1] == "__main__":
                continue
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if name.endswith("_kernel") and hasattr(value, "arg_names"):
                    patch.setattr(module, name, Counted(name.removesuffix("_kernel"), names))
        patch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True), raising=False)
        patch.setattr(torch.cuda, "get_device_name", lambda device=None: DEVICE)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        patch.setattr(torch.cuda, "device_of", lambda tensor: nullcontext())
        facts = SimpleNamespace(multi_processor_count=autotune.MULTIPROCESSORS)
        patch.setattr(torch.cuda, "get_device_properties", lambda device=None: facts)
        patch.setattr(runtime, "is_hopper", lambda device: True)
        for module in (plans, tensors):
            patch.setattr(module, "is_plain", lambda *tensors: True)
        patch.setattr(runtime, "INTERPRET", True)
        yield names


def _operands(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """The first lies with its channels last, if it has any, as images do; weights lie as they are made."""
    x, *others = (torch.ones(shape, dtype=torch.bfloat16, device="cpu") for shape in shapes)
    return [x if x.dim() < 3 else x.movedim(1, -1).contiguous().movedim(-1, 1), *others]


def _forward(call: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> Callable[[], Any]:
    return partial(call, *_operands(*shapes), **options)


def _step(call: Callable[..., torch.Tensor], *shapes: tuple[int, ...], **options: Any) -> Callable[[], Any]:
    leaves = [tensor.requires_grad_() for tensor in _operands(*shapes)]

    def step() -> Any:
        y = call(*leaves, **options)
        return torch.autograd.grad(y, leaves, y.detach())

    return step


IMAGE, SAME = (32, 128, 28, 28), {"padding": 1}
WEIGHT, KAPPA, TAPS = (128, 128, 3, 3), (128, 5, 128, 3, 3), (128, 1, 3, 3)
CALLS = {
    "conv2d": _forward(konvlib.conv2d, IMAGE, WEIGHT, **SAME),
    "conv2d, its gradients too": _step(konvlib.conv2d, IMAGE, WEIGHT, **SAME),
    "conv2d, 3 channels, 7 by 7": _forward(konvlib.conv2d, (32, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3),
    "conv2d, 3 channels, 7 by 7, its gradients too": _step(
        konvlib.conv2d, (32, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3
    ),
    "conv2d, depthwise": _forward(konvlib.conv2d, IMAGE, TAPS, groups=128, **SAME),
    "conv2d, depthwise, its gradients too": _step(konvlib.conv2d, IMAGE, TAPS, groups=128, **SAME),
    "conv2d_im2col": _forward(konvlib.conv2d_im2col, IMAGE, WEIGHT, **SAME),
    "conv_transpose2d": _forward(konvlib.conv_transpose2d, IMAGE, WEIGHT, stride=2, **SAME),
    "konv2d of degree 4": _forward(konvlib.konv2d, IMAGE, KAPPA, **SAME),
    "konv2d of degree 4, its gradients too": _step(konvlib.konv2d, IMAGE, KAPPA, **SAME),
    "konv2d of degree 4, 1 by 1": _forward(konvlib.konv2d, (32, 256, 56, 56), (64, 5, 256, 1, 1)),
    "konv2d of degree 4, 1 by 1, its gradients too": _step(konvlib.konv2d, (32, 256, 56, 56), (64, 5, 256, 1, 1)),
    "max_pool2d": _forward(konvlib.max_pool2d, IMAGE, kernel_size=3, stride=2),
    "max_pool2d, its gradient too": _step(konvlib.max_pool2d, IMAGE, kernel_size=3, stride=2),
    "avg_pool2d": _forward(konvlib.avg_pool2d, IMAGE, kernel_size=3, stride=2),
    "avg_pool2d, its gradient too": _step(konvlib.avg_pool2d, IMAGE, kernel_size=3, stride=2),
    "im2col": _forward(konvlib.im2col, IMAGE, kernel_size=3),
    "convolve, 16 taps": _forward(konvlib.convolve, (64, 65536), (16,)),
}
"""Calls in bfloat16, channels last, as they stand in the table of tests/kernels/offline/table.py."""


def of_calls() -> dict[str, list[str]]:
    """What each of these calls launches."""
    return {name: of_call(call) for name, call in CALLS.items()}
