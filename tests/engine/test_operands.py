"""What every function refuses in the place of an operand, and what it takes: the same in all of them."""

from __future__ import annotations

import re
from array import array
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

import konvlib
from konvlib.geometry import operands
from tests.engine import fuzz

TARGETS = [target for target in fuzz.targets() if "geometry." not in target.call and "receptive" not in target.call]
HOLES = [
    (target, name)
    for target in TARGETS
    for name, value in target.good.items()
    if value.startswith("np.ones") and "compose_chain" not in target.call
]
"""Every operand of every public function on arrays."""


def with_operand(target: fuzz.Target, name: str, expression: str) -> str:
    return target.filled(target.good | {name: expression.replace("@", target.good[name])})


@pytest.mark.parametrize(("target", "name"), HOLES, ids=fuzz.named(HOLES))
def test_operands_that_are_no_arrays_of_numbers(target, name):
    ours = f"{name} must be an array, a number, or nested lists of numbers"
    rows = [
        ("np.ma.array(@)", f"{name} must be an array without a mask, got a masked array; fill it first, as with "),
        ("np.ma.masked_equal(@, 1)", f"{name} must be an array without a mask"),
        ("[np.ma.array(@)]", f"{name} must be an array without a mask"),
        ("[np.ma.masked, 1.0]", f"{name} must be an array without a mask"),
        (
            "sparse.csr_array(np.eye(3))",
            f"{name} must be an array, a number, or nested lists of numbers, got csr_array; ",
        ),
        ("[sparse.coo_array(np.eye(3))]", f"{name} must hold numbers, got a list with coo_array"),
        ("@.view(Quantity)", f"{name} must be an array of plain numbers, got Quantity with a unit"),
        ("Labelled()", f"{ours}, got Labelled; give {name}.to_numpy()"),
        ("[Labelled()]", f"{name} must hold numbers, got a list with Labelled"),
        ("np.full(@.shape, 'a', object)", f"{name} must hold numbers, got 'a' in an array of Python objects"),
        ("np.full(@.shape, None)", f"{name} must hold numbers, got None in an array of Python objects"),
        ("np.full(@.shape, {}, object)", f"{name} must hold numbers, got dict in an array of Python objects"),
        ("np.full(@.shape, {1}, object)", f"{name} must hold numbers, got set in an array of Python objects"),
        ("np.full(@.shape, datetime.date(2026, 1, 1), object)", f"{name} must hold numbers, got date in an array"),
        ("np.full(@.shape, datetime.timedelta(1), object)", f"{name} must hold numbers, got datetime.timedelta"),
        ("[np.timedelta64(1)]", f"{name} must hold numbers, got dtype timedelta64"),
        ("@.astype('m8[s]')", f"{name} must hold numbers, got dtype timedelta64[s]"),
        ("@.astype('M8[s]')", f"{name} must hold numbers, got dtype datetime64[s]"),
        ("[None, 1]", f"{name} must hold numbers, got a list with None"),
        ("[[{}]]", f"{name} must hold numbers, got a list with dict"),
        ("{1: 2}", f"{ours}, got dict"),
        ("{1, 2}", f"{ours}, got set"),
        ("b'ab'", f"{ours}, got bytes"),
        ("(n for n in [1])", f"{ours}, got generator"),
        ("[torch.ones(2)]", f"{name} must hold numbers, got a list with Tensor"),
    ]
    if name != "bias":
        rows.append(("None", f"{ours}, got None"))
    for expression, message in rows:
        if "object" in expression and ("conv_matrix" in target.call or "circulant" in target.call):
            continue  # these refuse all Python objects
        error = fuzz.refused(with_operand(target, name, expression))
        assert isinstance(error, TypeError)
        assert str(error).startswith(message), expression


TENSOR_HOLES = [
    (target, name) for target, name in HOLES if ".bases." not in target.call and "__" not in name and name != "bias"
]


@pytest.mark.parametrize(
    ("target", "name"), TENSOR_HOLES, ids=[f"{t.call.partition('(')[0]}:{n}" for t, n in TENSOR_HOLES]
)
def test_operands_that_are_no_tensors_of_numbers(target, name):
    good = {each: fuzz.of_tensors(value) for each, value in target.good.items()}
    if good[name].count(",") < 5:
        call = target.filled(good | {name: f"{good[name]}.to_mkldnn()"})
        assert str(fuzz.refused(call)).startswith(
            f"{name} must be a dense tensor, got layout torch._mkldnn; convert it"
        )
    alone = sum(value.startswith("torch.ones") for value in good.values()) == 1
    whole = f"{name} must be a dense tensor"
    rows = [
        ("@.to_sparse()", TypeError, f"{name} must be a dense tensor, got layout torch.sparse_coo; convert it"),
        (
            "torch.nested.nested_tensor([@[0]])",
            TypeError,
            f"{whole}, got a nested one",
        ),
        (
            "nn.UninitializedParameter()",
            TypeError,
            f"{whole}, got an uninitialised parameter",
        ),
    ]
    if not alone:
        like = rf"{name} must be a torch tensor like the other operands?, got "
        rows += [
            ("None", TypeError, f"{like}None"),
            ("@.numpy()", TypeError, f"{like}ndarray"),
            ("[1]", TypeError, like),
        ]
    for expression, kind, message in rows:
        error = fuzz.refused(target.filled(good | {name: expression.replace("@", good[name])}))
        assert type(error) is kind
        assert re.match(message.replace("(", r"\("), str(error)), (expression, str(error))


