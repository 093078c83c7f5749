"""Channels that lie together go 16 bytes at a time where they can: how many that is, and that results stay exact."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import konvlib
from konvlib.images import launching
from konvlib.images.launching import vector_of
from konvlib.konvolution import kernels
from konvlib.layers.polynomials import Expansion
from konvlib.matrices import columns
from tests.kernels.operators import integers, poisoned, running

DTYPES = (torch.float16, torch.float32, torch.float64)


def layouts(x: torch.Tensor) -> Iterator[torch.Tensor]:
    """The same samples in channels last: dense, and cut out of others that lie 24 and 4 channels further apart."""
    last = x.movedim(1, -1)
    yield last.contiguous().movedim(-1, 1)
    for before, after in ((8, 16), (1, 3)):
        wide = torch.nn.functional.pad(last, (before, after), value=float("nan"))
        yield wide[..., before : before + x.shape[1]].movedim(-1, 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_how_many_channels_are_a_vector(dtype):
    most = 16 // dtype.itemsize
    for channels in (3, 4, 8, 24, 72):
        x = integers((2, channels, 4, 5), "cpu", dtype=dtype)
        assert vector_of(x) == 1
        shared = next(n for n in (8, 4, 2, 1) if n <= most and channels % n == 0)
        found = [vector_of(other) for other in layouts(x)]
        assert found == [shared, shared, 1 if channels % 2 else min(shared, 4)]
        assert vector_of(next(layouts(x)), x) == 1


def results(x: torch.Tensor) -> Iterator[torch.Tensor]:
    options = {"stride": (2, 1), "padding": ((1, 0), (1, 1))}
    for pool in (konvlib.max_pool2d, konvlib.avg_pool2d):
        leaf = x.detach().requires_grad_()
        y = pool(leaf, (2, 2), **options)
        dy = 4 * integers(y.shape, str(x.device), dtype=x.dtype, seed=1)
        yield y.detach()
        yield from torch.autograd.grad(y, leaf, dy.to(memory_format=torch.channels_last))
    yield konvlib.im2col(x, (2, 3), **options)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, torch.float32), (3, torch.float16), (8, torch.float32), (24, torch.float16)], ids=str
)
def test_windows_are_exact_in_every_layout(channels, dtype, wide, monkeypatch):
    """With offsets of 64 bits too."""
    for module in (launching, columns):
        monkeypatch.setattr(module, "is_wide", lambda *tensors: wide)
    x = 4 * integers((2, channels, 4, 5), "cpu", dtype=dtype)
    with running("aten"):
        expected = list(results(x))
    for other in layouts(x):
        with running("kernel") as device, poisoned():
            for ours, theirs in zip(results(other.to(device)), expected, strict=True):
                assert torch.equal(ours.cpu(), theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [6, 48])
def test_expanded_channels_are_exact_in_every_layout(channels, dtype):
    """z[k] = x^k and dx = sum_k k x^(k - 1) dz[k], of integers up to 3, for whole channels and for two groups."""
    x = integers((2, channels, 3, 5), "cpu", dtype=dtype).clamp(-3, 3)
    for groups in (1, 2):
        parts = x.unflatten(1, (groups, 1, -1))
        z = torch.cat([parts, parts**2, parts**3], 2).flatten(1, 3)
        dz = integers(z.shape, "cpu", dtype=dtype, seed=1)
        slopes = torch.cat([torch.ones_like(parts), 2 * parts, 3 * parts**2], 2)
        dx = (dz.unflatten(1, (groups, 3, -1)) * slopes).sum(2).flatten(1, 2)
        for other in (x, *layouts(x)):
            with running("kernel") as device, poisoned():
                given = other.to(device)
                assert torch.equal(kernels.expand(given, Expansion(3, "monomial"), groups).cpu(), z)
                assert torch.equal(kernels.contract(dz.to(device), given, Expansion(3, "monomial"), groups).cpu(), dx)
