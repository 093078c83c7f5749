"""Pictures that the reader moves: in a notebook, a call shows one in the state of its arguments.

    from konvlib import explore

    explore.strides(w1=[1, 2, 1], w2=[1, 2, 1])

Each is an HTML element whose module (JavaScript, beside this file) draws it; where no script runs, its sentence says
what would be seen, computed by the engine. On the book's site the modules are linked once for each page.
"""

from __future__ import annotations

import html
import operator
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from konvlib import Layer, compose_chain, conv1d, conv2d, convolve, correlate, dilate, konv2d
from konvlib.geometry import Padding, PerAxis, conv_size, paddings, per_axis

__all__ = ["Explorable", "images", "konvolution", "output_size", "sequences", "strides"]

FOLDER = Path(__file__).parent
SHARED = ("kit", "arithmetic")
LINKS = re.compile(r"^import .*?;\n|^export (?=const|class|function)", re.M)

Numbers = Sequence[int]
Table = Sequence[Sequence[int]]


class Explorable:
    """A picture that the reader moves, as notebooks show it.

    Attributes
    ----------
    word : str
        Which one: the name of the function that made it.
    state : str
        What differs from its first state, as it stands in the address of a page that shows it.
    sentence : str
        What is seen.
    task : str or None
        The exercise that it judges.
    """

    def __init__(self, word: str, state: str, sentence: str, task: str | None = None) -> None:
        self.word, self.state, self.sentence, self.task = word, state, sentence, task

    def __repr__(self) -> str:
        return self.sentence

    @property
    def element(self) -> str:
        """The HTML element, without the module that draws it."""
        tag = f"kv-{self.word.replace('_', '-')}"
        given = {"state": self.state, "task": self.task}
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in given.items() if value)
        return f'<{tag} class="kv-explorable"{attributes}>{html.escape(self.sentence)}</{tag}>'

    def _repr_html_(self) -> str:
        script = f'<script type="module" data-kv-explore="{self.word}">\n{module(self.word)}</script>'
        return f"{self.element}\n{script}"


