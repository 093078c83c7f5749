"""The Triton kernel of layers whose output channels read one input channel each, and what its gradients share with it.

There is no sum over channels, so there is nothing for a matrix product to share: the kernels are as quick as they move
bytes. A thread has a *vector* of channels that lie together, 16 bytes if they can, and a *strip* of neighbours along
the last axis. It loads each sample of a line once for all outputs of the strip. Threads are numbered so that
neighbours share samples too, through the cache: blocks of channels first, then lines, then strips. Output channel ``o``
reads channel ``o // multiplier``; with a multiplier, or where channels do not lie together, vectors are single samples.

The weight is packed as (taps, channels). The taps of a line are written out, up to eight of them at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, memory
from konvlib.layers.autotune import Tile
from konvlib.layers.bound import launch as launch_kept
from konvlib.runtime import cdiv, tl

SIZES = (
    *("vectors", "groups", "blocks", "strips"),
    *(f"{name}_{axis}" for name in ("in", "out", "padding") for axis in "dhw"),
    *(f"stride_{tensor}{place}" for tensor in ("x", "y", "dx", "dy") for place in "ncdhw"),
)
"""Arguments that change from call to call: one compiled kernel serves them all. That accesses are 16 bytes wide is
known from ``VECTOR``, the unit in which steps are counted, not from what the numbers are divisible by."""

MOST_TAPS = 8
"""How many taps of a line are written out at once, their weights in registers."""

WIDEST = 16
"""The bytes of the widest access."""

TILES = (Tile(128, 7, 1, 4, 1), Tile(128, 4, 1, 4, 1), Tile(128, 4, 3, 4, 1))
"""Threads of a program, outputs of a strip, turns of the loop that are written out, warps; the likeliest first."""


@runtime.jit()
def plus(sums, place: tl.constexpr, term):
    """The sums, with a term added to one of them."""
    return sums[:place] + (sums[place] + term,) + sums[place + 1 :]  # noqa: RUF005


@runtime.jit()
def place_of(number, blocks, depths, lines, strips, BLOCK_C: tl.constexpr, LAST: tl.constexpr):
    """The image of a thread, its channels, and its place: depth, line and strip.

    Threads are counted along the channels of a block, lines, strips, depths, blocks, images; where channels do not
    lie together, strips come before lines.
    """
    low, rest = number % BLOCK_C, number // BLOCK_C
    if LAST:
        line, rest = rest % lines, rest // lines
        strip, rest = rest % strips, rest // strips
    else:
        strip, rest = rest % strips, rest // strips
        line, rest = rest % lines, rest // lines
    depth, rest = rest % depths, rest // depths
    return rest // blocks, rest % blocks * BLOCK_C + low, depth, line, strip


@runtime.jit(do_not_specialize=SIZES)
def depthwise_forward_kernel(
    x_ptr, w_ptr, bias_ptr, y_ptr,
    # Threads, vectors of all output channels, their blocks, strips of a line, the layer.
    vectors, groups, blocks, strips,
    in_d, in_h, in_w, out_d, out_h, out_w, padding_d, padding_h, padding_w,
    # Steps in memory, in vectors.
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw, stride_yn, stride_yc, stride_yd, stride_yh, stride_yw,
    # The layer: so many taps of a line are written out; the columns that they show to a strip.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MULTIPLIER: tl.constexpr,
    TAPS: tl.constexpr, COLUMNS: tl.constexpr,
    # How many axes there are, whether a bias is added, the dtypes, the layout, the tile.
    AXES: tl.constexpr, HAS_BIAS: tl.constexpr, ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
    LAST: tl.constexpr, VECTOR: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr, STRIP: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """y[n, o, i] = bias[o] + sum_u x[n, o // multiplier, s i + d u - p] w[o, u], BLOCK threads of STRIP outputs."""
    # Which outputs are this thread's?
    pid = tl.program_id(0).to(tl.int64) if INT64 else tl.program_id(0)
    number, lane = pid * BLOCK + tl.arange(0, BLOCK), tl.arange(0, VECTOR)[None, :]
    image, channel, i_d, i_h, strip = place_of(number, blocks, out_d, out_h, strips, BLOCK_C, LAST)
    mask, channel, i_w = (number < vectors) & (channel < groups), tl.minimum(channel, groups - 1), strip * STRIP
    # What the first tap shows the first of them.
    j_d, j_h, j_w = i_d * STRIDE_D - padding_d, i_h * STRIDE_H - padding_h, i_w * STRIDE_W - padding_w
    x_first = image * stride_xn + channel // MULTIPLIER * stride_xc + j_w * stride_xw
    if AXES > 1:
        x_first += j_h * stride_xh
    if AXES > 2:
        x_first += j_d * stride_xd
    x_ptr += (x_first * VECTOR)[:, None] + lane
    w_ptr += (channel * VECTOR)[:, None] + lane
    acc = (tl.zeros((BLOCK, VECTOR), ACC_DTYPE),) * STRIP
    TURNS: tl.constexpr = (KERNEL_W + TAPS - 1) // TAPS
    for turn in tl.range(0, KERNEL_D * KERNEL_H * TURNS, loop_unroll_factor=UNROLL):
        # The next taps: TAPS of a line.
        turn = turn.to(tl.int64) if INT64 else turn
        u_w, u_h, u_d = turn % TURNS * TAPS, turn // TURNS % KERNEL_H, turn // (TURNS * KERNEL_H)
        w_line = w_ptr + ((u_d * KERNEL_H + u_h) * KERNEL_W + u_w) * (groups * VECTOR)
        w = ()
        for u in tl.static_range(TAPS):
            real = True if KERNEL_W % TAPS == 0 else u_w + u < KERNEL_W
            w_tap = tl.load(w_line + u * (groups * VECTOR), mask=real, other=0)
            w = w + (w_tap.to(ACC_DTYPE),)  # noqa: RUF005
        # The line that they show, column by column; nothing in the padding.
        line, x_line = mask, u_w * DILATION_W * stride_xw
        if AXES > 1:
            j = j_h + DILATION_H * u_h
            line, x_line = line & (j >= 0) & (j < in_h), x_line + DILATION_H * u_h * stride_xh
        if AXES > 2:
            j = j_d + DILATION_D * u_d
            line, x_line = line & (j >= 0) & (j < in_d), x_line + DILATION_D * u_d * stride_xd
        for k in tl.static_range(len(COLUMNS)):
            j = j_w + u_w * DILATION_W + COLUMNS[k]
            x = x_ptr + (x_line + COLUMNS[k] * stride_xw) * VECTOR
            x = tl.load(x, mask=(line & (j >= 0) & (j < in_w))[:, None], other=0).to(ACC_DTYPE)
            for b in tl.static_range(STRIP):
                for u in tl.static_range(TAPS):
                    if b * STRIDE_W + DILATION_W * u == COLUMNS[k]:
                        term = x * w[u]
                        if KERNEL_W % TAPS != 0:
                            term = tl.where(u_w + u < KERNEL_W, term, 0.0)
                        acc = plus(acc, b, term)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + ((channel * VECTOR)[:, None] + lane)).to(ACC_DTYPE)
    # Where the outputs lie.
    y_first = image * stride_yn + channel * stride_yc + i_d * stride_yd + i_h * stride_yh + i_w * stride_yw
    y_ptr += (y_first * VECTOR)[:, None] + lane
    for b in tl.static_range(STRIP):
        y = acc[b] + bias if HAS_BIAS else acc[b]
        tl.store(y_ptr + b * stride_yw * VECTOR, y.to(y_ptr.dtype.element_ty), mask=(mask & (i_w + b < out_w))[:, None])


