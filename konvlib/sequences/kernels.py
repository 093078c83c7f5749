"""The Triton kernels of `konvlib.sequences.tensors` and their launchers: the direct sum, three times.

``direct_kernel`` gives each program a tile of outputs and runs over the taps; it also repairs an FFT's result.
``toeplitz_kernel`` does the same as a product with a matrix whose diagonals are the taps, where there are enough of
them. ``split_kernel`` is for few outputs with long sums, such as the gradient of a kernel that a batch shares: each
program sums one part of the products, and the parts are summed in a second pass, always in the same order.

Every kernel takes its two operands as rows, by a pointer, the strides of an outer and an inner row index (zero where
the operand is shared) and the stride from one sample to the next. A complex number is two real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from konvlib import runtime
from konvlib.runtime import cdiv, power_of_2, tl
from konvlib.sequences.aten import lead_of, result_shape

SIZES = (
    *("stride_taps_outer", "stride_taps_inner", "stride_signal_outer", "stride_signal_inner", "stride_spectral"),
    *("rows", "inner_rows", "kept_rows", "length", "start", "count", "samples", "parts"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""


def _sizes_but(*names: str) -> list[str]:
    return [size for size in SIZES if size not in names]


@runtime.jit()
def load_number(pointer, mask, ACC_DTYPE: tl.constexpr, COMPLEX: tl.constexpr):
    """What ``pointer`` points to, zero where masked; the imaginary part of a real number is its real one again."""
    real = tl.load(pointer, mask=mask, other=0).to(ACC_DTYPE)
    imag = tl.load(pointer + 1, mask=mask, other=0).to(ACC_DTYPE) if COMPLEX else real
    return real, imag


@runtime.jit()
def add_product(
    acc_real, acc_imag, a_ptr, a_mask, b_ptr, mask, ACC_DTYPE: tl.constexpr, COMPLEX: tl.constexpr
):  # fmt: skip
    """Add what ``a_ptr`` and ``b_ptr`` point to, multiplied, where ``mask``.

    Operands masked with zero would not do, since zero times infinity is NaN. The loads are spelled out because each
    call of a function costs Triton's interpreter a millisecond.
    """
    a_real = tl.load(a_ptr, mask=a_mask, other=0).to(ACC_DTYPE)
    b_real = tl.load(b_ptr, mask=mask, other=0).to(ACC_DTYPE)
    if COMPLEX:
        a_imag = tl.load(a_ptr + 1, mask=a_mask, other=0).to(ACC_DTYPE)
        b_imag = tl.load(b_ptr + 1, mask=mask, other=0).to(ACC_DTYPE)
        acc_real += tl.where(mask, a_real * b_real - a_imag * b_imag, 0.0)
        acc_imag += tl.where(mask, a_real * b_imag + a_imag * b_real, 0.0)
    else:
        acc_real += tl.where(mask, a_real * b_real, 0.0)
    return acc_real, acc_imag


@runtime.jit()
def store_number(pointer, real, imag, mask, COMPLEX: tl.constexpr):
    tl.store(pointer, real.to(pointer.dtype.element_ty), mask=mask)
    if COMPLEX:
        tl.store(pointer + 1, imag.to(pointer.dtype.element_ty), mask=mask)


@runtime.jit()
def any_not_finite(real, imag):
    return tl.max(tl.where((tl.abs(real) < float("inf")) & (tl.abs(imag) < float("inf")), 0, 1), axis=None) != 0


@runtime.jit()
def row_offset(row, inner_rows, stride_outer, stride_inner):
    """Where a row begins: row ``outer * inner_rows + inner`` lies at ``outer`` and ``inner`` strides."""
    return (row // inner_rows).to(tl.int64) * stride_outer + (row % inner_rows).to(tl.int64) * stride_inner


@runtime.jit()
def sum_taps(
    acc_real, acc_imag,
    # The taps that are used: from first to last, or all of TAPS, unrolled, if that is not zero.
    first, last, taps_ptr, stride_taps,
    # The outputs' places in the full convolution, and the samples that exist.
    signal_ptr, stride_signal, place, samples,
    # INSIDE promises that every sample that is met exists.
    ACC_DTYPE: tl.constexpr, COMPLEX: tl.constexpr, INSIDE: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Add ``taps[m] * signal[place - m]`` for ``first <= m < last``."""
    everywhere = tl.full(place.shape, True, tl.int1)
    if TAPS:
        for m in tl.static_range(TAPS):
            at = place - m
            mask = everywhere if INSIDE else (at >= 0) & (at < samples)
            tap, sample = taps_ptr + m * stride_taps, signal_ptr + at * stride_signal
            acc_real, acc_imag = add_product(acc_real, acc_imag, tap, True, sample, mask, ACC_DTYPE, COMPLEX)
    else:
        for m in tl.range(first, last, loop_unroll_factor=8 if INSIDE else 2):
            # Tap m meets the sample m places before the output.
            at = place - m
            mask = everywhere if INSIDE else (at >= 0) & (at < samples)
            tap, sample = taps_ptr + m * stride_taps, signal_ptr + at * stride_signal
            acc_real, acc_imag = add_product(acc_real, acc_imag, tap, True, sample, mask, ACC_DTYPE, COMPLEX)
    return acc_real, acc_imag


