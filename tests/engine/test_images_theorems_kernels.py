"""The statements of chapter 2 about kernels that come apart, about costs, and about poolings."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations, product
from math import ceil

import numpy as np
import pytest
import torch

from konvlib import geometry, images
from tests.engine import backends, boxes
from tests.engine.test_images_pooling import POOL_TEXT, POOLS, shows_samples
from tests.engine.test_images_theorems import TWO_AXES, TWO_AXES_TEXT, both_backends, one

naive = backends.definition("images")

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])


def exact(values):
    return np.array(values, dtype=object)


# Sobel


DEGREES = [(a, b) for a, b in product(range(3), repeat=2) if a + b <= 2]
SPACINGS = [(Fraction(h, 3), Fraction(k, 5)) for h, k in product(range(1, 4), repeat=2)]


def sampled(a, b, h_x, h_y, at=(0, 0)):
    """The monomial X^a Y^b around a point, rows down the second coordinate."""
    return exact([[(at[0] + i * h_x) ** a * (at[1] + j * h_y) ** b for i in (-1, 0, 1)] for j in (-1, 0, 1)])


@pytest.mark.verifies(
    "thm-images-sobel", box=f"all monomials of degree 2 at most, {len(SPACINGS)} spacings, four middles", exact=True
)
@both_backends
def test_sobel_is_the_derivative_of_quadratic_surfaces(backend):
    for (a, b), (h_x, h_y), at in product(DEGREES, SPACINGS, product((0, 2), (0, -1))):
        z = sampled(a, b, h_x, h_y, at)
        by_x = a * at[0] ** max(a - 1, 0) * at[1] ** b
        by_y = b * at[0] ** a * at[1] ** max(b - 1, 0)
        assert one(backend, z, SOBEL / exact(8 * h_x)) == by_x
        assert one(backend, z, SOBEL.T / exact(8 * h_y)) == by_y


def test_sobel_is_not_exact_for_a_cubic():
    h = Fraction(1, 2)
    assert one(naive, sampled(3, 0, h, h), SOBEL / exact(8 * h)) == h**2


# Separable kernels


SMALL = [np.array(entries).reshape(2, 3) for entries in product((-1, 0, 1), repeat=6)]
MINORS = "by minors of two rows and columns"


def has_rank_at_most_1(kernel):
    rows, columns = kernel.shape
    return all(
        kernel[i, k] * kernel[j, m] == kernel[i, m] * kernel[j, k]
        for (i, j), (k, m) in product(combinations(range(rows), 2), combinations(range(columns), 2))
    )


def factors(kernel):
    """A column and a row whose product is the kernel, if any: its first column that is not zero, and ratios."""
    column = next((kernel[:, v] for v in range(kernel.shape[1]) if kernel[:, v].any()), kernel[:, 0])
    pivot = int(np.argmax(column != 0))
    row = [Fraction(int(value), int(column[pivot])) if column.any() else 0 for value in kernel[pivot]]
    return exact(column.tolist()), exact(row)


@pytest.mark.verifies(
    "def-images-separable", "thm-separable", box=f"2 by 3 kernels of -1, 0, 1, {MINORS}: {len(SMALL)}", exact=True
)
def test_separable_means_rank_1():
    for kernel in SMALL:
        column, row = factors(kernel)
        assert (np.outer(column, row) == kernel).all() == has_rank_at_most_1(kernel)
        assert has_rank_at_most_1(kernel) == (np.linalg.matrix_rank(kernel) <= 1)


@pytest.mark.verifies("def-images-separable", "thm-separable", box=TWO_AXES_TEXT, exact=True)
@both_backends
def test_separable_layers_in_two_steps(backend):
    for a, b in TWO_AXES:
        x, column, row = boxes.impulses(1, a.size, b.size), boxes.digits(a.kernel, 1), boxes.digits(1, b.kernel)
        at_once = backend.conv2d(x, (column * row)[np.newaxis, np.newaxis], **boxes.options(a, b))
        still = boxes.Axis(0, 1, 1, 0, 0, 1)
        down = backend.conv2d(x, column[np.newaxis, np.newaxis], **boxes.options(a, still))
        across = backend.conv2d(down, row[np.newaxis, np.newaxis], **boxes.options(still, b))
        assert (across == at_once).all()


TRIPLES = [np.array(entries) for entries in product((-1, 0, 1), repeat=3)]
OUTER = np.unique([np.outer(a, b).ravel() for a, b in product(TRIPLES, repeat=2)], axis=0).reshape(-1, 3, 3)


def determinant(m):
    minors = (m[..., 1, i - 2] * m[..., 2, i - 1] - m[..., 1, i - 1] * m[..., 2, i - 2] for i in range(3))
    return sum(m[..., 0, i] * minor for i, minor in enumerate(minors))


@pytest.mark.verifies(
    "thm-separable", box=f"sums of two 3 by 3 kernels of -1, 0, 1 that are separable: {len(OUTER) ** 2:,}", exact=True
)
def test_two_separable_kernels_never_make_rank_3():
    assert determinant(np.array([[2, 0, 1], [1, 3, 0], [0, 1, 1]])) == 7
    for kernel in OUTER:
        assert not determinant(OUTER + kernel).any()


def parts_of(kernel):
    """As many separable kernels as the rank says, exactly: eliminate with one pivot after the other."""
    rest, parts = exact([[Fraction(int(value)) for value in row] for row in kernel]), []
    while rest.any():
        i, j = np.argwhere(rest != 0)[0]
        parts.append(np.outer(rest[:, j] / rest[i, j], rest[i]))
        rest = rest - parts[-1]
    return parts


@pytest.mark.verifies("thm-separable", box="3 by 3 kernels of 0 and 1: 512", exact=True)
def test_rank_is_the_number_of_separable_parts():
    for entries in product((0, 1), repeat=9):
        kernel = np.array(entries).reshape(3, 3)
        parts = parts_of(kernel)
        assert all(has_rank_at_most_1(part) for part in parts)
        assert len(parts) == np.linalg.matrix_rank(kernel)
        assert (sum(parts, np.zeros((3, 3), dtype=int)) == kernel).all()
    x = boxes.integers(5, 6)
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    parts = parts_of(laplacian)
    assert len(parts) == 2
    assert (sum(one(naive, x, part) for part in parts) == one(naive, x, laplacian)).all()


# Depthwise and pointwise


@pytest.mark.verifies(
    "thm-images-pointwise",
    "eq-images-pointwise",
    box=f"3 channels in, 4 out, every impulse: {len(TWO_AXES[::3])} geometries of two axes",
    exact=True,
)
@both_backends
def test_depthwise_then_pointwise_is_one_layer(backend):
    for axes in TWO_AXES[::3]:
        settings = boxes.options(*axes)
        x = boxes.impulses(3, *(axis.size for axis in axes))
        depthwise = boxes.integers(3, 1, *(axis.kernel for axis in axes))
        mixing = boxes.integers(4, 3, 1, 1, seed=1)
        pair = backend.conv2d(backend.conv2d(x, depthwise, groups=3, **settings), mixing)
        w = np.array([[mixing[o, c, 0, 0] * depthwise[c, 0] for c in range(3)] for o in range(4)])
        assert (backend.conv2d(x, w, **settings) == pair).all()


@pytest.mark.verifies(
    "thm-images-pointwise",
    box=f"two channels out, 1 by 3 kernels of -1, 0, 1, one channel after another, {MINORS}: {len(SMALL)}",
    exact=True,
)
def test_which_weights_are_depthwise_separable():
    """Channels do not share entries, so each is split by itself."""
    for first, second in zip(SMALL, SMALL[1:] + SMALL[:1], strict=True):
        w = np.stack([first, second], axis=1)[:, :, np.newaxis]  # (2, 2, 1, 3)
        columns, rows = zip(*(factors(w[:, c, 0]) for c in range(2)), strict=True)
        mixing, depthwise = np.stack(columns, axis=1), np.stack(rows)[:, np.newaxis]
        found = (mixing[:, :, np.newaxis, np.newaxis] * depthwise == w).all()
        assert found == (has_rank_at_most_1(first) and has_rank_at_most_1(second))


# Cost


class Counted:
    """A number whose products count themselves."""

    products = 0

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        Counted.products += 1
        return Counted(self.value * other.value)

    def __add__(self, other):
        return Counted(self.value + getattr(other, "value", other))

    __radd__ = __add__


COSTS = [
    ((n, groups * c, 5, 4), (groups * o, c, kernel, 2), {"groups": groups, "stride": stride, "padding": pad})
    for n, groups, c, o, kernel, stride, pad in product((1, 2), (1, 3), (1, 2), (1, 2), (1, 3), (1, 2), (0, 1))
]


@pytest.mark.verifies("eq-images-cost", box=f"products counted while they happen: {len(COSTS)} layers", exact=True)
def test_cost_of_a_layer():
    """Replicated padding, whose products happen."""
    number = np.frompyfunc(Counted, 1, 1)
    for x_shape, w_shape, settings in COSTS:
        Counted.products = 0
        y = naive.conv2d(
            number(boxes.integers(*x_shape)), number(boxes.integers(*w_shape)), **settings, padding_mode="replicate"
        )
        (batch, outputs, rows, columns), (_, depth, *kernel) = y.shape, w_shape
        assert Counted.products == batch * outputs * rows * columns * depth * kernel[0] * kernel[1]
        assert Counted.products == geometry.conv_geometry(x_shape, w_shape, axes=2, **settings).products


def test_costs_that_the_chapter_prints():
    first = geometry.conv_geometry((1, 3, 224, 224), (64, 3, 7, 7), axes=2, stride=2, padding=3)
    inner = geometry.conv_geometry((1, 64, 56, 56), (64, 64, 3, 3), axes=2, padding=1)
    assert (first.products, inner.products) == (118_013_952, 115_605_504)


# Pooling


GOOD_POOLS = [row for row in POOLS if row[4] == 1 and shows_samples(*row)]


def pool_windows(size, kernel, stride, pad, ceil_mode):
    """Each window's samples, and how many of its taps lie in the padded axis."""
    count = geometry.pool_size(size, kernel, stride=stride, padding=(pad, pad), ceil_mode=ceil_mode)
    for i in range(count):
        places = [i * stride + u - pad for u in range(kernel)]
        yield [p for p in places if 0 <= p < size], sum(-pad <= p < size + pad for p in places)


