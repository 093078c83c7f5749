"""A function at each tap of a kernel, and a small picture."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import konv2d
from konvlib.konvolution import bases

SOLUTIONS = {
    "fourth": "x.1.3.2_2.0.-1_0.-3.2*kappa.3_0_6_0_1*kernel.1.1*basis.hermite",
    "border": "kappa.2.-1.1.-3_2.1.0.3_2.-1.1.-3*basis.chebyshev*padding.1",
}
REFUSALS = [
    {"x": [[1, 3, 2]]},
    {"x": [[1], [2], [0]]},
    {"x": [[1, 2, 3, 4]], "kappa": [[0] * 9, [1] * 9], "kernel": (3, 3)},
    {"kappa": [[1, 2, 3]]},
    {"kernel": (1, 1)},
]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(rows: int, columns: int, most: int) -> list[list[int]]:
        return [[random.randint(-most, most) for _ in range(columns)] for _ in range(rows)]

    while True:
        kernel = [random.randint(1, 3), random.randint(1, 3)]
        size, padding = [random.randint(1, 4), random.randint(1, 5)], random.randint(0, 1)
        if any(k > n + 2 * padding for k, n in zip(kernel, size, strict=True)):
            continue
        yield {
            "x": entries(*size, 4),
            "kappa": entries(random.randint(1, 5), kernel[0] * kernel[1], 9),
            "kernel": kernel,
            "basis": random.choice(list(bases.BASES)),
            "padding": padding,
            "pad": random.choice(["basis", "input"]),
            "tap": random.randint(0, 8),
            "at": random.randint(0, 40),
        }


def engine(state: dict[str, Any]) -> list[Any]:
    """The output, what it would be with the other padding, and the expanded channels; Legendre's are fractions."""
    x, kappa = (np.array(state[name], dtype=object) for name in ("x", "kappa"))
    basis, padding, pad = (state[name] for name in ("basis", "padding", "pad"))
    other = {"basis": "input", "input": "basis"}[pad]
    table, degree = kappa.reshape(1, -1, 1, *state["kernel"]), len(kappa) - 1
    y = [konv2d(x[None, None], table, basis=basis, padding=padding, pad=way)[0, 0].tolist() for way in (pad, other)]
    if pad == "input":
        channels = bases.values(basis, np.pad(x, padding), degree)
    else:
        sides = [(0, 0), (padding, padding), (padding, padding)]
        channels = np.pad(bases.values(basis, x, degree), sides)
    return [*y, channels.tolist()]
