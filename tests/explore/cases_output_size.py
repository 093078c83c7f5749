"""Windows on one axis."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from konvlib.geometry import conv_size

SOLUTIONS = {"same": "n.7*k.4*s.1*p0.1*p1.2", "gaps": "n.11*k.3*s.4"}
REFUSALS = [{"n": 2}, {"n": 3, "k": 3, "d": 2}, {"n": 1, "k": 5, "p0": 2, "p1": 1}]


def states(random: Random) -> Iterator[dict[str, Any]]:
    while True:
        limits = {"n": (1, 14), "k": (1, 7), "s": (1, 5), "d": (1, 4), "p0": (0, 4), "p1": (0, 4), "at": (0, 9)}
        state = {name: random.randint(*limit) for name, limit in limits.items()}
        if state["d"] * (state["k"] - 1) + 1 <= state["n"] + state["p0"] + state["p1"]:
            yield state


def engine(state: dict[str, Any]) -> list[Any]:
    n, k, s, d, before, after = (state[name] for name in ("n", "k", "s", "d", "p0", "p1"))
    m = conv_size(n, k, stride=s, padding=(before, after), dilation=d)
    read = {s * i + d * u - before for i in range(m) for u in range(k)}
    return [m, sorted(set(range(n)) - read)]
