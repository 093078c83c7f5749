"""The polynomial bases: values, derivatives and coefficients against NumPy and SciPy, changes of basis exactly.

A test whose only argument is ``subject`` runs on the module, and against each mistake of MUTANTS in a copy of it.
"""

from __future__ import annotations

import inspect
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev, hermite_e, legendre, polynomial
from scipy import special

import konvlib
from konvlib.konvolution import bases
from tests.engine import added_bases, boxes
from tests.engine.mistakes import assert_refused
from tests.engine.oracles import konvolution as oracles
from tests.engine.test_mutants import mutate, passes

NAMES = oracles.BASES
VALUES = {
    "monomial": lambda n, x: polynomial.polyval(x, np.eye(n + 1)[n]),
    "chebyshev": lambda n, x: chebyshev.chebval(x, np.eye(n + 1)[n]),
    "chebyshev2": special.eval_chebyu,
    "legendre": lambda n, x: legendre.legval(x, np.eye(n + 1)[n]),
    "hermite": lambda n, x: hermite_e.hermeval(x, np.eye(n + 1)[n]),
}
CLOSED = {
    "monomial": lambda n, t: t**n,
    "chebyshev": lambda n, t: np.cos(n * np.arccos(t)),
    "chebyshev2": lambda n, t: np.sin((n + 1) * np.arccos(t)) / np.sin(np.arccos(t)),
    "legendre": special.eval_legendre,
    "hermite": special.eval_hermitenorm,
}
INTEGERS = np.arange(-6, 7).reshape(1, 13)
WHOLE = [name for name in NAMES if name != "legendre"]


@pytest.fixture
def subject():
    return bases


def fractions(*numerators, over=1):
    return np.array([Fraction(numerator, over) for numerator in numerators], dtype=object)


def test_values_at_integers_as_numpy_and_scipy(subject):
    """Exactly: doubles hold all of them, Legendre's too, which are multiples of 2^-n; NumPy's of these are rounded."""
    for name in NAMES:
        p = subject.values(name, INTEGERS, 6)
        assert p.shape == (7, 1, 13)
        assert p.dtype == (np.int64 if name in WHOLE else np.float64)
        for n in range(7):
            assert (p[n] * 2**n == np.round(VALUES[name](n, INTEGERS.astype(float)) * 2**n)).all()


def test_values_inside_the_domain_as_their_closed_forms(subject):
    """To degree 8 a recurrence adds few roundings of numbers of the size of the largest, in each dtype."""
    t = np.linspace(-0.99, 0.99, 101)
    for name, dtype in product(NAMES, (np.float32, np.float64)):
        p = subject.values(name, t.astype(dtype), 8)
        assert p.dtype == dtype
        for n in range(9):
            exact = CLOSED[name](n, t.astype(dtype).astype(float))
            assert np.abs(p[n] - exact).max() <= 64 * np.finfo(dtype).eps * np.abs(p).max()


def test_values_in_fractions_as_the_coefficients_say(subject):
    x = fractions(-5, 2, 0, 7, over=3)
    for name in NAMES:
        rows = subject.coefficients(name, 7)
        assert (rows @ np.stack([x**k for k in range(8)]) == subject.values(name, x, 7)).all()


def test_coefficients_as_numpy(subject):
    for name in NAMES:
        rows = subject.coefficients(name, 6)
        assert all(isinstance(entry, Fraction) for entry in rows.ravel())
        for n, row in enumerate(rows):
            expected = oracles.powers(name, n)
            assert row[: n + 1].astype(float).tolist() == expected.tolist()
            assert not row[n + 1 :].any()
            assert row[n] != 0


def test_derivatives_are_those_of_the_coefficients(subject):
    x = fractions(-5, 2, 0, 7, over=3)
    for name in NAMES:
        rows = subject.coefficients(name, 7)
        slopes = sum(np.multiply.outer(rows[:, k], k * x ** (k - 1)) for k in range(1, 8))
        assert (subject.derivatives(name, x, 7) == slopes).all()


