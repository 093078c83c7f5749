"""What an output's gradient sends to inputs and weights."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import numpy as np

from konvlib import conv2d, conv2d_input_grad, conv2d_weight_grad
from konvlib.geometry import conv_size

SOLUTIONS = {
    "silent": "dy.1.5_-1.-1",
    "column": "x.1.3.2.0.4_2.0.1.3.1_0.4.2.1.2_3.1.0.2.5*stride.2.2*dy.1.-1_2.1",
}
REFUSALS = [
    {"x": [[1, 2]]},
    {"dilation": (1, 3)},
    {"w": [[1, 2, 3]], "x": [[1], [2]]},
    {"stride": (2, 2)},
    {"dy": [[1, -1, 2], [2, 1, 0]]},
    {"padding": ((0, 0), (1, 0))},
]


def states(random: Random) -> Iterator[dict[str, Any]]:
    def entries(rows: int, columns: int) -> list[list[int]]:
        return [[random.randint(-9, 9) for _ in range(columns)] for _ in range(rows)]

    while True:
        size = random.choice([1, random.randint(1, 5)]), random.randint(1, 6)
        kernel = random.randint(1, 3), random.randint(1, 3)
        state: dict[str, Any] = {name: [random.randint(1, 3) for _ in range(2)] for name in ("stride", "dilation")}
        state["padding"] = [[random.choice([0, 0, 1, 2]) for _ in range(2)] for _ in range(2)]
        state |= {"show": random.choice(["dy", "dx", "dw"]), "at": random.randint(0, 20)}
        settings = zip(size, kernel, state["stride"], state["padding"], state["dilation"], strict=True)
        try:
            m = [conv_size(n, k, stride=s, padding=tuple(p), dilation=d) for n, k, s, p, d in settings]
        except ValueError:
            continue
        yield state | {"x": entries(*size), "w": entries(*kernel), "dy": entries(*m)}


def engine(state: dict[str, Any]) -> list[Any]:
    x, w, dy = (np.array(state[name], dtype=object)[None, None] for name in ("x", "w", "dy"))
    layer = {name: state[name] for name in ("stride", "padding", "dilation")}
    dx = conv2d_input_grad(dy, w, input_size=x.shape[2:], **layer)
    dw = conv2d_weight_grad(x, dy, kernel_size=w.shape[2:], **layer)
    return [values[0, 0].tolist() for values in (conv2d(x, w, **layer), dx, dw)]
