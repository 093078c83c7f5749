"""The three operators of the layer's trilinear form: their integration with torch, layouts, dtypes, devices.

That they compute the right sums is tested with the backends made of them: images, transposes, gradients, strides.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from konvlib import runtime
from konvlib.layers import (
    depthwise,
    depthwise_input_grad,
    depthwise_weight_grad,
    forward,
    input_grad,
    memory,
    operators,
    weight_grad,
    weight_grad_parts,
)
from tests.kernels.operators import (
    assert_keeps_no_device_memory,
    assert_keeps_no_tensor,
    integers,
    on_cuda,
    poisoned,
    random,
    running,
    same_but_for_layout,
)

LAYERS = {
    "1 axis": ((2, 2, 7), (3, 2, 3), ((2,), (1, 2), (1,), 1)),
    "2 axes": ((2, 4, 5, 6), (6, 2, 3, 2), ((2, 1), (1, 0, 0, 2), (1, 2), 2)),
    "3 axes": ((1, 1, 3, 4, 2), (2, 1, 2, 1, 2), ((1, 2, 3), (0, 1, 0, 0, 1, 1), (1, 1, 1), 1)),
    "depthwise": ((2, 3, 5, 4), (6, 1, 2, 3), ((1, 2), (1, 1, 2, 0), (2, 1), 3)),
    "more channels": ((1, 20, 4, 3), (17, 20, 2, 2), ((2, 1), (1, 0, 0, 1), (1, 1), 1)),
}


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    return request.param


def calls(layer, device, dtype=torch.float64, make=random):
    """The operators' arguments by name: the layer's own, its transpose's, its weight gradient's."""
    x_shape, w_shape, rest = layer
    x, w, bias = (make(shape, device, dtype=dtype, seed=len(shape)) for shape in (x_shape, w_shape, w_shape[:1]))
    dy = make(operators.conv(x, w, bias, *rest).shape, device, dtype=dtype, seed=9)
    return {
        "conv": (x, w, bias, *rest),
        "conv_transpose": (dy, w, make(x_shape[1:2], device, dtype=dtype), x_shape[2:], *rest),
        "conv_weight_grad": (x, dy, w_shape[2:], *rest),
    }


def outputs(layer, device, dtype=torch.float64, make=random, change=lambda x: x):
    for name, arguments in calls(layer, device, dtype, make).items():
        yield getattr(operators, name)(*(change(a) if isinstance(a, torch.Tensor) else a for a in arguments))


def last(x):
    """The same tensor with its channels next to each other in memory."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if x.dim() > 2 else x


@pytest.mark.parametrize(("layer", "change"), [("2 axes", last), ("depthwise", torch.clone), ("1 axis", last)])
def test_opcheck(quick_implementation, layer, change):
    for name, arguments in calls(LAYERS[layer], quick_implementation).items():
        arguments = [change(a).requires_grad_() if isinstance(a, torch.Tensor) else a for a in arguments]
        torch.library.opcheck(getattr(torch.ops.konvlib, name).default, arguments)


def test_gradients_of_both_orders(quick_implementation, layer):
    for name, arguments in calls(layer, quick_implementation).items():
        tensors = [a.requires_grad_() for a in arguments if isinstance(a, torch.Tensor)]
        rest = arguments[len(tensors) :]

        def call(*tensors, name=name, rest=rest):
            return getattr(operators, name)(*tensors, *rest)

        assert torch.autograd.gradcheck(call, tensors, fast_mode=True)
        assert torch.autograd.gradgradcheck(call, tensors, fast_mode=True)


def test_opcheck_of_the_kernels(implementation):
    for name, arguments in calls(LAYERS["2 axes"], implementation).items():
        torch.library.opcheck(getattr(torch.ops.konvlib, name).default, arguments)


def test_gradients_are_the_adjoint_operators_exactly(implementation, layer):
    """In integers: the gradient of ``sum(dy * conv(x, w))`` is what the two other operators give."""
    given = calls(layer, implementation, make=integers)
    x, w, bias, *rest = given["conv"]
    dy = given["conv_weight_grad"][1]
    grads = torch.autograd.grad(
        operators.conv(x.requires_grad_(), w.requires_grad_(), bias.requires_grad_(), *rest), (x, w, bias), dy
    )
    dx = operators.conv_transpose(dy, w, None, x.shape[2:], *rest)
    dw = operators.conv_weight_grad(x, dy, w.shape[2:], *rest)
    db = dy.sum((0, *range(2, dy.dim())))
    assert all(torch.equal(*pair) for pair in zip(grads, (dx, dw, db), strict=True))
    trilinear = (dy * operators.conv(x, w, None, *rest)).sum()
    assert trilinear == (dx * x).sum() == (dw * w).sum()


