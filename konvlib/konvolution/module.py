"""Konvolution as layers of a network: `torch.nn` modules with the arguments and habits of `torch.nn.Conv2d`.

A layer draws its first coefficients so that a batch of variance 1 gives one of variance 1: see `Konv2d`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy

from konvlib import geometry
from konvlib.checks import check_tensors
from konvlib.geometry import PerAxis
from konvlib.konvolution.layer import KonvLayer, moments

__all__ = ["Konv1d", "Konv2d", "Konv3d", "LazyKonv1d", "LazyKonv2d", "LazyKonv3d", "moments"]


class Konv1d(KonvLayer):
    """Konvolution over one axis as a layer: see `Konv2d`, whose arguments it has.

    Examples
    --------
    >>> Konv1d(2, 3, 5, stride=2)(torch.zeros(4, 2, 9)).shape
    torch.Size([4, 3, 3])
    """

    axes = 1


class Konv2d(KonvLayer):
    r"""Konvolution over two axes as a layer: a learned polynomial in place of each product of `torch.nn.Conv2d`.

    .. math:: y[b, o, i] = \text{bias}[o] + \sum_{c, u} \phi_{o,c,u}(\psi(x[b, c, s\,i + d\,u - p])),
        \qquad \phi_{o,c,u}(t) = \sum_{\delta} \kappa[o, \delta, c, u]\, p_\delta(t)

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input and of the output.
    kernel_size : int or sequence of int
        Taps per axis.
    degree : int
        The degree of the polynomials.
    basis : str
        ``"chebyshev"``, ``"monomial"``, ``"chebyshev2"``, ``"legendre"``, ``"hermite"``, or one added by
        ``konvlib.bases.add_basis``.
    squash : {"tanh", "none"}
        What samples pass through first, to keep them where the basis is well conditioned.
    stride, dilation, groups, padding_mode
        As in `torch.nn.Conv2d`.
    padding : int, str, or sequence
        As in `torch.nn.Conv2d`; or one pair ``(before, after)`` per axis; or ``"same_upper"``, ``"same_lower"`` for one
        output per stride, as in `konvlib.conv2d`.
    bias : bool
        Whether each output channel has a bias.
    pad : {"basis", "input"}
        What is padded with zeros: see `konvlib.konv2d`.
    affine : bool
        Whether each input channel has a learned scale and shift, before the squash. Padding is put on after it: it does
        not shift zeros.
    recompute : bool
        Whether the polynomials are evaluated again for the gradients, rather than kept: a quarter of the memory, and
        some more time.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    kappa : Parameter, shape (out_channels, degree + 1, in_channels // groups, *kernel_size)
        The coefficients of each tap's polynomial, the constant first.
    bias : Parameter, shape (out_channels,), or None
    scale, shift : Parameter, shape (in_channels,), or None

    Raises
    ------
    TypeError
        If an argument has the wrong kind.
    ValueError
        If the basis, the squash, a padding or ``pad`` is unknown, if ``degree`` is negative, if ``groups`` does not
        divide the channels; for a batch, as in `konvlib.konv2d`.

    Notes
    -----
    *The first coefficients keep the variance.* Let each sample of the batch be standard normal, and let
    :math:`e_\delta` and :math:`v_\delta` be mean and variance of :math:`p_\delta(\psi(x))`: see `moments`. Draw

    .. math:: \kappa_\delta \sim N(0, s_\delta^2) \quad (\delta \ge 1), \qquad
        \kappa_0 = -\sum_{\delta \ge 1} \kappa_\delta\,e_\delta,

    so that every tap's :math:`\phi(\psi(x)) = \sum_{\delta \ge 1} \kappa_\delta\,(p_\delta(\psi(x)) - e_\delta)`
    has mean 0 over the samples. So does ``y``, while the bias is 0. Coefficients are independent and have mean 0, so
    that in the mean over them no two terms of the sum are correlated, even where samples are. Over the
    :math:`n = \text{in\_channels} / \text{groups} \cdot \prod \text{kernel\_size}` taps,

    .. math:: \mathrm{E}\,\mathrm{Var}(y) = n \sum_{\delta = 1}^{d} s_\delta^2\, v_\delta = 1
        \quad \text{for} \quad s_\delta^2 = \frac{1}{n\, d\, v_\delta},

    to which each degree contributes as much as any other. A sum of many terms is nearly normal, so the next layer finds
    what it expects. Without the constant the variance over all channels would be 1 as well, but part of it would be
    each channel's mean, which tells nothing of the sample, and that part would grow from layer to layer. Where padding
    contributes nothing, an output that sees some has less variance.

    *A trained layer can be frozen.* ``freeze()`` says that its parameters are constant: calls then reuse what is made
    of them alone, and give the same results. ``thaw()`` takes it back.

    Examples
    --------
    >>> layer = Konv2d(3, 8, (3, 5), degree=4, padding="same")
    >>> layer
    Konv2d(3, 8, kernel_size=(3, 5), degree=4, basis='chebyshev', squash='tanh', stride=(1, 1), padding='same')
    >>> layer(torch.zeros(2, 3, 6, 7)).shape, layer.kappa.shape
    (torch.Size([2, 8, 6, 7]), torch.Size([8, 5, 3, 3, 5]))
    >>> conv = torch.nn.Conv2d(3, 8, 3, stride=2)
    >>> x = torch.randn(2, 3, 6, 7)
    >>> torch.allclose(Konv2d.from_conv(conv)(x), conv(x), atol=1e-6)
    True
    >>> before = layer(x)
    >>> torch.equal(layer.freeze()(x), before), layer.frozen
    (True, True)
    """

    axes = 2


class Konv3d(KonvLayer):
    """Konvolution over three axes as a layer: see `Konv2d`, whose arguments it has.

    Examples
    --------
    >>> Konv3d(2, 3, (1, 2, 3), padding=((0, 0), (1, 0), (1, 1)))(torch.zeros(4, 2, 5, 6, 7)).shape
    torch.Size([4, 3, 5, 6, 7])
    """

    axes = 3


class _LazyKonv(LazyModuleMixin):
    """A layer that learns ``in_channels`` from its first batch, and then is one of the layers above."""

    def __init__(self, out_channels: int, kernel_size: PerAxis, **options: Any) -> None:
        super().__init__(None, out_channels, kernel_size, **options)

    def initialize_parameters(self, x: torch.Tensor) -> None:
        """Give the parameters their shapes, and draw them, unless they were loaded."""
        check_tensors({"x": x})
        channel_axis = int(not geometry.lacks_batch({"x": x.shape}, self.axes + 2))
        geometry.check_channels(x.shape[channel_axis], self.out_channels, self.groups)
        self.in_channels = x.shape[channel_axis]
        if self.has_uninitialized_params():
            self.kappa.materialize(self._kappa_shape)
            for parameter in filter(is_lazy, (self.scale, self.shift)):
                parameter.materialize(self._affine_shape)
            self.reset_parameters()


class LazyKonv1d(_LazyKonv, Konv1d):
    """`Konv1d` without ``in_channels``: see `LazyKonv2d`.

    Examples
    --------
    >>> LazyKonv1d(3, 5)(torch.zeros(4, 2, 9)).shape
    torch.Size([4, 3, 5])
    """

    cls_to_become = Konv1d


class LazyKonv2d(_LazyKonv, Konv2d):
    """`Konv2d` without ``in_channels``, which its first batch tells; then it is a `Konv2d`.

    Parameters
    ----------
    out_channels, kernel_size, **options
        As in `Konv2d`.

    Examples
    --------
    >>> layer = LazyKonv2d(8, 3, degree=2)
    >>> layer(torch.zeros(2, 5, 6, 7)).shape
    torch.Size([2, 8, 4, 5])
    >>> layer
    Konv2d(5, 8, kernel_size=(3, 3), degree=2, basis='chebyshev', squash='tanh', stride=(1, 1))
    """

    cls_to_become = Konv2d


class LazyKonv3d(_LazyKonv, Konv3d):
    """`Konv3d` without ``in_channels``: see `LazyKonv2d`.

    Examples
    --------
    >>> LazyKonv3d(3, 2)(torch.zeros(1, 2, 4, 5, 6)).shape
    torch.Size([1, 3, 3, 4, 5])
    """

    cls_to_become = Konv3d
