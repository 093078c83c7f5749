"""The theorems of chapter 7, each label by name; more marks are in test_konvolution.py and its neighbours.

Identities are tested on integers and fractions, with ``==``, over a box of geometries, with every basis, degree and
padding in turn. Larger boxes are in the tests of the backends.

Oracles are `numpy.polynomial` by Horner's rule, the gather of `torch.nn.functional`, and the statements written out.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb, prod, sqrt

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev

from konvlib import konvolution
from konvlib.konvolution import Konv1d, Konv2d, bases
from konvlib.konvolution.bases import BASES
from tests.engine import backends, boxes
from tests.engine.oracles import konvolution as oracles

naive = backends.definition("konvolution")
images = backends.definition("images")

both_backends = pytest.mark.parametrize("backend", backends.exact("konvolution"))

F, KAPPA = np.array([1, 3, 2, 0, 4]), np.array([[0, -1, 3], [2, 1, -1], [-1, 1, 0]])
X = np.array([[1, 3, 2], [2, 0, 1], [0, 4, 2]])
KAPPA2 = np.array([[[0, 1], [2, 0]], [[2, 1], [0, 3]], [[0, -1], [1, 0]]])

GEOMETRIES = [
    axis
    for axis in boxes.ONE_AXIS
    if axis.fits and axis.size in (2, 5) and max(axis.kernel, axis.stride, axis.dilation) < 3 > axis.after + 1
]
BOX = (
    "one axis, sizes 2 and 5, kernels, strides, dilations 1 and 2, paddings 0 to 2 before and 0 to 1 after, with one "
    f"and two groups, degree 0 to 3, basis and padding in turn: {len(GEOMETRIES)} geometries"
)


def rows():
    """Each geometry with operands, and one of all choices of degree, basis and padding after the other."""
    for number, axis in enumerate(GEOMETRIES):
        degree, basis, pad = oracles.CHOICES[number * 7 % len(oracles.CHOICES)]
        channels = boxes.Channels(1, 2, 3) if number % 2 else boxes.Channels(2, 4, 2)
        x, kappa, bias, dy = oracles.operands((axis,), channels, degree)
        yield axis, x, kappa, bias, dy, boxes.options(axis) | {"groups": channels.groups, "basis": basis, "pad": pad}


def position(axis, i, u):
    return axis.stride * i + axis.dilation * u - axis.before


def windows(axis):
    """Each window and tap, with the position that it shows, and whether there is a sample."""
    for i, u in product(range(axis.windows), range(axis.kernel)):
        j = position(axis, i, u)
        yield i, u, j, 0 <= j < axis.size


def polynomial(basis, coefficients, t):
    """By Horner's rule, in powers that NumPy gives; exact at integers."""
    value = sum(c * np.pad(oracles.powers(basis, n), (0, len(coefficients))) [: len(coefficients)]
                for n, c in enumerate(coefficients))  # fmt: skip
    return np.polyval(value[::-1], t)


# The definition