def test_derivatives_at_integers_as_torchs_autograd(subject):
    for name in NAMES:
        x = torch.tensor(INTEGERS, dtype=torch.float64, requires_grad=True)
        slopes = subject.derivatives(name, INTEGERS, 5)
        for n in range(6):
            y = oracles.evaluate(name, n, x) + 0 * x
            assert (slopes[n] == torch.autograd.grad(y.sum(), x)[0].numpy()).all()


def test_derivatives_at_the_ends_of_the_domain(subject):
    """Where arccos has none: T_n'(1) = n^2, in half precision too."""
    n = np.arange(9)
    for dtype in (np.float16, np.float32, np.float64):
        slopes = subject.derivatives("chebyshev", np.array([1, -1], dtype), 8)
        assert slopes.dtype == dtype
        assert (slopes[:, 0] == n**2).all()
        assert (slopes[:, 1] == -((-1) ** n) * n**2).all()
        assert np.isfinite(subject.values("chebyshev", np.array([1, -1], dtype), 100)).all()


def test_the_known_derivatives_of_each_basis(subject):
    """T_n' = n U_{n-1} and He_n' = n He_{n-1}, by degree at all integers of a range."""
    n = np.arange(1, 7)[:, np.newaxis, np.newaxis]
    for name, other in (("chebyshev", "chebyshev2"), ("hermite", "hermite")):
        assert (subject.derivatives(name, INTEGERS, 6)[1:] == n * subject.values(other, INTEGERS, 5)).all()


def test_bases_are_orthogonal_on_their_domain(subject):
    """By quadrature that is exact up to the degree of the products, with each basis's weight."""
    rules = {
        "chebyshev": chebyshev.chebgauss(9),
        "chebyshev2": special.roots_chebyu(9),
        "legendre": legendre.leggauss(9),
        "hermite": hermite_e.hermegauss(9),
    }
    for name, (nodes, weights) in rules.items():
        p = subject.values(name, nodes, 8)
        gram = (p * weights) @ p.T
        size = np.sqrt(np.diag(gram))
        assert np.abs(gram / np.outer(size, size) - np.eye(9)).max() < 1e-12


def test_a_change_of_basis_keeps_the_function(subject):
    """Exactly, for all 25 pairs."""
    x, kappa = fractions(-5, 2, 0, 7, over=3), fractions(3, -1, 4, 1, -5, 9)
    for source, target in product(NAMES, repeat=2):
        matrix = subject.change_of_basis(source, target, 5)
        assert (matrix == np.triu(matrix)).all()
        assert (kappa @ subject.values(source, x, 5) == (matrix @ kappa) @ subject.values(target, x, 5)).all()


def test_changes_of_basis_compose(subject):
    for first, second, third in product(NAMES, repeat=3):
        matrices = [subject.change_of_basis(*pair, 4) for pair in ((second, third), (first, second), (first, third))]
        assert (matrices[0] @ matrices[1] == matrices[2]).all()
    for name in NAMES:
        assert (subject.change_of_basis(name, name, 4) == np.eye(5, dtype=int)).all()


def test_changes_of_basis_as_numpy(subject):
    for name, module, method in (
        ("chebyshev", chebyshev, "cheb2poly"),
        ("legendre", legendre, "leg2poly"),
        ("hermite", hermite_e, "herme2poly"),
    ):
        kappa = np.array([3, -1, 4, 1, -5])
        to_powers = subject.change_of_basis(name, "monomial", 4) @ kappa
        assert to_powers.astype(float).tolist() == getattr(module, method)(kappa).tolist()


def test_kappa_is_converted_along_its_degrees(subject):
    """All axes of different lengths; in dtypes that come back."""
    kappa = boxes.integers(2, 4, 3, 5, 1)
    t = fractions(2, over=7)[0]
    for source, target in product(NAMES, repeat=2):
        converted = subject.convert(kappa.astype(object), source, target)
        assert converted.shape == kappa.shape
        before = np.tensordot(kappa.astype(object), subject.values(source, t, 3), (1, 0))
        assert (np.tensordot(converted, subject.values(target, t, 3), (1, 0)) == before).all()
        last = subject.convert(np.moveaxis(kappa, 1, 4).astype(object), source, target, axis=4)
        assert (np.moveaxis(last, 4, 1) == converted).all()
    for dtype, wanted in ((np.int8, np.float64), (np.float32, np.float32), (np.complex64, np.complex64)):
        assert subject.convert(kappa.astype(dtype), "legendre", "hermite").dtype == wanted


