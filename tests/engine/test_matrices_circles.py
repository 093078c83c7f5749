"""The theorems of chapter 3 about circular layers: eigenvalues, singular values, norms and noise.

Eigenvalues are exact where the size of the circle divides four, as powers of i are. Elsewhere real numbers are compared
within a multiple of the rounding error of LAPACK and the FFT, n * 2^-53 times the largest, with n at most 200 here.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import prod

import numpy as np
import pytest
from scipy import linalg

from tests.engine import backends
from tests.engine.boxes import digits, impulses, integers, options
from tests.engine.oracles.matrices import PLANES

images = backends.definition("images")

both_backends = pytest.mark.parametrize("backend", backends.exact("matrices"))
CLOSE = 200 * 2.0**-50

CIRCLES = [(p0, p1, k0, k1) for p0, p1, k0, k1 in product((1, 2, 4), (1, 2, 4), (1, 2, 3), (1, 2, 3))]
CIRCLES_BOX = f"circles of 1, 2, 4 by 1, 2, 4 pixels, kernels up to 3 by 3: {len(CIRCLES)} cases, in Gaussian integers"
LAYERS = [((1, 1), (3, 3), (5, 4)), ((3, 2), (2, 3), (4, 5)), ((2, 4), (3, 1), (3, 6)), ((2, 2), (4, 5), (3, 4))]
LAYERS_BOX = f"{len(LAYERS)} layers with 1 to 4 channels in and out on circles up to 20 pixels"


def circular_matrix(w: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Entry by entry: row (o, i) has w[o, c, u] added in column (c, (i + u) mod P)."""
    K = np.zeros((w.shape[0], *size, w.shape[1], *size), dtype=w.dtype)
    for (o, c, *u), value in np.ndenumerate(w):
        for i in np.ndindex(*size):
            K[(o, *i, c, *((a + b) % n for a, b, n in zip(i, u, size, strict=True)))] += value
    return K.reshape(w.shape[0] * prod(size), -1)


