"""Frozen layers of Konvolution on small integers, each beside the layer that it was made of."""

from __future__ import annotations

import copy

import torch

from konvlib.konvolution import aten
from konvlib.konvolution.module import Konv2d


def counted(monkeypatch):
    """What is made of parameters, in order."""
    names = []
    for name in ("degree_0", "_weight"):
        make = getattr(aten, name)
        monkeypatch.setattr(aten, name, lambda *given, make=make, name=name: names.append(name) or make(*given))
    return names


def whole_numbers(layer, seed=0):
    """The same layer with small integers for parameters, of which sums are exact."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randint(-3, 4, parameter.shape, generator=generator))
    return layer


def batch(*shape, seed=1, dtype=torch.float64):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def pair(**options):
    """A layer and its frozen copy."""
    layer = whole_numbers(Konv2d(4, 6, (3, 2), **{"padding": 1, "dtype": torch.float64} | options))
    return layer, copy.deepcopy(layer).freeze()


def unfrozen(layer, *given):
    """What a layer of the same parameters computes that keeps nothing."""
    return copy.deepcopy(layer).thaw()(*given)
