"""A layer of images, with all its settings."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import conv2d
from konvlib.geometry import source_index
from tests.explore.cases import accepted

SOLUTIONS = {
    "corners": "dilation.2.2",
    "moved": "x.1.3.2.5_2.0.1.3_4.4.2.1*w.1.0*padding.0.0_1.0",
}
REFUSALS = [
    {"x": [[1, 2]]},
    {"dilation": (1, 3)},
    {"groups": 2},
    {"x": [[1, 3], [2, 0]], "channels": 2, "w": [[1], [2]], "groups": 2},
    {"w": [[1, 2, 1]] * 3, "padding": ((0, 0), (0, 0)), "x": [[1, 2, 3], [4, 5, 6]]},
    {"channels": 2},
]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(rows: int, columns: int) -> list[list[int]]:
        return [[random.randint(-9, 9) for _ in range(columns)] for _ in range(rows)]

    while True:
        channels, outputs = random.randint(1, 2), random.randint(1, 2)
        groups = random.randint(1, min(channels, outputs))
        sizes = random.randint(1, 5), random.randint(1, 6), random.randint(1, 3), random.randint(1, 3)
        state = {
            "x": entries(channels * sizes[0], sizes[1]),
            "w": entries(outputs * (channels // groups) * sizes[2], sizes[3]),
            "padding": [[random.choice([0, 0, 1, 2, 3]) for _ in range(2)] for _ in range(2)],
            "padding_mode": random.choice(["zeros", "reflect", "replicate", "circular"]),
            "channels": channels,
            "outputs": outputs,
            "groups": groups,
            "at": random.randint(0, 20),
            "show": random.choice("yxw"),
            "cell": [random.randint(0, 1), random.randint(-1, 4), random.randint(-1, 4)],
        }
        state |= {name: [random.randint(1, 3) for _ in range(2)] for name in ("stride", "dilation")}
        if accepted(engine, state):
            yield state


def engine(state: dict[str, Any]) -> list[Any]:
    x = np.array(state["x"], dtype=object).reshape(1, state["channels"], -1, len(state["x"][0]))
    depth = state["channels"] // state["groups"]
    w = np.array(state["w"], dtype=object).reshape(state["outputs"], depth, -1, len(state["w"][0]))
    settings = {name: state[name] for name in ("stride", "padding", "dilation", "groups", "padding_mode")}
    y = conv2d(x, w, **settings)[0].tolist()
    read = [
        {source_index(s * i + d * u - before, n, state["padding_mode"]) for i in range(m) for u in range(k)}
        for n, k, m, s, d, (before, _) in zip(
            x.shape[2:], w.shape[2:], np.shape(y)[1:], state["stride"], state["dilation"], state["padding"], strict=True
        )
    ]
    return [y, [[a, b] for a, b in np.ndindex(x.shape[2:]) if a not in read[0] or b not in read[1]]]
