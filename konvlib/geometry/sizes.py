"""The arithmetic of sizes: how many windows fit, where ``same`` puts its padding, what an output sees.

Functions on sizes take the integers of one axis; what holds in two or three axes holds because index maps act on each
axis alone. Notation: an axis of ``size`` samples, a kernel of ``kernel`` taps, ``stride`` samples from one window to
the next, ``dilation`` samples from one tap to the next (1 is dense), ``padding = (before, after)`` samples per side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from konvlib.geometry.arguments import (
    MODES,
    MOST_STEP,
    PADDINGS,
    SAME_PLACEMENTS,
    SIZED_PADDINGS,
    check_untraced,
    flag,
    integer,
    is_sequence,
    one_of,
    padding_pair,
    shown,
)


def paddings(
    padding: int | str | Sequence[int] | Sequence[tuple[int, int]],
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    size: Sequence[int] | None = None,
) -> tuple[tuple[int, int], ...]:
    """Return one pair ``(before, after)`` per axis.

    Parameters
    ----------
    padding : int, str, or sequence
        One integer for every side of every axis; one integer per axis; one pair per axis; ``"valid"`` (none);
        ``"same"`` (as many outputs as inputs, placed as PyTorch places it); or ``"same_upper"`` (one output per stride,
        placed as TensorFlow places it: see `same_padding`) and ``"same_lower"`` (an odd sample before, not after).
    kernel_size, stride, dilation : sequence of int
        One integer per axis.
    size : sequence of int, optional
        The image's; ``"same_upper"`` and ``"same_lower"`` need it.

    Raises
    ------
    TypeError
        If a padding is no integer.
    ValueError
        If one is negative, if the number of axes differs, if ``"same"`` meets a stride other than 1, or if there is no
        ``size`` where it is needed.

    Examples
    --------
    >>> paddings(1, kernel_size=(3, 3), stride=(1, 1), dilation=(1, 1))
    ((1, 1), (1, 1))
    >>> paddings([(0, 1), (2, 2)], kernel_size=(3, 3), stride=(1, 1), dilation=(1, 1))
    ((0, 1), (2, 2))
    >>> paddings("same", kernel_size=(4, 3), stride=(1, 1), dilation=(1, 2))
    ((1, 2), (2, 2))
    >>> window = {"kernel_size": (4,), "stride": (2,), "dilation": (1,)}
    >>> paddings("same_upper", size=(7,), **window), paddings("same_lower", size=(7,), **window)
    (((1, 2),), ((2, 1),))
    """
    axes = len(kernel_size)
    if isinstance(padding, str):
        if one_of(padding, "padding", PADDINGS) == "valid":
            return ((0, 0),) * axes
        placement = "torch"
        if padding in SIZED_PADDINGS:
            if size is None:
                raise ValueError(f"padding {padding!r} needs the image's size, got None; give the padding per side")
            check_untraced(f"padding {padding!r}")
            placement = "tensorflow"
        each = zip(kernel_size, stride, dilation, [None] * axes if size is None else size, strict=True)
        pairs = [same_padding(k, stride=s, dilation=d, size=n, placement=placement) for k, s, d, n in each]
        return tuple([(after, before) if padding == "same_lower" else (before, after) for before, after in pairs])
    if not is_sequence(padding):
        side = integer(padding, "padding", least=0, most=MOST_STEP)
        return ((side, side),) * axes
    if len(padding) != axes:
        fits = f"one integer, {axes} integers or {axes} pairs (before, after), or one of {', '.join(PADDINGS)}"
        raise ValueError(f"padding must be {fits}, got {shown(padding)}")
    return tuple(padding_pair(item, f"padding[{axis}]") for axis, item in enumerate(padding))


def same_padding(
    kernel: int, *, stride: int = 1, dilation: int = 1, size: int | None = None, placement: str = "torch"
) -> tuple[int, int]:
    r"""Return the padding ``(before, after)`` that keeps the size: ``ceil(size / stride)`` outputs.

    PyTorch defines it for stride 1 only, from the kernel alone; TensorFlow looks at the size as well:

    .. math::
        P_\text{torch} = d(k-1), \qquad
        P_\text{tensorflow} = \max\bigl((\lceil n/s \rceil - 1)\,s + d(k-1) + 1 - n,\; 0\bigr).

    Both put ``P // 2`` before and the rest after, so that an odd total leaves one more sample after.

    Parameters
    ----------
    kernel, stride, dilation : int
        The window.
    size : int, optional
        The input's size; ``"tensorflow"`` needs it.
    placement : {"torch", "tensorflow"}
        Whose rule.

    Raises
    ------
    ValueError
        If ``placement`` is unknown, if a stride other than 1 meets ``"torch"``, or if ``"tensorflow"`` gets no size.

    Examples
    --------
    >>> same_padding(4)
    (1, 2)
    >>> same_padding(3, stride=2, size=6, placement="tensorflow")
    (0, 1)
    """
    reach = span(kernel, dilation=dilation) - 1
    if one_of(placement, "placement", SAME_PLACEMENTS) == "torch":
        if integer(stride, "stride", least=1, most=MOST_STEP) != 1:
            fits = "give 'same_upper', 'same_lower' or the padding per side"
            raise ValueError(f"padding 'same' needs stride 1, got stride {stride}; {fits}")
        total = reach
    else:
        if size is None:
            raise ValueError("size must be given for placement 'tensorflow', got None")
        size, stride = integer(size, "size", least=1), integer(stride, "stride", least=1, most=MOST_STEP)
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return total // 2, total - total // 2


def span(kernel: int, *, dilation: int = 1) -> int:
    """Return how many samples a dilated kernel covers: ``dilation * (kernel - 1) + 1``.

    Examples
    --------
    >>> span(3, dilation=2)
    5
    """
    gap = integer(dilation, "dilation", least=1, most=MOST_STEP)
    return gap * (integer(kernel, "kernel_size", least=1) - 1) + 1


def conv_size(size: int, kernel: int, *, stride: int = 1, padding: tuple[int, int] = (0, 0), dilation: int = 1) -> int:
    r"""Return how many windows fit, which is the output size of a convolution.

    .. math:: o = \Bigl\lfloor \frac{n + p_\text{before} + p_\text{after} - d(k-1) - 1}{s} \Bigr\rfloor + 1

    Raises
    ------
    ValueError
        If not even one window fits.

    Examples
    --------
    >>> conv_size(7, 3, stride=2)
    3
    """
    return _windows(size, kernel, dilation, stride, padding)


def least_size(
    kernel_size: Sequence[int],
    *,
    stride: Sequence[int],
    padding: str | int | Sequence[int] | Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Return the smallest input that a convolution takes.

    Examples
    --------
    >>> least_size((3, 2), stride=(1, 1), padding=((0, 1), 2), dilation=(1, 1))
    (2, 1)
    """
    ones = (1,) * len(kernel_size)
    pads = paddings(padding, kernel_size=kernel_size, stride=stride, dilation=dilation, size=ones)
    each = zip(kernel_size, dilation, pads, strict=True)
    return tuple([max(span(kernel, dilation=gap) - sum(pad), 1) for kernel, gap, pad in each])


