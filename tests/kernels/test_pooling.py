"""What is particular to the poolings' operators: their integration with torch, dtypes, layouts, devices.

That they compute the right values is tested with the other backends, in the tests of `images` and `gradients`.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional

import konvlib
from konvlib import geometry, runtime
from konvlib.images import pooling, pooling_operators
from tests.engine import backends
from tests.engine.mistakes import assert_refused
from tests.kernels.operators import (
    assert_keeps_no_device_memory,
    assert_keeps_no_tensor,
    on_cuda,
    poisoned,
    random,
    same_but_for_layout,
)

pytestmark = pytest.mark.usefixtures("implementation")

POOLS = [
    ((2, 3, 7), {"kernel_size": 3, "stride": 2, "padding": [(1, 0)], "ceil_mode": True}, {"dilation": 2}),
    ((2, 3, 5, 6), {"kernel_size": (2, 3), "stride": (2, 1), "padding": [(1, 0), (0, 1)]}, {"dilation": (2, 1)}),
    ((2, 2, 3, 4, 5), {"kernel_size": 2, "stride": (1, 2, 3), "ceil_mode": True}, {"dilation": (1, 2, 1)}),
]
"""Shapes and arguments for one to three axes, and what only max pooling takes."""


def poolings(shape, options, only_max, module=konvlib):
    """Both poolings with their options, as functions of ``x``."""
    axes = len(shape) - 2
    yield lambda x: getattr(module, f"max_pool{axes}d")(x, **options, **only_max)
    for counted in (False, True):
        yield lambda x, counted=counted: getattr(module, f"avg_pool{axes}d")(x, **options, count_include_pad=counted)


def operator_calls(shape, options, only_max, device):
    """Each operator with the operands that a pooling gives it."""
    axes = len(shape) - 2
    x = random(shape, device, requires_grad=True)
    for extra in (only_max, {}):
        pool = geometry.pool_geometry(shape, axes=axes, **options, **extra)
        sides = [side for pair in pool.padding for side in pair]
        window = (list(pool.kernel_size), list(pool.stride), sides)
        dy = random(pool.output_shape, device, seed=1, requires_grad=True)
        gap, windows, size = list(pool.dilation), list(pool.output_size), list(pool.input_size)
        if extra:
            _, taps = torch.ops.konvlib.max_pool(x.detach(), *window, gap, windows)
            yield torch.ops.konvlib.max_pool.default, (x, *window, gap, windows)
            yield torch.ops.konvlib.max_pool_scatter.default, (dy, taps, *window, gap, size)
        else:
            for counted in (False, True):
                yield torch.ops.konvlib.avg_pool.default, (x, *window, windows, counted)
                yield torch.ops.konvlib.avg_pool_scatter.default, (dy, *window, size, counted)


def needs_time(row):
    if runtime.INTERPRET and row is not POOLS[1]:
        pytest.skip("one row is enough for the interpreter, which is slow")


@pytest.mark.parametrize("row", POOLS, ids=lambda row: f"{len(row[0]) - 2}d")
def test_opcheck(implementation, row):
    needs_time(row)
    for operator, operands in operator_calls(*row, implementation):
        torch.library.opcheck(operator, operands)


@pytest.mark.parametrize("row", POOLS, ids=lambda row: f"{len(row[0]) - 2}d")
def test_gradients_and_second_derivatives(implementation, row):
    needs_time(row)
    x = random(row[0], implementation, requires_grad=True)
    for pool in poolings(*row):
        assert torch.autograd.gradcheck(pool, (x,), fast_mode=True)
        assert torch.autograd.gradgradcheck(pool, (x,), fast_mode=True)


def test_the_adjoint_of_a_max_poolings_gradient_looks_where_the_maximum_was(implementation):
    for shape, options, only_max in POOLS:
        for operator, operands in operator_calls(shape, options, only_max, implementation):
            if operator is torch.ops.konvlib.max_pool_scatter.default:
                dy, taps, *window, size = operands
                g = torch.arange(1.0, 1 + np.prod(shape), dtype=torch.float64, device=implementation).reshape(shape)
                dy = (dy * 8).round().detach().requires_grad_()
                dx = operator(dy, taps, *window, size)
                (looked,) = torch.autograd.grad(dx, dy, g)
                assert (g * dx).sum() == (looked * dy).sum()


def test_a_window_of_minus_infinity_sends_its_gradient_to_its_first_sample(implementation):
    """Which is not its first tap where that lies in the padding, nor with dilation the next."""
    x = torch.full((1, 1, 5, 6), float("-inf"), dtype=torch.float64)
    options = {"kernel_size": (3, 4), "stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}
    dy = torch.arange(1.0, 100, dtype=torch.float64)
    y = konvlib.max_pool2d(x.to(implementation), **options)
    assert (y == float("-inf")).all()
    dy = dy[: y.numel()].reshape(y.shape)
    dx = konvlib.max_pool2d_grad(x.to(implementation), dy.to(implementation), **options)
    assert (
        dx.cpu().numpy() == backends.definition("gradients").max_pool2d_grad(x.numpy(), dy.numpy(), **options)
    ).all()


@pytest.mark.parametrize("dtype", runtime.REALS, ids=str)
def test_every_dtype(implementation, dtype):
    """A largest sample is a sample. A mean of halves is summed in float32 and rounded once; else each sum rounds."""
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    for shape, options, only_max in POOLS:
        x = random(shape, implementation, dtype=dtype)
        exact = x.double().cpu().numpy()
        largest, *means = poolings(shape, options, only_max)
        expected, *expected_means = poolings(shape, options, only_max, backends.definition("images"))
        assert (largest(x).double().cpu().numpy() == expected(exact)).all()
        assert largest(x).dtype == dtype
        for pool, expected in zip(means, expected_means, strict=True):
            y = pool(x)
            assert y.dtype == dtype
            assert np.abs(y.double().cpu().numpy() - expected(exact)).max() <= 3 * torch.finfo(dtype).eps


def test_means_of_halves_are_summed_in_single_precision(implementation):
    x = torch.ones(1, 1, 4096, dtype=torch.float16, device=implementation)
    x[..., 0] = 2048
    assert konvlib.avg_pool1d(x, 4096).item() == np.float16((2048 + 4095) / 4096)
    dy = x[..., :4]
    dx = konvlib.avg_pool1d_grad(dy, 4, input_size=7, stride=1)
    assert dx[0, 0, 3].item() == np.float16((2048 + 3) / 4)


def test_any_layout_gives_the_same_and_channels_last_stays(implementation):
    for shape, options, only_max in POOLS[1:2] if runtime.INTERPRET else POOLS:
        x = random(shape, implementation)
        dy = None
        for pool in poolings(shape, options, only_max):
            y = pool(x)
            assert y.is_contiguous()
            dy = random(y.shape, implementation, seed=1) if dy is None or dy.shape != y.shape else dy
            want = torch.autograd.functional.vjp(pool, x, dy)[1]
            for number, other in enumerate(same_but_for_layout(x)):
                assert torch.equal(pool(other), y)
                assert pool(other).movedim(1, -1).is_contiguous() == (number == 0)
                for cotangent in (dy, *same_but_for_layout(dy)):
                    assert torch.equal(torch.autograd.functional.vjp(pool, other, cotangent)[1], want)


def test_more_rows_and_pixels_than_a_tile_has(implementation):
    """So that every border of a tile is met, in both layouts."""
    for shape in ((3, 70, 5, 5), (1, 2, 33, 40)):
        x = random(shape, implementation).round()
        for x_layout in (x, next(same_but_for_layout(x))):
            y = konvlib.max_pool2d(x_layout, 3, stride=(1, 2), padding=1)
            assert torch.equal(y.cpu(), functional.max_pool2d(x.cpu(), 3, (1, 2), 1))
            y = konvlib.avg_pool2d(x_layout, (2, 3), stride=1, padding=1)
            assert torch.equal(y.cpu(), functional.avg_pool2d(x.cpu(), (2, 3), 1, 1))
            dx = konvlib.avg_pool2d_grad(12 * x_layout, (2, 3), input_size=(shape[2] + 1, shape[3] + 2), stride=1)
            spread = functional.pad(12 * x.cpu(), (2, 2, 1, 1))
            assert torch.equal(dx.cpu(), functional.avg_pool2d(spread, (2, 3), 1))


def test_every_element_is_written(implementation):
    for shape, options, only_max in POOLS:
        x = random(shape, implementation, requires_grad=True)
        for pool in poolings(shape, options, only_max):
            with poisoned():
                y = pool(x)
                (dx,) = torch.autograd.grad(y, x, torch.ones_like(y.detach()))
            assert y.isfinite().all()
            assert dx.isfinite().all()
    with poisoned():
        _, taps = pooling_operators.max_pool(x.detach(), [2, 2, 2], [2, 2, 2], [0] * 6, [1, 1, 1], [1, 2, 2])
    assert ((taps >= 0) & (taps < 8)).all()


def test_two_runs_are_bitwise_equal(implementation):
    x = random((2, 3, 9, 9), implementation, dtype=torch.float32, requires_grad=True)
    for pool in (konvlib.max_pool2d, konvlib.avg_pool2d):
        runs = [torch.autograd.grad(pool(x, 3, stride=1, padding=1).square().sum(), x)[0] for _ in range(2)]
        assert torch.equal(*runs)


def test_vmap(implementation):
    for shape, options, only_max in POOLS:
        x = random((*shape[:2], 4, *shape[2:]), implementation)
        for pool in poolings(shape, options, only_max):
            y = torch.vmap(pool, in_dims=2)(x)
            assert torch.equal(y, torch.stack([pool(each) for each in x.unbind(2)]))
        for operator, (first, *others) in operator_calls(shape, options, only_max, implementation):
            first = first.detach()
            stacked = torch.stack([first, -2 * first], -1)
            both = torch.vmap(lambda x, op=operator, others=others: op(x, *others), in_dims=-1)(stacked)
            each = operator(first, *others), operator(-2 * first, *others)
            if isinstance(both, tuple):
                both, each = both[0], tuple(values for values, _ in each)
            assert torch.equal(both, torch.stack(each))


def test_compiles_whole(implementation):
    def model(x):
        return konvlib.avg_pool2d(konvlib.max_pool2d(x, 2, stride=1, padding=1), (2, 3), ceil_mode=True) * 2

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for size in ((8, 9), (11, 7)):
        x = random((2, 3, *size), implementation, dtype=torch.float32, requires_grad=True)
        y = compiled(x)
        assert torch.equal(y, model(x))
        assert torch.equal(*(torch.autograd.grad(out.sum(), x)[0] for out in (y, model(x))))


def test_autocast_leaves_the_dtype_alone(implementation):
    x = random((1, 2, 6, 6), implementation, dtype=torch.float32)
    with torch.autocast(implementation, dtype=torch.bfloat16):
        assert konvlib.max_pool2d(x, 2).dtype == konvlib.avg_pool2d(x, 2).dtype == torch.float32


def test_no_tensor_is_kept(implementation):
    def once():
        x = random((1, 2, 6, 6), implementation, requires_grad=True)
        (konvlib.max_pool2d(x, 2).sum() + konvlib.avg_pool2d(x, 2).sum()).backward()

    assert_keeps_no_tensor(once)


def test_the_kernels_are_what_runs_here(implementation, monkeypatch):
    """Else the tests above would test ATen twice."""
    calls = []
    pool = pooling.pool
    monkeypatch.setattr(pooling, "pool", lambda *args, **options: calls.append(args) or pool(*args, **options))
    konvlib.max_pool1d(torch.ones(1, 1, 4, device=implementation), 2)
    assert len(calls) == int(runtime.INTERPRET or implementation == "cuda")


IMAGE = torch.ones(1, 2, 6, 6)
ERRORS = [
    (
        TypeError,
        "x must be of dtype float16, bfloat16, float32, float64, got torch.int64; convert it, as with x.double()",
        lambda: konvlib.avg_pool2d(IMAGE.long(), 2),
    ),
    (
        TypeError,
        "x must be of dtype float16, bfloat16, float32, float64, got torch.bool; convert it, as with x.double()",
        lambda: konvlib.max_pool2d(IMAGE.bool(), 2),
    ),
    (
        TypeError,
        "x must be of dtype float16, bfloat16, float32, float64, got torch.complex64; give its real and its "
        "imaginary part, x.real and x.imag",
        lambda: konvlib.max_pool2d(IMAGE.cfloat(), 2),
    ),
    (
        ValueError,
        "x and dy must be on one device, got cpu and meta",
        lambda: konvlib.max_pool2d_grad(IMAGE, torch.ones(1, 2, 3, 3, device="meta"), 2),
    ),
    (
        TypeError,
        "x and dy must have one dtype, got torch.float32 and torch.float64",
        lambda: konvlib.max_pool2d_grad(IMAGE, torch.ones(1, 2, 3, 3).double(), 2),
    ),
    (
        TypeError,
        "dy must be a torch tensor like the other operand, got ndarray",
        lambda: konvlib.max_pool2d_grad(IMAGE, np.ones((1, 2, 3, 3)), 2),
    ),
    (
        ValueError,
        "x must have 4 axes (N, C, H, W), or 3 without the batch, got shape (6, 6)",
        lambda: konvlib.max_pool2d(IMAGE[0, 0], 2),
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_tensors_that_do_not_fit_are_refused(row):
    kind, message, call = row
    assert_refused(kind, message, call)


def both(x):
    return konvlib.max_pool2d(x, 3, stride=2, padding=1), konvlib.avg_pool2d(x, 3, stride=2, padding=1)


@on_cuda
@pytest.mark.gpu
def test_another_stream():
    x = torch.zeros(8, 64, 128, 128, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        largest, mean = both(x.add_(9))
    stream.synchronize()
    assert (largest == 9).all()
    assert (mean[..., 1:, 1:] == 9).all()


@on_cuda
@pytest.mark.gpu
def test_a_cuda_graph_replays_it():
    x = torch.zeros(2, 3, 16, 16, device="cuda", requires_grad=True)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.autograd.grad(sum(y.sum() for y in both(x)), x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        largest, mean = both(x)
        (dx,) = torch.autograd.grad(largest.sum() + mean.sum(), x)
    with torch.no_grad():
        x.copy_(random(x.shape, "cuda", dtype=torch.float32))
    graph.replay()
    assert torch.equal(largest, functional.max_pool2d(x, 3, 2, 1))
    want = torch.autograd.grad(sum(y.sum() for y in both(x)), x)[0]
    assert torch.equal(dx, want)


@on_cuda
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_the_tensors_own_device():
    x = random((2, 3, 16, 16), "cuda:1", requires_grad=True)
    largest, mean = both(x)
    (dx,) = torch.autograd.grad(largest.sum() + mean.sum(), x)
    assert largest.device == mean.device == dx.device == x.device
    assert torch.equal(largest.cpu(), functional.max_pool2d(x.detach().cpu(), 3, 2, 1))


@on_cuda
@pytest.mark.gpu
@pytest.mark.slow
def test_more_than_two_to_the_31_samples():
    """In one row, in many rows, and with channels last."""
    for shape in ((1, 1, 2**31 + 200), (2**16, 2, 2**14 + 2)):
        x = torch.zeros(shape, device="cuda", dtype=torch.float16)
        x[-1, -1, -2:] = torch.tensor([3.0, 5.0])
        y = konvlib.max_pool1d(x, 2)
        assert y[-1, -1, -1] == 5
        assert konvlib.avg_pool1d(x, 2)[-1, -1, -1] == 4
        assert y.count_nonzero() == 1
        dx = konvlib.max_pool1d_grad(x, y, 2)
        assert dx[-1, -1, -2:].tolist() == [0, 5]
        assert dx.count_nonzero() == 1
        del y, dx
    last = torch.zeros(2, 2**16, 2**14 + 2, device="cuda", dtype=torch.float16).mT
    last[-1, -1, -1] = 7
    assert konvlib.max_pool1d(last, 2)[-1, -1, -1] == 7


@on_cuda
@pytest.mark.gpu
def test_no_memory_is_kept_on_the_device():
    x = torch.ones(2, 3, 16, 16, device="cuda", requires_grad=True)
    assert_keeps_no_device_memory(lambda: torch.autograd.grad(sum(y.sum() for y in both(x)), x))


@on_cuda
@pytest.mark.gpu
def test_random_geometries_against_doubles():
    for seed, layout in product(range(40), (0, 1)):
        rng = np.random.default_rng(seed)
        kernel, stride = (tuple(map(int, rng.integers(1, 5, 2))) for _ in range(2))
        padding = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
        x = random((int(rng.integers(1, 5)), int(rng.integers(1, 90)), *map(int, rng.integers(8, 70, 2))), "cuda")
        x = next(same_but_for_layout(x)) if layout else x
        arguments = {"kernel_size": kernel, "stride": stride, "padding": padding, "ceil_mode": bool(seed % 2)}
        for name in ("max_pool2d", "avg_pool2d"):
            # On the CPU: torch's gradient of avg_pool2d on CUDA is wrong for channels last (2.11).
            given = [x.clone().requires_grad_(), x.cpu().requires_grad_()]
            calls = getattr(konvlib, name), getattr(functional, name)
            results = [call(t, **arguments) for call, t in zip(calls, given, strict=True)]
            dy = random(results[0].shape, "cuda", seed=1)
            pair = [torch.autograd.grad(y, t, dy.to(t.device))[0] for y, t in zip(results, given, strict=True)]
            assert torch.allclose(results[0].cpu(), results[1], rtol=0, atol=1e-14)
            assert torch.allclose(pair[0].cpu(), pair[1], rtol=0, atol=1e-13)