@pytest.mark.verifies(
    "def-images-pooling",
    "eq-images-pooling",
    box=f"{POOL_TEXT}; those of dilation 1 that show samples: {len(GOOD_POOLS)}",
    exact=True,
)
@both_backends
def test_poolings_are_maxima_and_means_of_the_samples_shown(backend):
    for size, kernel, stride, pad, _, ceil_mode in GOOD_POOLS:
        x = exact([Fraction(int(value), 7) - 5 for value in boxes.integers(size)])
        settings = {"stride": stride, "padding": pad, "ceil_mode": ceil_mode}
        windows = list(pool_windows(size, kernel, stride, pad, ceil_mode))
        batch = x[np.newaxis, np.newaxis]
        assert backend.max_pool1d(batch, kernel, **settings)[0, 0].tolist() == [max(x[shown]) for shown, _ in windows]
        for counted in (True, False):
            means = [sum(x[shown]) / (taps if counted else len(shown)) for shown, taps in windows]
            y = backend.avg_pool1d(batch, kernel, **settings, count_include_pad=counted)
            assert y[0, 0].tolist() == means


def poolable(axis):
    try:
        geometry.pool_geometry((1, 1, axis.size), axis.kernel, axes=1, **boxes.options(axis))
    except ValueError:
        return False
    return True


