"""Which inputs a block of outputs needs, along one axis: what blocks, strips and tiles read beyond their own samples.

Intervals are half open, ``(start, stop)`` for ``start <= i < stop``. What holds in two or three axes is the product of
what holds in each, so that reading axis by axis brings the corners along.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from konvlib.geometry.layers import ConvGeometry, PoolGeometry
from konvlib.geometry.sequences import boundary_places

Interval = tuple[int, int]


class Read(NamedTuple):
    """What a block of outputs reads of an axis, and what it sees around that.

    The block sees, in this order, ``zeros[0]`` zeros, the samples at ``shown[0]``, those of ``core``, those at
    ``shown[1]``, and ``zeros[1]`` zeros. Places count within what was read: the spans, one after the other.

    Attributes
    ----------
    spans : tuple of (start, stop)
        The samples to be read, in rising order: one interval; two where circular padding shows both ends; none where
        there are zeros only.
    core : (start, stop)
        Which of them the windows meet themselves, not in the padding.
    zeros : (before, after)
        How many zeros are seen before and after. Poolings see nothing there: see `pool_sides`.
    shown : (before, after)
        The places that the padding of the other modes shows.
    """

    spans: tuple[Interval, ...]
    core: Interval
    zeros: tuple[int, int] = (0, 0)
    shown: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @property
    def samples(self) -> int:
        """How many samples are read."""
        return sum([stop - start for start, stop in self.spans])

    @property
    def interval(self) -> slice:
        """The samples that are read, where they are one interval or none."""
        return slice(*self.spans[0]) if self.spans else slice(0, 0)


def window_of(layer: ConvGeometry | PoolGeometry, i: int) -> dict[str, int]:
    """Return the window along a spatial axis, as the functions here take it.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> window_of(conv_geometry((1, 1, 9), (1, 1, 3), axes=1, stride=2, padding=1), 0)
    {'kernel': 3, 'stride': 2, 'dilation': 1, 'before': 1}
    """
    return {
        "kernel": layer.kernel_size[i],
        "stride": layer.stride[i],
        "dilation": layer.dilation[i],
        "before": layer.padding[i][0],
    }


def inputs_of(start: int, stop: int, *, kernel: int, stride: int = 1, dilation: int = 1, before: int = 0) -> Interval:
    r"""Return the interval of inputs that outputs ``start <= i < stop`` of a layer or a pooling see.

    .. math:: [\,i_0 s - p,\; (i_1 - 1)\, s - p + d(k-1) + 1\,)

    The first and the last of it are seen. Padding is counted on: the interval may begin before 0 and end beyond the
    axis. Blocks that are neighbours both see ``max(0, d (k - 1) + 1 - s)`` samples.

    Examples
    --------
    >>> inputs_of(0, 4, kernel=3, before=1), inputs_of(4, 8, kernel=3, before=1)
    ((-1, 5), (3, 9))
    """
    return start * stride - before, (stop - 1) * stride - before + dilation * (kernel - 1) + 1


def inputs_of_transposed(
    start: int, stop: int, size: int, *, kernel: int, stride: int = 1, dilation: int = 1, before: int = 0
) -> Interval:
    r"""Return the interval of the ``size`` inputs from which outputs ``start <= j < stop`` of a transposed layer come.

    .. math:: \Bigl[\,\Bigl\lceil \frac{j_0 + p - d(k-1)}{s} \Bigr\rceil,\;
        \Bigl\lfloor \frac{j_1 - 1 + p}{s} \Bigr\rfloor + 1\,\Bigr) \cap [0, n)

    The layer's kernel, stride, dilation and padding are those of the convolution that it transposes. No other input
    reaches these outputs; with a stride or a dilation some of the interval may not, either. Empty intervals are
    ``(a, a)``: such outputs are zero, but for a bias.

    Examples
    --------
    >>> inputs_of_transposed(4, 8, 5, kernel=3, stride=2, before=1)
    (2, 5)
    >>> inputs_of_transposed(1, 2, 5, kernel=1, stride=2)
    (1, 1)
    """
    first = max(-((dilation * (kernel - 1) - before - start) // stride), 0)
    last = min((stop - 1 + before) // stride + 1, size)
    first = min(first, size)
    return first, max(first, last)


def read(start: int, stop: int, size: int, padding_mode: str = "zeros") -> Read:
    """Return what shows the samples ``start <= j < stop`` of an axis of ``size`` that goes on in its padding.

    The modes are those of layers, and ``symmetric``, in which sequences go on.

    Examples
    --------
    >>> read(-2, 5, 9)
    Read(spans=((0, 5),), core=(0, 5), zeros=(2, 0), shown=((), ()))
    >>> read(-2, 2, 9, "reflect")
    Read(spans=((0, 3),), core=(0, 2), zeros=(0, 0), shown=((2, 1), ()))
    >>> read(-2, 2, 9, "circular")
    Read(spans=((0, 2), (7, 9)), core=(0, 2), zeros=(0, 0), shown=((2, 3), ()))
    >>> read(9, 11, 9)
    Read(spans=(), core=(0, 0), zeros=(2, 0), shown=((), ()))
    """
    low, high = min(max(start, 0), size), max(min(stop, size), 0)
    if low >= high:  # wholly in the padding, on one side
        low = high = min(max(start, 0), size)
    if padding_mode == "zeros":
        before = stop - start if low == high else max(-start, 0)
        spans = ((low, high),) if low < high else ()
        return Read(spans, (0, high - low), (before, stop - start - before - (high - low)))
    left = range(start, min(stop, 0))
    right = range(max(start, size), stop)
    sources = [[boundary_places(place, size, padding_mode) for place in side] for side in (left, right)]
    spans = _spans(start, stop, size, padding_mode, [low, high - 1][: 2 * (high - low)] + sources[0] + sources[1])
    at = _places(spans)
    core = (at(low), at(low) + high - low) if low < high else (0, 0)
    return Read(spans, core, (0, 0), (tuple(map(at, sources[0])), tuple(map(at, sources[1]))))


def read_by(layer: ConvGeometry | PoolGeometry, i: int, start: int, stop: int, padding_mode: str = "zeros") -> Read:
    """Return what outputs ``start`` to ``stop`` of a layer or a pooling read along an axis.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> read_by(conv_geometry((1, 1, 9), (1, 1, 3), axes=1, stride=2, padding=1), 0, 0, 2)
    Read(spans=((0, 4),), core=(0, 4), zeros=(1, 0), shown=((), ()))
    """
    return read(*inputs_of(start, stop, **window_of(layer, i)), layer.input_size[i], padding_mode)


def _spans(start: int, stop: int, size: int, padding_mode: str, sources: Sequence[int]) -> tuple[Interval, ...]:
    """The intervals of the samples that are seen: what is mirrored or repeated touches what it comes from."""
    if padding_mode != "circular":
        return ((min(sources), max(sources) + 1),)
    if stop - start >= size:
        return ((0, size),)
    first = start % size
    last = first + stop - start
    return ((first, last),) if last <= size else ((0, last - size), (first, size))


def _places(spans: Sequence[Interval]) -> Callable[[int], int]:
    """The function from a sample to its place in what is read."""
    skipped = spans[-1][0] - sum([stop - start for start, stop in spans[:-1]])
    return lambda sample: sample - (skipped if sample >= spans[-1][0] else spans[0][0])


def pieces(start: int, stop: int, bounds: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the parts of an axis, cut at bounds, that samples ``start`` to ``stop`` lie in, with the places in each.

    Examples
    --------
    >>> pieces(1, 5, (0, 2, 4, 6))
    [(0, 1, 2), (1, 0, 2), (2, 0, 1)]
    """
    found, part = [], bisect_right(bounds, start) - 1
    while start < stop:
        end = min(stop, bounds[part + 1])
        found.append((part, start - bounds[part], end - bounds[part]))
        start, part = end, part + 1
    return found


