"""Two processes, each on a strip of one image, against one process on all of it: a training step of a few layers.

``python -m benchmarks.strips_cpu`` prints the table and writes the record. Each process has one thread. Forward and
backward of three convolutions of 1,536 squared samples, with kernels of 3, 5 and 7; what counts is the time, and what a
rank sends to the other, against what it holds as inputs of its layers. Both take turns, in processes that end with the
turn, and are compared with one process in float64 before their times count.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn
from tqdm import tqdm

from benchmarks import harness
from benchmarks.processes import POOLS
from konvlib.scale import strips

KERNELS = (3, 5, 7)
CHANNELS = (1, 8, 8, 1)
TOLERANCE = 5e-4
"""Gradients by weights add up 2.4 million products in float32: its rounding, 6e-8, times the root of that is 1e-4."""

SECONDS = 600
"""How long ranks wait for each other."""


@dataclass(frozen=True)
class Job:
    """A training step: on how many ranks, of what, how often."""

    ranks: int
    size: int
    kernel: int
    calls: int
    folder: str
    dtype: torch.dtype = torch.float32


def network(job: Job) -> list[nn.Module]:
    """The layers, the same on each rank."""
    torch.manual_seed(0)
    pairs = pairwise(CHANNELS)
    return [nn.Conv2d(into, out, job.kernel, padding=job.kernel // 2).to(job.dtype) for into, out in pairs]


def measured(job: Job) -> dict[str, Any]:
    """Run a step on ranks that are new, and return what the first of them kept, with all results in one."""
    before = {pool: os.environ.get(pool) for pool in POOLS}
    os.environ.update(dict.fromkeys(POOLS, "1"))
    try:
        with tempfile.TemporaryDirectory(dir=job.folder) as folder:
            spawn(_rank, args=(replace(job, folder=folder),), nprocs=job.ranks)
            found = [torch.load(f"{folder}/{rank}") for rank in range(job.ranks)]
    finally:
        for pool, value in before.items():
            os.environ.pop(pool) if value is None else os.environ.update({pool: value})
    result = [torch.cat([each["y"] for each in found], 2), *found[0]["gradients"]]
    return {**found[0], "result": torch.cat([part.flatten().double() / part.norm() for part in result])}


def _rank(rank: int, job: Job) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{job.folder}/store", job.ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=job.ranks, timeout=timedelta(seconds=SECONDS))
    bounds = [job.size * part // job.ranks for part in range(job.ranks + 1)]
    rows, columns = (torch.arange(*ends).double() for ends in (bounds[rank : rank + 2], (0, job.size)))
    x = (torch.sin(rows / 3).reshape(1, 1, -1, 1) * torch.cos(columns / 4)).to(job.dtype)
    layers, sent, held, seconds = network(job), [0], 0, []
    _counted(sent, rank)
    for _ in range(job.calls + 1):
        for layer in layers:
            layer.zero_grad()
        sent[0], held = 0, 0
        dist.barrier()
        begin, y, at = time.perf_counter(), x, bounds
        for layer in layers:
            held += y.nbytes
            y, at = (layer(y), at) if job.ranks == 1 else strips(layer, y, at)
            y = y if layer is layers[-1] else torch.relu(y)
        (y.square().sum() / job.size**2).backward()
        dist.barrier()
        seconds.append(time.perf_counter() - begin)
    gradients = [parameter.grad for layer in layers for parameter in layer.parameters()]
    kept = {"y": y.detach(), "gradients": gradients, "seconds": seconds[1:], "sent": sent[0], "held": held}
    torch.save(kept, f"{job.folder}/{rank}")
    dist.barrier()
    os._exit(0)  # to take the group apart may wait for a thread of gloo that waits for Python


def _counted(sent: list[int], rank: int) -> None:
    """Count the bytes that this rank gives to others: halos, and the slopes that it adds to theirs."""
    exchange, add = dist.all_to_all_single, dist.all_reduce

    def counted_exchange(got: Any, given: Any, come: Any, to: Any, **options: Any) -> Any:
        sent[0] += given.itemsize * (sum(to) - to[rank])
        return exchange(got, given, come, to, **options)

    def counted_add(tensor: Any, *rest: Any, **options: Any) -> Any:
        sent[0] += tensor.nbytes
        return add(tensor, *rest, **options)

    dist.all_to_all_single, dist.all_reduce = counted_exchange, counted_add


class StripsTimer:
    """Competitors in processes of their own, by turns."""

    name = "perf_counter between barriers, each competitor in processes of its own of one thread, by turns"
    device = "cpu"

    def __init__(self, rounds: int = 5) -> None:
        self.rounds = rounds

    def cases(self, cases: Sequence[harness.Case]) -> Sequence[harness.Case]:
        return cases

    def measure(self, case: harness.Case) -> tuple[Mapping[str, float | str], Mapping[str, harness.Timing]]:
        """The error, or what was raised, and the time of each competitor that is right."""
        errors: dict[str, float | str] = {}
        found: dict[str, list[dict[str, Any]]] = {}
        calls, reference = case.prepare()
        turns = [name for _ in range(self.rounds) for name in calls]
        for name in tqdm(turns, desc=str(dict(case.label)), file=sys.stderr, leave=False):
            if name in errors and not harness.passes(errors[name], case.tolerance):
                continue
            try:
                told = calls[name]()
                errors.setdefault(name, harness.relative_error(told["result"], reference))
            except Exception as error:
                errors[name] = harness.message(error)
                continue
            found.setdefault(name, []).append(told)
        right = {name: each for name, each in found.items() if harness.passes(errors[name], case.tolerance)}
        return errors, {name: _timing(each) for name, each in right.items()}


def _timing(found: Sequence[dict[str, Any]]) -> harness.Timing:
    seconds = [second for each in found for second in each["seconds"]]
    sent, held = (statistics.median(each[what] for each in found) for what in ("sent", "held"))
    return harness.Timing.of(seconds, sent_bytes=sent, held_bytes=held)


def prepare(job: Job) -> tuple[Mapping[str, Callable[[], dict[str, Any]]], torch.Tensor]:
    alone = replace(job, ranks=1)
    reference = measured(replace(alone, dtype=torch.float64, calls=0))["result"]
    return {"strips": functools.partial(measured, job), "one process": functools.partial(measured, alone)}, reference


def cases(given: argparse.Namespace, folder: str) -> Iterator[harness.Case]:
    for kernel in given.kernels:
        label = {"size": given.size, "kernel": kernel, "ranks": given.ranks}
        job = Job(given.ranks, given.size, kernel, given.calls, folder)
        yield harness.Case(label, functools.partial(prepare, job), TOLERANCE)


def main(arguments: Sequence[str] | None = None, results: Path = harness.RESULTS) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1536, help="height and width of the image")
    parser.add_argument("--kernels", type=int, nargs="+", default=KERNELS, help="the kernels' sizes")
    parser.add_argument("--ranks", type=int, default=2, help="how many processes share it")
    parser.add_argument("--rounds", type=int, default=5, help="how often competitors take their turns")
    parser.add_argument("--calls", type=int, default=3, help="timed steps in a turn, after one that is not")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = list(cases(given, folder))
        wrong = harness.run("strips_cpu", found, timer=StripsTimer(given.rounds), results=results)
    path = results / f"{harness.slug(harness.facts('cpu')['device'])}-strips_cpu.json"
    print(summary(json.loads(path.read_text(encoding="utf-8"))["rows"]))
    return wrong


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the rows of a record come to: shares of the time and of the bytes."""
    lines = []
    for row in rows:
        ours, share = row["competitors"]["strips"], row["ratios"].get("one process")
        if ours["seconds"] is not None and share is not None:
            sent, held = ours["sent_bytes"], ours["held_bytes"]
            lines.append(
                f"kernel {row['label']['kernel']}: {1 / share:.3f} of one process's time; a rank sends "
                f"{sent / 1e3:.0f} kB and holds {held / 1e6:.1f} MB, of which that is {sent / held:.2%}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
