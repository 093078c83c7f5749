"""What the book itself got wrong: each row of book/errata.md that a computation can show."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

import konvlib
from tests.book.pages import ROOT


def same_by_fixed_padding(k: int, s: int, before: int, after: int) -> bool:
    """Whether a fixed padding has the windows of ``same_upper`` for every size of the input."""
    for n in range(1, 40):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        windows = (n + before + after - k) // s + 1 if n + before + after >= k else 0
        if windows != -(-n // s) or before != total // 2:
            return False
    return True


def test_a_fixed_padding_is_same_upper_more_often():
    """By brute force: stride 1, kernel 1, kernel 2 at every stride, every even kernel at stride 2, and no other."""
    for k, s in product(range(1, 9), range(1, 6)):
        paddings = [(p, q) for p, q in product(range(k), repeat=2) if same_by_fixed_padding(k, s, p, q)]
        fits = s == 1 or (k % 2 == 0 and s == 2) or (k == 2 and s > 1)
        expected = [((k - 1) // 2, k // 2)] if s == 1 else [((k - 2) // 2, k // 2)] if fits else []
        if k == 1 and s > 1:
            expected = [(0, 0)]
        assert paddings == expected, (k, s)


def test_rounding_up_can_lose_samples():
    x = np.arange(32)[None, None]
    shown = konvlib.max_pool1d(x, 1, stride=2, ceil_mode=True)
    assert 31 not in shown
    assert 30 in shown


def test_circular_layers_commute_with_shifts_at_stride_one():
    x, w = np.array([[[1, 3, 2, 0, 4, 7]]]), np.array([[[2, 1, -1]]])
    for s, shift in product((1, 2), range(6)):
        y = konvlib.conv1d(x, w, stride=s, padding=1, padding_mode="circular")
        moved = konvlib.conv1d(np.roll(x, shift, -1), w, stride=s, padding=1, padding_mode="circular")
        commutes = any(np.array_equal(np.roll(y, by, -1), moved) for by in range(y.shape[-1]))
        assert commutes == (s == 1 or shift % 2 == 0)


def test_field_of_doubling_dilations():
    field, seen = 1, []
    for dilation in (1, 2, 4, 8):
        field += 2 * dilation
        seen.append(field)
    assert seen == [3, 7, 15, 31]


def test_the_divisor_of_an_average_stands_inside():
    """Two windows with different divisors meet in one sample: no common factor gives its gradient."""
    dy = np.ones((1, 1, 2))
    options = {"input_size": 3, "kernel_size": 2, "stride": 2, "padding": 1}
    inside = konvlib.avg_pool1d_grad(dy, **options, count_include_pad=False)
    assert inside.ravel().tolist() == [1.0, 0.5, 0.5]


def test_pytorch_conjugates_gradients():
    torch = pytest.importorskip("torch")
    x = torch.tensor([[[1 + 2j, 3j]]], requires_grad=True)
    w = torch.tensor([[[2j]]], requires_grad=True)
    torch.nn.functional.conv1d(x, w).backward(torch.ones(1, 1, 2, dtype=x.dtype))
    ours = konvlib.conv1d_input_grad(np.ones((1, 1, 2)), np.array([[[2j]]]), input_size=2)
    assert ours.ravel().tolist() == [2j, 2j]
    assert x.grad.numpy().ravel().tolist() == [-2j, -2j]


def test_auto_rounds_relative_to_the_largest():
    f = np.concatenate([1e9 ** np.arange(10.0), np.zeros(2000)])
    g = np.ones(2000)
    exact = konvlib.convolve(f, g, method="direct")
    auto = konvlib.convolve(f, g)
    assert exact[0] == 1
    assert abs(auto - exact).max() <= 1e-15 * len(g) * abs(exact).max()


def test_every_row_names_a_test_that_stands_here():
    page = (ROOT / "book" / "errata.md").read_text(encoding="utf-8")
    named = re.findall(r"tests/book/test_errata\.py::(\w+)", page)
    here = [
        name
        for name in globals()
        if name.startswith("test_") and name != "test_every_row_names_a_test_that_stands_here"
    ]
    assert sorted(named) == sorted(here)
