"""The Triton kernels of `konvlib.sequences.tensors` and their launchers: the direct sum, three times.

``_direct_kernel`` gives each program a tile of outputs and runs over the taps; it also repairs an FFT's result.
``_toeplitz_kernel`` does the same as a product with a matrix whose diagonals are the taps, where there are enough of
them. ``_split_kernel`` is for few outputs with long sums, such as the gradient of a kernel that a batch shares: each
program sums one part of the products, and the parts are summed in a second pass, always in the same order.

Every kernel takes its two operands as rows, by a pointer, the strides of an outer and an inner row index (zero where
the operand is shared) and the step from one sample to the next. A complex number is two real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from konvlib import tiles
from konvlib.tiles import tl

SIZES = (
    *("taps_outer", "taps_inner", "signal_outer", "signal_inner", "rows", "inner_rows", "length", "start", "count"),
    *("samples", "spectral_row", "parts", "kept_rows"),
)
"""Arguments that change from call to call: one compiled kernel serves them all."""


@tiles.jit()
def _load(pointer, keep, SUM: tl.constexpr, COMPLEX: tl.constexpr):
    real = tl.load(pointer, mask=keep, other=0).to(SUM)
    imag = tl.load(pointer + 1, mask=keep, other=0).to(SUM) if COMPLEX else real
    return real, imag


@tiles.jit()
def _add_product(real, imag, a, a_keep, b, keep, SUM: tl.constexpr, COMPLEX: tl.constexpr):
    """Add what ``a`` and ``b`` point to, multiplied, where ``keep``.

    Operands masked with zero would not do, since zero times infinity is NaN. The loads are spelled out because each
    call of a function costs Triton's interpreter a millisecond.
    """
    a_real = tl.load(a, mask=a_keep, other=0).to(SUM)
    b_real = tl.load(b, mask=keep, other=0).to(SUM)
    if COMPLEX:
        a_imag = tl.load(a + 1, mask=a_keep, other=0).to(SUM)
        b_imag = tl.load(b + 1, mask=keep, other=0).to(SUM)
        real += tl.where(keep, a_real * b_real - a_imag * b_imag, 0.0)
        imag += tl.where(keep, a_real * b_imag + a_imag * b_real, 0.0)
    else:
        real += tl.where(keep, a_real * b_real, 0.0)
    return real, imag


@tiles.jit()
def _store(pointer, real, imag, keep, COMPLEX: tl.constexpr):
    tl.store(pointer, real.to(pointer.dtype.element_ty), mask=keep)
    if COMPLEX:
        tl.store(pointer + 1, imag.to(pointer.dtype.element_ty), mask=keep)


@tiles.jit()
def _any_not_finite(real, imag):
    return tl.max(tl.where((tl.abs(real) < float("inf")) & (tl.abs(imag) < float("inf")), 0, 1), axis=None) != 0


@tiles.jit()
def _row_offset(row, inner_rows, outer_stride, inner_stride):
    return (row // inner_rows).to(tl.int64) * outer_stride + (row % inner_rows).to(tl.int64) * inner_stride


@tiles.jit()
def _sum_taps(
    real, imag, first, last, taps, taps_step, signal, signal_step, position, samples, SUM: tl.constexpr,
    COMPLEX: tl.constexpr, INSIDE: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Add ``taps[m] * signal[position - m]`` for ``first <= m < last``, or for all of ``TAPS`` if that is not zero.

    ``INSIDE`` promises that every such sample exists.
    """
    everywhere = tl.full(position.shape, True, tl.int1)
    if TAPS:
        for m in tl.static_range(TAPS):
            at = position - m
            keep = everywhere if INSIDE else (at >= 0) & (at < samples)
            tap, sample = taps + m * taps_step, signal + at * signal_step
            real, imag = _add_product(real, imag, tap, True, sample, keep, SUM, COMPLEX)
    else:
        for m in tl.range(first, last, loop_unroll_factor=8 if INSIDE else 2):
            at = position - m
            keep = everywhere if INSIDE else (at >= 0) & (at < samples)
            tap, sample = taps + m * taps_step, signal + at * signal_step
            real, imag = _add_product(real, imag, tap, True, sample, keep, SUM, COMPLEX)
    return real, imag


