"""Filters of an image that lies in a Zarr store and fits in no worker: konvlib's against Dask's and SciPy's.

``python -m benchmarks.scale_cpu`` prints the tables and writes the records. Each row reads the image, passes a kernel
of 7 by 7 over it, at stride 1 and 2, and writes the result into another store: by two workers of one thread that may
hold 500 MB each, in processes that end with the row. Rows take turns, ``--rounds`` times. What counts is the time, the
most that one worker held, what workers sent each other, and what was read of the store. A second record holds a chain
of three layers, fused and layer by layer. A result is compared with the first row's before its time counts, and the
first row's with the sum over windows.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy import ndimage
from tqdm import tqdm

from benchmarks import cluster, harness
from benchmarks.cluster import Job, Measured

KERNEL, STRIDES, CHAIN_KERNEL = 7, (1, 2), 5
TOLERANCE = {"scale_cpu": 0.0, "scale_chain_cpu": 1e-6}
"""Filters add up whole numbers, exactly; a chain rounds, in float32."""

WINDOWS = 8
"""How many parts of the first row's result are computed again, and of each how many rows and columns."""


class ClusterTimer:
    """Rows in processes of their own, by turns; ``measured`` runs one."""

    name = "perf_counter around graph, computation and writing, each row in processes of its own, by turns"
    device = "cpu"

    def __init__(self, rounds: int = 3, measured: Callable[[Job], Measured] = cluster.measured) -> None:
        self.rounds, self.measured = rounds, measured

    def cases(self, cases: Sequence[harness.Case]) -> Sequence[harness.Case]:
        return cases

    def measure(self, case: harness.Case) -> tuple[Mapping[str, float | str], Mapping[str, harness.Timing]]:
        """The error, or what was raised, and what was measured of each row that is right."""
        jobs, check = case.prepare()
        errors: dict[str, float | str] = {}
        found: dict[str, list[Measured]] = {}
        turns = [(name, job()) for _ in range(self.rounds) for name, job in jobs.items()]
        for name, job in tqdm(turns, desc=str(dict(case.label)), file=sys.stderr, leave=False):
            if name in errors and not harness.passes(errors[name], case.tolerance):
                continue
            try:
                told = self.measured(job)
                errors.setdefault(name, check(job))
            except Exception as error:
                errors[name] = harness.message(error)
                continue
            finally:
                if name != next(iter(jobs)):
                    cluster.removed(job.target)
            found.setdefault(name, []).append(told)
        cluster.removed(turns[0][1].target)
        right = {name: each for name, each in found.items() if harness.passes(errors[name], case.tolerance)}
        return errors, {name: _timing(each) for name, each in right.items()}


def _timing(found: Sequence[Measured]) -> harness.Timing:
    return harness.Timing.of(
        [each.seconds for each in found],
        peak_bytes=max(each.peak for each in found),
        moved_bytes=statistics.median(each.moved for each in found),
        read_bytes=statistics.median(each.read for each in found),
    )


def prepare(job: Job, rows: Sequence[str]) -> tuple[Mapping[str, Callable[[], Job]], Callable[[Job], float]]:
    """The rows' jobs, and what compares a result: the first with sums over windows, others with the first."""
    jobs = [replace(job, row=row, target=f"{job.target}/{number}") for number, row in enumerate(rows)]
    first = jobs[0]

    def error(done: Job) -> float:
        if done is first:
            return error_in_windows(done)
        return cluster.error_of(done.target, first.target, done.side)

    return {each.row: functools.partial(lambda same: same, each) for each in jobs}, error