@runtime.jit(do_not_specialize=_sizes_but("parts", "kept_rows"))
def direct_kernel(
    y_ptr,
    # An FFT's result, if it is repaired.
    spectral_ptr, stride_spectral,
    # Operands, and their strides by outer row, inner row and sample.
    taps_ptr, stride_taps_outer, stride_taps_inner, stride_taps,
    signal_ptr, stride_signal_outer, stride_signal_inner, stride_signal,
    # Sizes: rows, outputs of a row and the first of them in the full convolution, taps, samples.
    rows, inner_rows, length, start, count, samples,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, TAPS: tl.constexpr,
    ACC_DTYPE: tl.constexpr, COMPLEX: tl.constexpr, REPAIRS: tl.constexpr, INT64: tl.constexpr,
):  # fmt: skip
    """A tile of ``BLOCK_M`` rows by ``BLOCK_N`` outputs; with ``REPAIRS`` only if that of the FFT is not finite."""
    width: tl.constexpr = 2 if COMPLEX else 1
    # Which tile is this program's? Tiles of the same rows follow each other.
    tiles_per_row = tl.cdiv(length, BLOCK_N)
    offs_m = tl.program_id(0) // tiles_per_row * BLOCK_M + tl.arange(0, BLOCK_M)
    tile = tl.program_id(0) % tiles_per_row
    base = (tile.to(tl.int64) if INT64 else tile) * BLOCK_N
    offs_n = base + tl.arange(0, BLOCK_N)[None, :]
    mask = (offs_m < rows)[:, None] & (offs_n < length)
    # Where its rows begin; those after the last read the last again, and are not stored.
    row = tl.minimum(offs_m, rows - 1)
    taps_ptr += row_offset(row, inner_rows, stride_taps_outer, stride_taps_inner)[:, None]
    signal_ptr += row_offset(row, inner_rows, stride_signal_outer, stride_signal_inner)[:, None]
    # Taps that meet a sample anywhere in the tile.
    if TAPS:
        first, last = 0, TAPS
    else:
        first, last = tl.maximum(start + base - samples + 1, 0), tl.minimum(start + base + BLOCK_N, count)
    if REPAIRS:
        # A tile that is finite needs no taps.
        given = spectral_ptr + offs_m.to(tl.int64)[:, None] * stride_spectral + offs_n * width
        given_real, given_imag = load_number(given, mask, ACC_DTYPE, COMPLEX)
        wrong = any_not_finite(given_real, given_imag)
        last = tl.where(wrong, last, first)
    acc_real = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    acc_imag = acc_real
    # The samples met are from the tile's first with the last tap to its last with the first; if all exist, no masks.
    if (start + base - last + 1 >= 0) & (start + base + BLOCK_N - 1 - first < samples):
        acc_real, acc_imag = sum_taps(
            acc_real, acc_imag, first, last, taps_ptr, stride_taps, signal_ptr, stride_signal, start + offs_n, samples,
            ACC_DTYPE, COMPLEX, True, TAPS,
        )  # fmt: skip
    else:
        acc_real, acc_imag = sum_taps(
            acc_real, acc_imag, first, last, taps_ptr, stride_taps, signal_ptr, stride_signal, start + offs_n, samples,
            ACC_DTYPE, COMPLEX, False, TAPS,
        )  # fmt: skip
    if REPAIRS:
        acc_real, acc_imag = tl.where(wrong, acc_real, given_real), tl.where(wrong, acc_imag, given_imag)
    # The result is contiguous.
    y_ptr += offs_m.to(tl.int64)[:, None] * length * width + offs_n * width
    store_number(y_ptr, acc_real, acc_imag, mask, COMPLEX)


