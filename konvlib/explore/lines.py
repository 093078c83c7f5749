"""Explorables on one axis: sequences, output sizes, layers with strides."""

from __future__ import annotations

import numpy as np

from konvlib import (
    Layer,
    compose_chain,
    conv1d,
    convolve,
    correlate,
    dilate,
)
from konvlib.explore.element import Explorable, Numbers, entries, explorable, joined
from konvlib.geometry import (
    conv_size,
)


def sequences(
    *,
    f: Numbers = (1, 3, 2, 0, 4),
    g: Numbers = (2, 1, -1),
    kind: str = "convolution",
    mode: str = "full",
    P: int = 5,
    at: int = 2,
    task: str | None = None,
) -> Explorable:
    """Show one sequence sliding along another: products, sums, and the result.

    Parameters
    ----------
    f, g : sequence of int
        The sequences.
    kind : {"convolution", "correlation", "circular"}
        What is made of them.
    mode : {"full", "same", "valid"}
        Which part of it, where it is not circular.
    P : int
        The period of a circular convolution.
    at : int
        The entry of the result that is chosen.
    task : {"difference", "period"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If a sequence is empty.

    See Also
    --------
    konvlib.convolve, konvlib.correlate

    Examples
    --------
    >>> sequences(f=[1, 2, 3], g=[3, 2, 2])
    The convolution of [1, 2, 3] and [3, 2, 2], full, is [3, 8, 15, 10, 6].
    >>> sequences(kind="circular")
    The circular convolution of [1, 3, 2, 0, 4] and [2, 1, -1], period 5, is [6, 3, 6, -1, 6].
    """
    f, g = entries("f", f), entries("g", g)
    if kind == "circular":
        full = convolve(f, g)
        y, part = [int(full[i::P].sum()) for i in range(P)], f"period {P}"
    else:
        y, part = (correlate if kind == "correlation" else convolve)(f, g, mode=mode).tolist(), mode
    name = "circular convolution" if kind == "circular" else kind
    return explorable(sequences, locals(), f"The {name} of {f} and {g}, {part}, is {y}.")


def output_size(
    *,
    n: int = 8,
    k: int = 3,
    s: int = 2,
    d: int = 1,
    p0: int = 0,
    p1: int = 0,
    at: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show how many windows fit on an axis, and which inputs none of them reads.

    Parameters
    ----------
    n, k, s, d : int
        How many inputs and taps, stride and dilation.
    p0, p1 : int
        Padding before and after.
    at : int
        The window that is chosen.
    task : {"same", "gaps"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If no window fits.

    See Also
    --------
    konvlib.geometry.conv_size

    Examples
    --------
    >>> output_size(n=9, s=3)
    9 inputs, 3 taps, stride 3: 3 outputs.
    >>> output_size()
    8 inputs, 3 taps, stride 2: 3 outputs. Read by no window: 7.
    """
    m = conv_size(n, k, stride=s, padding=(p0, p1), dilation=d)
    unread = sorted(set(range(n)) - {s * i + d * u - p0 for i in range(m) for u in range(k)})
    never = f" Read by no window: {', '.join(map(str, unread))}." if unread else ""
    sentence = f"{n} inputs, {k} taps, stride {s}: {m} outputs.{never}"
    return explorable(output_size, locals(), sentence)


def strides(
    *,
    w1: Numbers = (2, 1, -1),
    w2: Numbers = (2, 1, -1),
    w3: Numbers = (),
    s1: int = 2,
    s2: int = 2,
    s3: int = 2,
    d1: int = 1,
    d2: int = 1,
    d3: int = 1,
    p: int = 0,
    x: Numbers = (3, 1, 0, 2, 1, 4, 2, 0, 1, 3, 1),
    at: int = 2,
    m: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show layers with strides on one axis, and the one layer that replaces them.

    Parameters
    ----------
    w1, w2, w3 : sequence of int
        The weights of the layers, of which the third may be empty.
    s1, s2, s3, d1, d2, d3 : int
        Their strides and dilations.
    p : int
        Zeros on both sides between the first layer and the second: with them there is no such layer.
    x : sequence of int
        The input.
    at, m : int
        The entry of the one kernel that is chosen, and the output.
    task : {"zero", "field"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If a kernel does not fit what it reads.

    See Also
    --------
    konvlib.compose_chain

    Examples
    --------
    >>> strides(w1=[1, 2], w2=[1, 1])
    The layers [1, 2] and [1, 1] with strides 2 and 2 are one layer: [1, 2, 1, 2] with stride 4.
    """
    weights = [list(w) for w in (w1, w2, w3) if len(w)]
    steps, gaps = (s1, s2, s3)[: len(weights)], (d1, d2, d3)[: len(weights)]
    y, layers = np.array([[x]]), []
    for r, (w, step, gap) in enumerate(zip(weights, steps, gaps, strict=True)):
        w = np.array([[w]])
        y = conv1d(y, w, stride=step, dilation=gap, padding=p if r == 1 else 0)
        layers.append(Layer(w, stride=step, dilation=gap))
    one = compose_chain(layers)
    kernel = dilate(one.weight, one.dilation).ravel().tolist()
    both = f"The layers {joined(weights)} with strides {joined(steps)}"
    sentence = f"{both} are one layer: {kernel} with stride {one.stride[0]}."
    return explorable(strides, locals(), sentence)
