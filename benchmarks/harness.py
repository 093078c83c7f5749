"""What every benchmark shares: facts about the machine, timers, checks, one table, one JSON record.

A benchmark is a list of cases. A case is a label (the columns that say what was computed), a function that prepares
its competitors (only then is memory taken), and a tolerance::

    from benchmarks import harness

    def cases():
        for taps in (3, 1023):
            label = {"samples": 65536, "taps": taps}
            yield harness.Case(label, functools.partial(prepare, **label), tolerance=1e-12)

    def prepare(samples, taps):
        f, g = ...
        competitors = {"konvlib": lambda: konvlib.convolve(f, g), "NumPy": lambda: np.convolve(f, g)}
        return competitors, reference      # reference: the right answer, in higher precision where there is one

    if __name__ == "__main__":
        raise SystemExit(harness.run("sequences_cpu", list(cases()), timer=harness.CpuTimer()))

`run` takes the cases in turn. It compares each competitor's result with the reference first, and times only the ones
that agree: no speedup is ever reported on a failed check. The first competitor is ours; a ratio is a competitor's
median time over ours, so that more than 1 means ours is faster. The competitors of a case run interleaved (A B C A B C
...), so that a slow spell of the machine meets all alike; the table gives medians, the record quartiles too. Those with
thread pools of their own take `benchmarks.processes.ProcessTimer`, which gives each a process of its own; those on a
CUDA device take `benchmarks.cuda.GpuTimer`. `run` prints the table, writes
``benchmarks/results/<device>-<benchmark>.json`` and returns an exit status: 1 if one of our own results was wrong. What
raises costs its row, not the record. Where the sources lie without their history, ``BENCHMARKS_COMMIT`` in the
environment says which they are.
"""

from __future__ import annotations

import abc
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results"
LOST = 3
"""The exit status of a run that went no further: its process can compute nothing more, a new one may go on."""

PACKAGES = ("konvlib", "numpy", "scipy", "torch", "triton")

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One row: its label, how to prepare it, and the relative error that passes.

    ``prepare()`` gives the competitors by name, ours first, and the reference that their results are compared with, by
    the norm of the difference over the norm of the reference.
    """

    label: Mapping[str, Any]
    prepare: Callable[[], tuple[Mapping[str, Call], Any]]
    tolerance: float


@dataclass(frozen=True)
class Timing:
    """Seconds per call: the median and the quartiles of ``samples`` measurements, and what else was measured."""

    median: float
    low: float
    high: float
    samples: int
    beside: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, seconds: Sequence[float], **beside: Any) -> Timing:
        low, median, high = statistics.quantiles(
            seconds if len(seconds) > 1 else [*seconds] * 2, n=4, method="inclusive"
        )
        return cls(median, low, high, len(seconds), beside)


class Timer(Protocol):
    """Checks and times the competitors of one case."""

    name: str
    device: str

    def cases(self, cases: Sequence[Case]) -> Sequence[Case]: ...

    def measure(self, case: Case) -> tuple[Mapping[str, float | str], Mapping[str, Timing]]: ...


class InProcess(abc.ABC):
    """A timer whose competitors run in this process; an instance is called to time those that are right."""

    def cases(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The cases to measure: these, each once."""
        return cases

    def measure(self, case: Case) -> tuple[Mapping[str, float | str], Mapping[str, Timing]]:
        """The error, or what was raised, and the time of each competitor that is right."""
        try:
            calls, reference = case.prepare()
        except Exception as error:
            return {"konvlib": message(error)}, {}
        errors = {name: error_of(call, reference) for name, call in calls.items()}
        right = {name: call for name, call in calls.items() if passes(errors[name], case.tolerance)}
        try:
            return errors, self(right) if right else {}
        except Exception as error:
            return dict.fromkeys(calls, message(error)), {}

    def lost(self) -> bool:
        """Whether nothing more can be measured in this process, whatever the case."""
        return False

    @abc.abstractmethod
    def __call__(self, calls: Mapping[str, Call]) -> dict[str, Timing]: ...


