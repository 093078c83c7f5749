"""Konvolution, every backend against the recipe in PyTorch, ordinary convolution and its own theorems, exactly.

A test whose only argument is ``backend`` runs on every backend, and against each mutant of it (test_mutants.py).
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konvlib import konvolution
from konvlib.konvolution import arrays, bases
from tests.engine import added_bases, backends, boxes
from tests.engine.oracles import konvolution as oracles
from tests.engine.oracles.gradients import call

naive = backends.definition("konvolution")
images = backends.definition("images")

FITTING = sum(axis.fits for axis in boxes.ONE_AXIS) * len(boxes.CHANNELS)
BOX_TEXT = (
    f"one axis, {boxes.AXIS_TEXT}, with {boxes.CHANNELS_TEXT}: {FITTING:,} geometries; "
    "degrees 0 to 3, the five bases and both paddings in turn"
)
SMALL = [axis for axis in boxes.ONE_AXIS if axis.fits and axis.size in (2, 5) and max(axis[1:3]) < 3 > axis.dilation]
SMALL_TEXT = (
    "one axis, sizes 2 and 5, kernels, strides and dilations 1 and 2, paddings 0 to 2 on each side: "
    f"{len(SMALL)} geometries, each with every degree 0 to 3, basis and padding: {len(SMALL) * len(oracles.CHOICES):,}"
)

backend = pytest.fixture(params=backends.of("konvolution"))(lambda request: request.param)
exact_backend = pytest.fixture(params=backends.exact("konvolution"))(lambda request: request.param)

AXES = (boxes.Axis(5, 3, 2, 1, 2, 1), boxes.Axis(6, 2, 1, 2, 0, 2))
GROUPED = boxes.Channels(2, 4, 6)


def layer(degree, *, batch=2, axes=AXES, channels=GROUPED):
    """Operands of two axes whose sizes and sides all differ, and their geometry."""
    x, kappa, bias, _ = oracles.operands(axes, channels, degree, batch=batch)
    return x, kappa, bias, boxes.options(*axes) | {"groups": channels.groups}


def test_one_axis_as_the_recipe_in_torch(backend):
    for it in backends.share(backend, oracles.rows_of_one_axis()):
        y = oracles.forward(backend, it)
        assert y.shape == it.y.shape
        assert (y == it.y).all()


@pytest.mark.verifies("eq-konv", "thm-absorb", box="coverings of the box on two and three axes", exact=True)
def test_two_and_three_axes_as_the_recipe_in_torch(backend):
    for it in backends.share(backend, oracles.rows_of_more_axes()):
        assert (oracles.forward(backend, it) == it.y).all()


def test_padding_modes_as_the_recipe_in_torch(backend):
    """Padding of samples commutes with the basis: the rows of both ``pad`` expect the same."""
    for it in backends.share(backend, oracles.rows_of_padding_modes()):
        assert (oracles.forward(backend, it) == it.y).all()


def test_both_paddings_of_samples_are_one(backend):
    for mode, basis in product(("reflect", "replicate", "circular"), oracles.BASES):
        x, kappa, bias, options = layer(2)
        of_basis, of_input = (
            backend.konv2d(x, kappa, bias, basis=basis, padding_mode=mode, pad=pad, **options) for pad in oracles.PADS
        )
        assert (of_basis == of_input).all()


def test_same_padding_as_its_sides(backend):
    x, kappa, bias, _ = layer(2, channels=boxes.CHANNELS[1])
    for pad in oracles.PADS:
        options = {"dilation": (1, 2), "pad": pad}
        same = backend.konv2d(x, kappa, bias, padding="same", **options)
        assert same.shape == (2, 3, 5, 6)
        assert (same == backend.konv2d(x, kappa, bias, padding=[(1, 1), (1, 1)], **options)).all()
        valid, none = (backend.konv2d(x, kappa, bias, padding=padding, **options) for padding in ("valid", 0))
        assert (valid == none).all()


def test_each_coefficient_is_of_its_degree_channel_and_tap(backend):
    """One coefficient at a time: the output is that polynomial of the sample that the tap shows, and nothing else."""
    x, kappa, _, options = layer(3, batch=1)
    for place in backends.share(backend, list(np.ndindex(kappa.shape))[::7]):
        o, delta, c, *u = place
        one = np.zeros_like(kappa)
        one[place] = 1
        tap = np.zeros((1, 1, *kappa.shape[3:]), dtype=int)
        tap[(0, 0, *u)] = 1
        channel = x[:, o // 3 * 2 + c][:, np.newaxis]
        sample = bases.values("hermite", channel, delta)[delta]
        geometry = {name: value for name, value in options.items() if name != "groups"}
        y = backend.konv2d(x, one, basis="hermite", **options)
        assert (y[:, o] == images.conv2d(sample, tap, **geometry)[:, 0]).all()
        assert np.count_nonzero(np.delete(y, o, axis=1)) == 0


@pytest.mark.verifies("thm-degree-one", box="two axes, five bases, both paddings, every backend", exact=True)
def test_degree_one_without_constant_is_convolution(backend):
    """Exactly; the second kind's first polynomial is 2x."""
    for basis, pad in product(oracles.BASES, oracles.PADS):
        x, kappa, bias, options = layer(1)
        kappa[:, 0] = 0
        w = kappa[:, 1] * (2 if basis == "chebyshev2" else 1)
        y = backend.konv2d(x, kappa, bias, basis=basis, pad=pad, **options)
        assert (y == images.conv2d(x, w, bias, **options)).all()