def roots(n: int, sign: int) -> np.ndarray:
    """The matrix of powers e^(sign 2 pi i f j / n), exactly if n divides 4."""
    f, j = np.indices((n, n))
    if 4 % n:
        return np.exp(sign * 2j * np.pi * f * j / n)
    return np.array([1, 1j, -1, -1j])[sign * f * j * (4 // n) % 4]


def eigenvalues(w: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """lambda[f0, f1] for one kernel, by its equation."""
    n0, n1 = size
    down = roots(n0, 1)[:, np.arange(w.shape[0]) % n0]
    across = roots(n1, 1)[:, np.arange(w.shape[1]) % n1]
    return down @ w @ across.T


@pytest.mark.verifies("def-matrices-circulant", "eq-matrices-circular", box=CIRCLES_BOX, exact=True)
def test_a_circular_layer_is_the_layer_with_circular_padding_and_circulant():
    for p0, p1, k0, k1 in CIRCLES:
        w = digits(1, 1, k0, k1)
        K = circular_matrix(w, (p0, p1))
        x = np.pad(impulses(1, p0, p1), ((0, 0), (0, 0), (0, k0 - 1), (0, k1 - 1)), "wrap")
        assert (images.conv2d(x, w).reshape(len(x), -1) == K.T).all()
        blocks = K.reshape(p0, p1, p0, p1)
        assert (blocks == np.roll(blocks, (1, 1), axis=(0, 2))).all()
        assert (blocks == np.roll(blocks, (1, 1), axis=(1, 3))).all()
        if p0 == k0 == 1 and k1 <= p1:
            row = np.pad(w.ravel(), (0, p1 - k1))
            assert (linalg.circulant(row).T == K).all()


@pytest.mark.verifies("thm-circulant", "eq-matrices-eigenvalues", box=CIRCLES_BOX, exact=True)
def test_the_dft_diagonalises_exactly():
    for p0, p1, k0, k1 in CIRCLES:
        w = integers(k0, k1)
        K, values = circular_matrix(w[None, None], (p0, p1)), eigenvalues(w, (p0, p1))
        F = np.kron(roots(p0, -1), roots(p1, -1))
        assert (values.reshape(-1, 1) * F == F @ K).all()
        inverse = np.kron(roots(p0, 1), roots(p1, 1))
        assert (F @ inverse == p0 * p1 * np.eye(p0 * p1)).all()
        x = integers(p0, p1, seed=2)
        y = (K @ x.ravel()).reshape(p0, p1)
        assert (roots(p0, -1) @ y @ roots(p1, -1) == values * (roots(p0, -1) @ x @ roots(p1, -1))).all()


@pytest.mark.verifies("thm-circulant", box="circles of 3, 5, 6 by 4, 7 pixels, a 3 by 2 kernel", exact=False)
def test_the_dft_diagonalises_on_other_circles():
    for size in product((3, 5, 6), (4, 7)):
        w, x = integers(3, 2), integers(*size, seed=4)
        y = (circular_matrix(w[None, None], size) @ x.ravel()).reshape(size)
        values = eigenvalues(w, size)
        assert np.abs(values - np.conj(np.fft.fft2(w, size))).max() <= CLOSE * np.abs(w).sum()
        error = np.abs(np.fft.fft2(y) - values * np.fft.fft2(x)).max()
        assert error <= CLOSE * np.abs(values).max() * np.abs(x).sum()


@pytest.mark.verifies("thm-singular-values", "eq-matrices-spectrum", box=LAYERS_BOX, exact=False)
@both_backends
def test_singular_values_are_those_of_all_frequencies(backend):
    for channels, kernel, size in LAYERS:
        w = integers(*channels, *kernel)
        by_frequency = np.array([[eigenvalues(each, size) for each in row] for row in w])
        blocks = np.moveaxis(by_frequency, (0, 1), (2, 3))
        values = np.sort(np.linalg.svd(blocks, compute_uv=False).ravel())[::-1]
        expected = np.linalg.svd(circular_matrix(w, size), compute_uv=False)
        assert values.shape == expected.shape == (min(channels) * prod(size),)
        assert np.abs(values - expected).max() <= CLOSE * expected[0]
        assert np.abs(backend.circulant_singular_values(w, size) - expected).max() <= CLOSE * expected[0]


# Bounds

BOUNDED = [axes for axes in PLANES if prod(axis.size + axis.span for axis in axes) <= 150]
BOUNDED_BOX = (
    f"{len(BOUNDED)} geometries of two axes with every stride, padding and dilation up to 3, 2 channels in, 3 out"
)


def dilated(w: np.ndarray, gaps: list[int]) -> np.ndarray:
    spans = [gap * (taps - 1) + 1 for gap, taps in zip(gaps, w.shape[2:], strict=True)]
    spread = np.zeros((*w.shape[:2], *spans), dtype=w.dtype)
    spread[:, :, :: gaps[0], :: gaps[1]] = w
    return spread


@pytest.mark.verifies("cor-matrices-zero-padding", "eq-matrices-bound", box=BOUNDED_BOX, exact=True)
@both_backends
def test_zero_padding_is_a_part_of_a_larger_circle(backend):
    """Rows and columns of the circle's matrix, entry by entry, and its singular values as bounds."""
    for axes in BOUNDED:
        w = integers(3, 2, *(axis.kernel for axis in axes)) + 10
        size = tuple(axis.size for axis in axes)
        circle = tuple(axis.size + axis.span - 1 for axis in axes)
        whole = circular_matrix(dilated(w, [axis.dilation for axis in axes]), circle).reshape(3, *circle, 2, *circle)
        K = backend.conv_matrix(w, (2, *size), **options(*axes)).toarray()
        K = K.reshape(3, *(axis.windows for axis in axes), 2, *size)
        for i in np.ndindex(*(axis.windows for axis in axes)):
            starts = [axis.stride * place - axis.before for axis, place in zip(axes, i, strict=True)]
            row = whole[:, starts[0] % circle[0], starts[1] % circle[1], :, : size[0], : size[1]]
            sees = all(-axis.span < start < axis.size for axis, start in zip(axes, starts, strict=True))
            assert (K[:, i[0], i[1]] == (row if sees else 0)).all()


@pytest.mark.verifies("cor-matrices-zero-padding", "eq-matrices-bound", box=BOUNDED_BOX, exact=False)
@both_backends
def test_singular_values_with_zero_padding_are_bounded_by_those_of_the_circle(backend):
    for axes in BOUNDED:
        w = integers(3, 2, *(axis.kernel for axis in axes))
        K = backend.conv_matrix(w, (2, *(axis.size for axis in axes)), **options(*axes)).toarray()
        values = np.linalg.svd(K, compute_uv=False)
        circle = tuple(axis.size + axis.span - 1 for axis in axes)
        bounds = backend.circulant_singular_values(dilated(w, [axis.dilation for axis in axes]), circle)
        assert (values <= bounds[: len(values)] + CLOSE * bounds[0]).all()
        taps = sum(np.linalg.norm(w[:, :, *u], 2) for u in np.ndindex(*w.shape[2:]))
        assert bounds[0] <= taps * (1 + CLOSE)


@pytest.mark.verifies("cor-matrices-reshaped", "eq-matrices-reshaped", box=BOUNDED_BOX, exact=False)
@both_backends
def test_the_reshaped_weight_bounds_the_norm(backend):
    tight = 0
    for axes in BOUNDED:
        kernel, size = tuple(axis.kernel for axis in axes), tuple(axis.size for axis in axes)
        w = integers(3, 2, *kernel)
        W = np.linalg.norm(w.reshape(3, -1), 2)
        K = np.linalg.norm(backend.conv_matrix(w, (2, *size), **options(*axes)).toarray(), 2)
        ones = np.ones((1, 1, *size), dtype=int)
        counts = backend.col2im(backend.im2col(ones, kernel, **options(*axes)), size, kernel, **options(*axes))
        assert counts.max() <= prod(kernel)
        assert np.sqrt(counts.max()) * W * (1 + CLOSE) >= K
        tight += bool(counts.max() < prod(kernel) and K > 0)
    assert tight  # the counts say more than the number of taps


def test_the_reshaped_weight_alone_is_no_bound():
    box, constant = np.full((1, 1, 3, 3), Fraction(1, 9)), np.ones((1, 1, 5, 5), dtype=object)
    y = images.conv2d(constant, box, padding=1, padding_mode="circular")
    assert (y == 1).all()
    assert (box**2).sum() == Fraction(1, 9)


# Noise


def exact_inverse(K: np.ndarray) -> np.ndarray:
    """By elimination in fractions."""
    n = len(K)
    rows = np.array([[Fraction(int(entry)) for entry in row] for row in np.hstack([K, np.eye(n, dtype=int)])])
    for place in range(n):
        pivot = next(row for row in range(place, n) if rows[row, place])
        rows[[place, pivot]] = rows[[pivot, place]]
        rows[place] /= rows[place, place]
        for row in range(n):
            if row != place:
                rows[row] -= rows[row, place] * rows[place]
    return rows[:, n:]


INVERTED = [(p0, p1, seed) for p0, p1 in ((1, 4), (2, 2), (2, 4), (4, 4)) for seed in range(3)]


@pytest.mark.verifies(
    "thm-matrices-noise", "eq-matrices-noise", box=f"{len(INVERTED)} kernels on circles of 4 to 16 pixels", exact=True
)
def test_noise_after_undoing():
    """For uncorrelated e of variance 1, entry j of K^-1 e has as its mean square the sum of the squares of row j."""
    for p0, p1, seed in INVERTED:
        w = integers(min(p0, 3), 2, seed=seed)
        w[0, 0] += 40  # larger than all the others together, so no eigenvalue is zero
        K, values = circular_matrix(w[None, None], (p0, p1)), eigenvalues(w, (p0, p1))
        inverse = exact_inverse(K)
        assert (inverse @ K == np.eye(p0 * p1, dtype=int)).all()
        sizes = [int(value.real) ** 2 + int(value.imag) ** 2 for value in values.ravel()]
        mean = sum(Fraction(1, size) for size in sizes) / (p0 * p1)
        assert (inverse**2).sum() / (p0 * p1) == mean
