"""From a public function to the backend that computes it: operands made ready, arguments checked once for each key."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from konvlib.geometry.arguments import shown
from konvlib.geometry.batches import lacks_batch, told_rank
from konvlib.geometry.layers import ConvGeometry, one_of_equals
from konvlib.geometry.memory import check_memory
from konvlib.geometry.operands import as_array, check_ordered, check_together, is_dask


class ArrayOrTensor(Protocol):
    """A NumPy array or a torch tensor: what public functions take, and return."""

    @property
    def shape(self) -> Any: ...


T = TypeVar("T", bound=ArrayOrTensor)
Operand: TypeAlias = T | Sequence[Any]
"""An operand of a public function; nested lists of numbers are arrays too."""


class Batched(NamedTuple):
    """The operands of a function that have a batch as their first axis, or all of them none."""

    names: Sequence[str]
    rank: int | str  # how many axes they have with it; or what tells: a weight, or an argument with an entry for each
    along: Sequence[str] = ()  # arguments that hold the shape of something with the same batch
    gives_batch: bool = True  # whether results have it, too


MOST_PLANS = 4096
"""How many geometries are remembered; then all are forgotten, and made again as they come."""

MANY = 2**20
"""Up to how many numbers nobody asks whether they fit in memory."""

_plans: dict[Any, Any] = {}
"""Geometries by shapes and arguments; for tensors found good, with their backend, by all that they are but values."""


def prepared(
    arrays: ModuleType,
    tensors: Callable[[], ModuleType],
    check: Callable[..., Any],
    operands: dict[str, Any],
    arguments: dict[str, Any],
    *,
    ordered: Sequence[str] = (),
    dtypes: str = "DTYPES",
    batched: Batched | None = None,
) -> tuple[Any, list[Any], Any]:
    """Return the backend for some operands, the operands as it takes them, and their checked geometry.

    A torch tensor among the operands means what ``tensors()`` imports; without torch imported there can be none, so
    none is imported here. Everything else means ``arrays``.

    Operands without a batch become a batch of one, and what the backend returns loses it again.

    Parameters
    ----------
    arrays : module
        The backend for arrays.
    tensors : function
        Gives the backend for tensors.
    check : function
        ``check(*shapes, **arguments)`` checks everything and returns the geometry; the shape of a bias that is None is
        None. The name of a bias ends with "bias".
    operands, arguments : dict
        By name, operands in the order in which ``check`` takes their shapes.
    ordered : sequence of str
        The operands that must be real, because their entries are compared.
    dtypes : str
        By what name the backend for tensors has the dtypes that it takes.
    batched : Batched, optional
        The operands that may lack a batch.

    Raises
    ------
    TypeError, ValueError
        If operands are no numbers or do not go together, and as ``check`` does. The hundredth call raises what the
        first one did: only what was found good is remembered.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> from konvlib import images
    >>> operands = {"x": [[[1, 3, 2]]], "w": [[[2, 1]]], "bias": None}
    >>> backend, (x, w, bias), layer = prepared(images.arrays, images._tensors, conv_geometry, operands, {"axes": 1})
    >>> backend.conv(x, w, bias, layer)
    array([[[5, 8]]])
    """
    torch, key, found = sys.modules.get("torch"), None, None
    if torch is not None and any([isinstance(operand, torch.Tensor) for operand in operands.values()]):
        from konvlib import checks

        facts = checks.facts_of(operands)
        if facts is not None:  # a graph must not depend on what is remembered
            key, found = _remembered((check, tensors, dtypes, *facts), arguments)
        if found is not None:
            backend, plan = found
            return backend, list(operands.values()), plan
        backend, given, plan_of = tensors(), operands, checks.plan_of_tensors
        checks.check_tensors(given, getattr(backend, dtypes))
    else:
        backend, plan_of = arrays, _plan_of_arrays
        try:
            given: dict[str, Any] = {
                name: None if operand is None and name.endswith("bias") else as_array(operand, name)
                for name, operand in operands.items()
            }
        except TypeError:
            if not any(map(is_dask, operands.values())):
                raise
            backend, plan_of, given = _lazy(arrays, operands)
        if any([array is not None and array.dtype.kind == "O" for array in given.values()]):
            check_together(given)
        for name in ordered:
            check_ordered(given[name], name)
    if batched:
        rank = batched.rank if isinstance(batched.rank, int) else told_rank(batched.rank, given, arguments)
        for name in batched.names:
            if given[name].ndim != rank and rank:
                return _without_batch(backend, plan_of, check, given, arguments, batched)
    plan = plan_of(check, given, arguments)
    if key is not None and getattr(plan, "numbers", 0) <= MANY:
        _remember(key, (backend, plan))
    return backend, list(given.values()), plan


def _lazy(arrays: ModuleType, operands: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The backend for Dask arrays, what plans for it, and the operands as it takes them; they fit in no memory."""
    from konvlib.scale.lazy import checked
    from konvlib.scale.lazy_backend import Backend

    def plan_of(check: Callable[..., Any], given: dict[str, Any], arguments: dict[str, Any]) -> Any:
        return planned(check, [None if array is None else array.shape for array in given.values()], arguments)

    return Backend(arrays.__name__.rpartition(".")[0]), plan_of, checked(operands)


