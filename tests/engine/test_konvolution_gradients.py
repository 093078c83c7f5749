"""Gradients of Konvolution, every backend against PyTorch's autograd of the recipe and against differences, exactly.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from konvlib.konvolution import bases
from tests.engine import backends, boxes
from tests.engine.oracles import konvolution as oracles
from tests.engine.oracles.gradients import call, sizes

naive = backends.definition("konvolution")
gradients = backends.definition("gradients")

backend = pytest.fixture(params=backends.of("konvolution"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("konvolution"))(lambda request: request.param)

AXES = (boxes.Axis(3, 2, 2, 1, 0, 1), boxes.Axis(5, 2, 1, 0, 1, 2))
GROUPED = boxes.Channels(2, 4, 2)


def layer(degree, *, batch=1, **options):
    x, kappa, bias, dy = oracles.operands(AXES, GROUPED, degree, batch=batch)
    return x, kappa, bias, dy, boxes.options(*AXES) | {"groups": 2} | options


def of_kappa(degree):
    return {"degree": degree, "kernel_size": (2, 2)}


def assert_gradients(backend, rows):
    for it in rows:
        dx, dkappa = oracles.grads(backend, it)
        assert dx.shape == it.x.shape
        assert dkappa.shape == it.kappa.shape
        assert (dx == it.dx).all()
        assert (dkappa == it.dkappa).all()


def test_one_axis_as_torchs_autograd(backend):
    assert_gradients(backend, backends.share(backend, oracles.rows_of_one_axis()))
    for it in backends.share(backend, oracles.rows_of_one_axis()[:20]):
        assert (backend.konv1d_bias_grad(it.dy) == it.dy.sum((0, 2))).all()


def test_two_and_three_axes_as_torchs_autograd(backend):
    assert_gradients(backend, backends.share(backend, oracles.rows_of_more_axes()))
    for it in backends.share(backend, oracles.rows_of_more_axes()[::5]):
        db = call(backend, "konv#d_bias_grad", len(it.axes), it.dy)
        assert (db == np.moveaxis(it.dy, 1, 0).reshape(it.dy.shape[1], -1).sum(1)).all()


def test_padding_modes_as_torchs_autograd(backend):
    """What padding shows gets what padding received."""
    assert_gradients(backend, backends.share(backend, oracles.rows_of_padding_modes()))


def test_gradients_by_coefficients_and_bias_are_differences_of_any_step(backend):
    """Exactly: the layer is linear in its coefficients and its bias."""
    for basis, pad in product(oracles.BASES, oracles.PADS):
        x, kappa, bias, dy, options = layer(2, basis=basis, pad=pad)
        y = naive.konv2d(x, kappa, bias, **options)
        both = backend.konv2d_kappa_grad(x, dy, **of_kappa(2), **options), backend.konv2d_bias_grad(dy)
        for place, gradient in enumerate(both):
            for number, index in enumerate(np.ndindex(gradient.shape)):
                if number % 11 and place == 0:
                    continue
                step = (1, 1000)[number % 2]
                moved = [kappa.copy(), bias.copy()]
                moved[place][index] += step
                assert np.vdot(naive.konv2d(x, *moved, **options) - y, dy) == step * gradient[index]


def test_gradients_by_the_input_are_exact_differences_of_five_points(backend):
    """A cubic's derivative is (8 (f(1) - f(-1)) - (f(2) - f(-2))) / 12, exactly, in any direction."""
    for basis, pad in product(oracles.BASES, oracles.PADS):
        x, kappa, bias, dy, options = layer(3, basis=basis, pad=pad)
        dx = backend.konv2d_input_grad(dy, x, kappa, **options)
        every = np.arange(x.size).reshape(x.shape)
        for direction in (every == 7, every == 40, every % 2, every % 5 - 2):
            f = {t: np.vdot(naive.konv2d(x + t * direction, kappa, bias, **options), dy) for t in (-2, -1, 1, 2)}
            assert 12 * np.vdot(direction, dx) == 8 * (f[1] - f[-1]) - (f[2] - f[-2])


def test_the_scalar_products_are_one(backend):
    """The layer is linear in its coefficients: with them, their gradient gives the output with its own."""
    for it in backends.share(backend, [*oracles.rows_of_one_axis()[::3], *oracles.rows_of_more_axes()[::3]]):
        dkappa = oracles.grads(backend, it)[1]
        y = it.y - it.bias.reshape(-1, *(1,) * len(it.axes))
        assert np.vdot(y, it.dy) == np.vdot(it.kappa, dkappa)


