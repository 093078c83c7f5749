"""Competitors timed each in a process of its own, in alternation.

NumPy and SciPy multiply matrices on the threads of OpenBLAS, PyTorch on those of OpenMP. In one process each pool keeps
processors busy while it waits for work, and so slows the other: which of two libraries looks quicker then depends on
which of them waits more patiently. So each competitor has a process to itself. They take turns, with a rest between
turns in which the threads of the last one fall asleep. Each case is measured with all processors, and with one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import harness

POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What a process reads, as it starts, to know how many threads it may have."""


class ProcessTimer:
    """``perf_counter`` around calls, in turns of at least ``budget / turns`` seconds.

    ``threads`` says with how many threads each case is measured; by default with as many as there are processors, then
    with one.
    """

    name = "perf_counter, each competitor in a process of its own, in alternation"
    device = "cpu"

    def __init__(
        self, *, budget: float = 0.4, turns: int = 4, rest: float = 0.04, threads: Sequence[int] | None = None
    ):
        self.budget, self.turns, self.rest = budget, turns, rest
        self.threads = tuple(threads or dict.fromkeys((len(os.sched_getaffinity(0)), 1)))
        self._workers: dict[tuple[int, int], _Worker] = {}

    def cases(self, cases: Sequence[harness.Case]) -> list[harness.Case]:
        """Each case as often as it is measured: the label says with how many threads."""
        return [replace(case, label={**case.label, "threads": n}) for n in self.threads for case in cases]

    def measure(self, case: harness.Case) -> tuple[dict[str, float | str], dict[str, harness.Timing]]:
        """The error, or what was raised, and the time of each competitor that is right."""
        names, error = self._ask(0, case)
        errors: dict[str, float | str] = {names[0]: error}
        for place, name in enumerate(names[1:], start=1):
            errors[name] = self._ask(place, case)[1]
        right = [place for place, name in enumerate(names) if harness.passes(errors[name], case.tolerance)]
        seconds: dict[int, list[float]] = {place: [] for place in right}
        for _ in range(self.turns):
            for place in right:
                try:
                    seconds[place] += self._worker(place, case).ask(self.budget / self.turns)
                except EOFError:
                    return {**errors, names[place]: self._ended(place, case)}, {}
                time.sleep(self.rest)
        return errors, {names[place]: harness.Timing.of(samples) for place, samples in seconds.items()}

    def _ask(self, place: int, case: harness.Case) -> tuple[list[str], float | str]:
        try:
            return self._worker(place, case).ask((case, place))
        except EOFError:
            return ["konvlib"], self._ended(place, case)

    def _ended(self, place: int, case: harness.Case) -> str:
        self._workers.pop((place, case.label["threads"])).end()
        return "the process ended"

    def _worker(self, place: int, case: harness.Case) -> _Worker:
        key = place, case.label["threads"]
        if key not in self._workers:
            self._workers[key] = _Worker(key[1])
        return self._workers[key]


class _Worker:
    """A process that prepares cases, and times one of their competitors when it is asked to."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other,), daemon=True)
        before = {pool: os.environ.get(pool) for pool in POOLS}
        os.environ.update(dict.fromkeys(POOLS, str(threads)))
        try:
            self.process.start()
        finally:
            for pool, value in before.items():
                os.environ.pop(pool) if value is None else os.environ.update({pool: value})
        other.close()

    def ask(self, question: Any) -> Any:
        self.pipe.send(question)
        return self.pipe.recv()

    def end(self) -> None:
        self.pipe.close()
        self.process.join(10)
        self.process.kill()


def _serve(pipe: Connection) -> None:
    call: Any = None
    while True:
        try:
            question = pipe.recv()
        except EOFError:
            return
        if isinstance(question, float):
            pipe.send(_turn(call, question))
        else:
            call = None  # its operands are not needed any more
            call, answer = _prepared(*question)
            pipe.send(answer)


def _prepared(case: harness.Case, place: int) -> tuple[harness.Call | None, tuple[list[str], float | str]]:
    try:
        calls, reference = case.prepare()
    except Exception as error:
        return None, (["konvlib"], harness.message(error))
    call = list(calls.values())[place]
    return call, (list(calls), harness.error_of(call, reference))


def _turn(call: harness.Call, budget: float) -> list[float]:
    """Seconds per call, for as long as the budget lasts; the first call finds its caches and is not counted."""
    repeats, seconds = harness.repeats(call), []
    begin = time.perf_counter()
    while not seconds or time.perf_counter() - begin < budget:
        seconds.append(harness.seconds_per_call(call, repeats))
    return seconds