@pytest.mark.verifies("cor-konv-degree-zero", box="two axes, every backend", exact=True)
def test_degree_zero_is_a_bias_map(backend):
    """The same for every image: a convolution of ones, padded with zeros or with ones."""
    x, kappa, bias, options = layer(0)
    ones = np.ones_like(x)
    of_basis = backend.konv2d(x, kappa, bias, **options)
    assert (of_basis == images.conv2d(ones, kappa[:, 0], bias, **options)).all()
    assert (of_basis[0] == of_basis[1]).all()
    of_input = backend.konv2d(x, kappa, bias, pad="input", **options)
    assert (of_input == images.conv2d(ones, kappa[:, 0], bias, padding_mode="replicate", **options)).all()


@pytest.mark.verifies(
    "thm-konv-padding", "eq-konv-padding", box="two axes, five bases, degree 1 to 3, every backend", exact=True
)
def test_on_the_border_the_paddings_differ_by_phi_of_zero(backend):
    """By as many values at 0 as a window has taps in the padding; by none inside."""
    for basis, degree in backends.share(backend, list(product(oracles.BASES, (3, 2, 1)))):
        x, kappa, _, options = layer(degree)
        sides = options["padding"]
        at_zero = bases.values(basis, 0, degree)
        phi = np.tensordot(at_zero, kappa, (0, 1))
        border = np.pad(np.zeros_like(x), ((0, 0), (0, 0), *sides), constant_values=1)
        expected = images.conv2d(border, phi, **options | {"padding": 0})
        of_basis, of_input = (backend.konv2d(x, kappa, basis=basis, pad=pad, **options) for pad in oracles.PADS)
        assert (of_input - of_basis == expected).all()
        assert expected.any() or not at_zero.any()
        inside = np.s_[:, :, 1:2, 2:]
        assert not expected[inside].any()


def test_an_odd_function_is_padded_alike(backend):
    """Where phi(0) = 0 for all, nothing tells the two apart: Chebyshev's odd degrees."""
    x, kappa, bias, options = layer(3)
    kappa[:, ::2] = 0
    of_basis, of_input = (backend.konv2d(x, kappa, bias, pad=pad, **options) for pad in oracles.PADS)
    assert (of_basis == of_input).all()


def test_a_change_to_monomials_changes_nothing(backend):
    """In integers: those bases whose polynomials have integer coefficients."""
    for basis, pad in product(("chebyshev", "chebyshev2", "hermite"), oracles.PADS):
        x, kappa, bias, options = layer(3)
        powers = np.tensordot(bases.change_of_basis(basis, "monomial", 3).astype(int), kappa, (1, 1)).swapaxes(0, 1)
        y = backend.konv2d(x, kappa, bias, basis=basis, pad=pad, **options)
        assert (y == backend.konv2d(x, powers, bias, basis="monomial", pad=pad, **options)).all()


