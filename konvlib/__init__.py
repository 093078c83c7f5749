"""The engine of Convolution, Verified: convolution arithmetic, proved against its definitions.

Every function takes NumPy arrays and torch tensors, and returns what it took. The torch modules ``Konv1d``, ``Konv2d``,
``Konv3d`` and their lazy variants are here too. Importing this package imports NumPy and SciPy, never torch; asking for
one of the modules does. A program that ``torch.export`` made on a CUDA device calls konvlib's operators, which
``import konvlib.operators`` registers in a process that loads it; one made on the CPU needs nothing of konvlib.

>>> import konvlib
>>> konvlib.convolve([1, 3, 2, 0, 4], [2, 1, -1])
array([ 2,  7,  6, -1,  6,  4, -4])
"""

from typing import TYPE_CHECKING, Any

from konvlib import konvolution
from konvlib.gradients import (
    avg_pool1d_grad,
    avg_pool2d_grad,
    avg_pool3d_grad,
    conv1d_bias_grad,
    conv1d_input_grad,
    conv1d_weight_grad,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv3d_bias_grad,
    conv3d_input_grad,
    conv3d_weight_grad,
    max_pool1d_grad,
    max_pool2d_grad,
    max_pool3d_grad,
)
from konvlib.images import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    max_unpool1d,
    max_unpool2d,
    max_unpool3d,
)
from konvlib.konvolution import (
    bases,
    konv1d,
    konv1d_bias_grad,
    konv1d_input_grad,
    konv1d_kappa_grad,
    konv2d,
    konv2d_bias_grad,
    konv2d_input_grad,
    konv2d_kappa_grad,
    konv3d,
    konv3d_bias_grad,
    konv3d_input_grad,
    konv3d_kappa_grad,
)
from konvlib.matrices import circulant_singular_values, col2im, conv2d_im2col, conv_matrix, im2col
from konvlib.sequences import (
    convolve,
    convolve_nd,
    correlate,
    correlation_lags,
    normalized_correlation,
    resample,
)
from konvlib.strides import Layer, collapse, compose, compose_chain, dilate, factor
from konvlib.transposes import (
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
    conv_transpose_by_scattering,
    conv_transpose_by_zero_insertion,
    insert_zeros,
    overlap_counts,
)

if TYPE_CHECKING:
    from konvlib.konvolution import Konv1d as Konv1d
    from konvlib.konvolution import Konv2d as Konv2d
    from konvlib.konvolution import Konv3d as Konv3d
    from konvlib.konvolution import LazyKonv1d as LazyKonv1d
    from konvlib.konvolution import LazyKonv2d as LazyKonv2d
    from konvlib.konvolution import LazyKonv3d as LazyKonv3d

__version__ = "0.1.0"

__all__ = [
    "Layer",
    "__version__",
    "avg_pool1d",
    "avg_pool1d_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "avg_pool3d",
    "avg_pool3d_grad",
    "bases",
    "circulant_singular_values",
    "col2im",
    "collapse",
    "compose",
    "compose_chain",
    "conv1d",
    "conv1d_bias_grad",
    "conv1d_input_grad",
    "conv1d_weight_grad",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_im2col",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv3d",
    "conv3d_bias_grad",
    "conv3d_input_grad",
    "conv3d_weight_grad",
    "conv_matrix",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "conv_transpose_by_scattering",
    "conv_transpose_by_zero_insertion",
    "convolve",
    "convolve_nd",
    "correlate",
    "correlation_lags",
    "dilate",
    "factor",
    "im2col",
    "insert_zeros",
    "konv1d",
    "konv1d_bias_grad",
    "konv1d_input_grad",
    "konv1d_kappa_grad",
    "konv2d",
    "konv2d_bias_grad",
    "konv2d_input_grad",
    "konv2d_kappa_grad",
    "konv3d",
    "konv3d_bias_grad",
    "konv3d_input_grad",
    "konv3d_kappa_grad",
    "max_pool1d",
    "max_pool1d_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool3d",
    "max_pool3d_grad",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "normalized_correlation",
    "overlap_counts",
    "resample",
]


def __getattr__(name: str) -> Any:
    """The torch modules, which are not imported before they are asked for."""
    if name not in konvolution.MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(konvolution, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *konvolution.MODULES})
