"""What is an array of numbers: operands of the public functions made arrays, and everything else refused by name."""

from __future__ import annotations

from array import array as Buffered
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from numbers import Number
from typing import Any

import numpy as np

from konvlib.geometry.arguments import shown

MOST_AXES = 64
"""As many axes as NumPy's arrays have at most."""
LARGEST_FLOAT = 2**1024


def as_array(value: Any, name: str) -> np.ndarray:
    """Return ``value`` as a NumPy array of booleans, numbers or Python objects, without a copy where none is needed.

    Integers of Python become int64 on every machine, and Python objects where int64 does not hold them all. Bytes come
    into this machine's order.

    Raises
    ------
    ValueError
        If a list is ragged.
    TypeError
        If it is no array, number or list of them, or if its entries are no numbers (text, dates, records, None); if it
        has a mask or a unit, which the result would lose.

    Examples
    --------
    >>> as_array([[1, 2], [3, 4]], "x").shape
    (2, 2)
    >>> as_array([2**63, 1], "x")
    array([9223372036854775808, 1], dtype=object)
    """
    if type(value) is np.ndarray:
        array, dtype = value, value.dtype
        if dtype.kind in "biufc" and dtype.isnative:  # nearly always
            return array
    elif isinstance(value, np.ndarray):
        array = np.array(_of_plain(value, name), copy=None)
    elif isinstance(value, (list, tuple)):
        array = _of_list(value, name)
    elif isinstance(value, range):
        array = _of_range(value)
    elif isinstance(value, (memoryview, Buffered)):
        array = np.array(value, copy=None)
    elif isinstance(value, str):
        raise TypeError(f"{name} must hold numbers, got dtype {np.array(value).dtype}")
    elif _is_number(type(value)) or isinstance(value, np.generic):
        array = _with_wide_integers(np.array(value), value, {type(value)})
    else:
        raise _foreign(value, name)
    if array.dtype.kind not in "biufcO":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.dtype.kind == "O":
        _check_objects(array, name)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _of_plain(value: np.ndarray, name: str) -> np.ndarray:
    """An array of a subclass of NumPy's, if nothing but numbers is in it."""
    if isinstance(value, np.ma.MaskedArray):
        raise _foreign(value, name)
    if getattr(value, "unit", None) is not None or getattr(value, "units", None) is not None:
        kind = type(value).__name__
        raise TypeError(f"{name} must be an array of plain numbers, got {kind} with a unit; give its values without it")
    return value


def _of_range(value: range) -> np.ndarray:
    if len(value) and max(abs(value[0]), abs(value[-1])) >= 2**63:
        return np.array([*value], dtype=object)
    return np.arange(len(value), dtype=np.int64) * (value.step if len(value) > 1 else 1) + value.start


def _of_list(value: Sequence[Any], name: str) -> np.ndarray:
    kinds = set(_kinds(value, name))
    try:
        array = np.array(value, copy=None)
    except ValueError:
        raise ValueError(f"{name} must be rectangular, got rows of different lengths") from None
    except OverflowError:  # an integer that no float holds, among floats
        array = np.array(value, dtype=object)
    return _with_wide_integers(array, value, kinds)


def _with_wide_integers(array: np.ndarray, value: Any, kinds: set[type]) -> np.ndarray:
    """The array of a list with entries of some types: NumPy's own choice for integers differs between machines."""
    if int not in kinds or array.dtype.kind not in "iufO":
        return array
    if array.dtype.kind == "i":
        return array.astype(np.promote_types(array.dtype, np.int64), copy=False)
    return np.array(value, dtype=object) if kinds <= {int, bool} else array


def _kinds(rows: Sequence[Any], name: str, depth: int = 1) -> Iterator[type]:
    """The types of the entries of nested lists; arrays among them are entries."""
    if depth > MOST_AXES:
        raise ValueError(f"{name} must have at most {MOST_AXES} axes, got lists that are nested deeper")
    for kind in set(map(type, rows)):
        if issubclass(kind, (list, tuple)):
            for row in rows:
                if type(row) is kind:
                    yield from _kinds(row, name, depth + 1)
            continue
        if kind is not np.ndarray and not _is_number(kind) and not issubclass(kind, (np.generic, str)):
            for entry in rows:
                if type(entry) is kind:
                    _check_entry(entry, name)
        yield kind


def _check_entry(entry: Any, name: str) -> None:
    """Refuse what NumPy would make numbers of without a word, or might take long to look into."""
    if isinstance(entry, np.ndarray):
        _of_plain(entry, name)
    elif not isinstance(entry, range):
        raise TypeError(f"{name} must hold numbers, got a list with {_named(entry)}")


def _check_objects(array: np.ndarray, name: str) -> None:
    for kind in set(map(type, array.ravel())):
        if not _is_number(kind):
            entry = next(entry for entry in array.ravel() if type(entry) is kind)
            raise TypeError(f"{name} must hold numbers, got {_named(entry)} in an array of Python objects")


