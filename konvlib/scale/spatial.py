"""A layer on strips of an image: each process holds one, and they exchange what windows see of their neighbours'."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

import konvlib
from konvlib import geometry
from konvlib.geometry import halos
from konvlib.konvolution.layer import KonvLayer
from konvlib.layers import padding as borders
from konvlib.scale.exchange import Seen, exchange_of

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVG_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


class Plan(NamedTuple):
    """Who computes what: rank r has samples from ``bounds[r]`` on, sees ``reads[r]``, gives outputs from ``cuts[r]``.

    ``whole`` is the layer of the whole image.
    """

    bounds: tuple[int, ...]
    cuts: tuple[int, ...]
    reads: list[halos.Read]
    whole: Any


def strips(
    layer: nn.Module, x: Tensor, bounds: Sequence[int], group: Any = None, *, axis: int = 2
) -> tuple[Tensor, tuple[int, ...]]:
    r"""Return this process's strip of a layer of an image, and where the strips of the result begin.

    Rank ``r`` gives the samples ``bounds[r] <= j < bounds[r + 1]`` of one axis, and receives from the others what its
    windows see beyond; the result is cut at the returned bounds, with which the next layer is called. Rank ``r`` sees

    .. math:: [\,i_0 s - p,\; (i_1 - 1)\, s - p + d(k-1) + 1\,)

    It is differentiable as often as the layer: what was received sends its gradient back, and the gradients of the
    layer's parameters are the sums over all ranks, equal on each, so that no other reduction may follow. The loss is
    the sum of what the ranks call theirs.

    Parameters
    ----------
    layer : module
        A `torch.nn` convolution, transposed convolution, max or average pooling, or a Konvolution; alike on all ranks,
        in what is differentiated, too.
    x : tensor, shape (N, C, *size)
        This rank's strip.
    bounds : sequence of int
        From 0 to the size of the whole axis, rising; one more than ranks; alike on all ranks.
    group : process group, optional
        By default, all processes. Those that are not in it may not call.
    axis : int
        The axis of ``x`` that is cut: 2 is the first spatial one.

    Returns
    -------
    y : tensor
        This rank's strip of the result.
    bounds : tuple of int
        The bounds of the result.

    Raises
    ------
    ValueError, TypeError
        On every rank, if the layer is none of these, if bounds do not rise or go with the number of ranks, if some
        rank's strip does not go with them, if ranks differ in layer, bounds or axis, or if a rank would have no
        outputs, or only outputs that see no sample.

    See Also
    --------
    konvlib.scale.register : Other axes over processes.

    Examples
    --------
    >>> import tempfile
    >>> store = dist.FileStore(tempfile.NamedTemporaryFile().name, 1)
    >>> dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    >>> y, bounds = strips(nn.Conv2d(1, 2, 3, stride=2, padding=1), torch.ones(1, 1, 8, 6), (0, 8))
    >>> y.shape, bounds
    (torch.Size([1, 2, 4, 3]), (0, 4))
    >>> dist.destroy_process_group()
    """
    group = dist.group.WORLD if group is None else group
    me, world = dist.get_rank(group), dist.get_world_size(group)
    if me < 0:
        raise ValueError("group must contain the rank that calls, got one of other ranks")
    plan, error = None, None
    try:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {type(x).__name__}")
        plan = plan_of(layer, tuple(x.shape), bounds, me, world, axis)
    except Exception as caught:  # whatever it is: raised here at once, it would leave the others waiting
        error = caught
    # Only a rank itself knows that its strip is wrong: all say so before the exchange, and whether they need slopes.
    slopes = plan is not None and x.requires_grad and torch.is_grad_enabled()
    alike = 0 if plan is None else _digest(layer, x, axis, plan)
    said = torch.tensor([error is not None, slopes, alike, -alike], device=getattr(x, "device", None))
    dist.all_reduce(said, dist.ReduceOp.MAX, group=group)
    wrong, slopes, most, least = said.tolist()
    if error is not None:
        raise error
    if wrong or plan is None:
        raise ValueError("x, bounds or layer of another rank were refused; see what that rank raised")
    if most != -least:
        raise ValueError(
            f"ranks must give alike layers, bounds, axes and dtypes, and differentiate alike; others do not as "
            f"this one, which gave {layer}, bounds {plan.bounds}, axis {axis} and {x.dtype}"
        )
    if slopes and not x.requires_grad:
        x = x.detach().requires_grad_()
    # Poolings and Konvolutions know padding that is not zeros, so what is seen there stays theirs.
    read = plan.reads[me]
    bare = read if isinstance(layer, CONVS) else read._replace(zeros=(0, 0))
    reads = [*plan.reads[:me], bare, *plan.reads[me + 1 :]]
    block = Seen.apply(x, exchange_of(axis, plan.bounds, reads, me, group))
    return _apply(layer, block, plan, me, axis, group), plan.cuts


def _digest(layer: nn.Module, x: Tensor, axis: int, plan: Plan) -> int:
    """A number that differs, but for one chance in billions, between ranks that would not exchange the same."""
    parameters = [(name, p.shape, p.dtype, p.requires_grad) for name, p in layer.named_parameters()]
    told = type(layer).__name__, axis, plan, x.dtype, parameters, torch.is_grad_enabled()
    return zlib.crc32(repr(told).encode())


def plan_of(layer: nn.Module, shape: tuple[int, ...], bounds: Sequence[int], me: int, world: int, axis: int) -> Plan:
    """Return who computes what, from shapes alone.

    Raises
    ------
    ValueError, TypeError
        As `strips`.

    Examples
    --------
    >>> plan_of(nn.MaxPool2d(2), (1, 1, 4, 6), (0, 4, 8), 0, 2, 2).cuts
    (0, 2, 4)
    """
    bounds = tuple([geometry.integer(bound, "bounds", least=0) for bound in bounds])
    if len(bounds) != world + 1 or bounds[0] != 0 or any([a >= b for a, b in pairwise(bounds)]):
        raise ValueError(f"bounds must rise from 0, {world + 1} of them for {world} ranks, got {bounds}")
    if not 2 <= axis < len(shape):
        raise ValueError(f"axis must be a spatial one, from 2 to {len(shape) - 1}, got {axis}")
    if shape[axis] != bounds[me + 1] - bounds[me]:
        raise ValueError(
            f"x must have {bounds[me + 1] - bounds[me]} samples on axis {axis}, those from {bounds[me]} to "
            f"{bounds[me + 1]} on rank {me}, got shape {shape}"
        )
    size, i = bounds[-1], axis - 2
    whole = _geometry(layer, (*shape[:axis], size, *shape[axis + 1 :]))
    one = halos.window_of(whole, i)
    if isinstance(layer, TRANSPOSES):
        cuts = halos.outputs_beside_transposed(bounds, whole.input_size[i], **one)
        spans = [halos.inputs_of_transposed(a, b, size, **one) for a, b in pairwise(cuts)]
        reads = [halos.Read(((a, b),) if b > a else (), (0, b - a)) for a, b in spans]
    else:
        cuts = halos.outputs_beside(bounds, whole.output_size[i], **one)
        mode, none = getattr(whole, "padding_mode", "zeros"), halos.Read((), (0, 0))
        spans = [halos.inputs_of(a, b, **one) if b > a else None for a, b in pairwise(cuts)]
        reads = [halos.read(*span, size, mode) if span else none for span in spans]
    for rank, ((a, b), read) in enumerate(zip(pairwise(cuts), reads, strict=True)):
        if a == b or not read.samples:
            what = "no outputs" if a == b else f"outputs {a} to {b}, which see no sample"
            raise ValueError(f"bounds {bounds} leave rank {rank} {what}; give it more samples, or take fewer ranks")
    return Plan(bounds, tuple(cuts), reads, whole)


def _geometry(layer: nn.Module, shape: tuple[int, ...]) -> Any:
    """The layer on the whole image, as its function's check gives it."""
    axes = len(shape) - 2
    if isinstance(layer, (*CONVS, *TRANSPOSES)):
        options: dict[str, Any] = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        options |= {"axes": axes}
        if isinstance(layer, CONVS):
            return geometry.conv_geometry(shape, layer.weight.shape, padding_mode=layer.padding_mode, **options)
        return geometry.conv_transpose_geometry(
            shape, layer.weight.shape, output_padding=layer.output_padding, **options
        )
    if isinstance(layer, KonvLayer):
        names = ("stride", "padding", "dilation", "groups", "padding_mode", "pad")
        given = {name: getattr(layer, name) for name in names}
        return geometry.konv_geometry(shape, layer.kappa.shape, axes=axes, **given).layer
    if isinstance(layer, (*MAX_POOLS, *AVG_POOLS)):
        if getattr(layer, "return_indices", False) or getattr(layer, "divisor_override", None):
            raise ValueError("layer must be a pooling without return_indices and divisor_override")
        options = {name: getattr(layer, name) for name in ("stride", "padding", "ceil_mode")}
        return geometry.pool_geometry(
            shape, layer.kernel_size, axes=axes, dilation=getattr(layer, "dilation", 1), **options
        )
    raise TypeError(
        f"layer must be a convolution, a transposed one, a max or average pooling of torch.nn, or a Konvolution, got "
        f"{type(layer).__name__}; layers that see one sample at a time need no strips"
    )