def conv_transpose_size(
    size: int,
    kernel: int,
    *,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    output_padding: int = 0,
    dilation: int = 1,
) -> int:
    r"""Return the output size of a transposed convolution.

    .. math:: o = (n-1)\,s + d(k-1) + 1 - p_\text{before} - p_\text{after} + p_\text{out}

    ``stride`` input sizes of a convolution share one output size; ``output_padding``, less than ``stride`` or
    ``dilation``, chooses among them.

    Raises
    ------
    ValueError
        If ``output_padding`` is too large, or if the padding removes every output.

    Examples
    --------
    >>> conv_transpose_size(3, 3, stride=2), conv_transpose_size(3, 3, stride=2, output_padding=1)
    (7, 8)
    """
    size, covered = integer(size, "size", least=1), span(kernel, dilation=dilation)
    stride = integer(stride, "stride", least=1, most=MOST_STEP)
    dilation = integer(dilation, "dilation", least=1, most=MOST_STEP)
    extra = integer(output_padding, "output_padding", least=0, most=MOST_STEP)
    before, after = padding_pair(padding, "padding")
    if extra >= max(stride, dilation):
        raise ValueError(
            f"output_padding must be less than stride or dilation, got {extra} with stride {stride} "
            f"and dilation {dilation}"
        )
    result = (size - 1) * stride + covered - before - after + extra
    if result < 1:
        raise ValueError(f"padding must leave an output, got {(before, after)} of {result + before + after} samples")
    return result