def test_a_sample_does_not_depend_on_its_neighbours(backend):
    x, kappa, bias, options = layer(3, batch=3)
    y = backend.konv2d(x, kappa, bias, **options)
    x[1] *= 5
    changed = backend.konv2d(x, kappa, bias, **options)
    alone = backend.konv2d(x[1:2], kappa, bias, **options)
    assert (changed[::2] == y[::2]).all()
    assert (changed[1:2] == alone).all()


def test_a_constant_input_gives_a_constant(backend):
    """No scaling by the batch's least and largest, which here are one."""
    for value in (-1.0, 0.0, 1.0, 1e4):
        x, kappa = np.full((2, 2, 5, 4), value), oracles.operands(AXES, boxes.CHANNELS[1], 3)[1]
        y = backend.konv2d(x, kappa)
        assert np.isfinite(y).all()
        assert (y == y[:1, :, :1, :1]).all()


def test_nan_reaches_those_windows_that_show_it(backend):
    x, kappa, _, options = layer(2)
    one = np.zeros_like(x)
    one[1, 2, 4, 3] = 1
    shown = images.conv2d(one, np.ones_like(kappa[:, 0]), **options) != 0
    for pad in oracles.PADS:
        y = backend.konv2d(np.where(one, np.nan, x), kappa.astype(float), pad=pad, **options)
        assert (np.isnan(y) == shown).all()
    if not backends.takes_arrays(backend):
        return  # there, as in torch, zeros of the padding are multiplied: with NaN they are NaN
    kappa = kappa.astype(float)
    kappa[4, 1, 1, 0, 1] = np.nan
    y = backend.konv2d(x.astype(float), kappa, **options)
    taps = np.isnan(kappa[4, 1, :])[np.newaxis].astype(int)
    geometry = options | {"groups": 1}
    assert (np.isnan(y[:, 4]) == (images.conv2d(np.ones_like(x[:, 2:]), taps, **geometry) > 0)[:, 0]).all()
    assert not np.isnan(np.delete(y, 4, axis=1)).any()


