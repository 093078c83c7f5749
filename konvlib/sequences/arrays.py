"""Convolution and correlation of sequences with NumPy and SciPy: direct sums, FFTs, overlap-add, and the choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod

import numpy as np
from numpy import ndarray

from konvlib import finite, geometry
from konvlib.geometry import ResampleGeometry, SequenceGeometry, WholeGeometry
from konvlib.sequences import spectra

QUICK = 300_000
"""Products up to which the direct sum is quickest for any lengths; a longer look would cost more than it saves."""

SHORT = 11
"""Taps up to which NumPy's direct sum has a loop of its own, the quickest of all for any length."""

ROW_PRODUCTS = 4096
"""Products of a row up to which a batch is summed tap by tap, since a call for each row would take longer."""

FEW = 16
"""Places up to which products with an infinity are counted one by one."""

CAST_SAMPLES = 1 << 20
"""Samples of a row that are summed in another dtype at once."""

TAP_SAMPLES, TRANSFORMED_SAMPLES = 1 << 14, 1 << 21
"""Samples that are summed tap by tap at once, few enough for a cache; and that are transformed at once."""


def convolve(f: ndarray, g: ndarray, part: SequenceGeometry) -> ndarray:
    """Convolve two sequences along their last axis, by the method asked for.

    Examples
    --------
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> convolve(f, g, geometry.convolution_geometry(f.shape, g.shape, mode="valid", method="auto"))
    array([ 6, -1,  6])
    """
    return _by_method(np.convolve, f, g, part)


def correlate(f: ndarray, g: ndarray, part: SequenceGeometry) -> ndarray:
    """Correlate two sequences along their last axis, the second conjugated, by the method asked for.

    Examples
    --------
    >>> f, g = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
    >>> correlate(f, g, geometry.correlation_geometry(f.shape, g.shape, mode="valid", method="auto"))
    array([3, 8, 0])
    """
    return _by_method(np.correlate, f, g, part)


def choose_method(n: int, m: int) -> str:
    """Return the quickest method for sequences of ``n`` and ``m`` samples: the rule of ``method="auto"``.

    Each method's time is estimated, in microseconds, from the work that it does. The constants are fitted to timings of
    float64 sequences (``python -m benchmarks.sequences_cpu --methods``); other dtypes shift all methods nearly alike.

    Examples
    --------
    >>> choose_method(100, 10), choose_method(10_000, 5_000), choose_method(1_000_000, 500)
    ('direct', 'fft', 'overlap-add')
    """
    shorter, longer = min(n, m), max(n, m)
    if shorter <= SHORT or n * m <= QUICK:
        return "direct"
    direct = 0.017 * (n + m) + 0.0001 * n * m
    fft = 40 + spectra.transform_time(n + m - 1)
    if longer < 4 * shorter:
        return "direct" if direct < fft else "fft"
    overlap_add = 60 + spectra.blocks_time(longer, shorter, spectra.block_size(longer, shorter))
    return min((direct, "direct"), (fft, "fft"), (overlap_add, "overlap-add"))[1]


def _by_method(function: Callable[..., ndarray], f: ndarray, g: ndarray, part: SequenceGeometry) -> ndarray:
    """A part of what ``numpy.convolve`` or ``numpy.correlate`` computes, row by row, by the method asked for."""
    f, g = _aligned(_extended(f, part), g)
    y = np.empty((*part.batch, part.length), np.result_type(f, g))
    method = part.method
    if method == "auto":
        method = "direct" if y.dtype.kind == "O" else choose_method(part.n, part.m)
    if method == "direct":
        _direct(function, f, g, part, y)
        return y
    if function is np.correlate:
        g = np.conj(g[..., ::-1]) if g.dtype.kind == "c" else g[..., ::-1]
    compute = spectra.fft_in_parts if method == "fft" else spectra.overlap_add
    rows = TRANSFORMED_SAMPLES // (part.n + part.m) + 1
    with np.errstate(invalid="ignore", over="ignore"):
        for piece in _pieces(f, g, y, rows):
            (_repaired if part.method == "auto" else _plain)(compute, *piece, [part.start])
    return y


