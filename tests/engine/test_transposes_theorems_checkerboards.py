"""The theorems of chapter 4 on checkerboards and on what resizing does instead, each label by name.

See test_transposes_theorems.py.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tests.engine.boxes import digits
from tests.engine.test_transposes_theorems import BOX, CASES, applied, both_backends

# Checkerboards


@pytest.mark.verifies("def-transpose-overlap", "eq-transpose-overlap", box=BOX, exact=True)
@both_backends
def test_overlap_counts(backend):
    for case in CASES:
        counts = np.bincount([j for _, _, j in case.connections()], minlength=case.n)
        assert np.array_equal(backend.overlap_counts(case.m, case.k, **case.options), counts)
        ones = np.ones((1, 1, case.m), int), np.ones((1, 1, case.k), int)
        assert np.array_equal(backend.conv_transpose1d(*ones, **case.options)[0, 0], counts)


def interior(m: int, k: int, s: int, p: int, n: int) -> list[int]:
    return [j for j in range(n) if k - 1 <= j + p <= s * (m - 1)]


CHECKERBOARD_BOX = "kernels up to 8, strides up to 5, paddings up to 3, interiors of at least one period"


@pytest.mark.verifies("thm-checkerboard", box=CHECKERBOARD_BOX, exact=True)
@both_backends
def test_checkerboard(backend):
    for k, s, p in product(range(1, 9), range(1, 6), range(4)):
        m = k + 6
        counts = backend.overlap_counts(m, k, stride=s, padding=p)
        inside = interior(m, k, s, p, len(counts))
        assert len(inside) >= s
        assert all(counts[j] == -(-(k - (j + p) % s) // s) for j in inside)
        assert all(counts[j] == len(range((j + p) % s, k, s)) for j in inside)
        found = {int(counts[j]) for j in inside}
        assert found == ({k // s} if k % s == 0 else {k // s, k // s + 1})


@pytest.mark.verifies(
    "thm-checkerboard", box="part 3: kernels up to 4, strides up to 3 on each of two axes", exact=True
)
@both_backends
def test_checkerboard_on_two_axes(backend):
    for k, k2, s, s2 in product(range(1, 5), range(1, 5), range(1, 4), range(1, 4)):
        counts = backend.overlap_counts((8, 9), (k, k2), stride=(s, s2))
        down, across = backend.overlap_counts(8, k, stride=s), backend.overlap_counts(9, k2, stride=s2)
        assert np.array_equal(counts, np.outer(down, across))
        inside = counts[np.ix_(interior(8, k, s, 0, len(down)), interior(9, k2, s2, 0, len(across)))]
        assert (inside.min() == inside.max()) == (k % s == 0 and k2 % s2 == 0)


@pytest.mark.verifies(
    "thm-transpose-flat", box="taps -1, 0, 2; kernels up to 4, strides up to 3, paddings up to 1", exact=True
)
@both_backends
def test_what_becomes_of_a_constant(backend):
    outcomes = set()
    for k, s, p in product(range(1, 5), range(1, 4), range(2)):
        w = np.array(list(product((-1, 0, 2), repeat=k)))
        m = k + 4
        z = backend.conv_transpose1d(np.ones((1, 1, m), int), w[None], stride=s, padding=p)[0]
        inside = interior(m, k, s, p, z.shape[1])
        assert len(inside) >= s
        for taps, row in zip(w, z[:, inside], strict=True):
            sums = [int(taps[r::s].sum()) for r in range(s)]
            assert row.tolist() == [sums[(j + p) % s] for j in inside]
            assert (len(set(row)) == 1) == (len(set(sums)) == 1)
            outcomes.add((len(set(sums)) == 1, k % s == 0))
    assert len(outcomes) == 4


@pytest.mark.verifies(
    "thm-transpose-resize", box="samples up to 4, kernels up to 4, strides up to 4, by impulses", exact=True
)
@both_backends
def test_repeat_then_convolve(backend):
    for m, k, s in product(range(1, 5), range(1, 5), range(1, 5)):
        a = digits(k)
        joined = np.convolve(np.ones(s, int), a)
        repeated = np.array([np.convolve(np.repeat(y, s), a) for y in np.eye(m, dtype=int)]).T
        assert np.array_equal(applied(backend.conv_transpose1d, m, joined[None, None], stride=s), repeated)
        assert {int(joined[r::s].sum()) for r in range(s)} == {int(a.sum())}
