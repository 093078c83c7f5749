"""The geometry of a layer: every argument of a convolution, its transpose, its gradients or a pooling, made regular.

Functions here take shapes, not arrays, so that arrays and tensors are checked alike. What they return is the same for
one to three axes: each field has one entry per spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Literal

from konvlib.geometry.arguments import PADDING_MODES, check_channels, flag, is_symbol, one_of, per_axis, whole
from konvlib.geometry.sizes import conv_size, paddings, pool_size

Padding = int | str | Sequence[int] | Sequence[tuple[int, int]]
PerAxis = int | Sequence[int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
LONG = 2**16
"""Strides below are left as they are."""

AXIS_NAMES = {1: "(N, C, L)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}


@dataclass(frozen=True)
class ConvGeometry:
    """A convolution layer, from an input ``(N, C, *input_size)`` to an output ``(N, C_out, *output_size)``.

    The transposed convolution and the gradients are described by the convolution that they belong to.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    padding_mode: str
    output_size: tuple[int, ...]
    axes: int = field(init=False, repr=False, compare=False)
    before: tuple[int, ...] = field(init=False, repr=False, compare=False)
    is_even: bool = field(init=False, repr=False, compare=False)
    sides: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once, since layers are remembered: the padding before each axis, whether each axis has as much after, and
        # all padding in the order of `torch.nn.functional.pad`, the last axis first.
        object.__setattr__(self, "axes", len(self.kernel_size))
        object.__setattr__(self, "before", tuple([before for before, _ in self.padding]))
        object.__setattr__(self, "is_even", all([before == after for before, after in self.padding]))
        object.__setattr__(self, "sides", tuple([side for pair in self.padding[::-1] for side in pair]))

    def __hash__(self) -> int:
        # Made once too, at the first question: launchers of kernels remember by it.
        try:
            return self.__dict__["_hash"]
        except KeyError:
            fields = self.batch, self.in_channels, self.out_channels, self.groups, self.input_size, self.kernel_size
            rest = self.stride, self.padding, self.dilation, self.padding_mode, self.output_size
            object.__setattr__(self, "_hash", hash((*fields, *rest)))
            return self.__dict__["_hash"]

    def __getstate__(self) -> dict[str, object]:
        # Without the hash: another process hashes strings by a seed of its own.
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.in_channels, *self.input_size)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.out_channels, *self.output_size)

    def of_padded(self) -> ConvGeometry:
        """The same layer, of an input that has its padding: one without padding."""
        size = tuple([n + before + after for n, (before, after) in zip(self.input_size, self.padding, strict=True)])
        return replace(self, input_size=size, padding=((0, 0),) * self.axes, padding_mode="zeros")

    @cached_property
    def numbers(self) -> int:
        """How many numbers there are in the input with its padding, the output and the weight."""
        padded = [n + sum(pair) for n, pair in zip(self.input_size, self.padding, strict=True)]
        shapes = (self.batch, self.in_channels, *padded), self.output_shape, self.weight_shape
        return sum(map(prod, shapes))

    @property
    def products(self) -> int:
        """How many multiplications the definition has, those with padding included."""
        return prod(self.output_shape) * prod(self.weight_shape[1:])


@lru_cache(4096)
def one_of_equals(layer: ConvGeometry) -> ConvGeometry:
    """Return the same object for all equal layers: what is remembered by a layer is then found without comparing them.

    Examples
    --------
    >>> one, other = (conv_geometry((1, 1, 9), (1, 1, 3), axes=1, padding=padding) for padding in (1, (1,)))
    >>> one is other, one_of_equals(one) is one_of_equals(other)
    (False, True)
    """
    return layer


@dataclass(frozen=True)
class PoolGeometry:
    """A pooling, from ``(N, C, *input_size)`` to ``(N, C, *output_size)``."""

    batch: int
    channels: int
    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    output_size: tuple[int, ...]
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    axes: int = field(init=False, repr=False, compare=False)
    before: tuple[int, ...] = field(init=False, repr=False, compare=False)
    is_even: bool = field(init=False, repr=False, compare=False)
    sides: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # As in a layer; but ``is_even`` is False too where padding is more than half a kernel, or the only window
        # hangs over, which PyTorch does not take, and ``sides`` is what windows show beyond the input, with
        # ``ceil_mode`` more than the padding.
        each = zip(
            self.input_size, self.kernel_size, self.stride, self.padding, self.dilation, self.output_size, strict=True
        )
        shown = [(b, max((o - 1) * s + d * (k - 1) + 1 - n - b, 0)) for n, k, s, (b, _), d, o in each]
        even = [
            b == a and b <= k // 2 and (not self.ceil_mode or n + b + a >= k)
            for (b, a), k, n in zip(self.padding, self.kernel_size, self.input_size, strict=True)
        ]
        object.__setattr__(self, "axes", len(self.kernel_size))
        object.__setattr__(self, "before", tuple([before for before, _ in self.padding]))
        object.__setattr__(self, "is_even", all(even))
        object.__setattr__(self, "sides", tuple([side for pair in shown[::-1] for side in pair]))

    @cached_property
    def numbers(self) -> int:
        """How many numbers there are in the input and the output."""
        return prod(self.input_shape) + prod(self.output_shape)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.input_size)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.output_size)


