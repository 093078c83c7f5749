"""What the windows of an axis hold, put together from pieces: every axis of a box, and how many steps it takes.

A test whose only argument is ``running`` runs against each mutant of that module, the `MUTANTS` below.
"""

from __future__ import annotations

import sys
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from konvlib.images import running as the_running
from tests.engine.test_mutants import killers, mutate, passes

running = pytest.fixture(lambda: the_running)


def shown(axis, window):
    """The samples of a window, by definition."""
    size, kernel, stride, dilation, first, _ = axis
    places = (first + window * stride + tap * dilation for tap in range(kernel))
    return [place for place in places if 0 <= place < size]


@cache
def axes():
    """Every axis of the box whose windows all show a sample, with what they show."""
    rows = []
    for row in product((1, 2, 5, 8), (1, 2, 3, 5, 7), (1, 2, 3, 5), (1, 2, 3, 4), (-3, -1, 0, 2), (1, 2, 4)):
        windows = [shown(row, window) for window in range(row[5])]
        if all(windows):
            rows.append((row, windows))
    assert len(rows) == 1605
    return rows


def larger_axes():
    """Windows of more samples than are put together one by one."""
    for row in product((60, 101), (9, 33, 63, 64, 99), (1, 9, 11, 24, 40), (1, 2), (-20, 0, 3), (1, 2)):
        windows = [shown(row, window) for window in range(row[5])]
        if all(windows):
            yield row, windows


def test_sums_over_every_window_of_the_box(running):
    """Of different powers of two, so that a sum names its terms."""
    for row, windows in axes():
        x = 2 ** np.arange(row[0]).reshape(1, -1, 1) * [1, 1 << 20]
        expected = np.array([[sum(2**place for place in window) for window in windows]])[..., None] * [1, 1 << 20]
        assert (running.over_windows((x,), running.Axis(*row), running.sums(np))[0] == expected).all()


def test_sums_over_larger_windows(running):
    for row, windows in larger_axes():
        x = np.arange(row[0]).reshape(1, -1, 1) ** 3 + [[[0, 1]]] + np.array([1, 5]).reshape(2, 1, 1)
        expected = np.stack([x[:, window].sum(1) for window in windows], 1)
        assert (running.over_windows((x,), running.Axis(*row), running.sums(np))[0] == expected).all()


def test_the_first_largest_and_the_last_nan_of_every_window(running):
    rng = np.random.default_rng(0)
    for row, windows in [*axes(), *larger_axes()]:
        x = rng.choice([1.0, 2.0, 3.0, np.nan], (2, row[0], 1), p=[0.3, 0.3, 0.3, 0.1])
        places = np.broadcast_to(np.arange(row[0])[:, None], x.shape)
        pieces = running.over_windows((x, places), running.Axis(*row), running.largest_and_places(np))
        for outer, (window, samples) in product(range(2), enumerate(windows)):
            values = x[outer, samples, 0]
            nan = np.flatnonzero(np.isnan(values))
            place = samples[nan[-1] if len(nan) else int(np.argmax(values))]
            assert pieces[1][outer, window, 0] == place
            assert np.array_equal(pieces[0][outer, window, 0], x[outer, place, 0], equal_nan=True)


def test_spreading_is_the_transpose_of_summing(running):
    for row, windows in [*axes(), *larger_axes()]:
        dy = 2 ** np.arange(row[5]).reshape(1, -1, 1) * [1, 3]
        expected = np.zeros((1, row[0], 2), dtype=int)
        for window, samples in enumerate(windows):
            expected[:, samples] += dy[:, [window]]
        assert (running.spread(dy, running.Axis(*row), np) == expected).all()


