"""Arguments are checked once for each key: what is remembered lets nothing wrong through, and holds no tensor."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch

import konvlib
from konvlib import dispatch

X, W = np.arange(20.0).reshape(1, 2, 10), np.ones((4, 2, 3))
KINDS = {"arrays": lambda a: a, "tensors": torch.from_numpy}
EQUAL_TO_ONE = (True, 1.0, np.float64(1), np.bool_(True), Fraction(1), 1 + 0j)
"""What Python takes for equal to 1, and finds under its key in a dictionary."""

CALLS = {
    "stride": lambda make, value: konvlib.conv1d(make(X), make(W), stride=value),
    "stride of an axis": lambda make, value: konvlib.conv1d(make(X), make(W), stride=(value,)),
    "padding": lambda make, value: konvlib.conv1d(make(X), make(W), padding=value),
    "padding of a side": lambda make, value: konvlib.conv1d(make(X), make(W), padding=((1, value),)),
    "dilation": lambda make, value: konvlib.conv1d(make(X), make(W), dilation=value),
    "groups": lambda make, value: konvlib.conv1d(make(X), make(W), groups=value),
    "kernel_size": lambda make, value: konvlib.max_pool1d(make(X), value),
    "groups of konv": lambda make, value: konvlib.konv1d(make(X), make(W[:, None]), groups=value),
    "output_padding": lambda make, value: konvlib.conv_transpose1d(
        make(X), make(np.ones((2, 3, 3))), stride=2, output_padding=value
    ),
    "im2col": lambda make, value: konvlib.im2col(make(X), 3, stride=value),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_what_equals_a_good_argument_and_is_none_is_refused_every_time(name, kind):
    call, make = CALLS[name], KINDS[kind]
    call(make, 1)
    for value in EQUAL_TO_ONE:
        messages = set()
        for _ in range(100):
            with pytest.raises(TypeError) as raised:
                call(make, value)
            messages.add(str(raised.value))
            call(make, 1)
        assert len(messages) == 1
        assert f"must be an integer, got {value!r}" in messages.pop()


@pytest.mark.parametrize("kind", KINDS)
def test_flags_are_flags_every_time(kind):
    x = KINDS[kind](X)
    for _ in range(3):
        konvlib.max_pool1d(x, 2, ceil_mode=True)
        konvlib.avg_pool1d(x, 2, count_include_pad=True)
        with pytest.raises(TypeError, match=r"^ceil_mode must be True or False, got 1$"):
            konvlib.max_pool1d(x, 2, ceil_mode=1)
        with pytest.raises(TypeError, match=r"^count_include_pad must be True or False, got 1$"):
            konvlib.avg_pool1d(x, 2, count_include_pad=1)


def test_integers_of_numpy_and_lists_are_arguments():
    expected = konvlib.conv1d(X, W, stride=2, padding=1)
    for make in KINDS.values():
        for one, two in ((np.int8(1), np.int64(2)), ([1], [2]), ([np.int32(1)], np.array([2]))):
            for _ in range(2):
                y = konvlib.conv1d(make(X), make(W), stride=two, padding=one)
                assert np.array_equal(np.asarray(y), expected)


def test_operands_are_checked_every_time():
    """A good call with the same shapes comes between."""
    x, w = torch.from_numpy(X), torch.from_numpy(W)
    for _ in range(3):
        konvlib.conv1d(x, w)
        with pytest.raises(TypeError, match=r"^x and w must have one dtype, got torch.float64 and torch.float32$"):
            konvlib.conv1d(x, w.float())
        with pytest.raises(TypeError, match=r"^w must be a torch tensor like the other operand, got ndarray$"):
            konvlib.conv1d(x, W)
        with pytest.raises(TypeError, match=r"^x must be of dtype float16, .*, got torch.int64; convert it"):
            konvlib.conv1d(x.long(), w.long())


def test_what_autocast_allows_is_refused_without_it():
    x, w = torch.ones(1, 2, 10), torch.ones(4, 2, 3).bfloat16()
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert konvlib.conv1d(x, w).dtype == torch.bfloat16
        with pytest.raises(TypeError, match="must have one dtype"):
            konvlib.conv1d(x, w)


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(dispatch, "MOST_PLANS", 8)
    monkeypatch.setattr(dispatch, "_plans", {})
    for size in range(3, 60):
        assert konvlib.conv1d(np.ones((1, 1, size)), np.ones((1, 1, 3))).shape == (1, 1, size - 2)
        assert 1 <= len(dispatch._plans) <= 8
        assert konvlib.conv1d(torch.ones(1, 1, size), torch.ones(1, 1, 3)).shape == (1, 1, size - 2)
        assert 1 <= len(dispatch._plans) <= 8


@pytest.mark.parametrize("other", ["dtype", "kind", "layout"])
def test_what_is_found_good_is_found_good_for_equal_tensors_alone(other):
    """A call that was right does not let one through that is not."""
    x, w = torch.ones(1, 2, 10), torch.ones(4, 2, 3)
    for _ in range(2):
        konvlib.conv1d(x, w)
        wrong = {"dtype": x.double(), "kind": x.numpy(), "layout": x.to_sparse()}[other]
        with pytest.raises(TypeError):
            konvlib.conv1d(wrong, w)


def test_no_tensor_of_a_caller_is_held():
    def call():
        x, w = torch.randn(1, 2, 10), torch.randn(4, 2, 3)
        kappa, layer = torch.randn(4, 3, 2, 3), konvlib.Konv1d(2, 4, 3, padding=1)
        y = konvlib.conv1d(x, w, padding=1), konvlib.konv1d(x, kappa, padding=1), layer(x), konvlib.max_pool1d(x, 2)
        return [weakref.ref(tensor) for tensor in (x, w, kappa, layer.kappa, *y)]

    held = [call() for _ in range(2)]
    gc.collect()
    assert not [ref for refs in held for ref in refs if ref() is not None]


def test_threads_may_call_at_once(monkeypatch):
    """Also while all that is remembered is being forgotten."""
    monkeypatch.setattr(dispatch, "MOST_PLANS", 4)
    sizes = [3 + n % 17 for n in range(600)]
    expected = {size: konvlib.conv1d(X[:, :1, :1].repeat(size, 2) + 1, W[:1, :1]) for size in set(sizes)}

    def right(size):
        x = X[:, :1, :1].repeat(size, 2) + 1
        y = konvlib.conv1d(torch.from_numpy(x), torch.from_numpy(W[:1, :1].copy())).numpy()
        return np.array_equal(y, expected[size]) and np.array_equal(konvlib.conv1d(x, W[:1, :1]), expected[size])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, sizes))