def conv_geometry(
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    bias_shape: Sequence[int] | None = None,
    *,
    axes: int,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> ConvGeometry:
    """Check every argument of a convolution layer and return its geometry.

    Parameters
    ----------
    x_shape, w_shape : sequence of int
        ``(N, C, *size)`` and ``(C_out, C // groups, *kernel)``.
    bias_shape : sequence of int, optional
        ``(C_out,)``.
    axes : {1, 2, 3}
        How many spatial axes the called function has.
    stride, padding, dilation, groups, padding_mode
        As in `konvlib.conv2d`.

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If a shape has the wrong rank, if channels and groups do not go together, or if the kernel does not fit.

    Examples
    --------
    >>> conv_geometry((1, 3, 8, 9), (4, 3, 3, 3), axes=2, stride=2, padding=1).output_size
    (4, 5)
    """
    batch, in_channels, *size = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    out_channels, depth, *kernel = checked_shape(w_shape, "w", axes, weight_axes(axes, "C_out, C_in // groups"))
    groups = check_channels(in_channels, out_channels, groups)
    if depth * groups != in_channels:
        wanted = f"{in_channels} // {groups} = {in_channels // groups} channels"
        raise ValueError(f"w must have {wanted}, got {depth} with groups {groups}")
    check_bias(bias_shape, out_channels)
    padding_mode = one_of(padding_mode, "padding_mode", PADDING_MODES)
    steps, gaps = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps, size=size)
    each = zip(size, kernel, steps, pads, gaps, strict=True)
    outputs = tuple(conv_size(n, k, stride=s, padding=p, dilation=d) for n, k, s, p, d in each)
    steps = least_strides(steps, size, pads)
    return ConvGeometry(
        batch, in_channels, out_channels, groups, tuple(size), tuple(kernel), steps, pads, gaps, padding_mode, outputs
    )