def test_the_same_on_tensors(running):
    for row, windows in axes()[::7]:
        x, axis = torch.arange(2.0 * row[0]).reshape(1, row[0], 2) % 5, running.Axis(*row)
        places = torch.arange(row[0])[:, None].expand(x.shape)
        assert torch.equal(
            running.over_windows((x,), axis, running.sums(torch))[0],
            torch.stack([x[:, window].sum(1) for window in windows], 1),
        )
        largest, place = running.over_windows((x, places), axis, running.largest_and_places(torch))
        assert torch.equal(largest, torch.stack([x[:, window].amax(1) for window in windows], 1))
        assert torch.equal(x.gather(1, place), largest)
        dy = torch.arange(2.0 * row[5]).reshape(1, row[5], 2)
        assert (running.spread(dy, axis, torch).numpy() == running.spread(dy.numpy(), axis, np)).all()


def test_steps_are_as_many_as_a_window_has_binary_digits(running):
    """Counted in samples that are put together, for windows at every sample, apart, and side by side."""
    size = 4000
    for kernel, stride, how in product((3, 50, 777, 3000), (1, 7, 3000), ("sums", "largest_and_places")):
        operation, seen = getattr(running, how)(np), []

        def of(left, right, operation=operation, seen=seen):
            seen.append(left[0].size)
            return operation.of(left, right)

        counting = running.Operation(np, of, operation.repeats)
        pieces = (np.ones((1, size, 1)), np.arange(size).reshape(1, -1, 1))[: 1 + operation.repeats]
        count = (size - kernel) // stride + 1
        running.over_windows(pieces, running.Axis(size, kernel, stride, 1, 0, count), counting)
        assert sum(seen) <= 2 * size + 2 * size // stride * kernel.bit_length()


MUTANTS = [
    ("more samples than there are", "kernel = min(kernel, size - first)  #", "kernel = min(kernel, size)  #"),
    ("floor for ceiling", "max(0, -(first // stride))", "max(0, -first // stride)"),
    ("a window too many inside", "(size - kernel - first) // stride + 1", "(size - kernel - first) // stride + 2"),
    ("phases out of turn", "start = first + turn * stride", "start = first + turn"),
    ("all samples of a phase apart", "stride // common, 1,", "stride, 1,"),
    ("last part lost", "if kernel & size and not how.repeats:", "if kernel & size > 1 and not how.repeats:"),
    ("parts overlap in sums", "covered + size\n", "covered + size - 1\n"),
    ("odd samples dropped", "return pieces if rest is None else how.of(pieces, rest)", "return pieces"),
    ("what is left of a step forgotten", "    if left:\n        ends", "    if left and not whole:\n        ends"),
    ("steps from the first sample", "_cut(pieces, slice(whole * stride, None))", "_cut(pieces, slice(whole, None))"),
    ("last of the largest", "later = (b > a)", "later = (b >= a)"),
    ("first NaN for last", "| (b != b)", "| ((b != b) & (a == a))"),
    ("taps before the input", "lowest = (-(starts // dilation)).clip(min=0)", "lowest = starts * 0"),
    ("taps beyond the window", ".clip(max=kernel - 1)", ".clip(max=kernel)"),
    ("windows that do not show a sample", "shown = (rest == 0) &", "shown = (rest >= 0) &"),
    ("one window fewer where a step is shared", "((whole + 1, is_left), (whole, ~is_left))",
     "((whole, is_left), (whole, ~is_left))"),
    ("scanned one way only", "if backwards:", "if False:"),
]  # fmt: skip
"""The usual mistakes in `konvlib.images.running`."""


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: row[0])
def test_the_mistake_is_caught(row, tmp_path):
    mistake, old, new = row
    assert not survives(mutate("images", "running", old, new, tmp_path)), f"no test catches: {mistake}"


def test_the_unchanged_module_survives(tmp_path):
    same = "from __future__ import annotations"
    assert survives(mutate("images", "running", same, same, tmp_path))


def survives(mutant):
    tests = killers(sys.modules[__name__], "running")
    assert tests
    return all(passes(lambda test=test: test(mutant)) for test in tests)