def test_blocks_of_any_size_give_the_same(backend):
    """The arrays backend expands in blocks; here so small that they cut degrees, channels, groups and images."""
    backends.needs_arrays(backend)
    for pad in oracles.PADS:
        it = oracles.row(AXES, GROUPED, 3, batch=3, basis="chebyshev", pad=pad)
        for block in (1, 500, 1000, 2500, 6000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(backend.arrays, "BLOCK", block, raising=False)
                assert (oracles.forward(backend, it) == it.y).all()
                dx, dkappa = oracles.grads(backend, it)
            assert (dx == it.dx).all()
            assert (dkappa == it.dkappa).all()


@pytest.mark.verifies("def-konv", "eq-konv", "thm-absorb", "thm-konv-gradients", box=BOX_TEXT, exact=True)
def test_arrays_as_the_recipe_in_the_whole_box():
    print(BOX_TEXT)
    for number, (axis, channels) in enumerate(boxes.whole()):
        degree, basis, pad = oracles.CHOICES[number * 7 % len(oracles.CHOICES)]
        it = oracles.row((axis,), channels, degree, basis=basis, pad=pad)
        assert (oracles.forward(konvolution, it) == it.y).all()
        dx, dkappa = oracles.grads(konvolution, it)
        assert (dx == it.dx).all()
        assert (dkappa == it.dkappa).all()


@pytest.mark.verifies("eq-konv", "thm-konv-gradients", box=SMALL_TEXT, exact=True)
def test_arrays_as_naive_for_each_degree_basis_and_padding_of_a_smaller_box():
    print(SMALL_TEXT)
    for number, (axis, (degree, basis, pad)) in enumerate(product(SMALL, oracles.CHOICES)):
        channels = (boxes.CHANNELS[1], boxes.CHANNELS[2])[number % 3 == 0]
        x, kappa, bias, dy = oracles.operands((axis,), channels, degree, batch=1)
        options = boxes.options(axis) | {"basis": basis, "pad": pad, "groups": channels.groups}
        assert (konvolution.konv1d(x, kappa, bias, **options) == naive.konv1d(x, kappa, bias, **options)).all()
        dx, expected = (each.konv1d_input_grad(dy, x, kappa, **options) for each in (konvolution, naive))
        assert (dx == expected).all()
        given = options | {"degree": degree, "kernel_size": axis.kernel}
        dkappa, expected = (each.konv1d_kappa_grad(x, dy, **given) for each in (konvolution, naive))
        assert (dkappa == expected).all()


@pytest.mark.verifies("thm-change-of-basis", box="two axes, degree 3, 25 pairs of bases, both paddings", exact=True)
def test_any_basis_is_any_other_in_fractions(exact_backend):
    """The same functions, whichever basis their coefficients are in: all 25 pairs, exactly."""
    x, kappa, bias, options = layer(3, batch=1, channels=boxes.Channels(2, 2, 2))
    x = np.vectorize(Fraction, otypes=[object])(x, 3)
    for pad in oracles.PADS:
        results = {}
        for source in oracles.BASES:
            results[source] = exact_backend.konv2d(x, kappa.astype(object), bias, basis=source, pad=pad, **options)
        for source, target in product(oracles.BASES, repeat=2):
            converted = bases.convert(kappa.astype(object), source, target)
            y = exact_backend.konv2d(x, converted, bias, basis=target, pad=pad, **options)
            assert (y == results[source]).all()


def test_an_added_basis_is_known(exact_backend, monkeypatch):
    """Laguerre's polynomials: n + 1 times the next is (2n + 1 - x) this less n times the last."""
    laguerre = added_bases.add_for_this_test(monkeypatch, "laguerre", added_bases.laguerre, (0, float("inf")))
    assert bases.get_basis("laguerre") is laguerre
    x, kappa, bias, options = layer(3, batch=1)
    objects = x.astype(object), kappa.astype(object)
    y = exact_backend.konv2d(*objects, bias, basis="laguerre", **options)
    powers = bases.convert(objects[1], "laguerre", "monomial")
    assert (y == exact_backend.konv2d(objects[0], powers, bias, basis="monomial", **options)).all()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_geometry_as_the_recipe_in_torch(data):
    count = data.draw(st.integers(1, 3))
    ranges = [(9, (200, 30, 12)[count - 1]), (1, 3), (1, 5), (0, 4), (0, 4), (1, 4)]
    axes = tuple(boxes.Axis(*(data.draw(st.integers(*ends)) for ends in ranges)) for _ in range(count))
    groups, depth, width = (data.draw(st.integers(1, 4)) for _ in range(3))
    degree, basis, pad = data.draw(st.integers(0, 5)), data.draw(st.sampled_from(oracles.BASES)), data.draw(PAD)
    mode = data.draw(st.sampled_from(("zeros", "reflect", "replicate", "circular")))
    channels, batch = boxes.Channels(groups, groups * depth, groups * width), data.draw(st.integers(1, 3))
    it = oracles.row(axes, channels, degree, batch=batch, basis=basis, pad=pad, padding_mode=mode)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BLOCK", data.draw(st.sampled_from([100, 3000, 1 << 24])))
        y, (dx, dkappa) = oracles.forward(konvolution, it), oracles.grads(konvolution, it)
    assert (y == it.y).all()
    assert (dx == it.dx).all()
    assert (dkappa == it.dkappa).all()


PAD = st.sampled_from(oracles.PADS)


def test_the_calls_of_one_to_three_axes_are_one_function(backend):
    """An axis of one sample more or less changes nothing."""
    x, kappa, bias, _ = layer(2, axes=(AXES[0],), channels=boxes.CHANNELS[1])
    y = call(backend, "konv#d", 1, x, kappa, bias)
    for axes in (2, 3):
        more = (Ellipsis, *[np.newaxis] * (axes - 1), slice(None))
        assert (call(backend, "konv#d", axes, x[more], kappa[more], bias)[..., 0, :].reshape(y.shape) == y).all()
