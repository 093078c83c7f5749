"""Integers of every function: narrow ones, those beyond all sizes, what is none, and which argument is named."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from scipy import sparse

import konvlib
from konvlib import geometry
from konvlib.geometry import memory
from tests.engine import fuzz, garbage

INTEGERS = (
    *("stride", "dilation", "padding", "kernel_size", "groups", "output_padding", "degree", "step", "axes"),
    *("stride1", "dilation1", "dilation2", "groups1", "groups2", "in_channels", "out_channels"),
)
SIZES = ("input_size", "output_size", "size", "shape", "input_shape")
COUNTS = [
    (target, name)
    for target in fuzz.targets()
    for name in target.good
    if name
    in (*INTEGERS, *SIZES, "stride1", "dilation1", "dilation2", "groups1", "groups2", "in_channels", "out_channels")
    or (name in ("kernel", "n", "m") and "geometry" in target.call)
]
"""Every integer of every function."""


@pytest.mark.parametrize(("target", "name"), COUNTS, ids=fuzz.named(COUNTS))
def test_integers_that_are_none_or_beyond_all_sizes(target, name):
    """Each at once: the whole takes less than a second of the processor's time, as the fuzz test has it."""
    memory.machine_memory.cache_clear()
    for value in ("2**62", "2**63", "np.uint64(2**64 - 1)", "10**30", "10**400", "(2**63,) * 3", "np.timedelta64(2)"):
        for options in ({}, {"stride": "1"} if "stride" in target.good and name != "stride" else {}):
            call = target.filled(target.good | options | {name: value})
            assert fuzz.fault(call, [name]) is None, call
            fuzz.refused(call)
    for value in ("np.timedelta64(2)", "np.array([2], 'm8[s]')", "True", "np.bool_(True)", "(True,) * 3", "2.0"):
        call = target.filled(target.good | {name: value})
        assert fuzz.fault(call, [name]) is None, call
        fuzz.refused(call)


NARROW = [
    (target, name) for target, name in COUNTS if name not in ("input_shape", "axes") and "Lazy" not in target.call
]


@pytest.mark.parametrize(("target", "name"), NARROW, ids=fuzz.named(NARROW))
def test_narrow_integers_of_numpy_are_integers(target, name):
    """They give what Python's give, also where what is made of them would not fit their own dtype."""

    def result(value):
        made = eval(target.filled(target.good | {name: value}), dict(garbage.NAMESPACE))
        return [getattr(made, "kappa", made)] if not isinstance(made, tuple) else list(made)

    good = target.good[name] if target.good[name] != "None" else "2"
    if name == "output_size" and target.good[name] == "None":
        shape = result("None")[0].shape
        good = str(shape if "overlap" in target.call else shape[2:])
    for dtype in ("int8", "uint8", "uint64"):
        narrow = re.sub(r"\d+", rf"np.{dtype}(\g<0>)", good)
        for have, want in zip(result(narrow), result(good), strict=True):
            if isinstance(want, torch.Tensor):
                assert have.shape == want.shape
            elif sparse.issparse(want):
                assert (have != want).nnz == 0
            else:
                assert np.array_equal(have, want)


