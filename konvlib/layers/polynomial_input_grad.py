"""The Triton kernels of the input gradient of a layer that takes polynomials of its samples.

Degree by degree they compute the input gradient of an ordinary layer, as ``konvlib.layers.input_grad`` does, and
multiply it by the slope of the degree's polynomial at the sample. So the gradient by the polynomials, which has as many
channels more as there are degrees, is never written. A sum over taps and channels together would need more registers
than there are, so where there are few channels, the blocks of channels are small.
"""

from __future__ import annotations

import torch

from konvlib import runtime
from konvlib.geometry import ConvGeometry
from konvlib.layers import autotune, memory
from konvlib.layers.input_grad import SIZES, launch_by_phases, taps_of_phase
from konvlib.layers.memory import NOWHERE, pixel_of
from konvlib.layers.polynomials import Expansion, slope
from konvlib.runtime import tl


@runtime.jit(do_not_specialize=SIZES)
def polynomial_input_grad_kernel(
    dy_ptr, w_ptr, x_ptr, dx_ptr,
    # The pixels of one phase of all inputs, the groups and the channels of one, and the layer.
    pixels, groups, in_channels, out_channels,
    in_d, in_h, in_w, out_d, out_h, out_w, kernel_d, kernel_h, kernel_w,
    stride_d, stride_h, stride_w, padding_d, padding_h, padding_w, dilation_d, dilation_h, dilation_w,
    gcd_d, gcd_h, gcd_w, inverse_d, inverse_h, inverse_w,
    # Steps in memory. The channels of dy lie together, as do those of the weight (out, tap, in).
    stride_dyn, stride_dyd, stride_dyh, stride_dyw, stride_wo, stride_wt,
    stride_xn, stride_xc, stride_xd, stride_xh, stride_xw,
    stride_dxn, stride_dxc, stride_dxd, stride_dxh, stride_dxw,
    # How many axes there are, the polynomials, the dtypes, the tile.
    AXES: tl.constexpr, DEGREES: tl.constexpr, BASIS: tl.constexpr, SQUASH: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INPUT_PRECISION: tl.constexpr, EVEN_K: tl.constexpr, INT64: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dx[n, c, j] = sum_k p_k'(x[n, c, j]) sum_{u, o} dy[n, o, i] w[o, u, k, c], BLOCK_M pixels by BLOCK_N channels."""
    # Which tile of the inputs is this program's, and of which phase?
    blocks_m, blocks_n = tl.cdiv(pixels, BLOCK_M), tl.cdiv(in_channels, BLOCK_N)
    pid_n, rest = tl.program_id(0) % blocks_n, tl.program_id(0) // blocks_n
    pid_m, rest = rest % blocks_m, rest // blocks_m
    group, phase = rest % groups, rest // groups
    r_d, r_h, r_w = phase // (stride_h * stride_w), phase // stride_w % stride_h, phase % stride_w
    offs_m = (pid_m.to(tl.int64) if INT64 else pid_m) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n, offs_k = pid_n * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
    mask_m, mask_n = offs_m < pixels, offs_n < in_channels
    # The taps of the phase, and the output to which the first of them shows a pixel: nowhere past the last pixel.
    at_d, gap_d, u_d, unit_d, taps_d = taps_of_phase(r_d, padding_d, stride_d, dilation_d, gcd_d, inverse_d, kernel_d)
    at_h, gap_h, u_h, unit_h, taps_h = taps_of_phase(r_h, padding_h, stride_h, dilation_h, gcd_h, inverse_h, kernel_h)
    at_w, gap_w, u_w, unit_w, taps_w = taps_of_phase(r_w, padding_w, stride_w, dilation_w, gcd_w, inverse_w, kernel_w)
    image, t_d, t_h, t_w = pixel_of(offs_m, tl.cdiv(in_d, stride_d), tl.cdiv(in_h, stride_h), tl.cdiv(in_w, stride_w))
    i_d, i_h, i_w = t_d + at_d, t_h + at_h, tl.where(mask_m, t_w + at_w, NOWHERE)
    dy_first = i_d.to(tl.int64) * stride_dyd + i_h.to(tl.int64) * stride_dyh + i_w.to(tl.int64) * stride_dyw
    dy_first += image * stride_dyn
    # The channels of the group.
    dy_ptr += group * out_channels
    w_ptr += group.to(tl.int64) * (out_channels * stride_wo)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    for degree in tl.static_range(1, DEGREES + 1):
        part = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
        # A single loop over taps and blocks of channels, so that loads run ahead of products from tap to tap too.
        v_d, v_h, v_w, k = 0, 0, 0, 0
        for _ in tl.range(0, taps_d * taps_h * taps_w * tl.cdiv(out_channels, BLOCK_K)):
            # What the outputs received to which the tap shows the pixels, of channels k and on.
            i = i_w + gap_w * v_w
            mask_dy, dy_step = (i >= 0) & (i < out_w), gap_w * v_w * stride_dyw + k
            if AXES > 1:
                i = i_h + gap_h * v_h
                mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_h), dy_step + gap_h * v_h * stride_dyh
            if AXES > 2:
                i = i_d + gap_d * v_d
                mask_dy, dy_step = mask_dy & (i >= 0) & (i < out_d), dy_step + gap_d * v_d * stride_dyd
            mask_dy, mask_w = mask_dy[:, None], mask_n[None, :]
            if not EVEN_K:
                mask_k = k + offs_k < out_channels
                mask_dy, mask_w = mask_dy & mask_k[None, :], mask_w & mask_k[:, None]
            dy = tl.load(dy_ptr + ((dy_first + dy_step)[:, None] + offs_k[None, :]), mask=mask_dy, other=0)
            # The weights of the tap, of this degree.
            tap = ((u_d + unit_d * v_d) * kernel_h + u_h + unit_h * v_h) * kernel_w + u_w + unit_w * v_w
            w_tap = w_ptr + ((degree - 1) * in_channels + tap * stride_wt + k * stride_wo)
            w = tl.load(w_tap + (offs_k[:, None] * stride_wo + offs_n[None, :]), mask=mask_w, other=0)
            part = tl.dot(dy, w, part, input_precision=INPUT_PRECISION, out_dtype=ACC_DTYPE)
            # Further channels; after the last of them the next tap, row by row and plane by plane.
            k += BLOCK_K
            next_tap = k >= out_channels
            k, v_w = tl.where(next_tap, 0, k), v_w + next_tap.to(tl.int32)
            next_row = v_w >= taps_w
            v_w, v_h = tl.where(next_row, 0, v_w), v_h + next_row.to(tl.int32)
            next_plane = v_h >= taps_h
            v_h, v_d = tl.where(next_plane, 0, v_h), v_d + next_plane.to(tl.int32)
        # Where the pixels of the phase lie; the last of them may lie past the input.
        j_d, j_h, j_w = t_d * stride_d + r_d, t_h * stride_h + r_h, t_w * stride_w + r_w
        inside = mask_m & (j_d < in_d) & (j_h < in_h) & (j_w < in_w)
        mask, offs_c = inside[:, None] & mask_n[None, :], (group * in_channels + offs_n).to(tl.int64)
        j_d, j_h, j_w = j_d.to(tl.int64), j_h.to(tl.int64), j_w.to(tl.int64)
        # What the degree sends there, times the slope of its polynomial.
        x_pixel = image * stride_xn + j_d * stride_xd + j_h * stride_xh + j_w * stride_xw
        x = x_ptr + (x_pixel[:, None] + (offs_c * stride_xc)[None, :])
        x = tl.load(x, mask=mask, other=0).to(ACC_DTYPE)
        acc += part * slope(x, degree, BASIS, SQUASH)
    dx_pixel = image * stride_dxn + j_d * stride_dxd + j_h * stride_dxh + j_w * stride_dxw
    dx = dx_ptr + (dx_pixel[:, None] + (offs_c * stride_dxc)[None, :])
    tl.store(dx, acc.to(dx_ptr.dtype.element_ty), mask=mask)


