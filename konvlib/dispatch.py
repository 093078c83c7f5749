"""From a public function to the backend that computes it: operands made ready, arguments checked once for each key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeAlias, TypeVar

from konvlib.geometry.memory import check_memory
from konvlib.geometry.operands import as_array, check_ordered, check_together


class ArrayOrTensor(Protocol):
    """A NumPy array or a torch tensor: what public functions take, and return."""

    @property
    def shape(self) -> Any: ...


T = TypeVar("T", bound=ArrayOrTensor)
Operand: TypeAlias = T | Sequence[Any]
"""An operand of a public function; nested lists of numbers are arrays too."""

MOST_PLANS = 4096
"""How many geometries are remembered; then all are forgotten, and made again as they come."""

MANY = 2**20
"""Up to how many numbers nobody asks whether they fit in memory."""

_plans: dict[Any, Any] = {}


def prepared(
    arrays: ModuleType,
    tensors: Callable[[], ModuleType] | None,
    check: Callable[..., Any],
    operands: dict[str, Any],
    arguments: dict[str, Any],
    *,
    ordered: Sequence[str] = (),
    dtypes: str = "DTYPES",
) -> tuple[Any, list[Any], Any]:
    """Return the backend for some operands, the operands as it takes them, and their checked geometry.

    A torch tensor among the operands means what ``tensors()`` imports; without torch imported there can be none, so
    none is imported here. Everything else means ``arrays``.

    Parameters
    ----------
    arrays : module
        The backend for arrays.
    tensors : function or None
        Gives the backend for tensors; None where a function has none.
    check : function
        ``check(*shapes, **arguments)`` checks everything and returns the geometry; the shape of a bias that is None is
        None. The name of a bias ends with "bias".
    operands, arguments : dict
        By name, operands in the order in which ``check`` takes their shapes.
    ordered : sequence of str
        The operands that must be real, because their entries are compared.
    dtypes : str
        By what name the backend for tensors has the dtypes that it takes.

    Raises
    ------
    TypeError, ValueError
        If operands are no numbers or do not go together, and as ``check`` does. The hundredth call raises what the
        first one did: only what was found good is remembered.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> from konvlib.images import arrays
    >>> operands = {"x": [[[1, 3, 2]]], "w": [[[2, 1]]], "bias": None}
    >>> backend, (x, w, bias), layer = prepared(arrays, None, conv_geometry, operands, {"axes": 1})
    >>> backend.conv(x, w, bias, layer)
    array([[[5, 8]]])
    """
    torch = sys.modules.get("torch")
    if torch is not None and any([isinstance(operand, torch.Tensor) for operand in operands.values()]):
        if tensors is None:
            raise TypeError(f"{arrays.__package__} takes arrays, got a torch tensor; give tensor.numpy()")
        from konvlib.registration import planned_tensors

        backend = tensors()
        return backend, list(operands.values()), planned_tensors(getattr(backend, dtypes), check, operands, arguments)
    given = [
        None if operand is None and name.endswith("bias") else as_array(operand, name)
        for name, operand in operands.items()
    ]
    if any([array is not None and array.dtype.kind == "O" for array in given]):
        check_together(dict(zip(operands, given, strict=True)))
    for array, name in zip(given, operands, strict=True) if ordered else ():
        if array is not None and name in ordered:
            check_ordered(array, name)
    plan = planned(check, [None if array is None else array.shape for array in given], arguments)
    if (numbers := getattr(plan, "numbers", 0)) > MANY:
        check_memory(numbers * max([array.itemsize for array in given if array is not None]), arguments, operands)
    return arrays, given, plan


def planned(check: Callable[..., Any], shapes: Sequence[Any], arguments: dict[str, Any]) -> Any:
    """Return ``check(*shapes, **arguments)``, remembered for equal shapes and arguments.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> once, again = (planned(conv_geometry, [(1, 1, 9), (1, 1, 3)], {"axes": 1, "stride": 2}) for _ in range(2))
    >>> once is again
    True
    """
    try:
        exact = [a if type(a) is int or type(a) is str else _exact(a) for a in arguments.values()]
        key = (check, *shapes, *exact)
        plan = _plans.get(key)
    except (TypeError, ValueError, RecursionError):  # no key: an array for an argument, or what the check refuses
        return check(*shapes, **arguments)
    if plan is None:
        plan = check(*shapes, **arguments)
        if len(_plans) >= MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def _exact(value: Any) -> Any:
    """A key that tells 1 from True and 1.0; a list may stand for a tuple."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if set(map(type, value)) == {int} else tuple(map(_exact, value))
    return type(value), value