def pool_geometry(
    x_shape: Sequence[int],
    kernel_size: PerAxis,
    *,
    axes: int,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> PoolGeometry:
    """Check every argument of a pooling and return its geometry.

    Raises
    ------
    TypeError, ValueError
        If the rank is wrong, if no window fits, if a padding is more than half of what the kernel covers, or if a
        window with dilation would step over the whole input.

    Examples
    --------
    >>> pool_geometry((1, 3, 7, 8), 2, axes=2, ceil_mode=True).output_size
    (4, 4)
    """
    batch, channels, *size = checked_shape(x_shape, "x", axes, AXIS_NAMES[axes])
    flag(ceil_mode, "ceil_mode")
    kernel, gaps = per_axis(kernel_size, axes, "kernel_size"), per_axis(dilation, axes, "dilation")
    steps = kernel if stride is None else per_axis(stride, axes, "stride")
    pads = paddings(padding, kernel_size=kernel, stride=steps, dilation=gaps, size=size)
    each = zip(size, kernel, steps, pads, gaps, strict=True)
    outputs = tuple(pool_size(n, k, stride=s, padding=p, dilation=d, ceil_mode=ceil_mode) for n, k, s, p, d in each)
    for n, k, s, (before, _), d, windows in zip(size, kernel, steps, pads, gaps, outputs, strict=True):
        _check_windows_meet_input(n, k, s, before, d, windows)
    covered = [(k - 1) * d + 1 for k, d in zip(kernel, gaps, strict=True)]  # a window may hang over the whole input
    steps = least_strides(steps, [n if is_symbol(n) else n + c for n, c in zip(size, covered, strict=True)], pads)
    return PoolGeometry(batch, channels, tuple(size), kernel, steps, pads, gaps, outputs, ceil_mode)


def least_strides(strides: Sequence[int], size: Sequence[int], padding: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return strides that mean the same and are not too long: beyond the padded input there is one window anyhow.

    Examples
    --------
    >>> least_strides((2, 2**30), (7, 8), ((0, 0), (1, 1)))
    (2, 10)
    """
    each = zip(strides, size, padding, strict=True)
    return tuple([stride if stride < LONG or is_symbol(n) else min(stride, n + sum(pair)) for stride, n, pair in each])


def source_index(index: int, size: int, padding_mode: str) -> int | None:
    """Return which sample of an axis a padded index shows; ``None`` where it shows a zero.

    ``reflect`` mirrors at the first and last sample without repeating them, over and over; ``replicate`` repeats them;
    ``circular`` goes round and round.

    Examples
    --------
    >>> [source_index(-2, 5, mode) for mode in ("zeros", "reflect", "replicate", "circular")]
    [None, 2, 0, 3]
    >>> [source_index(index, 3, "reflect") for index in range(-4, 8)]
    [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    """
    if 0 <= index < size:
        return index
    if padding_mode == "reflect":
        place = index % max(2 * (size - 1), 1)  # a single sample is its own mirror image
        return min(place, 2 * (size - 1) - place)
    if padding_mode == "replicate":
        return 0 if index < 0 else size - 1
    return index % size if padding_mode == "circular" else None


def padding_steps(size: int, padding: tuple[int, int], padding_mode: str) -> list[tuple[int, int, str]]:
    """Return paddings that reach no further than the samples, to be put on one after the other in place of a wide one.

    Each is ``(before, after, padding_mode)``. All but the last are of whole periods, after which the samples go on as
    they began: ``size`` of them for ``circular``, ``size - 1`` from mirror to mirror for ``reflect``.

    Examples
    --------
    >>> padding_steps(5, (2, 1), "circular"), padding_steps(3, (4, 11), "reflect")
    ([(2, 1, 'circular')], [(2, 2, 'reflect'), (2, 6, 'reflect'), (0, 3, 'reflect')])
    """
    if padding_mode == "reflect" and size == 1:
        return [(*padding, "replicate")]  # a single sample is its own mirror image
    if padding_mode not in ("reflect", "circular"):
        return [(*padding, padding_mode)]
    edge = int(padding_mode == "reflect")
    steps, period, (before, after) = [], size - edge, padding
    while max(before, after) > size - edge:
        step = [min(side // period * period, size - edge) for side in (before, after)]
        steps.append((*step, padding_mode))
        size, before, after = size + sum(step), before - step[0], after - step[1]
    return [*steps, (before, after, padding_mode)]


def checked_shape(shape: Sequence[int], name: str, axes: int, wanted: str) -> tuple[int, ...]:
    """Return the shape of an operand with ``axes`` spatial axes; only a batch may be empty.

    Raises
    ------
    ValueError
        If it has another number of axes, which ``wanted`` names, or if one is empty.

    Examples
    --------
    >>> checked_shape([2, 1, 5], "x", 1, AXIS_NAMES[1])
    (2, 1, 5)
    """
    if len(shape) != axes + 2:
        raise ValueError(f"{name} must have {axes + 2} axes {wanted}, got shape {tuple(shape)}")
    least = (0,) if name in ("x", "dy") else (1,)
    for length, allowed in zip(shape, least + (1,) * (axes + 1), strict=True):
        if length < allowed:
            raise ValueError(f"{name} must not be empty, got shape {tuple(shape)}")
    return tuple(whole(length) for length in shape)


def weight_axes(axes: int, channels: str) -> str:
    """Return how an error names the axes of a weight.

    Examples
    --------
    >>> weight_axes(2, "C_out, C_in // groups")
    '(C_out, C_in // groups, *kernel_size)'
    """
    return f"({channels}, *kernel_size)" if axes > 1 else f"({channels}, kernel_size)"


def check_bias(shape: Sequence[int] | None, out_channels: int, weight: str = "w") -> None:
    """Check that a bias, if there is one, has a value for each output channel of a weight.

    Raises
    ------
    ValueError
        If it has another shape.

    Examples
    --------
    >>> check_bias(None, 4), check_bias((4,), 4)
    (None, None)
    """
    if shape is not None and tuple(shape) != (out_channels,):
        wanted = f"({out_channels},), one value per output channel of {weight}"
        raise ValueError(f"bias must have shape {wanted}, got {tuple(shape)}")


def _check_windows_meet_input(size: int, kernel: int, stride: int, before: int, dilation: int, windows: int) -> None:
    """With dilation, a window that starts in the padding can step over a short input."""
    if dilation <= size:
        return
    for start in range(-before, 0, stride)[:windows]:
        if start % dilation >= size:
            raise ValueError(
                f"padding must let each window meet the input, got {before} samples before the {size} of an axis "
                f"with kernel_size {kernel} and dilation {dilation}"
            )


def check_output_grad(shape: Sequence[int], output_shape: tuple[int, ...]) -> None:
    """Check that an output's gradient has the output's shape.

    Raises
    ------
    ValueError
        If it has another.

    Examples
    --------
    >>> check_output_grad((1, 2, 3), (1, 2, 3))
    """
    if tuple(shape) != output_shape:
        told = "if dy is right, then input_size, kernel_size, stride, padding or dilation is not"
        raise ValueError(f"dy must have the convolution's output shape {output_shape}, got {tuple(shape)}; {told}")
