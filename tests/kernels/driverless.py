"""Launches for Hopper on a machine without a device: kernels are compiled and written down, not run.

``python -m tests.kernels.driverless`` prints, as JSON, for each call what its launches of the layer's kernels are told
when Triton makes them, when konvlib makes them again, and how many of the latter went through Triton's own launcher.
Its own program, because Triton decides at import whether kernels are interpreted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver as nvidia
from triton.runtime import JITFunction, driver

import konvlib
from konvlib import runtime
from konvlib.images.pooling_operators import max_pool_scatter
from konvlib.konvolution import kernels
from konvlib.layers import autotune, bound, forward_runs
from konvlib.layers.autotune import BoxTile
from konvlib.layers.polynomials import Expansion

WINDOWS = [2, 2], [2, 2], [0, 0, 0, 0], [1, 1]
EXPANSION = Expansion(2, "chebyshev", "tanh")
BASE = getattr(nvidia, "_BASE_ARGS_FORMAT_LEN", None)
"""How many arguments come before the kernel's own, which Triton 3.7 gives as one."""

Launch = list[Any]
launches: list[Launch] = []


class Map(NamedTuple):
    """Of the boxes of a tensor: where it begins, and what else was said."""

    address: int
    said: tuple[Any, ...]


class Utils:
    """What Triton asks of a driver."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 227 * 1024}

    def load_binary(self, name: str, kernel: bytes, shared: int, device: int) -> tuple[Any, ...]:
        return name, hashlib.sha256(kernel).hexdigest(), 32, 0, 1024

    def fill_tma_descriptor_tiled(self, address: int, *said: Any) -> Map:
        return Map(address, said)

    fill_tma_descriptor = fill_tma_descriptor_tiled  # as Triton 3.6 calls it


class Launcher:
    """Triton's own launcher up to where C begins: there launches go to ``taken``, unless it is None."""

    taken: Callable[[Launch], None] | None = launches.append

    def __init__(self, src: Any, metadata: Any):
        described = getattr(metadata, "tensordesc_meta", None)
        self.launch = nvidia.wrap_handle_tensordesc(self._launched, dict(src.signature), described)

    def __call__(self, *given: Any) -> None:
        """The grid, the stream, the function and the arguments; not what belongs to profilers."""
        if BASE is None:
            self.launch(*given[:5], given[9:])
        else:
            self.launch(*given[:5], *[None] * (BASE - 5), *given[9:])

    def _launched(self, *given: Any) -> None:
        if Launcher.taken is not None:
            arguments = given[-1] if BASE is None else given[BASE:]
            Launcher.taken([*given[:5], *map(_told, arguments)])


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


NAMES: dict[int, str] = {}
"""The addresses of operands, by which launches are compared: those of results differ from call to call."""


def _told(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.numel(), _place(value.data_ptr())]
    if isinstance(value, Map):
        return ["boxes", _place(value.address), *map(str, value.said)]
    return value if isinstance(value, (int, bool)) else str(value)


def _name(**operands: torch.Tensor) -> None:
    """Name operands, and no others: the memory of those that are gone may be a result's."""
    NAMES.clear()
    NAMES.update({tensor.data_ptr(): name for name, tensor in operands.items()})


def _place(address: int) -> str:
    return f"{NAMES.get(address, 'a result')}, {address % 16}"


BOX = BoxTile(64, 64, 64, 4, 4, 1, 1, 8, 8)


class Choices(dict):
    """A file of choices that names the kernels in Gluon, and runs for three channels."""

    def get(self, name: str) -> Any:
        return self[name]

    def __missing__(self, name: str) -> Any:
        kind = name.partition(" ")[0]
        choice = {"konv_input_grad": "columns", "konv": "beside" if " c16-" in name else None}.get(kind)
        if " boxes " in name and kind != "conv_weight_grad":
            choice = forward_runs.TILES[0] if " c3-" in name else BOX
        self[name] = choice
        return choice