@runtime.jit(do_not_specialize=_sizes_but("stride_spectral", "parts", "rows", "kept_rows"))
def toeplitz_kernel(
    y_ptr,
    # Operands, and their strides by outer row, inner row and sample.
    taps_ptr, stride_taps_outer, stride_taps_inner, stride_taps,
    signal_ptr, stride_signal_outer, stride_signal_inner, stride_signal,
    # Sizes, as those of direct_kernel.
    inner_rows, length, start, count, samples,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    ACC_DTYPE: tl.constexpr, INT64: tl.constexpr,
):  # fmt: skip
    """``BLOCK_M * BLOCK_N`` outputs of one row, as the product of a matrix of samples with a Toeplitz matrix of taps.

    Output ``BLOCK_N * j + r`` is ``sum_k X[j, k] T[k, r]`` with ``X[j, k] = signal[origin + BLOCK_N * j + k]`` and
    ``T[k, r] = taps[count - 1 + r - k]``, zero outside. Such a zero meets samples that the direct sum does not use: if
    the tile is not finite, it is computed again, tap by tap.
    """
    # Which row, and which of its tiles?
    tiles_per_row = tl.cdiv(length, BLOCK_M * BLOCK_N)
    row, tile = tl.program_id(0) // tiles_per_row, tl.program_id(0) % tiles_per_row
    base = (tile.to(tl.int64) if INT64 else tile) * (BLOCK_M * BLOCK_N)
    # Output number j * BLOCK_N + r of the tile stands in line j and column r.
    offs_n = tl.arange(0, BLOCK_N)[None, :]
    lines = base + tl.arange(0, BLOCK_M)[:, None] * BLOCK_N
    taps_ptr += row_offset(row, inner_rows, stride_taps_outer, stride_taps_inner)
    signal_ptr += row_offset(row, inner_rows, stride_signal_outer, stride_signal_inner)
    acc = tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE)
    # The last column's first tap reaches count + BLOCK_N - 1 samples from the line's origin.
    for k in range(0, count + BLOCK_N - 1, BLOCK_K):
        offs_k = k + tl.arange(0, BLOCK_K)
        # The origin of a line is the sample that its first output's last tap meets.
        at = start - count + 1 + lines + offs_k[None, :]
        m = count - 1 + offs_n - offs_k[:, None]
        x = tl.load(signal_ptr + at * stride_signal, mask=(at >= 0) & (at < samples), other=0)
        t = tl.load(taps_ptr + m * stride_taps, mask=(m >= 0) & (m < count), other=0)
        acc = tl.dot(x, t, acc, input_precision="ieee", out_dtype=ACC_DTYPE)
    # Once more without the zeros, over the taps that meet a sample; over none if the tile is finite.
    offs = lines + offs_n
    first = tl.maximum(start + base - samples + 1, 0)
    last = tl.minimum(start + base + BLOCK_M * BLOCK_N, count)
    wrong = any_not_finite(acc, acc)
    again, _unused = sum_taps(
        tl.zeros((BLOCK_M, BLOCK_N), ACC_DTYPE), acc, first, tl.where(wrong, last, first), taps_ptr, stride_taps,
        signal_ptr, stride_signal, start + offs, samples, ACC_DTYPE, False, False, 0,
    )  # fmt: skip
    acc = tl.where(wrong, again, acc)
    tl.store(y_ptr + row.to(tl.int64) * length + offs, acc.to(y_ptr.dtype.element_ty), mask=offs < length)


