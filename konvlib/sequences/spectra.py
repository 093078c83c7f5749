"""Convolving arrays by spectra: one transform, or blocks of the longer sequence; integers exactly.

Real and complex numbers are transformed in the precision of the result. Integers are transformed in double precision
and rounded, whole where a bound proves that rounding gives the sum, and otherwise cut into limbs, digits to the base
``2**bits``, for which it does. Their sums are right modulo ``2**64``, so machine integers wrap as in NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2, prod, sqrt

import numpy as np
from numpy import ndarray

from konvlib.geometry import limb_bits

CACHED_SAMPLES = 1 << 15
"""Samples that overlap-add transforms at once, few enough to stay in a core's cache."""


MEMORY = 1 << 27
"""Bytes that the spectra of integers may take beyond twice those of operands and result."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """How two arrays are transformed, along their last ``axes`` axes."""

    axes: int
    dtype: np.dtype
    """What is transformed: real or complex numbers of the precision in which the result is rounded."""
    bits: int
    """Of how many bits an integer's limbs are, 64 if it is left whole; 0 for real and complex numbers."""

    @classmethod
    def of(cls, f: ndarray, g: ndarray, axes: int = 1) -> Transforms:
        dtype = np.result_type(f, g)
        if dtype.kind in "biu":
            return cls(axes, np.dtype(np.float64), limb_bits(f, g, axes))
        return cls(axes, np.dtype(np.float32) if dtype.char == "e" else dtype, 0)

    def size(self, least: int) -> int:
        from scipy import fft

        return fft.next_fast_len(least, real=self.dtype.kind != "c")

    def spectra(self, a: ndarray, sizes: Sequence[int]) -> list[ndarray]:
        """The spectrum of an array, padded to ``sizes``; of integers, one for each limb, the least first."""
        from scipy import fft

        forward, axes = fft.fftn if self.dtype.kind == "c" else fft.rfftn, range(-self.axes, 0)
        parts = limbs(a, self.bits) if self.bits else [a]
        return [forward(part.astype(self.dtype, copy=False), sizes, axes) for part in parts]

    def convolved(self, f: list[ndarray], g: list[ndarray], sizes: Sequence[int]) -> ndarray:
        """The circular convolution of arrays of these spectra, the first of them used up; integers modulo ``2**64``."""
        if not self.bits:
            return self._inverse(_product(f.pop(), g[0]), sizes)
        y = None
        # Limbs k and l meet at the digit k + l; beyond bit 63 all is a multiple of 2**64.
        for digit in range(min(len(f) + len(g) - 1, -(-64 // self.bits))):
            pairs = range(max(0, digit - len(g) + 1), min(digit + 1, len(f)))
            product = f[pairs[0]] * g[digit - pairs[0]]
            for k in pairs[1:]:
                product += f[k] * g[digit - k]
            sums = self._inverse(product, sizes)
            sums = np.rint(sums, out=sums).astype(np.int64)
            y = sums if y is None else np.add(y, sums << (self.bits * digit), out=y)
        return y

    def _inverse(self, spectrum: ndarray, sizes: Sequence[int]) -> ndarray:
        from scipy import fft

        inverse = fft.ifftn if self.dtype.kind == "c" else fft.irfftn
        return inverse(spectrum, sizes, range(-self.axes, 0), overwrite_x=True)


def limbs(a: ndarray, bits: int) -> list[ndarray]:
    """Cut integers into limbs of ``bits`` bits from ``-2**(bits-1)`` on, the least first, modulo ``2**64``.

    Examples
    --------
    >>> limbs(np.array([3, 100, -100]), 4)
    [array([ 3,  4, -4]), array([ 0,  6, -6])]
    """
    if bits == 64:
        return [a]
    a, half = a.astype(np.int64), 1 << (bits - 1)
    parts = []
    while True:
        low = a & (2 * half - 1)
        low = (low ^ half) - half
        parts.append(low)
        if len(parts) * bits >= 64:
            return parts
        a = (a - low) >> bits
        if not a.any():
            return parts


def fft(f: ndarray, g: ndarray, starts: Sequence[int], y: ndarray) -> None:
    """Write a window of the convolution of f and g along their last axes, one for each start, into ``y``.

    A circular convolution of ``size`` samples folds entry ``i >= size`` of the full one onto ``i - size``. The
    transform need only be so long that no fold falls on the entries that are wanted.

    Examples
    --------
    >>> y = np.empty(3)
    >>> fft(np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1]), [2], y)
    >>> y
    array([ 6., -1.,  6.])
    """
    axes = len(starts)
    transforms = Transforms.of(f, g, axes)
    each = list(zip(f.shape[-axes:], g.shape[-axes:], starts, y.shape[-axes:], strict=True))
    sizes = [transforms.size(max(n + m - 1 - start, start + length)) for n, m, start, length in each]
    f, g, scale = _scaled(f, g, axes, transforms)
    whole = transforms.convolved(transforms.spectra(f, sizes), transforms.spectra(g, sizes), sizes)
    _store(y, whole[(..., *(slice(start, start + length) for _, _, start, length in each))], scale)


def fft_in_parts(f: ndarray, g: ndarray, starts: Sequence[int], y: ndarray) -> None:
    """Write the same as `fft`, for integers with sequences cut in two until their spectra take little memory.

    Spectra have 8 bytes for a sample and limb, which for many limbs or for narrow integers is much.

    Examples
    --------
    >>> y = np.empty(3)
    >>> fft_in_parts(np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1]), [2], y)
    >>> y
    array([ 6., -1.,  6.])
    """
    transforms = Transforms.of(f, g)
    count = 1 if transforms.bits in (0, 64) else -(-64 // transforms.bits)
    rows = max(1, prod(y.shape[:-1]))
    memory = 8 * (2 * count + 2) * rows * (f.shape[-1] + g.shape[-1])
    if not transforms.bits or memory <= 2 * (f.nbytes + g.nbytes + y.nbytes) + MEMORY:
        fft(f, g, starts, y)
        return
    f, g, (start,) = *((f, g) if f.shape[-1] >= g.shape[-1] else (g, f)), starts
    half = f.shape[-1] // 2
    y[...] = 0
    for first, part in ((0, f[..., :half]), (half, f[..., half:])):
        begin, end = max(start, first), min(start + y.shape[-1], first + part.shape[-1] + g.shape[-1] - 1)
        if begin < end:
            sums = np.empty((*y.shape[:-1], end - begin), y.dtype)
            fft_in_parts(part, g, [begin - first], sums)
            y[..., begin - start : end - start] += sums


def overlap_add(f: ndarray, g: ndarray, starts: Sequence[int], y: ndarray) -> None:
    """Write the same by blocks of the longer sequence: each is convolved with the shorter, overlaps are added.

    Examples
    --------
    >>> y = np.empty(3)
    >>> overlap_add(np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1]), [2], y)
    >>> y
    array([ 6., -1.,  6.])
    """
    f, g = (f, g) if f.shape[-1] >= g.shape[-1] else (g, f)
    n, m, (start,) = f.shape[-1], g.shape[-1], starts
    transforms = Transforms.of(f, g)
    f, g, scale = _scaled(f, g, 1, transforms)
    size = block_size(n, m)
    step = size - (m - 1)
    blocks = max(1, CACHED_SAMPLES // (size * max(1, prod(y.shape[:-1]))))
    taps = [spectrum[..., np.newaxis, :] for spectrum in transforms.spectra(g, [size])]
    carry: ndarray | int = 0
    for first in range(0, n, blocks * step):
        samples = f[..., first : first + blocks * step]
        count = -(-samples.shape[-1] // step)
        padded = np.zeros((*f.shape[:-1], count * step), dtype=f.dtype)
        padded[..., : samples.shape[-1]] = samples
        pieces = transforms.spectra(padded.reshape(*f.shape[:-1], count, step), [size])
        parts = transforms.convolved(pieces, taps, [size])
        # A block's sum is m - 1 longer than the block, and hangs over into the next.
        sums = np.zeros((*parts.shape[:-2], count + 1, step), dtype=parts.dtype)
        sums[..., :-1, :] = parts[..., :step]
        sums[..., 1:, : m - 1] += parts[..., step:]
        sums = sums.reshape(*parts.shape[:-2], -1)
        sums[..., : m - 1] += carry
        carry = sums[..., count * step : count * step + m - 1].copy()
        last = first + count * step + (m - 1 if first + count * step >= n else 0)
        begin, end = max(first, start), min(last, start + y.shape[-1])
        if begin < end:
            _store(y[..., begin - start : end - start], sums[..., begin - first : end - first], scale)


def _scaled(f: ndarray, g: ndarray, axes: int, transforms: Transforms) -> tuple[ndarray, ndarray, list[ndarray]]:
    """Both, divided by powers of two where their spectra might overflow, and those powers."""
    if transforms.bits:
        return f, g, []
    over, limit = tuple(range(-axes, 0)), np.finfo(transforms.dtype).max
    peaks = [_peaks(a, over).astype(np.longdouble) for a in (f, g)]
    terms = prod(f.shape[-axes:]) * prod(g.shape[-axes:])
    if not all(np.isfinite(peak).all() for peak in peaks) or peaks[0].max() * peaks[1].max() * terms <= limit:
        return f, g, []
    real = np.finfo(transforms.dtype).dtype
    scale = [np.ldexp(real.type(1), np.maximum(np.frexp(peak)[1] - 1, 0)) for peak in peaks]
    return *(a / power for a, power in zip((f, g), scale, strict=True)), scale


def _peaks(a: ndarray, over: tuple[int, ...]) -> ndarray:
    """The size of the largest entries, of the real or the imaginary part."""
    parts = [a.real, a.imag] if a.dtype.kind == "c" else [a]
    sides = [f(part, axis=over, keepdims=True) for part in parts for f in (np.max, np.min)]
    return np.max(np.abs(np.asarray(sides, np.longdouble)), axis=0)


def _product(f: ndarray, g: ndarray) -> ndarray:
    """Their product, in the place of the first if it fits there."""
    return np.multiply(f, g, out=f) if np.broadcast_shapes(f.shape, g.shape) == f.shape else f * g


def _store(y: ndarray, values: ndarray, scale: list[ndarray]) -> None:
    for power in scale:
        values = values * power
    y[...] = values.real if y.dtype.kind != "c" and values.dtype.kind == "c" else values


def count_dtype(f_shape: Sequence[int], g_shape: Sequence[int], axes: int = 1, *, blocks: bool = False) -> np.dtype:
    """Return in which dtype the transformed convolution of arrays of -1, 0 and 1, or by blocks, has an error below 1/4.

    The bound is that of `konvlib.geometry.limb_bits`.

    Examples
    --------
    >>> count_dtype((4000,), (2000,)), count_dtype((400_000,), (200_000,))
    (dtype('float32'), dtype('float64'))
    """
    sizes = list(zip(f_shape[-axes:], g_shape[-axes:], strict=True))
    if blocks:
        shorter, longer = sorted(sizes[0])
        sizes = [(2 * block_size(longer, shorter), 2 * shorter)]  # two blocks' errors may add up
    error = 13 * log2(prod([2 * (n + m) for n, m in sizes])) * 2.0**-24 * sqrt(prod([n * m for n, m in sizes]))
    return np.dtype(np.float32 if error < 0.25 else np.float64)


def transform_time(size: int) -> float:
    """Microseconds for two transforms and one back; more than ``size log size``, since longer ones leave the caches.

    Examples
    --------
    >>> round(transform_time(1 << 20))
    63574
    """
    return 0.00025 * size**1.18 * log2(size)


def blocks_time(n: int, m: int, size: int) -> float:
    """Microseconds for ``n`` samples and ``m`` taps by blocks that are transformed by ``size`` samples.

    Examples
    --------
    >>> blocks_time(10_000, 100, 512) < blocks_time(10_000, 100, 2048)
    True
    """
    return -(-n // (size - m + 1)) * transform_time(size)


@lru_cache(1024)
def block_size(n: int, m: int) -> int:
    """Return the quickest transform length for blocks of ``n`` samples, at least ``2 m``: only neighbours overlap.

    Examples
    --------
    >>> block_size(100_000, 100)
    512
    """
    least = max(6, (2 * m - 1).bit_length())
    return min((1 << power for power in range(least, least + 5)), key=lambda size: blocks_time(n, m, size))