def test_complex_and_quantised_tensors_are_told_what_to_do():
    x = torch.ones(1, 1, 3)
    with pytest.raises(
        TypeError, match=r"got torch.complex64; give its real and its imaginary part, x.real and x.imag"
    ):
        konvlib.conv1d(x.to(torch.complex64), x.to(torch.complex64))
    with pytest.raises(TypeError, match=r"got torch.qint8; convert it, as with x.dequantize\(\)"):
        konvlib.max_pool1d(torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), 2)


def test_what_is_an_array_of_numbers():
    third = Fraction(1, 3)
    for value, dtype in [
        (3, "i8"), (3.5, "f8"), (1j, "c16"), (True, "?"), (third, "O"), (Decimal("1.5"), "O"), (np.float16(2), "f2"),
        ([1, 2], "i8"), ((1, 2.5), "f8"), ([True, False], "?"), ([[1], [2]], "i8"), ([np.int8(1), np.int8(2)], "i1"),
        ([np.int8(1), 2], "i8"), ([third, 1], "O"), (range(3), "i8"), (range(5, -5, -3), "i8"), (range(0), "i8"),
        (array("f", [1, 2]), "f4"), (memoryview(np.ones((2, 3), "f4")), "f4"), (np.matrix([[1, 2]]), "i8"),
        (np.ones(2, ">f4"), "f4"), (np.ones(2, ">i2"), "i2"), (np.array([np.int8(1), 2.5, third], object), "O"),
        ([np.ones(2), [1, 2]], "f8"), (np.ones(3)[::-1], "f8"), ([], "f8"), ([[]], "f8"),
    ]:  # fmt: skip
        made = operands.as_array(value, "x")
        assert made.dtype == np.dtype(dtype), value
        assert type(made) is np.ndarray
        assert made.dtype.isnative
        expected = np.array(list(value) if isinstance(value, range) else value)
        assert np.array_equal(made, expected)


class Ring:
    """A number of somebody else's."""

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        return Ring(self.value + getattr(other, "value", other))

    def __mul__(self, other):
        return Ring(self.value * other.value)

    __radd__ = __add__


def test_other_peoples_numbers_are_numbers():
    y = konvlib.convolve(np.array([Ring(1), Ring(3)]), np.array([Ring(2), Ring(5)]))
    assert [each.value for each in y] == [2, 11, 15]
    assert konvlib.convolve([Decimal("1.5"), 2], [2, 4]).tolist() == [Decimal("3.0"), Decimal("10.0"), 8]


@pytest.mark.parametrize("other", [[0.5], [1j], [Fraction(1, 2)], np.array([0.5], "f4"), [2.0, Decimal(1)]])
def test_decimal_fractions_go_with_integers_only(other):
    with pytest.raises(TypeError, match=r"^(f|g) and (f|g) must hold numbers that multiply, got Decimal and "):
        konvlib.convolve([Decimal(1)], other)


def test_integers_beyond_floats_meet_none():
    assert konvlib.convolve([10**400], [10**400]) == [10**800]
    with pytest.raises(ValueError, match=r"^f must hold numbers that fit floats"):
        konvlib.convolve([10**400], [0.5])
    with pytest.raises(ValueError, match=r"^x must hold numbers that fit floats"):
        konvlib.avg_pool1d([[[10**400, 1]]], 2)


def test_integers_in_lists_are_exact_on_every_machine(monkeypatch):
    """As int64, also where NumPy's default is int32, or as Python's own where int64 does not hold them."""
    numbers = [
        ([2**20], np.int64), ([2**31, -1], np.int64), ([2**63 - 1], np.int64), (2**20, np.int64),
        ([2**63], object), ([2**63, -1], object), ([2**64], object), ([[2**63], [0]], object), (2**63, object),
        ([True, 2], np.int64), ([True, 2**63], object), ([np.int16(1), 2], np.int64), ([np.int16(1)], np.int16),
    ]  # fmt: skip
    plain = np.array

    def narrow(value, dtype=None, **options):
        made = plain(value, dtype=dtype, **options)
        fits = made.dtype == np.int64 and np.array_equal(made, made.astype(np.int32)) and not hasattr(value, "dtype")
        return made.astype(np.int32) if dtype is None and fits else made

    for _ in range(2):
        for value, dtype in numbers:
            made = operands.as_array(value, "x")
            assert made.dtype == dtype, value
            assert made.tolist() == value
        assert konvlib.convolve([2**20], [2**20]) == [2**40]
        assert konvlib.convolve([2**63], [2]) == [2**64]
        assert konvlib.convolve([2**63, -1], [1]).tolist() == [2**63, -1]
        assert konvlib.conv1d([[[2**20]]], [[[2**20]]], [2**20])[0, 0] == [2**40 + 2**20]
        monkeypatch.setattr(operands.np, "array", narrow)
