"""One small case of each kernel: watched by compute-sanitizer on a CUDA device, by guards in Triton's interpreter.

See tests/kernels/test_sanitizer.py and tests/kernels/test_guards.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

import konvlib
from konvlib.geometry import conv_geometry
from konvlib.konvolution import halo, kernels, preparation
from konvlib.layers import forward_runs, memory, operators
from konvlib.layers.polynomials import Expansion

DTYPES = (torch.float16, torch.float32, torch.float64)


def sequences(device: str, dtype: torch.dtype) -> None:
    f, g = torch.ones(3, 300, device=device, dtype=dtype), torch.ones(20, device=device, dtype=dtype)
    konvlib.convolve(f, g.requires_grad_(), method="direct").sum().backward()
    konvlib.convolve(torch.ones(1, 600, device=device, dtype=dtype), f[0, :90], method="direct")
    if dtype is torch.float32:
        konvlib.convolve(f + 1j, g[:5] - 1j, method="direct")


def layers(device: str, dtype: torch.dtype, *, last: bool) -> None:
    for groups, channels, outputs in ((1, 3, 20), (1, 20, 6), (2, 40, 6), (6, 6, 6)):
        x = _ones((2, channels, 7, 9), device, dtype, last=last)
        w = torch.ones(outputs, channels // groups, 3, 2, device=device, dtype=dtype, requires_grad=True)
        bias = torch.ones(outputs, device=device, dtype=dtype)
        y = konvlib.conv2d(x, w, bias, stride=(2, 1), padding=((1, 0), (2, 1)), groups=groups)
        torch.autograd.grad(y.sum(), (x, w))
        operators.conv_transpose(y, w, None, x.shape[2:], [2, 1], [1, 0, 2, 1], [1, 1], groups)
    layer = conv_geometry((2, 3, 7, 9), (20, 3, 3, 2), axes=2, stride=(2, 1), padding=((1, 0), (2, 1)))
    if forward_runs.could_serve(dtype, layer):
        x, w = (_ones(shape, device, dtype, last=last).detach() for shape in (layer.input_shape, layer.weight_shape))
        y = memory.empty(x, layer.output_shape)
        forward_runs.write_conv(y, x, memory.packed_weight(w), w[:, 0, 0, 0], layer, forward_runs.TILES[0])


def windows(device: str, dtype: torch.dtype, *, last: bool) -> None:
    """Poolings and columns."""
    for channels in (3, 16):
        x = _ones((2, channels, 7, 9), device, dtype, last=last)
        for function in (konvlib.max_pool2d, konvlib.avg_pool2d):
            torch.autograd.grad(function(x, 3, stride=2, padding=1).sum(), x)
        konvlib.col2im(konvlib.im2col(x, 3, padding=1), (7, 9), 3, padding=1)


def konvolutions(device: str, dtype: torch.dtype, *, last: bool) -> None:
    for groups, channels in ((1, 3), (2, 34)):
        x = _ones((2, channels, 5, 4), device, dtype, last=last)
        kappa = torch.ones(4, 3, channels // groups, 2, 3, device=device, dtype=dtype, requires_grad=True)
        y = konvlib.konv2d(x, kappa, padding=1, stride=(1, 2), groups=groups)
        torch.autograd.grad(y.sum(), (x, kappa))
        expansion = Expansion(3, "legendre", "tanh")
        kernels.contract(kernels.expand(x.detach(), expansion, groups), x.detach(), expansion, groups)
    layer = conv_geometry(x.shape, (4, channels, 2, 3), axes=2, padding=1, stride=(1, 2))
    kappa = torch.ones(4, 3, channels, 2, 3, device=device, dtype=dtype)
    walk = halo.walk_of(layer)
    preparation.prepared(kappa[:, 1:], layer, walk, first=kappa[:, :1], bias=kappa[:, 0, 0, 0, 0].clone())


def _ones(shape: tuple[int, ...], device: str, dtype: torch.dtype, *, last: bool) -> torch.Tensor:
    x = torch.ones(shape, device=device, dtype=dtype)
    return (x.to(memory_format=torch.channels_last) if last else x).requires_grad_()


CASES: dict[str, Callable[[str, torch.dtype], None]] = {"sequences": sequences}
CASES |= {
    f"{case.__name__}, channels {'last' if last else 'first'}": partial(case, last=last)
    for case in (layers, windows, konvolutions)
    for last in (False, True)
}


def main() -> None:
    for dtype in DTYPES:
        for case in CASES.values():
            case("cuda", dtype)
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