def pool_size(
    size: int,
    kernel: int,
    *,
    stride: int | None = None,
    padding: tuple[int, int] = (0, 0),
    dilation: int = 1,
    ceil_mode: bool = False,
) -> int:
    r"""Return how many windows a pooling has.

    As `conv_size`; with ``ceil_mode`` a last window may hang over the end, if it starts inside the input or the
    padding before it. A padding is at most half of what the kernel covers, so that each window meets the input.

    Parameters
    ----------
    stride : int, optional
        By default the kernel: windows side by side.

    Raises
    ------
    ValueError
        If no window fits, or if a padding is more than half of what the kernel covers.

    Examples
    --------
    >>> pool_size(7, 2), pool_size(7, 2, ceil_mode=True)
    (3, 4)
    """
    covered, kernel = span(kernel, dilation=dilation), integer(kernel, "kernel_size", least=1, most=MOST_STEP)
    stride = kernel if stride is None else integer(stride, "stride", least=1, most=MOST_STEP)
    before, after = padding_pair(padding, "padding")
    if max(before, after) > covered // 2:
        gaps = f" with dilation {dilation}" if dilation > 1 else ""
        raise ValueError(f"padding must be at most half of kernel_size {kernel}{gaps}, got {(before, after)}")
    if not flag(ceil_mode, "ceil_mode"):
        return _windows(size, kernel, dilation, stride, padding)
    size = integer(size, "size", least=1)
    left = size + before + after - covered
    windows = -(-left // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    if windows < 1:
        raise _no_window(size, kernel, dilation, before, after)
    return windows


class ReceptiveField(NamedTuple):
    """What one output of a chain of layers sees.

    Attributes
    ----------
    size : int
        How many input samples it depends on.
    stride : int
        How many input samples lie between neighbouring outputs.
    start : int
        The first input sample of output 0; negative when it lies in the padding.
    """

    size: int
    stride: int
    start: int


def receptive_field(layers: Iterable[tuple[int, int, int, int]]) -> ReceptiveField:
    r"""Return the receptive field of a chain of layers, first layer first.

    Each layer widens it by its own span, measured in input samples:

    .. math:: r = 1 + \sum_j d_j (k_j - 1) \prod_{i<j} s_i

    Parameters
    ----------
    layers : iterable of (kernel, stride, dilation, padding before)
        The layers of one axis.

    Examples
    --------
    >>> receptive_field([(3, 2, 1, 1), (3, 2, 1, 1)])
    ReceptiveField(size=7, stride=4, start=-3)
    """
    size, jump, start = 1, 1, 0
    for number, layer in enumerate(layers):
        if not is_sequence(layer) or len(layer) != 4:
            raise TypeError(f"layers[{number}] must be (kernel, stride, dilation, padding before), got {shown(layer)}")
        kernel, stride, dilation, before = layer
        size += (span(kernel, dilation=dilation) - 1) * jump
        start -= integer(before, "padding", least=0) * jump
        jump *= integer(stride, "stride", least=1)
    return ReceptiveField(size, jump, start)


def convolution_window(n: int, m: int, mode: str) -> tuple[int, int]:
    """Return ``(start, length)``: the part of the full convolution that ``mode`` keeps, as in ``numpy.convolve``.

    ``full`` keeps ``n + m - 1`` values, ``same`` the middle ``max(n, m)``, ``valid`` the ``|n - m| + 1`` for which the
    shorter sequence lies wholly inside the longer.

    Examples
    --------
    >>> [convolution_window(5, 2, mode) for mode in ("full", "same", "valid")]
    [(0, 6), (0, 5), (1, 4)]
    """
    n, m, mode = integer(n, "n", least=1), integer(m, "m", least=1), one_of(mode, "mode", MODES)
    shorter, longer = min(n, m), max(n, m)
    if mode == "full":
        return 0, n + m - 1
    if mode == "same":
        return (shorter - 1) // 2, longer
    return shorter - 1, longer - shorter + 1


def correlation_window(n: int, m: int, mode: str) -> tuple[int, int]:
    """Return ``(start, length)`` of ``mode`` in the full correlation, as in ``numpy.correlate``.

    Entry ``i`` of the full correlation has lag ``i - (m - 1)``. Only ``same`` differs from `convolution_window`: NumPy
    swaps a shorter first operand and reverses the result, so the extra value of an even length falls on the other side.

    Examples
    --------
    >>> correlation_window(5, 2, "same"), correlation_window(2, 5, "same")
    ((0, 5), (1, 5))
    """
    n, m, mode = integer(n, "n", least=1), integer(m, "m", least=1), one_of(mode, "mode", MODES)
    if mode == "same" and n < m:
        return n // 2, m
    return convolution_window(n, m, mode)


def _windows(size: int, kernel: int, dilation: int, stride: int, padding: tuple[int, int]) -> int:
    covered = span(kernel, dilation=dilation)
    size, stride = integer(size, "size", least=1), integer(stride, "stride", least=1, most=MOST_STEP)
    before, after = padding_pair(padding, "padding")
    if size + before + after < covered:
        raise _no_window(size, kernel, dilation, before, after)
    return (size + before + after - covered) // stride + 1


def _no_window(size: int, kernel: int, dilation: int, before: int, after: int) -> ValueError:
    """Names the dilation where the kernel would fit without it."""
    padded, covered = size + before + after, span(kernel, dilation=dilation)
    if kernel <= padded:
        told = f"got {dilation}, with which a kernel_size of {kernel} covers {covered}"
        return ValueError(f"dilation must let the kernel fit the padded input of {padded} samples, {told}")
    return ValueError(f"kernel_size must fit the padded input of {padded} samples, got a kernel that covers {covered}")
