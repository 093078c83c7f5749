"""The records of benchmarks/results, for those who show them: which there are, and what they say in short.

A record is what `benchmarks.harness.run` wrote: one benchmark on one device. Of several of one benchmark and device
only the newest counts. Runs of the tests on a CUDA device leave records of their own, which `device_tests` reads. What
is known of kernels without a device stands in a table that `benchmarks.offline` writes and `offline` reads; what they
would need on one, by `benchmarks.predicted`, `predicted` reads.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness import RESULTS
from konvlib import figures


@dataclass(frozen=True)
class Record:
    """One benchmark on one device: the facts about the run, and its rows as the harness wrote them."""

    benchmark: str
    device: str
    timer: str
    versions: dict[str, str]
    commit: str
    date: str
    rows: list[dict[str, Any]]
    figures: dict[str, Any] = field(default_factory=dict)
    """What was measured beside the rows, by name."""

    @property
    def on_gpu(self) -> bool:
        """Whether a CUDA device ran it."""
        return self.timer.startswith("CUDA")

    @property
    def ours(self) -> str:
        """The competitor that the ratios are relative to."""
        return next(iter(self.rows[0]["competitors"]))

    @property
    def wrong(self) -> int:
        """How many rows have no time of ours, because the result was wrong."""
        return sum(row["competitors"][next(iter(row["competitors"]))]["seconds"] is None for row in self.rows)

    def by_threads(self) -> list[tuple[int | None, Record]]:
        """The record of each number of threads that its cases were measured with; None where they do not say."""
        rows: dict[int | None, list[dict[str, Any]]] = {}
        for row in self.rows:
            rows.setdefault(row["label"].get("threads"), []).append(row)
        return [(threads, replace(self, rows=part)) for threads, part in rows.items()]

    def ratios(self) -> dict[str, list[float]]:
        """Each peer's time over ours, case by case; more than 1 means that ours is quicker."""
        peers = dict.fromkeys(peer for row in self.rows for peer in row["ratios"])
        return {peer: [row["ratios"][peer] for row in self.rows if peer in row["ratios"]] for peer in peers}


def read(folder: Path = RESULTS) -> list[Record]:
    """Return the newest record of each benchmark on each device, by device and benchmark."""
    newest: dict[tuple[str, str], Record] = {}
    for record in _benchmarks(folder):
        key = record.device, record.benchmark
        if key not in newest or newest[key].date < record.date:
            newest[key] = record
    return [newest[key] for key in sorted(newest)]