def conv_transpose(
    dy: torch.Tensor, w: torch.Tensor, x: torch.Tensor, layer: ConvGeometry, expansion: Expansion
) -> torch.Tensor:
    """The gradient by ``x`` of the layer of ``x`` expanded, in the layout of ``x``.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> dy, w, x = torch.tensor([[[1.0, 5]]]), torch.tensor([[[2.0, 3]]]), torch.tensor([[[1.0, 2, 4]]])
    >>> with runtime.interpreted():
    ...     conv_transpose(dy, w, x, conv_geometry(x.shape, w.shape, axes=1), Expansion(1, "monomial", "tanh"))
    tensor([[[0.8399, 0.9185, 0.0201]]])
    """
    dx = memory.empty(x, layer.input_shape)
    if expansion.degrees == 0:
        return dx.zero_()
    told = memory.named_strides("x", x)
    told |= {"DEGREES": expansion.degrees, "BASIS": expansion.basis, "SQUASH": expansion.squash}
    given = ("x_ptr", x), tuple(told.items())
    name = f"conv_transpose {expansion.basis} {expansion.squash} {expansion.degrees}"
    among = autotune.tiles_of(dx.dtype, expanded=True, sloped=True)
    launch_by_phases((polynomial_input_grad_kernel, None), *given, dx, dy, w, layer, name=name, among=among)
    return dx
