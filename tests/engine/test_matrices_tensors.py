"""Columns and compositions of tensors under everything that torch does to functions: see `tests.engine.transforms`.

The functions are those of `konvlib.matrices` and of `konvlib.strides`.
"""

from __future__ import annotations

import pytest
import torch
from torch.func import hessian

import konvlib
from tests.engine import transforms


def random(*shape):
    count = torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(count * count).reshape(shape)


def chain(w1, bias, w2):
    """The weight and the bias of two layers as one, with crossing groups."""
    whole = konvlib.compose_chain([(w1, 2, 1, bias, 2), (w2, 1, 3)])
    return torch.cat([whole.weight.flatten(), whole.bias.to(whole.weight.dtype)])


PLANE = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2)}
VOLUME = {"stride": (1, 2, 1), "padding": ((0, 1), (1, 1), (0, 0)), "dilation": (1, 1, 2)}
ON_BATCHES = {
    "im2col, one axis": (lambda x: konvlib.im2col(x, 3, stride=2, padding=((2, 1),), dilation=2), [random(2, 2, 7)]),
    "im2col, two axes": (lambda x: konvlib.im2col(x, (3, 2), **PLANE), [random(2, 2, 4, 5)]),
    "im2col, even padding": (lambda x: konvlib.im2col(x, 2, padding=(0, 1)), [random(2, 2, 3, 3)]),
    "im2col, three axes": (lambda x: konvlib.im2col(x, (2, 3, 2), **VOLUME), [random(2, 1, 2, 3, 4)]),
    "col2im, one axis": (
        lambda cols: konvlib.col2im(cols, 7, 3, stride=2, padding=((2, 1),), dilation=2),
        [random(2, 6, 3)],
    ),
    "col2im, two axes": (lambda cols: konvlib.col2im(cols, (4, 5), (3, 2), **PLANE), [random(2, 12, 10)]),
    "col2im, even padding": (lambda cols: konvlib.col2im(cols, (3, 3), 2, padding=(0, 1)), [random(2, 8, 8)]),
    "col2im, three axes": (lambda cols: konvlib.col2im(cols, (2, 3, 4), (2, 3, 2), **VOLUME), [random(2, 12, 8)]),
    "conv2d_im2col": (
        lambda x, w, bias: konvlib.conv2d_im2col(x, w, bias, groups=2, **PLANE),
        [random(2, 4, 3, 5), random(2, 2, 2, 2), random(2)],
    ),
    "conv2d_im2col, one tap": (
        lambda x, w, bias: konvlib.conv2d_im2col(x, w, bias),
        [random(2, 2, 2, 3), random(3, 2, 1, 1), random(3)],
    ),
}
OTHERS = {
    "dilate": (lambda k: konvlib.dilate(k, (2, 3)), [random(2, 1, 2, 3)]),
    "dilate, all axes": (lambda k: konvlib.dilate(k, (2, 1, 3), axes=3), [random(2, 3, 2)]),
    "compose": (
        lambda w1, w2: konvlib.compose(w1, w2, stride1=2, dilation1=(1, 2), groups1=2),
        [random(2, 1, 2, 3), random(3, 2, 2, 1)],
    ),
    "compose, bare kernels": (lambda w1, w2: konvlib.compose(w1, w2, dilation2=3), [random(3), random(2)]),
    "compose_chain": (chain, [random(4, 1, 2), random(4), random(2, 4, 2)]),
    "circulant_singular_values": (lambda w: konvlib.circulant_singular_values(w, (2, 3)), [random(2, 2, 1, 2)]),
}


@pytest.mark.parametrize("check", [*transforms.CHECKS, *transforms.FREE_BATCH], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ON_BATCHES)
def test_everything_that_torch_does_to_batches(name, check):
    check(*ON_BATCHES[name])


@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", OTHERS)
def test_everything_that_torch_does_to_weights(name, check):
    if (name, check) in REFUSED:
        pytest.skip(REFUSED[name, check])
    check(*OTHERS[name])


REFUSED = {
    ("circulant_singular_values", transforms.halves): "halves give doubles",
    ("circulant_singular_values", transforms.func_hessian): "torch batches no second derivative of a complex SVD",
}


def test_second_derivatives_of_singular_values():
    function, (w,) = OTHERS["circulant_singular_values"]
    loss = transforms.cubed(function)
    assert transforms.close(hessian(loss)(w), torch.autograd.functional.hessian(loss, w))


