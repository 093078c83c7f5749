"""The Triton kernel of the input gradient of layers whose output channels read one input channel each.

As for ``konvlib.layers.depthwise``, a thread has a vector of channels and a strip of neighbours along the last axis. Of
the depths and lines, a program has those of one phase of the stride, which are shown by the same taps (see
``konvlib.layers.input_grad``). A strip has all phases of its line, so that it loads each output once: it begins at a
multiple of the stride, and which of its inputs a tap shows to an output is known when the kernel is compiled. Only
where the stride is long has it one phase.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import memory
from konvlib.layers.autotune import Tile
from konvlib.layers.depthwise import SIZES, launch, place_of, plus, taps_at_once
from konvlib.layers.input_grad import taps_of_phase
from konvlib.runtime import cdiv, tl

MOST_PHASES = 4
"""Up to which stride a strip of inputs has all phases of its line."""

TILES = (Tile(128, 7, 1, 4, 1), Tile(128, 4, 1, 4, 1), Tile(128, 7, 3, 4, 1))
"""As for the layer: threads of a program, inputs of a strip, turns of the loop that are written out, warps."""


@runtime.jit(do_not_specialize=SIZES)
def depthwise_input_grad_kernel(
    dy_ptr, w_ptr, bias_ptr, dx_ptr,
    # Threads of a phase, vectors of all input channels, their blocks, strips of a line, the layer.
    vectors, groups, blocks, strips,
    in_d, in_h, in_w, out_d, out_h, out_w, padding_d, padding_h, padding_w,
    # Steps in memory, in vectors.
    stride_dyn, stride_dyc, stride_dyd, stride_dyh, stride_dyw,
    stride_dxn, stride_dxc, stride_dxd, stride_dxh, stride_dxw,
    # The layer: gcd(s, d), the inverse of d / gcd modulo s / gcd.
    KERNEL_D: tl.constexpr, KERNEL_H: tl.constexpr, KERNEL_W: tl.constexpr,
    STRIDE_D: tl.constexpr, STRIDE_H: tl.constexpr, STRIDE_W: tl.constexpr,
    DILATION_D: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MULTIPLIER: tl.constexpr,
    GCD_D: tl.constexpr, GCD_H: tl.constexpr, GCD_W: tl.constexpr,
    INVERSE_D: tl.constexpr, INVERSE_H: tl.constexpr, INVERSE_W: tl.constexpr,
    # Whether a strip has one phase, how many taps are written out, their columns, and which input b of the strip the
    # tap u shows to column c: SCALE b = RISE c + FALL u - SHIFT.
    PHASED: tl.constexpr, TAPS: tl.constexpr, COLUMNS: tl.constexpr,
    RISE: tl.constexpr, FALL: tl.constexpr, SHIFT: tl.constexpr,
    # How many axes there are, whether a bias is added, the dtypes, the layout, the tile.
    AXES: tl.constexpr, HAS_BIAS: tl.constexpr, ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
    LAST: tl.constexpr, VECTOR: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK: tl.constexpr, STRIP: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = bias[c] + sum_{o, u} dy[n, o, i] w[o, u] over c = o // multiplier and s i + d u - p = j."""
    # Which phase is this program's, and which inputs of it are this thread's?
    STEP_W: tl.constexpr = STRIDE_W if PHASED else 1
    PHASES: tl.constexpr = STRIDE_D * STRIDE_H * STEP_W
    pid, phase = tl.program_id(0) // PHASES, tl.program_id(0) % PHASES
    r_d, r_h, r_w = phase // (STRIDE_H * STEP_W), phase // STEP_W % STRIDE_H, phase % STEP_W
    number, lane = (pid.to(tl.int64) if INT64 else pid) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, VECTOR)[None, :]
    depths, lines = tl.cdiv(in_d, STRIDE_D), tl.cdiv(in_h, STRIDE_H)
    image, channel, t_d, t_h, strip = place_of(number, blocks, depths, lines, strips, BLOCK_C, LAST)
    mask, channel, t_w = (number < vectors) & (channel < groups), tl.minimum(channel, groups - 1), strip * STRIP
    # The taps of the phase, and the output to which the first of them shows an input.
    at_d, gap_d, u_d, unit_d, taps_d = taps_of_phase(r_d, padding_d, STRIDE_D, DILATION_D, GCD_D, INVERSE_D, KERNEL_D)
    at_h, gap_h, u_h, unit_h, taps_h = taps_of_phase(r_h, padding_h, STRIDE_H, DILATION_H, GCD_H, INVERSE_H, KERNEL_H)
    if PHASED:
        at_w, gap_w, u_w, unit_w, turns_w = taps_of_phase(
            r_w, padding_w, STRIDE_W, DILATION_W, GCD_W, INVERSE_W, KERNEL_W
        )
        i_w = t_w + at_w
    else:
        # All phases of the line together, TAPS of its taps a turn.
        gap_w, u_w, unit_w, turns_w = -(TAPS * DILATION_W // STRIDE_W), 0, TAPS, (KERNEL_W + TAPS - 1) // TAPS
        i_w = t_w // STRIDE_W + padding_w // STRIDE_W
    i_d, i_h = t_d + at_d, t_h + at_h
    dy_first = image * stride_dyn + channel * MULTIPLIER * stride_dyc + i_w * stride_dyw
    if AXES > 1:
        dy_first += i_h * stride_dyh
    if AXES > 2:
        dy_first += i_d * stride_dyd
    dy_ptr += (dy_first * VECTOR)[:, None] + lane
    w_ptr += (channel * MULTIPLIER * VECTOR)[:, None] + lane
    acc = (tl.zeros((BLOCK, VECTOR), ACC_DTYPE),) * STRIP
    # A phase may have no taps: nothing is divided by their number, which the compiler would take as proof of some.
    some_w, some_h = tl.maximum(turns_w, 1), tl.maximum(taps_h, 1)
    for turn in tl.range(0, taps_d * taps_h * turns_w * MULTIPLIER, loop_unroll_factor=UNROLL):
        # The next taps, of one of the outputs that read the channel.
        turn = turn.to(tl.int64) if INT64 else turn
        m, v = turn % MULTIPLIER, turn // MULTIPLIER
        v_w, v_h, v_d = v % some_w, v // some_w % some_h, v // (some_w * some_h)
        tap_w = u_w + unit_w * v_w
        tap = ((u_d + unit_d * v_d) * KERNEL_H + u_h + unit_h * v_h) * KERNEL_W + tap_w
        w_line = w_ptr + (tap * (groups * MULTIPLIER) + m) * VECTOR
        w = ()
        for u in tl.static_range(TAPS):
            real = True if KERNEL_W % TAPS == 0 else tap_w + u < KERNEL_W
            w_tap = tl.load(w_line + u * (groups * MULTIPLIER * VECTOR), mask=real, other=0)
            w = w + (w_tap.to(ACC_DTYPE),)  # noqa: RUF005
        # What the line of outputs received to which they show the strip, column by column.
        line, dy_line = mask, m * stride_dyc + gap_w * v_w * stride_dyw
        if AXES > 1:
            i = i_h + gap_h * v_h
            line, dy_line = line & (i >= 0) & (i < out_h), dy_line + gap_h * v_h * stride_dyh
        if AXES > 2:
            i = i_d + gap_d * v_d
            line, dy_line = line & (i >= 0) & (i < out_d), dy_line + gap_d * v_d * stride_dyd
        for k in tl.static_range(len(COLUMNS)):
            i = i_w + gap_w * v_w + COLUMNS[k]
            dy = dy_ptr + (dy_line + COLUMNS[k] * stride_dyw) * VECTOR
            dy = tl.load(dy, mask=(line & (i >= 0) & (i < out_w))[:, None], other=0).to(ACC_DTYPE)
            for b in tl.static_range(STRIP):
                for u in tl.static_range(TAPS):
                    if b + SHIFT == RISE * COLUMNS[k] + FALL * u:
                        term = dy * w[u]
                        if KERNEL_W % TAPS != 0:
                            term = tl.where(tap_w + u < KERNEL_W, term, 0.0)
                        acc = plus(acc, b, term)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + ((channel * VECTOR)[:, None] + lane)).to(ACC_DTYPE)
    # Where the inputs lie.
    j_d, j_h, j_w = t_d * STRIDE_D + r_d, t_h * STRIDE_H + r_h, t_w * STEP_W + r_w
    mask &= (j_d < in_d) & (j_h < in_h)
    dx_first = image * stride_dxn + channel * stride_dxc + j_d * stride_dxd + j_h * stride_dxh + j_w * stride_dxw
    dx_ptr += (dx_first * VECTOR)[:, None] + lane
    for b in tl.static_range(STRIP):
        dx = (acc[b] + bias if HAS_BIAS else acc[b]).to(dx_ptr.dtype.element_ty)
        tl.store(dx_ptr + b * STEP_W * stride_dxw * VECTOR, dx, mask=(mask & (j_w + b * STEP_W < in_w))[:, None])


