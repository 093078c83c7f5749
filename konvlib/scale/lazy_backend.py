"""The backend for Dask arrays, with functions named as those of the others; what is missing is refused by its name."""

from __future__ import annotations

from typing import Any

from konvlib.scale import lazy, lazy_gradients, lazy_sequences

FUNCTIONS = {
    "avg_pool": lazy.avg_pool,
    "avg_pool_grad": lazy_gradients.avg_pool_grad,
    "conv": lazy.conv,
    "conv_bias_grad": lazy_gradients.conv_bias_grad,
    "conv_input_grad": lazy_gradients.conv_input_grad,
    "conv_transpose": lazy.conv_transpose,
    "conv_weight_grad": lazy_gradients.conv_weight_grad,
    "convolve": lazy_sequences.convolve,
    "convolve_nd": lazy_sequences.convolve_nd,
    "correlate": lazy_sequences.correlate,
    "konv": lazy.konv,
    "konv_bias_grad": lazy_gradients.conv_bias_grad,
    "konv_input_grad": lazy_gradients.konv_input_grad,
    "konv_kappa_grad": lazy_gradients.konv_kappa_grad,
    "max_pool": lazy.max_pool,
    "max_pool_and_indices": lazy.max_pool_and_indices,
    "max_pool_grad": lazy_gradients.max_pool_grad,
    "normalized_correlation": lazy_sequences.normalized_correlation,
    "resample": lazy_sequences.resample,
}


class Backend:
    """The functions above, for a chapter's public functions.

    Examples
    --------
    >>> Backend("konvlib.matrices").im2col
    Traceback (most recent call last):
    ...
    TypeError: konvlib.matrices: im2col has no lazy form, got a Dask array; give its compute(), if that fits in memory
    """

    def __init__(self, chapter: str) -> None:
        self.chapter = chapter

    def __getattr__(self, name: str) -> Any:
        if name in FUNCTIONS:
            return FUNCTIONS[name]
        raise TypeError(
            f"{self.chapter}: {name.replace('_', ' ')} has no lazy form, got a Dask array; give its compute(), "
            "if that fits in memory"
        )
