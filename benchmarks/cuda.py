"""What the benchmarks on a CUDA device share: the timer, and compiling all that they run before they do."""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Call

Beside = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class GpuTimer(harness.InProcess):
    """CUDA events around each call, after a write over a buffer larger than the L2 cache, so that inputs come cold.

    With ``graphs`` each competitor is captured once and its graph is timed: what the device needs, without the time
    that Python needs to launch it. Without, the call is timed as a user makes it; Python then runs ahead of the device
    by the time of the cache flush only, so small problems show their launch overhead.
    """

    device = "cuda"

    def __init__(self, *, graphs: bool = True, budget: float = 0.1, least: int = 10, most: int = 100):
        self.graphs, self.budget, self.least, self.most = graphs, budget, least, most
        self.name = "CUDA events around " + ("graph replays" if graphs else "calls") + ", L2 flushed, interleaved"
        self._flush: Any = None

    def __call__(self, calls: Mapping[str, Call]) -> dict[str, harness.Timing]:
        import torch

        if self._flush is None:
            self._flush = torch.empty(256 * 2**20, dtype=torch.int8, device="cuda")
        ready = {name: self._warm(call) for name, call in calls.items()}
        slowest = max(self._events_around(call)() for call in ready.values())
        rounds = min(self.most, max(self.least, int(self.budget / max(slowest, 1e-9))))
        pending: dict[str, list[Call]] = {name: [] for name in ready}
        for _ in range(rounds):
            for name, call in ready.items():
                pending[name].append(self._events_around(call))
        return {name: harness.Timing.of([elapsed() for elapsed in samples]) for name, samples in pending.items()}

    def lost(self) -> bool:
        """Whether an illegal access or the like has ended the process's context, and with it every later call."""
        import torch

        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def _warm(self, call: Call) -> Call:
        import torch

        for _ in range(3):
            call()
        torch.cuda.synchronize()
        if not self.graphs:
            return call
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = call()
        graph.replay()

        def replay() -> Any:
            graph.replay()
            return kept

        return replay

    def _events_around(self, call: Call) -> Callable[[], float]:
        """Queue one timed call; the function returned waits for it and gives its seconds."""
        import torch

        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self._flush.zero_()
        begin.record()
        call()
        end.record()

        def seconds() -> float:
            end.synchronize()
            return begin.elapsed_time(end) / 1e3

        return seconds


def warm(cases: Sequence[harness.Case], processes: int) -> None:
    """Call all competitors of each case once, in processes side by side, so that what they compile is cached.

    A process that dies instead of raising is waited for for ever: call this in one that may be ended.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, maxtasksperchild=1) as pool:
        failures = [failure for failure in pool.imap_unordered(_called_once, cases, chunksize=1) if failure]
    print("\n".join([f"warmed {len(cases) - len(failures)} of {len(cases)} cases", *failures]), flush=True)


def _called_once(case: harness.Case) -> str:
    try:
        for call in case.prepare()[0].values():
            call()
    except Exception as error:
        return f"{dict(case.label)}: {harness.message(error)}"
    return ""


def is_there(benchmark: str) -> bool:
    """Whether a CUDA device can be measured; says so if not."""
    if importlib.util.find_spec("torch") is None:
        print(f"{benchmark}: torch is not installed, nothing measured")
        return False
    import torch

    if not torch.cuda.is_available():
        print(f"{benchmark}: no CUDA device, nothing measured")
        return False
    return True


def given(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """What a benchmark is asked for: its own arguments, and those of all."""
    parser.add_argument("--choices", type=Path, help="where to keep the tiles and ways that were found quickest")
    parser.add_argument("--warm", type=int, default=0, help="first compile everything, in so many processes")
    parser.add_argument("--warm-only", action="store_true", help="measure nothing")
    parser.add_argument("--resume", action="store_true", help="leave out what the records of this commit have")
    parser.add_argument("--row-limit", type=float, default=300, help="seconds after which a row is given up")
    return parser.parse_args(arguments)


def run_all(tables: Mapping[str, tuple[list[harness.Case], Beside | None]], chosen: argparse.Namespace) -> int:
    """Measure tables by name, each with what is measured beside; 1 if one of our own results was wrong, else 0.

    Where choices are kept, all ways and tiles that there are for a geometry are tried, unless KONVLIB_TUNE says how.
    """
    import torch

    from konvlib.layers import autotune

    torch.backends.cudnn.benchmark = True
    if chosen.choices:
        os.environ.setdefault("KONVLIB_TUNE", "all")
    if chosen.warm:
        warm([case for cases, _ in tables.values() for case in cases], chosen.warm)
    timer, wrong = GpuTimer(graphs=True), 0
    for name, (cases, beside) in {} if chosen.warm_only else tables.items():
        options = {"results": harness.RESULTS, "resume": chosen.resume, "limit": chosen.row_limit}
        wrong |= harness.run(name, cases, timer=timer, beside=beside, **options)
        print(*summary(name), sep="\n", flush=True)
        if chosen.choices:
            autotune.save(chosen.choices)
    return wrong


def summary(name: str, since: float = 0) -> list[str]:
    """How many times faster ours is than each peer, and how near the floor where that is known, from a record.

    Raises FileNotFoundError where no record was written since then.
    """
    path = harness.RESULTS / f"{harness.slug(harness.facts('cuda')['device'])}-{name}.json"
    if not path.exists() or path.stat().st_mtime < since:
        raise FileNotFoundError(f"{path.name} was not written")
    record = json.loads(path.read_text(encoding="utf-8"))
    ratios: dict[str, list[float]] = {}
    for row in record["rows"]:
        for peer, ratio in row["ratios"].items():
            ratios.setdefault(f"{peer} / konvlib", []).append(ratio)
        seconds = row["competitors"]["konvlib"]["seconds"]
        if seconds and "floor_seconds" in row:
            ratios.setdefault("floor / konvlib", []).append(row["floor_seconds"] / seconds)
    wrong = sum(row["competitors"]["konvlib"]["seconds"] is None for row in record["rows"])
    lines = [f"{name}: {len(record['rows'])} of {record['planned']} rows, {wrong} of them wrong"]
    return lines + [
        f"{name}: {what}, mean {statistics.geometric_mean(found):.2f}, worst {min(found):.2f}, {len(found)} rows"
        for what, found in ratios.items()
    ]
