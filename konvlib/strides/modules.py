"""A `torch.nn.Sequential` of convolutions as one torch convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from konvlib.strides.chains import Layer


def collapse_with(compose_chain: Callable[[Sequence[Layer]], Layer], model: Any) -> Any:
    """Return one torch convolution that is the whole of ``model``, its weights composed by ``compose_chain``.

    Parameters, result and errors are those of `konvlib.collapse`.

    Examples
    --------
    >>> import torch
    >>> from konvlib.strides import compose_chain
    >>> collapse_with(compose_chain, torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 2, 3)))
    Conv2d(3, 2, kernel_size=(5, 5), stride=(1, 1))
    """
    import torch

    if not isinstance(model, torch.nn.Sequential):
        raise TypeError(f"model must be a torch.nn.Sequential, got {type(model).__name__}")
    layers = list(_convolutions("model", model))
    if not layers:
        raise ValueError("model must hold at least one convolution, got none")
    _check_alike(layers)
    first = layers[0][1]
    whole = compose_chain([_as_layer(layer) for _, layer in layers])
    result = torch.nn.utils.skip_init(
        type(first),
        first.in_channels,
        len(whole.weight),
        whole.weight.shape[2:],
        stride=whole.stride,
        padding=_padding(*layers[0]),
        dilation=whole.dilation,
        groups=whole.groups,
        bias=whole.bias is not None,
        padding_mode=first.padding_mode,
        device=first.weight.device,
        dtype=first.weight.dtype,
    )
    with torch.no_grad():
        result.weight.copy_(torch.from_numpy(whole.weight))
        if whole.bias is not None:
            result.bias.copy_(torch.from_numpy(whole.bias))
    return result.train(model.training)


def _convolutions(name: str, model: Any) -> Iterator[tuple[str, Any]]:
    """The convolutions of a model by name, in order; containers are opened, identities left out.

    A module that stands in two places is two layers, which ``named_children`` would count once.
    """
    from torch import nn

    if type(model).forward is not nn.Sequential.forward:
        raise ValueError(f"{name} must run its layers in turn, got {type(model).__name__} with a forward of its own")
    _check_hooks(name, model)
    for key, layer in model._modules.items():
        label = f"layer {key}" if name == "model" else f"{name}.{key}"
        if isinstance(layer, nn.Sequential):
            yield from _convolutions(label, layer)
            continue
        if type(layer) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Identity):
            raise ValueError(f"{label} must be a Conv1d, Conv2d or Conv3d itself, got {type(layer).__name__}")
        _check_hooks(label, layer)
        if type(layer) is not nn.Identity:
            yield label, layer


def _check_hooks(name: str, module: Any) -> None:
    """What a hook does (weight normalisation is one) is not seen from here."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError(f"{name} must have no forward hooks, got some; remove them first")


def _check_alike(layers: list[tuple[str, Any]]) -> None:
    first_name, first = layers[0]
    given = first.in_channels
    for number, (name, layer) in enumerate(layers):
        if type(layer) is not type(first):
            raise ValueError(f"{name} must be a {type(first).__name__}, as {first_name} is, got {type(layer).__name__}")
        for kind in ("dtype", "device"):
            ours, theirs = getattr(layer.weight, kind), getattr(first.weight, kind)
            if ours != theirs:
                raise ValueError(f"{name} must have {kind} {theirs}, as {first_name} has, got {ours}")
        if layer.in_channels != given:
            raise ValueError(f"{name} must take the {given} channels of the layer before, got {layer.in_channels}")
        if number and any(map(any, _sides(layer))):
            raise ValueError(
                f"{name} must have no padding, since only the first layer's is padding of the whole, "
                f"got {layer.padding!r}"
            )
        given = layer.out_channels


def _padding(name: str, layer: Any) -> tuple[int, ...]:
    """The first layer's padding as one number per axis."""
    sides = _sides(layer)
    if any(before != after for before, after in sides):
        raise ValueError(f"{name} must pad both sides alike, got padding 'same', which is {sides} here")
    return tuple(before for before, _ in sides)


def _sides(layer: Any) -> list[tuple[int, int]]:
    """The padding before and after each axis."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [gap * (taps - 1) for gap, taps in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(side, side) for side in layer.padding]


def _as_layer(layer: Any) -> Layer:
    """A layer with arrays of double precision, in which the weights are composed and rounded only once."""
    weight, bias = (None if tensor is None else _doubles(tensor) for tensor in (layer.weight, layer.bias))
    return Layer(weight, layer.stride, layer.dilation, bias, layer.groups)


def _doubles(tensor: Any) -> np.ndarray:
    import torch

    return tensor.detach().to("cpu", torch.complex128 if tensor.is_complex() else torch.float64).numpy()
