"""The arithmetic of convolving and correlating sequences: which part of the sum is kept, and what transforms may do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2, prod, sqrt
from typing import Any

import numpy as np

from konvlib.geometry.arguments import METHODS, MODES, MOST_STEP, PADDING_MODES, integer, one_of
from konvlib.geometry.memory import check_memory
from konvlib.geometry.sizes import convolution_window, correlation_window

BOUNDARIES = (*PADDING_MODES, "symmetric")
WHOLE_METHODS = ("auto", "direct", "fft")


@dataclass(frozen=True)
class SequenceGeometry:
    """A checked convolution or correlation of sequences of ``n`` and ``m`` samples."""

    batch: tuple[int, ...]
    """The other axes of both sequences, broadcast together; the sequences lie along the last axis."""
    n: int
    m: int
    mode: str
    method: str
    start: int
    """The first value that ``mode`` keeps of the full sum."""
    length: int
    """How many values it keeps."""
    axis: int = -1
    """The axis of the operands that was put last."""
    boundary: str = "zeros"
    """What is seen beyond the ends of the first sequence. Other than zeros, ``n`` counts what is seen as well."""
    samples: int = 0
    """How many samples the first sequence has without its boundary, if that is not zeros."""
    before: int = 0
    """The place of the first sample that is seen."""

    @cached_property
    def numbers(self) -> int:
        """How many numbers the result has."""
        return prod(self.batch) * self.length


def convolution_geometry(
    f_shape: Sequence[int],
    g_shape: Sequence[int],
    *,
    mode: str,
    method: str,
    axis: int = -1,
    boundary: str = "zeros",
) -> SequenceGeometry:
    """Return the checked geometry of a convolution; a sequence without axes has one sample.

    Raises
    ------
    TypeError
        If ``mode``, ``method`` or ``boundary`` is no string, or ``axis`` no integer.
    ValueError
        If one of them is unknown, if a boundary other than zeros meets a mode other than same, if a sequence is empty,
        or if the other axes do not broadcast.

    Examples
    --------
    >>> part = convolution_geometry((3, 1, 5), (4, 2), mode="valid", method="auto")
    >>> part.batch, part.start, part.length
    ((3, 4), 1, 4)
    """
    return _geometry(f_shape, g_shape, mode, method, axis, boundary, convolution_window)


def correlation_geometry(
    f_shape: Sequence[int],
    g_shape: Sequence[int],
    *,
    mode: str,
    method: str,
    axis: int = -1,
    boundary: str = "zeros",
) -> SequenceGeometry:
    """Return the checked geometry of a correlation, with the errors of `convolution_geometry`.

    Examples
    --------
    >>> correlation_geometry((2,), (5,), mode="same", method="auto").start
    1
    """
    return _geometry(f_shape, g_shape, mode, method, axis, boundary, correlation_window)


def _geometry(f_shape, g_shape, mode, method, axis, boundary, window) -> SequenceGeometry:
    mode, method = one_of(mode, "mode", MODES), one_of(method, "method", METHODS)
    boundary = one_of(boundary, "boundary", BOUNDARIES)
    axis, batch, n, m = _along(f_shape, g_shape, axis, ("f", "g"))
    if boundary == "zeros":
        start, length = window(n, m, mode)
        return SequenceGeometry(batch, n, m, mode, method, start, length, axis)
    if mode != "same":
        raise ValueError(f"mode must be 'same' for boundary {boundary!r}, got {mode!r}")
    # The middle tap, that of place (m - 1) // 2, meets the sample of the same place as the value.
    return SequenceGeometry(batch, n + m - 1, m, "valid", method, m - 1, n, axis, boundary, n, -(m // 2))


def _along(f_shape, g_shape, axis, names) -> tuple[int, tuple[int, ...], int, int]:
    """The axis, counted from the end, the batch, and the lengths of both sequences along that axis."""
    f_shape, g_shape = tuple(f_shape) or (1,), tuple(g_shape) or (1,)
    axes = max(len(f_shape), len(g_shape))
    if integer(axis, "axis", least=-axes) >= axes:
        raise ValueError(f"axis must be at most {axes - 1}, got {axis}")
    axis = int(axis) - axes if axis >= 0 else int(axis)
    batch = sequence_batch(f_shape, g_shape, axis, names)
    return axis, batch, along(f_shape, axes, axis)[-1], along(g_shape, axes, axis)[-1]


def along(shape: Sequence[int], axes: int, axis: int) -> tuple[int, ...]:
    """Return the shape of an operand with the given axis, counted from the end, exchanged for the last.

    A sequence alone lies along that axis; others are first given leading axes of length 1, as many as are missing.

    Examples
    --------
    >>> along((3, 4, 5), 3, -2), along((7,), 3, -2), along((4, 5), 3, -2)
    ((3, 5, 4), (7,), (1, 5, 4))
    """
    if len(shape) < 2 or axis == -1:
        return tuple(shape)
    full = [*(1,) * (axes - len(shape)), *shape]
    full[axis], full[-1] = full[-1], full[axis]
    return tuple(full)


def sequence_batch(
    f_shape: Sequence[int], g_shape: Sequence[int], axis: int = -1, names: tuple[str, str] = ("f", "g")
) -> tuple[int, ...]:
    """Return the axes but one of two sequences of shapes ``(..., n)`` and ``(..., m)``, broadcast together.

    Raises
    ------
    ValueError
        If a sequence is empty, or if the other axes do not broadcast.

    Examples
    --------
    >>> sequence_batch((3, 1, 5), (4, 2))
    (3, 4)
    """
    axes = max(len(f_shape), len(g_shape))
    moved = [along(shape, axes, axis) for shape in (f_shape, g_shape)]
    for name, shape, given in zip(names, moved, (f_shape, g_shape), strict=True):
        if shape[-1] == 0:
            raise ValueError(f"{name} must not be empty, got shape {tuple(given)}")
    left, right = ((1,) * (axes - len(shape)) + tuple(shape[:-1]) for shape in moved)
    # Not numpy.broadcast_shapes: torch may trace this with symbols for lengths.
    for a, b in zip(left, right, strict=True):
        if a != b and a != 1 and b != 1:
            which, shapes = "leading" if axis == -1 else "other", f"{tuple(f_shape)} and {tuple(g_shape)}"
            raise ValueError(f"{names[0]} and {names[1]} must have {which} axes that broadcast, got shapes {shapes}")
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def boundary_places(places: Any, n: int, boundary: str) -> Any:
    """Return which of ``n`` samples are seen at some places, integers or arrays or tensors of them, within and without.

    Examples
    --------
    >>> places = np.arange(-3, 7)
    >>> for boundary in ("reflect", "symmetric", "replicate", "circular"):
    ...     print(boundary_places(places, 4, boundary))
    [3 2 1 0 1 2 3 2 1 0]
    [2 1 0 0 1 2 3 3 2 1]
    [0 0 0 0 1 2 3 3 3 3]
    [1 2 3 0 1 2 3 0 1 2]
    """
    last = n - 1
    if boundary == "replicate":
        # The nearest of 0 and last: |p| - |p - last| is twice p - last / 2 between them, and constant outside.
        return (abs(places) - abs(places - last) + last) // 2
    if boundary == "reflect":  # once there and back again, the ends not repeated
        return last - abs(places % max(2 * last, 1) - last)
    if boundary == "symmetric":  # the ends repeated
        return (2 * last + 1 - abs(2 * (places % (2 * n)) - (2 * last + 1))) // 2
    return places % n


def correlation_lags(n: int, m: int, mode: str = "full") -> np.ndarray:
    """Return the lags of the values of a correlation of ``n`` with ``m`` samples.

    Examples
    --------
    >>> correlation_lags(3, 2), correlation_lags(5, 3, "valid")
    (array([-1,  0,  1,  2]), array([0, 1, 2]))
    """
    n, m = integer(n, "n", least=1), integer(m, "m", least=1)
    start, length = correlation_window(n, m, one_of(mode, "mode", MODES))
    check_memory(8 * length, (), ("n", "m"))
    return np.arange(start - (m - 1), start - (m - 1) + length)


@dataclass(frozen=True, slots=True)
class ResampleGeometry:
    """A checked resampling of ``n`` samples by ``m`` taps."""

    batch: tuple[int, ...]
    """The other axes of both, broadcast together."""
    n: int
    m: int
    up: int
    down: int
    length: int
    axis: int

    common: int
    """The greatest common divisor of both rates."""

    @property
    def numbers(self) -> int:
        """How many numbers the result has."""
        return prod(self.batch) * self.length

    @property
    def phases(self) -> int:
        """Every so many outputs, taps meet samples alike."""
        return self.up // self.common

    def branches(self) -> Iterator[list[tuple[slice, slice, int]]]:
        """Yield for each phase of the outputs the parts of which they are sums: ``(samples, taps, start)``.

        A part is the full convolution of those samples and those taps, from ``start`` on. Each tap is in one part at
        most, and no product in it has an inserted sample as a factor.
        """
        period = self.down // self.common
        for phase in range(min(self.phases, self.length)):
            # Output t of a phase is sum_k h[k] x[(place - k) / up] with place = (phase + phases * t) * down, so with
            # place = first * up + residue at t = 0, tap k = residue + up * j meets sample first - j + period * t.
            first, residue = phase * self.down // self.up, phase * self.down % self.up
            parts = []
            for j, tap in enumerate(range(residue, self.m, self.up)[:period]):
                samples = slice((first - j) % period, None, period)
                parts.append((samples, slice(tap, None, self.up * period), (first - j) // period))
            yield parts


def resample_geometry(
    x_shape: Sequence[int], h_shape: Sequence[int], *, up: int, down: int, axis: int
) -> ResampleGeometry:
    """Return the checked geometry of a resampling.

    Raises
    ------
    TypeError, ValueError
        If ``up`` or ``down`` is no positive integer, and as `convolution_geometry`.

    Examples
    --------
    >>> resample_geometry((2, 5), (3,), up=2, down=3, axis=-1).length
    4
    """
    up, down = integer(up, "up", least=1, most=MOST_STEP), integer(down, "down", least=1, most=MOST_STEP)
    axis, batch, n, m = _along(x_shape, h_shape, axis, ("x", "h"))
    common, rest = up, down
    while rest:  # not math.gcd: torch may trace this with symbols for rates
        common, rest = rest, common % rest
    return ResampleGeometry(batch, n, m, up, down, ((n - 1) * up + m - 1) // down + 1, axis, common)


@dataclass(frozen=True, slots=True)
class WholeGeometry:
    """A checked convolution along all axes."""

    method: str
    starts: tuple[int, ...]
    """The first value that is kept of the full sum, along each axis."""
    lengths: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """How many numbers the result has."""
        return prod(self.lengths)


def whole_geometry(f_shape: Sequence[int], g_shape: Sequence[int], *, mode: str, method: str) -> WholeGeometry:
    """Return the checked geometry of a convolution along all axes.

    Raises
    ------
    TypeError
        If ``mode`` or ``method`` is no string.
    ValueError
        If one of them is unknown, if an operand is empty, if they differ in their number of axes, or if in mode valid
        neither is the longer along every axis.

    Examples
    --------
    >>> whole_geometry((5, 7), (3, 2), mode="same", method="auto")
    WholeGeometry(method='auto', starts=(1, 0), lengths=(5, 7))
    """
    one_of(mode, "mode", MODES)
    one_of(method, "method", WHOLE_METHODS)
    shapes = f"{tuple(f_shape)} and {tuple(g_shape)}"
    if len(f_shape) != len(g_shape):
        raise ValueError(f"f and g must have equally many axes, got shapes {shapes}")
    for name, shape in (("f", f_shape), ("g", g_shape)):
        if 0 in tuple(shape):
            raise ValueError(f"{name} must not be empty, got shape {tuple(shape)}")
    sizes = list(zip(f_shape, g_shape, strict=True))
    if mode == "valid" and any([n < m for n, m in sizes]) and any([n > m for n, m in sizes]):
        raise ValueError(f"f or g must be the longer along every axis for mode 'valid', got shapes {shapes}")
    windows = [convolution_window(n, m, mode) for n, m in sizes]
    return WholeGeometry(method, tuple([start for start, _ in windows]), tuple([length for _, length in windows]))


def check_transform(f: np.ndarray, g: np.ndarray, method: str) -> None:
    """Check that two arrays have a transform.

    Raises
    ------
    TypeError
        If one holds Python objects, which have none.

    Examples
    --------
    >>> check_transform(np.array([3, 5]), np.array([2**60], dtype=object), "fft")
    Traceback (most recent call last):
    ...
    TypeError: g must hold machine numbers for method 'fft', got dtype object; use 'direct'
    """
    for name, array in (("f", f), ("g", g)):
        if array.dtype.kind == "O":
            raise TypeError(f"{name} must hold machine numbers for method {method!r}, got dtype object; use 'direct'")


def limb_bits(f: np.ndarray, g: np.ndarray, axes: int = 1) -> int:
    r"""Return of how many bits the limbs of integers may be whose convolution by FFT is exact once rounded.

    64 means that they need not be cut. A limb is at most :math:`2^{b-1}` in size, so an operand of ``n`` samples has
    :math:`\lVert f \rVert_2 \le \min(\max |f|, 2^{b-1}) \sqrt n`. The error of a transform of length ``L`` in double
    precision is at most about :math:`13 \log_2(L)\, 2^{-53} \lVert f \rVert_2 \lVert g \rVert_2` (Brent, Percival and
    Zimmermann 2007, theorem 5.1, to first order); up to :math:`\lceil 64 / b \rceil` such products are summed before
    rounding, and the error must stay below 1/4, half of what rounding forgives.

    Examples
    --------
    >>> limb_bits(np.array([3, 5]), np.array([2, 1])), limb_bits(np.array([2**40]), np.array([2**40]))
    (64, 23)
    """
    peaks = [max(abs(int(a.max(initial=0))), abs(int(a.min(initial=0)))) for a in (f, g)]
    sizes = [(a.shape or (1,))[-axes:] for a in (f, g)]
    length = prod([2 * (n + m) for n, m in zip(*sizes, strict=True)])
    error = 13 * log2(length) * 2.0**-53 * sqrt(prod(sizes[0]) * prod(sizes[1]))
    if error * peaks[0] * peaks[1] < 0.25:
        return 64
    limbs = [[min(peak, 2 ** (bits - 1)) for peak in peaks] for bits in range(1, 53)]
    return max([bits for bits, (a, b) in enumerate(limbs, 1) if error * a * b * -(-64 // bits) < 0.25])


def fft_is_exact(f: np.ndarray, g: np.ndarray) -> bool:
    """Return whether rounding the FFT convolution of two sequences gives each integer exactly, with no limbs.

    True for real and complex dtypes, which are not rounded; false for Python objects.

    Examples
    --------
    >>> fft_is_exact(np.array([3, 5]), np.array([2, 1])), fft_is_exact(np.array([2**40]), np.array([2**40]))
    (True, False)
    """
    if "O" in (f.dtype.kind, g.dtype.kind):
        return False
    return np.result_type(f, g).kind in "fc" or limb_bits(f, g) == 64