def test_degree_one_without_constant_has_the_gradients_of_convolution(backend):
    for basis, pad in product(("monomial", "chebyshev", "legendre", "hermite"), oracles.PADS):
        x, kappa, _, dy, options = layer(1, batch=2)
        kappa[:, 0] = 0
        expected = gradients.conv2d_input_grad(dy, kappa[:, 1], input_size=(3, 5), **options)
        assert (backend.konv2d_input_grad(dy, x, kappa, basis=basis, pad=pad, **options) == expected).all()
        dkappa = backend.konv2d_kappa_grad(x, dy, basis=basis, pad=pad, **of_kappa(1), **options)
        assert (dkappa[:, 1] == gradients.conv2d_weight_grad(x, dy, kernel_size=2, **options)).all()


def test_degree_zero_has_no_gradient_by_the_input(backend):
    """And by its coefficients that of a convolution of ones, padded with ones where the input is padded."""
    x, kappa, _, dy, options = layer(0, batch=2)
    for pad, mode in zip(oracles.PADS, ("zeros", "replicate"), strict=True):
        assert not backend.konv2d_input_grad(dy, x, kappa, pad=pad, **options).any()
        dkappa = backend.konv2d_kappa_grad(x, dy, pad=pad, **of_kappa(0), **options)
        ones = gradients.conv2d_weight_grad(np.ones_like(x), dy, kernel_size=2, padding_mode=mode, **options)
        assert (dkappa[:, 0] == ones).all()


def test_what_is_padded_makes_no_difference_to_the_input(backend):
    """Zeros of the padding are no function of it."""
    for basis in oracles.BASES:
        x, kappa, _, dy, options = layer(3, basis=basis, batch=2)
        of_basis, of_input = (backend.konv2d_input_grad(dy, x, kappa, pad=pad, **options) for pad in oracles.PADS)
        assert (of_basis == of_input).all()


def test_gradients_of_a_sample_do_not_depend_on_its_neighbours(backend):
    x, kappa, _, dy, options = layer(3, batch=3)
    dx = backend.konv2d_input_grad(dy, x, kappa, **options)
    x[1], dy[1] = 5 * x[1], 3 * dy[1]
    changed = backend.konv2d_input_grad(dy, x, kappa, **options)
    assert (changed[::2] == dx[::2]).all()
    assert (changed[1:2] == backend.konv2d_input_grad(dy[1:2], x[1:2], kappa, **options)).all()
    alone = [backend.konv2d_kappa_grad(x[b : b + 1], dy[b : b + 1], **of_kappa(3), **options) for b in range(3)]
    assert (backend.konv2d_kappa_grad(x, dy, **of_kappa(3), **options) == sum(alone)).all()


def test_gradients_are_finite_at_the_ends_of_the_domain(backend):
    """Where arccos has none: T_n'(1) = n^2 and T_n'(-1) = -(-1)^n n^2, in singles, and at large and constant inputs."""
    n = np.arange(9)
    for x, slope in ((1, n**2), (-1, -((-1) ** n) * n**2), (0, np.array([0, 1, 0, -3, 0, 5, 0, -7, 0]))):
        kappa = np.eye(9, dtype=np.float32).reshape(9, 9, 1, 1)
        dx = np.stack(
            [
                backend.konv1d_input_grad(row[np.newaxis, :, np.newaxis], np.full((1, 1, 1), x, np.float32), kappa)
                for row in np.eye(9, dtype=np.float32)
            ]
        )
        assert (dx.ravel() == slope).all()
    for value in (-1e4, 1e4):
        x, dy = np.full((1, 1, 3), value, np.float32), np.ones((1, 9, 3), np.float32)
        assert np.isfinite(backend.konv1d_input_grad(dy, x, kappa)).all()
        assert np.isfinite(backend.konv1d_kappa_grad(x, dy, degree=8, kernel_size=1)).all()


def test_nan_stays_with_its_sample(backend):
    """By the input at its own place; by coefficients where a window shows it, but not in degree 0."""
    x, kappa, _, dy, options = layer(2)
    x = x.astype(float)
    x[0, 1, 2, 3] = np.nan
    dx = backend.konv2d_input_grad(dy, x, kappa, **options)
    assert (np.isnan(dx) == np.isnan(x)).all()
    one = np.isnan(x).astype(int)
    shown = gradients.conv2d_weight_grad(one, np.ones_like(dy), kernel_size=2, **options) != 0
    dkappa = backend.konv2d_kappa_grad(x, dy, **of_kappa(2), **options)
    assert not np.isnan(dkappa[:, 0]).any()
    assert (np.isnan(dkappa[:, 1]) == shown).all()
    assert (np.isnan(dkappa[:, 2]) == shown).all()


