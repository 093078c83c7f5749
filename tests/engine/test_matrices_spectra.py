"""Singular values of the circular layer: every backend against the SVD of the layer's matrix."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from scipy import linalg

from tests.engine import backends
from tests.engine.boxes import impulses, integers

images = backends.definition("images")
backend = pytest.fixture(params=backends.of("matrices"))(lambda request: request.param)


def circular_matrix(w: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The matrix of the layer with circular padding, column by column."""
    padding = [(0, kernel - 1) for kernel in w.shape[2:]]
    convolve = getattr(images, f"conv{len(size)}d")
    y = convolve(impulses(w.shape[1], *size), w, padding=padding, padding_mode="circular")
    return y.reshape(len(y), -1).T


CIRCULAR = [((1, 1), (3,), (6,)), ((2, 3), (3,), (5,)), ((3, 1), (2, 3), (4, 5)), ((2, 2), (3, 2), (3, 4)),
            ((1, 2), (2, 1, 2), (3, 2, 2))]  # fmt: skip


def test_singular_values_are_those_of_the_circular_layers_matrix(backend):
    """LAPACK's are right within a small multiple of n * 2^-53 times the largest; n is at most 60 here."""
    for channels, kernel, size in CIRCULAR:
        for kind in "ldD":
            w = integers(*channels, *kernel).astype(kind)
            w = w * (1 + 2j) + 1j * integers(*channels, *kernel, seed=8) if kind == "D" else w
            expected = np.linalg.svd(circular_matrix(w, size), compute_uv=False)
            values = backend.circulant_singular_values(w, size)
            assert values.shape == (min(channels) * prod(size),) == expected.shape
            assert np.abs(values - expected).max() <= 60 * 2.0**-50 * expected[0]
            assert values.dtype == np.float64


def test_one_channel_on_a_circle_is_scipys_circulant_matrix(backend):
    for size, kernel in ((1, 1), (5, 3), (6, 6)):
        w = integers(1, 1, kernel) + 10
        row = np.zeros(size)
        row[:kernel] = w[0, 0]
        expected = np.linalg.svd(linalg.circulant(row).T, compute_uv=False)
        assert np.abs(backend.circulant_singular_values(w, size) - expected).max() <= 60 * 2.0**-50 * expected[0]


def test_singular_values_keep_single_precision(backend):
    for kind, expected in (
        ("f", np.float32),
        ("F", np.float32),
        ("e", np.float64),
        ("b", np.float64),
        ("D", np.float64),
    ):
        assert backend.circulant_singular_values(np.ones((1, 1, 2), dtype=kind), 3).dtype == expected


def test_kernels_larger_than_the_image_go_round(backend):
    w = integers(2, 3, 5, 2)
    folded = np.zeros((2, 3, 2, 2), dtype=np.int64)
    for tap in range(5):
        folded[:, :, tap % 2] += w[:, :, tap]
    values = backend.circulant_singular_values(w, (2, 4))
    assert np.abs(values - backend.circulant_singular_values(folded, (2, 4))).max() < 1e-12 * values[0]


def test_singular_values_of_a_real_weight_come_twice_save_at_frequencies_their_own_negative(backend):
    """With weights at random nothing else coincides. Equal within rounding, all others at least 1e-6 apart."""
    for channels, size in [((1, 1), (5,)), ((2, 3), (6,)), ((2, 1), (4, 5)), ((3, 2), (4, 6)), ((2, 2), (3, 5))]:
        w = np.random.default_rng(len(size)).standard_normal((*channels, *(2,) * len(size)))
        values = backend.circulant_singular_values(w, size)
        starts = np.flatnonzero(np.concatenate(([True], -np.diff(values) > 1e-6 * values[0])))
        multiplicity = np.diff(np.concatenate((starts, [len(values)])))
        alone = min(channels) * prod(1 + (n % 2 == 0) for n in size)
        assert np.count_nonzero(multiplicity == 1) == alone
        assert np.count_nonzero(multiplicity == 2) == (len(values) - alone) / 2


def test_the_first_singular_value_is_the_operator_norm(backend):
    """An impulse-free check: no image is stretched by more, and the power method reaches it."""
    w, size = integers(2, 3, 3, 2), (4, 5)
    norm = backend.circulant_singular_values(w, size)[0]
    matrix = circular_matrix(w, size)
    x = np.random.default_rng(1).standard_normal(matrix.shape[1])
    for _ in range(500):
        assert np.linalg.norm(matrix @ x) <= norm * np.linalg.norm(x) * (1 + 1e-12)
        x = matrix.T @ (matrix @ x)
        x /= np.linalg.norm(x)
    assert np.linalg.norm(matrix @ x) >= norm * (1 - 1e-9)