@pytest.mark.parametrize("wide", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("channels", [17, 2])
@pytest.mark.parametrize("options", [((1, 1), (0, 0, 0, 0)), ((2, 1), (0, 0, 0, 0)), ((1, 1), (1, 0, 0, 1))], ids=str)
def test_the_weight_gradient_of_one_tap_in_every_layout_is_a_matrix_product(monkeypatch, wide, channels, options):
    """Where each output sees one pixel, its own, in one line and not; with offsets of 32 bits and of 64."""
    monkeypatch.setattr(memory, "is_wide", lambda *tensors: wide)
    stride, padding = options
    with running("kernel") as device:
        x, w = integers((2, channels, 5, 3), device), integers((18, channels, 1, 1), device)
        rest = (stride, padding, (1, 1), 1)
        dy = integers(operators.conv(x, w, None, *rest).shape, device, seed=1)
        expected = operators.conv_weight_grad.composite(x, dy, (1, 1), *rest)
        for given_x, given_dy in product([x, *same_but_for_layout(x)], [dy, *same_but_for_layout(dy)]):
            assert torch.equal(operators.conv_weight_grad(given_x, given_dy, (1, 1), *rest), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 112, 2**20 - 1, 2**20, 2**31 - 1])
def test_the_division_by_multiplication_is_exact(size):
    factor, shift = weight_grad.by_multiplication(size)
    assert factor < 2**32
    values = {v + w for v in range(0, 2**31, max(size, 2**31 // 999) // size * size) for w in (-1, 0, 1)} | {2**31 - 1}
    assert all(2 * value * factor >> 32 + shift == value // size for value in values if 0 <= value < 2**31)


@pytest.mark.parametrize("dtype", runtime.REALS[:-1], ids=str)
def test_every_dtype_is_exact_on_small_integers(implementation, layer, dtype):
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    exact = list(outputs(layer, implementation, make=integers))
    for y, wide in zip(outputs(layer, implementation, dtype, make=integers), exact, strict=True):
        assert (y.dtype, y.device.type) == (dtype, implementation)
        assert torch.equal(y, wide.to(dtype))


@pytest.mark.parametrize("dtype", runtime.REALS, ids=str)
def test_every_dtype_against_double(implementation, layer, dtype):
    """Halves are summed in float32 and rounded once; elsewhere each of at most 100 products and sums rounds once."""
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    given = [a.to(dtype) if isinstance(a, torch.Tensor) else a for a in calls(layer, implementation)["conv"]]
    exact = operators.conv(*(a.double() if isinstance(a, torch.Tensor) else a for a in given))
    tf32 = dtype is torch.float32 and implementation == "cuda"
    error = (operators.conv(*given).double() - exact).abs().max() / exact.abs().max()
    assert error < 100 * (2.0**-11 if tf32 else torch.finfo(dtype).eps)


def test_the_layout_of_the_result_is_the_operands(implementation, layer):
    plain = outputs(layer, implementation, make=integers)
    for y, expected in zip(outputs(layer, implementation, make=integers, change=last), plain, strict=True):
        assert torch.equal(y, expected)
        assert y.is_contiguous() or y.shape[1] == 1 or y.stride(1) == 1
        assert expected.is_contiguous()


def test_non_contiguous_operands(implementation, layer):
    def spread(x):
        sparse = x.new_full([2 * size for size in x.shape], float("nan"))[(slice(None, None, 2),) * x.dim()]
        return sparse.copy_(x)

    each = (outputs(layer, implementation, make=integers, change=change) for change in (lambda x: x, spread))
    assert all(torch.equal(*pair) for pair in zip(*each, strict=True))
    x, w, _, *rest = calls(layer, implementation)["conv"]
    y = operators.conv(x[:1].expand(3, *x.shape[1:]), w, None, *rest)
    assert torch.equal(y[2], operators.conv(x, w, None, *rest)[0])


def test_every_element_is_written(implementation, layer):
    """Poison what is allocated: an element left unwritten would be NaN."""
    given = calls(layer, implementation, make=integers)
    with poisoned():
        for name, arguments in given.items():
            assert getattr(operators, name)(*arguments).isfinite().all()


def test_two_runs_are_bitwise_equal(implementation, layer):
    runs = [list(outputs(layer, implementation, torch.float32)) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))


def test_an_empty_batch(implementation):
    for groups in (1, 2):
        x, w = torch.ones(0, 2, 5, 4, device=implementation), torch.ones(4, 2 // groups, 3, 2, device=implementation)
        x, w = x.requires_grad_(), w.requires_grad_()
        y = konvlib.conv2d(x, w, groups=groups)
        assert y.shape == (0, 4, 3, 3)
        y.sum().backward()
        assert x.grad.shape == x.shape
        assert torch.equal(w.grad, torch.zeros_like(w))


def test_vmap(quick_implementation, layer):
    for name, arguments in calls(layer, quick_implementation, make=integers).items():
        operator = getattr(operators, name)
        tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
        rest = arguments[len(tensors) :]
        stacks = [torch.stack([t, 2 * t, t + 1], 1) for t in tensors]
        for batched in product((True, False), repeat=len(tensors)):
            if not any(batched):
                continue
            given = [stack if each else t for stack, t, each in zip(stacks, tensors, batched, strict=True)]
            dims = tuple(1 if each else None for each in batched)
            y = torch.vmap(lambda *ts, operator=operator, rest=rest: operator(*ts, *rest), in_dims=dims)(*given)
            for index in range(3):
                one = [g.select(1, index) if each else g for g, each in zip(given, batched, strict=True)]
                assert torch.equal(y[index], operator(*one, *rest))


def test_compiles_whole_with_changing_sizes(implementation):
    def function(x, w, bias):
        return konvlib.conv2d(x, w, bias, stride=2, padding=((1, 0), (0, 2))) * 2

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for size in ((6, 5), (8, 9)):
        x, w = integers((2, 3, *size), implementation), integers((4, 3, 2, 3), implementation, seed=1)
        bias = integers((4,), implementation, seed=2)
        w.requires_grad_()
        assert torch.equal(compiled(x, w, bias), function(x, w, bias))
        grads = [torch.autograd.grad(f(x, w, bias).square().sum(), w)[0] for f in (compiled, function)]
        assert torch.equal(*grads)


def test_autocast_computes_in_its_dtype(implementation):
    x, w = (random(shape, implementation, dtype=torch.float32) for shape in ((2, 3, 6), (4, 3, 3)))
    with torch.autocast(implementation, dtype=torch.float16):
        assert konvlib.conv1d(x, w).dtype == torch.float16
        assert konvlib.conv1d(x.half(), w).dtype == torch.float16
        assert konvlib.conv1d(x.double(), w.double()).dtype == torch.float64
    assert konvlib.conv1d(x, w).dtype == torch.float32


def test_flops_are_those_of_the_definition(implementation):
    x = torch.ones(2, 4, 9, device=implementation, requires_grad=True)
    w = torch.ones(6, 2, 3, device=implementation, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        y = torch.ops.konvlib.conv(x, w, None, [1], [0, 0], [1], 2)
    assert counter.get_total_flops() == 2 * y.numel() * 2 * 3
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * (2 * y.numel() * 2 * 3)


def test_no_tensor_is_kept(implementation):
    def once():
        x, w = torch.ones(1, 2, 5, device=implementation), torch.ones(2, 2, 3, device=implementation)
        konvlib.conv1d(x.requires_grad_(), w.requires_grad_()).sum().backward()

    assert_keeps_no_tensor(once)


def test_an_operator_called_directly_checks_what_it_is_given(implementation):
    """So that none reads beyond a tensor's memory."""
    x, w, dy = (torch.ones(shape, device=implementation) for shape in ((1, 2, 5), (4, 2, 3), (1, 4, 3)))
    rest = ([1], [0, 0], [1])
    wrong = [
        (ValueError, "w must have 2 // 1 = 2 channels", lambda: operators.conv(x, w[:, :1], None, *rest, 1)),
        (ValueError, "bias must have shape", lambda: operators.conv(x, w, w[0, 0], *rest, 1)),
        (ValueError, r"stride\[0\] must be", lambda: operators.conv(x, w, None, [0], [0, 0], [1], 1)),
        (ValueError, "kernel_size must fit", lambda: operators.conv(x[..., :2], w, None, *rest, 1)),
        (ValueError, "dy must have", lambda: operators.conv_transpose(dy, w, None, [6], *rest, 1)),
        (ValueError, "bias must have shape", lambda: operators.conv_transpose(dy, w, dy[0, :, 0], [5], *rest, 1)),
        (ValueError, "dy must have", lambda: operators.conv_weight_grad(x, dy, [2], *rest, 1)),
        (TypeError, "x and w must have one dtype", lambda: operators.conv(x, w.double(), None, *rest, 1)),
        (TypeError, "x must be of dtype", lambda: operators.conv(x.long(), w.long(), None, *rest, 1)),
    ]
    for kind, message, call in wrong:
        with pytest.raises(kind, match=message):
            call()


def test_the_kernels_are_what_runs_here(implementation, monkeypatch, layer):
    """Else the tests above would test ATen twice. Where no channels are summed, or few, others run."""
    launched = []
    for module in (
        forward, input_grad, weight_grad, weight_grad_parts, depthwise, depthwise_input_grad, depthwise_weight_grad,
    ):  # fmt: skip
        for name in [name for name in vars(module) if name.endswith("_kernel")]:
            monkeypatch.setattr(module, name, Recorder(name, getattr(module, name), launched))
    for _ in outputs(layer, implementation):
        pass
    kernels = ["conv_forward", "conv_forward", "conv_input_grad", "conv_weight_grad", "sum_parts"]
    if layer in (LAYERS["depthwise"], LAYERS["3 axes"]):
        kernels = ["depthwise_forward", "depthwise_forward", "depthwise_input_grad", "depthwise_weight_grad"]
        kernels += ["depthwise_sum_parts"]
    elif layer is not LAYERS["more channels"]:
        kernels = [name if name == "sum_parts" else f"{name}_few" for name in kernels]
    expected = [f"{name}_kernel" for name in kernels]
    assert launched == (expected if runtime.INTERPRET or implementation == "cuda" else [])


class Recorder:
    """A kernel that writes down its launches."""

    def __init__(self, name, kernel, launched):
        self.name, self.kernel, self.launched = name, kernel, launched

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            self.launched.append(self.name)
            return self.kernel[grid](*args, **kwargs)

        return launch


@on_cuda
@pytest.mark.gpu
def test_another_stream():
    x, w = torch.ones(4, 16, 64, 64, device="cuda"), torch.ones(32, 16, 3, 3, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = konvlib.conv2d(x.add_(1), w)
    stream.synchronize()
    assert y[0, 0, 5, 5].item() == 2 * 16 * 9


@on_cuda
@pytest.mark.gpu
def test_a_cuda_graph_replays_a_training_step():
    x = torch.ones(2, 16, 20, 20, device="cuda", requires_grad=True)
    w = torch.ones(32, 16, 3, 3, device="cuda", requires_grad=True)

    def step():
        return torch.autograd.grad(konvlib.conv2d(x, w, stride=2).square().sum(), (x, w))

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        grads = step()
    with torch.no_grad():
        x.mul_(2)
    graph.replay()
    assert all(torch.equal(*pair) for pair in zip(grads, step(), strict=True))


@on_cuda
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_the_tensors_own_device():
    x, w = torch.ones(1, 16, 9, 9, device="cuda:1"), torch.ones(16, 16, 3, 3, device="cuda:1")
    assert konvlib.conv2d(x, w)[0, 0, 0, 0].item() == 144


@on_cuda
@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 16])
def test_more_than_two_to_the_31_samples(channels):
    x = torch.ones(channels, 1, 2**31 // channels + 100, device="cuda", dtype=torch.float16).transpose(0, 1)
    w = torch.ones(channels, channels, 3, device="cuda", dtype=torch.float16)
    y = konvlib.conv1d(x, w)
    assert (y[..., -1000:] == 3 * channels).all()
    assert (y[..., :1000] == 3 * channels).all()


@on_cuda
@pytest.mark.gpu
def test_no_memory_is_kept_on_the_device():
    x = torch.ones(2, 16, 9, 9, device="cuda", requires_grad=True)
    w = torch.ones(16, 16, 3, 3, device="cuda", requires_grad=True)
    assert_keeps_no_device_memory(lambda: torch.autograd.grad(konvlib.conv2d(x, w).sum(), (x, w)))


@pytest.mark.parametrize("name", ["conv", "conv_transpose", "conv_weight_grad"])
def test_an_operator_called_by_its_name_is_right_under_transforms(implementation, name):
    """It is linear in its first tensor: its derivative in a direction is what it makes of the direction."""
    first, *others = calls(LAYERS["1 axis"], implementation)[name]
    first, others = first.detach(), [t.detach() if isinstance(t, torch.Tensor) else t for t in others]
    others = [None if place == 1 and name != "conv_weight_grad" else t for place, t in enumerate(others)]  # no bias
    direction, operator = torch.cos(first), getattr(torch.ops.konvlib, name)

    def of_first(x):
        return operator(x, *others)

    expected = of_first(direction)
    for gradients in (torch.enable_grad, torch.no_grad):
        with gradients():
            _, slope = torch.func.jvp(of_first, (first,), (direction,))
            with forward_ad.dual_level():
                dual = forward_ad.unpack_dual(of_first(forward_ad.make_dual(first, direction))).tangent
        assert torch.allclose(slope, expected)
        assert torch.allclose(dual, expected)
    assert torch.allclose(torch.vmap(of_first)(torch.stack([first, direction]))[1], expected)
    slope = torch.func.grad(lambda x: (of_first(x) * expected).sum())(first)
    assert torch.allclose((slope * direction).sum(), (expected**2).sum())