def test_nan_that_no_window_shows_has_no_gradient(exact_backend):
    """Its sum is empty."""
    hidden = np.array([[[1.0, 2.0, np.nan]]])
    dx = exact_backend.konv1d_input_grad(np.ones((1, 1, 1)), hidden, np.ones((1, 3, 1, 1)), stride=3)
    assert dx.tolist() == [[[5, 0, 0]]]


def test_derivatives_in_fractions(exact_backend):
    """By the change to monomials, whose derivative anyone knows: k x^(k-1)."""
    x, kappa, _, dy, options = layer(3)
    x = np.vectorize(Fraction, otypes=[object])(x, 7)
    for basis in oracles.BASES:
        dx = exact_backend.konv2d_input_grad(dy, x, kappa, basis=basis, **options)
        powers = bases.convert(kappa.astype(object), basis, "monomial")
        slopes = np.stack([k * powers[:, k] for k in (1, 2, 3)], axis=1)
        expected = sum(
            gradients.conv2d_input_grad(dy, slopes[:, k], input_size=(3, 5), **options) * x**k for k in range(3)
        )
        assert (dx == expected).all()


def test_gradients_change_basis_by_the_transpose(exact_backend):
    """kappa' = A kappa gives the same function, so the gradient by kappa is A transposed times that by kappa'."""
    x, _, _, dy, options = layer(3)
    objects = x.astype(object), dy.astype(object)
    given = of_kappa(3) | options
    by_basis = {basis: exact_backend.konv2d_kappa_grad(*objects, basis=basis, **given) for basis in oracles.BASES}
    for source, target in product(oracles.BASES, repeat=2):
        matrix = bases.change_of_basis(source, target, 3)
        expected = np.moveaxis(np.tensordot(matrix.T, by_basis[target], (1, 1)), 0, 1)
        assert (by_basis[source] == expected).all()


def autograd_function(backend, axes, degree, kernel_size, **options):
    """A layer that PyTorch differentiates by our gradients."""

    class Layer(torch.autograd.Function):
        @staticmethod
        def forward(context, x, kappa, bias):
            context.save_for_backward(x, kappa)
            given = (tensor.detach().numpy() for tensor in (x, kappa, bias))
            return torch.from_numpy(call(backend, "konv#d", axes, *given, **options))

        @staticmethod
        def backward(context, dy):
            (x, kappa), dy = (tensor.detach().numpy() for tensor in context.saved_tensors), dy.detach().numpy()
            dx = call(backend, "konv#d_input_grad", axes, dy, x, kappa, **options)
            given = options | {"degree": degree, "kernel_size": kernel_size}
            dkappa = call(backend, "konv#d_kappa_grad", axes, x, dy, **given)
            return tuple(map(torch.from_numpy, (dx, dkappa, call(backend, "konv#d_bias_grad", axes, dy))))

    return Layer.apply


def test_torchs_own_check_of_gradients_passes(backend):
    rows = list(product((1, 2), zip(oracles.BASES, ("basis", "input") * 3, strict=False)))
    for axes, (basis, pad) in rows[:1] if backends.is_interpreted(backend) else rows:
        torch.manual_seed(axes)
        kernel_size = (2, 2)[:axes]
        options = {"basis": basis, "pad": pad, "padding": ((1, 0),) * axes, "stride": (2, 1)[:axes], "groups": 2}
        function = autograd_function(backend, axes, 3, kernel_size, **options)
        x, kappa = torch.randn(1, 2, *(3, 2)[:axes]), torch.randn(2, 4, 1, *kernel_size)
        given = [tensor.double().requires_grad_() for tensor in (x, kappa, torch.randn(2))]
        assert torch.autograd.gradcheck(function, given, fast_mode=backends.is_interpreted(backend))


def test_sizes_follow_from_the_operands(backend):
    """A stride hides samples at the end; the input's size is that of x."""
    axis = boxes.Axis(6, 2, 3, 0, 0, 1)
    it = oracles.row((axis,), boxes.CHANNELS[1], 2, basis="hermite", pad="basis")
    assert it.y.shape[2] == 2
    dx, dkappa = oracles.grads(backend, it)
    assert not dx[:, :, [2, 5]].any()
    assert dkappa.shape[3:] == sizes((axis,))[1]["kernel_size"]
