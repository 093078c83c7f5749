"""Everything that is to be seen on an NVIDIA H100, in parts that each fit into minutes: first right, then how quick.

``python -m benchmarks.card --minutes 9 --part 1`` needs no network and no environment of its own: torch, Triton, pytest
and a compiler for C are enough. ``--commit`` or ``BENCHMARKS_COMMIT`` says which sources these are, where there is no
``.git``. The parts are

1. Konvolution: its kernels' tests, then the tables of forward and of a training step;
2. layers: their kernels' tests, then forward, input gradient, weight gradient and transposed;
3. all other tests, with a record of what passed, then depthwise layers, layers on one axis, im2col and sequences.

Every test and every table is a process of its own that ends at a limit, and what does not fit into the minutes is left
out and named, so a call returns in time. Rows are written as they are measured; where one ends the device's context, a
new process goes on after it. At the end there is a summary of every table against its peers and the floor, and
``--out`` (or ``OUT`` in the environment) has the records, the choices of tiles and what was printed, in one archive
that is written again after every step. All processors compile before a table is measured.

What comes back belongs into ``benchmarks/results`` and ``konvlib/layers/choices``, and the pages made from records are
run again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from benchmarks import cuda, harness

ROOT = Path(__file__).parents[1]
PYTHON = (sys.executable,)
LEAST = 15.0
"""Seconds without which a step is not begun; so many are kept for the summary too."""

ROW = 60.0
"""Seconds after which a row of a table is given up, and a new process goes on after it."""

UNTUNED = (("KONVLIB_TUNE", "0"),)
"""Tests have many geometries: none is worth timing tiles for."""

TESTS = {
    1: ("test_konvolution", "test_halo", "test_preparation", "test_polynomial"),
    2: ("test_layers", "test_depthwise", "test_weight_grad", "test_input_grad", "test_forward"),
}
"""How the files of tests begin whose kernels a part measures; part 3 runs all others."""

OFFLINE = ("test_offline", "test_card", "test_sanitizer", "mutants")
"""Tests that are not for a card, or run alone."""

LIMITS = {"tests": 150.0, "rest of the tests": 270.0, "warm": 100.0, "sanitizer": 60.0}


class Step(NamedTuple):
    """A process: what it is called, what Python runs, the seconds it may take, the records that it writes."""

    name: str
    arguments: tuple[str, ...]
    limit: float
    records: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def steps(part: int, processes: int, choices: Path) -> list[Step]:
    """Return the steps of a part, in order."""
    if part == 1:
        tables = [_table("konvolution_gpu", name, f"konvolution_{name}", 150) for name in ("forward", "step")]
    elif part == 2:
        names = ("forward", "input_grad", "weight_grad", "transposed")
        tables = [_table("layers_gpu", name, f"layers_{name}", 110) for name in names]
    else:
        names = [f"depthwise_{what}" for what in ("forward", "input_grad", "weight_grad")]
        tables = [_table("layers_gpu", name, f"layers_{name}", 60) for name in (*names, "sequences_forward")]
        tables += [_table("layers_gpu", "im2col", "im2col_gpu", 40), _table("sequences_gpu", "", "sequences_gpu", 90)]
    found = [_tests(part, processes)]
    for table in tables:
        arguments = (*table.arguments, "--choices", str(choices))
        warm = (*arguments, "--warm", str(processes), "--warm-only")
        found += [Step(f"warm {table.name}", warm, LIMITS["warm"]), table._replace(arguments=arguments)]
    if part == 3:
        found.append(Step("sanitizer", ("-m", "pytest", "-q", "tests/kernels/test_sanitizer.py"), LIMITS["sanitizer"]))
    return found


def _table(module: str, name: str, record: str, limit: float) -> Step:
    chosen = (*(("--tables", name) if name else ()), "--row-limit", f"{ROW:.0f}")
    return Step(record, ("-m", f"benchmarks.{module}", *chosen), limit, (record,))


def _tests(part: int, processes: int) -> Step:
    """pytest on a part's files, side by side where there is xdist, each test with a limit where there is one."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests" / "kernels").glob("test_*.py"))
    files = [file for file in files if not any(word in file for word in OFFLINE)]
    named = {file for file in files for names in TESTS.values() if Path(file).name.startswith(names)}
    options = ["-q", "-m", "not slow", "-p", "no:cacheprovider"]
    options += ["-n", str(processes)] if importlib.util.find_spec("xdist") else []
    options += ["--timeout", "120"] if importlib.util.find_spec("pytest_timeout") else []
    if part in TESTS:
        wanted = [file for file in files if Path(file).name.startswith(TESTS[part])]
        return Step(f"tests of part {part}", ("-m", "pytest", *options, *wanted), LIMITS["tests"], (), UNTUNED)
    wanted = ["--record", "tests/engine", *(file for file in files if file not in named)]
    return Step("rest of the tests", ("-m", "pytest", *options, *wanted), LIMITS["rest of the tests"], (), UNTUNED)


