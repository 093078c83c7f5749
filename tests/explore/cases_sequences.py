"""Two sequences, convolved, correlated, on a line or a circle."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

import konvlib

SOLUTIONS = {"difference": "g.1.0.-1", "period": "kind.circular*P.7"}
REFUSALS = [{"f": []}, {"g": []}, {"f": [], "kind": "correlation", "mode": "same"}]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(most: int) -> list[int]:
        return [random.randint(-9, 9) for _ in range(random.randint(1, most))]

    kinds, modes = ("convolution", "correlation", "circular"), ("full", "same", "valid")
    while True:
        state = {"f": entries(8), "g": entries(4), "kind": random.choice(kinds), "mode": random.choice(modes)}
        yield state | {"P": random.randint(1, 11), "at": random.randint(0, 9)}


def engine(state: dict[str, Any]) -> list[int]:
    f, g = (np.array(state[name], dtype=object) for name in "fg")
    if state["kind"] != "circular":
        call = konvlib.correlate if state["kind"] == "correlation" else konvlib.convolve
        return call(f, g, mode=state["mode"]).tolist()
    y = [0] * state["P"]
    for i, j in np.ndindex(len(f), len(g)):
        y[(i + j) % state["P"]] += f[i] * g[j]
    return y