@contextmanager
def pretended(*, hopper: bool) -> Iterator[None]:
    """Let tensors of the CPU be those of a device: one for the kernels in Gluon, which then are taken, or another."""
    driver.set_active(Driver())
    facts, choices = SimpleNamespace(multi_processor_count=autotune.MULTIPROCESSORS), Choices() if hopper else {}
    cuda: dict[str, Any] = {"is_current_stream_capturing": lambda: False, "device_of": lambda tensor: nullcontext()}
    with (
        patch.object(torch.Tensor, "is_cuda", property(lambda tensor: True), create=True),
        patch.multiple(torch.cuda, **cuda, get_device_properties=lambda device=None: facts),
        patch.object(runtime, "is_hopper", lambda device: hopper),
        patch.object(autotune, "_known", lambda y: choices),
        patch.dict(autotune._measured, clear=True),
        patch.dict(os.environ, KONVLIB_TUNE="0"),
    ):
        yield


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
    wide = last((2, 32, 7, 10), torch.float16)
    turns = x, x.contiguous(), wide[..., ::2], wide[..., :5]
    _name(x=x, w=w, bias=bias, dy=dy, late=late)
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
        "turns": lambda: [konvlib.conv2d(x, weight) for x in (*turns, *turns) for weight in (w, w.contiguous())],
        "layer of a late input": lambda: konvlib.conv2d(late, w, stride=(2, 1)),
        "layer of a late bias": lambda: konvlib.conv2d(x, w, torch.ones(49).half()[1:], stride=(2, 1)),
    }


def calls_of_gluon() -> dict[str, Callable[[], Any]]:
    """Calls that take the kernels in Gluon, and the few channels' runs."""
    half, point, of_kernel = torch.float16, {"kernel_size": 1, "stride": 2}, {"kernel_size": (3, 2)}
    x, w, bias = last((2, 64, 10, 9), half), last((48, 64, 3, 2), half), torch.ones(48).half()
    narrow, few, single = last((2, 16, 7, 5), half), last((2, 3, 7, 5), half), torch.ones(16, 3, 3, 3).half()
    kappa, small = torch.ones(48, 3, 64, 3, 2).half(), torch.ones(32, 3, 16, 3, 2).half()
    dy, late, other = last((2, 48, 8, 8), half), last((2, 64, 10, 9), half, late=1), torch.ones(64).half()
    large = last((2, 64, 16, 15), half)
    named = {
        "large": large,
        "x": x,
        "w": w,
        "bias": bias,
        "dy": dy,
        "kappa": kappa,
        "narrow": narrow,
        "late": late,
        "other": other,
    }
    _name(**named)
    return {
        "boxes": lambda: konvlib.conv2d(x, w, bias, padding=1),
        "boxes, no bias": lambda: konvlib.conv2d(x, w, padding=1, stride=(2, 1)),
        "boxes of points": lambda: konvlib.conv2d(x, w[:, :, :1, :1]),
        "boxes, unpacked weight": lambda: konvlib.conv2d(x, w.contiguous(), padding=1),
        "boxes of one tensor": lambda: konvlib.conv2d(last((64, 64, 3, 3), half), last((64, 64, 3, 3), half)),
        "runs": lambda: konvlib.conv2d(few, single, padding=1),
        "transposed boxes": lambda: konvlib.conv_transpose2d(dy, w, other),
        "transposed boxes of a stride": lambda: konvlib.conv2d_input_grad(
            dy[:, :, :5], w, input_size=(10, 9), stride=(2, 1), padding=((1, 0), (0, 0))
        ),
        "weight by boxes": lambda: konvlib.conv2d_weight_grad(x, dy, **of_kernel),
        "weight of points": lambda: konvlib.conv2d_weight_grad(large, dy, **point),
        "halo": lambda: konvlib.konv2d(x, kappa, bias, padding=1),
        "halo, no bias": lambda: konvlib.konv2d(x, kappa, padding=(1, 0), stride=(1, 2)),
        "halo, input padded": lambda: konvlib.konv2d(x, kappa, bias, padding=1, pad="input"),
        "halo beside": lambda: konvlib.konv2d(narrow, small, padding=1),
        "columns of degrees": lambda: konvlib.konv2d_input_grad(dy, x, kappa),
        "kappa by boxes": lambda: konvlib.konv2d_kappa_grad(x, dy, degree=2, **of_kernel),
        "boxes of a late input": lambda: konvlib.conv2d(late, w, bias, padding=1),
        "halo of a late input": lambda: konvlib.konv2d(late, kappa, bias, padding=1),
    }


def launched(call: Callable[[], Any]) -> list[Launch]:
    launches.clear()
    call()
    return [*launches]


def compared(calls: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """For each call its launches by Triton, again, and how many of the latter went through Triton's own launcher."""
    run, count, found = JITFunction.run, 0, {}

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return run(self, *given, **named)

    with patch.object(JITFunction, "run", counted):
        for name, call in calls.items():
            with patch.object(bound, "KINDS", ()):
                by_triton = launched(call)
            call()
            before = count
            found[name] = {"by Triton": by_triton, "again": launched(call), "through Triton": count - before}
    return found


def main() -> None:
    with pretended(hopper=False):
        found = compared(calls())
    with pretended(hopper=True):
        found |= compared(calls_of_gluon())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