def test_the_matrix_is_differentiable_by_its_weight():
    """In reverse mode, also twice; torch has no forward mode and no transforms of sparse values."""
    options = {"stride": (1, 2), "padding": ((1, 0), (0, 2)), "dilation": (2, 1), "groups": 2}
    w, x = random(4, 2, 2, 3).requires_grad_(), random(2, 4, 3, 5)

    def matrix(w):
        return konvlib.conv_matrix(w, (4, 3, 5), **options)

    uses = (
        lambda w: matrix(w).to_dense(),
        lambda w: matrix(w) @ x.flatten(1).T,
        lambda w: matrix(w).t() @ torch.ones(len(matrix(w)), 1, dtype=w.dtype),
    )
    for use in uses:
        assert torch.autograd.gradcheck(use, (w,))
        assert torch.autograd.gradgradcheck(use, (w,))
    assert transforms.close(uses[1](w), konvlib.conv2d(x, w, **options).flatten(1).T)
    losses = (lambda w, x: (matrix(w) @ x.flatten(1).T)[:, 0], lambda w, x: konvlib.conv2d(x, w, **options)[0])
    hessians = [torch.autograd.functional.hessian(transforms.cubed(loss), (w.detach(), x)) for loss in losses]
    assert all(transforms.close(*rows) for rows in zip(*hessians, strict=True))
    other = torch.eye(*matrix(w).shape, dtype=w.dtype).to_sparse_csr()
    (ours,) = torch.autograd.grad((matrix(w) + other).to_dense().pow(3).sum(), w)
    (theirs,) = torch.autograd.grad((matrix(w).to_dense() + other.to_dense()).pow(3).sum(), w)
    assert transforms.close(ours, theirs)
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.vmap):
        with pytest.raises(TypeError, match="w must be an ordinary tensor for a sparse matrix"):
            transform(lambda w: matrix(w).to_dense().sum())(w.detach() if transform is not torch.func.vmap else w[None])


def test_a_batch_of_none_has_gradients():
    for name, (function, (x, *rest)) in ON_BATCHES.items():
        nothing = x[:0].clone().requires_grad_()
        y = function(nothing, *rest)
        assert y.shape == (0, *function(x, *rest).shape[1:]), name
        (gradient,) = torch.autograd.grad(y.sum(), nothing)
        assert gradient.shape == nothing.shape


def test_halves_are_summed_in_single_precision_backward_too():
    """Of ones after 2048, of which each alone is lost in a half."""
    for size, kernel in (((1099,), 100), ((3, 1099), (1, 100)), ((2, 2, 1099), (1, 1, 100))):
        x = torch.zeros(1, 1, *size, dtype=torch.float16, requires_grad=True)
        ones = torch.ones_like(konvlib.im2col(x, kernel).detach())
        ones[0, 0] = 2048
        (gradient,) = torch.autograd.grad(konvlib.im2col(x, kernel), x, ones)
        assert (gradient[..., 500] == 2048 + 99 + 1).all()  # 2147, rounded to even
        assert torch.equal(konvlib.col2im(ones, size, kernel), gradient)


def test_columns_of_any_layout_are_contiguous():
    for name in ("im2col, two axes", "im2col, even padding"):
        function, (x,) = ON_BATCHES[name]
        for layout in (x.to(memory_format=torch.channels_last), x.mT.contiguous().mT, x.expand(3, *x.shape)[0]):
            cols = function(layout)
            assert cols.is_contiguous()
            assert torch.equal(cols, function(x))


def test_the_hundredth_call_is_refused_as_the_first_one():
    x, w = random(1, 2, 4, 5), random(3, 2, 2, 2)
    calls = [
        (konvlib.im2col, (x,), {"kernel_size": 2}, {"kernel_size": 2.0}, TypeError),
        (konvlib.im2col, (x,), {"kernel_size": 1}, {"kernel_size": True}, TypeError),
        (konvlib.col2im, (random(1, 8, 12),), {"output_size": (4, 5), "kernel_size": 2}, {"stride": 0}, ValueError),
        (konvlib.conv2d_im2col, (x, w), {"groups": 1}, {"groups": True}, TypeError),
        (konvlib.conv_matrix, (w,), {"input_shape": (2, 4, 5)}, {"input_shape": (2, 4, 5.0)}, TypeError),
        (konvlib.circulant_singular_values, (w,), {"shape": 4}, {"shape": 4.0}, TypeError),
        (konvlib.dilate, (w,), {"step": 1}, {"step": True}, TypeError),
        (konvlib.compose, (w[:2], w), {"stride1": 2}, {"stride1": 2.0}, TypeError),
    ]
    for function, operands, good, wrong, kind in calls:
        messages = set()
        for _ in range(3):
            function(*operands, **good)
            with pytest.raises(kind) as raised:
                function(*operands, **good | wrong)
            messages.add(str(raised.value))
        assert len(messages) == 1


def test_only_values_that_are_there_are_looked_at():
    w = random(2, 2, 3)
    w[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="w must be finite"):
        konvlib.circulant_singular_values(w, 4)
    assert konvlib.circulant_singular_values(w.to("meta"), 4).shape == (8,)
