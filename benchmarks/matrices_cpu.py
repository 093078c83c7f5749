"""The layer as a matrix on arrays, against PyTorch's unfold and fold, and against an SVD of the whole matrix.

``python -m benchmarks.matrices_cpu`` prints the tables and writes the records. `konvlib.conv_matrix` is timed together
with one product by it, so that what is compared is the layer's output: against `konvlib.conv2d`, which needs no matrix,
and against SciPy's Kronecker products of bands.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import sparse

from benchmarks import harness, processes
from konvlib import images, matrices

SIZES = ((32, 3), (128, 3), (128, 5), (512, 3))
"""Height and width of an image of one channel, and the kernel."""

LAYERS = (
    (1, 1, 1024, 3, 1),
    (1, 3, 224, 7, 2),
    (1, 64, 56, 3, 1),
    (8, 64, 56, 3, 1),
    (1, 64, 56, 3, 2),
    (1, 512, 7, 3, 1),
)
"""Batch, channels, size, kernel and stride; the padding is half the kernel."""

CIRCULAR = ((1, 24, 3), (4, 12, 3), (16, 6, 3))
"""Channels in and out, size and kernel of layers whose matrix still has an SVD."""

Prepared = tuple[Mapping[str, harness.Call], np.ndarray]


def whole_matrices() -> Iterator[harness.Case]:
    for size, kernel in SIZES:
        label = {"size": size, "kernel": kernel}
        yield harness.Case(label, functools.partial(whole_matrix, **label), tolerance=1e-12)


def columns() -> Iterator[harness.Case]:
    for name, prepare in (("im2col", cut), ("col2im", add_up)):
        for row in LAYERS:
            label = dict(zip(("batch", "channels", "size", "kernel", "stride"), row, strict=True))
            yield harness.Case({"function": name, **label}, functools.partial(prepare, *row), tolerance=1e-6)


def spectra() -> Iterator[harness.Case]:
    for row in CIRCULAR:
        label = dict(zip(("channels", "size", "kernel"), row, strict=True))
        yield harness.Case(label, functools.partial(spectrum, **label), tolerance=1e-12)


def whole_matrix(size: int, kernel: int) -> Prepared:
    x, w = operand(1, 1, size, size), operand(1, 1, kernel, kernel)
    calls = {
        "conv_matrix and product": lambda: matrices.conv_matrix(w, x.shape[1:]) @ x.ravel(),
        "conv2d": lambda: images.conv2d(x, w).ravel(),
        "SciPy, Kronecker products": lambda: by_kronecker_products(w[0, 0], size) @ x.ravel(),
    }
    reference = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w))
    return calls, reference.numpy().ravel()


def by_kronecker_products(w: np.ndarray, size: int) -> sparse.csr_array:
    """The Toeplitz matrix of blocks: for each row of the kernel one diagonal of blocks, each a band."""
    rows, taps = size - w.shape[0] + 1, range(w.shape[1])
    bands = [sparse.diags_array(list(row), offsets=list(taps), shape=(size - taps[-1], size)) for row in w]
    places = [sparse.diags_array([1.0], offsets=[u], shape=(rows, size)) for u in range(w.shape[0])]
    return sum(sparse.kron(place, band, format="csr") for place, band in zip(places, bands, strict=True))


def cut(batch: int, channels: int, size: int, kernel: int, stride: int) -> Prepared:
    x, options = operand(batch, channels, size, size).astype(np.float32), arguments(kernel, stride)
    tensor = torch.from_numpy(x)
    return competitors(matrices.im2col, torch.nn.functional.unfold, x, tensor, kernel, **options)


def add_up(batch: int, channels: int, size: int, kernel: int, stride: int) -> Prepared:
    options = arguments(kernel, stride)
    windows = ((size + 2 * options["padding"] - kernel) // stride + 1) ** 2
    cols = operand(batch, channels * kernel**2, windows).astype(np.float32)
    given = (size, size), kernel
    return competitors(matrices.col2im, torch.nn.functional.fold, cols, torch.from_numpy(cols), *given, **options)


def competitors(
    ours: Callable[..., np.ndarray],
    theirs: Callable[..., torch.Tensor],
    array: np.ndarray,
    tensor: torch.Tensor,
    *args: Any,
    **options: int,
) -> Prepared:
    calls = {
        "konvlib": lambda: ours(array, *args, **options),
        "PyTorch": lambda: theirs(tensor, *args, **options).numpy(),
    }
    return calls, theirs(tensor.double(), *args, **options).numpy()


def spectrum(channels: int, size: int, kernel: int) -> Prepared:
    w = operand(channels, channels, kernel, kernel)
    shape = (channels, size, size)
    pixels = np.eye(np.prod(shape)).reshape(-1, *shape)
    matrix = images.conv2d(pixels, w, padding=((0, kernel - 1),) * 2, padding_mode="circular").reshape(len(pixels), -1)
    calls = {
        "konvlib": lambda: matrices.circulant_singular_values(w, shape[1:]),
        "SVD of the matrix": lambda: np.linalg.svd(matrix, compute_uv=False),
    }
    return calls, np.linalg.svd(matrix, compute_uv=False)


def arguments(kernel: int, stride: int) -> dict[str, int]:
    return {"stride": stride, "padding": kernel // 2}


def operand(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    timer = processes.ProcessTimer(budget=parser.parse_args().seconds)
    wrong = harness.run("matrices_cpu", list(whole_matrices()), timer=timer)
    wrong |= harness.run("matrices_columns_cpu", list(columns()), timer=timer)
    return wrong | harness.run("matrices_spectra_cpu", list(spectra()), timer=timer)


if __name__ == "__main__":
    raise SystemExit(main())