def device_tests(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Return the newest run of the tests on each CUDA device: its facts, and how many tests had which outcome."""
    newest: dict[str, dict[str, Any]] = {}
    for run in _contents(folder):
        if "tests" in run and ("rows" not in run) and newest.get(run["device"], run)["date"] <= run["date"]:
            newest[run["device"]] = run
    outcomes = ("passed", "failed", "error", "skipped")
    return [
        {**run, "counts": {name: sum(file.get(name, 0) for file in run["files"].values()) for name in outcomes}}
        for _, run in sorted(newest.items())
    ]


def offline(path: Path = RESULTS / "sm_90-offline.json") -> dict[str, Any]:
    """Return what is known of the kernels without a device: ``rows`` by name, ``launches`` by call, the compiler."""
    table = json.loads(path.read_text(encoding="utf-8"))
    return {**table, "rows": {row["name"]: row for row in table["rows"]}}


def predicted(path: Path = RESULTS / "sm_90-predicted.json") -> dict[str, Any]:
    """Return what `benchmarks.predicted` reckoned: no time of it was measured."""
    return json.loads(path.read_text(encoding="utf-8"))


def report(records: list[Record]) -> str:
    """Return, as Markdown, the versions on each device, and a table for each run: each peer of each record.

    A run is a commit and a day. Ratios below 1, where the peer is quicker, are bold.
    """
    devices = dict.fromkeys(record.device for record in records)
    return "\n\n".join(_device([record for record in records if record.device == device]) for device in devices)


def chart(records: list[Record]) -> Figure:
    """Return a chart with a line for each peer of each record: a dot for each case's ratio, a bar for their mean.

    A ratio is the peer's time over ours, on a logarithmic axis, with a line at 1; the mean is the geometric one.
    """
    lines = [(record, peer, ratios) for record in records for peer, ratios in record.ratios().items()]
    figure, axes = figures.panels(height=0.7 + 0.26 * len(lines))
    ax = axes[0, 0]
    for place, (_, _, ratios) in enumerate(lines):
        ax.semilogx(ratios, [place] * len(ratios), "o", color="#777777", markersize=4, alpha=0.5)
        mean = statistics.geometric_mean(ratios)
        ax.semilogx([mean], [place], "|", color=figures.INK, markersize=12, markeredgewidth=2)
    ax.axvline(1, color=figures.INK, linewidth=1)
    names = [f"{record.benchmark.replace('_', ' ')}: {peer}" for record, peer, _ in lines]
    ax.set_yticks(range(len(lines)), names, fontsize=9)
    ax.set(xlabel="peer's time / ours", ylim=(len(lines) - 0.4, -0.6))
    return figure


def overhead(record: Record) -> str:
    """Return what a record of `benchmarks.overhead_cpu` says, as Markdown: calls, then figures, losses and wins."""
    lines = ["| call | gradients | peer | ours, µs | theirs, µs | extra, µs |", "|---|---|---|--:|--:|--:|"]
    slower, extras = 0, []
    for row in record.rows:
        label, times = row["label"], {name: each["seconds"] for name, each in row["competitors"].items()}
        (_, ours), (peer, theirs) = times.items()
        if ours is None or theirs is None:
            continue
        slower += ours > theirs
        extras.append(ours - theirs)
        gradients = {True: "yes", False: "no"}.get(label.get("requires_grad"), "")
        extra = _marked(_microseconds(ours - theirs), ours > theirs)
        times = f"{_microseconds(ours)} | {_microseconds(theirs)} | {extra}"
        lines.append(f"| {label['call']} | {gradients} | {peer} | {times} |")
    quicker = len(extras) - slower
    lines += ["", f"Of {len(extras)} cases ours is slower in {slower} and quicker in {quicker}.", ""]
    for name, figure in record.figures.items():
        parts = figure.items() if isinstance(figure, dict) else [("", figure)]
        shown = ", ".join(f"{part} {value:.3g}".strip() for part, value in parts)
        lines.append(f"- {name}: {shown}")
    return "\n".join(lines)


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.1f}".replace("-", "\N{MINUS SIGN}")


def _marked(value: str, loss: bool) -> str:
    return f"**{value}**" if loss else value


def _device(records: list[Record]) -> str:
    versions: dict[str, dict[str, None]] = {}
    for record in records:
        for package, version in record.versions.items():
            versions.setdefault(package, {})[version] = None
    listed = ", ".join(f"{package} {' and '.join(found)}" for package, found in versions.items())
    runs: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda each: each.date):
        commit, _, state = record.commit.partition("-")
        run = f"Commit `{commit[:7]}`{' with changes' if state else ''}, {record.date[:10]}:"
        runs.setdefault(run, []).append(record)
    tables = [f"{run}\n\n{_table(part)}" for run, part in runs.items()]
    return "\n\n".join([f"**{records[0].device}**: {listed}.", *tables])


def _table(records: list[Record]) -> str:
    lines = ["| benchmark | against | cases | slower | mean | least | most |", "|---|---|--:|--:|--:|--:|--:|"]
    for record in sorted(records, key=lambda each: each.benchmark):
        ours = "" if record.ours == "konvlib" else f" ({record.ours})"
        for threads, part in record.by_threads():
            alone = {None: "", 1: ", one thread"}.get(threads, f", {threads} threads")
            for peer, ratios in part.ratios().items():
                values = (statistics.geometric_mean(ratios), min(ratios), max(ratios))
                shown = " | ".join(_marked(f"{value:.2f}", value < 1) for value in values)
                slower = sum(ratio < 1 for ratio in ratios)
                what = f"{record.benchmark.replace('_', ' ')}{ours}{alone} | {peer} | {len(ratios)} | {slower}"
                lines.append(f"| {what} | {shown} |")
    return "\n".join(lines)


def _contents(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _benchmarks(folder: Path) -> Iterator[Record]:
    fields = Record.__dataclass_fields__.values()
    for content in _contents(folder):
        if "benchmark" in content and content["rows"]:
            yield Record(**{each.name: content[each.name] for each in fields if each.name in content})