@pytest.mark.verifies("def-konv", "eq-konv", "eq-konv-phi", box=BOX, exact=True)
@both_backends
def test_definition(backend):
    assert backend.konv1d(F[None, None], KAPPA[None, :, None], basis="monomial").tolist() == [[[13, 5, -2]]]
    y = backend.konv2d(X[None, None], KAPPA2[None, :, None], basis="monomial")
    assert y.tolist() == [[[[3, 10], [19, 25]]]]
    for axis, x, kappa, bias, _, options in rows():
        y = np.zeros((len(x), len(kappa), axis.windows)) + bias[:, None]
        depth, width = kappa.shape[2], len(kappa) // options["groups"]
        for (i, u, j, shown), b, o, c in product(windows(axis), range(len(x)), range(len(kappa)), range(depth)):
            if shown or options["pad"] == "input":
                sample = x[b, o // width * depth + c, j] if shown else 0
                y[b, o, i] += polynomial(options["basis"], kappa[o, :, c, u], sample)
        assert np.array_equal(backend.konv1d(x, kappa, bias, **options), y)


@pytest.mark.verifies("thm-absorb", "eq-expansion", box=BOX, exact=True)
@both_backends
def test_absorbed_into_a_convolution(backend):
    for _, x, kappa, bias, _, options in rows():
        basis, pad = options.pop("basis"), options.pop("pad")
        if pad == "input":
            continue
        groups, degree, depth = options["groups"], kappa.shape[1] - 1, kappa.shape[2]
        expanded = np.zeros((len(x), x.shape[1] * (degree + 1), x.shape[2]))
        for q, delta, c in product(range(groups), range(degree + 1), range(depth)):
            unit = np.eye(degree + 1)[delta]
            channel = q * (degree + 1) * depth + delta * depth + c  # one group: delta * C_in + c
            expanded[:, channel] = polynomial(basis, unit, x[:, q * depth + c])
        assert np.array_equal(bases.expand(basis, x, degree, groups=groups), expanded)
        layer = images.conv1d(expanded, kappa.reshape(len(kappa), -1, kappa.shape[-1]), bias, **options)
        assert np.array_equal(backend.konv1d(x, kappa, bias, basis=basis, **options), layer)


@pytest.mark.verifies("thm-degree-one", box=BOX + "; every basis", exact=True)
@both_backends
def test_degree_one_is_convolution(backend):
    for (_, x, _, bias, _, options), basis in product(rows(), BASES):
        w = boxes.integers(len(bias), x.shape[1] // options["groups"], 2, seed=5)
        geometry = {name: options[name] for name in ("stride", "padding", "dilation", "groups")}
        if x.shape[2] + sum(options["padding"][0]) < options["dilation"][0] + 1:
            continue
        kappa = np.stack([np.zeros_like(w), w], 1)
        y = backend.konv1d(x, kappa, bias, basis=basis, pad=options["pad"], **geometry)
        assert np.array_equal(y, images.conv1d(x, (2 if basis == "chebyshev2" else 1) * w, bias, **geometry))


@pytest.mark.verifies("thm-degree-one", box="float64 integers, Konv1d and Konv2d from torch's layers", exact=True)
def test_a_torch_layer_as_a_module():
    for kind, module, shape in ((torch.nn.Conv1d, Konv1d, (2, 4, 9)), (torch.nn.Conv2d, Konv2d, (2, 4, 6, 5))):
        conv = kind(4, 6, 2, stride=2, padding=1, groups=2).double()
        with torch.no_grad():
            for number, parameter in enumerate(conv.parameters()):
                parameter.copy_(boxes.tensor(boxes.integers(*parameter.shape, seed=number)))
            x = boxes.tensor(boxes.integers(*shape, seed=9))
            assert torch.equal(module.from_conv(conv)(x), conv(x))


@pytest.mark.verifies("cor-konv-degree-zero", box=BOX, exact=True)
@both_backends
def test_degree_zero_is_a_bias_map(backend):
    for axis, x, kappa, _, _, options in rows():
        constants = np.array(kappa)
        constants[:, 1:] = 0
        y = backend.konv1d(x, constants, **options)
        expected = np.zeros((len(kappa), axis.windows), dtype=int)
        for i, u, _, shown in windows(axis):
            if shown or options["pad"] == "input":
                expected[:, i] += kappa[:, 0, :, u].sum(1)
        assert np.array_equal(y, np.broadcast_to(expected, y.shape))
        if axis.before == axis.after == 0:
            assert (y == kappa[:, 0].sum((1, 2))[:, None]).all()


@pytest.mark.verifies("thm-konv-padding", "eq-konv-padding", box=BOX, exact=True)
@both_backends
def test_paddings_differ_by_phi_of_zero(backend):
    for axis, x, kappa, bias, _, options in rows():
        of_basis, of_input = (backend.konv1d(x, kappa, bias, **options | {"pad": pad}) for pad in oracles.PADS)
        expected = np.zeros((len(kappa), axis.windows))
        for i, u, _, shown in windows(axis):
            if not shown:
                for o, c in product(range(len(kappa)), range(kappa.shape[2])):
                    expected[o, i] += polynomial(options["basis"], kappa[o, :, c, u], 0)
        assert np.array_equal(of_input - of_basis, np.broadcast_to(expected, of_input.shape))


# What one Konvolution can be


def sequence_map(backend, kappa, f):
    """(T f)[n] = sum of phi_(n - m)(f[m]) on the indices that matter: full padding, taps mirrored, phi(0) = 0."""
    taps = kappa.shape[1]
    return backend.konv1d(f[None, None], kappa[None, :, None, ::-1], basis="monomial", padding=taps - 1)[0, 0]


@pytest.mark.verifies("thm-konv-additive", "eq-konv-additive", box="3 taps, degree 1 to 4, lengths 1 to 6", exact=True)
@both_backends
def test_additive_over_places_is_konvolution(backend):
    """Both ways, and the heights of impulses that decide: degree d is fixed by d of them other than 0."""
    for degree, length in product(range(1, 5), range(1, 7)):
        kappa = boxes.integers(degree + 1, 3, seed=degree)
        kappa[0] = 0
        f = boxes.integers(length, seed=length)
        y = sequence_map(backend, kappa, f)
        expected = np.zeros(length + 2, dtype=int)
        for m, n in product(range(length), range(length + 2)):
            if 0 <= n - m < 3:
                expected[n] += sum(kappa[delta, n - m] * f[m] ** delta for delta in range(degree + 1))
        assert np.array_equal(y, expected)
        place = np.arange(length) % 2
        assert np.array_equal(
            y, sequence_map(backend, kappa, f * place) + sequence_map(backend, kappa, f * (1 - place))
        )
        late = sequence_map(backend, kappa, np.pad(f, (1, 0)))
        assert np.array_equal(late, np.pad(y, (1, 0)))
        heights = np.array([Fraction(t) for t in range(1, degree + 1)], dtype=object)
        responses = np.array(
            [sequence_map(backend, kappa.astype(object), np.array([t], dtype=object)) for t in heights]
        )
        for k, column in enumerate(responses.T):
            for t in f.tolist():
                value = sum(
                    r * prod(Fraction(t - s, h - s) for s in (0, *heights) if s != h)
                    for h, r in zip(heights, column, strict=True)
                )
                assert value == sum(int(c) * t**delta for delta, c in enumerate(kappa[:, k]))


@pytest.mark.verifies("thm-konv-additive", box="the product and the largest of two neighbours", exact=True)
def test_products_and_maxima_are_not_additive_over_places():
    one, other = np.array([0, 1, 0]), np.array([0, 0, 1])
    for mixed in (lambda f: f[1:] * f[:-1], lambda f: np.maximum(f[1:], f[:-1])):
        assert not np.array_equal(mixed(one) + mixed(other), mixed(one + other))
        assert not mixed(0 * one).any()


# Bases


@pytest.mark.verifies(
    "def-konv-basis", "eq-konv-recurrence", box="five bases, degree up to 8, 13 fractions", exact=True
)
def test_the_recurrence_gives_the_bases_of_numpy():
    t = np.array([Fraction(n, 4) for n in range(-6, 7)], dtype=object)
    table = {
        "monomial": lambda n: (1, 0),
        "chebyshev": lambda n: (2 if n else 1, 1),
        "chebyshev2": lambda n: (2, 1),
        "legendre": lambda n: (Fraction(2 * n + 1, n + 1), Fraction(n, n + 1)),
        "hermite": lambda n: (1, n),
    }
    assert list(table) == list(BASES)
    for name, step in table.items():
        before, now, p = 0 * t, 0 * t + 1, bases.values(name, t, 8)
        for n in range(9):
            assert (p[n] == now).all()
            exact = [Fraction(c) for c in oracles.powers(name, n)]  # dyadic, Legendre's rounded to 2^-n
            assert (p[n] == sum(c * t**k for k, c in enumerate(exact))).all()
            a, c = step(n)
            before, now = now, a * t * now - c * before


@pytest.mark.verifies("lem-konv-degrees", box="five bases, degree up to 12", exact=True)
def test_each_polynomial_has_the_degree_of_its_number():
    for name, basis in BASES.items():
        rows = bases.coefficients(name, 12)
        assert (rows == np.tril(rows)).all()
        for n in range(13):
            assert rows[n, n] == prod(basis.step(k)[0] for k in range(n)) != 0


@pytest.mark.verifies("thm-change-of-basis", "eq-konv-change", box="25 pairs of bases, " + BOX, exact=True)
@both_backends
def test_one_konvolution_in_every_basis(backend):
    pairs = list(product(BASES, repeat=2))
    for number, (_, x, kappa, bias, _, options) in enumerate(rows()):
        source, target = pairs[number % 25]
        x, kappa = np.vectorize(Fraction, otypes=[object])(x, 3), kappa.astype(object)
        degree = kappa.shape[1] - 1
        matrix = bases.change_of_basis(source, target, degree)
        assert (matrix == np.triu(matrix)).all()
        assert np.diag(matrix).all()
        t = np.array([Fraction(k, 2) for k in range(degree + 1)], dtype=object)
        assert (matrix.T @ bases.values(target, t, degree) == bases.values(source, t, degree)).all()
        moved = np.stack([sum(matrix[m, n] * kappa[:, n] for n in range(m, degree + 1)) for m in range(degree + 1)], 1)
        given = {name: value for name, value in options.items() if name != "basis"}
        y = backend.konv1d(x, kappa, bias, basis=source, **given)
        assert (y == backend.konv1d(x, moved, bias, basis=target, **given)).all()


@pytest.mark.verifies(
    "thm-konv-nodes", box="delays d from 1 to N - 1, N up to 24; orthogonal to 1e-12 N, sums of N rounded products"
)
def test_chebyshev_at_its_nodes():
    for count in range(2, 25):
        nodes = np.cos((2 * np.arange(count) + 1) * np.pi / (2 * count))
        v = bases.values("chebyshev", nodes, count - 1)
        gram = v @ v.T
        expected = np.diag([count, *[count / 2] * (count - 1)])
        assert np.abs(gram - expected).max() < 1e-12 * count
        for degree in range(1, count):
            assert abs(bases.condition_number("chebyshev", nodes, degree) - sqrt(2)) < 1e-11


@pytest.mark.verifies("lem-konv-ends", "eq-konv-cosine", box="n up to 12, six angles with rational cosine", exact=True)
def test_chebyshev_on_the_circle_and_at_the_ends():
    """cos(n theta) as the real part of z^n, where z = cos(theta) + i sin(theta) has rational parts."""
    for p, q in ((3, 4), (5, 12), (-8, 15), (20, -21), (1, 0), (-1, 0)):
        size = round(sqrt(p * p + q * q))
        assert size * size == p * p + q * q
        cosine, sine = Fraction(p, size), Fraction(q, size)
        t = bases.values("chebyshev", np.array(cosine, dtype=object), 12)
        for n in range(13):
            power = sum((-1) ** (k // 2) * comb(n, k) * cosine ** (n - k) * sine**k for k in range(0, n + 1, 2))
            assert t[n] == power
    n = np.arange(13)
    assert (bases.values("chebyshev", [1, -1], 12) == np.stack([np.ones(13), (-1.0) ** n], 1)).all()
    assert (bases.derivatives("chebyshev", [1, -1], 12) == np.stack([n**2, -((-1) ** n) * n**2], 1)).all()
    x = torch.ones(1, dtype=torch.float64, requires_grad=True)
    torch.cos(5 * torch.arccos(x)).backward()
    assert torch.isnan(x.grad).all()
    assert chebyshev.chebval(1, chebyshev.chebder(np.eye(6)[5])) == 25


# Gradients, variance, cost


@pytest.mark.verifies("thm-konv-gradients", "eq-konv-kappa-grad", "eq-konv-input-grad", box=BOX, exact=True)
@both_backends
def test_gradients_by_the_printed_sums(backend):
    dx = backend.konv1d_input_grad([[[1, 10, 100]]], F[None, None], KAPPA[None, :, None], basis="monomial")
    assert dx.tolist() == [[[0, -33, -151, 90, -100]]]
    for axis, x, kappa, _, dy, options in rows():
        degree, depth = kappa.shape[1] - 1, kappa.shape[2]
        width = len(kappa) // options["groups"]
        dx, dkappa = np.zeros(x.shape), np.zeros(kappa.shape)
        powers = [oracles.powers(options["basis"], n) for n in range(degree + 1)]
        for (i, u, j, shown), b, o, c in product(windows(axis), range(len(x)), range(len(kappa)), range(depth)):
            channel = o // width * depth + c
            if shown or options["pad"] == "input":
                sample = x[b, channel, j] if shown else 0
                dkappa[o, :, c, u] += [dy[b, o, i] * np.polyval(p[::-1], sample) for p in powers]
            if shown:
                slopes = [np.polyval(np.polyder(p[::-1]), x[b, channel, j]) for p in powers]
                dx[b, channel, j] += dy[b, o, i] * np.dot(kappa[o, :, c, u], slopes)
        assert np.array_equal(backend.konv1d_input_grad(dy, x, kappa, **options), dx)
        given = options | {"degree": degree, "kernel_size": axis.kernel}
        assert np.array_equal(backend.konv1d_kappa_grad(x, dy, **given), dkappa)


@pytest.mark.verifies("cor-konv-basis-gradient", box="25 pairs of bases, " + BOX, exact=True)
@both_backends
def test_gradients_change_basis_by_the_transpose(backend):
    pairs = list(product(BASES, repeat=2))
    for number, (axis, x, kappa, _, dy, options) in enumerate(rows()):
        source, target = pairs[number % 25]
        given = options | {"degree": kappa.shape[1] - 1, "kernel_size": axis.kernel}
        one, other = (
            backend.konv1d_kappa_grad(x.astype(object), dy.astype(object), **given | {"basis": basis})
            for basis in (source, target)
        )
        matrix = bases.change_of_basis(source, target, given["degree"])
        assert (one == np.moveaxis(np.tensordot(matrix.T, other, (1, 1)), 0, 1)).all()


@pytest.mark.verifies(
    "thm-konv-variance", "eq-konv-variance", box="all signs of the coefficients of 2 taps, degree 1 to 3", exact=True
)
@pytest.mark.parametrize("basis", BASES)
def test_the_variance_in_the_mean_over_all_draws(basis):
    """Coefficients of plus or minus s_delta, every choice once; samples of two taps that depend on each other."""
    windows = np.array([[-1, 2], [2, 0], [0, 3], [3, -1]], dtype=object)  # each tap has the samples -1, 0, 2, 3
    quarter = Fraction(1, 4)
    for degree in (1, 2, 3):
        p = bases.values(basis, windows, degree)[1:]  # (degree, sample, tap)
        mean = p.sum(1) * quarter
        assert (mean[:, 0] == mean[:, 1]).all()
        v = ((p - mean[:, None]) ** 2).sum(1)[:, 0] * quarter
        s = np.array([Fraction(delta + 2, 3) for delta in range(degree)], dtype=object)
        total, draws = 0, list(product((-1, 1), repeat=2 * degree))
        for signs in draws:
            kappa = np.array(signs, dtype=object).reshape(degree, 2) * s[:, None]
            table = np.concatenate([-(kappa * mean).sum(0, keepdims=True), kappa])[None, :, None]
            y = konvolution.konv1d(windows[:, None], table, basis=basis)[:, 0, 0]
            assert y.sum() == 0
            total += (y**2).sum() * quarter
        assert total * Fraction(1, len(draws)) == 2 * (s**2 * v).sum()


def test_modules_draw_what_the_theorem_says():
    """Half a million coefficients of each degree: their variance is known to 1 %."""
    torch.manual_seed(0)
    layer = Konv2d(64, 900, 3, degree=3)
    from konvlib.konvolution.module import moments

    mean, variance = moments("chebyshev", 3)
    kappa = layer.kappa.detach().double()
    for delta in (1, 2, 3):
        assert kappa[:, delta].var() * 64 * 9 * 3 * variance[delta] == pytest.approx(1, rel=0.01)
    constants = -(kappa[:, 1:] * torch.from_numpy(mean[1:]).reshape(1, 3, 1, 1, 1)).sum(1)
    assert torch.allclose(kappa[:, 0], constants, atol=1e-7)


class Counted(int):
    """A coefficient that counts its products."""

    products = 0

    def __mul__(self, other):
        Counted.products += 1
        return int(self) * other


@pytest.mark.verifies("eq-konv-products", "eq-konv-parameters", box="12 geometries with groups, no padding", exact=True)
def test_products_and_parameters_counted():
    for (groups, degree), (stride, dilation) in product([(1, 0), (1, 2), (2, 1), (2, 3)], [(1, 1), (2, 1), (1, 2)]):
        x = np.ones((2, 4, 7), dtype=object)
        kappa = np.empty((6, degree + 1, 4 // groups, 3), dtype=object)
        kappa.fill(Counted(1))
        Counted.products = 0
        y = naive.konv1d(x, kappa, basis="monomial", groups=groups, stride=stride, dilation=dilation)
        assert Counted.products == 2 * 6 * y.shape[2] * (degree + 1) * (4 // groups * 3)
        layer = Konv1d(4, 6, 3, degree=degree, groups=groups, stride=stride, dilation=dilation)
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        assert parameters == 6 * ((degree + 1) * (4 // groups * 3) + 1)
