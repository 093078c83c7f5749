"""What the tests of chapter 1's theorems share: boxes, operands, and the definitions written out once more."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.engine import backends

F, G, Y = [1, 3, 2, 0, 4], [2, 1, -1], [2, 7, 6, -1, 6, 4, -4]

definition = backends.definition("sequences")
both_backends = pytest.mark.parametrize("backend", backends.exact("sequences"))
SAMPLES = 40
sampled = settings(max_examples=SAMPLES, deadline=None, derandomize=True)
FRACTIONS_BOX = f"lengths up to 7, fractions up to 100 with denominators up to 20: {SAMPLES} drawn cases"

PAIRS = [(n, m) for n in range(1, 9) for m in range(1, 9)]
SIZES = [(n, m) for n in range(1, 13) for m in range(1, 13)]
IMPULSE_PAIRS = [(n, m, a, b) for n, m in PAIRS for a in range(n) for b in range(m)]
PAIR_BOX = f"N, M up to 8, all pairs of impulses: {len(IMPULSE_PAIRS)} cases"


def impulse(a: int, length: int) -> np.ndarray:
    return np.eye(length, dtype=np.int64)[a]


def integers(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((length, seed)).integers(-9, 10, length)


def gaussian_integers(length: int, seed: int = 0) -> np.ndarray:
    return integers(length, seed) + 1j * integers(length, seed + 1)


def exact(values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return np.array_equal(np.asarray(left), np.asarray(right))


def by_index_sum(f, g, sign: int = 1) -> dict[int, object]:
    """All products f[i] g[j], added up by i + sign j."""
    sums = defaultdict(int)
    for (i, a), (j, b) in product(enumerate(f), enumerate(g)):
        sums[i + sign * j] += a * b
    return dict(sums)


def shifted(values, by: int, length: int) -> np.ndarray:
    result = np.zeros(length, dtype=np.asarray(values).dtype)
    result[by : by + len(values)] = values
    return result


fractions = st.fractions(min_value=-100, max_value=100, max_denominator=20)
sequences = st.lists(fractions, min_size=1, max_size=7).map(exact)
