"""The arithmetic of convolving and correlating sequences: which part of the sum is kept, and what transforms may do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2, prod

import numpy as np

from konvlib.geometry.arguments import METHODS, MODES, one_of
from konvlib.geometry.sizes import convolution_window, correlation_window


@dataclass(frozen=True)
class SequenceGeometry:
    """A checked convolution or correlation of sequences of ``n`` and ``m`` samples."""

    batch: tuple[int, ...]
    """The leading axes of both sequences, broadcast together."""
    n: int
    m: int
    mode: str
    method: str
    start: int
    """The first value that ``mode`` keeps of the full sum."""
    length: int
    """How many values it keeps."""

    @cached_property
    def numbers(self) -> int:
        """How many numbers the result has."""
        return prod(self.batch) * self.length


def convolution_geometry(f_shape: Sequence[int], g_shape: Sequence[int], *, mode: str, method: str) -> SequenceGeometry:
    """Return the checked geometry of a convolution; a sequence without axes has one sample.

    Raises
    ------
    TypeError
        If ``mode`` or ``method`` is no string.
    ValueError
        If ``mode`` or ``method`` is unknown, if a sequence is empty, or if the leading axes do not broadcast.

    Examples
    --------
    >>> convolution_geometry((3, 1, 5), (4, 2), mode="valid", method="auto")
    SequenceGeometry(batch=(3, 4), n=5, m=2, mode='valid', method='auto', start=1, length=4)
    """
    return _geometry(f_shape, g_shape, mode, method, convolution_window)


def correlation_geometry(f_shape: Sequence[int], g_shape: Sequence[int], *, mode: str, method: str) -> SequenceGeometry:
    """Return the checked geometry of a correlation, with the errors of `convolution_geometry`.

    Examples
    --------
    >>> correlation_geometry((2,), (5,), mode="same", method="auto").start
    1
    """
    return _geometry(f_shape, g_shape, mode, method, correlation_window)


def _geometry(f_shape, g_shape, mode, method, window) -> SequenceGeometry:
    mode, method = one_of(mode, "mode", MODES), one_of(method, "method", METHODS)
    f_shape, g_shape = tuple(f_shape) or (1,), tuple(g_shape) or (1,)
    batch = sequence_batch(f_shape, g_shape)
    n, m = f_shape[-1], g_shape[-1]
    return SequenceGeometry(batch, n, m, mode, method, *window(n, m, mode))


def sequence_batch(f_shape: Sequence[int], g_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the leading axes of two sequences of shapes ``(..., n)`` and ``(..., m)``, broadcast together.

    Raises
    ------
    ValueError
        If a sequence is empty, or if the leading axes do not broadcast.

    Examples
    --------
    >>> sequence_batch((3, 1, 5), (4, 2))
    (3, 4)
    """
    for name, shape in (("f", f_shape), ("g", g_shape)):
        if shape[-1] == 0:
            raise ValueError(f"{name} must not be empty, got shape {tuple(shape)}")
    axes = max(len(f_shape), len(g_shape))
    left, right = ((1,) * (axes - len(shape)) + tuple(shape[:-1]) for shape in (f_shape, g_shape))
    # Not numpy.broadcast_shapes: torch may trace this with symbols for lengths.
    for a, b in zip(left, right, strict=True):
        if a != b and a != 1 and b != 1:
            shapes = f"{tuple(f_shape)} and {tuple(g_shape)}"
            raise ValueError(f"f and g must have leading axes that broadcast, got shapes {shapes}")
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))


def check_transform(f: np.ndarray, g: np.ndarray, method: str) -> None:
    """Check that a method that transforms gives the exact sum of two arrays, but for the rounding of real numbers.

    Raises
    ------
    TypeError
        If a sequence holds Python objects, which have no transform.
    ValueError
        If they hold integers so large that rounding could miss the sum.

    Examples
    --------
    >>> check_transform(np.array([3, 5]), np.array([2**60]), "fft")
    Traceback (most recent call last):
    ...
    ValueError: method must be 'direct' for integers this large, got 'fft', which could misround
    """
    for name, array in (("f", f), ("g", g)):
        if array.dtype.kind == "O":
            raise TypeError(f"{name} must hold machine numbers for method {method!r}, got dtype object; use 'direct'")
    if not fft_is_exact(f, g):
        raise ValueError(f"method must be 'direct' for integers this large, got {method!r}, which could misround")


def fft_is_exact(f: np.ndarray, g: np.ndarray) -> bool:
    r"""Return whether rounding the FFT convolution of two sequences gives each integer exactly.

    True for real and complex dtypes, which are not rounded; false for Python objects. For integers, the error of a
    transform of length ``L`` in double precision is at most about
    :math:`13 \log_2(L)\, 2^{-53} \lVert f \rVert_2 \lVert g \rVert_2` (Brent, Percival and Zimmermann 2007, theorem
    5.1, to first order); it must stay below 1/4, half of what rounding forgives.

    Examples
    --------
    >>> fft_is_exact(np.array([3, 5]), np.array([2, 1])), fft_is_exact(np.array([2**40]), np.array([2**40]))
    (True, False)
    """
    if "O" in (f.dtype.kind, g.dtype.kind):
        return False
    if np.result_type(f, g).kind in "fc":
        return True
    f, g = np.atleast_1d(f, g)
    norms = [float(np.sqrt(np.square(array.astype(np.float64)).sum(axis=-1).max(initial=0))) for array in (f, g)]
    length = 2 * (f.shape[-1] + g.shape[-1])
    return 13 * log2(length) * 2.0**-53 * norms[0] * norms[1] < 0.25
