"""Functions on edges and splines at taps: the statements of chapter 7 that `konvlib` has no function for.

The oracles are the recursion of the statement in fractions, `scipy.interpolate.BSpline`, and loops over edges.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.interpolate import BSpline

from konvlib import conv1d, konv1d
from tests.engine import backends, boxes

both_backends = pytest.mark.parametrize("backend", backends.exact("konvolution"))


@pytest.mark.verifies("def-konv-kan", "eq-konv-kan", box="1 to 3 inputs and outputs, degree 0 to 3", exact=True)
@both_backends
def test_a_kan_layer_is_a_konvolution_of_single_samples(backend):
    """An edge is a tap: a kernel of one tap over inputs of length 1 is a layer of a KAN."""
    for inputs, outputs, degree in product((1, 2, 3), (1, 2, 3), (0, 1, 2, 3)):
        kappa = boxes.integers(outputs, degree + 1, inputs, 1, seed=degree)
        x = boxes.integers(2, inputs, 1, seed=inputs)
        y = backend.konv1d(x, kappa, basis="monomial")
        for b, o in product(range(2), range(outputs)):
            edges = [
                sum(int(kappa[o, n, c, 0]) * int(x[b, c, 0]) ** n for n in range(degree + 1)) for c in range(inputs)
            ]
            assert y[b, o, 0] == sum(edges)


def knots(grid: int, degree: int) -> list[Fraction]:
    return [-1 + Fraction(2, grid) * (q - degree) for q in range(grid + 2 * degree + 1)]


def blended(grid: int, degree: int, t: Fraction) -> list[Fraction]:
    """The recursion of the definition, at one place."""
    h = knots(grid, degree)
    pieces = [Fraction(int(h[q] <= t < h[q + 1])) for q in range(len(h) - 1)]
    for e in range(1, degree + 1):
        pieces = [
            (t - h[q]) / (h[q + e] - h[q]) * pieces[q] + (h[q + e + 1] - t) / (h[q + e + 1] - h[q + 1]) * pieces[q + 1]
            for q in range(len(pieces) - 1)
        ]
    return pieces


SPLINES = list(product((1, 2, 3, 5, 12), range(5)))
PLACES = [Fraction(n, 60) for n in range(-60, 60)]


@pytest.mark.verifies("def-konv-spline", "eq-konv-spline", box="G in (1, 2, 3, 5, 12), degree 0 to 4, 120 fractions")
def test_the_recursion_gives_the_splines_of_scipy():
    """As many as the definition counts; what differs is rounding."""
    for grid, degree in SPLINES:
        ours = np.array([blended(grid, degree, t) for t in PLACES], dtype=float)
        assert ours.shape[1] == grid + degree
        at = np.array(PLACES, dtype=float)
        inner = ~np.isclose((at + 1) * grid / 2 % 1, [[0], [1]]).any(axis=0)  # degree 0 jumps at the knots
        theirs = BSpline.design_matrix(at, np.array(knots(grid, degree), dtype=float), degree).toarray()
        assert np.allclose(ours[inner], theirs[inner], atol=1e-14)


@pytest.mark.verifies("thm-konv-spline", box="G in (1, 2, 3, 5, 12), degree 0 to 4, 120 fractions", exact=True)
def test_splines_are_local_and_add_up_to_one():
    for grid, degree in SPLINES:
        h = knots(grid, degree)
        for t in PLACES:
            values = blended(grid, degree, t)
            assert sum(values) == 1
            assert min(values) >= 0
            assert sum(value != 0 for value in values) <= degree + 1
            assert not [q for q, value in enumerate(values) if value and not h[q] <= t < h[q + degree + 1]]


@pytest.mark.verifies(
    "eq-konv-residual", box="2 channels, 3 taps, G = 4, degree 1 to 3, samples in and out of the grid"
)
def test_the_residual_branch_is_one_more_channel_of_the_expanded_input():
    for degree in (1, 2, 3):
        rng = np.random.default_rng(degree)
        x, w_b, kappa = rng.normal(size=(2, 9)), rng.normal(size=(2, 3)), rng.normal(size=(4 + degree, 2, 3))
        h = np.array(knots(4, degree), dtype=float)
        inside = BSpline.design_matrix(np.clip(x, -1, 1).ravel(), h, degree).toarray().T.reshape(-1, 2, 9)
        channels = np.concatenate([(x / (1 + np.exp(-x)))[None], inside * (abs(x) <= 1)]).reshape(1, -1, 9)
        weight = np.concatenate([w_b[None], kappa]).reshape(1, -1, 3)
        y = conv1d(channels, weight)[0, 0]
        assert (abs(x) > 1).any()
        for i in range(7):
            total = 0.0
            for c, u in np.ndindex(2, 3):
                t = x[c, i + u]
                total += w_b[c, u] * t / (1 + np.exp(-t))
                total += BSpline(h, kappa[:, c, u], degree)(t) if abs(t) <= 1 else 0
            assert total == pytest.approx(y[i], abs=1e-12)


def test_one_interval_of_cubic_splines_is_degree_three():
    """The same layer in powers and in the splines of one interval."""
    t = np.linspace(-1, 1, 41)[:-1]
    splines = BSpline.design_matrix(t, np.array(knots(1, 3), dtype=float), 3).toarray()
    powers = np.vander(t, 4, increasing=True)
    into, _, rank, _ = np.linalg.lstsq(splines, powers, rcond=None)
    assert rank == 4
    assert np.allclose(splines @ into, powers, atol=1e-12)
    kappa = np.array([[1.0, 0], [-2, 1], [0, 3], [1, -1]])
    y = konv1d(t[None, None], kappa[None, :, None], basis="monomial")
    assert np.allclose(conv1d(splines.T[None], (into @ kappa)[None]), y, atol=1e-11)
