"""The theorems of chapter 4, each label by name.

The oracle is the list of connections of a layer on one axis: all (i, u, j) with s i + d u - p = j and j on the large
grid. Maps are compared as matrices: applied to every impulse, with a digit of its own for each tap, so that agreement
proves them equal for that geometry. Everything is integers or fractions, compared with ``==``.

Checkerboards are in test_transposes_theorems_checkerboards.py.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch

from konvlib.geometry import conv_transpose_size
from konvlib.transposes import arrays
from tests.engine import backends
from tests.engine.boxes import digits, impulses, integers

naive, images, matrices = map(backends.definition, ("transposes", "images", "matrices"))
both_backends = pytest.mark.parametrize("backend", backends.exact("transposes"))


class Case(NamedTuple):
    """One axis of a transposed layer, from ``m`` samples to ``n``; ``n0`` is ``n`` without output padding."""

    m: int
    k: int
    s: int
    d: int
    before: int
    after: int
    extra: int

    @property
    def n0(self) -> int:
        return self.s * (self.m - 1) + self.d * (self.k - 1) + 1 - self.before - self.after

    @property
    def n(self) -> int:
        return self.n0 + self.extra

    @property
    def layer(self) -> dict:
        return {"stride": self.s, "dilation": self.d, "padding": [(self.before, self.after)]}

    @property
    def options(self) -> dict:
        return {**self.layer, "output_padding": self.extra}

    @property
    def weight(self) -> np.ndarray:
        return digits(1, 1, self.k)

    def connections(self) -> list[tuple[int, int, int]]:
        places = [(i, u, self.s * i + self.d * u - self.before) for i, u in product(range(self.m), range(self.k))]
        return [(i, u, j) for i, u, j in places if 0 <= j < self.n]

    def matrix(self, w=None) -> np.ndarray:
        """The transposed layer's matrix: the sum over connections."""
        w = self.weight.ravel() if w is None else np.asarray(w)
        result = np.zeros((self.n, self.m), dtype=w.dtype)
        for i, u, j in self.connections():
            result[j, i] += w[u]
        return result


ALL = [
    Case(m, k, s, d, before, after, extra)
    for m, k, s, d in product(range(1, 5), range(1, 5), range(1, 4), range(1, 4))
    for before, after, extra in product(range(2), range(3), range(max(s, d)))
]
CASES = [case for case in ALL if case.n >= 1]
OF_LAYERS = [case for case in CASES if case.extra < case.s]
DENSE = [case for case in OF_LAYERS if case.d == 1]
BOX = (
    "one axis: samples, kernels up to 4, strides, dilations up to 3, padding up to 1 before, up to 2 after, "
    f"every output padding: {len(CASES):,} geometries, by impulses"
)
BOX_OF_LAYERS = f"as that box, output padding less than the stride: {len(OF_LAYERS):,} geometries, by impulses"
BOX_DENSE = f"as that box, dilation 1, output padding less than the stride: {len(DENSE):,} geometries, by impulses"


def applied(function, size: int, *arguments, **options) -> np.ndarray:
    """The matrix of a map of one channel: it applied to every impulse."""
    return function(impulses(1, size), *arguments, **options)[:, 0].T


@cache
def layer_matrix(case: Case) -> np.ndarray:
    return applied(images.conv1d, case.n, case.weight, **case.layer)


def dot(a, b):
    return (a * b).sum()


# The definition


@pytest.mark.verifies("def-transpose", "eq-transpose", box=BOX, exact=True)
@both_backends
def test_definition(backend):
    y = backend.conv_transpose1d(np.array([[[1, 3]]]), np.array([[[2, 1, -1]]]), stride=2)
    assert y.tolist() == [[[2, 1, 5, 3, -3]]]
    for case in CASES:
        assert np.array_equal(applied(backend.conv_transpose1d, case.m, case.weight, **case.options), case.matrix())