@runtime.jit(do_not_specialize=_sizes_but("rows"))
def split_kernel(
    sums_ptr,
    # An FFT's result, if it is repaired.
    spectral_ptr, stride_spectral,
    # Operands, and their strides by outer row, inner row and sample; a result sums over inner rows.
    taps_ptr, stride_taps_outer, stride_taps_inner, stride_taps,
    signal_ptr, stride_signal_outer, stride_signal_inner, stride_signal,
    # Sizes, as those of direct_kernel; rows of the result, and into how many parts its sums are cut.
    kept_rows, inner_rows, length, start, count, samples, parts,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
    ACC_DTYPE: tl.constexpr, COMPLEX: tl.constexpr, REPAIRS: tl.constexpr, INT64: tl.constexpr,
):  # fmt: skip
    """One of ``parts`` of the sums of ``BLOCK_M`` outputs, over ``inner_rows`` rows of ``count`` products each."""
    width: tl.constexpr = 2 if COMPLEX else 1
    # Which part, of which tile, of which row? Parts of the same tile follow each other.
    tiles_per_row, blocks_per_row = tl.cdiv(length, BLOCK_M), tl.cdiv(count, BLOCK_K)
    part = tl.program_id(0) % parts
    tile = tl.program_id(0) // parts % tiles_per_row
    row = (tl.program_id(0) // parts // tiles_per_row).to(tl.int64)
    taps_ptr += row * stride_taps_outer
    signal_ptr += row * stride_signal_outer
    offs_m = (tile.to(tl.int64) if INT64 else tile) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    # Its share of the blocks of products, which are numbered through all inner rows.
    share = tl.cdiv(blocks_per_row * inner_rows, parts)
    first, last = part * share, tl.minimum((part + 1) * share, blocks_per_row * inner_rows)
    if REPAIRS:
        # Outputs that are finite need no products.
        given = spectral_ptr + row * stride_spectral + offs_m * width
        given_real, given_imag = load_number(given, offs_m < length, ACC_DTYPE, COMPLEX)
        last = tl.where(any_not_finite(given_real, given_imag), last, first)
    acc_real = tl.zeros((BLOCK_M, BLOCK_K), ACC_DTYPE)
    acc_imag = acc_real
    for block in range(first, last):
        # Block number -> inner row, and taps in it; tap m meets the sample m places before the output.
        inner = (block // blocks_per_row).to(tl.int64)
        m = block % blocks_per_row * BLOCK_K + tl.arange(0, BLOCK_K)[None, :]
        at = start + offs_m - m
        mask = (m < count) & (at >= 0) & (at < samples)
        tap = taps_ptr + inner * stride_taps_inner + m * stride_taps
        sample = signal_ptr + inner * stride_signal_inner + at * stride_signal
        acc_real, acc_imag = add_product(acc_real, acc_imag, tap, m < count, sample, mask, ACC_DTYPE, COMPLEX)
    # The sums are (parts, kept_rows, length), contiguous.
    sums_ptr += ((part * kept_rows + row) * length + offs_m) * width
    store_number(sums_ptr, tl.sum(acc_real, 1)[:, None], tl.sum(acc_imag, 1)[:, None], offs_m < length, COMPLEX)


def direct(signal: torch.Tensor, taps: torch.Tensor, start: int, length: int, summed: Sequence[int]) -> torch.Tensor:
    """Return the direct sum, by the kernel that fits."""
    lead = lead_of(signal, taps)
    outputs, count = math.prod(lead) * length, taps.shape[-1]
    if summed or (count >= LONG_SUM and outputs < FEW_OUTPUTS):
        return _split(signal, taps, start, length, summed).to(signal.dtype)
    inner = _inner_axes(signal, taps, lead)
    y = torch.empty(result_shape(signal, taps, length, ()), dtype=signal.dtype, device=signal.device)
    if tile := _toeplitz_tile(signal.dtype, count, length, outputs):
        return _toeplitz(y, signal, taps, start, length, inner, tile)
    return _tiled(y, None, signal, taps, start, length, inner)


def repaired(
    spectral: torch.Tensor, signal: torch.Tensor, taps: torch.Tensor, start: int, length: int, summed: Sequence[int]
) -> torch.Tensor:
    """Return an FFT's result, of the dtype of the sums, with each tile that is not finite by the direct sum."""
    if summed:
        direct_sum = _split(signal, taps, start, length, summed, spectral)
        return torch.where(spectral.isfinite(), spectral, direct_sum)
    y = torch.empty(spectral.shape, dtype=signal.dtype, device=signal.device)
    return _tiled(y, spectral, signal, taps, start, length, _inner_axes(signal, taps, lead_of(signal, taps)))


TOEPLITZ_TAPS = {torch.float16: 8, torch.bfloat16: 8, torch.float32: 48, torch.float64: 16}
"""From how many taps on a dtype goes through the Toeplitz product.

Assumed, from the machine code for Hopper: a load from the L1 cache serves one product in ``direct_kernel`` and about
twenty here, and the product itself is on the tensor cores, but for float32, which is kept exact and pays 1.8
instructions per product instead of 2.7; a product with ``BLOCK_N`` columns has ``BLOCK_N - 1`` taps too many.
"""

FILLS = 256
"""How many programs fill a device: about two for each of the 132 multiprocessors of an H100."""

LONG_SUM, FEW_OUTPUTS = 1024, 2**16
"""Sums as long as this, of fewer outputs than this, are split."""


def _tiled(y, spectral, signal, taps, start, length, inner):
    rows, count = math.prod(y.shape[:-1]), taps.shape[-1]
    # As many outputs a program as keep the device full; a row's last tile as full as may be.
    size = 256 if rows * length < FILLS * 1024 else 1024 if y.itemsize <= 4 else 512
    block_n = min((size >> s for s in range(4)), key=lambda b: cdiv(length, b) * b)
    block_n = min(block_n, power_of_2(length))
    block_m = min(size // block_n, power_of_2(rows))
    given = _real(y if spectral is None else spectral).reshape(rows, length, -1)
    operands = _operands(signal, taps, inner)
    with runtime.on_device_of(y):
        direct_kernel[(cdiv(rows, block_m) * cdiv(length, block_n),)](
            _real(y), given, given.stride(0), *operands.pointers, rows, operands.inner_rows, length, start, count,
            signal.shape[-1], BLOCK_M=block_m, BLOCK_N=block_n, TAPS=count if spectral is None and count <= 16 else 0,
            ACC_DTYPE=runtime.sum_type(y), COMPLEX=y.is_complex(), REPAIRS=spectral is not None,
            INT64=_is_far(signal, taps),
        )  # fmt: skip
    return y


def _toeplitz_tile(dtype: torch.dtype, count: int, length: int, outputs: int) -> tuple[int, int] | None:
    """Return ``BLOCK_M`` and ``BLOCK_N``, or None where the product does not pay or rows are too short for it."""
    if dtype not in TOEPLITZ_TAPS or count < TOEPLITZ_TAPS[dtype]:
        return None
    block_n = 16 if count <= 17 else 32
    block_m = 64 if length >= 64 * block_n and outputs >= FILLS * 64 * block_n else 16
    pays = block_m == 64 or dtype != torch.float32
    return (block_m, block_n) if pays and length >= block_m * block_n else None


def _toeplitz(y, signal, taps, start, length, inner, tile):
    block_m, block_n = tile
    operands = _operands(signal, taps, inner)
    with runtime.on_device_of(y):
        toeplitz_kernel[(math.prod(y.shape[:-1]) * cdiv(length, block_m * block_n),)](
            y, *operands.pointers, operands.inner_rows, length, start, taps.shape[-1], signal.shape[-1],
            BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=32 if y.dtype in runtime.HALVES else 16,
            ACC_DTYPE=runtime.sum_type(y), INT64=_is_far(signal, taps),
        )  # fmt: skip
    return y


def _split(signal, taps, start, length, summed, spectral=None):
    """The direct sum in the dtype of sums, in parts; where ``spectral`` is finite, something else."""
    shape, count = result_shape(signal, taps, length, summed), taps.shape[-1]
    kept = math.prod(shape[:-1])
    # A program has 2048 products at a time, of as many outputs as there are, up to 64, or of more if sums are short.
    block_k = min(2048 // min(64, power_of_2(length)), power_of_2(count))
    block_m = min(2048 // block_k, power_of_2(length))
    operands = _operands(signal, taps, summed)
    tiles = kept * cdiv(length, block_m)
    parts = min(cdiv(4 * FILLS, tiles), cdiv(count, block_k) * operands.inner_rows)
    sums = torch.empty((parts, *shape), dtype=runtime.sum_dtype(signal.dtype), device=signal.device)
    given = _real(sums[0] if spectral is None else spectral).reshape(kept, length, -1)
    with runtime.on_device_of(sums):
        split_kernel[(tiles * parts,)](
            _real(sums), given, given.stride(0), *operands.pointers, kept, operands.inner_rows, length, start, count,
            signal.shape[-1], parts, BLOCK_M=block_m, BLOCK_K=block_k, ACC_DTYPE=runtime.sum_type(sums),
            COMPLEX=sums.is_complex(), REPAIRS=spectral is not None, INT64=_is_far(signal, taps),
        )  # fmt: skip
    return sums.sum(0)


class Operands(NamedTuple):
    """Two operands as the kernels take them, and how many rows the inner row index counts."""

    pointers: tuple[torch.Tensor | int, ...]
    inner_rows: int


def _operands(signal: torch.Tensor, taps: torch.Tensor, inner: Sequence[int]) -> Operands:
    rows = [_real(_rows(tensor, lead_of(signal, taps), inner)) for tensor in (taps, signal)]
    return Operands(tuple(item for t in rows for item in (t, *t.stride()[:3])), rows[0].shape[1])


def _rows(tensor: torch.Tensor, lead: Sequence[int], inner: Sequence[int]) -> torch.Tensor:
    """Return a tensor of shape ``(..., n)`` as ``(outer rows, inner rows, n)``, a view where there is one."""
    last = [axis + len(lead) + 1 for axis in inner]
    first = [axis for axis in range(len(lead)) if axis not in last]
    sizes = (math.prod(lead[axis] for axis in axes) for axes in (first, last))
    return tensor.expand(*lead, -1).permute(*first, *last, -1).reshape(*sizes, tensor.shape[-1])


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _is_far(signal: torch.Tensor, taps: torch.Tensor) -> bool:
    """Whether an offset within a row may need 64 bits."""
    step = max(signal.stride(-1), taps.stride(-1), 1) * (2 if signal.is_complex() else 1)
    return (signal.shape[-1] + taps.shape[-1]) * step >= 2**31 - 2**20


def _inner_axes(signal: torch.Tensor, taps: torch.Tensor, lead: Sequence[int]) -> list[int]:
    """The last leading axes along which the same operands are shared, so that each row has one stride over them."""
    axes = [axis for axis in range(-len(lead) - 1, -1) if lead[axis + 1] != 1]
    shared = [(signal.shape[axis] == 1, taps.shape[axis] == 1) for axis in axes]
    return [axis for k, axis in enumerate(axes) if all(each == shared[-1] for each in shared[k:])]