class CpuTimer(InProcess):
    """``perf_counter`` around calls of competitors that share one thread pool, or use none.

    A sample is repeated so that it lasts at least ``resolution`` seconds. Each competitor gets at least ``least``
    samples and, between those, ``budget`` seconds in all. Before each sample it is called once more, untimed, so that
    it finds memory and caches as its own calls leave them.
    """

    name = "perf_counter, interleaved"
    device = "cpu"

    def __init__(self, *, budget: float = 0.5, least: int = 5, most: int = 200, resolution: float = 5e-4):
        self.budget, self.least, self.most, self.resolution = budget, least, most, resolution

    def __call__(self, calls: Mapping[str, Call]) -> dict[str, Timing]:
        often = {name: repeats(call, self.resolution) for name, call in calls.items()}
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        begin = time.perf_counter()
        while self._wants_more(len(next(iter(seconds.values()))), time.perf_counter() - begin, len(calls)):
            for name, call in calls.items():
                call()
                seconds[name].append(seconds_per_call(call, often[name]))
        return {name: Timing.of(samples) for name, samples in seconds.items()}

    def _wants_more(self, samples: int, elapsed: float, competitors: int) -> bool:
        return samples < self.least or (samples < self.most and elapsed < self.budget * competitors)


def run(
    benchmark: str,
    cases: Sequence[Case],
    *,
    timer: Timer,
    results: Path = RESULTS,
    beside: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
    resume: bool = False,
    limit: float = math.inf,
) -> int:
    """Check and time all cases, print the table, write the record; 1 if one of our own results was wrong, else 0.

    The record is written again after each case, so that what was measured is kept if the next one falls over. With
    ``resume`` the cases that a record of the same commit has are not measured again. ``beside`` measures further facts
    of a case by its label, which its row keeps. Exits with `LOST` where the device can compute nothing any more, and
    where a case takes more seconds than its ``limit``; either is kept as that row's error.
    """
    about = {"benchmark": benchmark, "timer": timer.name, **facts(timer.device)}
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{slug(about['device'])}-{benchmark}.json"
    asked = timer.cases(cases)
    about["planned"] = len(asked)
    rows: list[dict[str, Any]] = kept(path, about["commit"]) if resume else []
    done = [row["label"] for row in rows]

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")

    for case in tqdm([case for case in asked if dict(case.label) not in done], desc=benchmark, file=sys.stderr):
        with _given_up_after(limit, lambda error, case=case: keep(_row(case, {"konvlib": error}, {}))):
            row = _row(case, *timer.measure(case)) | _beside(beside, case)
        keep(row)
        if isinstance(timer, InProcess) and timer.lost():
            raise SystemExit(LOST)
    print(table(about, rows))
    print(f"record: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")
    return int(any(_ours(row)["seconds"] is None for row in rows))


@contextmanager
def _given_up_after(seconds: float, keep: Callable[[str], None]) -> Iterator[None]:
    """End the process, which may wait for a device for ever, unless the ``with`` block is done by then."""

    def give_up() -> None:
        keep(f"not done after {seconds:.0f} s")
        os._exit(LOST)

    watch = threading.Timer(seconds, give_up) if seconds < math.inf else None
    if watch:
        watch.daemon = True
        watch.start()
    try:
        yield
    finally:
        if watch:
            watch.cancel()


