"""Arguments made regular: kinds, ranges, one value per axis, shapes that go together."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np

MODES = ("full", "same", "valid")
METHODS = ("auto", "direct", "fft", "overlap-add")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
SAME_PLACEMENTS = ("torch", "tensorflow")


def one_of(value: Any, name: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises
    ------
    TypeError
        If it is no string.
    ValueError
        If it is another string.

    Examples
    --------
    >>> one_of("full", "mode", MODES)
    'full'
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def integer(value: Any, name: str, *, least: int) -> int:
    """Return ``value`` as an integer that is at least ``least``.

    Raises
    ------
    TypeError
        If it is no integer (a bool is none).
    ValueError
        If it is too small.

    Examples
    --------
    >>> integer(np.int64(3), "stride", least=1)
    3
    """
    if isinstance(value, (bool, np.bool_)) or not (isinstance(value, Integral) or _is_symbol(value)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return whole(value)


def whole(length: Any) -> int:
    """Return a length as a Python integer, but leave it as it is while torch traces for lengths of any size.

    Examples
    --------
    >>> whole(np.int64(3))
    3
    """
    return length if _is_symbol(length) else int(length)


def _is_symbol(value: Any) -> bool:
    """Whether it is torch's symbol for a length that is not fixed; torch itself is not imported here."""
    return type(value).__name__ == "SymInt"


def per_axis(value: int | Sequence[int], axes: int, name: str, *, least: int = 1) -> tuple[int, ...]:
    """Return one integer per axis from one for all axes, or from one each.

    Serves strides, dilations, kernel sizes (``least=1``) and output paddings (``least=0``).

    Raises
    ------
    TypeError, ValueError
        As `integer`; also ``ValueError`` if a sequence has another length than ``axes``.

    Examples
    --------
    >>> per_axis(2, 3, "stride"), per_axis((1, 2), 2, "dilation")
    ((2, 2, 2), (1, 2))
    """
    if not is_sequence(value):
        return (integer(value, name, least=least),) * axes
    if len(value) != axes:
        raise ValueError(f"{name} must be one integer or {axes}, one per axis, got {tuple(value)!r}")
    return tuple(integer(item, f"{name}[{axis}]", least=least) for axis, item in enumerate(value))


def mean_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that NumPy gives a mean: float64 for integers, else the same.

    Examples
    --------
    >>> mean_dtype(np.dtype(np.int8)), mean_dtype(np.dtype(np.float32))
    (dtype('float64'), dtype('float32'))
    """
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype


def sum_dtype(dtype: np.dtype, a: np.ndarray, b: np.ndarray, terms: int) -> np.dtype:
    """Return in which dtype sums of ``terms`` products of ``a`` and ``b`` are quickest, and as exact as in ``dtype``.

    BLAS knows floats only. Integers and booleans go through float32 or float64 if that holds every integer that a sum
    can reach, halves through float32.

    Examples
    --------
    >>> few, large = np.array([3, -5]), np.array([2**50])
    >>> sum_dtype(few.dtype, few, few, 100), sum_dtype(few.dtype, few, 2**20 * few, 100)
    (dtype('float32'), dtype('float64'))
    >>> sum_dtype(few.dtype, few, large, 100)
    dtype('int64')
    """
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype.kind not in "biu" or not a.size or not b.size:
        return dtype
    largest = [max(abs(int(array.max())), abs(int(array.min()))) for array in (a, b)]
    bound = largest[0] * largest[1] * terms
    return np.dtype(np.float32) if bound < 2**24 else np.dtype(np.float64) if bound < 2**53 else dtype


def padding_pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """Return ``(before, after)`` from a pair, or from one integer for both sides.

    Raises
    ------
    TypeError, ValueError
        As `integer`; also ``ValueError`` if a sequence is no pair.

    Examples
    --------
    >>> padding_pair(1, "padding"), padding_pair((0, 2), "padding")
    ((1, 1), (0, 2))
    """
    if not is_sequence(value):
        side = integer(value, name, least=0)
        return side, side
    if len(value) != 2:
        raise ValueError(f"{name} must be one integer or a pair (before, after), got {tuple(value)!r}")
    return integer(value[0], f"{name} before", least=0), integer(value[1], f"{name} after", least=0)


def check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    """Check that ``groups`` divides both channel counts.

    Raises
    ------
    TypeError, ValueError
        If a count is no positive integer, or does not divide.

    Examples
    --------
    >>> check_channels(4, 2, groups=3)
    Traceback (most recent call last):
    ...
    ValueError: in_channels must be divisible by groups, got 4 channels in 3 groups
    """
    groups = integer(groups, "groups", least=1)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if integer(channels, name, least=1) % groups:
            raise ValueError(f"{name} must be divisible by groups, got {channels} channels in {groups} groups")


def as_array(value: Any, name: str) -> np.ndarray:
    """Return ``value`` as a NumPy array of booleans, numbers or Python objects, without a copy where none is needed.

    Numbers get the machine's order of bytes, as NumPy's own functions give them.

    Raises
    ------
    ValueError
        If a list is ragged.
    TypeError
        If its entries are no numbers (text, dates, records).

    Examples
    --------
    >>> as_array([[1, 2], [3, 4]], "x").shape
    (2, 2)
    """
    try:
        array = np.array(value, copy=None)
    except ValueError:
        raise ValueError(f"{name} must be rectangular, got rows of different lengths") from None
    if array.dtype.kind not in "biufcO":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def check_ordered(x: np.ndarray, name: str) -> None:
    """Check that the entries of an array can be compared: complex numbers have no largest.

    Raises
    ------
    TypeError
        If the array is complex.

    Examples
    --------
    >>> check_ordered(np.array([1j]), "x")
    Traceback (most recent call last):
    ...
    TypeError: x must hold real numbers, got dtype complex128
    """
    if x.dtype.kind == "c":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")


def is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether an argument gives one value per axis: a tuple, a list, or a NumPy array of one axis.

    Examples
    --------
    >>> is_sequence([1, 2]), is_sequence(3), is_sequence("same")
    (True, False, False)
    """
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)
