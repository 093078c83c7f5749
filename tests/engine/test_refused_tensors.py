"""What is no dense tensor of numbers is refused by name, in every place of every function and module of tensors."""

from __future__ import annotations

import warnings

import pytest
import torch

import konvlib


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


x, w, kappa, swapped, dy = ones(2, 2, 5, 6), ones(3, 2, 2, 2), ones(3, 2, 2, 2, 2), ones(2, 3, 2, 2), ones(2, 3, 4, 5)
bias, cols = ones(3), ones(2, 8, 20)
layer = konvlib.Konv2d(2, 3, 2, affine=True, dtype=torch.float64)
lazy = konvlib.LazyKonv2d(3, 2, dtype=torch.float64)
CALLS = {
    "conv2d": (konvlib.conv2d, {"x": x, "w": w, "bias": bias}),
    "conv_transpose2d": (konvlib.conv_transpose2d, {"x": x, "w": swapped, "bias": bias}),
    "by scattering": (konvlib.conv_transpose_by_scattering, {"x": x, "w": swapped, "bias": bias}),
    "by zero insertion": (konvlib.conv_transpose_by_zero_insertion, {"x": x, "w": swapped, "bias": bias}),
    "insert_zeros": (lambda x: konvlib.insert_zeros(x, 2), {"x": x}),
    "max_pool2d": (lambda x: konvlib.max_pool2d(x, 2), {"x": x}),
    "avg_pool2d": (lambda x: konvlib.avg_pool2d(x, 2), {"x": x}),
    "max_pool2d_grad": (lambda x, dy: konvlib.max_pool2d_grad(x, dy, 2, stride=1), {"x": x, "dy": ones(2, 2, 4, 5)}),
    "avg_pool2d_grad": (lambda dy: konvlib.avg_pool2d_grad(dy, 2, stride=1, input_size=(5, 6)), {"dy": dy}),
    "conv2d_input_grad": (lambda dy, w: konvlib.conv2d_input_grad(dy, w, input_size=(5, 6)), {"dy": dy, "w": w}),
    "conv2d_weight_grad": (lambda x, dy: konvlib.conv2d_weight_grad(x, dy, kernel_size=2), {"x": x, "dy": dy}),
    "conv2d_bias_grad": (konvlib.conv2d_bias_grad, {"dy": dy}),
    "konv2d": (konvlib.konv2d, {"x": x, "kappa": kappa, "bias": bias}),
    "konv2d_input_grad": (konvlib.konv2d_input_grad, {"dy": dy, "x": x, "kappa": kappa}),
    "konv2d_kappa_grad": (lambda x, dy: konvlib.konv2d_kappa_grad(x, dy, degree=1, kernel_size=2), {"x": x, "dy": dy}),
    "konv2d_bias_grad": (konvlib.konv2d_bias_grad, {"dy": dy}),
    "im2col": (lambda x: konvlib.im2col(x, 2), {"x": x}),
    "col2im": (lambda cols: konvlib.col2im(cols, (5, 6), 2), {"cols": cols}),
    "conv2d_im2col": (konvlib.conv2d_im2col, {"x": x, "w": w, "bias": bias}),
    "conv_matrix": (lambda w: konvlib.conv_matrix(w, (2, 5, 6)), {"w": w}),
    "circulant_singular_values": (lambda w: konvlib.circulant_singular_values(w, 4), {"w": w}),
    "convolve": (konvlib.convolve, {"f": ones(9), "g": ones(3)}),
    "correlate": (konvlib.correlate, {"f": ones(9), "g": ones(3)}),
    "dilate": (lambda k: konvlib.dilate(k, 2), {"k": ones(4)}),
    "compose": (konvlib.compose, {"w1": w, "w2": ones(2, 3, 2, 2)}),
    "factor": (lambda k: konvlib.factor(k, step=2), {"k": ones(4)}),
    "Konv2d": (layer, {"x": x}),
    "LazyKonv2d": (lazy, {"x": x}),
}


def wrong(tensor):
    yield "sparse", tensor.to_sparse(), "must be a dense tensor, got layout torch.sparse_coo"
    yield "mkldnn", tensor.float().to_mkldnn(), "must be a dense tensor, got layout torch._mkldnn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "nested", torch.nested.nested_tensor([tensor, tensor]), "must be a dense tensor, got a nested one"
    rows = torch.nested.nested_tensor([tensor, tensor], layout=torch.jagged)
    yield "jagged", rows, "must be a dense tensor, got a nested one"
    yield "booleans", tensor.bool(), r"must be of dtype .*, got torch.bool; convert it, as with \w+.double\(\)"


@pytest.mark.parametrize("name", CALLS)
def test_what_is_not_dense_is_refused_by_name(name):
    function, operands = CALLS[name]
    for place, good in operands.items():
        for what, value, words in wrong(good):
            with pytest.raises(TypeError, match=f"^{place} {words}"):
                function(*(operands | {place: value}).values())
            assert what
    function(*operands.values())


@pytest.mark.parametrize("name", [name for name, (_, operands) in CALLS.items() if len(operands) > 1])
def test_none_beside_a_tensor_is_refused_by_name(name):
    function, operands = CALLS[name]
    for place in operands:
        if place != "bias":
            with pytest.raises(TypeError, match=f"^{place} must be a torch tensor like the other operands?, got None"):
                function(*(operands | {place: None}).values())


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("convolve", "correlate")])
def test_complex_operands_lose_no_part(name):
    function, operands = CALLS[name]
    if name in ("circulant_singular_values", "factor", "conv_matrix", "insert_zeros", "conv2d_bias_grad"):
        return
    for place, good in operands.items():
        with pytest.raises(
            TypeError, match=rf"got torch\.complex128; give its real and its imaginary part, {place}\.real"
        ):
            function(*(operands | {place: good.to(torch.complex128)}).values())


def test_integers_are_told_the_dtype_of_the_others():
    for dtype, method in ((torch.float16, "half"), (torch.bfloat16, "bfloat16"), (torch.float32, "float")):
        with pytest.raises(TypeError, match=rf"^bias must be of dtype .*, got torch.int64; .* bias\.{method}\(\)$"):
            konvlib.conv2d(x.to(dtype), w.to(dtype), torch.tensor([1, 1, 1]))


@pytest.mark.parametrize("call", [lambda: layer(None), lambda: konvlib.LazyKonv2d(3, 2)(None)])
def test_none_is_no_batch(call):
    with pytest.raises(TypeError, match=r"^x must be a torch tensor.*, got None$"):
        call()


def test_fx_is_told_how_to_take_a_function():
    with pytest.raises(TypeError, match=r"^x must be a torch tensor .* Proxy of torch.fx: wrap the function"):
        torch.fx.symbolic_trace(lambda x: konvlib.conv2d(x, w))
