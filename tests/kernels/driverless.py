"""Launches for Hopper on a machine without a device: kernels are compiled and written down, not run.

``python -m tests.kernels.driverless`` prints, as JSON, for each call what its launches of the layer's kernels are told
when Triton makes them, when konvlib makes them again, and how many of the latter went through Triton's own launcher.
Its own program, because Triton decides at import whether kernels are interpreted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

import konvlib
from konvlib import runtime
from konvlib.images.pooling_operators import max_pool_scatter
from konvlib.konvolution import kernels
from konvlib.layers import bound
from konvlib.layers.polynomials import Expansion

WINDOWS = [2, 2], [2, 2], [0, 0, 0, 0], [1, 1]
EXPANSION = Expansion(2, "chebyshev", "tanh")
Launch = list[Any]
launches: list[Launch] = []


class Utils:
    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024}

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[Any, ...]:
        return name, hashlib.sha256(kernel).hexdigest(), 32, 0, 1024


class Launcher:
    def __init__(self, src: Any, metadata: Any): ...

    def __call__(self, *given: Any) -> None:
        """The grid, the stream, the function and the arguments; not what belongs to profilers."""
        launches.append([*given[:5], *map(_told, given[9:])])


class Driver:
    utils, launcher_cls = Utils(), Launcher

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def _told(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.shape, value.stride(), value.data_ptr() % 16]
    return value if isinstance(value, (int, bool)) else str(value)


def last(shape: tuple[int, ...], dtype: torch.dtype, *, late: int = 0) -> torch.Tensor:
    """Ones with their channels last, which begin ``late`` elements after an address that is a multiple of 16."""
    batch, channels, *size = shape
    count = torch.Size(shape).numel()
    return torch.ones(count + late, dtype=dtype)[late:].view(batch, *size, channels).movedim(-1, 1)


def calls() -> dict[str, Callable[[], Any]]:
    x, w, bias = last((2, 32, 7, 5), torch.float16), last((48, 32, 3, 2), torch.float16), torch.ones(48).half()
    few, single = last((2, 3, 7, 5), torch.float32), last((16, 3, 3, 3), torch.float32)
    late = last((2, 32, 7, 5), torch.float16, late=1)
    kappa, taps = torch.ones(16, 3, 32, 3, 2).half(), torch.ones(32, 1, 3, 2).half()
    dy, size, pooled = last((2, 16, 5, 4), torch.float16), (3, 2), last((2, 32, 3, 2), torch.float16)
    return {
        "layer": lambda: konvlib.conv2d(x, w, stride=(2, 1)),
        "layer with a bias": lambda: konvlib.conv2d(x, w, bias, stride=(2, 1)),
        "few channels": lambda: konvlib.conv2d(few, single, padding=1),
        "few channels in doubles": lambda: konvlib.conv2d(few.double(), single.double(), padding=1),
        "polynomials": lambda: konvlib.konv2d(x, kappa, padding=1),
        "transpose": lambda: konvlib.conv_transpose2d(x, w.movedim(0, 1), bias, stride=(2, 1), padding=1),
        "transpose of few channels": lambda: konvlib.conv_transpose2d(few, single.movedim(0, 1), padding=1),
        "slopes": lambda: konvlib.konv2d_input_grad(last((2, 16, 7, 6), torch.float16), x, kappa, padding=1),
        "weight": lambda: konvlib.conv2d_weight_grad(x, dy, kernel_size=size),
        "weight of few channels": lambda: konvlib.conv2d_weight_grad(
            few, last((2, 16, 5, 3), torch.float32), kernel_size=3
        ),
        "weight of polynomials": lambda: konvlib.konv2d_kappa_grad(x, dy, degree=2, kernel_size=size),
        "depthwise": lambda: konvlib.conv2d(x, taps, groups=32),
        "depthwise transpose": lambda: konvlib.conv2d_input_grad(x, taps, input_size=(9, 6), groups=32),
        "depthwise weight": lambda: konvlib.conv2d_weight_grad(x, x, kernel_size=1, groups=32),
        "largest": lambda: konvlib.max_pool2d(x, 2),
        "largest, sent back": lambda: max_pool_scatter(pooled, pooled.int().zero_(), *WINDOWS, [7, 5]),
        "mean": lambda: konvlib.avg_pool2d(x, 2),
        "mean, sent back": lambda: konvlib.avg_pool2d_grad(pooled, 2, input_size=(7, 5)),
        "columns": lambda: konvlib.im2col(x, size),
        "columns, sent back": lambda: konvlib.col2im(torch.ones(2, 4, 6), (3, 4), 2),
        "expanded": lambda: kernels.expand(x, EXPANSION, 1),
        "expanded, contracted": lambda: kernels.contract(last((2, 64, 7, 5), torch.float16), x, EXPANSION, 1),
        "layer of a late input": lambda: konvlib.conv2d(late, w, stride=(2, 1)),
        "layer of a late bias": lambda: konvlib.conv2d(x, w, torch.ones(49).half()[1:], stride=(2, 1)),
    }


def launched(call: Callable[[], Any]) -> list[Launch]:
    launches.clear()
    call()
    return [*launches]


def main() -> None:
    driver.set_active(Driver())
    runtime.INTERPRET = True  # operators take tensors of the CPU
    run, count = JITFunction.run, 0

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return run(self, *given, **named)

    JITFunction.run, known, found = counted, bound.JITFunction, {}
    for name, call in calls().items():
        bound.JITFunction = None
        by_triton = launched(call)
        bound.JITFunction = known
        call()
        before = count
        found[name] = {"by Triton": by_triton, "again": launched(call), "through Triton": count - before}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
