"""How tensors lie in memory, and how kernels are told: always three spatial axes, summed channels last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from math import gcd, prod
from types import MappingProxyType

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.runtime import tl

AXES = 3
NOWHERE = tl.constexpr(-(2**30)) if tl else -(2**30)
"""A place so far before an input that no tap reaches it from there: nothing is loaded for it."""


@runtime.jit()
def pixel_of(number, size_d, size_h, size_w):
    """The image of a pixel, in 64 bits, and its place: pixels are counted along width, height, depth, then images."""
    place_w, rest = number % size_w, number // size_w
    place_h, rest = rest % size_h, rest // size_h
    return (rest // size_d).to(tl.int64), rest % size_d, place_h, place_w


def three(values: Sequence[int], fill: int) -> tuple[int, ...]:
    """One number for each of three axes: ``fill`` for the first ones that are missing.

    Examples
    --------
    >>> three((5, 7), 1)
    (1, 5, 7)
    """
    return (fill,) * (AXES - len(values)) + tuple(values)


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels of ``(N, C, *size)`` lie next to each other, and its pixels do not.

    Examples
    --------
    >>> x = torch.ones(2, 3, 4, 5)
    >>> is_channels_last(x), is_channels_last(x.to(memory_format=torch.channels_last))
    (False, True)
    """
    return x.stride(1) == 1 and x.shape[1] > 1 and not x.is_contiguous()


