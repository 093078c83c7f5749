"""One function for one to three spatial axes, under the names that users know: ``conv1d``, ``conv2d``, ``conv3d``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def by_rank(function: Function, name: str) -> tuple[Function, Function, Function]:
    """Return ``function`` for one, two and three spatial axes, a number that it takes as its first argument.

    Each gets ``name`` and the docstring of ``function``, in which ``#`` stands for the number of axes.

    Examples
    --------
    >>> rank1d, rank2d, rank3d = by_rank(lambda axes, x: (axes, x), "rank#d")
    >>> rank2d.__name__, rank2d("x"), str(inspect.signature(rank2d))
    ('rank2d', (2, 'x'), '(x)')
    """
    return _at_rank(function, name, 1), _at_rank(function, name, 2), _at_rank(function, name, 3)


def _at_rank(function: Function, name: str, axes: int) -> Function:
    @functools.wraps(function)
    def at_rank(*args: Any, **kwargs: Any) -> Any:
        return function(axes, *args, **kwargs)

    signature = inspect.signature(function)
    at_rank.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    at_rank.__name__ = at_rank.__qualname__ = name.replace("#", str(axes))
    at_rank.__doc__ = (function.__doc__ or "").replace("#", str(axes))
    return at_rank