@cache
def module(word: str) -> str:
    """Return the module of an explorable with all that it imports, as one text.

    Examples
    --------
    >>> "./kit.js" in module("strides")
    False
    """
    texts = [(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in (*SHARED, word)]
    return "".join(LINKS.sub("", text) for text in texts)


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
    sentence = (
        f"The layers {_and(weights)} with strides {_and(steps)} are one layer: {kernel} with stride {one.stride[0]}."
    )
    return _explorable(strides, locals(), sentence)


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
    return _explorable(output_size, locals(), sentence)


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
    f, g = _list("f", f), _list("g", g)
    if kind == "circular":
        full = convolve(f, g)
        y, part = [int(full[i::P].sum()) for i in range(P)], f"period {P}"
    else:
        y, part = (correlate if kind == "correlation" else convolve)(f, g, mode=mode).tolist(), mode
    name = "circular convolution" if kind == "circular" else kind
    return _explorable(sequences, locals(), f"The {name} of {f} and {g}, {part}, is {y}.")


def images(
    *,
    x: Any = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    w: Any = ((2, 1), (0, 3)),
    stride: PerAxis = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: PerAxis = (1, 1),
    padding_mode: str = "zeros",
    channels: int = 1,
    outputs: int = 1,
    groups: int = 1,
    at: int = 0,
    show: str = "y",
    cell: Numbers = (0, 0, 0),
    task: str | None = None,
) -> Explorable:
    """Show a layer of images: input, kernel and output, and what each number touches.

    Parameters
    ----------
    x : array_like
        The input, ``(rows, columns)``; with two channels ``(channels, rows, columns)``, or their rows one below the
        other.
    w : array_like
        The kernel, ``(rows, columns)``; in general ``(outputs, channels // groups, rows, columns)``, or all rows one
        below the other.
    stride, padding, dilation, padding_mode, groups
        As in `konvlib.conv2d`.
    channels, outputs : {1, 2}
        How many there are, where the shapes of ``x`` and ``w`` do not say it.
    at : int
        The output that is chosen, counted row by row.
    show : {"y", "x", "w"}
        What is looked at: the output, or a pixel or a weight.
    cell : sequence of int
        Which: channel (of a weight: kernel), row, column; padding has rows and columns below 0 too.
    task : {"corners", "moved"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If rows do not go into channels, channels not into groups, or the kernel not into the padded input.

    See Also
    --------
    konvlib.conv2d

    Examples
    --------
    >>> images(stride=2, padding=1)
    Input [[1, 3, 2], [2, 0, 1], [0, 4, 2]], kernel [[2, 1], [0, 3]]: output [[3, 6], [2, 7]]. Every pixel is read.
    >>> images(dilation=2).state
    'dilation.2.2'
    """
    pixels, weights = np.array(x), np.array(w)
    if pixels.ndim == 3:
        channels = len(pixels)
    if weights.ndim == 4:
        outputs = len(weights)
    x, w = (values.reshape(-1, values.shape[-1]).tolist() for values in (pixels, weights))
    depth = max(1, channels // groups)
    for name, rows, parts in (("x", x, f"{channels} channels"), ("w", w, f"{outputs * depth} kernels")):
        if len(rows) % int(parts.split()[0]):
            raise ValueError(f"{name} must have as many rows in each of {parts}, got {len(rows)} rows")
    pixels, weights = np.reshape(x, (1, channels, -1, len(x[0]))), np.reshape(w, (outputs, depth, -1, len(w[0])))
    stride, dilation = per_axis(stride, 2, "stride"), per_axis(dilation, 2, "dilation")
    padding = paddings(padding, kernel_size=weights.shape[2:], stride=stride, dilation=dilation, size=pixels.shape[2:])
    settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    settings["padding_mode"] = padding_mode
    y = conv2d(pixels, weights, **settings)[0]
    unread = len(unread_pixels(pixels, weights, **settings))
    shown = [values.tolist() if len(values) > 1 else values[0].tolist() for values in (pixels[0], y)]
    kernel = weights.tolist() if outputs * depth > 1 else w
    never = f"{unread} of the pixels {'is' if unread == 1 else 'are'} not read." if unread else "Every pixel is read."
    return _explorable(images, locals(), f"Input {shown[0]}, kernel {kernel}: output {shown[1]}. {never}")


def unread_pixels(x: np.ndarray, w: np.ndarray, **settings: Any) -> list[list[int]]:
    """Return the rows and columns of the pixels that no window of a layer reads.

    Examples
    --------
    >>> unread_pixels(np.ones((1, 1, 3, 4), dtype=int), np.ones((1, 1, 2, 3), dtype=int), stride=2)
    [[0, 3], [1, 3], [2, 0], [2, 1], [2, 2], [2, 3]]
    """
    size = x.shape[2:]
    each = np.eye(int(np.prod(size)), dtype=int).reshape(-1, 1, *size)  # a picture for each pixel, which alone is 1
    reads = conv2d(each, np.ones((1, 1, *w.shape[2:]), dtype=int), **(settings | {"groups": 1}))
    return np.argwhere((reads == 0).all(axis=(1, 2, 3)).reshape(size)).tolist()


def konvolution(
    *,
    x: Table = ((1, 3, 2), (2, 0, 1), (0, 4, 2)),
    kappa: Table = ((0, 1, 2, 0), (2, 1, 0, 3), (0, -1, 1, 0)),
    kernel: Numbers = (2, 2),
    basis: str = "monomial",
    padding: int = 0,
    pad: str = "basis",
    tap: int = 1,
    at: int = 0,
    task: str | None = None,
) -> Explorable:
    """Show a Konvolution of a picture: a function at each tap, its coefficients, the expanded channels, the output.

    Parameters
    ----------
    x : table of int
        The picture.
    kappa : table of int
        The coefficients: a row for each degree, a column for each tap, row after row of the kernel.
    kernel : sequence of int
        Rows and columns of the kernel.
    basis : {"monomial", "chebyshev", "chebyshev2", "legendre", "hermite"}
        The polynomials that the coefficients belong to.
    padding : int
        Zeros on all sides.
    pad : {"basis", "input"}
        Whether they are put around the expanded picture, or around the picture before it is expanded.
    tap, at : int
        The tap whose function is chosen, and the output.
    task : {"fourth", "border"}, optional
        The exercise to judge.

    Raises
    ------
    ValueError
        If a tap has no coefficients, or if the kernel does not fit the picture.

    See Also
    --------
    konvlib.konv2d

    Examples
    --------
    >>> konvolution()
    The Konvolution with 4 taps of degree 2, monomial, gives [[3, 10], [19, 25]].
    >>> konvolution(x=[[1, 3]], kappa=[[1], [0], [1]], kernel=(1, 1), basis="chebyshev", padding=1)
    The Konvolution with 1 tap of degree 2, chebyshev, gives [[0, 0, 0, 0], [0, 2, 18, 0], [0, 0, 0, 0]].
    """
    taps, coefficients = kernel[0] * kernel[1], np.array(kappa, dtype=object)
    if coefficients.shape[1] != taps:
        count = f"{taps} column{'s' if taps > 1 else ''}"
        raise ValueError(f"kappa must have {count}, one for each tap, got {coefficients.shape[1]}")
    table = coefficients.reshape(1, -1, 1, *kernel)
    y = konv2d(np.array([[x]], dtype=object), table, basis=basis, padding=padding, pad=pad)[0, 0]
    degree = f"{taps} tap{'s' if taps > 1 else ''} of degree {len(coefficients) - 1}"
    values = [[int(value) if value == int(value) else float(value) for value in row] for row in y]
    return _explorable(konvolution, locals(), f"The Konvolution with {degree}, {basis}, gives {values}.")


def _and(things: Sequence[Any]) -> str:
    *first, last = map(str, things)
    return f"{', '.join(first)} and {last}" if first else last


def _explorable(function: Callable[..., Explorable], given: dict[str, Any], sentence: str) -> Explorable:
    return Explorable(function.__name__, state_text(function, given), sentence, given["task"])


def state_text(function: Callable[..., Explorable], given: dict[str, Any]) -> str:
    """Return what differs from a function's defaults as it stands in an address.

    Examples
    --------
    >>> state_text(strides, {**strides.__kwdefaults__, "w1": [1, -2], "p": 1})
    'w1.1.-2*p.1'
    """
    defaults = {name: value for name, value in (function.__kwdefaults__ or {}).items() if name != "task"}
    changed = [name for name, default in defaults.items() if _text(name, given[name]) != _text(name, default)]
    return "*".join(f"{name}.{_text(name, given[name])}" for name in changed)


def _text(name: str, value: Any) -> str:
    """Return a value as it stands in an address: entries between points, rows between underscores."""
    if isinstance(value, str):
        return value
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, Sequence):
        return str(_integer(name, value))
    if value and isinstance(value[0], Sequence):
        return "_".join(_text(name, row) for row in value)
    return ".".join(str(_integer(name, entry)) for entry in value)


def _list(name: str, values: Any) -> list[int]:
    return [_integer(name, value) for value in values]


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must hold integers, got {value!r}") from None
