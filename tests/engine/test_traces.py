"""What `torch.jit.trace` traced gives, at other sizes, what the function gives itself; or the trace is refused.

`torch.export`, which follows it, is tested with each function: see `tests.engine.transforms`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch

import konvlib

UNEVEN = ((1, 0), (0, 1))
w = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0))
kappa = torch.stack([w, -w, w / 2], 1)
swapped = w.movedim(0, 1)

TRACED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conv1d": lambda x: konvlib.conv1d(x.flatten(2), w[:, :, 0], stride=2),
    "conv2d": lambda x: konvlib.conv2d(x, w, padding=1, stride=2),
    "conv2d, uneven padding": lambda x: konvlib.conv2d(x, w, padding=((1, 0), (2, 1))),
    "conv2d, circular": lambda x: konvlib.conv2d(x, w, padding=1, padding_mode="circular"),
    "conv2d, reflect": lambda x: konvlib.conv2d(x, w, padding=((1, 2), (0, 1)), padding_mode="reflect"),
    "conv2d, replicate": lambda x: konvlib.conv2d(x, w, padding=((1, 2), (0, 1)), padding_mode="replicate"),
    "conv2d of halves": lambda x: konvlib.conv2d(x.half(), w.half()).float(),
    "conv3d": lambda x: konvlib.conv3d(x[:, None], w[:, None, :1]),
    "max_pool2d": lambda x: konvlib.max_pool2d(x, 3, stride=2, padding=1),
    "avg_pool2d": lambda x: konvlib.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False),
    "im2col": lambda x: konvlib.im2col(x, 2, padding=UNEVEN),
    "conv_transpose2d": lambda x: konvlib.conv_transpose2d(x, swapped, stride=2, padding=1, output_padding=1),
    "conv_transpose2d, uneven padding": lambda x: konvlib.conv_transpose2d(x, swapped, stride=2, padding=UNEVEN),
    "insert_zeros": lambda x: konvlib.insert_zeros(x, (2, 3)),
    "conv2d_bias_grad": konvlib.conv2d_bias_grad,
    "konv2d": lambda x: konvlib.konv2d(x, kappa, padding=1),
    "konv2d, padded input": lambda x: konvlib.konv2d(x, kappa, padding=1, pad="input", basis="legendre"),
    "konv2d_input_grad": lambda x: konvlib.konv2d_input_grad(x[:, :, 2:, 2:].repeat(1, 2, 1, 1)[:, :3], x, kappa),
    "Konv2d": konvlib.Konv2d(2, 4, 3, padding=UNEVEN, groups=2, affine=True),
    "Konv2d, circular": konvlib.Konv2d(2, 3, 3, padding=1, padding_mode="circular", recompute=True),
    "Konv2d of degree 0": konvlib.Konv2d(2, 3, 3, padding=1, degree=0),
    "dilate": lambda x: konvlib.dilate(x, (2, 3)),
    "circulant_singular_values": lambda x: konvlib.circulant_singular_values(x, (5, 5)),
}
REFUSED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max_pool2d, uneven padding": lambda x: konvlib.max_pool2d(x, 3, stride=2, padding=UNEVEN, ceil_mode=True),
    "avg_pool2d, uneven padding": lambda x: konvlib.avg_pool2d(x, 3, stride=2, padding=UNEVEN),
    "max_pool2d_grad": lambda x: konvlib.max_pool2d_grad(x, x[:, :, 1:, 1:], 2, stride=1),
    "avg_pool2d_grad": lambda x: konvlib.avg_pool2d_grad(x, 2, stride=1, input_size=(9, 10)),
    "avg_pool2d_grad, size of x": lambda x: konvlib.avg_pool2d_grad(x, 1, input_size=tuple(x.shape[2:])),
    "im2col of volumes": lambda x: konvlib.im2col(x[:, None], 2),
    "col2im": lambda x: konvlib.col2im(x.flatten(2).repeat(1, 2, 1), tuple(n + 1 for n in x.shape[2:]), 2),
    "conv2d_im2col": lambda x: konvlib.conv2d_im2col(x, w),
    "conv_transpose_by_scattering": lambda x: konvlib.conv_transpose_by_scattering(x, swapped, stride=2),
    "conv_transpose_by_zero_insertion": lambda x: konvlib.conv_transpose_by_zero_insertion(x, swapped, stride=2),
    "conv2d_weight_grad": lambda x: konvlib.conv2d_weight_grad(x, x[:, :, 1:, 1:], kernel_size=2),
    "conv2d_input_grad": lambda x: konvlib.conv2d_input_grad(x, w[:2], input_size=tuple(n + 2 for n in x.shape[2:])),
    "konv2d_kappa_grad": lambda x: konvlib.konv2d_kappa_grad(x, x[:, :, 1:, 1:], degree=2, kernel_size=2),
    "convolve": lambda x: konvlib.convolve(x, w[0, 0, 0]),
    "correlate by FFT": lambda x: konvlib.correlate(x, w[0, 0, 0], mode="same", method="fft"),
    "compose": lambda x: konvlib.compose(x, x.movedim(0, 1)),
}


def traced(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about itself and about lengths that are compared
        x = torch.randn(2, 2, 8, 9)
        function(x)  # nothing that is remembered of this size gets into the trace
        return torch.jit.trace(function, (x,), check_trace=False)


@pytest.mark.parametrize("name", TRACED)
def test_sizes_stay_free(name):
    function = TRACED[name]
    trace = traced(function)
    for shape in ((2, 2, 8, 9), (1, 2, 8, 9), (3, 2, 9, 8), (2, 2, 11, 7), (5, 2, 7, 12)):
        x = torch.randn(shape)
        assert trace(x).shape == function(x).shape
        assert torch.allclose(trace(x), function(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_keep_its_sizes_is_refused(name):
    with pytest.raises(TypeError, match=r"torch\.jit\.trace must not trace this call|must be an integer, got tensor"):
        traced(REFUSED[name])
