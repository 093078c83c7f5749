"""`konvlib.conv2d` on arrays against PyTorch on ResNet-18's layers, and against SciPy on one image.

``python -m benchmarks.images_cpu`` prints the tables and writes the records; ``--methods`` times konvlib's own methods
against each other instead, to which the costs in `konvlib.images.windows` and `konvlib.images.spectra` were fitted.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from scipy import ndimage, signal

from benchmarks import harness, processes
from konvlib import geometry, images
from konvlib.images import spectra, windows

RESNET18 = (
    (3, 64, 224, 7, 2),
    (64, 64, 56, 3, 1),
    (64, 128, 56, 3, 2),
    (64, 128, 56, 1, 2),
    (128, 128, 28, 3, 1),
    (128, 256, 28, 3, 2),
    (128, 256, 28, 1, 2),
    (256, 256, 14, 3, 1),
    (256, 512, 14, 3, 2),
    (256, 512, 14, 1, 2),
    (512, 512, 7, 3, 1),
)
"""Channels in and out, size, kernel and stride of each different layer; the padding is half the kernel."""

DEPTHWISE = ((32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (384, 14, 3, 1), (96, 56, 7, 1), (128, 32, 31, 1))
"""Channels, size, kernel and stride: MobileNetV2's, one of ConvNeXt's and one of RepLKNet's layers."""

KERNELS = (3, 5, 7, 11, 15, 21, 31)
MOST_TAPS = 15
"""The direct sums of SciPy are left out above this kernel size but for the largest, where they are far behind."""

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def layers(batches: tuple[int, ...]) -> Iterator[harness.Case]:
    for batch in batches:
        for row in RESNET18:
            label = dict(zip(("in", "out", "size", "kernel", "stride"), row, strict=True))
            prepare = functools.partial(layer, batch, *row)
            yield harness.Case({"batch": batch, **label}, prepare, tolerance=TOLERANCE["float32"])


def depthwise() -> Iterator[harness.Case]:
    for channels, size, kernel, stride in DEPTHWISE:
        label = {"channels": channels, "size": size, "kernel": kernel, "stride": stride}
        prepare = functools.partial(layer, 1, channels, channels, size, kernel, stride, groups=channels)
        yield harness.Case(label, prepare, tolerance=TOLERANCE["float32"])


def one_image(size: int) -> Iterator[harness.Case]:
    for dtype in TOLERANCE:
        for kernel in KERNELS:
            label = {"dtype": dtype, "size": size, "kernel": kernel}
            yield harness.Case(label, functools.partial(image, size, kernel, dtype), tolerance=TOLERANCE[dtype])


def own_methods(size: int) -> Iterator[harness.Case]:
    for channels in (1, 4, 16, 64):
        for kernel in (3, 7, 11, 15, 31):
            side = size if channels == 1 else size // 8
            prepare = functools.partial(methods, channels, side, kernel)
            label = {"channels": channels, "size": side, "kernel": kernel}
            yield harness.Case(label, prepare, tolerance=TOLERANCE["float32"])


def layer(
    batch: int, inputs: int, outputs: int, size: int, kernel: int, stride: int, *, groups: int = 1
) -> tuple[Mapping[str, harness.Call], Any]:
    x, w = operands((batch, inputs, size, size), (outputs, inputs // groups, kernel, kernel), "float32")
    options = {"stride": stride, "padding": kernel // 2, "groups": groups}
    tensors = torch.from_numpy(x), torch.from_numpy(w)
    calls = {
        "konvlib": lambda: images.conv2d(x, w, **options),
        "PyTorch": lambda: torch.nn.functional.conv2d(*tensors, **options),
    }
    reference = torch.nn.functional.conv2d(*(tensor.double() for tensor in tensors), **options)
    return {name: _as_arrays(call) for name, call in calls.items()}, reference.numpy()


def image(size: int, kernel: int, dtype: str) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    x, w = operands((1, 1, size, size), (1, 1, kernel, kernel), dtype)
    flat, taps = x[0, 0], w[0, 0]
    flipped = np.ascontiguousarray(taps[::-1, ::-1])
    calls = {
        "konvlib": lambda: images.conv2d(x, w, padding="same")[0, 0],
        "fftconvolve": lambda: signal.fftconvolve(flat, flipped, "same"),
        "convolve2d": lambda: signal.convolve2d(flat, flipped, "same"),
        "ndimage.correlate": lambda: ndimage.correlate(flat, taps, mode="constant"),
        "PyTorch": lambda: torch.nn.functional.conv2d(
            torch.from_numpy(x), torch.from_numpy(w), padding=kernel // 2
        ).numpy()[0, 0],
    }
    if MOST_TAPS < kernel < max(KERNELS):
        del calls["convolve2d"], calls["ndimage.correlate"]
    if kernel > MOST_TAPS:
        del calls["PyTorch"]
    reference = signal.fftconvolve(flat.astype(np.longdouble), flipped.astype(np.longdouble), "same")
    return calls, reference.astype(np.float64)


def methods(channels: int, size: int, kernel: int) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    x, w = operands((1, channels, size, size), (channels, channels, kernel, kernel), "float32")
    valid = geometry.conv_geometry(x.shape, w.shape, axes=2)
    calls = {"auto": lambda: images.conv2d(x, w), "spectra": lambda: spectra.by_spectra(x, w, valid)}
    for rows in (1, 4, 16):
        calls[f"windows, {rows} rows"] = functools.partial(windows.by_windows, x, w, valid, rows)
    double = (torch.from_numpy(operand).double() for operand in (x, w))
    return calls, torch.nn.functional.conv2d(*double).numpy()


def operands(x_shape: tuple[int, ...], w_shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([*x_shape, *w_shape])
    return rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)


def print_means(benchmark: str, *columns: str) -> None:
    """Print the geometric mean of our time over PyTorch's, for each combination of some columns."""
    path = harness.RESULTS / f"{harness.slug(harness.facts('cpu')['device'])}-{benchmark}.json"
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
        if "PyTorch" in row["ratios"]:
            found.setdefault(tuple(row["label"][name] for name in columns), []).append(1 / row["ratios"]["PyTorch"])
    for values, ratios in found.items():
        named = ", ".join(f"{name} {value}" for name, value in zip(columns, values, strict=True))
        print(f"{named}: konvlib / PyTorch, geometric mean {statistics.geometric_mean(ratios):.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", action="store_true", help="time konvlib's methods against each other")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--size", type=int, default=1024, help="height and width of the image")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    chosen = parser.parse_args()
    timer = processes.ProcessTimer(budget=chosen.seconds)
    if chosen.methods:
        return harness.run("images_methods", list(own_methods(chosen.size)), timer=timer)
    wrong = harness.run("images_layers_cpu", list(layers(tuple(chosen.batches))), timer=timer)
    print_means("images_layers_cpu", "batch", "threads")
    wrong |= harness.run("images_depthwise_cpu", list(depthwise()), timer=timer)
    print_means("images_depthwise_cpu", "threads")
    return wrong | harness.run("images_cpu", list(one_image(chosen.size)), timer=timer)


def _as_arrays(call: harness.Call) -> harness.Call:
    return lambda: np.asarray(call())


if __name__ == "__main__":
    raise SystemExit(main())
