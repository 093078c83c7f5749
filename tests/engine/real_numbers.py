"""Tensors of real numbers, the same at each call."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def random(
    shape: Sequence[int], device: str = "cpu", *, dtype: torch.dtype = torch.float64, seed: int = 0,
    requires_grad: bool = False,
) -> torch.Tensor:  # fmt: skip
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.to(dtype).to(device).requires_grad_(requires_grad)