SIDES = [axis for axis in boxes.ONE_AXIS if axis.size <= 4 and axis.kernel <= 3 and axis.fits and poolable(axis)]
PAIRS = [(axis, SIDES[(7 * number + 3) % len(SIDES)]) for number, axis in enumerate(SIDES)]
DENSE = [axis for axis in SIDES if axis.dilation == 1]
DENSE_PAIRS = [(axis, DENSE[(7 * number + 3) % len(DENSE)]) for number, axis in enumerate(DENSE)]
SIDES_TEXT = (
    "sizes to 4, kernels to 3, strides to 3, uneven paddings to half the kernel, each geometry of the rows once"
)


@pytest.mark.verifies(
    "thm-average-pooling",
    box=f"3 channels, {SIDES_TEXT}: {len(DENSE_PAIRS)}",
    exact=True,
)
@both_backends
def test_average_pooling_is_a_depthwise_layer(backend):
    for axes in DENSE_PAIRS:
        settings = boxes.options(*axes)
        del settings["dilation"]
        kernel = tuple(axis.kernel for axis in axes)
        x = exact(boxes.integers(2, 3, *(axis.size for axis in axes)).tolist())
        w = np.full((3, 1, *kernel), Fraction(1, kernel[0] * kernel[1]), dtype=object)
        layer, shown = (backend.conv2d(values, w, groups=3, **settings) for values in (x, x * 0 + 1))
        assert (backend.avg_pool2d(x * Fraction(1), kernel, **settings) == layer).all()
        only = backend.avg_pool2d(x * Fraction(1), kernel, **settings, count_include_pad=False)
        assert (only == layer / shown).all()


