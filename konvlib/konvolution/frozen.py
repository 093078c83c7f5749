"""What a frozen layer keeps: that which is made of its parameters alone, made once instead of at each call.

Weights in the order in which a kernel takes them, coefficients rescaled or in another basis, and what degree 0 and the
bias add for a size of input. Functions that make one take a ``keep``: it is asked for a key, and calls what makes the
value, or remembers that. `anew` remembers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from threading import Lock
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter, is_lazy

from konvlib.geometry import ConvGeometry
from konvlib.konvolution.bases import Basis
from konvlib.registration import is_plain, lowers

T = TypeVar("T")
Keep = Callable[[Hashable, Callable[[], Any]], Any]

MOST = 8
"""How many values are kept for a layer, each about as large as kappa, or as the layer's result for one sample."""


def anew(key: Hashable, make: Callable[[], T]) -> T:
    """Return what ``make`` does, and keep nothing.

    Examples
    --------
    >>> anew("weight", lambda: 3)
    3
    """
    return make()


def place_of(layer: ConvGeometry) -> tuple[Any, ...]:
    """Return all of a layer's geometry that decides which output sees which tap: the batch does not.

    Examples
    --------
    >>> from konvlib.geometry import conv_geometry
    >>> one, many = (conv_geometry((batch, 2, 9), (4, 2, 3), axes=1, padding=1) for batch in (1, 64))
    >>> place_of(one) == place_of(many)
    True
    """
    return layer.input_size, layer.kernel_size, layer.stride, layer.padding, layer.dilation


class Prepacked:
    """A ``keep`` that remembers, for parameters that stay the same tensors with the same values in the same basis.

    On CUDA each stream has its own values: what one has made, another might read too early, or after it is freed.
    """

    def __init__(self, basis: Basis, parameters: Sequence[Tensor]) -> None:
        self._basis = basis
        self._seen = [(parameter, _state_of(parameter)) for parameter in parameters]
        # While these hold the memory, no other tensor can come to lie there.
        self._memory = [parameter.detach() for parameter in parameters]
        self._made: dict[Hashable, Any] = {}
        self._lock = Lock()

    def is_of(self, basis: Basis, parameters: Sequence[Tensor]) -> bool:
        """Whether these are the parameters, not replaced, not moved, and not changed in a way that torch counts."""
        if basis is not self._basis or len(parameters) != len(self._seen):
            return False
        return all(
            [
                parameter is seen and _state_of(parameter) == state
                for parameter, (seen, state) in zip(parameters, self._seen, strict=True)
            ]
        )

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        key, made = (key, _stream_of(self._memory[0])), self._made
        if key in made:
            return made[key]
        with torch.inference_mode(False), torch.no_grad():
            value = make()
        with self._lock:  # a new dictionary: others may be reading the old one
            self._made = dict([*self._made.items(), (key, value)][-MOST:])
        return value


def _state_of(parameter: Tensor) -> tuple[Any, ...]:
    """What torch knows of changes in place, and where a parameter lies."""
    return parameter._version, parameter.data_ptr(), parameter.stride(), parameter.shape, parameter.dtype


def _stream_of(tensor: Tensor) -> int:
    return torch.cuda.current_stream(tensor.device).cuda_stream if tensor.device.type == "cuda" else 0


class Frozen:
    """That a layer is frozen: which parameters required a gradient before, and what is kept of their values.

    Copies and pickles keep nothing but the names.
    """

    def __init__(self, trained: Iterable[str] = ()) -> None:
        self.trained = frozenset(trained)
        self._prepacked: Prepacked | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Frozen, (self.trained,)

    def keep(self, x: Tensor, kappa: Tensor, bias: Tensor | None, basis: Basis) -> Keep:
        """Return what keeps values for a call; where they would not be those of any other call, `anew`."""
        parameters = (kappa,) if bias is None else (kappa, bias)
        if not _is_usual(x) or any([parameter.requires_grad for parameter in parameters]):
            return anew
        kept = self._prepacked
        if kept is None or not kept.is_of(basis, parameters):
            # Tensors that stand for parameters are made for each call; those of inference mode count no changes.
            if any([type(parameter) is not Parameter or parameter.is_inference() for parameter in parameters]):
                return anew
            self._prepacked = kept = Prepacked(basis, parameters)
        return kept


