"""Frozen layers of Konvolution: the same results and gradients, made of kept values that no copy takes along.

When kept values are no longer right is told in test_konvolution_frozen_changes.py, what becomes of them under
autocast, transforms, compilers, streams and threads in test_konvolution_frozen_torch.py.
"""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest
import torch
from torch import nn

from konvlib.konvolution import frozen
from konvlib.konvolution.module import Konv1d, Konv2d, Konv3d, LazyKonv2d
from konvlib.konvolution.recurrences import BASES
from tests.engine.frozen_layers import batch, counted, pair, unfrozen, whole_numbers

KONVS = {1: Konv1d, 2: Konv2d, 3: Konv3d}
SIZES = (7, 6, 5), (5, 8, 4)
OPTIONS = [
    {},
    {"padding": 1, "bias": False},
    {"stride": 2, "padding": ((2, 0), (1, 2), (0, 1)), "groups": 2},
    {"padding": "same", "dilation": 2, "affine": True},
    {"padding": 1, "pad": "input"},
    {"padding": 2, "padding_mode": "reflect", "stride": 3},
    {"padding": 1, "padding_mode": "circular", "groups": 2},
    {"padding": "same", "padding_mode": "replicate", "recompute": True},
]

made = pytest.fixture(counted)


# The same results


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("axes", KONVS)
def test_every_geometry_is_computed_alike(axes, options):
    """Sizes and batches in turn, one sample too, and each of them twice."""
    given = {**options, "squash": "none", "degree": 2, "dtype": torch.float64}
    if isinstance(options.get("padding"), tuple):
        given["padding"] = options["padding"][:axes]
    layer = whole_numbers(KONVS[axes](4, 6, (3, 2, 1)[:axes], **given))
    again = copy.deepcopy(layer).freeze()
    shapes = [(*first, *size[:axes]) for size in SIZES for first in ((2, 4), (3, 4), (4,))]
    for shape in shapes * 2:
        x = batch(*shape)
        assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize(("basis", "squash"), list(product(BASES, ["tanh", "none"])))
@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 9])
def test_every_basis_and_degree_is_computed_alike(basis, squash, degree):
    layer, again = pair(basis=basis, squash=squash, degree=degree)
    for size in [(5, 6), (4, 7)] * 2:
        x = batch(2, 4, *size)
        assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_every_dtype_is_computed_alike(dtype):
    layer, again = pair(dtype=dtype, degree=2, squash="none")
    for _ in range(2):
        y = again(x := batch(2, 4, 5, 6, dtype=dtype))
        assert y.dtype == dtype
        assert torch.equal(y, layer(x))


def test_what_is_made_of_parameters_is_made_once(made):
    _, layer = pair()
    small, large = batch(2, 4, 5, 6), batch(2, 4, 7, 6)
    for x in (small, small, batch(3, 4, 5, 6), small[0]):
        layer(x)
    assert made == ["degree_0", "_weight"]
    for x in (large, small, large):
        layer(x)
    assert made == ["degree_0", "_weight", "degree_0"]


def test_without_zeros_in_the_padding_one_value_serves_all_sizes(made):
    _, layer = pair(padding=0)
    for size in ((5, 6), (7, 6)):
        layer(batch(2, 4, *size))
    assert made == ["degree_0", "_weight"]


def test_a_result_is_no_kept_tensor():
    layer, again = pair(degree=0)
    x = batch(1, 4, 5, 6)
    again(x).zero_()
    assert torch.equal(again(x), layer(x))


def test_so_many_values_are_kept_and_no_more(made):
    """The newest: the weight once more when it is the oldest, and maps for the last sizes."""
    layer, again = pair()
    inputs = [batch(1, 4, size, 5) for size in range(3, 3 + 2 * frozen.MOST)]
    for x in inputs:
        assert torch.equal(again(x), layer(x))
    assert len(again._frozen._prepacked._made) == frozen.MOST
    made.clear()
    for x in inputs[-3:]:
        again(x)
    assert made == []


# Copies


def test_nothing_kept_is_saved_or_copied():
    layer, again = pair(affine=True)
    x = batch(2, 4, 5, 6)
    empty = len(pickle.dumps(again))
    again(x)
    assert again._frozen._prepacked
    assert list(again.state_dict()) == list(layer.state_dict()) == ["kappa", "bias", "scale", "shift"]
    assert len(pickle.dumps(again)) == empty
    for copied in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        assert copied.frozen
        assert copied._frozen._prepacked is None
        with torch.no_grad():
            copied.kappa.mul_(2)
        assert torch.equal(copied(x), unfrozen(copied, x))
        assert torch.equal(again(x), layer(x))
        assert all(p.requires_grad for p in copied.thaw().parameters())


