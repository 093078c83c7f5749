"""What the tests of torch operators share: both implementations, random operands, poisoned memory, tensors alive."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from konvlib import runtime
from tests.engine.backends import DEVICE
from tests.kernels.guards import guarded

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@contextmanager
def running(kind: str) -> Iterator[str]:
    """Run operators through ``"aten"`` or through ``"kernel"``s: on CUDA, or in the interpreter. Gives the device.

    In the interpreter each access is held to the tensors.
    """
    interpreted = kind == "kernel" and DEVICE == "cpu"
    with pytest.MonkeyPatch.context() as patch, guarded() if interpreted else nullcontext():
        patch.setattr(runtime, "INTERPRET", interpreted)
        yield "cuda" if kind == "kernel" and DEVICE == "cuda" else "cpu"


def random(
    shape: Sequence[int], device: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, requires_grad: bool = False
) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).to(device).requires_grad_(requires_grad)


def integers(
    shape: Sequence[int], device: str, *, dtype: torch.dtype = torch.float64, seed: int = 0, requires_grad: bool = False
) -> torch.Tensor:
    """Small enough that their products and sums are exact in every dtype."""
    values = torch.randint(-5, 6, tuple(shape), generator=torch.Generator().manual_seed(seed))
    return values.to(dtype).to(device).requires_grad_(requires_grad)


def same_but_for_layout(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Tensors equal to ``x`` that lie otherwise in memory: channels last, strided, reversed axes, with a gap."""
    yield x.movedim(1, -1).contiguous().movedim(-1, 1)
    yield x.permute(*reversed(range(x.dim()))).contiguous().permute(*reversed(range(x.dim())))
    wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), float("nan"))
    wide[..., 1::2] = x
    yield wide[..., 1::2]


@contextmanager
def poisoned() -> Iterator[None]:
    """Fill what is allocated with NaN, integers with -77: an element left unwritten is seen."""

    def poison(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def empty(*args: Any, **kwargs: Any) -> torch.Tensor:
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan") if tensor.is_floating_point() else -77)

        return empty

    owners = (
        *((torch, "empty"), (torch, "empty_like"), (torch, "empty_strided")),
        *((torch.Tensor, "new_empty"), (torch.Tensor, "new_empty_strided")),
    )
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in owners:
            patch.setattr(owner, name, poison(getattr(owner, name)))
        yield


def assert_keeps_no_tensor(once: Callable[[], Any]) -> None:
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    once()
    before = alive()
    for _ in range(3):
        once()
    assert alive() <= before


def assert_keeps_no_device_memory(once: Callable[[], Any]) -> None:
    def allocated() -> int:
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    once()
    before = allocated()
    for _ in range(200):
        once()
    after = allocated()
    assert after <= before, f"{after - before} bytes more after 200 calls"
