"""Layers on a CUDA device against cuDNN in its benchmark mode: bfloat16, channels last, the tables of known networks.

``python -m benchmarks.layers_gpu`` prints the tables, their means and worst cases, and writes the records; without a
CUDA device it says so. ``--choices PATH`` keeps the tiles that were found quickest, for `konvlib.layers.autotune`: it
sets ``KONVLIB_TUNE=all`` unless that is set, so layers in boxes of pixels are measured too, also where the file of the
device names a tile of the other form.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import cuda, harness

TOLERANCE = 1e-2
"""bfloat16 rounds to 8 bits: 0.004 for each rounded operand of a weight gradient's long sums, once for the result."""


class Layer(NamedTuple):
    """A row of a table: batch, channels in and out, size of each axis, and the geometry, the same on all axes."""

    batch: int
    inputs: int
    outputs: int
    size: tuple[int, ...]
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


def _resnet50() -> Iterator[Layer]:
    yield Layer(32, 3, 64, (224, 224), 7, 2, 3)
    inputs, size = 64, 56
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        wide = 4 * width
        yield Layer(32, inputs, width, (size, size), 1)
        yield Layer(32, width, width, (size, size), 3, stride, 1)
        yield Layer(32, inputs, wide, (size, size), 1, stride)
        size //= stride
        yield Layer(32, width, wide, (size, size), 1)
        yield Layer(32, wide, width, (size, size), 1)
        yield Layer(32, width, width, (size, size), 3, 1, 1)
        inputs = wide


RESNET50 = tuple(dict.fromkeys(_resnet50()))
DEPTHWISE = (
    *(
        Layer(32, channels, channels, (size, size), 3, stride, 1, groups=channels)
        for channels, size, stride in (
            (32, 112, 1), (96, 112, 2), (144, 56, 1), (144, 56, 2), (192, 28, 1), (192, 28, 2), (384, 14, 1),
            (576, 14, 1), (576, 14, 2), (960, 7, 1),
        )
    ),
    *(
        Layer(32, channels, channels, (size, size), 7, 1, 3, groups=channels)
        for channels, size in ((96, 56), (192, 28), (384, 14), (768, 7))
    ),
)  # fmt: skip
"""MobileNetV2's layers, then ConvNeXt-T's."""

TRANSPOSED = (
    *(Layer(64, outputs, inputs, (2 * size,) * 2, 4, 2, 1) for inputs, outputs, size in (
        (1024, 512, 4), (512, 256, 8), (256, 128, 16), (128, 3, 32))),
    *(Layer(8, outputs, inputs, (2 * size,) * 2, 3, 2, 1) for inputs, outputs, size in (
        (1024, 512, 32), (512, 256, 64), (256, 128, 128), (128, 64, 256))),
)  # fmt: skip
"""DCGAN's generator, then U-Net's decoder, as the convolutions that are transposed."""

SEQUENCES = (
    Layer(8, 1, 512, (160000,), 10, 5),
    *(Layer(8, 512, 512, (size,), 3, 2) for size in (31999, 15999, 7999, 3999)),
    *(Layer(8, 512, 512, (size,), 2, 2) for size in (1999, 999)),
    *(Layer(8, 64, 128, (16000 + dilation,), 2, dilation=dilation) for dilation in (1, 8, 64, 512)),
)
"""wav2vec 2.0's encoder on ten seconds of sound, then layers of a WaveNet stack on one second."""

TABLES = {
    "forward": (RESNET50, "conv"),
    "input_grad": (RESNET50, "input_grad"),
    "weight_grad": (RESNET50, "weight_grad"),
    "transposed": (TRANSPOSED, "input_grad"),
    "depthwise_forward": (DEPTHWISE, "conv"),
    "depthwise_input_grad": (DEPTHWISE, "input_grad"),
    "depthwise_weight_grad": (DEPTHWISE, "weight_grad"),
    "sequences_forward": (SEQUENCES, "conv"),
}
IM2COL = ((32, 64, 56, 3, 1, 1), (32, 128, 28, 3, 1, 1), (32, 3, 224, 7, 2, 3), (8, 64, 112, 5, 1, 2))
"""Batch, channels, size, kernel, stride, padding."""


