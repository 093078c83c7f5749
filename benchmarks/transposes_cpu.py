"""`konvlib.conv_transpose2d` by phases on layers of stride 2, against zero insertion, scattering and PyTorch.

``python -m benchmarks.transposes_cpu`` prints the table and writes the record.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmarks import harness, processes
from konvlib import transposes

LAYERS = (
    ("DCGAN", 1024, 512, 4, 4, 1, 0),
    ("DCGAN", 512, 256, 8, 4, 1, 0),
    ("DCGAN", 256, 128, 16, 4, 1, 0),
    ("DCGAN", 128, 3, 32, 4, 1, 0),
    ("U-Net", 512, 256, 16, 3, 1, 1),
    ("U-Net", 256, 128, 32, 3, 1, 1),
    ("U-Net", 128, 64, 64, 3, 1, 1),
    ("U-Net", 128, 64, 64, 2, 0, 0),
)
"""Name, channels in and out, size, kernel, padding and output padding; each doubles height and width."""


def cases(batches: tuple[int, ...]) -> Iterator[harness.Case]:
    for batch in batches:
        for name, *row in LAYERS:
            label = dict(zip(("in", "out", "size", "kernel", "padding", "output_padding"), row, strict=True))
            prepare = functools.partial(layer, batch, *row)
            yield harness.Case({"layer": name, "batch": batch, **label}, prepare, tolerance=1e-5)


def layer(
    batch: int, inputs: int, outputs: int, size: int, kernel: int, padding: int, output_padding: int
) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    rng = np.random.default_rng([batch, inputs, size, kernel])
    x = rng.standard_normal((batch, inputs, size, size)).astype(np.float32)
    w = rng.standard_normal((inputs, outputs, kernel, kernel)).astype(np.float32)
    options = {"stride": 2, "padding": padding, "output_padding": output_padding}
    tensors = torch.from_numpy(x), torch.from_numpy(w)
    calls = {
        "konvlib": lambda: transposes.conv_transpose2d(x, w, **options),
        "zero insertion": lambda: transposes.conv_transpose_by_zero_insertion(x, w, **options),
        "scattering": lambda: transposes.conv_transpose_by_scattering(x, w, **options),
        "PyTorch": lambda: torch.nn.functional.conv_transpose2d(*tensors, **options).numpy(),
    }
    return calls, torch.nn.functional.conv_transpose2d(*(tensor.double() for tensor in tensors), **options).numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each competitor of a case")
    chosen = parser.parse_args()
    timer = processes.ProcessTimer(budget=chosen.seconds)
    return harness.run("transposes_cpu", list(cases(tuple(chosen.batches))), timer=timer)


if __name__ == "__main__":
    raise SystemExit(main())