def _is_usual(x: Tensor) -> bool:
    """Whether a call is by no transform, no trace and no autocast, and by no graph of CUDA, which has its own memory.

    What were made while a graph is captured would be there only after it ran; what was made before may be freed while
    the graph still reads it.
    """
    return is_plain(x) and not lowers(x) and not (x.is_cuda and torch.cuda.is_current_stream_capturing())


class Freezable(nn.Module):
    """What can be frozen: a layer of Konvolution."""

    kappa: Tensor
    bias: Tensor | None
    _frozen: Frozen | None = None

    @property
    def frozen(self) -> bool:
        """Whether the layer is frozen: see `freeze`; not while ``kappa`` or ``bias`` requires a gradient."""
        if self._frozen is None:
            return False
        return not any([tensor is not None and tensor.requires_grad for tensor in (self.kappa, self.bias)])

    def freeze(self) -> Self:
        """Say that the parameters are constant from now on, so that what is made of them alone is made once.

        They need no gradient any more. That by the input is as before, and so are results. Calls reuse the weights in
        the order in which they are multiplied, and what degree 0 and the bias add for a size of input: at most eight
        tensors, each about as large as ``kappa``, or as the layer's result for one sample. They are in no
        ``state_dict``, no copy and no pickle.

        What is kept is dropped, and made anew when it is needed, once the parameters are loaded, moved, converted,
        replaced, or changed in place. Torch counts changes in place, but for those through ``kappa.data``, through a
        NumPy array that shares the memory, by another process or by a CUDA graph: call `freeze` again after these.

        Nothing is reused while ``kappa`` or ``bias`` requires a gradient, under autocast, in traces and in compiled
        graphs, under `torch.func`, and while a CUDA graph is captured: there a layer computes as if it were not frozen.

        Returns
        -------
        Module
            The layer itself.

        Raises
        ------
        ValueError
            If the layer is lazy, and no batch has told its channels.

        Examples
        --------
        >>> from konvlib import Konv2d
        >>> layer, x = Konv2d(3, 8, 3, padding=1), torch.randn(2, 3, 6, 7)
        >>> before = layer(x)
        >>> torch.equal(layer.freeze()(x), before), layer.kappa.requires_grad
        (True, False)
        >>> model = torch.nn.Sequential(layer, torch.nn.ReLU(), Konv2d(8, 4, 3)).eval()
        >>> _ = model.apply(lambda module: module.freeze() if isinstance(module, Konv2d) else None)
        >>> [module.frozen for module in model if isinstance(module, Konv2d)]
        [True, True]
        """
        if any(map(is_lazy, self.parameters())):
            raise ValueError("the layer must know its channels to be frozen, got a lazy one that has seen no batch")
        before = () if self._frozen is None else self._frozen.trained
        names = [name for name, parameter in self.named_parameters() if parameter.requires_grad]
        super().requires_grad_(False)
        self._frozen = Frozen([*before, *names])
        return self

    def thaw(self) -> Self:
        """Take `freeze` back: keep nothing, and let those parameters require a gradient that did before.

        Examples
        --------
        >>> from konvlib import Konv2d
        >>> layer = Konv2d(3, 8, 3).freeze().thaw()
        >>> layer.frozen, layer.kappa.requires_grad
        (False, True)
        """
        trained = () if self._frozen is None else self._frozen.trained
        self._frozen = None
        for name, parameter in self.named_parameters():
            if name in trained:
                parameter.requires_grad_()
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether all parameters require a gradient; if they do, the layer is frozen no more."""
        if requires_grad:
            self._frozen = None
        return super().requires_grad_(requires_grad)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._keep_nothing()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        self._keep_nothing()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _keep_nothing(self) -> None:
        if self._frozen is not None:
            self._frozen = Frozen(self._frozen.trained)
