"""What a call on a device costs the host: microseconds from a call of konvlib until its last kernel is launched.

``python -m benchmarks.host_time`` prints, for each call and for its kernels in Triton and in Gluon, the least time of
many calls and the median, in eager mode, when everything is remembered that is. There is no device here: tensors of the
CPU are said to lie on one, kernels are compiled for Hopper, and a launch ends where Triton would go over to C, so that
the driver's own few microseconds are missing. What ATen launches beside the kernels computes on the CPU, of small
tensors: it stands for as many launches. Nothing of that is a time on a card: what it is good for is to compare two
states of konvlib, run in turn on one machine, and to see where the time goes.

There are no numbers of PyTorch's own functions beside these: on the CPU they would compute, and on a device that is
none they do not run.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

Call = Callable[[], Any]
SHAPE, PER_ROUND = (1, 48, 6, 5), 200


def calls(dtype: Any) -> dict[str, Call]:
    """What is timed, by name; images lie with their channels last, as do weights."""
    import torch

    import konvlib
    from konvlib.konvolution import kernels
    from konvlib.layers.polynomials import Expansion

    def last(*shape: int) -> torch.Tensor:
        return torch.ones(shape, dtype=dtype).movedim(1, -1).contiguous().movedim(-1, 1)

    def step(layer: Callable[..., torch.Tensor], x: torch.Tensor, *parameters: torch.Tensor) -> Call:
        """A layer in training, forward and backward, by all that it is given."""
        leaves = [tensor.detach().requires_grad_() for tensor in (x, *parameters)]
        dy = torch.ones_like(layer(*leaves))
        return lambda: torch.autograd.grad(layer(*leaves), leaves, dy)

    x, dy, wide, single = last(*SHAPE), last(1, 64, 6, 5), last(1, 144, 6, 5), last(1, 3, 6, 5)
    w, few, taps, bias = last(64, 48, 3, 1), last(64, 3, 3, 1), last(48, 1, 3, 1), torch.ones(64, dtype=dtype)
    kappa, expansion = torch.ones(64, 4, 48, 3, 1, dtype=dtype), Expansion(3, "chebyshev", "tanh")
    layer, same = konvlib.konvolution.Konv2d(48, 64, (3, 1), padding=(1, 0), dtype=dtype), {"padding": (1, 0)}
    leaves, cols = [x.detach().requires_grad_(), *layer.parameters()], konvlib.im2col(x, 2)

    @torch.no_grad()
    def evaluated() -> torch.Tensor:
        return layer(x)

    return {
        "conv2d": lambda: konvlib.conv2d(x, w, bias, **same),
        "conv2d, 3 channels": lambda: konvlib.conv2d(single, few, bias, **same),
        "conv_transpose2d": lambda: konvlib.conv_transpose2d(dy, w, **same),
        "conv2d, weight's gradient": lambda: konvlib.conv2d_weight_grad(x, dy, kernel_size=(3, 1), **same),
        "conv2d, a step": step(lambda *given: konvlib.conv2d(*given, **same), x, w, bias),
        "depthwise": lambda: konvlib.conv2d(x, taps, groups=48, **same),
        "depthwise, a step": step(lambda *given: konvlib.conv2d(*given, groups=48, **same), x, taps),
        "max_pool2d": lambda: konvlib.max_pool2d(x, 2),
        "max_pool2d, a step": step(lambda x: konvlib.max_pool2d(x, 2), x),
        "avg_pool2d": lambda: konvlib.avg_pool2d(x, 2),
        "avg_pool2d, a step": step(lambda x: konvlib.avg_pool2d(x, 2), x),
        "im2col": lambda: konvlib.im2col(x, 2),
        "col2im": lambda: konvlib.col2im(cols, SHAPE[2:], 2),
        "expand": lambda: kernels.expand(x, expansion, 1),
        "contract": lambda: kernels.contract(wide, x, expansion, 1),
        "konv2d": lambda: konvlib.konv2d(x, kappa, bias, **same),
        "konv2d, a step": step(lambda *given: konvlib.konv2d(*given, **same), x, kappa, bias),
        "Konv2d": evaluated,
        "Konv2d, forward in training": lambda: layer(leaves[0]),
        "Konv2d, a step": lambda: torch.autograd.grad(layer(leaves[0]), leaves, dy),
    }


def timed(call: Call, rounds: int) -> tuple[float, float]:
    """The least microseconds of a call, and the median, over so many rounds of calls one by one."""
    seconds, clock = [], time.perf_counter
    for _ in range(10):
        call()
    gc.disable()
    try:
        for _ in range(rounds * PER_ROUND):
            begin = clock()
            call()
            seconds.append(clock() - begin)
    finally:
        gc.enable()
    return 1e6 * min(seconds), 1e6 * statistics.median(seconds)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help=f"of {PER_ROUND} calls each")
    parser.add_argument("--only", default="", help="what the names of calls hold")
    given = parser.parse_args(arguments)
    os.environ["TRITON_INTERPRET"] = "0"
    import torch

    from tests.kernels import driverless

    torch.set_num_threads(1)
    driverless.Launcher.taken = None
    found: dict[str, list[str]] = {}
    for hopper in (False, True):
        with driverless.pretended(hopper=hopper):
            for name, call in calls(torch.bfloat16).items():
                if given.only in name:
                    found.setdefault(name, []).append("{:8.1f} {:8.1f}".format(*timed(call, given.rounds)))
    print(f"{'microseconds of the host':30}{'Triton: least, median':>23}{'Gluon: least, median':>23}")
    for name, columns in found.items():
        print(f"{name:30}{columns[0]:>23}{columns[1]:>23}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
