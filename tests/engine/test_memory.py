"""What a call takes of memory: at most four times its operands, its result, and 256 MB.

Each function meets operands that provoke it: a long axis, a stride, a dilation, a kernel or a padding that is large, an
axis of length one before a long one, narrow integers, which are summed in wider numbers.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.sparse import issparse

import konvlib as k

SLACK = 256 << 20


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype=dtype)


def size_of(value: Any) -> int:
    """Bytes of arrays, of sparse arrays, and of what tuples hold."""
    if issparse(value):
        return sum(part.nbytes for part in (value.data, value.indices, value.indptr))
    if isinstance(value, (tuple, list)):
        return sum(map(size_of, value))
    return getattr(value, "nbytes", 0)


def peak(call: Callable[..., Any], operands: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, int]:
    """The most bytes held at once during a call, its result among them, and the bytes of this."""
    tracemalloc.start()
    try:
        result = call(*operands, **options)
        return tracemalloc.get_traced_memory()[1], size_of(result)
    finally:
        tracemalloc.stop()


LONG, U8, F2 = 1 << 22, np.uint8, np.float16
CALLS = [
    # gradients
    (k.conv1d_input_grad, (ones(1, 1, LONG), ones(1, 1, 9)), {"input_size": LONG + 8}),
    (k.conv1d_input_grad, (ones(1, 1, 4), ones(1, 1, 2)), {"input_size": 10**8 + 4, "dilation": 10**8}),
    (k.conv1d_input_grad, (ones(1, 1, 2), ones(1, 1, 1)), {"input_size": 9, "padding": 10**8, "stride": 2 * 10**8}),
    (
        k.conv1d_input_grad,
        (ones(1, 1, 3), ones(1, 1, 1)),
        {"input_size": 9, "padding": 10**8, "stride": 10**8, "padding_mode": "replicate"},
    ),
    (k.conv1d_input_grad, (ones(1, 1, 4), ones(1, 1, LONG)), {"input_size": LONG + 3}),
    (k.conv2d_input_grad, (ones(1, 8, 1, 1 << 20), ones(8, 8, 1, 9)), {"input_size": (1, (1 << 20) + 8)}),
    (k.conv2d_input_grad, (ones(1, 1, 4000, 4000, dtype=U8), ones(1, 1, 3, 3, dtype=U8)), {"input_size": 4002}),
    (k.conv2d_input_grad, (ones(1, 1, 4000, 4000, dtype=F2), ones(1, 1, 3, 3, dtype=F2)), {"input_size": 4002}),
    (k.conv2d_input_grad, (ones(32, 4, 256, 256, dtype=U8), ones(4, 4, 3, 3, dtype=U8)), {"input_size": 258}),
    (
        k.conv2d_input_grad,
        (ones(1, 3, 1001, 1001), ones(3, 3, 2, 2)),
        {"input_size": 2000, "stride": 2, "padding": 1, "padding_mode": "circular"},
    ),
    (k.conv3d_input_grad, (ones(2, 4, 64, 64, 64), ones(4, 4, 3, 3, 3)), {"input_size": 66}),
    (k.conv1d_weight_grad, (ones(1, 1, LONG), ones(1, 1, LONG - 8)), {"kernel_size": 9}),
    (k.conv1d_weight_grad, (ones(1, 1, LONG), ones(1, 1, LONG - 999)), {"kernel_size": 1000}),
    (k.conv1d_weight_grad, (ones(1, 1, LONG), ones(1, 1, 4)), {"kernel_size": LONG - 3}),
    (
        k.conv1d_weight_grad,
        (ones(1, 1, 9), ones(1, 1, 2)),
        {"kernel_size": 2, "padding": 10**8, "dilation": 10**8, "stride": 10**8 + 8},
    ),
    (k.conv1d_weight_grad, (ones(1, 1, 9), ones(1, 1, 3)), {"kernel_size": 1, "padding": 10**8, "stride": 10**8}),
    (
        k.conv2d_weight_grad,
        (ones(1, 8, 1, 1 << 20), ones(1, 8, 1, 1 << 20)),
        {"kernel_size": (1, 9), "padding": (0, 4)},
    ),
    (k.conv2d_weight_grad, (ones(1, 1, 4000, 4000, dtype=U8), ones(1, 1, 3998, 3998, dtype=U8)), {"kernel_size": 3}),
    (
        k.conv2d_weight_grad,
        (ones(1, 1, 4000, 4000), ones(1, 1, 4000, 4000)),
        {"kernel_size": 5, "padding": 2, "padding_mode": "reflect"},
    ),
    (k.conv3d_weight_grad, (ones(2, 4, 64, 64, 64), ones(2, 4, 62, 62, 62)), {"kernel_size": 3}),
    (k.conv1d_bias_grad, (ones(2, 4, LONG, dtype=F2),), {}),
    (k.conv2d_bias_grad, (ones(LONG, 2, 1, 3, dtype=F2),), {}),
    (k.conv3d_bias_grad, (ones(8, 4, 64, 64, 64),), {}),
    # transposes
    (k.conv_transpose1d, (ones(1, 1, LONG), ones(1, 1, 9), ones(1)), {}),
    (k.conv_transpose1d, (ones(1, 1, 100), ones(1, 1, 3)), {"stride": 10**5}),
    (k.conv_transpose1d, (ones(1, 1, 3), ones(1, 1, 2)), {"dilation": 10**8, "padding": 10**8 // 2}),
    (k.conv_transpose1d, (ones(1, 1, 3), ones(1, 1, LONG)), {"stride": 2}),
    (k.conv_transpose2d, (ones(1, 8, 1, 1 << 20), ones(8, 8, 1, 9)), {}),
    (k.conv_transpose2d, (ones(1, 1, 4000, 4000, dtype=U8), ones(1, 1, 3, 3, dtype=U8)), {}),
    (k.conv_transpose2d, (ones(1, 64, 256, 256), ones(64, 16, 4, 4)), {"stride": 4}),
    (k.conv_transpose3d, (ones(2, 4, 48, 48, 48), ones(4, 4, 3, 3, 3)), {"stride": 2}),
    *(
        (name, operands, options)
        for name in (k.conv_transpose_by_scattering, k.conv_transpose_by_zero_insertion)
        for operands, options in (
            ((ones(1, 1, LONG), ones(1, 1, 9)), {}),
            ((ones(1, 1, 100), ones(1, 1, 3)), {"stride": 10**5}),
            ((ones(2, 64, 32, 32), ones(64, 1, 3, 3)), {"stride": 16}),
            ((ones(1, 8, 512, 512), ones(8, 8, 5, 5)), {}),
        )
    ),
    (k.insert_zeros, (ones(1, 1, 1000), 10**5), {}),
    (k.overlap_counts, (10**5, 1000), {}),
    (k.overlap_counts, (10**6, 10**6), {"stride": 3, "dilation": 2}),
    (k.overlap_counts, (100, 10), {"dilation": 10**7, "padding": 4 * 10**7}),
    (k.overlap_counts, ((2000, 2000), 1000), {}),
    # matrices
    (k.conv_matrix, (ones(1, 1, 5, 5, dtype=np.float64), (1, 1000, 1000)), {"padding": 2}),
    (k.conv_matrix, (ones(1, 1, 10**5), (1, 10)), {"padding": 10**5}),
    (k.conv_matrix, (ones(8, 8, 3, 3), (8, 300, 300)), {}),
    (k.im2col, (ones(1, 1, 4, LONG), (1, 5)), {}),
    (k.im2col, (ones(1, 1, 9), 1), {"padding": 10**8, "stride": 10**8}),
    (k.im2col, (ones(1, 1, 9), 2), {"padding": 10**8, "dilation": 10**8, "stride": 10**8}),
    (k.im2col, (ones(4, 8, 256, 256, dtype=F2), 3), {"padding": 1}),
    (k.col2im, (ones(1, 9, 2000 * 2000), (2000, 2000), 3), {"padding": 1}),
    (k.col2im, (ones(1, 9, 2000 * 2000, dtype=F2), (2000, 2000), 3), {"padding": 1}),
    (k.col2im, (ones(1, 1, 3), 9, 1), {"padding": 10**8, "stride": 10**8}),
    (k.conv2d_im2col, (ones(1, 8, 1000, 1000), ones(8, 8, 5, 5)), {"padding": 2}),
    (k.conv2d_im2col, (ones(1, 1, 4000, 4000, dtype=U8), ones(1, 1, 3, 3, dtype=U8)), {}),
    (k.conv2d_im2col, (ones(1, 4, 1, 1 << 21), ones(4, 4, 1, 9)), {}),
    (k.circulant_singular_values, (ones(2048, 4, 3), 4200), {}),
    # strides
    (k.dilate, (ones(1000), 10**5), {}),
    (k.compose, (ones(512, 512, 3, 3), ones(512, 512, 3, 3)), {}),
    (k.compose, (ones(1, 1, 10**4), ones(5000, 1, 1)), {}),
    (k.compose_chain, ([(ones(256, 256, 3, 3), 2), (ones(256, 256, 3, 3), 2), (ones(256, 256, 3, 3), 1)],), {}),
    (k.factor, (k.compose(np.arange(1, 60), np.arange(1, 60), stride1=2),), {}),
    # konvolution
    (k.konv1d, (ones(1, 1, LONG), ones(1, 9, 1, 3)), {}),
    (k.konv2d, (ones(1, 1, 4000, 4000), ones(1, 5, 1, 3, 3)), {"padding": 1}),
    (k.konv2d, (ones(1, 1, 4000, 4000, dtype=F2), ones(1, 5, 1, 3, 3, dtype=F2)), {"padding": 1, "pad": "input"}),
    (k.konv3d, (ones(2, 4, 64, 64, 64), ones(4, 4, 4, 3, 3, 3)), {}),
    (k.konv1d_input_grad, (ones(1, 1, LONG - 2), ones(1, 1, LONG), ones(1, 9, 1, 3)), {}),
    (k.konv2d_input_grad, (ones(1, 1, 3998, 3998), ones(1, 1, 4000, 4000), ones(1, 5, 1, 3, 3)), {}),
    (
        k.konv2d_input_grad,
        (ones(1, 1, 3998, 3998, dtype=U8), ones(1, 1, 4000, 4000, dtype=U8), ones(1, 5, 1, 3, 3, dtype=U8)),
        {},
    ),
    (k.konv3d_input_grad, (ones(2, 4, 62, 62, 62), ones(2, 4, 64, 64, 64), ones(4, 4, 4, 3, 3, 3)), {}),
    (k.konv1d_kappa_grad, (ones(1, 1, LONG), ones(1, 1, LONG - 2)), {"degree": 8, "kernel_size": 3}),
    (k.konv2d_kappa_grad, (ones(1, 1, 4000, 4000), ones(1, 1, 3998, 3998)), {"degree": 4, "kernel_size": 3}),
    (k.konv3d_kappa_grad, (ones(2, 4, 64, 64, 64), ones(2, 4, 62, 62, 62)), {"degree": 3, "kernel_size": 3}),
    (k.konv1d_bias_grad, (ones(2, 4, LONG, dtype=F2),), {}),
    (k.konv2d_bias_grad, (ones(LONG, 2, 1, 3, dtype=F2),), {}),
    (k.konv3d_bias_grad, (ones(8, 4, 64, 64, 64),), {}),
]


@pytest.mark.parametrize("call", CALLS, ids=lambda row: row[0].__name__)
def test_at_most_four_times_the_operands_the_result_and_a_little(call):
    function, operands, options = call
    given = size_of([each for each in operands if not isinstance(each, int)])
    most, result = peak(function, operands, options)
    text = f"{most / 2**20:.0f} MB for operands of {given / 2**20:.0f} MB and a result of {result / 2**20:.0f} MB"
    print(text)
    assert most <= 4 * given + result + SLACK, text