def empty(like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """An uninitialised tensor of the dtype, device and layout of ``like``: contiguous, or channels last.

    Examples
    --------
    >>> empty(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), (1, 2, 3, 4)).stride()
    (24, 1, 8, 2)
    """
    if not is_channels_last(like):
        return like.new_empty(tuple(shape))
    return like.new_empty((shape[0], *shape[2:], shape[1])).movedim(-1, 1)


def fresh(like: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """As `empty`, for a kernel to write to: lengths are numbers, so where channels last lie is remembered.

    Examples
    --------
    >>> fresh(torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last), (1, 2, 3, 4)).stride()
    (24, 1, 8, 2)
    """
    return like.new_empty_strided(shape, _last_steps(shape)) if is_channels_last(like) else like.new_empty(shape)


@lru_cache(4096)
def _last_steps(shape: tuple[int, ...]) -> tuple[int, ...]:
    return without((shape[0], *shape[2:], shape[1])).movedim(-1, 1).stride()


def without(shape: tuple[int, ...], steps: tuple[int, ...] | None = None) -> torch.Tensor:
    """A tensor that lies so, by default contiguous, without memory: it shows what views of such tensors are.

    Examples
    --------
    >>> without((2, 3), (1, 2)).T.is_contiguous()
    True
    """
    return torch.empty(shape, device="meta") if steps is None else torch.empty_strided(shape, steps, device="meta")


def laid_like(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``y``, in channels last where ``x`` is: itself, or a copy.

    Examples
    --------
    >>> x = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    >>> laid_like(x, torch.ones(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if x.stride(1) != 1 or not is_channels_last(x) or is_channels_last(y) or y.shape[1] == 1:
        return y
    return y.movedim(1, -1).contiguous().movedim(-1, 1)


def with_channels_last(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself if its channels lie next to each other, else a copy of which that is true.

    Examples
    --------
    >>> with_channels_last(torch.ones(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if x.stride(1) == 1 or x.shape[1] == 1:
        return x
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def packed_weight(w: torch.Tensor) -> torch.Tensor:
    """``(C_out, C_in // groups, *kernel)`` as ``(C_out, taps, C_in // groups)``: no copy for a weight in channels last.

    Examples
    --------
    >>> packed_weight(torch.arange(6).reshape(1, 2, 3)).tolist()
    [[[0, 3], [1, 4], [2, 5]]]
    """
    if lies_packed(w.shape, w.stride()):
        outputs, inputs, *kernel = w.shape
        return _as_packed(w, outputs, prod(kernel), inputs)
    return w.flatten(2).movedim(1, -1).contiguous() if w.dim() == AXES else w.movedim(1, -1).contiguous().flatten(1, -2)


def as_packed(w: torch.Tensor, layer: ConvGeometry) -> torch.Tensor:
    """A layer's weight that lies packed, with whatever axes, as ``(C_out, taps, C_in // groups)``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> w = torch.arange(6).reshape(1, 2, 3).mT.contiguous().mT
    >>> as_packed(w, conv_geometry((1, 2, 9), w.shape, axes=1)).tolist()
    [[[0, 3], [1, 4], [2, 5]]]
    """
    return _as_packed(w, layer.out_channels, prod(layer.kernel_size), layer.in_channels // layer.groups)


def _as_packed(w: torch.Tensor, outputs: int, taps: int, inputs: int) -> torch.Tensor:
    return w.as_strided((outputs, taps, inputs), (taps * inputs, inputs, 1))


@lru_cache(4096)
def lies_packed(shape: tuple[int, ...], steps: tuple[int, ...]) -> bool:
    """Whether a weight of this shape and these strides lies as `packed_weight` lays it out.

    Examples
    --------
    >>> w = torch.ones(2, 3, 4, 5)
    >>> [lies_packed(z.shape, z.stride()) for z in (w, w.to(memory_format=torch.channels_last))]
    [False, True]
    """
    return without(shape, steps).movedim(1, -1).is_contiguous()


def strides(x: torch.Tensor) -> tuple[int, ...]:
    """The strides of the batch, the channels and three spatial axes.

    Examples
    --------
    >>> strides(torch.ones(2, 3, 4))
    (12, 4, 0, 0, 1)
    """
    batch, channels, *spatial = x.stride()
    return batch, channels, *three(spatial, 0)


def named_strides(name: str, x: torch.Tensor, places: str = "ncdhw") -> dict[str, int]:
    """The strides of ``x`` as the arguments of a kernel: those of the batch, the channels and the axes that it takes.

    Examples
    --------
    >>> named_strides("x", torch.ones(2, 3, 4), "ncw")
    {'stride_xn': 12, 'stride_xc': 4, 'stride_xw': 1}
    """
    each = dict(zip("ncdhw", strides(x), strict=True))
    return {argument: each[place] for argument, place in _stride_names(name, places)}


@cache
def _stride_names(name: str, places: str) -> tuple[tuple[str, str], ...]:
    return tuple([(f"stride_{name}{place}", place) for place in places])


def along_axes(**values: tuple[Sequence[int], int]) -> dict[str, int]:
    """Numbers for each axis, with what fills missing axes, as the arguments of a kernel.

    Examples
    --------
    >>> along_axes(kernel=((3, 2), 1), padding=((5, 7), 0))
    {'kernel_d': 1, 'kernel_h': 3, 'kernel_w': 2, 'padding_d': 0, 'padding_h': 5, 'padding_w': 7}
    """
    return {
        f"{name}_{axis}": value
        for name, (each, fill) in values.items()
        for axis, value in zip("dhw", three(each, fill), strict=True)
    }


def gcd_and_inverse(stride: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """By axis, ``g = gcd(s, d)`` and the inverse of ``d / g`` modulo ``s / g``: so kernels find the taps of a phase.

    Examples
    --------
    >>> gcd_and_inverse((4, 5), (6, 3))
    ([2, 1], [1, 2])
    """
    common = [gcd(s, d) for s, d in zip(stride, dilation, strict=True)]
    return common, [pow(d // g, -1, s // g) for s, d, g in zip(stride, dilation, common, strict=True)]


LAYER = ("in", "out", "kernel", "stride", "padding", "dilation")
LAYER_SIZES = tuple(f"{name}_{axis}" for name in LAYER for axis in "dhw")
"""The arguments of kernels that `of_layer` gives; they are not specialised, so that one kernel serves all layers."""


@lru_cache(1024)
def of_layer(layer: ConvGeometry) -> Mapping[str, int]:
    """A layer as the arguments of a kernel, three axes each; of the padding, what comes before the input.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> arguments = of_layer(conv_geometry((1, 1, 9), (1, 1, 3), axes=1, stride=2, padding=((1, 0),)))
    >>> [arguments[f"{name}_w"] for name in LAYER]
    [9, 4, 3, 2, 1, 1]
    """
    return MappingProxyType(
        along_axes(
            **{"in": (layer.input_size, 1)},
            out=(layer.output_size, 1),
            kernel=(layer.kernel_size, 1),
            stride=(layer.stride, 1),
            padding=(layer.before, 0),
            dilation=(layer.dilation, 1),
        )
    )


def is_wide(*tensors: torch.Tensor) -> bool:
    """Whether an offset into one of the tensors may need 64 bits: ``INT64`` of the kernels.

    Examples
    --------
    >>> is_wide(torch.ones(1).expand(2**31)), is_wide(torch.ones(4, 5))
    (False, False)
    """
    most = 2**31 - 2**20
    return any(
        sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) >= most
        for x in tensors
        if x.untyped_storage().nbytes() >= most  # a smaller one has no such offset
    )
