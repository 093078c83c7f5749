"""A layer and its transpose, on one axis and on two."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import conv1d, conv_transpose1d, conv_transpose2d, overlap_counts
from tests.explore.cases import accepted

SOLUTIONS = {"back": "y.1.3.2*p0.1*p1.1*rho.1", "flat": "y.1.1.1.1*w.1.2.1"}
REFUSALS = [
    {"rho": 2},
    {"d": 3, "rho": 3},
    {"y": [1], "p0": 2, "p1": 1},
    {"view": "image", "rho": 2},
    {"view": "image", "image": [[1, 3]], "p0": 1, "p1": 2},
]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(least: int, most: int) -> list[int]:
        return [random.randint(-9, 9) for _ in range(random.randint(least, most))]

    def table() -> list[list[int]]:
        rows, columns = random.randint(1, 4), random.randint(1, 4)
        return [entries(columns, columns) for _ in range(rows)]

    limits = {"s": (1, 4), "d": (1, 3), "p0": (0, 4), "p1": (0, 4), "rho": (0, 3), "at": (0, 30)}
    while True:
        state = {"y": entries(1, 6), "w": entries(1, 5), "x": entries(1, 12), "image": table(), "kernel": table()}
        state |= {name: random.randint(*limit) for name, limit in limits.items()}
        state |= {"view": random.choice(["line", "image"]), "of": random.choice(["place", "sample", "tap"])}
        if accepted(engine, state):
            yield state


def engine(state: dict[str, Any]) -> list[Any]:
    line, layer = state["view"] == "line", {"stride": state["s"], "dilation": state["d"]}
    names = ("y", "w") if line else ("image", "kernel")
    y, w = (np.array([[state[name]]], dtype=object) for name in names)
    layer["padding"] = [(state["p0"], state["p1"])] * (1 if line else 2)
    extra = {"output_padding": state["rho"]}
    made = (conv_transpose1d if line else conv_transpose2d)(y, w, **layer, **extra)[0, 0]
    shown = [made, overlap_counts(y.shape[2:], w.shape[2:], **layer, **extra)]
    if line:
        x = np.resize(np.array(state["x"], dtype=object), len(made))
        shown.append(conv1d(x[None, None], w, **layer)[0, 0])
    return [values.tolist() for values in shown]
