"""How operators compute on `torch.distributed.tensor.DTensor`: which placements go together, per mesh dimension."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor._op_schema import RuntimeSchemaInfo
from torch.distributed.tensor.experimental import register_sharding

from konvlib import runtime
from konvlib.operators import OPERATORS

Row = tuple[Sequence[Any], Sequence[Any]]
"""Placements of the results, and of the arguments that are tensors."""

R, P = Replicate(), Partial()
BATCH, CHANNELS = Shard(0), Shard(1)


def register() -> None:
    """Let konvlib's functions take `DTensor`, computed where its shards lie; calling it again changes nothing.

    Without groups a layer may be sharded by its batch, by its output channels, or by its input channels, whose sums
    are `Partial`; with groups by its batch. Poolings may be sharded by batch or channels. Whatever else is sharded,
    torch gathers. Every process calls this.

    Examples
    --------
    >>> import konvlib.scale
    >>> konvlib.scale.register()

    Notes
    -----
    A tensor whose sharded axis its mesh does not divide is a ValueError, on all ranks alike, before they communicate.
    """
    if runtime.SHARDED:
        return
    for name, rows in _ROWS.items():
        _register(OPERATORS[name], rows)
    runtime.SHARDED = (DTensor,)
    runtime.check_shards, runtime.replicated = check_shards, _replicated


def check_shards(name: str, tensors: Sequence[Any]) -> None:
    """Check that meshes divide what they shard.

    Raises
    ------
    ValueError
        If they do not; said alike on all ranks, since it looks at whole shapes alone.

    Examples
    --------
    >>> check_shards("conv", [])
    """
    for place, tensor in enumerate(tensors):
        if not isinstance(tensor, DTensor):
            continue
        parts: dict[int, int] = {}
        for number, placement in enumerate(tensor.placements):
            if isinstance(placement, Shard):
                dim = placement.dim % tensor.dim()
                parts[dim] = parts.get(dim, 1) * tensor.device_mesh.size(number)
        for dim, count in parts.items():
            if tensor.shape[dim] % count:
                raise ValueError(
                    f"operand {place} of {name} has shape {tuple(tensor.shape)}, and {count} ranks cannot share its "
                    f"axis {dim} of {tensor.shape[dim]} alike; take a multiple of {count}, or Replicate()"
                )


def _replicated(constants: Any, like: Any) -> Any:
    mesh = like.device_mesh
    if constants.sees is None:
        return constants
    sees = [DTensor.from_local(table, mesh, [R] * mesh.ndim, run_check=False) for table in constants.sees]
    return constants._replace(sees=tuple(sees))


def _register(operator: Any, rows: Callable[[tuple[Any, ...]], list[Row]]) -> None:
    op = operator.raw
    is_tensor = ["Tensor" in str(argument.type) for argument in op._schema.arguments]
    results = len(op._schema.returns)

    def acceptable(*given: Any) -> list[tuple[list[Any], list[Any]]]:
        out = []
        for made, taken in [([R] * results, [R] * sum(is_tensor)), *rows(given)]:
            each = iter(taken)
            placed = [next(each) if tensor else None for tensor in is_tensor]
            out.append((list(made), [None if a is None else p for p, a in zip(placed, given, strict=False)]))
        return out

    register_sharding(op)(acceptable)
    # What register_sharding remembers a rule's answer by begins at the first int, and an int[] before it does not
    # count: a second call with another stride would get the first one's shapes. Begin where the tensors end.
    schema = RuntimeSchemaInfo(sum(is_tensor), needs_pytree=True)
    DTensor._op_dispatcher.sharding_propagator.op_to_schema_info[op] = schema


def _dense(*rows: Row) -> Callable[[Sequence[Any]], list[Row]]:
    """The first row always; those after it, which shard channels, without groups, the operators' last argument."""
    return lambda given: list(rows if given[-1] == 1 else rows[:1])


def _konv(given: Sequence[Any]) -> list[Row]:
    """A bias may be a map, whose channels are its second axis."""
    bias = given[2]
    channels = Shard(0 if bias is None or len(bias.shape) == 1 else 1)
    return _dense(([BATCH], [BATCH, R, R]), ([CHANNELS], [R, Shard(0), channels]), ([P], [CHANNELS, Shard(2), P]))(
        given
    )


def _each(results: int, tensors: int, *placements: Any) -> Callable[[Sequence[Any]], list[Row]]:
    return lambda _: [([placement] * results, [placement] * tensors) for placement in placements]


_ROWS: dict[str, Callable[[Any], list[Row]]] = {
    "conv": _dense(([BATCH], [BATCH, R, R]), ([CHANNELS], [R, Shard(0), Shard(0)]), ([P], [CHANNELS, Shard(1), P])),
    "conv_transpose": _dense(
        ([BATCH], [BATCH, R, R]), ([P], [CHANNELS, Shard(0), P]), ([CHANNELS], [R, Shard(1), Shard(0)])
    ),
    "conv_weight_grad": _dense(([P], [BATCH, BATCH]), ([Shard(0)], [R, CHANNELS]), ([Shard(1)], [CHANNELS, R])),
    "konv": _konv,
    "whole_konv": _konv,
    "konv_input_grad": _dense(
        ([BATCH], [BATCH, BATCH, R]), ([P], [CHANNELS, R, Shard(0)]), ([CHANNELS], [R, CHANNELS, Shard(2)])
    ),
    "konv_kappa_grad": _dense(([P], [BATCH, BATCH]), ([Shard(0)], [R, CHANNELS]), ([Shard(2)], [CHANNELS, R])),
    "im2col": _each(1, 1, BATCH, CHANNELS),
    "col2im": _each(1, 1, BATCH),  # channels lie in runs of taps there, which a mesh need not keep whole
    "max_pool": _each(2, 1, BATCH, CHANNELS),
    "max_pool_scatter": _each(1, 2, BATCH, CHANNELS),
    "avg_pool": _each(1, 1, BATCH, CHANNELS),
    "avg_pool_scatter": _each(1, 1, BATCH, CHANNELS),
    "convolve_window": lambda _: [],
}