class _Summed(torch.autograd.Function):
    """A parameter that all ranks share: its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, group: Any) -> Tensor:
        ctx.group = group
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(*grad_outputs, ctx.group), None


class _Total(torch.autograd.Function):
    """The sum over all ranks, on each; its derivative is the same sum."""

    @staticmethod
    def forward(ctx: Any, term: Tensor, group: Any) -> Tensor:
        ctx.group = group
        total = term.contiguous().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return _Total.apply(*grad_outputs, ctx.group), None


def _apply(layer: Any, block: Tensor, plan: Plan, me: int, axis: int, group: Any) -> Tensor:
    """The layer on what this rank sees; its other axes are whole."""
    whole, read, i = plan.whole, plan.reads[me], axis - 2
    start, stop = plan.cuts[me], plan.cuts[me + 1]
    axes = whole.axes
    names = [name for name, _ in layer.named_parameters()] if isinstance(layer, KonvLayer) else ("weight", "bias")
    given = {name: layer.get_parameter(name) if "." in name else getattr(layer, name, None) for name in names}
    shared = {name: _Summed.apply(p, group) for name, p in given.items() if p is not None}
    if isinstance(layer, TRANSPOSES):
        function = getattr(konvlib, f"conv_transpose{axes}d")
        sides = [(0, 0) if place == i else pair for place, pair in enumerate(whole.padding)]
        extra = [0 if place == i else e for place, e in enumerate(_per_axis(layer.output_padding, axes))]
        options = {"stride": whole.stride, "dilation": whole.dilation, "groups": whole.groups}
        y = function(block, shared["weight"], padding=sides, output_padding=extra, **options)
        at = start + whole.padding[i][0] - read.spans[0][0] * whole.stride[i]
        short = [max(-at, 0), max(at + stop - start - y.shape[axis], 0)]  # outputs that no input reaches
        y = nn.functional.pad(y, [0, 0] * (axes - 1 - i) + short).narrow(axis, at + short[0], stop - start)
        bias = shared.get("bias")
        return y if bias is None else y + bias.reshape(-1, *(1,) * axes)
    if isinstance(layer, (*MAX_POOLS, *AVG_POOLS)):
        kind = "max" if isinstance(layer, MAX_POOLS) else "avg"
        sides = [*whole.padding]
        sides[i] = halos.pool_sides(read, sides[i][1])
        options = {"stride": whole.stride, "padding": sides, "ceil_mode": layer.ceil_mode}
        if kind == "max":
            options["dilation"] = whole.dilation
        else:
            options["count_include_pad"] = layer.count_include_pad
        return getattr(konvlib, f"{kind}_pool{axes}d")(block, whole.kernel_size, **options)
    zeros = read.zeros if isinstance(layer, KonvLayer) else (0, 0)  # the block of others has them
    sides = [zeros if place == i else pair for place, pair in enumerate(whole.padding)]
    if whole.padding_mode != "zeros":  # along the cut axis the block has what padding shows
        block, sides = borders.pad(block, sides, whole.padding_mode), [(0, 0)] * axes
    if isinstance(layer, KonvLayer):
        local = copy.copy(layer)
        local.padding, local.padding_mode = tuple(sides), "zeros"
        return torch.func.functional_call(local, shared, (block,))
    options = {"stride": whole.stride, "dilation": whole.dilation, "groups": whole.groups, "padding": sides}
    return getattr(konvlib, f"conv{axes}d")(block, shared["weight"], shared.get("bias"), **options)


def _per_axis(values: Any, axes: int) -> Sequence[int]:
    return geometry.per_axis(values, axes, "output_padding", least=0)
