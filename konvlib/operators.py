"""All operators that konvlib registers with torch: importing this registers them, as ``torch.ops.konvlib``.

Each of konvlib's functions imports what it needs, so nobody needs this but who runs a graph that calls operators by
their names, in a process that has called no function of konvlib: a program that `torch.export.export` made on a CUDA
device, loaded by `torch.export.load`. Without it, torch says that ``konvlib::conv`` or another is not registered. What
was exported on the CPU calls no operator of konvlib, and runs where konvlib is not installed.

Examples
--------
>>> import konvlib.operators
>>> sorted(konvlib.operators.OPERATORS)[:3]
['avg_pool', 'avg_pool_scatter', 'col2im']
"""

from __future__ import annotations

from konvlib.images.pooling_operators import avg_pool, avg_pool_scatter, max_pool, max_pool_scatter
from konvlib.konvolution.operators import konv, konv_input_grad, konv_kappa_grad, whole_konv
from konvlib.layers.operators import conv, conv_transpose, conv_weight_grad
from konvlib.matrices.operators import col2im, im2col
from konvlib.sequences.tensors import convolve_window

OPERATORS = {
    operator.name: operator
    for operator in (
        conv,
        conv_transpose,
        conv_weight_grad,
        konv,
        whole_konv,
        konv_input_grad,
        konv_kappa_grad,
        im2col,
        col2im,
        max_pool,
        max_pool_scatter,
        avg_pool,
        avg_pool_scatter,
        convolve_window,
    )
}
"""By name, as in ``torch.ops.konvlib``."""