INCREASING = {
    "relu": lambda t: np.maximum(t, 0),
    "steps": lambda t: t // 4,
    "constant": lambda t: t * 0 + 3,
    "cube": lambda t: t**3,
}


@pytest.mark.verifies(
    "thm-images-max-pooling",
    box=f"{SIDES_TEXT}, with dilations: {len(PAIRS)}; four functions",
    exact=True,
)
@both_backends
def test_max_pooling(backend):
    nonlinear = 0
    for a, b in PAIRS:
        settings = boxes.options(a, b)
        kernel = (a.kernel, b.kernel)
        x = boxes.integers(1, 2, a.size, b.size)
        y = backend.max_pool2d(x, kernel, **settings)
        for function in INCREASING.values():
            assert (backend.max_pool2d(function(x), kernel, **settings) == function(y)).all()
        still = boxes.Axis(0, 1, 1, 0, 0, 1)
        down = backend.max_pool2d(x, (a.kernel, 1), **boxes.options(a, still))
        assert (backend.max_pool2d(down, (1, b.kernel), **boxes.options(still, b)) == y).all()
        samples = boxes.impulses(1, a.size, b.size)
        largest, smallest = (
            backend.max_pool2d(samples, kernel, **settings),
            backend.max_pool2d(-samples, kernel, **settings),
        )
        rows, columns = (list(pool_windows_of(axis)) for axis in (a, b))
        shows_two = any(len(row) * len(column) >= 2 for row, column in product(rows, columns))
        assert (largest != -smallest).any() == shows_two
        nonlinear += shows_two
    assert 0 < nonlinear < len(PAIRS)


def pool_windows_of(axis):
    for i in range(axis.windows):
        places = (i * axis.stride + u * axis.dilation - axis.before for u in range(axis.kernel))
        yield [p for p in places if 0 <= p < axis.size]


@pytest.mark.verifies("eq-images-ceil", box=f"{POOL_TEXT}; those that PyTorch takes, rounded up", exact=True)
def test_ceil_mode_size():
    checked = 0
    for size, kernel, stride, pad, dilation, ceil_mode in POOLS:
        reach = dilation * (kernel - 1)
        if not ceil_mode or 2 * pad > kernel or not shows_samples(size, kernel, stride, pad, dilation, ceil_mode):
            continue
        windows = ceil(Fraction(size + 2 * pad - reach - 1, stride)) + 1
        windows -= stride * (windows - 1) >= size + pad
        settings = {"stride": stride, "dilation": dilation, "ceil_mode": True}
        assert geometry.pool_size(size, kernel, padding=(pad, pad), **settings) == windows
        theirs = torch.nn.functional.max_pool1d(torch.ones(1, 1, size), kernel, padding=pad, **settings)
        assert theirs.shape[-1] == windows
        checked += 1
    assert checked > 300
    assert images.max_pool1d(np.ones((1, 1, 6)), 3, stride=2, padding=1, ceil_mode=True).shape == (1, 1, 4)
