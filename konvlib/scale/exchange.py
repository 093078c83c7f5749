"""What a rank sees of an axis that is cut: its own samples, copied once, and what others send of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from konvlib.geometry import halos
from konvlib.geometry.halos import Read
from konvlib.layers import memory


class Piece(NamedTuple):
    """Samples of one rank that another sees, or itself: ``length`` from ``start`` on, which stand at ``place``."""

    start: int
    place: int
    length: int


class Exchange(NamedTuple):
    """Along an axis of ``size`` samples, what this rank sees, what it is sent by each rank, and what it sends to each.

    Pieces that are sent start within this rank's samples; those that come stand, as its own do, within what it reads.
    """

    axis: int
    size: int
    read: Read
    own: list[Piece]
    comes: list[list[Piece]]
    goes: list[list[Piece]]
    group: Any


def exchange_of(axis: int, bounds: Sequence[int], reads: Sequence[Read], me: int, group: Any) -> Exchange:
    """Return the exchange of rank ``me``, where rank ``r`` has samples from ``bounds[r]`` on and sees ``reads[r]``.

    Examples
    --------
    >>> exchange = exchange_of(2, (0, 4, 8), [Read(((0, 5),), (0, 5), (1, 0)), Read(((3, 8),), (0, 5))], 0, None)
    >>> exchange.own, exchange.comes[1], exchange.goes[1]
    ([Piece(start=0, place=0, length=4)], [Piece(start=0, place=4, length=1)], [Piece(start=3, place=0, length=1)])
    """
    comes = _pieces(reads[me], bounds)
    goes = [_pieces(read, bounds)[me] for read in reads]
    own, comes[me], goes[me] = comes[me], [], []
    return Exchange(axis, bounds[me + 1] - bounds[me], reads[me], own, comes, goes, group)


def _pieces(read: Read, bounds: Sequence[int]) -> list[list[Piece]]:
    """What is read of each rank's samples; spans stand one after the other."""
    found: list[list[Piece]] = [[] for _ in bounds[1:]]
    place = 0
    for span in read.spans:
        for rank, first, last in halos.pieces(*span, bounds):
            found[rank].append(Piece(first, place, last - first))
            place += last - first
    return found


class Seen(torch.autograd.Function):
    """What this rank sees, the zeros around it included. Its derivative is its transpose, `Given`.

    One step of the graph on every rank, whatever is exchanged: derivatives of any order then meet the exchanges of all
    ranks in one order.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, exchange: Exchange) -> Tensor:
        ctx.exchange = exchange
        axis, read = exchange.axis, exchange.read
        before, after = read.zeros
        seen = _empty(x, axis, before + read.samples + after)
        seen.narrow(axis, 0, before).zero_()
        seen.narrow(axis, before + read.samples, after).zero_()
        samples = seen.narrow(axis, before, read.samples)
        for start, place, length in exchange.own:
            samples.narrow(axis, place, length).copy_(x.narrow(axis, start, length))
        sent = [[x.narrow(axis, piece.start, piece.length) for piece in pieces] for pieces in exchange.goes]
        got = [[samples.narrow(axis, piece.place, piece.length) for piece in pieces] for pieces in exchange.comes]
        for part, values in _exchanged(sent, got, x, exchange.group):
            part.copy_(values)
        left, right = (torch.tensor(places, device=x.device, dtype=torch.long) for places in read.shown)
        if len(left) + len(right) == 0:
            return seen
        first, last = read.core
        core = samples.narrow(axis, first, last - first)
        return torch.cat([samples.index_select(axis, left), core, samples.index_select(axis, right)], axis)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return Given.apply(*grad_outputs, ctx.exchange), None


class Given(torch.autograd.Function):
    """For each sample of this rank, the sum of what stands where it is seen, on all ranks: the transpose of `Seen`."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, exchange: Exchange) -> Tensor:
        ctx.exchange = exchange
        axis, read = exchange.axis, exchange.read
        samples = seen.narrow(axis, read.zeros[0], seen.shape[axis] - sum(read.zeros))
        left, right = (torch.tensor(places, device=seen.device, dtype=torch.long) for places in read.shown)
        if len(left) + len(right):
            first, last = read.core
            parts = samples.split([len(left), last - first, len(right)], axis)
            samples = _empty(seen, axis, read.samples).zero_()
            samples.narrow(axis, first, last - first).copy_(parts[1])
            samples.index_add_(axis, left, parts[0]).index_add_(axis, right, parts[2])
        total = _empty(seen, axis, exchange.size)
        if sum([piece.length for piece in exchange.own]) < exchange.size:
            total.zero_()
        for start, place, length in exchange.own:
            total.narrow(axis, start, length).copy_(samples.narrow(axis, place, length))
        sent = [[samples.narrow(axis, piece.place, piece.length) for piece in pieces] for pieces in exchange.comes]
        got = [[total.narrow(axis, piece.start, piece.length) for piece in pieces] for pieces in exchange.goes]
        for part, values in _exchanged(sent, got, seen, exchange.group):
            part.add_(values)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return Seen.apply(*grad_outputs, ctx.exchange), None


def _empty(like: Tensor, axis: int, length: int) -> Tensor:
    return memory.empty(like, (*like.shape[:axis], length, *like.shape[axis + 1 :]))


def _exchanged(
    sent: list[list[Tensor]], got: list[list[Tensor]], like: Tensor, group: Any
) -> list[tuple[Tensor, Tensor]]:
    """Send parts to each rank; return those that are to be got, each beside what came for it."""
    given = torch.cat([like.new_empty(0), *[part.reshape(-1) for parts in sent for part in parts]])
    to, come = ([sum([part.numel() for part in parts]) for parts in each] for each in (sent, got))
    came = like.new_empty(sum(come))
    dist.all_to_all_single(came, given, come, to, group=group)
    wanted = [part for parts in got for part in parts]
    each = came.split([part.numel() for part in wanted])
    return [(part, values.view(part.shape)) for part, values in zip(wanted, each, strict=True)]
