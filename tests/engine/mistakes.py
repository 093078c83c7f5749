"""The usual wrong values of arguments that many functions share, what each of them is told, and that it is told so."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

MISTAKES: dict[str, list[tuple[Any, type[Exception], str]]] = {
    name: [
        (0, ValueError, f"{name} must be at least 1, got 0"),
        ((1, -2), ValueError, f"{name}[1] must be at least 1, got -2"),
        ((1, 2, 3, 4), ValueError, f"{name} must be one integer or 2, one per axis, got (1, 2, 3, 4)"),
        (1.5, TypeError, f"{name} must be an integer, got 1.5"),
        (True, TypeError, f"{name} must be an integer, got True"),
    ]
    for name in ("stride", "dilation", "kernel_size", "input_size")
}
MISTAKES["output_padding"] = [
    (-1, ValueError, "output_padding must be at least 0, got -1"),
    ((1, 2, 3), ValueError, "output_padding must be one integer or 2, one per axis, got (1, 2, 3)"),
    (1.5, TypeError, "output_padding must be an integer, got 1.5"),
]
MISTAKES["padding"] = [
    (-1, ValueError, "padding must be at least 0, got -1"),
    ("full", ValueError, "padding must be one of same, same_upper, same_lower, valid, got 'full'"),
    (1.5, TypeError, "padding must be an integer, got 1.5"),
]
MISTAKES["groups"] = [
    (0, ValueError, "groups must be at least 1, got 0"),
    (2.0, TypeError, "groups must be an integer, got 2.0"),
]
MISTAKES["padding_mode"] = [
    ("mirror", ValueError, "padding_mode must be one of zeros, reflect, replicate, circular, got 'mirror'"),
    (None, TypeError, "padding_mode must be one of zeros, reflect, replicate, circular, got None"),
]
MISTAKES["ceil_mode"] = [(1, TypeError, "ceil_mode must be True or False, got 1")]
MISTAKES["count_include_pad"] = [(None, TypeError, "count_include_pad must be True or False, got None")]
OPERANDS = ("x", "w", "bias", "dy", "cols", "kappa")


def mistakes_in(function: Callable[..., Any], *, arrays: bool) -> Iterator[tuple[dict[str, Any], type[Exception], str]]:
    """Each wrong argument of a function over two axes, its kind of error and the whole message.

    With ``arrays``, also operands that are no arrays of numbers.
    """
    for name in inspect.signature(function).parameters:
        for value, kind, message in MISTAKES.get(name, ()):
            yield {name: value}, kind, message
        if arrays and name in OPERANDS:
            yield {name: [[["one"]]]}, TypeError, f"{name} must hold numbers, got dtype <U3"
            yield {name: [[1], [1, 2]]}, ValueError, f"{name} must be rectangular, got rows of different lengths"


def assert_refused(
    kind: type[Exception], message: str, function: Callable[..., Any], /, *operands: Any, **options: Any
) -> None:
    """That a call raises this kind of error, with just this message."""
    with pytest.raises(kind) as raised:
        function(*operands, **options)
    told = str(raised.value)
    assert told == message, f"told {told!r} in place of {message!r}"


def assert_each_mistake_is_named(function: Callable[..., Any], good: dict[str, Any], *, arrays: bool) -> None:
    """That a good call becomes an error with each of `mistakes_in` its function."""
    function(**good)
    found = list(mistakes_in(function, arrays=arrays))
    only_operands = set(inspect.signature(function).parameters) <= set(OPERANDS)
    assert found or (only_operands and not arrays), "there is no mistake to make"
    for wrong, kind, message in found:
        assert_refused(kind, message, function, **good | wrong)
