"""The judge of the book's exercises: it tells a right answer from a wrong one, and a wrong one from none yet.

An exercise leaves a function to be written. Until it is, it returns nothing, and the judge says so; afterwards each
case is compared exactly, and the first that differs is named with what would be right.

    def full_length(N, M):
        ...  # your line here


    judge(full_length, [((5, 3), 7), ((1, 1), 1)])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def judge(answer: Callable[..., Any], cases: Iterable[tuple[tuple[Any, ...], Any]]) -> bool | None:
    """Call ``answer`` on each case, compare with what is right, and print one sentence about it.

    Parameters
    ----------
    answer : callable
        The reader's function.
    cases : iterable of (arguments, expected)
        The arguments as a tuple, and the right result: a number, an array or a sequence of them. Results are equal if
        their shapes and all their values are: nothing is rounded.

    Returns
    -------
    bool or None
        True if all cases are right, False if one is wrong or raises an error, None if the function returned nothing.

    Raises
    ------
    ValueError
        If there is no case: nothing can be judged then.

    See Also
    --------
    numpy.array_equal : The comparison.

    Examples
    --------
    >>> def full_length(N, M):
    ...     return N + M
    >>> judge(full_length, [((5, 3), 7), ((1, 1), 1)])
    Not right: full_length(5, 3) gave 8, and 7 is right.
    False
    """
    cases = list(cases)
    if not cases:
        raise ValueError("cases must hold at least one pair (arguments, expected), got none")
    name = getattr(answer, "__name__", "your function")
    for arguments, expected in cases:
        call = f"{name}({', '.join(map(_shown, arguments))})"
        try:
            found = answer(*arguments)
        except Exception as error:
            print(f"Not right: {call} raised {type(error).__name__}: {error}")
            return False
        if found is None:
            print(f"Not yet: {name} returned nothing.")
            return None
        if not _equal(found, expected):
            print(f"Not right: {call} gave {_shown(found)}, and {_shown(expected)} is right.")
            return False
    print(f"Right on {'the one case' if len(cases) == 1 else f'all {len(cases):,} cases'}.")
    return True


def _equal(found: Any, expected: Any) -> bool:
    try:
        return np.array_equal(np.asarray(found), np.asarray(expected))
    except (TypeError, ValueError):  # ragged or foreign: no array, so not the right one
        return False


def _shown(value: Any) -> str:
    """Return a value on one line: arrays as lists, NumPy's scalars as numbers, long ones cut."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