def _without_batch(
    backend: Any, plan_of: Any, check: Any, given: dict[str, Any], arguments: dict[str, Any], batched: Batched
) -> tuple[Any, list[Any], Any]:
    """As `prepared`, for operands that have another number of axes than a batch: with an axis before, if one fewer."""
    names, rank, along, gives_batch = batched
    shapes = {name: given[name].shape for name in names}
    shapes |= {name.removesuffix("_shape"): arguments[name] for name in along}
    if isinstance(rank, int):
        lacks_batch(shapes, rank)
    else:
        by = f"{rank} of shape {tuple(given[rank].shape)}" if rank in given else f"{rank} {shown(arguments[rank])}"
        lacks_batch(shapes, told_rank(rank, given, arguments), f", with {by}")
    given = {name: operand[None] if name in names else operand for name, operand in given.items()}
    arguments = {name: (1, *value) if name in along else value for name, value in arguments.items()}
    try:
        plan = plan_of(check, given, arguments)
    except ValueError as error:
        if not any(str((1, *shape)) in str(error) for shape in shapes.values()):
            raise
        raise ValueError(f"{error}; {' and '.join(shapes)} had no batch and got one of size 1") from None
    return _OfOne(backend) if gives_batch else backend, list(given.values()), plan


class _OfOne:
    """A backend whose results lose their batch, which is the one sample that there is."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self.backend, name)

        def of_one(*given: Any) -> Any:
            results = function(*given)
            return tuple([result[0] for result in results]) if isinstance(results, tuple) else results[0]

        return of_one


def _plan_of_arrays(check: Callable[..., Any], given: dict[str, Any], arguments: dict[str, Any]) -> Any:
    plan = planned(check, [None if array is None else array.shape for array in given.values()], arguments)
    if (numbers := getattr(plan, "numbers", 0)) > MANY:
        check_memory(numbers * max([a.itemsize for a in given.values() if a is not None]), arguments, given)
    return plan


def planned(check: Callable[..., Any], shapes: Sequence[Any], arguments: dict[str, Any]) -> Any:
    """Return ``check(*shapes, **arguments)``, remembered for equal shapes and arguments.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> once, again = (planned(conv_geometry, [(1, 1, 9), (1, 1, 3)], {"axes": 1, "stride": 2}) for _ in range(2))
    >>> once is again
    True
    """
    key, plan = _remembered((check, *shapes), arguments)
    if key is None:
        return check(*shapes, **arguments)
    if plan is None:
        plan = check(*shapes, **arguments)
        plan = one_of_equals(plan) if isinstance(plan, ConvGeometry) else plan
        _remember(key, plan)
    return plan


def _remember(key: Any, found: Any) -> None:
    if len(_plans) >= MOST_PLANS:
        _plans.clear()
    _plans[key] = found


def _remembered(start: tuple[Any, ...], arguments: dict[str, Any]) -> tuple[Any, Any]:
    """All of it as one key, and what is remembered by that, if anything.

    There is no key, but None, of an array for an argument, or of what a check refuses.
    """
    try:
        key = (*start, *[a if type(a) is int or type(a) is str else _exact(a) for a in arguments.values()])
        return key, _plans.get(key)
    except (TypeError, ValueError, RecursionError):
        return None, None


def _exact(value: Any) -> Any:
    """A key that tells 1 from True and 1.0; a list may stand for a tuple."""
    if isinstance(value, (tuple, list)):
        return tuple(value) if all([type(each) is int for each in value]) else tuple(map(_exact, value))
    return type(value), value
