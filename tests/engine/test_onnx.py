"""Layers and poolings exported to ONNX by torch's exporter, and run by ONNX Runtime, for batches of any size.

What is exact here is exact there; sums of real numbers are rounded in another order.
"""

from __future__ import annotations

import logging
import warnings

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import konvlib
from tests.engine.transforms import Module

UNEVEN = ((1, 0), (0, 1))
w = torch.randn(4, 2, 3, 2, generator=torch.Generator().manual_seed(0))
swapped = w[:2]


PLANE, VOLUME, LINE = (2, 2, 8, 9), (2, 2, 4, 5, 6), (2, 2, 9)
FIRST = {
    "Konv2d": (konvlib.Konv2d(2, 4, (3, 2), padding=1, affine=True), PLANE),
    "Konv1d, padded input": (konvlib.Konv1d(2, 3, 2, stride=2, padding=1, pad="input", basis="legendre"), LINE),
    "conv2d": (lambda x: konvlib.conv2d(x, w, stride=(2, 1), padding=((1, 0), (0, 2))), PLANE),
    "avg_pool2d, uneven": (lambda x: konvlib.avg_pool2d(x, 3, stride=2, padding=UNEVEN, ceil_mode=True), PLANE),
}
MORE = {
    "Konv2d, circular": (konvlib.Konv2d(2, 4, 3, padding=UNEVEN, padding_mode="circular", groups=2), PLANE),
    "Konv2d, many degrees": (konvlib.Konv2d(2, 3, 2, degree=9), PLANE),
    "Konv2d of degree 0": (konvlib.Konv2d(2, 3, 2, degree=0, padding=1), PLANE),
    "Konv3d": (konvlib.Konv3d(2, 3, 2, basis="hermite", squash="none"), VOLUME),
    "Konv2d, recomputed": (konvlib.Konv2d(2, 3, 2, recompute=True, padding="same"), PLANE),
    "conv1d": (lambda x: konvlib.conv1d(x, w[:, :, 0], dilation=2), LINE),
    "conv2d, reflect": (lambda x: konvlib.conv2d(x, w, padding=1, padding_mode="reflect"), PLANE),
    "conv2d, replicate": (lambda x: konvlib.conv2d(x, w, padding=1, padding_mode="replicate"), PLANE),
    "conv3d": (lambda x: konvlib.conv3d(x, w[:, :, None]), VOLUME),
    "conv_transpose2d": (lambda x: konvlib.conv_transpose2d(x, swapped, stride=2, padding=1, output_padding=1), PLANE),
    "conv_transpose2d, uneven": (lambda x: konvlib.conv_transpose2d(x, swapped, stride=2, padding=UNEVEN), PLANE),
    "conv_transpose_by_scattering": (lambda x: konvlib.conv_transpose_by_scattering(x, swapped, stride=2), PLANE),
    "zero insertion": (lambda x: konvlib.conv_transpose_by_zero_insertion(x, swapped, stride=2), PLANE),
    "max_pool2d": (lambda x: konvlib.max_pool2d(x, 2, padding=1), PLANE),
    "max_pool2d, uneven": (lambda x: konvlib.max_pool2d(x, 3, stride=2, padding=UNEVEN, ceil_mode=True), PLANE),
    "max_pool2d, dilated": (lambda x: konvlib.max_pool2d(x, 2, stride=2, dilation=2, ceil_mode=True), PLANE),
    "avg_pool1d, uneven": (lambda x: konvlib.avg_pool1d(x, 3, padding=((1, 0),), count_include_pad=False), LINE),
    "avg_pool2d": (lambda x: konvlib.avg_pool2d(x, 2, padding=1, count_include_pad=False), PLANE),
    "avg_pool2d, ceil_mode": (lambda x: konvlib.avg_pool2d(x, 3, stride=2, padding=1, ceil_mode=True), PLANE),
    "avg_pool3d, uneven": (lambda x: konvlib.avg_pool3d(x, 2, padding=((0, 1), 0, (1, 0))), VOLUME),
    "im2col": (lambda x: konvlib.im2col(x, 2, padding=UNEVEN), PLANE),
    "col2im": (lambda x: konvlib.col2im(x.flatten(2).repeat(1, 2, 1), (9, 10), 2), PLANE),
    "conv2d_im2col": (lambda x: konvlib.conv2d_im2col(x, w), PLANE),
    "convolve by FFT": (lambda x: konvlib.convolve(x, w[0, 0, 0], method="fft"), LINE),
    "dilate": (lambda x: konvlib.dilate(x, (2, 3)), PLANE),
}