def cases(layers: tuple[Layer, ...], what: str) -> Iterator[harness.Case]:
    for layer in layers:
        label = {**layer._asdict(), "size": "x".join(map(str, layer.size))}
        yield harness.Case(label, functools.partial(competitors, layer, what), TOLERANCE)


def competitors(layer: Layer, what: str) -> tuple[Mapping[str, harness.Call], Any]:
    """Ours and cuDNN's for the layer or one of its gradients, and the result in float32 without TF32."""
    import torch

    from konvlib.layers import operators

    generator = torch.Generator("cuda").manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        x = torch.randn(shape, generator=generator, device="cuda").bfloat16()
        return x.movedim(1, -1).contiguous().movedim(-1, 1)

    axes = len(layer.size)
    x = drawn(layer.batch, layer.inputs, *layer.size)
    w = drawn(layer.outputs, layer.inputs // layer.groups, *(layer.kernel,) * axes)
    every = [[value] * axes for value in (layer.stride, layer.padding, layer.dilation)]
    ours = every[0], [layer.padding] * (2 * axes), every[2], layer.groups
    theirs = [*every, False, [0] * axes, layer.groups]
    if what == "conv":
        calls = {
            "konvlib": lambda: operators.conv(x, w, None, *ours),
            "cuDNN": lambda: torch.ops.aten.convolution(x, w, None, *theirs),
        }
        return calls, exact(lambda: torch.ops.aten.convolution(x.float(), w.float(), None, *theirs))
    spans = layer.dilation * (layer.kernel - 1) + 1
    size = [(n + 2 * layer.padding - spans) // layer.stride + 1 for n in layer.size]
    dy, mask = drawn(layer.batch, layer.outputs, *size), [what == "input_grad", what == "weight_grad", False]
    place = mask.index(True)

    def backward(dy: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.convolution_backward(dy, x, w, None, *theirs, mask)[place]

    calls = {"cuDNN": lambda: backward(dy, x, w)}
    if what == "input_grad":
        calls = {"konvlib": lambda: operators.conv_transpose(dy, w, None, layer.size, *ours), **calls}
    else:
        calls = {"konvlib": lambda: operators.conv_weight_grad(x, dy, w.shape[2:], *ours), **calls}
    return calls, exact(lambda: backward(dy.float(), x.float(), w.float()))


def exact(call: harness.Call) -> Any:
    import torch

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return call()


def columns() -> Iterator[harness.Case]:
    names = ("batch", "channels", "size", "kernel", "stride", "padding")
    for row in IM2COL:
        yield harness.Case(dict(zip(names, row, strict=True)), functools.partial(column_competitors, *row), 0.0)


def column_competitors(
    batch: int, channels: int, size: int, kernel: int, stride: int, padding: int
) -> tuple[Mapping[str, harness.Call], Any]:
    """Ours, ``unfold``, and a copy of as many bytes as are read and written."""
    import torch

    import konvlib

    x = torch.randn(batch, channels, size, size, device="cuda").bfloat16()
    options = {"stride": stride, "padding": padding}
    reference = torch.nn.functional.unfold(x, kernel, **options)
    like = torch.empty(math.ceil((x.numel() + reference.numel()) / 2), device="cuda", dtype=x.dtype)

    def copy() -> torch.Tensor:
        like.clone()
        return reference

    return {
        "konvlib": lambda: konvlib.im2col(x, kernel, **options),
        "unfold": lambda: torch.nn.functional.unfold(x, kernel, **options),
        "copy": copy,
    }, reference


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=[*TABLES, "im2col"], default=[*TABLES, "im2col"])
    chosen = cuda.given(parser, arguments)
    if chosen.choices:
        os.environ.setdefault("KONVLIB_TUNE", "all")
    if not cuda.is_there("layers_gpu"):
        return 0
    tables = {f"layers_{name}": (list(cases(*TABLES[name])), None) for name in chosen.tables if name in TABLES}
    tables |= {"im2col_gpu": (list(columns()), None)} if "im2col" in chosen.tables else {}
    return cuda.run_all(tables, chosen)


if __name__ == "__main__":
    raise SystemExit(main())