def pool_sides(read: Read, padding_after: int) -> tuple[int, int]:
    """Return the padding of a block of a pooling; beyond ``padding_after`` a last window hangs over, by ``ceil_mode``.

    Examples
    --------
    >>> pool_sides(Read(((4, 7),), (0, 3), (0, 2)), 1)
    (0, 1)
    """
    return read.zeros[0], min(read.zeros[1], padding_after)


def inputs_of_chain(start: int, stop: int, layers: Sequence[Callable[[int, int], Read]]) -> list[Read]:
    r"""Return what each layer of a chain reads for outputs ``start <= i < stop`` of the last, first layer first.

    What a layer reads is what the one before must give. With :math:`r` the receptive field of a chain of layers and
    poolings, the first reads

    .. math:: r + (i_1 - i_0 - 1) \prod_j s_j

    samples, or fewer: intervals are clipped at each layer, since padding between layers is no extension of the input.
    Where a layer sees padding only, all before it read nothing.

    Parameters
    ----------
    layers : sequence of function
        What outputs ``start`` to ``stop`` of each layer read, first layer first: `read_by` with a layer or a pooling
        and an axis, or what `inputs_of_transposed` says of a transposed layer.

    Raises
    ------
    ValueError
        If a layer after the first reads two intervals, as circular padding does.

    Examples
    --------
    >>> from functools import partial
    >>> from konvlib.geometry import conv_geometry, pool_geometry
    >>> layer = conv_geometry((1, 1, 16), (1, 1, 3), axes=1, padding=1)
    >>> pool = pool_geometry((1, 1, 16), 3, axes=1, stride=2, padding=1)
    >>> reads = inputs_of_chain(0, 2, [partial(read_by, each, 0) for each in (layer, pool)])
    >>> [(each.spans, each.zeros) for each in reads]
    [(((0, 5),), (1, 0)), (((0, 4),), (1, 0))]
    """
    reads: list[Read] = []
    for number in reversed(range(len(layers))):
        reads.append(layers[number](start, stop) if start < stop else Read((), (0, 0)))
        if number and len(reads[-1].spans) > 1:
            raise ValueError(f"layers[{number}] must read one interval in a fused chain, got two, {reads[-1].spans}")
        start, stop = reads[-1].spans[0] if reads[-1].spans else (0, 0)
    return reads[::-1]


