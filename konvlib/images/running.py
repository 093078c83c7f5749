"""What the windows of an axis hold, put together so that its cost hardly grows with the window.

A window of ``k`` samples is put together from pieces of 1, 2, 4, 8, ... samples, each made of two of the pieces before
it: as many steps as ``k`` has binary digits, for any associative operation. So the largest sample of each window is
found, its place too, and sums are taken in pairs, which loses fewer digits than term by term and subtracts nothing.

Functions here take *pieces*, a tuple of arrays or tensors ``(outer, size, inner)`` that belong together (values, or
values and their places), and act on the middle axis. They are made of slices and of what NumPy and PyTorch both have,
and never write into their operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from konvlib.geometry import PoolGeometry

Pieces = tuple[Any, ...]

FEW = 8
"""Up to how many samples of a step are put together one by one."""


class Axis(NamedTuple):
    """The windows of an axis: window ``i`` shows samples ``first + i * stride + u * dilation`` for ``u < kernel``.

    Those outside ``0 <= j < size`` are not there; each window has one that is.
    """

    size: int
    kernel: int
    stride: int
    dilation: int
    first: int
    count: int


def axis_of(pool: PoolGeometry, number: int) -> Axis:
    """Return the windows along an axis of a pooling.

    Examples
    --------
    >>> from konvlib.geometry import pool_geometry
    >>> axis_of(pool_geometry((1, 1, 5), 2, axes=1, padding=1), 0)
    Axis(size=5, kernel=2, stride=2, dilation=1, first=-1, count=3)
    """
    size, kernel, stride = pool.input_size[number], pool.kernel_size[number], pool.stride[number]
    return Axis(size, kernel, stride, pool.dilation[number], -pool.before[number], pool.output_size[number])


@dataclass(frozen=True)
class Operation:
    """How the pieces of two neighbouring parts of a window are put together, earlier samples first.

    Attributes
    ----------
    xp : module
        NumPy or PyTorch.
    of : function
        ``of(left, right)`` puts the pieces of two parts together.
    repeats : bool
        Whether parts may overlap: those of a largest sample may, those of a sum may not.
    """

    xp: Any
    of: Callable[[Pieces, Pieces], Pieces]
    repeats: bool


def largest_and_places(xp: Any) -> Operation:
    """The operation on values and their places that keeps the first of the largest values, or the last NaN.

    Examples
    --------
    >>> x, places = np.array([[[1], [3], [3]]]), np.array([[[0], [1], [2]]])
    >>> largest, place = over_windows((x, places), Axis(3, 2, 1, 1, 0, 2), largest_and_places(np))
    >>> largest.ravel(), place.ravel()
    (array([3, 3]), array([1, 1]))
    """

    def of(left: Pieces, right: Pieces) -> Pieces:
        (a, place_a), (b, place_b) = left, right
        later = (b > a) | (b != b)
        return xp.where(later, b, a), xp.where(later, place_b, place_a)

    return Operation(xp, of, True)


def sums(xp: Any) -> Operation:
    """The operation on values that adds them.

    Examples
    --------
    >>> over_windows((np.array([[[1], [3], [2]]]),), Axis(3, 2, 1, 1, 0, 2), sums(np))[0].ravel()
    array([4, 5])
    """
    return Operation(xp, lambda left, right: (left[0] + right[0],), False)


def over_windows(pieces: Pieces, axis: Axis, how: Operation) -> Pieces:
    """Put together what each window shows.

    With dilation, windows that start at samples of one remainder are windows without dilation on these samples; where
    there are more such remainders than taps that can show a sample, windows are put together tap by tap.

    Examples
    --------
    >>> x = np.array([[[1], [3], [2], [0], [4]]])
    >>> over_windows((x,), Axis(5, 10**9, 10**9, 1, 0, 1), sums(np))[0].ravel()
    array([10])
    """
    if axis.dilation == 1:
        return _dense(pieces, axis, how)
    if not _is_by_phases(axis):
        return _by_taps(pieces, axis, how)
    parts = [_dense(_cut(pieces, samples), part, how) for _, samples, part in _phases(axis)]
    return _interleaved(parts, axis.count, how)


def spread(dy: Any, axis: Axis, xp: Any) -> Any:
    """Give each sample the sum of what the windows that show it received: the transpose of summing over windows.

    Examples
    --------
    >>> spread(np.array([[[1], [5]]]), Axis(4, 2, 1, 1, 0, 2), np).ravel()
    array([1, 6, 5, 0])
    """
    how = sums(xp)
    if axis.dilation == 1:
        return _spread_dense(dy, axis, how)
    if not _is_by_phases(axis):
        return _spread_by_taps(dy, axis, xp)
    found = {samples.start: (windows, part) for windows, samples, part in _phases(axis)}
    parts = []
    for phase in range(min(axis.dilation, axis.size)):
        if phase in found:
            windows, part = found[phase]
            parts.append((_spread_dense(dy[:, windows], part, how),))
        else:
            parts.append((_zeros(xp, dy, len(range(phase, axis.size, axis.dilation))),))
    return _interleaved(parts, axis.size, how)[0]


def _phases(axis: Axis) -> Iterator[tuple[slice, slice, Axis]]:
    """Windows whose starts have one remainder by the dilation, the samples of that remainder, and the former on those.

    With :math:`g = \\gcd(s, d)`, windows of one remainder lie :math:`d / g` windows apart, and :math:`s / g` samples of
    that remainder.
    """
    size, kernel, stride, dilation, first, count = axis
    common = gcd(stride, dilation)
    turns = dilation // common
    for turn in range(min(turns, count)):
        start = first + turn * stride
        phase = start % dilation
        seen, windows = len(range(phase, size, dilation)), len(range(turn, count, turns))
        part = Axis(seen, kernel, stride // common, 1, (start - phase) // dilation, windows)
        yield slice(turn, None, turns), slice(phase, None, dilation), part


def _is_by_phases(axis: Axis) -> bool:
    """Whether there are no more remainders than taps of a window that can show a sample."""
    phases = min(axis.dilation // gcd(axis.stride, axis.dilation), axis.count)
    return phases <= min(axis.kernel, (axis.size - 1) // axis.dilation + 1)


def _dense(pieces: Pieces, axis: Axis, how: Operation) -> Pieces:
    """Windows without dilation: some may begin before the first sample, some lie inside, some end after the last."""
    size, kernel, stride, _, first, count = axis
    kernel = min(kernel, size - first)  # no window shows more
    before = min(count, max(0, -(first // stride)))
    inside = max(before, min(count, (size - kernel - first) // stride + 1))
    parts = []
    if before:
        parts.append(_from_the_first(pieces, first + kernel, stride, before, how))
    if before < inside:
        rest = _cut(pieces, slice(first + before * stride, None))
        parts.append(_inside(rest, kernel, stride, inside - before, how))
    if inside < count:
        rest = _cut(pieces, slice(first + inside * stride, None))
        parts.append(_to_the_last(rest, stride, count - inside, how))
    return _joined(parts, how)


def _from_the_first(pieces: Pieces, end: int, stride: int, count: int, how: Operation) -> Pieces:
    """Windows of all samples before ``end``, and before each ``stride`` further."""
    size = pieces[0].shape[1]
    rest = _cut(pieces, slice(end, min(size, end + (count - 1) * stride)))
    scanned = _scanned(_joined([_folded(_cut(pieces, slice(end)), how), rest], how), how)
    ends = how.xp.arange(count, device=pieces[0].device) * stride
    return tuple(_at(piece, ends.clip(max=piece.shape[1] - 1)) for piece in scanned)


def _to_the_last(pieces: Pieces, stride: int, count: int, how: Operation) -> Pieces:
    """Windows of all samples, and of all from each ``stride`` further."""
    last = (count - 1) * stride
    joined = _joined([_cut(pieces, slice(last)), _folded(_cut(pieces, slice(last, None)), how)], how)
    return _cut(_scanned(joined, how, backwards=True), slice(None, None, stride))


def _scanned(pieces: Pieces, how: Operation, *, backwards: bool = False) -> Pieces:
    """Put together all samples up to each one; backwards, all from each one on."""
    reach, size = 1, pieces[0].shape[1]
    while reach < size:
        longer = how.of(_cut(pieces, slice(size - reach)), _cut(pieces, slice(reach, None)))
        if backwards:
            pieces = _joined([longer, _cut(pieces, slice(size - reach, None))], how)
        else:
            pieces = _joined([_cut(pieces, slice(reach)), longer], how)
        reach *= 2
    return pieces


def _folded(pieces: Pieces, how: Operation) -> Pieces:
    """Put together all samples, neighbours first."""
    rest, size = None, pieces[0].shape[1]
    while size > 1:
        even = size - size % 2
        if size % 2:
            last = _cut(pieces, slice(even, size))
            rest = last if rest is None else how.of(last, rest)
        pieces = how.of(_cut(pieces, slice(0, even, 2)), _cut(pieces, slice(1, even, 2)))
        size //= 2
    return pieces if rest is None else how.of(pieces, rest)


def _inside(pieces: Pieces, kernel: int, stride: int, count: int, how: Operation) -> Pieces:
    """Windows from the first sample on that all lie inside: of whole steps, and of what is left of another."""
    whole, left = divmod(kernel, stride)
    total = None
    if whole:
        total = _running(_steps(pieces, stride, stride, count + whole - 1, how), whole, how)
    if left:
        ends = _steps(_cut(pieces, slice(whole * stride, None)), left, stride, count, how)
        total = ends if total is None else how.of(total, ends)
    assert total is not None
    return total


def _running(pieces: Pieces, kernel: int, how: Operation) -> Pieces:
    """Windows at every sample, put together from pieces of 1, 2, 4, 8, ... samples."""
    count, size = pieces[0].shape[1] - kernel + 1, 1
    total, covered = None, 0
    while True:
        if kernel & size and not how.repeats:
            part = _cut(pieces, slice(covered, covered + count))
            total, covered = part if total is None else how.of(total, part), covered + size
        if 2 * size > kernel:
            break
        pieces = how.of(_cut(pieces, slice(pieces[0].shape[1] - size)), _cut(pieces, slice(size, None)))
        size *= 2
    if total is not None:
        return total
    if size == kernel:
        return pieces
    return how.of(_cut(pieces, slice(count)), _cut(pieces, slice(kernel - size, kernel - size + count)))


def _steps(pieces: Pieces, length: int, stride: int, count: int, how: Operation) -> Pieces:
    """The first ``length`` samples of each step, put together."""
    if stride == 1:
        return _cut(pieces, slice(count))
    if length <= FEW:
        end = (count - 1) * stride + 1
        return reduce(how.of, [_cut(pieces, slice(tap, tap + end, stride)) for tap in range(length)])
    whole = (count - 1) * stride
    last = _folded(_cut(pieces, slice(whole, whole + length)), how)
    if count == 1:
        return last
    outer, _, inner = pieces[0].shape
    steps = tuple(piece[:, :whole].reshape(outer * (count - 1), stride, inner) for piece in pieces)
    folded = _folded(_cut(steps, slice(length)), how)
    return _joined([tuple(piece.reshape(outer, count - 1, inner) for piece in folded), last], how)


def _by_taps(pieces: Pieces, axis: Axis, how: Operation) -> Pieces:
    """Windows with few taps that can show a sample: tap by tap, each window from its first that does."""
    total = None
    for at, shown in _samples_of_taps(axis, how.xp, pieces[0].device):
        part = tuple(_at(piece, at) for piece in pieces)
        if not how.repeats:
            part = tuple(how.xp.where(shown[:, None], piece, 0) for piece in part)
        total = part if total is None else how.of(total, part)
    assert total is not None
    return total


def _samples_of_taps(axis: Axis, xp: Any, device: Any) -> Iterator[tuple[Any, Any]]:
    """The sample that each window shows by its first tap that does, by the next, ...; by its last again, and "no"."""
    size, kernel, stride, dilation, first, count = axis
    starts = xp.arange(count, device=device) * stride + first
    lowest = (-(starts // dilation)).clip(min=0)
    highest = ((size - 1 - starts) // dilation).clip(max=kernel - 1)
    for turn in range(min(kernel, (size - 1) // dilation + 1)):
        taps = lowest + turn
        yield starts + xp.minimum(taps, highest) * dilation, taps <= highest


def _spread_dense(dy: Any, axis: Axis, how: Operation) -> Any:
    """Without dilation: a sample of step ``c`` is shown by the ``k // s`` windows up to ``c``, the first ``k % s``
    samples of the step by one more."""
    size, kernel, stride, _, first, count = axis
    whole, left = divmod(min(kernel, size - first), stride)
    offsets = how.xp.arange(size, device=dy.device) - first
    steps, is_left = offsets // stride, offsets % stride < left
    low, high = max(0, -first // stride), (size - 1 - first) // stride
    tables, end = [], 0
    place = how.xp.zeros_like(offsets) - 1  # the zero that is joined behind all tables
    for windows, here in ((whole + 1, is_left), (whole, ~is_left)):
        last = min(high, count + windows - 2)
        if windows and low <= last and (left or windows == whole):
            part = Axis(count, windows, 1, 1, low - windows + 1, last - low + 1)
            tables.append(_dense((dy,), part, how))
            place = how.xp.where(here & (steps >= low) & (steps <= last), steps - low + end, place)
            end += last - low + 1
    tables.append((_zeros(how.xp, dy, 1),))
    (table,) = _joined(tables, how)
    return _at(table, how.xp.where(place < 0, end, place))


def _spread_by_taps(dy: Any, axis: Axis, xp: Any) -> Any:
    """With few taps that can show a sample: each sample looks for the window that shows it by each tap."""
    size, _, stride, dilation, first, count = axis
    offsets, total = xp.arange(size, device=dy.device) - first, 0
    # Tap u shows sample j in window (j - first - u d) / s, if that is a whole number.
    for tap in _taps_that_show(axis):
        windows, rest = (offsets - tap * dilation) // stride, (offsets - tap * dilation) % stride
        shown = (rest == 0) & (windows >= 0) & (windows < count)
        total = total + xp.where(shown[:, None], _at(dy, windows.clip(min=0, max=count - 1)), 0)
    return total


def _taps_that_show(axis: Axis) -> range:
    """All taps that show a sample in some window."""
    last = axis.first + (axis.count - 1) * axis.stride
    lowest = max(0, -(last // axis.dilation))
    return range(lowest, min(axis.kernel - 1, (axis.size - 1 - axis.first) // axis.dilation) + 1)


def _interleaved(parts: list[Pieces], count: int, how: Operation) -> Pieces:
    """Pieces one of each part in turn; the first parts may have one more."""
    longest = parts[0][0].shape[1]
    even = [
        part if part[0].shape[1] == longest else _joined([part, _cut(part, slice(longest - 2, None))], how)
        for part in parts
    ]
    stacked = (how.xp.stack(each, 2) for each in zip(*even, strict=True))
    return tuple(piece.reshape(piece.shape[0], longest * len(parts), piece.shape[3])[:, :count] for piece in stacked)


def _cut(pieces: Pieces, part: slice) -> Pieces:
    return tuple(piece[:, part] for piece in pieces)


def _at(piece: Any, index: Any) -> Any:
    """Samples by their numbers; both libraries' own functions are several times as quick as ``piece[:, index]``."""
    return piece.take(index, 1) if isinstance(piece, np.ndarray) else piece.index_select(1, index)


def _joined(parts: list[Pieces], how: Operation) -> Pieces:
    if len(parts) == 1:
        return parts[0]
    return tuple(how.xp.concatenate(each, 1) for each in zip(*parts, strict=True))


def _zeros(xp: Any, like: Any, count: int) -> Any:
    return xp.zeros((like.shape[0], count, like.shape[2]), dtype=like.dtype, device=like.device)