def error_in_windows(job: Job) -> float:
    """The relative error in the corners of a result and in random parts of it, by SciPy in float64."""
    x, y = (zarr.open_array(path, mode="r") for path in (job.source, job.target))
    weights = (
        cluster.layers_of(job.kernel) if job.row in cluster.CHAINS else [cluster.filter_of(job.kernel)[None, None]]
    )
    reach, part, size = len(weights) * (job.kernel // 2), min(WINDOWS, *y.shape), y.shape[0]
    ends = np.array([(row, column) for row in (0, size - part) for column in (0, size - part)])
    starts = [*ends, *np.random.default_rng(0).integers(0, size - part + 1, (WINDOWS, 2))]
    squares = np.zeros(2)
    for start in starts:
        low = np.maximum(start * job.stride - reach, 0)
        high = np.minimum((start + part - 1) * job.stride + reach + 1, x.shape)
        seen = x[low[0] : high[0], low[1] : high[1]].astype(np.float64)[None]
        for w in weights:
            seen = np.array([sum([ndimage.correlate(plane, taps, mode="constant")
                                  for plane, taps in zip(seen, each, strict=True)]) for each in w])  # fmt: skip
        first = start * job.stride - low
        wanted = seen[0, first[0] :: job.stride, first[1] :: job.stride][:part, :part]
        ours = y[start[0] : start[0] + part, start[1] : start[1] + part]
        squares += np.square(ours - wanted).sum(), np.square(wanted).sum()
    return float(np.sqrt(squares[0] / (squares[1] or 1.0)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of a record as text, with what was measured beside the time, in MB."""
    lines = [["", "row", "s", "peak MB", "moved MB", "read MB"]]
    for row in rows:
        label = ", ".join(f"{name} {value}" for name, value in row["label"].items())
        for name, found in row["competitors"].items():
            if found["seconds"] is None:
                lines.append([label, name, str(found["error"]), "", "", ""])
                continue
            beside = [f"{found[what] / 1e6:.0f}" for what in ("peak_bytes", "moved_bytes", "read_bytes")]
            lines.append([label, name, f"{found['seconds']:.1f}", *beside])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def run(given: argparse.Namespace, folder: Path, timer: ClusterTimer, results: Path = harness.RESULTS) -> int:
    """Write the image, then measure both tables; 1 if a first row was wrong, else 0."""
    source = str(folder / "image")
    cluster.image(source, given.size, given.chunk)
    job = Job("", source, str(folder / "results"), given.chunk, KERNEL, workers=given.workers, memory=given.memory)
    cases = [
        harness.Case(
            {"kernel": KERNEL, "stride": stride, "size": given.size, "chunk": given.chunk},
            functools.partial(prepare, replace(job, stride=stride), [*cluster.FILTERS, cluster.WHOLE]),
            TOLERANCE["scale_cpu"],
        )
        for stride in STRIDES
    ]
    wrong = measured("scale_cpu", cases, timer, results)
    # A chain has four times the samples between its layers: a smaller image, in smaller chunks, takes as long.
    size, chunk = given.size // 2, given.chunk // 2
    part = str(folder / "part")
    cluster.image(part, size, chunk)
    chained = replace(job, source=part, chunk=chunk, kernel=CHAIN_KERNEL)
    label = {"layers": len(cluster.CHAIN), "kernel": CHAIN_KERNEL, "size": size, "chunk": chunk}
    case = harness.Case(label, functools.partial(prepare, chained, [*cluster.CHAINS]), TOLERANCE["scale_chain_cpu"])
    return wrong or measured("scale_chain_cpu", [case], timer, results)


def measured(benchmark: str, cases: Sequence[harness.Case], timer: ClusterTimer, results: Path) -> int:
    """Run the cases, write the record, and print what it says."""
    wrong = harness.run(benchmark, cases, timer=timer, results=results)
    path = results / f"{harness.slug(harness.facts('cpu')['device'])}-{benchmark}.json"
    print(table(json.loads(path.read_text(encoding="utf-8"))["rows"]))
    return wrong


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=22528, help="height and width of the image (22528: 2.03 GB)")
    parser.add_argument("--chunk", type=int, default=2048, help="height and width of the store's chunks")
    parser.add_argument("--rounds", type=int, default=3, help="how often rows take their turns")
    parser.add_argument("--workers", type=int, default=2, help="how many processes a cluster has")
    parser.add_argument("--memory", default="500MB", help="what one of them may hold")
    parser.add_argument(
        "--folder", type=Path, help="where to keep the stores meanwhile; by default where files are temporary"
    )
    return parser.parse_args(given)


def main() -> int:
    given = arguments()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return run(given, Path(folder), ClusterTimer(given.rounds))


if __name__ == "__main__":
    raise SystemExit(main())