@lru_cache(1024)
def _is_number(kind: type) -> bool:
    """Whether objects of a type are numbers, or at least multiply and add up as single values do."""
    if issubclass(kind, (Number, np.bool_)):
        return not issubclass(kind, np.timedelta64)
    counts = all(hasattr(kind, method) for method in ("__mul__", "__add__", "__radd__"))
    return counts and not any(hasattr(kind, part) for part in ("__len__", "__array__", "shape", "total_seconds"))


def _named(value: Any) -> str:
    """How an error names an entry: by its value if that is short and tells something, else by its type."""
    return shown(value) if value is None or isinstance(value, (str, bytes, timedelta)) else type(value).__name__


def is_dask(value: Any) -> bool:
    """Whether an operand is Dask's, told by its type: nothing is imported.

    Examples
    --------
    >>> is_dask([1, 2])
    False
    """
    return type(value).__module__.partition(".")[0] == "dask"


def _foreign(value: Any, name: str) -> TypeError:
    """What is said of an operand that belongs to another library, or is no array at all."""
    if isinstance(value, np.ma.MaskedArray):
        told = f"fill it first, as with {name}.filled(0)"
        return TypeError(f"{name} must be an array without a mask, got a masked array; {told}")
    if is_dask(value):
        return TypeError(
            f"{name} must be an array where there is no lazy form, got a Dask array; give {name}.compute()"
        )
    ways = {"toarray": f"{name}.toarray()", "to_numpy": f"{name}.to_numpy()", "__array__": f"numpy.asarray({name})"}
    way = next((f"; give {call}" for method, call in ways.items() if hasattr(type(value), method)), "")
    kind = "None" if value is None else type(value).__name__
    return TypeError(f"{name} must be an array, a number, or nested lists of numbers, got {kind}{way}")


def check_together(operands: dict[str, np.ndarray | None]) -> None:
    """Check that Python objects go together with all other numbers: decimal fractions go with integers only.

    Raises
    ------
    TypeError
        If decimal fractions meet fractions, floats or complex numbers.
    ValueError
        If an integer meets floats, of which none is as large.

    Examples
    --------
    >>> check_together({"x": np.array([Decimal(1)], dtype=object), "w": np.array([0.5])})
    Traceback (most recent call last):
    ...
    TypeError: x and w must hold numbers that multiply, got Decimal and float
    """
    kinds = {name: _number_kinds(array) for name, array in operands.items() if array is not None}
    decimal = next((name for name, found in kinds.items() if Decimal in found), None)
    inexact = next((name for name, found in kinds.items() if found & {float, complex}), None)
    for name, found in kinds.items() if decimal else ():
        if found & {float, complex, Fraction}:
            other = (found & {float, complex, Fraction}).pop().__name__
            raise TypeError(f"{decimal} and {name} must hold numbers that multiply, got Decimal and {other}")
    for name, array in operands.items() if inexact else ():
        if array is not None:
            check_fits_floats(array, name)


def check_fits_floats(array: np.ndarray, name: str) -> None:
    """Check that an array has no integer of Python, and no fraction, that is beyond all floats.

    Raises
    ------
    ValueError
        If it has one.

    Examples
    --------
    >>> check_fits_floats(np.array([10**400]), "x")
    Traceback (most recent call last):
    ...
    ValueError: x must hold numbers that fit floats, with which they are computed, got a larger one
    """
    if array.dtype.kind != "O":
        return
    if any(abs(entry) >= LARGEST_FLOAT for entry in array.ravel() if isinstance(entry, (int, Fraction))):
        raise ValueError(f"{name} must hold numbers that fit floats, with which they are computed, got a larger one")


def _number_kinds(array: np.ndarray) -> set[type]:
    """What numbers an array holds, as Python's types."""
    if array.dtype.kind != "O":
        return {{"f": float, "c": complex}.get(array.dtype.kind, int)}
    found = set(map(type, array.ravel()))
    return {next((base for base, kinds in _BASES.items() if issubclass(kind, kinds)), kind) for kind in found}


_BASES = {
    Decimal: Decimal,
    Fraction: Fraction,
    int: (int, np.integer),
    float: (float, np.floating),
    complex: (complex, np.complexfloating),
}


def check_values(operand: Any, name: str) -> None:
    """Check that an operand has values, which are to be looked at.

    Raises
    ------
    ValueError
        If it is a tensor on the meta device.

    Examples
    --------
    >>> check_values(np.ones(3), "k")
    """
    if getattr(operand, "is_meta", False):
        raise ValueError(f"{name} must have values, which are looked at here, got a tensor on the meta device")


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
    if x.dtype.kind == "O":
        for kind in set(map(type, x.ravel())):
            if issubclass(kind, (complex, np.complexfloating)):
                raise TypeError(f"{name} must hold real numbers, got {kind.__name__} in an array of Python objects")
