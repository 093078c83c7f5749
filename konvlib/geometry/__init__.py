"""The arithmetic of sizes and arguments, and every error that bad input gets.

Nothing here computes a convolution. Each room calls these functions first, so that a wrong argument raises the same
error everywhere, before any work.
"""

from konvlib.geometry.arguments import (
    METHODS,
    MODES,
    PADDING_MODES,
    as_array,
    as_sequence,
    check_channels,
    fft_is_exact,
    integer,
    mean_dtype,
    one_of,
    per_axis,
    sequence_arguments,
    sequence_batch,
)
from konvlib.geometry.sizes import (
    ReceptiveField,
    conv_size,
    conv_transpose_size,
    convolution_window,
    correlation_window,
    paddings,
    pool_size,
    receptive_field,
    same_padding,
    span,
)

__all__ = [
    "METHODS",
    "MODES",
    "PADDING_MODES",
    "ReceptiveField",
    "as_array",
    "as_sequence",
    "check_channels",
    "conv_size",
    "conv_transpose_size",
    "convolution_window",
    "correlation_window",
    "fft_is_exact",
    "integer",
    "mean_dtype",
    "one_of",
    "paddings",
    "per_axis",
    "pool_size",
    "receptive_field",
    "same_padding",
    "sequence_arguments",
    "sequence_batch",
    "span",
]
