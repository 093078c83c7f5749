"""What an H100 would need for each row of its benchmarks, by form and tile: predicted, and judged by what was run.

``python -m benchmarks.predicted`` prints a table for each benchmark and how the goals stand; ``--write`` writes
``benchmarks/results/sm_90-predicted.json``. Nothing runs: `benchmarks.forms` says what would be launched,
`benchmarks.machine` how long that takes. Three numbers of the card are fitted to every other row that was measured with
kernels that are as they were; the rows between judge the model, form by form. What is counted at all was chosen with
every row in view, so new kernels may be missed by more.

A table whose kernel changes can no longer be judged by its record: its ``measured`` is None until the card runs it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import forms
from benchmarks.harness import RESULTS
from benchmarks.konvolution_gpu import SHAPES, Shape
from benchmarks.layers_gpu import RESNET50, SEQUENCES, TRANSPOSED, Layer
from benchmarks.machine import CARD, WITHOUT, Card, held_back, seconds

PATH = RESULTS / "sm_90-predicted.json"
DEVICE = "nvidia-h100-80gb-hbm3"
PRODUCT = 781e12
"""Operations a second of a large matrix product, as it was measured on the card."""

GRID = {
    "cache": (40, 44, 48, 52, 56),
    "latency": (800, 1000, 1200, 1400, 1600, 1800, 2000),
    "pause": (50, 100, 150, 200),
}
"""Among which values the fitted numbers of the card are looked for."""


class Table(NamedTuple):
    """A benchmark: its rows, the forms that may serve them, and which of the forms its record was measured with."""

    rows: Sequence[Layer | Shape]
    forms: tuple[Callable[..., Iterator[forms.Form]], ...]
    measured: str | None


FORWARD = (forms.forward_gathered, forms.forward_boxes, forms.forward_runs_of)
BACK = (forms.input_grad_gathered, forms.input_grad_boxes)
HALOS = (forms.konv_halo, forms.konv_beside, partial(forms.konv_halo, share=True))
TABLES = {
    "layers_forward": Table(RESNET50, FORWARD, "gathered"),
    "layers_input_grad": Table(RESNET50, BACK, "gathered"),
    "layers_weight_grad": Table(RESNET50, (forms.weight_grad,), "boxes"),
    "layers_transposed": Table(TRANSPOSED, BACK, "gathered"),
    "layers_sequences_forward": Table(SEQUENCES, FORWARD, "gathered"),
    "konvolution_forward": Table(SHAPES, HALOS, "halo"),
}


def forms_of(table: Table, row: Layer | Shape) -> list[forms.Form]:
    """All forms that serve a row, with all their tiles."""
    given = row if isinstance(row, Shape) else forms.geometry(row)
    return [form for make in table.forms for form in make(given)]


@cache
def record(name: str) -> dict[str, dict[str, Any]]:
    """The rows of a record of the card, by label."""
    content = json.loads((RESULTS / f"{DEVICE}-{name}.json").read_text(encoding="utf-8"))
    return {json.dumps(row["label"]): row for row in content["rows"]}


def row_of(name: str, row: Layer | Shape) -> dict[str, Any]:
    """What was measured of a row."""
    label = row._asdict()
    label |= {"size": "x".join(map(str, row.size))} if isinstance(row, Layer) else {}
    return record(name)[json.dumps(label)]


def measured_forms(name: str, table: Table) -> list[tuple[forms.Form, float]]:
    """The form of each row that its record was measured with, and the seconds that it took."""
    found = []
    for row in table.rows:
        taken = [form for form in forms_of(table, row) if form.name == table.measured]
        if name == "konvolution_forward" and taken:
            shape = forms.geometry(row)
            tile = forms.chosen(f"halo chebyshev tanh {row.degree}", shape)
            taken = [form for form in taken if form.tile == forms.shown(tile)]
        if taken:
            found.append((taken[0], row_of(name, row)["competitors"]["konvlib"]["seconds"]))
    return found


@cache
def halves() -> tuple[dict[str, list[tuple[forms.Form, float]]], dict[str, list[tuple[forms.Form, float]]]]:
    """By benchmark, every other row that was measured, from the first, which are fitted, and the rest, which judge."""
    every = {name: measured_forms(name, table) for name, table in TABLES.items()}
    return {name: rows[::2] for name, rows in every.items()}, {name: rows[1::2] for name, rows in every.items()}


def ratios(rows: Sequence[tuple[forms.Form, float]], card: Card = CARD) -> list[float]:
    """Predicted over measured."""
    return [seconds(form.launches, card) / measured for form, measured in rows]


@cache
def errors() -> dict[Card, dict[str, float]]:
    """By card with values of `GRID`, and by benchmark, by what factor the first half is missed in the mean: its log."""
    cards = [CARD._replace(**dict(zip(GRID, values, strict=True))) for values in itertools.product(*GRID.values())]
    return {
        card: {
            name: statistics.fmean(abs(math.log(ratio)) for ratio in ratios(rows, card))
            for name, rows in halves()[0].items()
        }
        for card in cards
    }


def fitted(without: str = "") -> Card:
    """The card that fits the first half best, each benchmark's rows weighing alike; one of them may be left out.

    Raises ValueError for a benchmark that is none of those which were measured.
    """
    if without and without not in halves()[0]:
        raise ValueError(f"without must be one of {', '.join(halves()[0])}, got {without!r}")

    def missed(card: Card) -> float:
        return statistics.fmean(error for name, error in errors()[card].items() if name != without)

    return min(errors(), key=missed)


def unseen() -> dict[str, dict[str, float]]:
    """As `judged`, of all rows of a benchmark by a card that was fitted to the other benchmarks alone.

    So it is for a form that never ran.
    """
    both = {name: rows + halves()[1][name] for name, rows in halves()[0].items()}
    return {name: _in_short(ratios(rows, fitted(without=name))) for name, rows in both.items()}


def launch_seconds() -> float:
    """What a call takes but for its bytes: copies that were measured beside `im2col`, less their bytes at that rate."""
    rest = []
    for text, row in record("im2col_gpu").items():
        label = json.loads(text)
        size = (label["size"] + 2 * label["padding"] - label["kernel"]) // label["stride"] + 1
        numbers = label["channels"] * (label["size"] ** 2 + label["kernel"] ** 2 * size**2)
        rest.append(row["competitors"]["copy"]["seconds"] - 2 * label["batch"] * numbers / CARD.memory)
    return statistics.median(rest)


def every_ratio() -> dict[str, dict[str, list[float]]]:
    """Predicted over measured by benchmark, of the rows that were fitted and of those that judge."""
    both = zip(("fitted", "judged"), halves(), strict=True)
    each = {what: {name: ratios(rows) for name, rows in half.items()} for what, half in both}
    return {name: {what: [round(r, 3) for r in each[what][name]] for what in each} for name in each["judged"]}


def judged() -> dict[str, dict[str, float]]:
    """Predicted over measured of the half that was not fitted, by benchmark: the median and both ends."""
    return {name: _in_short(ratios(rows)) for name, rows in halves()[1].items()}


def _in_short(each: list[float]) -> dict[str, float]:
    kept = {"rows": len(each), "median": statistics.median(each), "least": min(each), "most": max(each)}
    return {what: round(value, 3) for what, value in kept.items()}


def floor_seconds(name: str, row: Layer | Shape) -> float:
    """The larger of what the products need at the measured rate and the bytes at that of a copy."""
    if isinstance(row, Shape):
        return row_of("konvolution_forward", row)["floor_seconds"]
    each = forms.counts(forms.geometry(row))
    moved = 2 * (each.inputs + each.weights + each.outputs)
    return max(2 * each.pixels * each.weights / PRODUCT, moved / CARD.memory)


def predicted(name: str, row: Layer | Shape, found: list[forms.Form], floor: float | None) -> dict[str, Any]:
    """A row of the table: each form with its best tile, what was measured, and what holds the best form back."""
    best: dict[str, forms.Form] = {}
    for form in sorted(found, key=lambda form: seconds(form.launches)):
        best.setdefault(form.name, form)
    quickest = next(iter(best.values()), None)
    against = {peer: _microseconds(each["seconds"]) for peer, each in row_of(name, row)["competitors"].items()}
    held = {what: _microseconds(lost) for what, lost in held_back(quickest.launches).items()} if quickest else {}
    if floor:
        against |= {"floor": _microseconds(floor), "floor and launches": _microseconds(floor) + held.get("launches", 0)}
    return {
        "benchmark": name,
        "label": list(row),
        "predicted": {form.name: _microseconds(seconds(form.launches)) for form in best.values()},
        "tiles": {form.name: form.tile for form in best.values()},
        "all": [[form.name, form.tile, _microseconds(seconds(form.launches))] for form in found],
        "against": against,
        "held_back": held,
    }


def step(shape: Shape) -> list[forms.Form]:
    """A training step by the quickest forms: forward, the input gradient in columns, that by the coefficients."""
    parts = [
        [form for make in HALOS[:2] for form in make(shape)],
        list(forms.konv_input_grad(shape)),
        list(forms.konv_kappa_grad(shape)),
    ]
    quickest = [min(part, key=lambda form: seconds(form.launches)) for part in parts if part]
    launches = [launch for form in quickest for launch in form.launches]
    names = " + ".join(f"{form.name} {form.tile}" for form in quickest)
    return [forms.Form("step", names, launches)] if len(quickest) == 3 else []


def every_row() -> list[dict[str, Any]]:
    """All rows of all benchmarks, and the training steps."""
    rows = [
        predicted(name, row, forms_of(table, row), floor_seconds(name, row))
        for name, table in TABLES.items()
        for row in table.rows
    ]
    return rows + [predicted("konvolution_step", shape, step(shape), None) for shape in SHAPES]


def goals(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By benchmark the geometric mean, and the worst, of others' times over the quickest form's predicted time.

    The others are the peers, ours as measured last (``konvlib``), the floor, and the floor with what the launches take.
    ``held_back`` is the mean part of the time that would be saved, were one thing of no consequence.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, group in itertools.groupby(rows, key=lambda row: row["benchmark"]):
        served = [row for row in group if row["predicted"]]
        best = [min(row["predicted"].values()) for row in served]
        found[name] = {"rows": len(served)}
        for other in served[0]["against"]:
            each = [row["against"][other] / time for row, time in zip(served, best, strict=True)]
            found[name][other] = [round(statistics.geometric_mean(each), 3), round(min(each), 3)]
        found[name]["held_back"] = {
            what: round(
                statistics.fmean(row["held_back"][what] / time for row, time in zip(served, best, strict=True)), 3
            )
            for what in WITHOUT
        }
    return found


def contents() -> dict[str, Any]:
    """What is kept: the card, how the model was judged, the goals and all rows; times in microseconds."""
    rows, facts = every_row(), {"predicted": True, "card": CARD._asdict(), "ratios": every_ratio()}
    return {**facts, "judged": judged(), "unseen": unseen(), "goals": goals(rows), "rows": rows}


def write(found: dict[str, Any], path: Path = PATH) -> None:
    """Write what is kept, each row on a line of its own."""
    facts = json.dumps({name: value for name, value in found.items() if name != "rows"}, indent=1)
    body = ",\n".join(json.dumps(row) for row in found["rows"])
    path.write_text(f'{facts[:-2]},\n "rows": [\n{body}\n ]\n}}\n', encoding="utf-8")


def report(found: dict[str, Any]) -> str:
    """The tables, how far the model is off, and the goals, as Markdown; times in microseconds."""
    lines = []
    for name, rows in itertools.groupby(found["rows"], key=lambda row: row["benchmark"]):
        lines += [f"\n{name}", "| row | predicted | measured, floor | held back by |", "|---|---|---|---|"]
        for row in rows:
            predicted, against = (
                ", ".join(f"{k} {v:.1f}" for k, v in row[part].items()) for part in ("predicted", "against")
            )
            held = ", ".join(f"{what} {lost:.1f}" for what, lost in list(row["held_back"].items())[:3])
            lines.append(f"| {row['label']} | {predicted} | {against} | {held} |")
    for title in ("judged", "unseen", "goals"):
        lines += [f"\n{title}", *(f"{name}: {each}" for name, each in found[title].items())]
    return "\n".join(lines)


def _microseconds(value: float) -> float:
    return round(1e6 * value, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write {PATH.name}")
    parser.add_argument("--fit", action="store_true", help="say which values of the card fit best")
    chosen = parser.parse_args(arguments)
    if chosen.fit:
        best = fitted()
        print({name: getattr(best, name) for name in GRID}, "launch", launch_seconds())
        return 0
    found = contents()
    print(report(found))
    if chosen.write:
        write(found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
