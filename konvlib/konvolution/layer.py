"""What layers of Konvolution over one to three axes share: their arguments, their parameters, and how they are called.

The layers themselves stand in `konvlib.konvolution.module`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import prod, sqrt
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.fx import Proxy
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedParameter, is_lazy
from torch.utils.checkpoint import checkpoint

from konvlib import geometry
from konvlib.checks import check_tensors, checked_kind, has_no_shape, planned_tensors
from konvlib.geometry import PADDING_MODES, PADS, Padding, PerAxis
from konvlib.geometry.memory import MOST_BYTES
from konvlib.konvolution import aten, bases, operators, plans, tensors
from konvlib.konvolution.bases import get_basis
from konvlib.konvolution.frozen import Freezable, anew
from konvlib.layers.polynomials import SQUASHES
from konvlib.registration import Kept, is_plain, last_derivative
from konvlib.runtime import runs_kernel

_NODES = np.linspace(-20, 20, 641)
"""Where expectations are sampled. Equal steps are exact to rounding for a function as smooth as these; Gauss-Hermite
quadrature with a hundred nodes misses the variance of Chebyshev's degree 8 after tanh by 5 %."""


def moments(basis: str, degree: int, squash: str = "tanh") -> tuple[np.ndarray, np.ndarray]:
    r"""Return the mean and the variance of each polynomial of a squashed standard normal sample.

    .. math:: e_\delta = \mathrm{E}\,p_\delta(\psi(x)), \qquad v_\delta = \mathrm{Var}\,p_\delta(\psi(x)),
        \qquad x \sim N(0, 1)

    Parameters
    ----------
    basis : str
        The name of a basis.
    degree : int
        The last polynomial's.
    squash : {"tanh", "none"}
        What psi is.

    Returns
    -------
    mean, variance : ndarray of float64, shape (degree + 1,)
        By numerical integration, exact but for rounding up to degree 16.

    Raises
    ------
    TypeError, ValueError
        If the basis or the squash is unknown, or ``degree`` negative.

    Examples
    --------
    >>> mean, variance = moments("monomial", 4, "none")
    >>> mean[::2].round(9), variance.round(9)
    (array([1., 1., 3.]), array([ 0.,  1.,  2., 15., 96.]))
    """
    geometry.one_of(squash, "squash", SQUASHES)
    weights = np.exp(-(_NODES**2) / 2)
    weights /= weights.sum()
    p = bases.values(basis, np.tanh(_NODES) if squash == "tanh" else _NODES, degree)
    mean = p @ weights
    return mean, (p - mean[:, None]) ** 2 @ weights


