"""`konvlib.convolve` on a CUDA device, method auto, against `torch.nn.functional.conv1d` with the kernel flipped.

``python -m benchmarks.sequences_gpu`` prints the table and writes the record; without a CUDA device it says so. Both
get the same rows and one kernel for all. ``conv1d`` is called as cheaply as it can be: it pads by its own argument,
and the kernel is flipped once, outside the timing.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Mapping, Sequence

from benchmarks import cuda, harness

ROWS = ((64, 65_536), (8, 480_000), (4_096, 1_024))
TAPS = (3, 16, 63, 255, 1_023, 8_191)
DTYPES = ("float32", "bfloat16", "float16", "complex64")
TOLERANCES = {"float32": 1e-5, "complex64": 1e-5, "float16": 2e-3, "bfloat16": 2e-2}
"""The norm of the error over that of the result: a few hundred roundings of the dtype, as many as conv1d makes too."""


def cases() -> Iterator[harness.Case]:
    for rows, samples in ROWS:
        for taps in TAPS:
            for dtype in DTYPES:
                if taps <= samples:
                    label = {"rows": rows, "samples": samples, "taps": taps, "dtype": dtype}
                    prepare = functools.partial(competitors, rows, samples, taps, dtype)
                    yield harness.Case(label, prepare, TOLERANCES[dtype])


def competitors(rows: int, samples: int, taps: int, dtype: str) -> tuple[Mapping[str, harness.Call], object]:
    import torch

    import konvlib

    generator = torch.Generator("cuda").manual_seed(taps)
    kind = getattr(torch, dtype)
    drawn = kind if kind.is_complex else torch.float32
    f = torch.randn(rows, samples, generator=generator, device="cuda", dtype=drawn).to(kind)
    g = torch.randn(taps, generator=generator, device="cuda", dtype=drawn).to(kind)
    x, w = f[:, None], g.flip(0)[None, None]
    calls = {
        "konvlib": lambda: konvlib.convolve(f, g),
        "conv1d": lambda: torch.nn.functional.conv1d(x, w, padding=taps - 1)[:, 0],
    }
    wide = torch.complex128 if kind.is_complex else torch.float64
    return calls, konvlib.convolve(f.to(wide), g.to(wide), method="fft")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = cuda.given(parser, arguments)
    if not cuda.is_there("sequences_gpu"):
        return 0
    import torch

    # With TF32, torch's default here, conv1d in float32 is too far from the result to be compared.
    torch.backends.cudnn.allow_tf32 = False
    return cuda.run_all({"sequences_gpu": (list(cases()), None)}, chosen)


if __name__ == "__main__":
    raise SystemExit(main())