def test_the_expanded_channels_are_in_the_stated_order(subject):
    x = boxes.integers(2, 4, 3, 5)
    for name, groups in product(NAMES, (1, 2, 4)):
        expected = oracles.expand(name, boxes.tensor(x), 3, groups).numpy()
        expanded = subject.expand(name, x, 3, groups=groups)
        assert expanded.shape == (2, 16, 3, 5)
        assert (expanded == expected).all()
    p = subject.values("legendre", x, 3)
    for delta, c in product(range(4), range(4)):
        assert (subject.expand("legendre", x, 3)[:, delta * 4 + c] == p[delta, :, c]).all()


def test_the_expanded_input_by_an_ordinary_convolution(subject):
    """The weight is kappa, reshaped; groups are those of the Konvolution."""
    for groups, pad, count in product((1, 2), oracles.PADS, (1, 2)):
        x, kappa = boxes.integers(2, 4, *(6, 5)[:count]), boxes.integers(6, 4, 4 // groups, *(2, 3)[:count], seed=1)
        given, inside = {"stride": 2, "groups": groups}, {"padding": 1}
        if pad == "input":
            x, inside = np.pad(x, ((0, 0), (0, 0), *[(1, 1)] * count)), {}
        weight = kappa.reshape(6, -1, *kappa.shape[3:])
        expanded = subject.expand("hermite", x, 3, groups=groups)
        conv, konv = (getattr(konvlib, f"{name}{count}d") for name in ("conv", "konv"))
        assert (conv(expanded, weight, **given, **inside) == konv(x, kappa, basis="hermite", **given, **inside)).all()


def test_condition_numbers(subject):
    """At Chebyshev's own nodes the columns are orthogonal, one of them longer by the root of 2; powers are worse."""
    nodes = chebyshev.chebpts1(50)
    for degree, powers in ((1, 1.4), (3, 8), (8, 600)):
        assert abs(subject.condition_number("chebyshev", nodes, degree) - np.sqrt(2)) < 1e-12
        assert subject.condition_number("monomial", nodes, degree) > powers
    x = np.random.default_rng(0).normal(size=(10, 20))
    numbers = {name: subject.condition_number(name, x, 5) for name in NAMES}
    for name, number in numbers.items():
        matrix = np.stack([VALUES[name](n, x.ravel()) for n in range(6)], axis=1)
        assert abs(number / np.linalg.cond(matrix) - 1) < 1e-9
    assert subject.condition_number("legendre", [1, 2, 3], 0) == 1
    assert subject.condition_number("hermite", [1, 1, 1], 1) > 1e15


def test_integers_keep_their_dtype_and_wrap(subject):
    for kind in "bhilBHIL":
        x = np.array([3, 100], dtype=kind)
        p, slopes = subject.values("chebyshev", x, 4), subject.derivatives("chebyshev", x, 4)
        assert p.dtype == slopes.dtype == x.dtype
        exact = subject.values("chebyshev", x.astype(object), 4), subject.derivatives("chebyshev", x.astype(object), 4)
        for ours, wide in zip((p, slopes), exact, strict=True):
            assert (ours == wide.astype(np.int64).astype(kind)).all()
        assert subject.values("legendre", x, 3).dtype == np.float64
    assert subject.values("chebyshev2", np.array([True, False]), 3).tolist() == [[1, 1], [2, 0], [3, -1], [4, 0]]


def test_nan_and_infinity_pass_through(subject):
    """The constant does not look at the sample, nor does the slope of x; no power of infinity is NaN."""
    x = np.array([np.nan, np.inf, 2.0])
    for name in NAMES:
        with np.errstate(invalid="ignore"):
            p, slopes = subject.values(name, x, 3), subject.derivatives(name, x, 3)
        assert (np.isnan(p[:, 0]) == [False, True, True, True]).all()
        assert (np.isnan(slopes[:, 0]) == [False, False, True, True]).all()
        assert np.isfinite(p[:, 2]).all()
    assert (subject.values("monomial", x, 3)[1:, 1] == np.inf).all()


def test_scalars_lists_and_empty_samples(subject):
    assert subject.values("chebyshev", 2, 2).tolist() == [1, 2, 7]
    assert subject.values("chebyshev", [[2], [3]], 0).tolist() == [[[1], [1]]]
    assert subject.values("legendre", np.zeros((0, 3)), 2).shape == (3, 0, 3)
    half = subject.values("legendre", Fraction(1, 2), 2)
    assert half.tolist() == [1, Fraction(1, 2), Fraction(-1, 8)]
    assert all(isinstance(entry, (int, Fraction)) for entry in half)


def test_samples_are_not_written_to(subject):
    x = np.array([[2.0, 3.0]])
    p, slopes = subject.values("monomial", x, 3), subject.derivatives("monomial", x, 3)
    p += 1
    slopes += 1
    assert x.tolist() == [[2, 3]]


def test_a_basis_is_added_by_its_recurrence(monkeypatch):
    """Laguerre's, with a b_n other than 0; then every function here knows it."""
    added = added_bases.add_for_this_test(monkeypatch, "laguerre", added_bases.laguerre, (0, float("inf")))
    assert bases.get_basis("laguerre") is added
    x = np.linspace(0, 9, 31)
    p = bases.values("laguerre", x, 6)
    for n in range(7):
        assert np.allclose(p[n], special.eval_laguerre(n, x), rtol=1e-12, atol=1e-12)
    rows = bases.coefficients("laguerre", 6)
    slopes = bases.derivatives("laguerre", fractions(1, 5, over=3), 6)
    expected = sum(np.multiply.outer(rows[:, k], k * fractions(1, 5, over=3) ** (k - 1)) for k in range(1, 7))
    assert (slopes == expected).all()
    assert bases.values("laguerre", INTEGERS, 2).dtype == np.float64


ERRORS = [
    (ValueError, "basis must be one of {known}, got 'fourier'", lambda: bases.values("fourier", 1, 1)),
    (
        ValueError,
        "source must be one of {known}, got 'fourier'",
        lambda: bases.change_of_basis("fourier", "legendre", 1),
    ),
    (TypeError, "basis must be one of {known}, got None", lambda: bases.get_basis(None)),
    (ValueError, "degree must be at least 0, got -1", lambda: bases.values("legendre", 1, -1)),
    (ValueError, "degree must be at least 0, got -1", lambda: bases.derivatives("legendre", 1, -1)),
    (ValueError, "degree must be at least 0, got -1", lambda: bases.coefficients("legendre", -1)),
    (TypeError, "degree must be an integer, got 1.5", lambda: bases.condition_number("legendre", [1], 1.5)),
    (TypeError, "x must hold numbers, got dtype <U1", lambda: bases.values("legendre", "a", 1)),
    (
        ValueError,
        "x must have at least degree + 1 = 3 samples, got 2",
        lambda: bases.condition_number("legendre", [1, 2], 2),
    ),
    (ValueError, "x must have axes (N, C, *size), got shape (3,)", lambda: bases.expand("legendre", [1, 2, 3], 2)),
    (
        ValueError,
        "in_channels must be divisible by groups, got 3 channels in 2 groups",
        lambda: bases.expand("legendre", np.ones((1, 3, 4)), 2, groups=2),
    ),
    (ValueError, "axis must be one of the 1 of kappa, got 1", lambda: bases.convert([1, 2], "legendre", "hermite")),
    (
        ValueError,
        "kappa must have a degree on axis 1, got shape (2, 0)",
        lambda: bases.convert(np.ones((2, 0)), "legendre", "hermite"),
    ),
    (
        ValueError,
        "name must be new, got 'hermite'; there are {known}",
        lambda: bases.add_basis("hermite", lambda n: (1, 0, 0), (0, 1)),
    ),
    (TypeError, "name must be a string, got 3", lambda: bases.add_basis(3, lambda n: (1, 0, 0), (0, 1))),
    (TypeError, "recurrence must be a function of n, got (1, 0, 0)", lambda: bases.add_basis("new", (1, 0, 0), (0, 1))),
    (
        TypeError,
        "recurrence of basis 'new' must give integers or fractions (a_0, b_0, c_0), got (0.5, 0, 0)",
        lambda: bases.add_basis("new", lambda n: (0.5, 0, 0), (0, 1)),
    ),
    (
        ValueError,
        "recurrence of basis 'new' must have a_0 other than 0, got (0, 1, 0)",
        lambda: bases.add_basis("new", lambda n: (0, 1, 0), (0, 1)),
    ),
    (
        TypeError,
        "domain must be a pair (low, high) of numbers, got 1",
        lambda: bases.add_basis("new", lambda n: (1, 0, 0), 1),
    ),
    (
        ValueError,
        "domain must have low < high, got (1, 0)",
        lambda: bases.add_basis("new", lambda n: (1, 0, 0), (1, 0)),
    ),
]


@pytest.mark.parametrize(("kind", "message", "function"), ERRORS, ids=[message[:50] for _, message, _ in ERRORS])
def test_bad_input_is_refused_by_name(kind, message, function):
    assert_refused(kind, message.format(known=", ".join(NAMES)), function)
    assert tuple(bases.BASES) == NAMES


MUTANTS = [
    ("the recurrence's last term added", "following -= c * before", "following += c * before"),
    ("the recurrence's last term left out", "    if c and before is not None:", "    if False:"),
    ("the slope of a x left out", "slope = a * now[0]", "slope = now[0]"),
    ("the slope from this degree's value", "slope = a * now[0]", "slope = a * x * now[0]"),
    ("divided first", "slope = _divided(slope, divisor)", "slope = slope"),
    ("degree 0 is x", "(np.ones_like(x),", "(np.array(x),"),
    ("coefficients shifted the other way", "rows[n + 1, 1:] = a * rows[n, :-1]", "rows[n + 1, :-1] = a * rows[n, 1:]"),
    ("two steps back counted from this one", "rows[n + 1] -= c * rows[n - 1]", "rows[n + 1] -= c * rows[n]"),
    (
        "source and target swapped",
        "coefficients(source, degree), coefficients(target,",
        "coefficients(target, degree), coefficients(source,",
    ),
    ("the matrix's rows taken for its columns", "return matrix\n", "return matrix.T\n"),
    ("the transposed matrix", "(1, axis)), 0, axis)", "(0, axis)), 0, axis)"),
    ("converted along the first axis", "(1, axis)), 0, axis)", "(1, axis)), 0, 0)"),
    ("channel by channel, its degrees together", "np.moveaxis(p, 0, 2)", "np.moveaxis(p, 0, 3)"),
    (
        "all groups share an order",
        "x.reshape(batch, groups, channels // groups, *size)",
        "x.reshape(batch, 1, channels, *size)",
    ),
    ("integers rounded for Legendre", "return dtype if basis.integral else", "return dtype if True else"),
    (
        "the condition of the squared matrix",
        "x.reshape(-1), degree).T)",
        "x.reshape(-1), degree) @ values(basis, x.reshape(-1), degree).T)",
    ),
]


@pytest.mark.parametrize(("mistake", "old", "new"), MUTANTS, ids=[mistake for mistake, *_ in MUTANTS])
def test_the_mistake_is_caught(mistake, old, new, tmp_path):
    mutant = mutate("konvolution", "bases", old, new, tmp_path)
    assert not all(passes(lambda test=test: test(mutant)) for test in on_subject()), f"no test catches: {mistake}"


def test_the_unchanged_module_survives(tmp_path):
    same = "from __future__ import annotations"
    copy = mutate("konvolution", "bases", same, same, tmp_path)
    assert all(passes(lambda test=test: test(copy)) for test in on_subject())


def on_subject():
    tests = [function for name, function in globals().items() if name.startswith("test_")]
    return [test for test in tests if tuple(inspect.signature(test).parameters) == ("subject",)]
