"""A layer beside its matrix, or beside the columns of its windows."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import conv2d, conv_matrix, im2col
from konvlib.geometry import conv_size

SOLUTIONS = {
    "toeplitz": "x.1.3*w.2.1*padding.0.0_1.1",
    "once": "x.1.3.2.0_2.0.1.4_0.4.2.1_3.1.0.2*w.1.2_3.4*view.columns*stride.2.1*dilation.1.2",
}
REFUSALS: list[dict[str, Any]] = [
    {"x": [[1, 3, 2]]},
    {"dilation": [1, 3]},
    {"x": [[1, 2], [3, 4]], "w": [[1, 1, 1], [1, 1, 1]], "view": "columns"},
    {"x": [[1, 2, 3], [4, 5, 6]], "padding": [[1, 1], [0, 0]], "dilation": [2, 3]},
]
MOST_INPUTS, MOST_ROWS = 16, 36


def states(random: Random) -> Iterator[dict[str, Any]]:
    def table(rows: int, columns: int) -> list[list[int]]:
        return [[random.randint(-9, 9) for _ in range(columns)] for _ in range(rows)]

    def pair(least: int, most: int) -> list[int]:
        return [random.randint(least, most) for _ in range(2)]

    while True:
        n, k = (random.randint(1, 4), random.randint(1, 8)), pair(1, 3)
        state = {"x": table(*n), "w": table(*k), "stride": pair(1, 3), "dilation": pair(1, 3)}
        state |= {"padding": [pair(0, 2), pair(0, 2)], "view": random.choice(["matrix", "columns"])}
        state |= {"show": random.choice(["output", "input", "tap", "entry"])}
        state |= {"at": random.randint(0, 9), "j": random.randint(0, 15), "u": random.randint(0, 8)}
        try:
            m = [
                conv_size(*sizes, stride=1, padding=tuple(p), dilation=d)
                for *sizes, p, d in zip(n, k, state["padding"], state["dilation"], strict=True)
            ]
        except ValueError:
            continue
        if n[0] * n[1] <= MOST_INPUTS and m[0] * m[1] <= MOST_ROWS:
            yield state


def engine(state: dict[str, Any]) -> list[Any]:
    x, w = (np.array(state[name])[None, None] for name in "xw")
    steps = {name: tuple(state[name]) for name in ("stride", "dilation")}
    steps["padding"] = tuple(map(tuple, state["padding"]))
    y = conv2d(x, w, **steps)[0, 0].tolist()
    if state["view"] == "columns":
        return [y, im2col(x, w.shape[2:], **steps)[0].tolist()]
    return [y, conv_matrix(w, x.shape[1:], **steps).toarray().tolist()]