def kept(path: Path, commit: str) -> list[dict[str, Any]]:
    """The rows of a record, if there is one of this commit."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"commit": None}
    return record["rows"] if record["commit"] == commit else []


def _beside(measured: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None, case: Case) -> Mapping[str, Any]:
    try:
        return {} if measured is None else measured(case.label)
    except Exception as error:
        return {"beside": message(error)}


def facts(device: str) -> dict[str, Any]:
    """Which machine, which versions, which commit, when."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "device": _cuda_name() if device == "cuda" else _cpu_name(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": versions,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def relative_error(result: Any, reference: Any) -> float:
    """The norm of the difference over the norm of the reference, in float64; NaN for another shape."""
    if type(result).__module__.startswith("torch"):
        return _relative_error_of_tensors(result, reference)
    result, reference = np.asarray(result), np.asarray(reference)
    if result.shape != reference.shape:
        return math.nan
    wide = np.result_type(result, reference, np.float64)
    scale = np.linalg.norm(reference.astype(wide).ravel())
    return float(np.linalg.norm((result.astype(wide) - reference).ravel()) / (scale or 1.0))


def table(about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: the label, milliseconds per competitor, a ratio per competitor that is not ours."""
    labels = list(dict.fromkeys(key for row in rows for key in row["label"]))
    names = list(dict.fromkeys(name for row in rows for name in row["competitors"]))
    lines = [[*labels, *(f"{name} ms" for name in names), *(f"{name} / {names[0]}" for name in names[1:])]]
    for row in rows:
        times = [_milliseconds(row["competitors"].get(name)) for name in names]
        ratios = ["" if name not in row["ratios"] else f"{row['ratios'][name]:.2f}" for name in names[1:]]
        lines.append([*(str(row["label"].get(key, "")) for key in labels), *times, *ratios])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
    head = f"{about['benchmark']} on {about['device']} ({versions}; commit {about['commit']}; {about['date']})"
    return "\n".join([head, about["timer"], *body])


def slug(text: str) -> str:
    """A name as part of a file name.

    Examples
    --------
    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _row(case: Case, errors: Mapping[str, float | str], timings: Mapping[str, Timing]) -> dict[str, Any]:
    competitors = {
        name: {
            "error": error if isinstance(error, str) or math.isfinite(error) else str(error),
            "seconds": timings[name].median if name in timings else None,
            "quartiles": [timings[name].low, timings[name].high] if name in timings else None,
            "samples": timings[name].samples if name in timings else 0,
            **(timings[name].beside if name in timings else {}),
        }
        for name, error in errors.items()
    }
    return {
        "label": dict(case.label),
        "tolerance": case.tolerance,
        "competitors": competitors,
        "ratios": _ratios(competitors),
    }


def error_of(call: Call, reference: Any) -> float | str:
    try:
        return relative_error(call(), reference)
    except Exception as error:
        return message(error)


def passes(error: float | str, tolerance: float) -> bool:
    return not isinstance(error, str) and error <= tolerance


def message(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def _ratios(competitors: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    ours, *others = competitors
    base = competitors[ours]["seconds"]
    timed = [name for name in others if competitors[name]["seconds"] is not None]
    return {} if base is None else {name: competitors[name]["seconds"] / base for name in timed}


def _ours(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(iter(row["competitors"].values()))


def _milliseconds(competitor: Mapping[str, Any] | None) -> str:
    if competitor is None:
        return ""
    return "WRONG" if competitor["seconds"] is None else f"{competitor['seconds'] * 1e3:.4g}"


def repeats(call: Call, resolution: float = 5e-4) -> int:
    """How many calls last at least so many seconds; calls it twice."""
    call()
    return max(1, math.ceil(resolution / max(seconds_per_call(call, 1), 1e-9)))


def seconds_per_call(call: Call, repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - begin) / repeats


def _relative_error_of_tensors(result: Any, reference: Any) -> float:
    import torch

    if result.shape != reference.shape:
        return math.nan
    wide = torch.complex128 if result.is_complex() or reference.is_complex() else torch.float64
    reference = reference.to(result.device, wide)
    return float(torch.linalg.norm(result.to(wide) - reference) / (torch.linalg.norm(reference) or 1.0))


def _cuda_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    if given := os.environ.get("BENCHMARKS_COMMIT"):
        return given
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
