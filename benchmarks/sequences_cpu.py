"""`konvlib.convolve` on arrays, method auto, against the routines it chooses among, on a grid of sizes.

``python -m benchmarks.sequences_cpu`` prints the table and writes the record; ``--methods`` times konvlib's own methods
against each other instead, which is what the rule in `konvlib.sequences.arrays.choose_method` was fitted to.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import signal

import konvlib
from benchmarks import harness
from konvlib import geometry

LENGTHS = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
MOST_PRODUCTS = 300_000_000
"""The direct sum is left out above this many products, about a tenth of a second, where it is far behind."""


def cases(prepare: Callable[..., Any], modes: tuple[str, ...]) -> Iterator[harness.Case]:
    for mode in modes:
        for n in LENGTHS:
            for m in LENGTHS:
                if m <= n:
                    label = {"n": n, "m": m, "mode": mode}
                    yield harness.Case(label, functools.partial(prepare, n, m, mode), tolerance=1e-12)


def against_peers(n: int, m: int, mode: str) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    f, g = sequences(n, m)
    calls = {
        "konvlib": lambda: konvlib.convolve(f, g, mode=mode),
        "numpy.convolve": lambda: np.convolve(f, g, mode),
        "fftconvolve": lambda: signal.fftconvolve(f, g, mode),
        "oaconvolve": lambda: signal.oaconvolve(f, g, mode),
    }
    if n * m > MOST_PRODUCTS:
        del calls["numpy.convolve"]
    return calls, reference(f, g, mode)


def own_methods(n: int, m: int, mode: str) -> tuple[Mapping[str, harness.Call], np.ndarray]:
    f, g = sequences(n, m)
    methods = [method for method in geometry.METHODS if method != "direct" or n * m <= MOST_PRODUCTS]
    calls = {method: functools.partial(konvlib.convolve, f, g, mode=mode, method=method) for method in methods}
    return calls, reference(f, g, mode)


def sequences(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([n, m])
    return rng.standard_normal(n), rng.standard_normal(m)


def reference(f: np.ndarray, g: np.ndarray, mode: str) -> np.ndarray:
    """The direct sum; where that takes too long, the transform in extended precision."""
    if f.size * g.size <= MOST_PRODUCTS:
        return np.convolve(f, g, mode)
    return signal.fftconvolve(f.astype(np.longdouble), g.astype(np.longdouble), mode).astype(np.float64)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", action="store_true", help="time konvlib's methods against each other")
    parser.add_argument("--modes", nargs="+", default=["full"], choices=geometry.MODES)
    parser.add_argument("--seconds", type=float, default=0.3, help="for each competitor of a case")
    chosen = parser.parse_args()
    name, prepare = ("methods", own_methods) if chosen.methods else ("sequences_cpu", against_peers)
    timer = harness.CpuTimer(budget=chosen.seconds)
    return harness.run(name, list(cases(prepare, tuple(chosen.modes))), timer=timer)


if __name__ == "__main__":
    raise SystemExit(main())