class Run:
    """Runs steps one after the other until the time is over, and keeps what they print and write."""

    def __init__(self, end: float, out: Path, part: int, choices: Path):
        self.end, self.out, self.part, self.choices = end, out, part, choices
        self.logs = out / f"card-part{part}"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.begin = time.time()
        self.outcomes: dict[str, str] = {}

    def left(self) -> float:
        return self.end - time.monotonic() - LEAST

    def step(self, step: Step) -> None:
        """Run one step, and again after what ended its context; what it raises is no more than its outcome."""
        try:
            outcome = self._attempt(step, step.arguments)
            while outcome == harness.LOST and self.left() >= LEAST:
                print(f"{step.name}: the device's context was lost, a new process goes on", flush=True)
                outcome = self._attempt(step, (*step.arguments, "--resume"))
        except Exception as error:
            outcome = harness.message(error)
        self.outcomes[step.name] = outcome if isinstance(outcome, str) else f"exit status {outcome}"
        print(f"== {step.name}: {self.outcomes[step.name]}, {self.left():.0f} s left", flush=True)
        self.keep()

    def _attempt(self, step: Step, arguments: Sequence[str]) -> int | str:
        limit = min(step.limit, self.left())
        if limit < LEAST:
            return "left out: no time"
        print(f"== {step.name}: at most {limit:.0f} s", flush=True)
        with (self.logs / f"{step.name.replace(' ', '_')}.log").open("a", encoding="utf-8") as log:
            return ended_within(limit, [*PYTHON, *arguments], log, dict(step.environment))

    def keep(self) -> None:
        """Write the archive: what was printed, the choices, and the records of this run."""
        records = [path for path in harness.RESULTS.glob("*.json") if path.stat().st_mtime >= self.begin]
        draft = self.out / f"card-part{self.part}.part"
        with tarfile.open(draft, "w:gz") as archive:
            archive.add(self.logs, self.logs.name)
            for path in [*records, *([self.choices] if self.choices.exists() else [])]:
                archive.add(path, path.name)
        os.replace(draft, self.out / f"card-part{self.part}.tgz")


def ended_within(limit: float, command: Sequence[str], log: IO[str], environment: Mapping[str, str]) -> int | str:
    """Run a command, print and keep what it prints; after ``limit`` seconds it and all that it started are ended."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **environment},
        start_new_session=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=_copied, args=(process.stdout, log), daemon=True)
    reader.start()
    try:
        outcome: int | str = process.wait(limit)
    except subprocess.TimeoutExpired:
        outcome = f"ended at its limit of {limit:.0f} s"
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started goes with it
    process.wait()
    reader.join(5)
    return outcome


def _copied(lines: IO[str], log: IO[str]) -> None:
    for line in lines:
        print(line, end="", flush=True)
        log.write(line)
        log.flush()


def summary(run: Run, wanted: Sequence[Step]) -> list[str]:
    """Each step's outcome, then each table against its peers and the floor."""
    lines = [f"{step.name}: {run.outcomes.get(step.name, 'left out')}" for step in wanted]
    for name in [name for step in wanted for name in step.records]:
        try:
            lines += cuda.summary(name, since=run.begin)
        except Exception as error:
            lines.append(f"{name}: no record ({harness.message(error)})")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9, help="when the call is over, whatever was done")
    parser.add_argument("--part", type=int, choices=(1, 2, 3), required=True)
    parser.add_argument("--commit", help="which sources these are, where their history is not at hand")
    parser.add_argument(
        "--out", type=Path, default=Path(os.environ.get("OUT", "card")), help="a folder for the archive"
    )
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 1) - 2))
    chosen = parser.parse_args(arguments)
    end = time.monotonic() + 60 * chosen.minutes
    if not cuda.is_there("card"):
        return 0
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    if chosen.commit:
        os.environ["BENCHMARKS_COMMIT"] = chosen.commit
    chosen.out.mkdir(parents=True, exist_ok=True)
    choices = chosen.out / f"choices-part{chosen.part}.json"
    run, wanted = Run(end, chosen.out, chosen.part, choices), steps(chosen.part, chosen.processes, choices)
    facts = harness.facts("cuda")
    print(f"part {chosen.part} on {facts['device']}, commit {facts['commit']}, {facts['versions']}", flush=True)
    for step in wanted:
        run.step(step)
    lines = summary(run, wanted)
    print("\n".join(["", "== summary", *lines]), flush=True)
    (run.logs / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run.keep()
    return int(any(outcome != "exit status 0" for outcome in run.outcomes.values()))


if __name__ == "__main__":
    raise SystemExit(main())