@pytest.mark.verifies(
    "def-transpose", "eq-transpose", box="groups 1 to 3, channels up to 6, height and width", exact=True
)
@both_backends
def test_definition_with_channels_groups_and_bias(backend):
    for groups, depth, width in product((1, 2, 3), (1, 2), (1, 2)):
        y, w = integers(2, groups * depth, 2, 3), integers(groups * depth, width, 3, 2)
        bias = integers(groups * width)
        z = backend.conv_transpose2d(y, w, bias, stride=(2, 1), padding=((1, 0), (0, 1)), groups=groups)
        expected = np.zeros_like(z) + bias[:, None, None]
        for b, o, i, i2 in np.ndindex(y.shape):
            for c, u, u2 in np.ndindex(w.shape[1:]):
                j, j2 = 2 * i + u - 1, i2 + u2
                if 0 <= j < z.shape[2] and 0 <= j2 < z.shape[3]:
                    expected[b, o // depth * width + c, j, j2] += y[b, o, i, i2] * w[o, c, u, u2]
        assert z.shape == (2, groups * width, 4, 3)
        assert np.array_equal(z, expected)


# Four algorithms


def by_inserting(case: Case) -> np.ndarray:
    """The sum over u of the inserted y at j + p - d (k - 1) + d u times w at k - 1 - u, for every impulse y."""
    j, i, u = np.ogrid[: case.n, : case.m, : case.k]
    holds = j + case.before - case.d * (case.k - 1) + case.d * u == case.s * i
    return holds @ case.weight[0, 0, ::-1]


@pytest.mark.verifies("thm-transpose-algorithms", "eq-transpose-insertion", box=BOX_OF_LAYERS, exact=True)
@both_backends
def test_three_algorithms(backend):
    for case in OF_LAYERS:
        expected, w = case.matrix(), case.weight
        if getattr(backend, "arrays", None) is naive.arrays:
            assert np.array_equal(matrices.conv_matrix(w, (1, case.n), **case.layer).toarray().T, expected)
        assert np.array_equal(by_inserting(case), expected)
        for name in ("conv_transpose_by_scattering", "conv_transpose_by_zero_insertion"):
            assert np.array_equal(applied(getattr(backend, name), case.m, w, **case.options), expected)


@pytest.mark.verifies("cor-transpose-convolution", box=f"part 1: {BOX_DENSE}", exact=True)
@both_backends
def test_without_padding_it_is_the_convolution_with_zeros_inserted(backend):
    for case in DENSE:
        if case.before == case.after == case.extra == 0:
            spread = backend.insert_zeros(impulses(1, case.m), case.s)[:, 0]
            full = np.array([np.convolve(row, case.weight[0, 0]) for row in spread]).T
            assert np.array_equal(full, applied(backend.conv_transpose1d, case.m, case.weight, **case.options))


@pytest.mark.verifies(
    "cor-transpose-convolution",
    box="part 2: kernels up to 4, dilations up to 3, every padding, 1 or 2 groups",
    exact=True,
)
@both_backends
def test_with_stride_1_it_is_a_layer(backend):
    for k, d, groups in product(range(1, 5), range(1, 4), (1, 2)):
        y, w = integers(1, 2 * groups, 5), integers(2 * groups, 3, k)
        mirrored = w.reshape(groups, 2, 3, k)[..., ::-1].swapaxes(1, 2).reshape(3 * groups, 2, k)
        reach = d * (k - 1)
        for before, after in product(range(reach + 1), repeat=2):
            if 5 + reach - before - after < 1:
                continue
            padded = np.pad(y, [(0, 0), (0, 0), (reach - before, reach - after)])
            arguments = [torch.from_numpy(np.array(a, dtype=float)) for a in (padded, mirrored)]
            expected = torch.nn.functional.conv1d(*arguments, dilation=d, groups=groups)
            z = backend.conv_transpose1d(y, w, padding=[(before, after)], dilation=d, groups=groups)
            assert np.array_equal(z, expected)


@pytest.mark.verifies("thm-subpixel", "eq-subpixel", box=BOX_DENSE, exact=True)
@both_backends
def test_phases(backend):
    for case in DENSE:
        z, w = applied(backend.conv_transpose1d, case.m, case.weight, **case.options), case.weight[0, 0]
        used = []
        for r in range(case.s):
            taps = w[r :: case.s]
            used += [r + case.s * v for v in range(len(taps))]
            for t in range(-3, case.n + 3):
                j = case.s * t + r - case.before
                if 0 <= j < case.n:
                    row = [taps[t - i] if 0 <= t - i < len(taps) else 0 for i in range(case.m)]
                    assert z[j].tolist() == row
        assert sorted(used) == list(range(case.k))


@pytest.mark.verifies(
    "eq-transpose-cost", box="samples up to 6, kernels up to 5, strides up to 4, two axes", exact=True
)
def test_cost():
    for m, k, s in product(range(1, 7), range(1, 6), range(1, 5)):
        outputs = naive.conv_transpose2d(np.ones((1, 1, m, m), int), np.ones((1, 1, k, k), int), stride=s)
        phases = (m * sum(len(taps) for taps in arrays.phases_of_axis(k, s, 1))) ** 2
        assert phases == outputs.sum() == (m * k) ** 2
        assert Fraction(outputs.size * k * k, phases) == (s + Fraction(k - s, m)) ** 2
        assert abs((s + Fraction(k - s, 10**6)) ** 2 - s * s) < Fraction(1, 10**4)


# Sizes


@pytest.mark.verifies("eq-transpose-size", box=BOX, exact=True)
@both_backends
def test_size(backend):
    for case in CASES:
        far = case.s * (case.m - 1) + case.d * (case.k - 1)
        n = len(range(case.before, far + 1 - case.after + case.extra))
        y = np.ones((1, 1, case.m))
        assert backend.conv_transpose1d(y, case.weight, **case.options).shape == (1, 1, n)
        padding = {"padding": (case.before, case.after), "output_padding": case.extra}
        assert conv_transpose_size(case.m, case.k, stride=case.s, dilation=case.d, **padding) == n == case.n
        if case.before == case.after:
            arguments = case.s, case.before, case.extra, 1, case.d
            weight = torch.ones(1, 1, case.k)
            assert torch.nn.functional.conv_transpose1d(torch.ones(1, 1, case.m), weight, None, *arguments).numel() == n


@pytest.mark.verifies("thm-output-padding", box=BOX_OF_LAYERS, exact=True)
@both_backends
def test_output_padding(backend):
    for case in OF_LAYERS:
        span, pads = case.d * (case.k - 1) + 1, case.before + case.after
        counts = {n: len(range(0, n + pads - span + 1, case.s)) for n in range(1, 40)}
        share = [n for n, count in counts.items() if count == case.m]
        assert share == [n for n in range(case.n0, case.n0 + case.s) if n >= 1]
        z = applied(backend.conv_transpose1d, case.m, case.weight, **case.options)
        assert len(z) == case.n0 + case.extra
        if case.n0 >= 1:
            short = applied(backend.conv_transpose1d, case.m, case.weight, **case.layer)
            assert np.array_equal(z[: case.n0], short)
        for t in range(case.extra):
            reached = case.n0 + t >= 0 and z[case.n0 + t].any()
            if t >= case.after:
                assert not reached
            elif case.d == 1 and case.k >= case.s and case.n0 + t >= 0:
                assert reached


# The adjoint


@pytest.mark.verifies("thm-adjoint", "eq-adjoint", box=BOX_OF_LAYERS, exact=True)
@both_backends
def test_adjoint(backend):
    for case in OF_LAYERS:
        back = applied(backend.conv_transpose1d, case.m, case.weight, **case.options)
        assert np.array_equal(layer_matrix(case).T, back)


@pytest.mark.verifies("thm-adjoint", "eq-adjoint", box="the running example; complex weights; no other map", exact=True)
@both_backends
def test_adjoint_of_the_running_example(backend):
    x, w = np.array([[[[1, 3, 2], [2, 0, 1], [0, 4, 2]]]]), np.array([[[[2, 1], [0, 3]]]])
    y = np.array([[[[1, 3], [2, 0]]]])
    assert dot(images.conv2d(x, w), y) == dot(x, backend.conv_transpose2d(y, w)) == 70
    case = Case(3, 4, 2, 2, 1, 2, 1)
    x, y, w = (integers(1, 1, n) + 1j * integers(1, 1, n, seed=1) for n in (case.n, case.m, case.k))
    there = dot(images.conv1d(x, w, **case.layer), y.conj())
    assert there == dot(x, backend.conv_transpose1d(y, w.conj(), **case.options).conj())
    assert there != dot(x, backend.conv_transpose1d(y, w, **case.options).conj())
    right = layer_matrix(case).T
    for place in np.ndindex(right.shape):
        other = right.copy()
        other[place] += 1
        assert any(
            dot(layer_matrix(case) @ a, b) != dot(a, other @ b)
            for a, b in product(np.eye(case.n, dtype=int), np.eye(case.m, dtype=int))
        )


def null_vector(matrix: np.ndarray) -> list[Fraction]:
    """A vector other than zero that a matrix with fewer rows than columns takes to zero, by elimination."""
    rows, pivots = [[Fraction(int(v)) for v in row] for row in matrix], []
    for column in range(matrix.shape[1]):
        row = next((r for r in range(len(pivots), len(rows)) if rows[r][column]), None)
        if row is None:
            free = column
            break
        rows[len(pivots)], rows[row] = rows[row], rows[len(pivots)]
        pivot = [v / rows[len(pivots)][column] for v in rows[len(pivots)]]
        rows = [[a - r[column] * p for a, p in zip(r, pivot, strict=True)] for r in rows]
        rows[len(pivots)] = pivot
        pivots.append(column)
    x = [Fraction(0)] * matrix.shape[1]
    x[free] = Fraction(1)
    for row, column in enumerate(pivots):
        x[column] = -rows[row][free]
    return x


ORTHONORMAL_BOX = "taps among -1, 0, 1, 3/5, 4/5; kernels up to 3, strides up to 3, outputs up to 3"


@pytest.mark.verifies("thm-transpose-inverse", box=ORTHONORMAL_BOX, exact=True)
def test_inverse():
    taps = [Fraction(v) for v in (-1, 0, 1)] + [Fraction(3, 5), Fraction(4, 5)]
    found = 0
    for k, s, m in product(range(1, 4), range(1, 4), range(1, 4)):
        for w in product(taps, repeat=k):
            K = Case(m, k, s, 1, 0, 0, 0).matrix(np.array(w)).T
            y = naive.conv_transpose1d(np.ones((1, 1, m), dtype=object), np.array([[w]]), stride=s)
            assert np.array_equal(y[0, 0], K.T @ np.ones(m, dtype=object))
            gram, one = K @ K.T, np.eye(m, dtype=object)
            sums = [sum(w[u] * w[u + s * t] for u in range(k) if u + s * t < k) for t in range(m)]
            assert np.array_equal(gram, one) == (sums == [1] + [0] * (m - 1))
            if np.array_equal(gram, one):
                found += 1
                P = K.T @ K
                assert np.array_equal(P, P.T)
                assert np.array_equal(P @ P, P)
                assert np.array_equal(P @ K.T, K.T)
    assert found > 50


@pytest.mark.verifies("thm-transpose-inverse", box=BOX_OF_LAYERS, exact=True)
def test_no_inverse_of_a_layer_with_fewer_outputs_than_inputs():
    for case in OF_LAYERS:
        if case.m < case.n and case.d == 1 and case.before == case.after == 0:
            K = layer_matrix(case)
            x = null_vector(K)
            assert any(x)
            assert not any(K.astype(object) @ np.array(x))
            assert not np.array_equal(K.T @ K, np.eye(case.n))
