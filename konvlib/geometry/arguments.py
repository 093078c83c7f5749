"""Arguments made regular: kinds, ranges, one value per axis, shapes that go together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np

MOST_SAMPLES = 2**48 - 1
"""No axis is longer: no memory has so many addresses."""
MOST_STEP = 2**31 - 1
"""No stride, dilation, kernel or padding is larger: libraries and kernels count in 32 bits with them."""

MODES = ("full", "same", "valid")
METHODS = ("auto", "direct", "fft", "overlap-add")
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
SAME_PLACEMENTS = ("torch", "tensorflow")
PADDINGS = ("same", "same_upper", "same_lower", "valid")
SIZED_PADDINGS = PADDINGS[1:3]
"""Paddings by name that depend on the size of the image."""


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
        raise TypeError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}")
    return str(value)


def flag(value: Any, name: str) -> bool:
    """Return ``value`` if it is True or False; what merely counts as one of them is not.

    Raises
    ------
    TypeError
        If it is no bool.

    Examples
    --------
    >>> flag(True, "ceil_mode")
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """Return how an error shows what it got: in one line that ends somewhere, whatever it is.

    Examples
    --------
    >>> shown("mirror"), shown(10**9999), len(shown(list(range(10**6))))
    ("'mirror'", 'an integer of 33216 bits', 203)
    """
    if isinstance(value, int) and value.bit_length() > 600:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)) and len(value) > 200:
        value = value[:200]
    try:
        text = " ".join(repr(value).split())
    except Exception:
        return f"an object of type {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def integer(value: Any, name: str, *, least: int, most: int = MOST_SAMPLES) -> int:
    """Return ``value`` as an integer of Python, from ``least`` to ``most``.

    Raises
    ------
    TypeError
        If it is no integer (neither a bool nor a duration is one).
    ValueError
        If it is too small or too large.

    Examples
    --------
    >>> integer(np.int64(3), "stride", least=1)
    3
    >>> integer(2**63, "stride", least=1, most=MOST_STEP)
    Traceback (most recent call last):
    ...
    ValueError: stride must be at most 2147483647, got 9223372036854775808
    """
    if is_symbol(value):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
        return value
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    number = int(value)  # before it is compared or counted with: NumPy's narrow integers wrap
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(number)}")
    if number > most:
        raise ValueError(f"{name} must be at most {most}, got {shown(number)}")
    return number


def whole(length: Any) -> int:
    """Return a length as a Python integer, but leave it as it is while torch traces for lengths of any size.

    Examples
    --------
    >>> whole(np.int64(3))
    3
    """
    return length if is_symbol(length) else int(length)


def is_symbol(value: Any) -> bool:
    """Whether it is torch's symbol for a length that is not fixed; torch itself is not imported here.

    Examples
    --------
    >>> is_symbol(3)
    False
    """
    return type(value).__name__ == "SymInt"


def check_untraced(what: str) -> None:
    """Check that `torch.jit.trace` is not at work, which keeps the numbers that it meets for inputs of other sizes.

    Raises
    ------
    ValueError
        If it is.

    Examples
    --------
    >>> check_untraced("output_size")
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.jit.is_tracing():
        raise ValueError(f"{what} depends on the size of x, which torch.jit.trace takes to be fixed; use torch.export")


def per_axis(
    value: int | Sequence[int], axes: int, name: str, *, least: int = 1, most: int = MOST_STEP
) -> tuple[int, ...]:
    """Return one integer per axis from one for all axes, or from one each.

    Serves strides, dilations, kernel sizes (``least=1``), output paddings (``least=0``) and, with
    ``most=MOST_SAMPLES``, the sizes of images.

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
        return (integer(value, name, least=least, most=most),) * axes
    if len(value) != axes:
        raise ValueError(f"{name} must be one integer or {axes}, one per axis, got {shown(tuple(value))}")
    return tuple(integer(item, f"{name}[{axis}]", least=least, most=most) for axis, item in enumerate(value))


def mean_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype that NumPy gives a mean: float64 for integers, else the same, in the machine's byte order.

    Examples
    --------
    >>> mean_dtype(np.dtype(np.int8)), mean_dtype(np.dtype(np.float32))
    (dtype('float64'), dtype('float32'))
    """
    return np.dtype(np.float64) if dtype.kind in "biu" else dtype.newbyteorder("=")


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
    if dtype.char == "e":
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
        side = integer(value, name, least=0, most=MOST_STEP)
        return side, side
    if len(value) != 2:
        raise ValueError(f"{name} must be one integer or a pair (before, after), got {shown(tuple(value))}")
    before, after = (
        integer(side, f"{name} {where}", least=0, most=MOST_STEP)
        for side, where in zip(value, ("before", "after"), strict=True)
    )
    return before, after


def check_channels(in_channels: int | None, out_channels: int, groups: int) -> int:
    """Return ``groups`` as an integer of Python, if it divides both channel counts; None is one that is not known yet.

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
        if channels is not None and integer(channels, name, least=1) % groups:
            raise ValueError(f"{name} must be divisible by groups, got {channels} channels in {groups} groups")
    return groups


def is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether an argument gives one value per axis: a tuple, a list, or a NumPy array of one axis.

    Examples
    --------
    >>> is_sequence([1, 2]), is_sequence(3), is_sequence("same")
    (True, False, False)
    """
    return isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim == 1)
