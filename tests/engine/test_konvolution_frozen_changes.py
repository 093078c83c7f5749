"""Frozen layers of Konvolution after a change of what their kept values were made of: they are made anew."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from konvlib.konvolution import bases
from konvlib.konvolution.module import Konv2d
from tests.engine.added_bases import add_for_this_test
from tests.engine.frozen_layers import batch, pair, unfrozen


def _loaded(layer):
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()})


def _loaded_by_assigning(layer):
    layer.load_state_dict({name: 2 * value for name, value in layer.state_dict().items()}, assign=True)


@torch.no_grad()
def _in_place(layer):
    layer.kappa.mul_(2)


@torch.no_grad()
def _one_number(layer):
    layer.kappa[5, 3, 3, 2, 1] += 1


@torch.inference_mode()
def _in_inference_mode(layer):
    layer.kappa.mul_(2)


@torch.no_grad()
def _as_a_moving_average(layer):
    torch._foreach_lerp_([layer.kappa.detach()], [torch.zeros_like(layer.kappa)], 0.5)


@torch.no_grad()
def _bias_in_place(layer):
    layer.bias += 1


def _bias_taken_away(layer):
    layer.bias = None


def _assigned(layer):
    layer.kappa = nn.Parameter(2 * layer.kappa, requires_grad=False)


def _other_data(layer):
    layer.kappa.data = 2 * layer.kappa.data


def _another_of_the_same_memory(layer):
    """Its changes are counted from 0 again, up to where the first one stood."""
    other = nn.Parameter(layer.kappa.data, requires_grad=False)
    with torch.no_grad():
        while other._version < layer.kappa._version:
            other.mul_(2)
    layer.kappa = other


def _turned(layer):
    """The same memory and the same shape."""
    layer.kappa.data = layer.kappa.data.transpose(1, 2)


def _of_lower_degree(layer):
    layer.kappa.data = layer.kappa.data[:, :3]


def _from_a_vector(layer):
    vector = nn.utils.parameters_to_vector(layer.parameters())
    nn.utils.vector_to_parameters(2 * vector, layer.parameters())


def _set(layer):
    with torch.no_grad():
        layer.kappa.set_(2 * layer.kappa)


def _swapped(layer):
    torch.utils.swap_tensors(layer.kappa, nn.Parameter(2 * layer.kappa, requires_grad=False))


def _in_another_basis(layer):
    layer.basis = "hermite"


def _in_a_basis_of_the_same_name(layer):
    bases.BASES.pop("passing")
    bases.add_basis("passing", lambda n: (3, 1, 2), domain=(-1, 1))


def _strided(layer):
    layer.stride = (2, 1)


def _padded(layer):
    layer.padding = ((2, 0), (1, 1))


def _padded_otherwise(layer):
    layer.pad = "input"


def _dilated(layer):
    layer.dilation = (1, 2)


CHANGES = {
    change.__name__: change
    for change in (
        _loaded, _loaded_by_assigning, _in_place, _one_number, _in_inference_mode, _as_a_moving_average,
        _bias_in_place, _bias_taken_away, _assigned, _other_data, _another_of_the_same_memory, _turned,
        _of_lower_degree, _from_a_vector, _set, _swapped, _in_another_basis, _in_a_basis_of_the_same_name, _strided,
        _padded, _padded_otherwise, _dilated,
    )
}  # fmt: skip
CHANGES |= {"reset": Konv2d.reset_parameters, "half": Konv2d.half, "float": Konv2d.float}
CHANGES |= {"half and back": lambda layer: layer.half().double()}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(monkeypatch, change):
    add_for_this_test(monkeypatch, "passing", lambda n: (2, 1, 1))
    layer = pair(squash="none", basis="passing")[1]
    x = batch(2, 4, 5, 6)
    with torch.no_grad():
        layer.kappa.div_(3)  # which halves have to round
    before = layer(x)
    assert torch.equal(layer(x), before)
    CHANGES[change](layer)
    x = x.to(layer.kappa.dtype)
    for _ in range(2):
        y = layer(x)
        assert y.shape != before.shape or not torch.equal(y.double(), before)
        assert torch.equal(y, unfrozen(layer, x))


def test_memory_is_held_until_the_change_is_seen():
    """So nothing else can come to lie where the parameter lay, and be taken for it."""
    _, layer = pair()
    x = batch(2, 4, 5, 6)
    layer(x)
    memory = StorageWeakRef(layer.kappa.untyped_storage())
    layer.kappa.data = 2 * layer.kappa.data
    assert not memory.expired()
    layer(x)
    assert memory.expired()


def test_loading_and_moving_free_what_is_kept_at_once():
    _, layer = pair()
    model, x = nn.Sequential(layer), batch(2, 4, 5, 6)
    for move in (model.double, model.cpu, lambda: model.load_state_dict(model.state_dict())):
        model(x)
        assert layer._frozen._prepacked
        move()
        assert layer.frozen
        assert layer._frozen._prepacked is None


def test_what_torch_does_not_count_needs_another_freeze():
    """That is the contract: `freeze` says that parameters are constant, and is to be said again."""
    _, layer = pair()
    x = batch(2, 4, 5, 6)
    before = layer(x)
    layer.kappa.data.mul_(2)
    assert torch.equal(layer(x), before)
    assert torch.equal(layer.freeze()(x), unfrozen(layer, x))
    layer.kappa.numpy()[...] *= 3
    assert torch.equal(layer.freeze()(x), unfrozen(layer, x))
    assert not torch.equal(layer(x), before)
