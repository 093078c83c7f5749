"""The corrections to the book's sources: those to sources 000, 001 and 002.

Each row of book/corrections.md names its test. A test computes what the source's formula says, letter by letter, and
what holds. Integers throughout, so `==` decides. Sizes differ from axis to axis wherever axes could be confused.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import scipy.signal

import konvlib
from konvlib.konvolution import bases
from tests.book.source_formulas import drawn, layer


def upto(n: int) -> range:
    """Source 000's [n] = {0, 1, ..., n}."""
    return range(n + 1)


# Source 000: Konvolution. x is (b, c_in, h, w), the kernels are (c_out, a, a, c_in), kappa (c_out, d + 1, c_in, a, a).

X, K, KAPPA = drawn(2, 3, 5, 4), drawn(4, 2, 2, 3), drawn(4, 4, 3, 2, 2)
CHANNELS, TAPS, DEGREE = 3, 2, 3


def as_weight(k: np.ndarray) -> np.ndarray:
    return np.moveaxis(k, -1, 1)


def test_source_000_index_sets_have_one_term_too_many():
    places = list(product(upto(CHANNELS), upto(TAPS), upto(TAPS)))
    assert len(places) == 36 > K[0].size == 12
    with pytest.raises(IndexError):
        [K[0, u, v, c] for c, u, v in places]
    assert len([K[0, u, v, c] for c, u, v in product(upto(CHANNELS - 1), upto(TAPS - 1), upto(TAPS - 1))]) == 12


def test_source_000_window_offset_is_missing():
    """Without it each output sees one sample: a layer of kernel size 1, with the sum of all taps."""
    literal = sum(np.einsum("bchw,oc->bohw", X, K[:, u, v]) for u, v in product(range(TAPS), repeat=2))
    assert np.array_equal(literal, konvlib.conv2d(X, as_weight(K).sum((2, 3), keepdims=True)))
    offset = sum(
        np.einsum("bchw,oc->bohw", X[:, :, u : u + 4, v : v + 3], K[:, u, v]) for u, v in product(range(TAPS), repeat=2)
    )
    assert np.array_equal(offset, konvlib.conv2d(X, as_weight(K)))
    assert not np.array_equal(literal[:, :, :4, :3], offset)


def test_source_000_outputs_exist_for_whole_windows_only():
    assert konvlib.conv2d(X, as_weight(K)).shape == (2, 4, 5 - 2 + 1, 4 - 2 + 1) != (2, 4, 5, 4)


@pytest.mark.parametrize("basis", ["monomial", "chebyshev", "legendre", "hermite"])
def test_source_000_degree_d_needs_one_coefficient_more(basis: str):
    """The d-th difference of a polynomial of degree below d is zero; that of t ** d is d!."""
    t = np.array([Fraction(n) for n in range(DEGREE + 1)], dtype=object)
    for powers in bases.values(basis, t, DEGREE - 1):
        assert np.diff(powers, DEGREE) == [0]
    assert np.diff(t**DEGREE, DEGREE) == [6]
    assert np.diff(bases.values(basis, t, DEGREE)[DEGREE], DEGREE) != [0]
    assert len(bases.values(basis, t, DEGREE)) == DEGREE + 1


def test_source_000_entry_of_phi_names_its_shape_and_no_place():
    phi = drawn(TAPS, TAPS, DEGREE + 1, CHANNELS)
    with pytest.raises(IndexError):
        phi[TAPS, TAPS, DEGREE + 1, CHANNELS]
    places = list(product(range(TAPS), range(TAPS), range(CHANNELS)))
    assert len({tuple(phi[u, v, :, c]) for u, v, c in places}) == len(places)


def test_source_000_sums_x_where_p_of_x_is_meant():
    """As printed, the layer is linear: degrees only add their coefficients up."""
    windows = np.lib.stride_tricks.sliding_window_view(X, (TAPS, TAPS), axis=(2, 3))
    literal = np.einsum("bchwuv,odcuv->bohw", windows, KAPPA)
    assert np.array_equal(literal, konvlib.conv2d(X, KAPPA.sum(1)))
    p = bases.values("chebyshev", windows, DEGREE)
    meant = np.einsum("dbchwuv,odcuv->bohw", p, KAPPA)
    assert np.array_equal(meant, konvlib.konv2d(X, KAPPA, basis="chebyshev"))
    assert not np.array_equal(literal, meant)


