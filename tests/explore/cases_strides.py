"""Two or three layers with strides."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import Layer, compose_chain, conv1d, dilate
from tests.explore.cases import accepted

SOLUTIONS = {"zero": "w1.2.1.-1*w2.2.1.-1", "field": "w1.1.1.1*w2.1.1.1*s1.1*s2.1*d2.3"}
REFUSALS = [{"x": [1, 2, 3], "d1": 2}, {"x": [1, 2], "w1": [1, 2, 3]}, {"w3": [1, 1], "s1": 3, "s2": 3}]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(least: int, most: int) -> list[int]:
        return [random.randint(-9, 9) for _ in range(random.randint(least, most))]

    while True:
        state: dict[str, Any] = {
            "w1": entries(1, 4),
            "w2": entries(1, 4),
            "w3": entries(0, 3),
            "p": random.choice([0, 0, 1]),
        }
        state |= {f"{name}{r}": random.randint(1, most) for name, most in (("s", 4), ("d", 3)) for r in (1, 2, 3)}
        state |= {"x": entries(1, 20), "at": random.randint(0, 9), "m": random.randint(0, 3)}
        if accepted(engine, state):
            yield state


def engine(state: dict[str, Any]) -> list[list[int]]:
    x = y = np.array([[state["x"]]], dtype=object)
    layers = []
    for r in (1, 2, 3):
        if state[f"w{r}"]:
            w = np.array([[state[f"w{r}"]]], dtype=object)
            layers.append(Layer(w, stride=state[f"s{r}"], dilation=state[f"d{r}"]))
            y = conv1d(y, w, stride=state[f"s{r}"], dilation=state[f"d{r}"], padding=state["p"] if r == 2 else 0)
    one = compose_chain(layers)
    kernel = dilate(one.weight, one.dilation)
    once = conv1d(x, kernel, stride=one.stride, padding=state["p"] * state["s1"])
    return [values.ravel().tolist() for values in (y, kernel, once)]