class KonvLayer(Freezable):
    """What the layers over one to three axes share; ``in_channels`` is None while it is not known."""

    axes: ClassVar[int]

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: PerAxis,
        *,
        degree: int = 3,
        basis: str = "chebyshev",
        squash: str = "tanh",
        stride: PerAxis = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        pad: str = "basis",
        affine: bool = False,
        recompute: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # Lazy layers know half of their channels: the other half is checked when the first batch comes.
        self.out_channels = geometry.integer(out_channels, "out_channels", least=1)
        geometry.check_memory(2 * self.out_channels, ["out_channels"])
        self.in_channels = self._known_channels(in_channels)
        self.groups = geometry.check_channels(self.in_channels, self.out_channels, groups)
        self.degree = geometry.checked_degree(degree)
        self.basis = get_basis(basis).name
        self.squash = geometry.one_of(squash, "squash", SQUASHES)
        self.kernel_size = geometry.per_axis(kernel_size, self.axes, "kernel_size")
        self.stride = geometry.per_axis(stride, self.axes, "stride")
        self.dilation = geometry.per_axis(dilation, self.axes, "dilation")
        self.padding = _checked_padding(padding, self.kernel_size, self.stride, self.dilation)
        self.padding_mode = geometry.one_of(padding_mode, "padding_mode", PADDING_MODES)
        self.pad = geometry.one_of(pad, "pad", PADS)
        self.affine, self.recompute = geometry.flag(affine, "affine"), geometry.flag(recompute, "recompute")
        has_bias, kind = geometry.flag(bias, "bias"), checked_kind(device, dtype)
        self.kappa = _parameter(self._kappa_shape, kind)
        self.register_parameter("bias", _parameter((self.out_channels,), kind) if has_bias else None)
        self.register_parameter("scale", _parameter(self._affine_shape, kind) if affine else None)
        self.register_parameter("shift", _parameter(self._affine_shape, kind) if affine else None)
        self.reset_parameters()

    def _known_channels(self, in_channels: int | None) -> int | None:
        """Lazy layers alone may not know their channels."""
        if in_channels is None and isinstance(self, LazyModuleMixin):
            return None
        return geometry.integer(in_channels, "in_channels", least=1)

    @property
    def _kappa_shape(self) -> tuple[int, ...] | None:
        if self.in_channels is None:
            return None
        shape = (self.out_channels, self.degree + 1, self.in_channels // self.groups, *self.kernel_size)
        geometry.check_memory(2 * prod(shape), ("in_channels", "out_channels", "kernel_size", "degree"))
        return shape

    @property
    def _affine_shape(self) -> tuple[int, ...] | None:
        return None if self.in_channels is None else (self.in_channels,)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw coefficients that keep the variance; the bias and the shift start at 0, the scale at 1."""
        if self.bias is not None:
            self.bias.zero_()
        if is_lazy(self.kappa):
            return
        if self.scale is not None:
            self.scale.fill_(1)
            self.shift.zero_()
        self.kappa.zero_()
        if self.degree == 0:
            return
        mean, variance = moments(self.basis, self.degree, self.squash)
        terms = self.degree * prod(self.kappa.shape[2:])
        for n in range(1, self.degree + 1):
            self.kappa[:, n].normal_(0, 1 / sqrt(terms * variance[n]))
            self.kappa[:, 0] -= float(mean[n]) * self.kappa[:, n]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer of a batch ``(N, C, *size)``, or of one sample ``(C, *size)``."""
        if isinstance(x, Proxy):
            return self._as_a_node(x)
        kappa, bias = self.kappa, self.bias
        if not isinstance(x, torch.Tensor) or has_no_shape(x) or x.dim() != self.axes + 2:
            check_tensors({"x": x, "kappa": kappa})
            geometry.lacks_batch({"x": x.shape}, self.axes + 2)
            return self.forward(x.unsqueeze(0)).squeeze(0)
        layer = self._layer(x, kappa, bias)
        if self._frozen is not None:
            layer = partial(layer, keep=self._frozen.keep(x, kappa, bias, bases.BASES[self.basis]))
        if self.affine:
            layer = partial(_affine, layer, self.scale, self.shift)
        if self.recompute and torch.is_grad_enabled() and last_derivative():
            return checkpoint(layer, x, kappa, bias, use_reentrant=False, preserve_rng_state=False)
        return layer(x, kappa, bias)

    def _as_a_node(self, x: Proxy) -> Proxy:
        """The layer as one node of a graph of `torch.fx`, as a layer of torch is."""
        path = x.tracer.path_of_module(self)
        if not path:
            raise TypeError("x must be a tensor, got a Proxy of torch.fx: trace a model that holds the layer")
        return x.tracer.create_proxy("call_module", path, (x,), {})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load parameters; scale and shift had an axis of one entry for each spatial axis once."""
        for name in (f"{prefix}scale", f"{prefix}shift"):
            old = state_dict.get(name)
            if isinstance(old, torch.Tensor) and old.shape[1:] == (1,) * self.axes:
                state_dict[name] = old.flatten()
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _layer(self, x: torch.Tensor, kappa: torch.Tensor, bias: torch.Tensor | None) -> Callable[..., torch.Tensor]:
        """The layer as a function of ``x``, ``kappa`` and ``bias``, once they are found good.

        Nothing is checked twice for the same kind of input; while torch traces, only what depends on lengths is.
        """
        options = (self.stride, self.padding, self.dilation, self.groups, self.padding_mode, self.pad)
        shapes = x.shape, kappa.shape, None if bias is None else bias.shape
        alike = x.dtype == kappa.dtype and x.device == kappa.device and x.layout is torch.strided
        if alike and not runs_kernel(x):
            if torch.compiler.is_compiling():
                fits = shapes[1] == self._kappa_shape and (bias is None or shapes[2] == (self.out_channels,))
                if fits and self.padding not in geometry.SIZED_PADDINGS:
                    number = bases.get_basis(self.basis).number
                    plan, least = _traced(
                        self.basis, number, self.squash, self._kappa_shape, self.in_channels, *options
                    )
                    if _fits(x.shape, (0, self.in_channels, *least)):
                        return partial(aten.konv, plan=plan, constants=plans.constants_of(plan, x))
            elif is_plain(x):
                return _planned(shapes, x.dtype, x.device, bases.BASES[self.basis], self.squash, *options)
        elif alike and is_plain(x) and (bias is None or (bias.dtype == x.dtype and bias.device == x.device)):
            return _by_kernels(shapes, x.dtype, x.is_cuda, self.basis, self.squash, *options)
        given = planned_tensors(
            tensors.DTYPES,
            geometry.konv_geometry,
            {"x": x, "kappa": kappa, "bias": bias},
            {"axes": self.axes, **dict(zip(_OPTIONS, options, strict=True))},
        )
        return partial(tensors.squashed_konv, given=given, basis=self.basis, squash=self.squash)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> KonvLayer:
        """Move or convert the parameters; kappa as the weight that it is, so that it may lie channels last."""

        def on_weight(tensor: torch.Tensor) -> torch.Tensor:
            if is_lazy(tensor) or tensor.dim() != self.axes + 3:
                return fn(tensor)
            return fn(tensor.flatten(1, 2)).unflatten(1, tensor.shape[1:3])

        return super()._apply(on_weight, recurse)

    def extra_repr(self) -> str:
        """Return the arguments: always those that Conv2d shows and what the polynomials are, others if unusual."""
        shown = [str(self.in_channels), str(self.out_channels)]
        shown += [f"{name}={getattr(self, name)!r}" for name in ("kernel_size", "degree", "basis", "squash", "stride")]
        for name, usual in _USUAL.items():
            value = getattr(self, name)
            if value != (usual,) * self.axes and value != usual:
                shown.append(f"{name}={value!r}")
        shown += ["bias=False"] if self.bias is None else []
        shown += [f"{name}=True" for name in ("affine", "recompute") if getattr(self, name)]
        return ", ".join(shown)

    @classmethod
    @torch.no_grad()
    def from_conv(cls, conv: nn.Module) -> KonvLayer:
        """Return the layer that computes the same function as a `torch.nn.Conv1d`, `Conv2d` or `Conv3d`.

        It has degree 1, no constant and no squash: ``kappa[:, 1]`` is the weight. Its parameters are copies, on the
        same device and with the same dtype, and frozen where the convolution's are.

        Parameters
        ----------
        conv : torch.nn.Module
            A convolution over as many axes. Hooks on it are not taken along.

        Raises
        ------
        TypeError
            If it is no such convolution, or one with a `forward` of its own.
        ValueError
            If it is lazy, and no batch has told its channels.
        """
        kind = getattr(nn, f"Conv{cls.axes}d")
        if not isinstance(conv, kind) or type(conv).forward is not kind.forward:
            raise TypeError(f"conv must be a torch.nn.{kind.__name__}, got {type(conv).__name__}")
        if is_lazy(conv.weight):
            raise ValueError("conv must know its channels, got a lazy one that has seen no batch")
        names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            degree=1,
            basis="monomial",
            squash="none",
            bias=conv.bias is not None,
            device=conv.weight.device,
            dtype=conv.weight.dtype,
            **{name: getattr(conv, name) for name in names},
        )
        layer.kappa.zero_()
        layer.kappa[:, 1] = conv.weight
        layer.kappa.requires_grad_(conv.weight.requires_grad)
        if conv.bias is not None:
            layer.bias.copy_(conv.bias)
            layer.bias.requires_grad_(conv.bias.requires_grad)
        return layer.train(conv.training)


_USUAL = {"padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros", "pad": "basis"}
_OPTIONS = ("stride", *_USUAL)


@Kept
def _planned(
    shapes: tuple[Any, ...], dtype: torch.dtype, device: torch.device, basis: bases.Basis, squash: str, *options: Any
) -> Callable[..., torch.Tensor]:
    """A layer with all that can be made before its operands are there."""
    like = torch.empty((1,) * len(shapes[0]), dtype=dtype, device=device)
    check_tensors({"x": like}, tensors.DTYPES)
    konv = geometry.konv_geometry(*shapes, axes=len(shapes[1]) - 3, **dict(zip(_OPTIONS, options, strict=True)))
    plan = plans.plan_of(konv, basis.name, squash)
    return partial(aten.konv, plan=plan, constants=plans.constants_of(plan, like.expand(shapes[0])))


@lru_cache(1024)
def _by_kernels(
    shapes: tuple[Any, ...], dtype: torch.dtype, on_device: bool, basis: str, squash: str, *options: Any
) -> Callable[..., torch.Tensor]:
    """As `_planned`, where kernels run; of the device it matters only how much fits there."""
    check_tensors({"x": torch.empty(0, dtype=dtype)}, tensors.DTYPES)
    given = dict(zip(_OPTIONS, options, strict=True))
    konv = geometry.konv_geometry(*shapes, axes=len(shapes[1]) - 3, **given)
    geometry.check_memory(konv.numbers * dtype.itemsize, given, ("x", "kappa"), most=MOST_BYTES if on_device else None)
    if found := tensors.fused(konv, basis, squash):
        plan, arguments = found
        return lambda x, kappa, bias, keep=anew: operators.whole_konv(
            x, kappa, bias, *arguments, plan=operators.keeping(plan, keep)
        )
    return partial(tensors.squashed_konv, given=konv, basis=basis, squash=squash)


@torch.compiler.assume_constant_result
def _traced(
    basis: str, number: int, squash: str, kappa_shape: tuple[int, ...], in_channels: int, *options: Any
) -> tuple[Any, Any]:
    """A layer's plan for inputs of any size, and the least size that fits it."""
    given = dict(zip(_OPTIONS, options, strict=True))
    least = geometry.least_size(kappa_shape[3:], **{name: given[name] for name in _OPTIONS[:3]})
    konv = geometry.konv_geometry((1, in_channels, *least), kappa_shape, axes=len(least), **given)
    return plans.plan_of(konv, basis, squash), least


def _fits(shape: Sequence[int], least: Sequence[int]) -> bool:
    """Whether an input has as many axes, as many channels and at least as many samples."""
    if len(shape) != len(least) or shape[1] != least[1]:
        return False
    return all(length >= fitting for length, fitting in zip(shape, least, strict=True))


def _affine(layer: Callable[..., torch.Tensor], scale: torch.Tensor, shift: torch.Tensor, x: torch.Tensor, *rest: Any):
    shape = (-1, *(1,) * (x.dim() - 2))
    return layer(x * scale.reshape(shape) + shift.reshape(shape), *rest)


def _parameter(shape: tuple[int, ...] | None, kind: dict[str, Any]) -> nn.Parameter:
    return UninitializedParameter(**kind) if shape is None else nn.Parameter(torch.empty(shape, **kind))


def _checked_padding(padding: Padding, kernel_size: PerAxis, stride: PerAxis, dilation: PerAxis) -> Any:
    """A padding with a name as it is; else per axis one integer where both sides are alike, or a pair."""
    pairs = geometry.paddings(padding, kernel_size=kernel_size, stride=stride, dilation=dilation, size=kernel_size)
    if isinstance(padding, str):
        return padding
    return tuple(before if before == after else (before, after) for before, after in pairs)