class Vectors(NamedTuple):
    """How the channels of a layer's tensors are shared out: see `vectors_of`."""

    size: int
    last: bool
    groups: int
    block: int

    @property
    def constants(self) -> dict[str, Any]:
        """What a kernel is told of them."""
        return {"LAST": self.last, "VECTOR": self.size, "BLOCK_C": self.block}


def vectors_of(layer: ConvGeometry, out: torch.Tensor, *others: torch.Tensor) -> Vectors:
    """How many channels are a vector, whether channels lie together, the vectors of ``out``, and those of a block.

    A vector lies whole in memory, in all of the tensors, and its bytes are those of one access. A block has at most 128
    bytes and wastes few threads where the vectors are no multiple of it.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x = memory.with_channels_last(torch.ones(2, 24, 9, 9))
    >>> vectors_of(conv_geometry(x.shape, (24, 1, 3, 3), axes=2, groups=24), x)
    Vectors(size=4, last=True, groups=6, block=2)
    """
    channels, size, tensors = out.shape[1], 1, (out, *others)
    last = out.stride(1) == 1 and channels > 1
    if layer.in_channels == layer.out_channels and all(t.stride(1) == 1 for t in tensors):
        apart = [t.stride(axis) for t in tensors for axis in range(t.dim()) if axis != 1 and t.shape[axis] > 1]
        size = math.gcd(WIDEST // out.element_size(), channels, *apart)
    groups, width = channels // size, size * out.element_size()
    blocks = [2**n for n in range(8) if 2**n * width <= 128] if last else [1]
    block = min(blocks, key=lambda block: cdiv(groups, block) * (block * width + 16))
    return Vectors(size, last, groups, block)


def steps(vectors: Vectors, **tensors: torch.Tensor) -> dict[str, int]:
    """The strides of tensors as the arguments of a kernel, in vectors.

    Examples
    --------
    >>> steps(Vectors(4, True, 2, 2), y=memory.with_channels_last(torch.ones(2, 8, 3)))
    {'stride_yn': 6, 'stride_yc': 1, 'stride_yd': 0, 'stride_yh': 0, 'stride_yw': 2}
    """
    each = {}
    for name, tensor in tensors.items():
        each |= {argument: step // vectors.size for argument, step in memory.named_strides(name, tensor).items()}
        each[f"stride_{name}c"] = tensor.stride(1) if vectors.size == 1 else 1
    return each


def constants_of(layer: ConvGeometry) -> dict[str, Any]:
    """What a kernel is compiled for: the taps, how they stand, how many outputs read a channel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> constants = constants_of(conv_geometry((1, 2, 9), (4, 1, 3), axes=1, groups=2))
    >>> constants["KERNEL_W"], constants["MULTIPLIER"]
    (3, 2)
    """
    each = {"kernel": (layer.kernel_size, 1), "stride": (layer.stride, 1), "dilation": (layer.dilation, 1)}
    upper = {name.upper(): value for name, value in memory.along_axes(**each).items()}
    return {**upper, "MULTIPLIER": layer.out_channels // layer.in_channels, "AXES": layer.axes}


def sizes_of(layer: ConvGeometry) -> dict[str, int]:
    """The sizes and the padding of a layer as the arguments of a kernel, which is compiled for all of them.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> sizes_of(conv_geometry((1, 2, 9), (4, 1, 3), axes=1, groups=2))["out_w"]
    7
    """
    return memory.along_axes(**{"in": (layer.input_size, 1)}, out=(layer.output_size, 1), padding=(layer.before, 0))


def taps_at_once(taps: int, unit: int = 1) -> int:
    """How many taps of a line are written out: all, or a multiple of ``unit`` that divides them, or `MOST_TAPS`.

    Examples
    --------
    >>> taps_at_once(7), taps_at_once(15), taps_at_once(31)
    (7, 5, 8)
    """
    if taps <= MOST_TAPS:
        return taps
    even = [n for n in range(MOST_TAPS // 2, MOST_TAPS + 1) if taps % n == 0 and n % unit == 0]
    return max(even, default=max(MOST_TAPS // unit, 1) * unit)


def conv(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The layer, one input channel for each output channel, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2], [1, 1, 1]]]), torch.tensor([[[2.0, 1]], [[0, 5]]])
    >>> with runtime.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1, groups=2))
    tensor([[[5., 8.],
             [5., 5.]]])
    """
    y = memory.fresh(x, layer.output_shape)
    launch(depthwise_forward_kernel, _strips, {"x": x, "y": y}, w, bias, layer, name="depthwise", likely=TILES)
    return y


def _strips(layer: ConvGeometry, tile: Tile) -> tuple[int, int, dict[str, Any]]:
    """As `launch` asks it."""
    taps, stride, dilation = taps_at_once(layer.kernel_size[-1]), layer.stride[-1], layer.dilation[-1]
    columns = {b * stride + dilation * u for b in range(tile.block_n) for u in range(taps)}
    strips = cdiv(layer.output_size[-1], tile.block_n)
    told = {"strips": strips, "TAPS": taps, "COLUMNS": tuple(sorted(columns)), "STRIP": tile.block_n}
    return 1, math.prod(layer.output_size[:-1]), told


def launch(
    kernel: Any,
    given: Callable[[ConvGeometry, Tile], tuple[int, int, dict[str, Any]]],
    operands: dict[str, torch.Tensor],
    w: torch.Tensor,
    bias: torch.Tensor | None,
    layer: ConvGeometry,
    *,
    name: str,
    likely: Sequence[Tile],
) -> None:
    """Launch a kernel that reads the first operand and writes the last.

    ``given`` returns how many phases there are, how many lines of each, and what a tile makes of a line.

    Examples
    --------
    As `conv` does:

    >>> from konvlib.geometry import conv_geometry
    >>> x, w = torch.tensor([[[1.0, 3, 2]]]), torch.tensor([[[2.0, 1]]])
    >>> with runtime.interpreted():
    ...     conv(x, w, None, conv_geometry(x.shape, w.shape, axes=1))
    tensor([[[5., 8.]]])
    """
    source, out = operands.values()
    if out.numel() == 0:
        return
    packed, bias = w.flatten(1).T.contiguous(), None if bias is None else bias.contiguous()

    def run(tile: Tile) -> None:
        launch_kept(kernel, _launched, (given, tuple(operands), layer, tile), source, out, packed, bias)

    with runtime.on_device_of(out):
        autotune.launch(name, layer, out, run, likely=likely)


def _launched(
    given: Callable[[ConvGeometry, Tile], tuple[int, int, dict[str, Any]]],
    names: tuple[str, ...], layer: ConvGeometry, tile: Tile,
    source: torch.Tensor, out: torch.Tensor, packed: torch.Tensor, bias: torch.Tensor | None,
) -> tuple[tuple[int], dict[str, Any]]:  # fmt: skip
    """The grid and the arguments."""
    operands = dict(zip(names, (source, out), strict=True))
    vectors, (phases, lines, told) = vectors_of(layer, out, source), given(layer, tile)
    blocks = cdiv(vectors.groups, vectors.block)
    count = out.shape[0] * lines * blocks * vectors.block * told["strips"]
    arguments = {f"{key}_ptr": tensor for key, tensor in operands.items()}
    arguments |= {"w_ptr": packed, "bias_ptr": packed if bias is None else bias, "HAS_BIAS": bias is not None}
    arguments |= {"groups": vectors.groups, "blocks": blocks, **vectors.constants, **told}
    arguments |= {**sizes_of(layer), **constants_of(layer), **steps(vectors, **operands)}
    arguments |= {"ACC_DTYPE": runtime.sum_type(out), "vectors": count}
    arguments |= {"INT64": memory.is_wide(out, source) or count >= 2**31 - 2**10}
    arguments |= {"BLOCK": tile.block_m, "UNROLL": tile.block_k}
    arguments |= {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    return (phases * cdiv(count, tile.block_m),), arguments