def test_a_shallow_copy_may_have_other_parameters():
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    other = copy.copy(again)
    other._parameters = {**other._parameters, "kappa": nn.Parameter(2 * layer.kappa.detach(), requires_grad=False)}
    for _ in range(2):
        assert torch.equal(other(x), unfrozen(other, x))
        assert torch.equal(again(x), layer(x))


def test_older_pickles_are_not_frozen():
    layer = pair()[0]
    layer.__dict__.pop("_frozen", None)
    assert not pickle.loads(pickle.dumps(layer)).frozen


# Gradients


def test_freezing_and_thawing_say_which_parameters_require_gradients():
    layer = pair(affine=True)[0]
    layer.shift.requires_grad_(False)
    assert layer.freeze() is layer
    assert not any(p.requires_grad for p in layer.parameters())
    layer.scale.requires_grad_()
    assert layer.freeze().frozen
    assert layer.thaw() is layer
    assert not layer.frozen
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["kappa", "bias", "scale"]
    assert not layer.requires_grad_(False).thaw().kappa.requires_grad  # it was not frozen
    assert layer.freeze().requires_grad_(False).frozen
    assert not layer.thaw().kappa.requires_grad


@pytest.mark.parametrize("required", ["model", "kappa", "bias", "scale", "layer"])
def test_a_layer_is_said_to_be_frozen_where_its_calls_reuse_what_is_kept(required, made):
    """What is kept is made of kappa and of the bias alone. By the layer's own method it is frozen no more."""
    _, layer = pair(affine=True)
    model, x = nn.Sequential(layer), batch(2, 4, 5, 6)
    for requires, expected in ((True, required == "scale"), (False, required != "layer")):
        model(x)
        {"layer": layer, "model": model}.get(required, getattr(layer, required, None)).requires_grad_(requires)
        made.clear()
        model(x)
        assert layer.frozen == expected == (not made)


@pytest.mark.parametrize("required", ["layer", "model", "kappa", "bias"])
def test_a_parameter_that_requires_a_gradient_again_gets_it(required):
    layer, again = pair()
    x = batch(2, 4, 5, 6)
    again(x)
    model = nn.Sequential(again)
    {"layer": again, "model": model}.get(required, getattr(again, required, None)).requires_grad_(True)
    assert not again.frozen
    leaves = [name for name, p in again.named_parameters() if p.requires_grad]
    for name, got, expected in zip(
        leaves,
        torch.autograd.grad(again(x).square().sum(), [getattr(again, name) for name in leaves]),
        torch.autograd.grad(layer(x).square().sum(), [getattr(layer, name) for name in leaves]),
        strict=True,
    ):
        assert torch.equal(got, expected), name
    with torch.no_grad():
        getattr(again, leaves[0]).mul_(2)
    model.requires_grad_(False)
    assert torch.equal(again(x), unfrozen(again, x))


@pytest.mark.parametrize("options", [{}, {"affine": True}, {"recompute": True}, {"bias": False, "padding": 0}], ids=str)
def test_gradients_by_the_input_are_as_before(options):
    layer, again = pair(**options, degree=2, squash="none")
    x, g = batch(2, 4, 5, 6).requires_grad_(), None
    with torch.inference_mode():
        again(x)  # what is kept must serve under autograd too
    for _ in range(2):
        found = []
        for each in (layer, again):
            y = each(x)
            g = torch.ones_like(y) if g is None else g
            (dx,) = torch.autograd.grad(y, x, g, create_graph=True)
            found.append((dx, *torch.autograd.grad(dx.square().sum(), x)))
        assert all(torch.equal(*each) for each in zip(*found, strict=True))


def test_no_graph_is_built_where_nothing_requires_a_gradient():
    assert not pair()[1](batch(2, 4, 5, 6)).requires_grad


# Other layers


def test_a_lazy_layer_learns_its_channels_first():
    lazy = LazyKonv2d(6, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="the layer must know its channels to be frozen, got a lazy one"):
        lazy.freeze()
    assert not lazy.frozen
    x = batch(2, 4, 5, 6)
    y = lazy(x)
    assert torch.equal(lazy.freeze()(x), y)


def test_a_layer_made_of_a_frozen_convolution_is_not_frozen():
    layer = Konv2d.from_conv(nn.Conv2d(4, 6, 3).requires_grad_(False))
    assert not layer.frozen
    assert not layer.freeze().thaw().kappa.requires_grad
    assert Konv2d.from_conv(nn.Conv2d(4, 6, 3)).freeze().frozen


def test_a_model_is_frozen_layer_by_layer():
    model = nn.Sequential(Konv2d(2, 3, 2), nn.ReLU(), nn.Sequential(Konv2d(3, 2, 2), nn.Conv2d(2, 2, 1)))
    assert model.apply(lambda module: module.freeze() if isinstance(module, Konv2d) else None) is model
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["2.1.weight", "2.1.bias"]
    assert model.eval()[0].frozen