BATCH = {0: torch.export.Dim("batch", min=2, max=64)}


def exported(function, shape, free=BATCH, **options):
    """The model of ONNX, with a free batch, and its function in ONNX Runtime."""
    module = function if isinstance(function, nn.Module) else Module(function)
    sizes = (free,)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, about itself
        program = torch.onnx.export(
            module, (torch.randn(shape),), dynamo=True, dynamic_shapes=sizes, verbose=False, **options
        )
    model = program.model_proto
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (name,) = [given.name for given in session.get_inputs()]
    return model, lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def agrees(function, shape, **options):
    model, run = exported(function, shape, **options)
    onnx.checker.check_model(model, full_check=True)
    assert {opset.domain for opset in model.opset_import} == {""}  # the operators of ONNX itself
    for batch in (2, 5):
        x = torch.randn(batch, *shape[1:])
        with torch.no_grad():
            y = function(x)
        assert run(x).shape == y.shape
        assert torch.allclose(run(x), y, rtol=1e-4, atol=1e-5)
    return model


@pytest.mark.parametrize("name", FIRST)
def test_onnx_runtime_computes_the_same(name):
    agrees(*FIRST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_onnx_runtime_computes_the_same_of_the_others(name):
    agrees(*MORE[name])


def integers(*shape):
    """Small ones, as floats: their sums are exact."""
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(sum(shape))).float()


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


taps, more, rows = integers(3), integers(12), integers(2, 4)
SHORT = {
    "a short kernel": (lambda x, f, mode: f(x, taps, mode=mode), (2, 9)),
    "a kernel longer than the samples": (lambda x, f, mode: f(x, more, mode=mode), (2, 9)),
    "a kernel convolved by the samples": (lambda x, f, mode: f(taps, x, mode=mode), (2, 9)),
    "a kernel for each channel": (lambda x, f, mode: f(x, rows, mode=mode), (3, 2, 9)),
    "a kernel for each row": (lambda x, f, mode: f(x, x[:, 2:6], mode=mode, method="direct"), (2, 9)),
    "another axis": (lambda x, f, mode: f(x, taps, mode=mode, axis=1), (2, 9, 4)),
}


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("name", ["convolve", "correlate"])
@pytest.mark.parametrize("case", [name if name == "a short kernel" else slow(name) for name in SHORT])
def test_short_kernels_are_the_same_for_a_batch_of_any_size(case, name, mode):
    """Exactly; the rows of a batch that is not fixed are no groups, of which a model of ONNX has a fixed number."""
    function, shape = SHORT[case]
    model, run = exported(lambda x: function(x, getattr(konvlib, name), mode), shape)
    onnx.checker.check_model(model, full_check=True)
    for batch in (1, 2, 5):
        x = integers(batch, *shape[1:])
        y = function(x, getattr(konvlib, name), mode)
        assert run(x).shape == y.shape
        assert (run(x) == y).all()


@pytest.mark.parametrize("mode", ["full", slow("same"), slow("valid")])
def test_the_length_may_be_free_too(mode):
    free = BATCH | {1: torch.export.Dim("samples", min=4, max=4096)}
    _, run = exported(lambda x: konvlib.convolve(x, taps, mode=mode), (2, 9), free)
    for shape in ((2, 9), (5, 4), (3, 1000)):
        assert (run(integers(*shape)) == konvlib.convolve(integers(*shape), taps, mode=mode)).all()


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23, 26])
def test_every_opset_of_the_day(opset):
    """From the first that torch's exporter makes on."""
    model = agrees(*FIRST["Konv2d"], opset_version=opset)
    assert [given.version for given in model.opset_import] == [opset]
