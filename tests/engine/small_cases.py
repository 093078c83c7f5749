"""One small case of each kernel on a CUDA device: what tests/kernels/test_sanitizer.py runs under compute-sanitizer."""

from __future__ import annotations

import torch

import konvlib
from konvlib.layers import operators


def main() -> None:
    for dtype in (torch.float16, torch.float32, torch.float64):
        f, g = torch.ones(3, 300, device="cuda", dtype=dtype), torch.ones(20, device="cuda", dtype=dtype)
        konvlib.convolve(f, g, method="direct")
        for groups, channels in ((1, 3), (1, 20), (2, 40), (6, 6)):
            x = torch.ones(2, channels, 7, 9, device="cuda", dtype=dtype, requires_grad=True)
            w = torch.ones(6, channels // groups, 3, 2, device="cuda", dtype=dtype, requires_grad=True)
            y = konvlib.conv2d(x, w, stride=(2, 1), padding=((1, 0), (2, 1)), groups=groups)
            torch.autograd.grad(y.sum(), (x, w))
            operators.conv_transpose(y, w, None, x.shape[2:], [2, 1], [1, 0, 2, 1], [1, 1], groups)
        for function in (konvlib.max_pool2d, konvlib.avg_pool2d):
            torch.autograd.grad(function(x, 3, stride=2, padding=1).sum(), x)
        konvlib.col2im(konvlib.im2col(x, 3, padding=1), (7, 9), 3, padding=1)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
