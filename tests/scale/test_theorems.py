"""What the book states of halos, shown by layers themselves: which samples they feel, and that blocks are the layer."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

import konvlib
from konvlib.geometry import halos, receptive_field

WINDOWS = list(product(range(1, 5), range(1, 4), range(1, 4), range(3)))  # kernel, stride, dilation, padding before
WINDOW_BOX = "1 to 4 taps, strides and dilations 1 to 3, padding 0 to 2 before"
LAYERS = [(k, s, d, p) for k, s, d, p in product((1, 2, 3), (1, 2), (1, 2), (0, 1, 2)) if k > 1 or d == 1]
rng = np.random.default_rng(3)


def interval(start, stop, k, s, d, p):
    return halos.inputs_of(start, stop, kernel=k, stride=s, dilation=d, before=p)


def layer(x, w, s=1, d=1, p=(0, 0)):
    return konvlib.conv1d(x[None, None], w[None, None], stride=s, dilation=d, padding=[p])[0, 0]


def felt(n, chain):
    """Which of n samples each output of layers of ones feels: a table of samples and outputs."""
    y = np.eye(n, dtype=int)[:, None]
    for k, s, d, p in chain:
        y = konvlib.conv1d(y, np.ones((1, 1, k), dtype=int), stride=s, dilation=d, padding=[(p, 0)])
    return y[:, 0] > 0


@pytest.mark.verifies(
    "thm-halo", "eq-halo", "eq-halo-shared", box=f"{WINDOW_BOX}, blocks of 1 to 3 outputs", exact=True
)
def test_a_block_feels_the_ends_of_its_interval_and_nothing_outside():
    for k, s, d, p in WINDOWS:
        table = felt(34, [(k, s, d, p)])
        for start, length in product(range(2, 5), range(1, 4)):
            low, high = interval(start, start + length, k, s, d, p)
            felt_by_block = np.flatnonzero(table[:, start : start + length].any(axis=1))
            assert (felt_by_block.min(), felt_by_block.max() + 1) == (low, high)
            following = interval(start + length, start + length + 1, k, s, d, p)
            assert len({*range(low, high)} & {*range(*following)}) == max(0, d * (k - 1) + 1 - s)


@pytest.mark.verifies("thm-halo", "eq-halo", box=f"{WINDOW_BOX} and 0 to 2 after, every block of 9 samples", exact=True)
def test_what_a_block_sees_is_enough():
    x = rng.integers(-9, 10, 9)
    for (k, s, d, p), after in product(WINDOWS, range(3)):
        if d * (k - 1) >= 9 + p + after:
            continue
        w = rng.integers(1, 10, k)
        whole = layer(x, w, s, d, (p, after))
        for start, stop in product(range(len(whole)), range(1, len(whole) + 1)):
            if start < stop:
                seen = [x[j] if 0 <= j < 9 else 0 for j in range(*interval(start, stop, k, s, d, p))]
                assert np.array_equal(layer(np.array(seen), w, s, d), whole[start:stop])


@pytest.mark.verifies(
    "cor-halo-cost", "eq-halo-cost", box="two axes, 1 to 3 taps and dilations 1 to 2 on each, sides 1 to 4", exact=True
)
def test_a_block_of_two_axes_sees_more_by_its_surface():
    for k, d, sides in product(product((1, 2, 3), repeat=2), product((1, 2), repeat=2), product(range(1, 5), repeat=2)):
        ends = [interval(0, side, one, 1, step, 0) for side, one, step in zip(sides, k, d, strict=True)]
        seen = len(list(product(*(range(*each) for each in ends))))
        parts = [1 + Fraction(step * (one - 1), side) for side, one, step in zip(sides, k, d, strict=True)]
        assert Fraction(seen, sides[0] * sides[1]) - 1 == parts[0] * parts[1] - 1


@pytest.mark.verifies(
    "thm-halo-adjoint", "eq-halo-adjoint", box=f"{WINDOW_BOX}, 7 samples, blocks of 1 and of 2 outputs", exact=True
)
def test_the_transpose_adds_what_blocks_give_to_their_halos():
    n = 7
    for (k, s, d, p), length in product(WINDOWS, (1, 2)):
        if d * (k - 1) >= n + p:
            continue
        w = rng.integers(1, 10, (1, 1, k))
        whole = konvlib.conv_matrix(w, (1, n), stride=s, dilation=d, padding=[(p, 0)]).toarray()
        dy = rng.integers(-9, 10, len(whole))
        rows, total = [], np.zeros(n, dtype=int)
        for start, stop in pairwise([*range(0, len(whole), length), len(whole)]):
            low, high = interval(start, stop, k, s, d, p)
            pick = np.array([[int(j == place) for j in range(n)] for place in range(low, high)])
            matrix = konvlib.conv_matrix(w, (1, high - low), stride=s, dilation=d).toarray()
            rows.append(matrix @ pick)
            total += pick.T @ matrix.T @ dy[start:stop]
        assert np.array_equal(np.concatenate(rows), whole)
        assert np.array_equal(total, whole.T @ dy)


@pytest.mark.verifies(
    "thm-halo-chain",
    "eq-halo-chain",
    box="pairs of layers of 1 to 3 taps, strides and dilations 1 and 2, padding 0 to 2, blocks of 1 to 3 outputs",
    exact=True,
)
def test_a_chain_feels_the_ends_of_what_it_pulls_back_to():
    for chain in product(LAYERS, repeat=2):
        table, (size, jump, first) = felt(44, chain), receptive_field(chain)
        start = next(i for i in range(44) if i * jump + first >= 0)
        for stop in range(start + 1, start + 4):
            low, high = start, stop
            for each in chain[::-1]:
                low, high = interval(low, high, *each)
            samples = np.flatnonzero(table[:, start:stop].any(axis=1))
            # Padding between the layers hides what outputs beyond the end would show: these blocks lie inside.
            inner = interval(start, stop, *chain[1])[0] >= 0
            assert high - low == size + (stop - start - 1) * jump
            assert not inner or (samples.min(), samples.max() + 1) == (low, high)


@pytest.mark.verifies(
    "thm-halo-chain",
    box="120 random chains of three layers with biases on 14 samples, every block",
    exact=True,
)
def test_a_chain_is_computed_from_clipped_intervals():
    clipped, blocks = 0, 0
    for _ in range(120):
        chain = [LAYERS[i] for i in rng.integers(len(LAYERS), size=3)]
        after, biases = rng.integers(0, 3, 3), rng.integers(-9, 10, 3)
        weights = [rng.integers(1, 10, k) for k, *_ in chain]
        levels = [rng.integers(-9, 10, 14)]
        for (k, s, d, p), q, w, bias in zip(chain, after, weights, biases, strict=True):
            if d * (k - 1) >= len(levels[-1]) + p + q:
                break
            levels.append(layer(levels[-1], w, s, d, (p, int(q))) + bias)
        if len(levels) < 4:
            continue
        for start in range(len(levels[3])):
            for stop in range(start + 1, len(levels[3]) + 1):
                low, high, steps = start, stop, []
                for each, level in zip(chain[::-1], levels[2::-1], strict=True):
                    seen = interval(low, high, *each)
                    low, high = max(seen[0], 0), min(seen[1], len(level))
                    steps.append((low - seen[0], seen[1] - high))
                    if low >= high:
                        break
                else:
                    y = levels[0][low:high]
                    for (_, s, d, _), w, bias, zeros in zip(chain, weights, biases, steps[::-1], strict=True):
                        y = layer(np.pad(y, zeros), w, s, d) + bias
                    assert np.array_equal(y, levels[3][start:stop])
                    blocks += 1
                    clipped += any(map(any, steps[:-1]))
    assert blocks > 1000
    assert clipped > 200
