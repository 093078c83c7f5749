"""The theorems of chapter 5, each label by name: gradients of one layer, and the form they come from.

All of it in integers with ``==``. C, I and W stand for the layer, its input gradient and its weight gradient. They are
bilinear, so where a test runs through all pairs of impulses of a geometry (``lem-impulses``), it proves that geometry.
Oracles are PyTorch, the table ``s i + d u - p = j``, and differences of the layers of chapter 2. What follows for
finite differences and for gradient descent is in ``test_gradients_theorems_use.py``.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from konvlib import gradients, transposes
from konvlib import images as layers
from tests.engine import backends, boxes
from tests.engine.oracles.gradients import call, grads, operands, rows_of_more_axes, rows_of_one_axis, sizes

naive = backends.definition("gradients")

both_backends = pytest.mark.parametrize("backend", backends.exact("gradients"))

FITTING = [axis for axis in boxes.ONE_AXIS if axis.fits]
AXIS_BOX = f"one axis, {boxes.AXIS_TEXT}, every pair of impulses: {len(FITTING):,} geometries"
ROWS_BOX = f"rows that pair every two parameters of one axis ({boxes.AXIS_TEXT}) and of {boxes.CHANNELS_TEXT}"
ODD = (1, 3, 5)


def impulses(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.int64)


def rest(axis: boxes.Axis) -> int:
    """How many samples, padding included, lie behind the last window."""
    return axis.size + axis.before + axis.after - 1 - axis.stride * (axis.windows - 1) - (axis.span - 1)


def table(axis: boxes.Axis) -> np.ndarray:
    """Whether window i shows sample j through tap u, at [i, u, j]."""
    i, u, j = np.ogrid[: axis.windows, : axis.kernel, : axis.size]
    return axis.stride * i + axis.dilation * u - axis.before == j


def forward(x, w, axes, groups=1) -> np.ndarray:
    return call(layers, "conv#d", len(axes), x, w, groups=groups, **boxes.options(*axes))


# One window, and the shifted window


@pytest.mark.verifies("eq-gradients-window", box="N up to 7, M up to N, every entry of both Jacobians", exact=True)
def test_the_jacobians_of_a_shifted_window():
    for n, m in product(range(1, 8), repeat=2):
        if m <= n:
            x, w = boxes.integers(n), boxes.integers(m, seed=1)
            y = np.correlate(x, w)
            for j, e in enumerate(impulses(n)):
                weights = [int(w[j - i]) if 0 <= j - i < m else 0 for i in range(n - m + 1)]
                assert (np.correlate(x + e, w) - y).tolist() == weights
            for u, e in enumerate(impulses(m)):
                assert (np.correlate(x, w + e) - y).tolist() == x[u : u + n - m + 1].tolist()


@pytest.mark.verifies("def-gradients-gradient", "eq-gradients-chain", box="losses of degree 2 in y", exact=True)
@both_backends
def test_the_chain_rule_on_losses_of_degree_two(backend):
    """A polynomial of degree two has its derivative as central quotient, with any step; here in fractions."""
    axis = boxes.Axis(6, 3, 2, 1, 2, 2)
    x, w, c = operands((axis,), boxes.CHANNELS[1], batch=1)
    x, w, c = (np.frompyfunc(Fraction, 1, 1)(array) for array in (x, w, c))

    def loss(x, w):
        y = forward(x, w, (axis,))
        return (c * y * y / 2 + 3 * y).sum()

    dx, dw = grads(backend, x, w, c * forward(x, w, (axis,)) + 3, (axis,))
    jacobian = [forward(e, w, (axis,)) for e in impulses(x.size).reshape(x.size, *x.shape).astype(object)]
    by_chain = [((c * forward(x, w, (axis,)) + 3) * column).sum() for column in jacobian]
    for place, h in zip(np.ndindex(x.shape), [Fraction(1, 7), 5] * x.size, strict=False):
        step = np.zeros_like(x)
        step[place] = h
        quotient = (loss(x + step, w) - loss(x - step, w)) / (2 * h)
        assert dx[place] == by_chain[np.ravel_multi_index(place, x.shape)] == quotient
    for place in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[place] = 3
        assert dw[place] == (loss(x, w + step) - loss(x, w - step)) / 6


# "Same" padding


def assert_same_layer(backend, m, n, a, b):
    """Impulses in dy as a batch, impulses in w as input channels; then impulses in x."""
    r, t = (a - 1) // 2, (b - 1) // 2
    i, u, p = np.ogrid[:m, :a, :m]
    j, v, q = np.ogrid[:n, :b, :n]
    rows, columns = i + u - r == p, j + v - t == q
    expected = np.einsum("iup,jvq->ijuvpq", rows.astype(int), columns.astype(int)).reshape(m * n, a * b, m, n)
    dy, w = impulses(m * n).reshape(-1, 1, m, n), impulses(a * b).reshape(1, -1, a, b)
    dx = backend.conv2d_input_grad(dy, w, input_size=(m, n), padding="same")
    reversed_layer = layers.conv2d(dy, w.swapaxes(0, 1)[..., ::-1, ::-1], padding="same")
    assert (dx == expected).all()
    assert (reversed_layer == expected).all()
    shown = impulses(m * n).reshape(1, -1, m, n)
    dw = backend.conv2d_weight_grad(shown, dy.swapaxes(0, 1), kernel_size=(a, b), padding="same")
    assert (dw.reshape(m * n, m * n, a * b) == expected.reshape(m * n, a * b, m * n).swapaxes(1, 2)).all()


@pytest.mark.verifies(
    "thm-same-grad", "eq-gradients-same", box="m, n up to 5, a, b in 1, 3, 5, every pair of impulses", exact=True
)
def test_same_layers():
    for m, n, a, b in product(range(1, 6), range(1, 6), ODD, ODD):
        assert_same_layer(gradients, m, n, a, b)


@pytest.mark.verifies("thm-same-grad", "eq-gradients-same", box="m up to 3, n up to 3, a, b in 1, 3", exact=True)
def test_same_layers_by_definition():
    for m, n, a, b in product(range(1, 4), range(1, 4), ODD[:2], ODD[:2]):
        assert_same_layer(naive, m, n, a, b)


@pytest.mark.verifies("thm-same-grad", box="even kernels and a stride: the recipe fails", exact=True)
def test_the_recipe_of_same_layers_needs_its_conditions():
    delta = boxes.integers(1, 1, 6)
    for kernel, stride in [(2, 1), (4, 1), (3, 2)]:
        w = boxes.integers(1, 1, kernel, seed=1)
        dy = delta[..., : 6 // stride]
        padding = {"padding": "same"} if stride == 1 else {"padding": 1}
        dx = gradients.conv1d_input_grad(dy, w, input_size=6, stride=stride, **padding)
        recipe = layers.conv1d(dy, w[..., ::-1], **padding)
        assert dx.shape != recipe.shape or (dx != recipe).any()


@pytest.mark.verifies(
    "cor-gradients-columns", "eq-gradients-columns", box="m, n up to 7, a, b in 1, 3, 5, 7", exact=True
)
def test_how_many_outputs_see_a_sample():
    for m, n, a, b in product(range(1, 8), range(1, 8), (*ODD, 7), (*ODD, 7)):
        r, t = (a - 1) // 2, (b - 1) // 2
        outputs = torch.nn.functional.conv2d(
            torch.eye(m * n).reshape(-1, 1, m, n), torch.ones(1, 1, a, b), padding=(r, t)
        )
        counts = (outputs != 0).sum(dim=(1, 2, 3)).reshape(m, n).tolist()
        for p, q in product(range(m), range(n)):
            rows = 1 + min(p, r) + min(m - 1 - p, r)
            columns = 1 + min(q, t) + min(n - 1 - q, t)
            assert counts[p][q] == rows * columns
            assert (rows * columns == a * b) == (r <= p <= m - 1 - r and t <= q <= n - 1 - t)
        if m >= r and n >= t:
            assert sum(map(sum, counts)) == (m * a - r * (r + 1)) * (n * b - t * (t + 1))


# Any layer


@pytest.mark.verifies("thm-input-grad", "eq-input-grad", "eq-gradients-rest", box=AXIS_BOX, exact=True)
def test_the_input_gradient_is_the_transposed_convolution():
    for axis in FITTING:
        extra = rest(axis)
        assert 0 <= extra < axis.stride
        options = boxes.options(axis)
        windows, taps = impulses(axis.windows)[:, np.newaxis], impulses(axis.kernel)[np.newaxis]
        dx = gradients.conv1d_input_grad(windows, taps, input_size=axis.size, **options)
        assert (dx == table(axis)).all()
        assert (dx == transposes.conv_transpose1d(windows, taps, output_padding=extra, **options)).all()
        unreached = ~table(axis).any(axis=(0, 1))
        assert not dx[..., unreached].any()


@pytest.mark.verifies("thm-input-grad", "eq-input-grad", box=ROWS_BOX, exact=True)
def test_the_input_gradient_of_channels_and_groups_is_the_transposed_convolution():
    for axes, channels, (x, w, dy), (expected, _) in [*rows_of_one_axis(), *rows_of_more_axes()]:
        dx, _ = grads(gradients, x, w, dy, axes, channels.groups)
        options = boxes.options(*axes) | {"groups": channels.groups, "output_padding": tuple(map(rest, axes))}
        assert (dx == expected).all()
        assert (dx == call(transposes, "conv_transpose#d", len(axes), dy, w, **options)).all()


@pytest.mark.verifies("cor-gradients-stride-one", box=f"{AXIS_BOX}; those of stride 1", exact=True)
def test_with_stride_one_the_input_gradient_is_a_layer():
    seen = 0
    for axis in FITTING:
        before, after = axis.span - 1 - axis.before, axis.span - 1 - axis.after
        if axis.stride == 1 and min(before, after) >= 0:
            w = impulses(axis.kernel)[:, np.newaxis, ::-1]
            windows = impulses(axis.windows)[:, np.newaxis]
            layer = layers.conv1d(windows, w, padding=((before, after),), dilation=axis.dilation)
            assert (layer == table(axis)).all()
            seen += 1
    assert seen > 100
    for axes, channels, (_, w, dy), (expected, _) in rows_of_one_axis():
        (axis,) = axes
        before, after = axis.span - 1 - axis.before, axis.span - 1 - axis.after
        if axis.stride == channels.groups == 1 and min(before, after) >= 0:
            swapped = w.swapaxes(0, 1)[..., ::-1]
            dx = layers.conv1d(dy, swapped, padding=((before, after),), dilation=axis.dilation)
            assert (dx == expected).all()


def traded(x, dy, axes, channels):
    """The weight's gradient as layers in which stride and dilation trade places, one for each group."""
    options = boxes.options(*axes)
    options = {"stride": options["dilation"], "dilation": options["stride"], "padding": options["padding"]}
    parts = []
    for group in range(channels.groups):
        c, o = (slice(group * n // channels.groups, (group + 1) * n // channels.groups) for n in channels[1:])
        parts.append(call(layers, "conv#d", len(axes), x[:, c].swapaxes(0, 1), dy[:, o].swapaxes(0, 1), **options))
    return np.concatenate([part.swapaxes(0, 1) for part in parts])


@pytest.mark.verifies("thm-weight-grad", "eq-weight-grad", box=AXIS_BOX, exact=True)
def test_stride_and_dilation_trade_places_in_the_weight_gradient():
    surplus = set()
    for axis in FITTING:
        x, dy = impulses(axis.size)[np.newaxis], impulses(axis.windows)[np.newaxis]
        dw = gradients.conv1d_weight_grad(x, dy, kernel_size=axis.kernel, **boxes.options(axis))
        layer = traded(x, dy, (axis,), boxes.Channels(1, axis.size, axis.windows))
        assert layer.shape[2] == axis.kernel + rest(axis) // axis.dilation
        assert (dw == table(axis).transpose(0, 2, 1)).all()
        assert (layer[..., : axis.kernel] == dw).all()
        surplus.add(rest(axis) // axis.dilation)
    assert surplus == {0, 1, 2}


@pytest.mark.verifies("thm-weight-grad", "eq-weight-grad", box=ROWS_BOX, exact=True)
def test_stride_and_dilation_trade_places_with_batch_channels_and_groups():
    for axes, channels, (x, w, dy), (_, expected) in [*rows_of_one_axis(), *rows_of_more_axes()]:
        first = tuple(slice(axis.kernel) for axis in axes)
        assert (traded(x, dy, axes, channels)[(..., *first)] == expected).all()
        assert (grads(gradients, x, w, dy, axes, channels.groups)[1] == expected).all()


@pytest.mark.verifies("eq-bias-grad", box=ROWS_BOX, exact=True)
def test_the_bias_gradient_is_the_sum_of_what_arrives():
    for axes, channels, (x, w, dy), _ in rows_of_one_axis()[::2]:
        options = boxes.options(*axes) | {"groups": channels.groups}
        moved = [layers.conv1d(x, w, bias, **options) for bias in 1000 * impulses(channels.outputs)]
        still = layers.conv1d(x, w, **options)
        expected = [np.vdot(y - still, dy) // 1000 for y in moved]
        assert gradients.conv1d_bias_grad(dy).tolist() == naive.conv1d_bias_grad(dy).tolist() == expected


# One form, three derivatives


def form(x, w, dy, axis, groups=1) -> int:
    """The trilinear form, every product of its definition."""
    total, depth, width = 0, w.shape[1], w.shape[0] // groups
    for b, o, c, i, u in product(*map(range, (len(x), len(w), depth, axis.windows, axis.kernel))):
        j = axis.stride * i + axis.dilation * u - axis.before
        if 0 <= j < axis.size:
            total += int(x[b, o // width * depth + c, j]) * int(w[o, c, u]) * int(dy[b, o, i])
    return total


@pytest.mark.verifies("def-gradients-form", "eq-gradients-form", "thm-gradients-form", box=ROWS_BOX, exact=True)
@both_backends
def test_one_number_three_ways(backend):
    for axes, channels, (x, w, dy), _ in rows_of_one_axis()[::2]:
        dx, dw = grads(backend, x, w, dy, axes, channels.groups)
        y = forward(x, w, axes, channels.groups)
        number = form(x, w, dy, axes[0], channels.groups)
        assert np.vdot(y, dy) == np.vdot(x, dx) == np.vdot(w, dw) == number


@pytest.mark.verifies("thm-gradients-form", box="two geometries, every entry of all three gradients", exact=True)
def test_the_three_operators_are_the_derivatives_of_the_form():
    """A function that is linear in an array changes by its gradient, whatever the step."""
    for axis, channels in [
        (boxes.Axis(6, 2, 2, 1, 0, 3), boxes.CHANNELS[1]),
        (boxes.Axis(5, 3, 1, 0, 2, 1), boxes.CHANNELS[2]),
    ]:
        given = operands((axis,), channels)
        x, w, dy = given
        y, (dx, dw) = forward(x, w, (axis,), channels.groups), grads(gradients, x, w, dy, (axis,), channels.groups)
        start = form(*given, axis, channels.groups)
        for place, gradient in enumerate((dx, dw, y)):
            for index in np.ndindex(gradient.shape):
                moved = [array.copy() for array in given]
                moved[place][index] += 7
                assert form(*moved, axis, channels.groups) - start == 7 * gradient[index]


def torch_second(x, w, dy, g, axis, groups, of):
    """PyTorch's gradients of <g, dx> by dy and w, or of <g, dw> by x and dy."""
    x, w, dy = (boxes.tensor(array).requires_grad_() for array in (x, w, dy))
    padded = torch.nn.functional.pad(x, (axis.before, axis.after))
    y = torch.nn.functional.conv1d(padded, w, None, axis.stride, 0, axis.dilation, groups)
    (first,) = torch.autograd.grad(y, x if of == "input" else w, dy, create_graph=True)
    by = (dy, w) if of == "input" else (x, dy)
    return [grad.numpy() for grad in torch.autograd.grad(first, by, boxes.tensor(g))]


@pytest.mark.verifies("thm-gradients-second", box=ROWS_BOX, exact=True)
@both_backends
def test_the_derivatives_of_the_derivatives(backend):
    for axes, channels, (x, w, dy), _ in rows_of_one_axis()[::4]:
        big_g, big_h = boxes.integers(*x.shape, seed=3), boxes.integers(*w.shape, seed=4)
        (axis,), groups = axes, channels.groups
        by_dy, by_w = torch_second(x, w, dy, big_g, axis, groups, "input")
        assert (by_dy == forward(big_g, w, axes, groups)).all()
        assert (by_w == grads(backend, big_g, w, dy, axes, groups)[1]).all()
        by_x, by_dy = torch_second(x, w, dy, big_h, axis, groups, "weight")
        assert (by_x == grads(backend, x, big_h, dy, axes, groups)[0]).all()
        assert (by_dy == forward(x, big_h, axes, groups)).all()


@pytest.mark.verifies("cor-gradients-hessian", "eq-gradients-hessian", box="four geometries, every entry", exact=True)
@both_backends
def test_the_hessian_of_the_squared_error(backend):
    """Second differences of a polynomial of degree two are its second derivatives, with any step."""
    for axis, channels in zip(FITTING[333::499], boxes.CHANNELS[:4], strict=False):
        x, w, t = operands((axis,), channels, batch=1)
        layer = boxes.options(axis) | {"groups": channels.groups}
        steps = impulses(w.size).reshape(-1, *w.shape)

        def twice_the_loss(w, x=x, t=t, layer=layer):
            return ((layers.conv1d(x, w, **layer) - t) ** 2).sum()

        gradient, *products = (
            backend.conv1d_weight_grad(x, dy, **layer, **sizes((axis,))[1])
            for dy in (layers.conv1d(x, w, **layer) - t, *(layers.conv1d(x, v, **layer) for v in steps))
        )
        hessian = np.array([product.ravel() for product in products])
        assert (hessian == hessian.T).all()
        here, ahead = twice_the_loss(w), [twice_the_loss(w + v) for v in steps]
        for a, v in enumerate(steps):
            assert ahead[a] - twice_the_loss(w - v) == 4 * gradient.ravel()[a]
            assert hessian[a, a] == (layers.conv1d(x, v, **layer) ** 2).sum() >= 0
            for b in range(a, len(steps)):
                assert twice_the_loss(w + v + steps[b]) - ahead[a] - ahead[b] + here == 2 * hessian[a, b]