def test_what_is_made_of_narrow_integers_does_not_wrap():
    """Each of these was another number in 8 bits."""
    x, w, kappa = np.ones((1, 200, 400)), np.ones((200, 2, 3)), np.ones((200, 3, 2, 3))
    groups, wide, narrow = np.uint8(100), 100, np.uint8(130)
    assert np.array_equal(konvlib.conv1d(x, w, groups=groups), konvlib.conv1d(x, w, groups=wide))
    assert np.array_equal(konvlib.konv1d(x, kappa, groups=groups), konvlib.konv1d(x, kappa, groups=wide))
    for options in (
        {"dilation": narrow},
        {"stride": narrow},
        {"padding": np.int8(127)},
        {"padding": [(np.int8(127), 0)]},
    ):
        plain = {name: int(value) if np.ndim(value) == 0 else [(127, 0)] for name, value in options.items()}
        assert np.array_equal(konvlib.conv1d(x, w, groups=100, **options), konvlib.conv1d(x, w, groups=100, **plain))
    assert len(konvlib.dilate([1, 2, 3], narrow)) == 261
    assert len(konvlib.compose([1, 2, 3], [1, 2, 3], stride1=narrow)) == 263
    assert konvlib.insert_zeros(np.ones((1, 1, 3)), narrow).shape == (1, 1, 261)
    assert konvlib.overlap_counts(np.uint8(200), np.uint8(3), stride=np.uint8(2)).shape == (401,)
    assert konvlib.bases.coefficients("monomial", np.uint8(2)).shape == (3, 3)
    layer = konvlib.Konv1d(np.uint8(200), np.uint8(200), np.uint8(3), degree=np.uint8(2), groups=groups)
    assert {type(value) for value in (layer.in_channels, layer.out_channels, layer.groups, layer.degree)} == {int}
    assert geometry.pool_size(300, np.uint8(200), stride=np.uint8(2), dilation=np.uint8(1)) == 51
    assert geometry.conv_transpose_size(np.uint8(200), np.uint8(3), stride=np.uint8(2)) == 401


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("conv1d(X, W, stride=2**63)", "stride must be at most 2147483647, got 9223372036854775808"),
        ("conv1d(X, W, padding=2**63)", "padding must be at most 2147483647, got 9223372036854775808"),
        ("conv1d(X, W, padding=[(0, 2**40)])", "padding[0] after must be at most 2147483647, got 1099511627776"),
        ("max_pool1d(X, 2**62)", "kernel_size must be at most 2147483647, got 4611686018427387904"),
        ("max_pool1d(X, 2**62, ceil_mode=True)", "kernel_size must be at most 2147483647, got 4611686018427387904"),
        (
            "factor([1, 2, 2, 4], step=np.uint64(2**64 - 1))",
            "step must be at most 2147483647, got 18446744073709551615",
        ),
        ("conv1d(X, W, stride=np.timedelta64(2))", "stride must be an integer, got np.timedelta64(2)"),
        ("conv1d(X, W, groups=10**5000)", "groups must be at most 281474976710655, got an integer of 16610 bits"),
        (
            "conv1d_input_grad(X, W, input_size=2**63)",
            "input_size must be at most 281474976710655, got 9223372036854775808",
        ),
        ("overlap_counts(2**40, 3)", "size, kernel_size, stride, padding, output_padding, dilation must leave"),
        (
            "conv1d(X, W, padding=2**31 - 1)",
            "x, w, bias, stride, padding, dilation must leave arrays that fit in memory",
        ),
        (
            "conv_transpose1d(X2, W, stride=2**31 - 1)",
            "x, w, bias, stride, padding, output_padding, output_size, dilation must leave",
        ),
        ("dilate([1, 2, 3], 2**31 - 1)", "step must leave arrays that fit in memory"),
        ("compose([1, 2, 3], [1, 2, 3], stride1=2**31 - 1)", "w1, w2, stride1, dilation1, dilation2 must leave"),
        ("compose_chain([([1, 2], 2**31 - 1), ([1, 2, 3],)])", "layers[0].weight, "),
        ("circulant_singular_values(W, 2**40)", "shape must leave arrays that fit in memory"),
        ("im2col(X, 1, padding=2**31 - 1)", "x, kernel_size, stride, padding, dilation must leave arrays"),
        ("conv_matrix(W, (1, 2**31))", "w, input_shape, stride, padding, dilation must leave arrays"),
        ("bases.values('legendre', 1.0, 2**40)", "degree must be at most 65536, got 1099511627776"),
        ("convolve(np.ones((2**17, 1, 1)), np.ones((2**17, 9)))", "f, g must leave arrays that fit in memory"),
        ("Konv1d(2**30, 2**30, 3)", "in_channels, out_channels, kernel_size, degree must leave arrays"),
    ],
)
def test_sizes_beyond_all_memory_are_refused_by_name(call, message, monkeypatch):
    given = {"X": np.ones((1, 1, 5)), "X2": np.ones((1, 1, 9)), "W": np.ones((1, 1, 3))}
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**34)
    assert str(fuzz.refused(f"konvlib.{call}", **given)).startswith(message)
    if "Konv1d" not in call and "bases" not in call:
        tensors = {name: torch.from_numpy(value) for name, value in given.items()}
        assert str(fuzz.refused(f"konvlib.{call}", **tensors)).startswith(message)