@tiles.jit(do_not_specialize=[size for size in SIZES if size not in ("parts", "kept_rows")])
def _direct_kernel(
    y, spectral, spectral_row, taps, taps_outer, taps_inner, taps_step, signal, signal_outer, signal_inner, signal_step,
    rows, inner_rows, length, start, count, samples, ROWS: tl.constexpr, BLOCK: tl.constexpr, TAPS: tl.constexpr,
    SUM: tl.constexpr, COMPLEX: tl.constexpr, REPAIRS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One tile of outputs, ``ROWS`` by ``BLOCK``; with ``REPAIRS`` only if the tile of ``spectral`` is not finite."""
    parts: tl.constexpr = 2 if COMPLEX else 1
    tiles_per_row = tl.cdiv(length, BLOCK)
    row = tl.program_id(0) // tiles_per_row * ROWS + tl.arange(0, ROWS)
    tile = tl.program_id(0) % tiles_per_row
    base = (tile.to(tl.int64) if WIDE else tile) * BLOCK
    i = base + tl.arange(0, BLOCK)[None, :]
    stored = (row < rows)[:, None] & (i < length)
    there = tl.minimum(row, rows - 1)
    taps += _row_offset(there, inner_rows, taps_outer, taps_inner)[:, None]
    signal += _row_offset(there, inner_rows, signal_outer, signal_inner)[:, None]
    if TAPS:
        first, last = 0, TAPS
    else:
        first, last = tl.maximum(start + base - samples + 1, 0), tl.minimum(start + base + BLOCK, count)
    if REPAIRS:
        given = spectral + row.to(tl.int64)[:, None] * spectral_row + i * parts
        given_real, given_imag = _load(given, stored, SUM, COMPLEX)
        wrong = _any_not_finite(given_real, given_imag)
        last = tl.where(wrong, last, first)
    real = tl.zeros((ROWS, BLOCK), SUM)
    imag = real
    if (start + base - last + 1 >= 0) & (start + base + BLOCK - 1 - first < samples):
        real, imag = _sum_taps(
            real, imag, first, last, taps, taps_step, signal, signal_step, start + i, samples, SUM, COMPLEX, True, TAPS
        )
    else:
        real, imag = _sum_taps(
            real, imag, first, last, taps, taps_step, signal, signal_step, start + i, samples, SUM, COMPLEX, False, TAPS
        )
    if REPAIRS:
        real, imag = tl.where(wrong, real, given_real), tl.where(wrong, imag, given_imag)
    _store(y + row.to(tl.int64)[:, None] * length * parts + i * parts, real, imag, stored, COMPLEX)


@tiles.jit(do_not_specialize=[size for size in SIZES if size not in ("spectral_row", "parts", "rows", "kept_rows")])
def _toeplitz_kernel(
    y, taps, taps_outer, taps_inner, taps_step, signal, signal_outer, signal_inner, signal_step, inner_rows, length,
    start, count, samples, BLOCK: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
    SUM: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """``BLOCK * WIDTH`` outputs of one row, as the product of a matrix of samples with a Toeplitz matrix of taps.

    Output ``WIDTH * j + r`` is ``sum_k X[j, k] T[k, r]`` with ``X[j, k] = signal[origin + WIDTH * j + k]`` and
    ``T[k, r] = taps[count - 1 + r - k]``, zero outside. Such a zero meets samples that the direct sum does not use: if
    the tile is not finite, it is computed again, tap by tap.
    """
    tiles_per_row = tl.cdiv(length, BLOCK * WIDTH)
    row, tile = tl.program_id(0) // tiles_per_row, tl.program_id(0) % tiles_per_row
    base = (tile.to(tl.int64) if WIDE else tile) * (BLOCK * WIDTH)
    r = tl.arange(0, WIDTH)[None, :]
    lines = base + tl.arange(0, BLOCK)[:, None] * WIDTH
    taps += _row_offset(row, inner_rows, taps_outer, taps_inner)
    signal += _row_offset(row, inner_rows, signal_outer, signal_inner)
    total = tl.zeros((BLOCK, WIDTH), SUM)
    for k0 in range(0, count + WIDTH - 1, DEPTH):
        k = k0 + tl.arange(0, DEPTH)
        at = start - count + 1 + lines + k[None, :]
        m = count - 1 + r - k[:, None]
        x = tl.load(signal + at * signal_step, mask=(at >= 0) & (at < samples), other=0)
        t = tl.load(taps + m * taps_step, mask=(m >= 0) & (m < count), other=0)
        total = tl.dot(x, t, total, input_precision="ieee", out_dtype=SUM)
    i = lines + r
    first = tl.maximum(start + base - samples + 1, 0)
    last = tl.minimum(start + base + BLOCK * WIDTH, count)
    wrong = _any_not_finite(total, total)
    again, _unused = _sum_taps(
        tl.zeros((BLOCK, WIDTH), SUM), total, first, tl.where(wrong, last, first), taps, taps_step, signal,
        signal_step, start + i, samples, SUM, False, False, 0,
    )  # fmt: skip
    total = tl.where(wrong, again, total)
    tl.store(y + row.to(tl.int64) * length + i, total.to(y.dtype.element_ty), mask=i < length)


@tiles.jit(do_not_specialize=[size for size in SIZES if size != "rows"])
def _split_kernel(
    sums, spectral, spectral_row, taps, taps_outer, taps_inner, taps_step, signal, signal_outer, signal_inner,
    signal_step, kept_rows, inner_rows, length, start, count, samples, parts, BLOCK: tl.constexpr, DEPTH: tl.constexpr,
    SUM: tl.constexpr, COMPLEX: tl.constexpr, REPAIRS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One of ``parts`` of the sums of a tile of outputs, over ``inner_rows`` rows of ``count`` products each."""
    width: tl.constexpr = 2 if COMPLEX else 1
    tiles_per_row, blocks_per_row = tl.cdiv(length, BLOCK), tl.cdiv(count, DEPTH)
    part = tl.program_id(0) % parts
    tile = tl.program_id(0) // parts % tiles_per_row
    row = (tl.program_id(0) // parts // tiles_per_row).to(tl.int64)
    taps += row * taps_outer
    signal += row * signal_outer
    i = (tile.to(tl.int64) if WIDE else tile) * BLOCK + tl.arange(0, BLOCK)[:, None]
    share = tl.cdiv(blocks_per_row * inner_rows, parts)
    first, last = part * share, tl.minimum((part + 1) * share, blocks_per_row * inner_rows)
    if REPAIRS:
        given_real, given_imag = _load(spectral + row * spectral_row + i * width, i < length, SUM, COMPLEX)
        last = tl.where(_any_not_finite(given_real, given_imag), last, first)
    real = tl.zeros((BLOCK, DEPTH), SUM)
    imag = real
    for block in range(first, last):
        inner = (block // blocks_per_row).to(tl.int64)
        m = block % blocks_per_row * DEPTH + tl.arange(0, DEPTH)[None, :]
        at = start + i - m
        keep = (m < count) & (at >= 0) & (at < samples)
        tap = taps + inner * taps_inner + m * taps_step
        sample = signal + inner * signal_inner + at * signal_step
        real, imag = _add_product(real, imag, tap, m < count, sample, keep, SUM, COMPLEX)
    out = sums + ((part * kept_rows + row) * length + i) * width
    _store(out, tl.sum(real, 1)[:, None], tl.sum(imag, 1)[:, None], i < length, COMPLEX)


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

Estimates from the machine code for Hopper, still to be measured: a load from the L1 cache serves one product in
``_direct_kernel`` and about twenty here, and the product itself is on the tensor cores, but for float32, which is kept
exact and pays 1.8 instructions per product instead of 2.7; a product with ``WIDTH`` columns has ``WIDTH - 1`` taps too
many.
"""

FILLS = 256
"""How many programs fill a device: about two for each of the 132 multiprocessors of an H100."""

LONG_SUM, FEW_OUTPUTS = 1024, 2**16
"""Sums as long as this, of fewer outputs than this, are split."""


def _tiled(y, spectral, signal, taps, start, length, inner):
    rows = math.prod(y.shape[:-1])
    size = 256 if rows * length < FILLS * 1024 else 1024 if y.itemsize <= 4 else 512
    block = min((size >> s for s in range(4)), key=lambda b: -(-length // b) * b)
    block = min(block, tiles.power_of_2(length))
    together = min(size // block, tiles.power_of_2(rows))
    given = _real(y if spectral is None else spectral).reshape(rows, length, -1)
    operands = _operands(signal, taps, inner)
    with tiles.on_device_of(y):
        _direct_kernel[(-(-rows // together) * -(-length // block),)](
            _real(y), given, given.stride(0), *operands.pointers, rows, operands.inner_rows, length, start,
            taps.shape[-1], signal.shape[-1], ROWS=together, BLOCK=block,
            TAPS=taps.shape[-1] if spectral is None and taps.shape[-1] <= 16 else 0, SUM=_sum_type(y),
            COMPLEX=y.is_complex(), REPAIRS=spectral is not None, WIDE=_wide(signal, taps),
        )  # fmt: skip
    return y


def _toeplitz_tile(dtype: torch.dtype, count: int, length: int, outputs: int) -> tuple[int, int] | None:
    """Return ``BLOCK`` and ``WIDTH``, or None where the product does not pay or rows are too short for it."""
    if dtype not in TOEPLITZ_TAPS or count < TOEPLITZ_TAPS[dtype]:
        return None
    width = 16 if count <= 17 else 32
    block = 64 if length >= 64 * width and outputs >= FILLS * 64 * width else 16
    pays = block == 64 or dtype != torch.float32
    return (block, width) if pays and length >= block * width else None


def _toeplitz(y, signal, taps, start, length, inner, tile):
    block, width = tile
    operands = _operands(signal, taps, inner)
    with tiles.on_device_of(y):
        _toeplitz_kernel[(math.prod(y.shape[:-1]) * -(-length // (block * width)),)](
            y, *operands.pointers, operands.inner_rows, length, start, taps.shape[-1], signal.shape[-1], BLOCK=block,
            WIDTH=width, DEPTH=32 if y.dtype in tiles.HALVES else 16, SUM=_sum_type(y), WIDE=_wide(signal, taps),
        )  # fmt: skip
    return y


def _split(signal, taps, start, length, summed, spectral=None):
    """The direct sum in the dtype of sums, in parts; where ``spectral`` is finite, something else."""
    shape, count = result_shape(signal, taps, length, summed), taps.shape[-1]
    kept = math.prod(shape[:-1])
    block = min(64, tiles.power_of_2(length))
    depth = min(2048 // block, tiles.power_of_2(count))
    block = min(2048 // depth, tiles.power_of_2(length))
    operands = _operands(signal, taps, summed)
    outputs = kept * -(-length // block)
    parts = min(-(-4 * FILLS // outputs), -(-count // depth) * operands.inner_rows)
    sums = torch.empty((parts, *shape), dtype=tiles.sum_dtype(signal.dtype), device=signal.device)
    given = _real(sums[0] if spectral is None else spectral).reshape(kept, length, -1)
    with tiles.on_device_of(sums):
        _split_kernel[(outputs * parts,)](
            _real(sums), given, given.stride(0), *operands.pointers, kept, operands.inner_rows, length, start, count,
            signal.shape[-1], parts, BLOCK=block, DEPTH=depth, SUM=_sum_type(sums), COMPLEX=sums.is_complex(),
            REPAIRS=spectral is not None, WIDE=_wide(signal, taps),
        )  # fmt: skip
    return sums.sum(0)


class Operands(NamedTuple):
    """Two operands as the kernels take them, and how many rows the inner row index counts."""

    pointers: tuple[torch.Tensor | int, ...]
    inner_rows: int


def _operands(signal: torch.Tensor, taps: torch.Tensor, inner: Sequence[int]) -> Operands:
    rows = [_real(grouped(tensor, lead_of(signal, taps), inner)) for tensor in (taps, signal)]
    return Operands(tuple(item for t in rows for item in (t, *t.stride()[:3])), rows[0].shape[1])


def _real(tensor: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _sum_type(tensor: torch.Tensor):
    return tl.float64 if tensor.dtype in (torch.float64, torch.complex128) else tl.float32


def _wide(signal: torch.Tensor, taps: torch.Tensor) -> bool:
    """Whether an offset within a row may need 64 bits."""
    step = max(signal.stride(-1), taps.stride(-1), 1) * (2 if signal.is_complex() else 1)
    return (signal.shape[-1] + taps.shape[-1]) * step >= 2**31 - 2**20


def _inner_axes(signal: torch.Tensor, taps: torch.Tensor, lead: torch.Size) -> list[int]:
    """The last leading axes along which the same operands are shared, so that each row has one stride over them."""
    axes = [axis for axis in range(-len(lead) - 1, -1) if lead[axis + 1] != 1]
    shared = [(signal.shape[axis] == 1, taps.shape[axis] == 1) for axis in axes]
    return [axis for k, axis in enumerate(axes) if all(each == shared[-1] for each in shared[k:])]


def lead_of(f: torch.Tensor, g: torch.Tensor) -> torch.Size:
    """The leading axes of the two together."""
    return torch.broadcast_shapes(f.shape[:-1], g.shape[:-1])


def result_shape(f: torch.Tensor, g: torch.Tensor, length: int, summed: Sequence[int]) -> list[int]:
    """The shape of a window of ``length`` values, summed over some leading axes, counted from the end."""
    shape = [*lead_of(f, g), length]
    for axis in summed:
        shape[axis] = 1
    return shape


def grouped(tensor: torch.Tensor, lead: torch.Size, inner: Sequence[int]) -> torch.Tensor:
    """Return a tensor of shape ``(..., n)`` as ``(outer rows, inner rows, n)``, a view where there is one."""
    last = [axis + len(lead) + 1 for axis in inner]
    first = [axis for axis in range(len(lead)) if axis not in last]
    sizes = (math.prod(lead[axis] for axis in axes) for axes in (first, last))
    return tensor.expand(*lead, -1).permute(*first, *last, -1).reshape(*sizes, tensor.shape[-1])