def test_source_000_order_of_the_pairs():
    def channels(degrees: Any, inputs: Any) -> list[int]:
        return [delta * CHANNELS + c for delta, c in product(degrees, inputs)]

    assert channels(upto(DEGREE), upto(CHANNELS - 1)) == list(range(CHANNELS * (DEGREE + 1)))
    literal = channels(upto(CHANNELS), upto(DEGREE))
    assert len(literal) == 16
    assert len(set(literal)) == 13
    for inputs, degree in product(range(1, 5), range(5)):
        assert len(upto(inputs)) * len(upto(degree)) > inputs * (degree + 1)


def test_source_000_expanded_input_is_not_defined():
    """Its channels hold p of x, degree by degree. Another order of the same channels is another layer."""
    kappa = KAPPA.reshape(4, -1, TAPS, TAPS)
    expanded = np.concatenate(list(bases.values("chebyshev", X, DEGREE)), axis=1)
    assert expanded.shape == (2, CHANNELS * (DEGREE + 1), 5, 4)
    for delta, c in product(upto(DEGREE), range(CHANNELS)):
        wanted = bases.values("chebyshev", X[:, c], DEGREE)[delta]
        assert np.array_equal(expanded[:, delta * CHANNELS + c], wanted)
    assert np.array_equal(konvlib.conv2d(expanded, kappa), konvlib.konv2d(X, KAPPA, basis="chebyshev"))
    by_channel = np.moveaxis(bases.values("chebyshev", X, DEGREE), 0, 2).reshape(2, -1, 5, 4)
    assert not np.array_equal(konvlib.conv2d(by_channel, kappa), konvlib.conv2d(expanded, kappa))


def test_source_000_basis_is_not_named():
    """One kappa means another layer in another basis; one layer has another kappa in another basis."""
    y = konvlib.konv2d(X, KAPPA, basis="chebyshev")
    assert not np.array_equal(y, konvlib.konv2d(X, KAPPA, basis="monomial"))
    moved = bases.convert(KAPPA.astype(object), "chebyshev", "monomial")
    assert np.array_equal(y, konvlib.konv2d(X.astype(object), moved, basis="monomial"))