def test_steps_beyond_the_input_are_as_good_as_its_size():
    x, w = np.arange(20.0).reshape(1, 1, 20), np.ones((1, 1, 3))
    for step in (20, 10**6, 2**31 - 1):
        for make in (np.asarray, torch.from_numpy):
            assert np.array_equal(konvlib.conv1d(make(x), make(w), stride=step), [[[3]]])
            assert np.array_equal(konvlib.max_pool1d(make(x), 3, stride=step), [[[2]]])
            assert np.array_equal(konvlib.conv_transpose1d(make(x[..., :1]), make(w), stride=step), [[[0, 0, 0]]])
            assert konvlib.konv1d(make(x), make(w[:, None]), stride=step).shape == (1, 1, 1)
            assert konvlib.im2col(make(x), 3, stride=step).shape == (1, 3, 1)
        assert konvlib.factor([1, 2, 2, 4], step=step) is None
        assert konvlib.factor([1, 2, 2, 4], step=step, same=False) is None
        assert konvlib.factor([4], step=step)[0].tolist() == [2]


def test_memory_is_this_machines():
    assert 2**20 < memory.machine_memory() <= memory.MOST_BYTES


# The argument that is named


X, W, DY = np.ones((1, 2, 9)), np.ones((4, 2, 3)), np.ones((1, 4, 7))


@pytest.mark.parametrize(
    ("names", "call"),
    [
        (["dilation"], lambda: konvlib.conv1d(X, W, dilation=6)),
        (["dilation"], lambda: konvlib.max_pool1d(X, 3, dilation=6)),
        (["kernel_size"], lambda: konvlib.conv1d(X[..., :2], W)),
        (["stride", "padding", "dilation"], lambda: konvlib.conv1d_input_grad(DY, W, input_size=9, stride=2)),
        (["stride", "padding", "dilation"], lambda: konvlib.conv1d_weight_grad(X, DY, kernel_size=3, stride=2)),
        (["kernel_size"], lambda: konvlib.conv1d_weight_grad(X, DY, kernel_size=4)),
        (["input_size"], lambda: konvlib.conv1d_input_grad(DY, W, input_size=8)),
        (["stride", "ceil_mode"], lambda: konvlib.max_pool1d_grad(X, DY[:, :2], 3, stride=2)),
        (["stride", "input_size"], lambda: konvlib.avg_pool1d_grad(DY[:, :2], 3, input_size=9, stride=2)),
        (["stride"], lambda: konvlib.konv1d_input_grad(DY, X, W[:, None], stride=2)),
        (["w", "bias"], lambda: konvlib.conv1d(X, W[:1], np.ones(4))),
        (["kappa", "bias"], lambda: konvlib.konv1d(X, W[:1, None], np.ones(4))),
        (["w", "groups"], lambda: konvlib.conv1d(X, W, groups=2)),
        (["w", "groups", "bias"], lambda: konvlib.conv_transpose1d(DY, W, np.ones(2), groups=2)),
        (["out_channels"], lambda: konvlib.LazyKonv2d(None, 3)),
        (["in_channels"], lambda: konvlib.Konv2d(None, 4, 3)),
        (["bias"], lambda: konvlib.Konv2d(2, 4, 3, bias=torch.tensor([1, 1]))),
        (["x"], lambda: konvlib.max_pool1d_grad(1j * X, DY[:, :2], 3)),
        (["x"], lambda: konvlib.max_pool1d_grad((1j * X).astype(object), DY[:, :2], 3)),
        (["source"], lambda: konvlib.bases.change_of_basis("none", "legendre", 2)),
    ],
)
def test_the_argument_that_is_wrong_is_named(names, call):
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    for name in names:
        assert re.search(rf"(?<!\w){name}(?!\w)", str(raised.value)), (name, str(raised.value))


@pytest.mark.parametrize("name", ["mode", "method"])
@pytest.mark.parametrize("value", [np.array([1.0, 2]), ["full"], None, 3, np.array("auto"), b"full", ["auto"]])
def test_modes_are_strings_on_the_quick_path_too(name, value):
    for function in (konvlib.convolve, konvlib.correlate):
        with pytest.raises(TypeError, match=f"^{name} must be one of "):
            function(np.ones(3), np.ones(2), **{name: value})
    assert np.array_equal(
        konvlib.convolve(np.ones(3), np.ones(2), mode=np.str_("valid"), method=np.str_("auto")), [2, 2]
    )


def test_errors_are_short_and_shown_whatever_was_given():
    for value, told in [
        (garbage.Unprintable(), "an object of type Unprintable"),
        ("x" * 10**6, "..."),
        ([1] * 10**6, "..."),
        (np.ones((500, 500)), "..."),
    ]:
        with pytest.raises((TypeError, ValueError), match=r"^stride must be ") as raised:
            konvlib.conv1d(X, W, stride=value)
        assert told in str(raised.value)
        assert len(str(raised.value)) < 400
        assert "\n" not in str(raised.value)
