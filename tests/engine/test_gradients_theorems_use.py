"""The theorems of chapter 5 on the use of gradients: finite differences, exact checks, gradient descent.

In fractions with ``==``. Polynomials of low degree attain the bounds of the theorems, so these are tested for equality.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

from konvlib import gradients
from konvlib import images as layers
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import call, grads, operands

naive, exact_layers = backends.definition("gradients"), backends.definition("images")

STEPS = [Fraction(1, 7), Fraction(1), Fraction(5)]
ROUNDINGS = [Fraction(0), Fraction(1, 100), Fraction(3)]
COEFFICIENTS = list(product((-2, 0, 3), repeat=4))


def value(coefficients, h):
    return sum(c * h**n for n, c in enumerate(coefficients))


def one_sided(f, h):
    return (f(h) - f(0)) / h


def central(f, h):
    return (f(h) - f(-h)) / (2 * h)


BOX = f"{len(COEFFICIENTS)} cubics, {len(STEPS)} steps, {len(ROUNDINGS)} roundings"


@pytest.mark.verifies("thm-gradients-difference", "eq-gradients-step", box=BOX, exact=True)
def test_cubics_attain_the_bound_of_the_central_quotient():
    """A cubic has one third derivative everywhere, and the worst roundings are of opposite sign."""
    for coefficients, h, eta in product(COEFFICIENTS, STEPS, ROUNDINGS):
        worst = 0
        for up, down in product((-eta, eta), repeat=2):
            rounded = {h: value(coefficients, h) + up, -h: value(coefficients, -h) + down}
            worst = max(worst, abs(central(rounded.get, h) - coefficients[1]))
        assert worst == Fraction(6 * abs(coefficients[3])) * h**2 / 6 + eta / h


@pytest.mark.verifies("thm-gradients-difference", box=BOX.replace("cubics", "parabolas"), exact=True)
def test_parabolas_attain_the_bound_of_the_one_sided_quotient():
    for coefficients, h, eta in product(COEFFICIENTS, STEPS, ROUNDINGS):
        parabola = coefficients[:3]
        worst = 0
        for up, down in product((-eta, eta), repeat=2):
            rounded = {h: value(parabola, h) + up, 0: value(parabola, 0) + down}
            worst = max(worst, abs(one_sided(rounded.get, h) - coefficients[1]))
        assert worst == Fraction(2 * abs(coefficients[2])) * h / 2 + 2 * eta / h


@pytest.mark.verifies("thm-gradients-difference", "eq-gradients-step", box="quartics and quintics", exact=True)
def test_the_bound_holds_where_the_third_derivative_varies():
    for coefficients, h in product(product((-1, 0, 2), repeat=6), STEPS):
        third = [6 * coefficients[3], 24 * coefficients[4], 60 * coefficients[5]]
        largest = abs(third[0]) + abs(third[1]) * h + abs(third[2]) * h**2
        error = abs(central(lambda t, c=coefficients: value(c, t), h) - coefficients[1])
        assert error <= largest * h**2 / 6


@pytest.mark.verifies("thm-gradients-difference", "eq-gradients-step", box="best steps 1/5, 1, 4", exact=True)
def test_the_best_step():
    for best, eta in product((Fraction(1, 5), Fraction(1), Fraction(4)), ROUNDINGS[1:]):
        third, second = 3 * eta / best**3, 4 * eta / best**2
        for factor in (Fraction(1, 9), Fraction(9, 10), Fraction(11, 10), Fraction(7)):
            for bound in (lambda h: third * h**2 / 6 + eta / h, lambda h: second * h / 2 + 2 * eta / h):  # noqa: B023
                assert bound(best) < bound(best * factor)


@pytest.mark.verifies("thm-gradients-difference", box="degrees 1 and 2", exact=True)
def test_low_degrees_have_no_truncation_error():
    for coefficients, h in product(COEFFICIENTS, STEPS):
        line, parabola = coefficients[:2], coefficients[:3]
        assert one_sided(lambda t, c=line: value(c, t), h) == coefficients[1]
        assert central(lambda t, c=parabola: value(c, t), h) == coefficients[1]
        if coefficients[2]:
            assert one_sided(lambda t, c=parabola: value(c, t), h) != coefficients[1]


LAYERS = [
    ((boxes.Axis(6, 3, 2, 1, 0, 1),), boxes.CHANNELS[2]),
    ((boxes.Axis(7, 2, 1, 0, 2, 3),), boxes.CHANNELS[1]),
    ((boxes.Axis(4, 2, 2, 1, 1, 1), boxes.Axis(5, 3, 1, 0, 2, 2)), boxes.CHANNELS[3]),
]


def moved(given, directions, steps):
    return [array + step * v for array, v, step in zip(given, directions, steps, strict=True)]


@pytest.mark.verifies("cor-gradients-exact", box="three layers, steps 1 and 1000", exact=True)
def test_quotients_of_layers_are_exact():
    for (axes, channels), h in product(LAYERS, (1, 1000)):
        options = boxes.options(*axes) | {"groups": channels.groups}

        def layer(x, w, axes=axes, options=options):
            return call(layers, "conv#d", len(axes), x, w, **options)

        given = x, w, dy = operands(axes, channels)
        directions = [boxes.integers(*array.shape, seed=5) for array in given]

        def form(steps, layer=layer, given=given, directions=directions):
            x, w, dy = moved(given, directions, steps)
            return int(np.vdot(layer(x, w), dy))

        found = *grads(gradients, *given, axes, channels.groups), layer(x, w)
        slopes = [int(np.vdot(v, gradient)) for v, gradient in zip(directions, found, strict=True)]
        here = form((0, 0, 0))
        for place in range(3):
            assert Fraction(form([h * (n == place) for n in range(3)]) - here, h) == slopes[place]
        ahead, behind = form((h, h, 0)), form((-h, -h, 0))
        assert Fraction(ahead - behind, 2 * h) == slopes[0] + slopes[1]
        assert Fraction(ahead - here, h) != slopes[0] + slopes[1]

        def twice_the_loss(steps, layer=layer, given=given, directions=directions):
            x, w, target = moved(given, directions, steps)
            return int(((layer(x, w) - target) ** 2).sum())

        found = grads(gradients, x, w, layer(x, w) - dy, axes, channels.groups)
        for place, gradient in enumerate(found):
            step = np.array([h * (n == place) for n in range(3)])
            slope = int(np.vdot(directions[place], gradient))
            assert Fraction(twice_the_loss(step) - twice_the_loss(-step), 4 * h) == slope


# Gradient descent. With x[0]**2 == x[-1]**2 and a kernel of two entries the Hessian is [[A, B], [B, A]], whose
# eigenvalues A + B and A - B are rational, with eigenvectors (1, 1) and (1, -1).

INPUTS = [[1, 3, 2, -1], [2, 1, 0, 5, 2], [0, 1, 4, 0], [3, 1, -2, 2, 1, -3]]


def exact(values) -> np.ndarray:
    return np.frompyfunc(Fraction, 1, 1)(np.array(values, dtype=object))


def descend(x, start, target, step, count):
    """Kernels by gradient descent, in fractions, with the layer and its gradient by definition."""
    x, w = exact([[x]]), exact([[start]])
    t = exact_layers.conv1d(x, exact([[target]]))
    kernels = [w[0, 0]]
    for _ in range(count):
        error = exact_layers.conv1d(x, w) - t
        w = w - step * naive.conv1d_weight_grad(x, error, kernel_size=2) / t.size
        kernels.append(w[0, 0])
    return kernels


def eigenvalues(x):
    windows = len(x) - 1
    a, b = sum(v * v for v in x[:-1]), sum(v * u for v, u in pairwise(x))
    return Fraction(a + b, windows), Fraction(a - b, windows)


@pytest.mark.verifies(
    "thm-gradients-descent", "eq-gradients-descent", "eq-gradients-rate", box="four inputs, nine steps", exact=True
)
def test_gradient_descent_follows_its_eigenvalues():
    target = [Fraction(2), Fraction(-1)]
    for x in INPUTS:
        assert abs(x[0]) == abs(x[-1])
        both = eigenvalues(x)
        low, high = sorted(both)
        assert 0 < low < high
        best, rate = 2 / (low + high), (high / low - 1) / (high / low + 1)
        for step in (best / 3, best, 2 / high, 3 / high):
            kernels = descend(x, [0, 5], target, step, 5)
            parts = [(-target[0] + sign * (5 - target[1])) / 2 for sign in (1, -1)]
            for k, kernel in enumerate(kernels):
                along = [(1 - step * value) ** k * part for value, part in zip(both, parts, strict=True)]
                expected = [along[0] + along[1], along[0] - along[1]]
                assert (kernel - target).tolist() == expected
        # The best step: the bound holds, and is attained; no other step has a smaller factor.
        distances = [((kernel - target) ** 2).sum() for kernel in descend(x, [0, 5], target, best, 9)]
        assert distances == [rate ** (2 * k) * distances[0] for k in range(10)]
        assert max(abs(1 - best * low), abs(1 - best * high)) == rate
        for other in (best * Fraction(99, 100), best * Fraction(101, 100), 1 / high, 1 / low):
            assert max(abs(1 - other * low), abs(1 - other * high)) > rate


@pytest.mark.verifies("thm-gradients-descent", box="steps around 2 / largest eigenvalue", exact=True)
def test_gradient_descent_converges_below_its_limit_only():
    for x in INPUTS:
        low, high = sorted(eigenvalues(x))
        sign = 1 if eigenvalues(x)[0] == high else -1
        for step, growing in [(Fraction(19, 10) / high, False), (2 / high, None), (Fraction(21, 10) / high, True)]:
            kernels = descend(x, [1, sign], [0, 0], step, 6)
            sizes = [(kernel**2).sum() for kernel in kernels]
            if growing is None:
                assert len(set(sizes)) == 1
            else:
                assert all((after > before) == growing for before, after in pairwise(sizes))
        assert low > 0