def outputs_beside(
    bounds: Sequence[int], outputs: int, *, kernel: int, stride: int = 1, dilation: int = 1, before: int = 0
) -> tuple[int, ...]:
    """Return where to cut the outputs of a layer whose input is cut at ``bounds``, from 0 to its size.

    Each output goes with the part that holds the middle of its window, so that neighbours exchange about as much in
    either direction. Part ``r`` has outputs ``cuts[r] <= i < cuts[r + 1]``: none where both are equal.

    Examples
    --------
    >>> outputs_beside((0, 5, 10), 5, kernel=3, stride=2, before=1)
    (0, 3, 5)
    """
    middle = before - dilation * (kernel - 1) // 2
    cuts = [min(max(-(-(bound + middle) // stride), 0), outputs) for bound in bounds[1:-1]]
    return (0, *cuts, outputs)


def outputs_beside_transposed(
    bounds: Sequence[int], outputs: int, *, kernel: int, stride: int = 1, dilation: int = 1, before: int = 0
) -> tuple[int, ...]:
    """Return where to cut the outputs of a transposed layer whose input is cut at ``bounds``, from 0 to its size.

    Each output goes with the part that holds the middle of the inputs from which it comes.

    Examples
    --------
    >>> outputs_beside_transposed((0, 3, 5), 10, kernel=3, stride=2, before=1)
    (0, 6, 10)
    """
    middle = dilation * (kernel - 1) // 2 - before
    cuts = [min(max(bound * stride + middle, 0), outputs) for bound in bounds[1:-1]]
    return (0, *cuts, outputs)