def _aligned(f: ndarray, g: ndarray) -> tuple[ndarray, ndarray]:
    """Both with equally many axes, one at least."""
    axes = max(f.ndim, g.ndim, 1)
    return f[(None,) * (axes - f.ndim)], g[(None,) * (axes - g.ndim)]


def _extended(f: ndarray, part: SequenceGeometry) -> ndarray:
    """The first sequence with what its boundary shows around it."""
    if part.boundary == "zeros":
        return f
    places = geometry.boundary_places(np.arange(part.before, part.before + part.n), part.samples, part.boundary)
    return np.atleast_1d(f)[..., places]


def _pieces(f: ndarray, g: ndarray, y: ndarray, rows: int, axis: int = 0) -> Iterator[tuple[ndarray, ndarray, ndarray]]:
    """Cut a batch, of results ``y``, into pieces of about so many rows; none of an empty one."""
    if not y.size:
        return
    if prod(y.shape[:-1]) <= rows or axis == y.ndim - 1:
        yield f, g, y
        return
    step = max(1, rows // prod(y.shape[axis + 1 : -1]))
    for first in range(0, y.shape[axis], step):
        cut = (slice(None),) * axis + (slice(first, first + step),)
        parts = (a[cut] if a.shape[axis] > 1 else a for a in (f, g))
        yield from _pieces(*parts, y[cut], rows, axis + 1)


def _direct(function: Callable[..., ndarray], f: ndarray, g: ndarray, part: SequenceGeometry, y: ndarray) -> None:
    """The direct sum: tap by tap where the batch has many short rows, else by NumPy's function row by row.

    NumPy sums floats the quickest, so integers go through them where that is exact, and halves to be rounded once.
    """
    dtype = geometry.sum_dtype(y.dtype, f, g, min(part.n, part.m))
    if prod(part.batch) > 1 and part.n * part.m <= ROW_PRODUCTS:
        if function is np.correlate:
            g = np.conj(g[..., ::-1]) if g.dtype.kind in "cO" else g[..., ::-1]
        for piece in _pieces(f, g, y, TAP_SAMPLES // (part.n + part.m) + 1):
            _tap_by_tap(*piece, part.start, dtype)
        return
    f, g = (np.broadcast_to(a, (*part.batch, a.shape[-1])) for a in (f, g))
    for row in np.ndindex(part.batch):
        if dtype != y.dtype and part.length > CAST_SAMPLES:
            _in_blocks(f[row], g[row] if function is np.convolve else g[row][::-1], part.start, y[row], dtype)
        else:
            y[row] = _cast(
                function(f[row].astype(dtype, copy=False), g[row].astype(dtype, copy=False), part.mode), y.dtype
            )


def _in_blocks(f: ndarray, g: ndarray, start: int, y: ndarray, dtype: np.dtype) -> None:
    """The direct sum of one long row in another dtype, by blocks, so that no other copy is as long."""
    f, g = (f, g) if len(f) >= len(g) else (g, f)
    g = g.astype(dtype)
    for first in range(0, len(y), CAST_SAMPLES):
        last = min(first + CAST_SAMPLES, len(y))
        low, high = max(0, start + first - len(g) + 1), min(len(f), start + last)
        sums = np.convolve(f[low:high].astype(dtype), g)
        y[first:last] = _cast(sums[start + first - low : start + last - low], y.dtype)


def _tap_by_tap(f: ndarray, g: ndarray, y: ndarray, start: int, dtype: np.dtype) -> None:
    """The direct sum of many rows, one tap of the shorter operand after the other."""
    f, g = (f, g) if f.shape[-1] >= g.shape[-1] else (g, f)
    sums = np.zeros(y.shape, dtype)
    _add_taps(f.astype(dtype, copy=False), g.astype(dtype, copy=False), range(g.shape[-1]), start, sums)
    y[...] = _cast(sums, y.dtype)


def _add_taps(f: ndarray, g: ndarray, taps: Iterable[int], start: int, y: ndarray) -> None:
    """Add what some taps of the second operand contribute to a window of the convolution, which may reach beyond it."""
    for m in taps:
        first, last = max(0, m - start), min(y.shape[-1], f.shape[-1] + m - start)
        if first < last:
            y[..., first:last] += g[..., m : m + 1] * f[..., start + first - m : start + last - m]


def _cast(values: ndarray, dtype: np.dtype) -> ndarray:
    """Values in the dtype of the result; integers that floats hold wrap."""
    integral = dtype.kind in "biu" and values.dtype.kind == "f"
    return (values.astype(np.int64) if integral else values).astype(dtype, copy=False)


Compute = Callable[[ndarray, ndarray, Sequence[int], ndarray], None]


def _plain(compute: Compute, f: ndarray, g: ndarray, y: ndarray, starts: Sequence[int]) -> None:
    compute(f, g, starts, y)


def _repaired(compute: Compute, f: ndarray, g: ndarray, y: ndarray, starts: Sequence[int]) -> None:
    """The same, with NaN and infinity where the direct sum has them."""
    if np.isfinite(f).all() and np.isfinite(g).all():
        compute(f, g, starts, y)
        return
    f, g = (a.astype(y.dtype, copy=False) for a in (f, g))
    compute(finite.cleaned(np, f), finite.cleaned(np, g), starts, y)

    dtype = spectra.count_dtype(f.shape, g.shape, len(starts), blocks=compute is spectra.overlap_add)

    def count(bad: ndarray, signs: ndarray | None, first: bool) -> ndarray:
        if signs is None:
            for axis, start in enumerate(starts, -len(starts)):
                others = (g if first else f).shape[axis]
                bad = finite.window_counts(bad.swapaxes(axis, -1), others, start, y.shape[axis]).swapaxes(axis, -1)
            return np.broadcast_to(bad, y.shape)
        counts, bad, signs = np.zeros(y.shape, dtype), bad.astype(dtype), signs.astype(dtype)
        places = np.flatnonzero(bad.any(axis=tuple(range(bad.ndim - 1))))
        if len(places) <= FEW and len(starts) == 1:
            _add_taps(signs, bad, places, starts[0], counts)
        else:
            compute(bad, signs, starts, counts)
        return np.rint(counts, out=counts)

    for part, hit, share in finite.shares(np, y, f, g, count):
        part[hit] += share


def normalized_correlation(f: ndarray, g: ndarray, part: SequenceGeometry) -> ndarray:
    """Correlate, each lag divided by the norms of the window of f and of g; 0 where one of them is.

    Examples
    --------
    >>> f, g = np.array([3, 4, 0, 0]), np.array([3, 4])
    >>> normalized_correlation(f, g, geometry.correlation_geometry((4,), (2,), mode="valid", method="auto"))
    array([1. , 0.6, 0. ])
    """
    dtype = np.result_type(f, g)
    f, g = (_unscaled(a.astype(_wide(dtype), copy=False)) for a in _aligned(f, g))
    products = correlate(f, g, part)
    m = g.shape[-1]
    squares = np.pad(_squares(f), [(0, 0)] * (f.ndim - 1) + [(m - 1, m - 1)])
    windows = running_sums(squares, m)[..., part.start : part.start + part.length]
    norms = [np.sqrt(energy.astype(np.float64) if dtype.kind == "O" else energy)
             for energy in (windows, _squares(g).sum(axis=-1, keepdims=True))]  # fmt: skip
    norm = norms[0] * norms[1]
    y = products.astype(np.float64) if dtype.kind == "O" else products
    y = np.where(norm == 0, 0, y / np.where(norm == 0, 1, norm))
    y = y / np.maximum(1, np.abs(y))  # what rounding puts beyond 1
    return y.astype(dtype if dtype.kind in "fc" else np.float64, copy=False)


def running_sums(a: ndarray, m: int) -> ndarray:
    """Return the sums of every ``m`` neighbours along the last axis, put together from sums of powers of two.

    Nothing is subtracted, so nothing cancels.

    Examples
    --------
    >>> running_sums(np.array([1, 3, 2, 0, 4]), 3)
    array([6, 5, 6])
    """
    length = a.shape[-1] - m + 1
    sums, offset, size = a[..., :0], 0, 1
    while size <= m:
        if m // size % 2:
            sums = a[..., offset : offset + length] + (sums if offset else 0)
            offset += size
        a = a[..., : max(0, a.shape[-1] - size)] + a[..., size:]
        size *= 2
    return sums


def _wide(dtype: np.dtype) -> np.dtype:
    """In which dtype quotients are computed: integers in float64, halves in float32."""
    return np.dtype(np.float64) if dtype.kind in "biu" else np.dtype(np.float32) if dtype.char == "e" else dtype


def _unscaled(a: ndarray) -> ndarray:
    """Rows divided by powers of two near their largest entries, so that squares neither overflow nor vanish."""
    if a.dtype.kind == "O":
        return a
    peaks = np.abs(a).max(axis=-1, keepdims=True, initial=0)
    limits = np.finfo(a.dtype)
    powers = np.where(np.isfinite(peaks), np.frexp(peaks)[1], 0).clip(limits.minexp + 1, limits.maxexp - 1)
    return a / np.ldexp(limits.dtype.type(1), powers)


def _squares(a: ndarray) -> ndarray:
    return a.real**2 + a.imag**2 if a.dtype.kind == "c" else a * np.conj(a) if a.dtype.kind == "O" else a * a


def resample(x: ndarray, h: ndarray, part: ResampleGeometry) -> ndarray:
    """Upsample, convolve, downsample, without the inserted zeros and without what is not kept.

    Examples
    --------
    >>> resample(np.array([1, 3, 2]), np.array([1, 1]), geometry.resample_geometry((3,), (2,), up=2, down=1, axis=-1))
    array([1, 1, 3, 3, 2, 2])
    """
    x, h = _aligned(x, h)
    dtype = np.result_type(x, h)
    kind = np.dtype(np.float32) if dtype.char == "e" else dtype
    y = np.zeros((*part.batch, part.length), kind)
    if _is_by_branches(part):
        x, h = (x.astype(kind), h.astype(kind)) if kind != dtype else (x, h)
        for phase, branches in enumerate(part.branches()):
            for samples, taps, start in branches:
                _add_branch(x[..., samples], h[..., taps], start, y[..., phase :: part.phases])
        return y.astype(dtype, copy=False)
    x, h = x.astype(kind, copy=False), h.astype(kind, copy=False)
    if _is_by_samples(part):
        _add_samples(x, h, part, y)
    else:
        for piece in _pieces(x, h, y, TAP_SAMPLES // part.length):
            _add_gathered(*piece, part)
    return y.astype(dtype, copy=False)


def _is_by_branches(part: ResampleGeometry) -> bool:
    """Whether to convolve branch by branch: these are few, or long; in microseconds, as timings of float64 suggest."""
    shown = min(1.0, part.m / part.up)  # the share of outputs that any tap meets
    taps = -(-part.m // part.up)
    branches = shown * min(part.phases, part.length) * min(taps, part.down // part.common)
    products = shown * prod(part.batch) * part.length * min(taps, part.n)
    return 7 * branches + 0.001 * products < 10 * min(taps, part.n) + 0.005 * part.length + 0.006 * products


def _is_by_samples(part: ResampleGeometry) -> bool:
    """Whether there are fewer samples than taps that meet one output."""
    return part.n < -(-part.m // part.up)


def _add_samples(x: ndarray, h: ndarray, part: ResampleGeometry, y: ndarray) -> None:
    """Add sample by sample what all outputs that show it get from it."""
    for sample in range(part.n):
        place = sample * part.up
        low, high = -(-place // part.down), min(part.length, (place + part.m - 1) // part.down + 1)
        if low < high:
            taps = slice(low * part.down - place, (high - 1) * part.down - place + 1, part.down)
            y[..., low:high] += x[..., sample : sample + 1] * h[..., taps]


def _add_gathered(x: ndarray, h: ndarray, y: ndarray, part: ResampleGeometry) -> None:
    """Add to all outputs their first products, then their second ones, ..., block by block."""
    taps = -(-part.m // part.up)
    for begin in range(0, part.length, TAP_SAMPLES):
        # Output t meets sample first - j by tap residue + up * j, with t * down = first * up + residue.
        places = np.arange(begin, min(begin + TAP_SAMPLES, part.length), dtype=np.int64) * part.down
        first, residue = np.divmod(places, part.up)
        for j in range(taps):
            here = slice(*np.searchsorted(first, (j, part.n + j)))  # where there is such a sample
            if j == taps - 1:  # and such a tap, of which the last are not there for all
                here = here.start + np.flatnonzero(residue[here] < part.m - j * part.up)
            samples = x.take(first[here] - j, -1, mode="clip")
            y[..., begin : begin + len(first)][..., here] += samples * h[..., j * part.up :].take(residue[here], -1)


def _add_branch(x: ndarray, h: ndarray, start: int, y: ndarray) -> None:
    """Add a window of a convolution, which may reach beyond it."""
    if not x.shape[-1]:
        return
    if h.shape[-1] <= SHORT:
        _add_taps(x, h, range(h.shape[-1]), start, y)
        return
    part = geometry.convolution_geometry(x.shape, h.shape, mode="full", method="auto")
    first, last = max(start, 0), min(start + y.shape[-1], part.length)
    if first < last:
        y[..., first - start : last - start] += convolve(x, h, part)[..., first:last]


def convolve_nd(f: ndarray, g: ndarray, part: WholeGeometry) -> ndarray:
    """Convolve two arrays along all their axes, by the method asked for.

    Examples
    --------
    >>> f, g = np.array([[1, 3], [2, 0]]), np.array([[1, 10]])
    >>> convolve_nd(f, g, geometry.whole_geometry(f.shape, g.shape, mode="full", method="auto"))
    array([[ 1, 13, 30],
           [ 2, 20,  0]])
    """
    f, g = (f, g) if f.size >= g.size else (g, f)
    y = np.zeros(part.lengths, np.result_type(f, g))
    method = part.method
    if method == "auto":
        transform = 40 + spectra.transform_time(prod([n + m - 1 for n, m in zip(f.shape, g.shape, strict=True)]) + 1)
        method = "direct" if y.dtype.kind == "O" or 0.001 * f.size * g.size < transform or not f.ndim else "fft"
    if method == "direct" or not f.ndim:
        return _direct_nd(f, g, part.starts, y)
    with np.errstate(invalid="ignore", over="ignore"):
        (_repaired if part.method == "auto" else _plain)(spectra.fft, f, g, y, part.starts)
    return y


def _direct_nd(f: ndarray, g: ndarray, starts: Sequence[int], y: ndarray) -> ndarray:
    """The direct sum, one tap of the smaller operand after the other; halves are rounded once."""
    sums = y.astype(np.float32) if y.dtype.char == "e" else y
    for m in np.ndindex(g.shape):
        each = list(zip(m, f.shape, starts, y.shape, strict=True))
        spans = [(max(0, k - start), min(length, n + k - start)) for k, n, start, length in each]
        if all([first < last for first, last in spans]):
            shifts = [start - k for k, _, start, _ in each]
            seen = tuple([slice(a + shift, b + shift) for shift, (a, b) in zip(shifts, spans, strict=True)])
            sums[tuple([slice(*span) for span in spans])] += g[m] * f[seen].astype(sums.dtype, copy=False)
    return sums.astype(y.dtype, copy=False)