def test_source_000_padding_is_not_mentioned():
    """Zeros around x become p(0), zeros around the expansion stay zeros. They differ where the basis has p(0) != 0."""
    before = konvlib.konv2d(X, KAPPA, basis="chebyshev", padding=1, pad="input")
    after = konvlib.konv2d(X, KAPPA, basis="chebyshev", padding=1, pad="basis")
    differs = (before != after).all((0, 1))
    border = np.ones(differs.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    assert np.array_equal(differs, border)
    assert np.array_equal((before == after).all((0, 1)), ~border)
    odd = KAPPA * np.array([0, 1, 0, 1])[:, None, None, None]
    both = [konvlib.konv2d(X, odd, basis="chebyshev", padding=1, pad=pad) for pad in ("input", "basis")]
    assert np.array_equal(*both)


# Source 001: notes on X (4 by 4), K (3 by 3) and Y = X * K (2 by 2). Its indices begin at 1.

IMAGE, KERNEL, TWO_BY_TWO = drawn(4, 4), drawn(3, 3), drawn(2, 2)


def source_001_y22() -> int:
    x, k = IMAGE, KERNEL
    first = x[1, 1] * k[0, 0] + x[1, 2] * k[0, 1] + x[1, 3] * k[0, 2]
    second = x[2, 1] * k[1, 0] + x[2, 2] * k[1, 1] + x[2, 3] * k[1, 2]
    return int(first + second + x[3, 1] * k[2, 0] + x[3, 2] * k[2, 1] + x[3, 3] * k[2, 2])


def test_source_001_formula_is_a_correlation():
    assert source_001_y22() == layer(IMAGE, KERNEL)[1, 1]
    assert source_001_y22() == scipy.signal.correlate2d(IMAGE, KERNEL, "valid")[1, 1]
    assert source_001_y22() != scipy.signal.convolve2d(IMAGE, KERNEL, "valid")[1, 1]


def test_source_001_offset_runs_forward():
    """With X at (i - i', j - j') one term of nine exists at (2, 2). It takes X at (i + i' - 1, j + j' - 1)."""
    places = list(product((1, 2, 3), repeat=2))
    backward = [IMAGE[1 - p, 1 - q] * KERNEL[p - 1, q - 1] for p, q in places if 1 - p >= 0 and 1 - q >= 0]
    assert len(backward) == 1
    assert sum(backward) != source_001_y22()
    for i, j in product((1, 2), repeat=2):
        forward = sum(IMAGE[i + p - 2, j + q - 2] * KERNEL[p - 1, q - 1] for p, q in places)
        assert forward == layer(IMAGE, KERNEL)[i - 1, j - 1]
    assert sum(IMAGE[1 - p, 1 - q] * KERNEL[-p, -q] for p, q in product((-2, -1, 0), repeat=2)) == source_001_y22()


def test_source_001_stride_of_the_pooling_is_left_open():
    a = IMAGE[None, None]
    corners = [[IMAGE[i : i + 2, j : j + 2].max() for j in (0, 2)] for i in (0, 2)]
    assert np.array_equal(konvlib.max_pool2d(a, 2, stride=2)[0, 0], corners)
    assert konvlib.max_pool2d(a, 2, stride=1).shape == (1, 1, 3, 3)


def test_source_001_mean_is_left_open():
    a = IMAGE.astype(object) * Fraction(1)
    means = [[sum(a[i : i + 2, j : j + 2].ravel()) / 4 for j in (0, 2)] for i in (0, 2)]
    assert np.array_equal(konvlib.avg_pool2d(a[None, None], 2, stride=2)[0, 0], means)


def test_source_001_flattened_input_is_a_column():
    matrix = konvlib.conv_matrix(KERNEL[None, None], (1, 4, 4)).toarray()
    assert matrix.shape == (4, 16)
    with pytest.raises(ValueError, match="matmul"):
        matrix @ IMAGE.reshape(1, 16)
    assert np.array_equal((matrix @ IMAGE.reshape(16, 1)).reshape(2, 2), layer(IMAGE, KERNEL))


def test_source_001_the_matrix_is_transposed_not_the_kernel():
    matrix = konvlib.conv_matrix(KERNEL[None, None], (1, 4, 4)).toarray()
    y = TWO_BY_TWO
    right = (matrix.T @ y.reshape(4, 1)).reshape(4, 4)
    assert np.array_equal(right, konvlib.conv_transpose2d(y[None, None], KERNEL[None, None])[0, 0])
    assert not np.array_equal(right, konvlib.conv_transpose2d(y[None, None], KERNEL.T[None, None])[0, 0])
    assert layer(IMAGE, KERNEL.T).shape == (2, 2)


def test_source_001_the_transpose_does_not_return_the_input():
    matrix = konvlib.conv_matrix(KERNEL[None, None], (1, 4, 4)).toarray()
    back = matrix.T @ matrix @ IMAGE.ravel()
    assert not np.array_equal(back.reshape(4, 4), IMAGE)
    other = konvlib.conv_transpose2d(layer(IMAGE, KERNEL)[None, None], KERNEL[None, None])[0, 0]
    assert np.array_equal(back.reshape(4, 4), other)


# Source 002: Understanding convolution. Its two functions, in its own terms: x and y are what it slides.


def source_002_convolution(x: np.ndarray, y: np.ndarray) -> list[Any]:
    return [sum(x[i + j] * y[len(y) - 1 - j] for j in range(len(y))) for i in range(len(x) - len(y) + 1)]


def source_002_correlation(x: np.ndarray, y: np.ndarray) -> list[Any]:
    return [sum(x[i + j] * y[j] for j in range(len(y))) for i in range(len(x) - len(y) + 1)]


def source_002_formula(f: np.ndarray, g: np.ndarray, lag: int) -> complex:
    """The sum over tau of conj(f(tau)) g(lag + tau)."""
    return sum(np.conj(f[n]) * g[lag + n] for n in range(len(f)) if 0 <= lag + n < len(g))


F, G = np.array([1, 3, 2, 0, 4]), np.array([2, 1, -1])
COMPLEX_F, COMPLEX_G = F + 1j * np.array([0, 1, -2, 3, 1]), G + 1j * np.array([1, -1, 2])
LAGS = range(-(len(G) - 1), len(F))


def test_source_002_valid_fails_for_a_long_second_operand():
    assert source_002_convolution(F, G) == list(np.convolve(F, G, "valid")) == [6, -1, 6]
    assert source_002_convolution(G, F) == []
    assert list(np.convolve(G, F, "valid")) == [6, -1, 6]


def test_source_002_correlation_forgets_the_conjugate():
    assert source_002_correlation(F, G) == list(np.correlate(F, G, "valid"))
    assert source_002_correlation(COMPLEX_F, COMPLEX_G) != list(np.correlate(COMPLEX_F, COMPLEX_G, "valid"))
    assert source_002_correlation(COMPLEX_F, np.conj(COMPLEX_G)) == list(np.correlate(COMPLEX_F, COMPLEX_G, "valid"))


def test_source_002_code_and_formula_exchange_the_operands():
    code = source_002_correlation(F, G)
    assert code == [source_002_formula(G, F, lag) for lag in range(len(code))]
    assert code != [source_002_formula(F, G, lag) for lag in range(len(code))]


def test_source_002_correlation_is_numpys_reversed_and_conjugated():
    numpy = dict(zip(LAGS, np.correlate(COMPLEX_F, COMPLEX_G, "full"), strict=True))
    scipys = dict(zip(LAGS, scipy.signal.correlate(COMPLEX_F, COMPLEX_G, "full"), strict=True))
    assert numpy == scipys
    assert numpy == {lag: np.conj(source_002_formula(COMPLEX_F, COMPLEX_G, -lag)) for lag in LAGS}
    assert numpy != {lag: source_002_formula(COMPLEX_F, COMPLEX_G, lag) for lag in LAGS}


def test_source_002_which_operand_is_flipped():
    formula = [source_002_formula(COMPLEX_F, COMPLEX_G, lag) for lag in range(-(len(F) - 1), len(G))]
    assert formula == list(np.convolve(np.conj(COMPLEX_F[::-1]), COMPLEX_G))
    numpy = np.correlate(COMPLEX_F, COMPLEX_G, "full")
    assert np.array_equal(numpy, np.convolve(COMPLEX_F, np.conj(COMPLEX_G[::-1])))
    assert not np.array_equal(numpy, np.convolve(np.conj(COMPLEX_F[::-1]), COMPLEX_G))


def test_source_002_correlation_does_not_commute():
    assert np.array_equal(np.convolve(F, G), np.convolve(G, F))
    assert not np.array_equal(np.correlate(F, G, "full"), np.correlate(G, F, "full"))


def test_source_002_same_is_cut_unevenly():
    for n, m in product(range(1, 9), repeat=2):
        full, same = np.convolve(np.ones(n), np.arange(1, m + 1)), np.convolve(np.ones(n), np.arange(1, m + 1), "same")
        front = (min(n, m) - 1) // 2
        end = len(full) - max(n, m) - front
        assert np.array_equal(same, full[front : len(full) - end])
        assert end - front == (min(n, m) % 2 == 0)


def test_source_002_scipys_same_has_the_first_operands_length():
    for mode in ("full", "valid"):
        assert np.array_equal(scipy.signal.convolve(G, F, mode), np.convolve(G, F, mode))
    assert len(scipy.signal.convolve(G, F, "same")) == len(G)
    assert len(np.convolve(G, F, "same")) == len(F)


def test_source_002_layers_are_equal_as_families_only():
    for n, m in product(range(1, 7), repeat=2):
        for f, g in product(np.eye(n, dtype=int), np.eye(m, dtype=int)):
            if n >= m:
                assert np.array_equal(np.convolve(f, g, "valid"), np.correlate(f, g[::-1], "valid"))
    assert not np.array_equal(np.convolve(F, G, "valid"), np.correlate(F, G, "valid"))


def test_source_002_what_stands_outside_the_array():
    periodic = [sum(F[m] * G[(n - m) % 5] for m in range(5) if (n - m) % 5 < len(G)) for n in range(5)]
    spectrum = np.fft.fft(F) * np.fft.fft(G, 5)
    assert np.round(np.fft.ifft(spectrum).real).astype(int).tolist() == periodic
    assert periodic != np.convolve(F, G)[:5].tolist()
    assert periodic[2:] == np.convolve(F, G)[2:5].tolist()