def conv_transpose(dy: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, layer: ConvGeometry) -> torch.Tensor:
    """The transpose of such a layer, which is its input gradient, with a bias, by the kernel.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]])
    >>> with runtime.interpreted():
    ...     conv_transpose(dy, w, None, conv_geometry((1, 1, 3), w.shape, axes=1))
    tensor([[[ 2., 13., 15.]]])
    """
    dx, name = memory.fresh(dy, layer.input_shape), "depthwise_transpose"
    launch(depthwise_input_grad_kernel, _strips, {"dy": dy, "dx": dx}, w, bias, layer, name=name, likely=TILES)
    return dx


def _strips(layer: ConvGeometry, tile: Tile) -> tuple[int, int, dict[str, Any]]:
    """As `konvlib.layers.depthwise.launch` asks it."""
    common, inverse = memory.gcd_and_inverse(layer.stride, layer.dilation)
    each = {name.upper(): value for name, value in memory.along_axes(gcd=(common, 1), inverse=(inverse, 0)).items()}
    stride, dilation, size = layer.stride[-1], layer.dilation[-1], layer.input_size[-1]
    phased, shift = stride > MOST_PHASES, layer.before[-1] % stride
    taps = 1 if phased else taps_at_once(layer.kernel_size[-1], stride // common[-1])
    if phased:
        strip = tile.block_n
        strips, columns = cdiv(cdiv(size, stride), strip), tuple(range(strip))
        told = {"RISE": 1, "FALL": 0, "SHIFT": 0}
    else:  # a strip begins at a multiple of the stride, so that its phases are known
        strip = cdiv(tile.block_n, stride) * stride
        sums = [b + shift - dilation * u for b in range(strip) for u in range(taps)]
        strips, columns = cdiv(size, strip), tuple(sorted({n // stride for n in sums if n % stride == 0}))
        told = {"RISE": stride, "FALL": dilation, "SHIFT": shift}
    told |= {"strips": strips, "TAPS": taps, "COLUMNS": columns, "STRIP": strip, "PHASED": phased, **each}
    lines = math.prod(cdiv(n, s) for n, s in zip(layer.input_size[:-1], layer.stride[:-1], strict=True))
    return math.prod(layer.stride[:-1]) * (stride if phased else 1), lines, told
