"""What kernels of windows share: tiles of rows and pixels, what shows a sample, and their launchers' arguments.

A program computes a tile of outputs: rows of ``(N, C)`` by pixels. With :math:`g = \\gcd(s, d)`, sample :math:`j` is
shown by tap :math:`u_0 + (s / g) v` of window :math:`i_0 - (d / g) v`, where :math:`d u_0 \\equiv j + p` modulo
:math:`s`; by none if :math:`g` does not divide :math:`j + p`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import gcd, prod
from types import MappingProxyType
from typing import Any

import torch

from konvlib import runtime
from konvlib.layers.bound import launch as launch_kept
from konvlib.layers.memory import along_axes, gcd_and_inverse, is_channels_last, is_wide, named_strides, three
from konvlib.runtime import cdiv, power_of_2, tl

PER_AXIS = ("in", "out", "stride", "padding", "dilation", "low", "high", "gcd", "inverse")
SIZES = (
    *(f"{name}_{axis}" for name in PER_AXIS for axis in "dhw"),
    *(f"stride_{tensor}{place}" for tensor in ("x", "dy", "taps", "cols") for place in "ndh"),
    *("stride_yn", "stride_dxn", "stride_colst", "rows"),
)
"""Arguments that change from call to call: one compiled kernel serves them all. That channels are read 16 bytes at a
time is known from ``VECTOR``, the unit in which steps are counted, not from what the numbers are divisible by."""

WIDEST = 16
"""The bytes of the widest access."""


@runtime.jit()
def tile_of_rows(
    rows, channels, pixels, INT64: tl.constexpr, VECTOR: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):  # fmt: skip
    """The images and channels of this program as columns, its pixels as a line, and which of them there are.

    Rows of ``(N, C)`` and channels are counted in vectors.
    """
    pid = tl.program_id(0)
    if INT64:
        pid, rows = pid.to(tl.int64), rows.to(tl.int64)
    blocks_n = (pixels - 1) // BLOCK_N + 1
    offs_m = (pid // blocks_n * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    offs_n = (pid % blocks_n * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    image, c = offs_m // (channels * VECTOR), offs_m % (channels * VECTOR)
    return image.to(tl.int64), c.to(tl.int64), offs_n, (offs_m < rows * VECTOR) & (offs_n < pixels)


@runtime.jit()
def shown_by(place, stride, dilation, gcd, inverse):
    """What shows a sample at ``place``, padding counted: the first tap of all, its window, and whether any does."""
    tap = place // gcd % (stride // gcd) * inverse % (stride // gcd)
    return tap, (place - dilation * tap) // stride, place % gcd == 0


@runtime.jit()
def mean_of(total, count, ACC_DTYPE: tl.constexpr):
    """A sum over a number of places, at least one of them, rounded once."""
    count = tl.maximum(count, 1).to(ACC_DTYPE)
    return tl.div_rn(total, count) if tl.float32 == ACC_DTYPE else total / count


def of_windows(
    size: Sequence[int],
    windows: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    *,
    without: str,
    sent: bool = False,
    counts_padding: bool | None = None,
) -> Mapping[str, int]:
    """Windows as the arguments of a kernel, three axes each, but for one that it does not need: remembered.

    ``padding`` is flat: before and after, axis by axis. A kernel that has samples ``sent`` back is told of `turns`,
    one that takes a mean of what is `counted`.

    Examples
    --------
    >>> arguments = of_windows([9], [4], [3], [2], [1, 0], [1], without="out_d")
    >>> [arguments[f"{name}_w"] for name in ("in", "out", "stride", "padding", "dilation")], arguments["KERNEL_W"]
    ([9, 4, 2, 1, 1], 3)
    """
    each = tuple(size), tuple(windows), tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)
    return _of_windows(*each, without, sent, counts_padding)


@lru_cache(1024)
def _of_windows(
    size: tuple[int, ...],
    windows: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    without: str,
    sent: bool,
    counts_padding: bool | None,
) -> Mapping[str, int]:
    sizes = {"in": (size, 1), "out": (windows, 1), "stride": (stride, 1)}
    each = along_axes(**sizes, padding=(padding[::2], 0), dilation=(dilation, 1))
    each |= {f"KERNEL_{axis}": count for axis, count in zip("DHW", three(kernel, 1), strict=True)}
    each |= turns(kernel, stride, dilation) if sent else {}
    each |= {} if counts_padding is None else counted(size, padding, counts_padding)
    del each[without]
    return MappingProxyType(each | {"AXES": len(size)})


def counted(size: Sequence[int], padding: Sequence[int], counts_padding: bool) -> dict[str, int]:
    """Between which places those lie, along each axis, that count in a mean: of the input, or with its padding.

    Examples
    --------
    >>> [counted([5], [2, 1], counts)["low_w"] for counts in (False, True)]
    [0, -2]
    """
    before, after = padding[::2], padding[1::2]
    if not counts_padding:
        return along_axes(low=([0] * len(size), 0), high=(size, 1))
    return along_axes(low=([-b for b in before], 0), high=([n + a for n, a in zip(size, after, strict=True)], 1))


def turns(kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> dict[str, int]:
    """How many windows show a sample at most, along each axis, and what finds them: see `shown_by`.

    Examples
    --------
    >>> {name: value for name, value in turns([5], [2], [3]).items() if name.endswith(("w", "W"))}
    {'gcd_w': 1, 'inverse_w': 1, 'TURNS_W': 3}
    """
    common, inverse = gcd_and_inverse(stride, dilation)
    most = three([cdiv(k * g, s) for k, s, g in zip(kernel, stride, common, strict=True)], 1)
    each = along_axes(gcd=(common, 1), inverse=(inverse, 0))
    return each | {f"TURNS_{axis}": count for axis, count in zip("DHW", most, strict=True)}


def vector_of(*tensors: torch.Tensor) -> int:
    """How many channels that lie together in all tensors a kernel reads or writes at a time: 16 bytes of the first.

    One where channels do not lie together, or where some vector of them would not begin on 16 bytes.

    Examples
    --------
    >>> x = torch.ones(2, 24, 4, 5, dtype=torch.float16)
    >>> vector_of(x), vector_of(x.to(memory_format=torch.channels_last)), vector_of(x.double().movedim(-1, 1))
    (1, 8, 1)
    """
    if any([x.stride(1) != 1 for x in tensors]):
        return 1
    apart = [x.stride(axis) for x in tensors for axis in range(x.dim()) if axis != 1 and x.shape[axis] > 1]
    return gcd(WIDEST // tensors[0].element_size(), tensors[0].shape[1], *apart)


def strides(name: str, x: torch.Tensor, vector: int = 1) -> dict[str, int]:
    """The strides of a tensor as the arguments of a kernel, but for that of channels in vectors.

    Examples
    --------
    >>> strides("x", torch.ones(2, 3, 4, 8).movedim(-1, 1), 4)
    {'stride_xn': 24, 'stride_xc': 1, 'stride_xd': 0, 'stride_xh': 8, 'stride_xw': 2}
    """
    each = named_strides(name, x)
    return {argument: step // vector for argument, step in each.items()} | {f"stride_{name}c": x.stride(1)}


def dense_strides(name: str, out: torch.Tensor, vector: int = 1) -> dict[str, int]:
    """The strides of a dense tensor: of the batch and the pixels, in vectors, and of the channels.

    Examples
    --------
    >>> dense_strides("y", torch.ones(2, 3, 4, 5))
    {'stride_yn': 60, 'stride_yc': 20, 'stride_yp': 1}
    """
    channels, pixels = out.shape[1], prod(out.shape[2:])
    c, p = (1, channels) if is_channels_last(out) else (pixels, 1)
    return {f"stride_{name}n": channels * pixels // vector, f"stride_{name}c": c, f"stride_{name}p": p // vector}


def launch(
    kernel: Any,
    told_of: Callable[..., tuple[int, dict[str, Any]]],
    key: tuple[Any, ...],
    out: torch.Tensor,
    source: torch.Tensor,
    *others: torch.Tensor,
    size: int | None = None,
) -> None:
    """Launch a kernel that writes ``out`` from a ``source``, in tiles of ``size``; doubles have half as many.

    ``told_of(*key, out, source, *others)`` returns how many channels are read at a time, and the arguments. Without a
    size tiles are of 128 threads, with so many channels each, four at least.

    Examples
    --------
    >>> launch(None, dict, (), torch.ones(0, 1, 1), torch.ones(0, 1, 1))
    """
    if out.numel():
        with runtime.on_device_of(out):
            launch_kept(kernel, _launched, (told_of, key, size), out, source, *others)


def _launched(
    told_of: Callable[..., tuple[int, dict[str, Any]]], key: tuple[Any, ...], size: int | None,
    out: torch.Tensor, source: torch.Tensor, *others: torch.Tensor,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    vector, given = told_of(*key, out, source, *others)
    rows, pixels, size = out.shape[0] * out.shape[1], prod(out.shape[2:]), size or 128 * max(4, vector)
    block_m, block_n = tile_of(out, rows, pixels, size // 2 if out.dtype == torch.float64 else size)
    told = {"rows": rows // vector, "channels": out.shape[1] // vector, "pixels": pixels, "VECTOR": vector}
    told |= {"INT64": is_wide(out, source), "BLOCK_M": block_m, "BLOCK_N": block_n}
    return (cdiv(rows, block_m) * cdiv(pixels, block_n),), given | told


def tile_of(like: torch.Tensor, rows: int, pixels: int, size: int) -> tuple[int, int]:
    """Return ``BLOCK_M`` and ``BLOCK_N``, about ``size`` together, longer along what lies together in ``like``.

    Examples
    --------
    >>> tile_of(torch.ones(2, 3, 4, 5), 6, 20, 1024)
    (8, 32)
    """
    return _tile_of(like.shape[1] if is_channels_last(like) else None, rows, pixels, size)


@lru_cache(1024)
def _tile_of(channels: int | None, rows: int, pixels: int, size: int) -> tuple[int, int]:
    """``channels`` where they lie together."""
    if channels is not None:
        together = min(power_of_2(channels), 64)
        return together, min(power_of_2(pixels), size // together)
    together = min(power_of_2(pixels), size)
    return min(power_of_2(rows), size // together), together
