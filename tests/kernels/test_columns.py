"""What is particular to columns of tensors: the operators' integration with torch, dtypes, layouts, devices.

That they compute the right values is tested with the other backends, in tests/engine/test_matrices_columns.py.
"""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import torch
from torch.nn import functional

import konvlib
from konvlib import geometry, runtime
from konvlib.matrices import columns
from tests.engine.mistakes import assert_refused
from tests.kernels.operators import (
    assert_keeps_no_device_memory,
    assert_keeps_no_tensor,
    integers,
    on_cuda,
    poisoned,
    random,
    same_but_for_layout,
)

pytestmark = pytest.mark.usefixtures("implementation")

WINDOWS = [
    ((2, 3, 7), 3, {"stride": 2, "padding": [(2, 1)], "dilation": 2}),
    ((2, 3, 5, 6), (2, 3), {"stride": (2, 1), "padding": [(1, 0), (0, 2)], "dilation": (3, 2)}),
    ((1, 2, 3, 4, 5), 2, {"stride": (1, 2, 3), "padding": [(0, 1), (1, 0), (0, 0)]}),
]
"""Shapes, kernel sizes and arguments for one to three axes."""


def both_ways(shape, kernel, options):
    """im2col and col2im as functions of one tensor, with the shapes that they take."""
    layer = geometry.im2col_geometry(shape, kernel_size=kernel, **options)
    columns = (shape[0], shape[1] * prod(layer.kernel_size), prod(layer.output_size))
    yield lambda x: konvlib.im2col(x, kernel, **options), shape
    yield lambda cols: konvlib.col2im(cols, shape[2:], kernel, **options), columns


@pytest.mark.parametrize("row", WINDOWS, ids=lambda row: f"{len(row[0]) - 2}d")
def test_opcheck(implementation, row):
    shape, kernel, options = row
    layer = geometry.im2col_geometry(shape, kernel_size=kernel, **options)
    sides = [side for pair in layer.padding for side in pair]
    window = [*map(list, (layer.kernel_size, layer.stride, sides, layer.dilation, layer.output_size))]
    x = random(shape, implementation, requires_grad=True)
    cols = random(konvlib.im2col(x, kernel, **options).shape, implementation, seed=1, requires_grad=True)
    torch.library.opcheck(torch.ops.konvlib.im2col.default, (x, *window))
    torch.library.opcheck(torch.ops.konvlib.col2im.default, (cols, *window, list(shape[2:])))


@pytest.mark.parametrize("row", WINDOWS, ids=lambda row: f"{len(row[0]) - 2}d")
def test_gradients_and_second_derivatives(implementation, row):
    for function, shape in both_ways(*row):
        operand = random(shape, implementation, requires_grad=True)
        assert torch.autograd.gradcheck(function, (operand,), fast_mode=True)
        assert torch.autograd.gradgradcheck(function, (operand,), fast_mode=True)


def test_gradients_of_the_convolution_by_columns(implementation):
    for groups, kernel in ((1, (2, 3)), (2, (1, 1)), (2, (2, 1))):
        x = random((2, 4, 4, 5), implementation, requires_grad=True)
        w = random((6, 4 // groups, *kernel), implementation, seed=1, requires_grad=True)
        bias = random((6,), implementation, seed=2, requires_grad=True)
        call = lambda x, w, bias, groups=groups: konvlib.conv2d_im2col(x, w, bias, groups=groups)  # noqa: E731
        assert torch.autograd.gradcheck(call, (x, w, bias), fast_mode=True)
        assert torch.autograd.gradgradcheck(call, (x, w, bias), fast_mode=True)


@pytest.mark.parametrize("dtype", runtime.REALS, ids=str)
def test_every_dtype(implementation, dtype):
    """Columns are copies. Sums of halves are of float32 and rounded once; others err by their few additions."""
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    for row in WINDOWS:
        (cut, shape), (add_up, columns) = both_ways(*row)
        x, cols = random(shape, implementation, dtype=dtype), random(columns, implementation, dtype=dtype)
        assert torch.equal(cut(x).double(), cut(x.double()))
        assert cut(x).dtype == add_up(cols).dtype == dtype
        want = add_up(cols.double())
        assert ((add_up(cols).double() - want).abs() <= 4 * torch.finfo(dtype).eps * want.abs().max()).all()


def test_columns_of_halves_are_summed_in_single_precision(implementation):
    cols = torch.ones(1, 100, 1000, dtype=torch.float16, device=implementation)
    cols[0, 0] = 2048
    x = konvlib.col2im(cols, 1099, 100)
    assert x[0, 0, 500].item() == np.float16(2048 + 99)


def test_any_layout_gives_the_same(implementation):
    for row in WINDOWS:
        for function, shape in both_ways(*row):
            operand = random(shape, implementation)
            want = function(operand)
            assert want.is_contiguous()
            for other in same_but_for_layout(operand):
                assert torch.equal(function(other), want)


def test_more_rows_and_windows_than_a_tile_has(implementation):
    for shape in ((3, 30, 6, 5), (1, 1, 50, 60)):
        x = random(shape, implementation).round()
        cols = functional.unfold(x.cpu(), (2, 3), dilation=(2, 1), padding=1, stride=(1, 2))
        for layout in (x, next(same_but_for_layout(x))):
            mine = konvlib.im2col(layout, (2, 3), dilation=(2, 1), padding=1, stride=(1, 2))
            assert torch.equal(mine.cpu(), cols)
        back = konvlib.col2im(mine, shape[2:], (2, 3), dilation=(2, 1), padding=1, stride=(1, 2))
        want = functional.fold(cols, shape[2:], (2, 3), dilation=(2, 1), padding=1, stride=(1, 2))
        assert torch.equal(back.cpu(), want)


def test_every_element_is_written(implementation):
    for row in WINDOWS:
        for function, shape in both_ways(*row):
            operand = random(shape, implementation, requires_grad=True)
            with poisoned():
                y = function(operand)
                (gradient,) = torch.autograd.grad(y, operand, torch.ones_like(y.detach()))
            assert y.isfinite().all()
            assert gradient.isfinite().all()


def test_two_runs_are_bitwise_equal(implementation):
    cols = random((2, 27, 49), implementation, dtype=torch.float32)
    assert torch.equal(*(konvlib.col2im(cols, (7, 7), 3, padding=1) for _ in range(2)))


def test_vmap(implementation):
    for row in WINDOWS:
        for function, shape in both_ways(*row):
            stacked = integers((*shape, 3), implementation)
            each = torch.stack([function(x) for x in stacked.unbind(-1)])
            assert torch.equal(torch.vmap(function, in_dims=-1)(stacked), each)


def test_compiles_whole(implementation):
    def model(x, w):
        y = konvlib.conv2d_im2col(x, w, stride=2, padding=((1, 0), (2, 1)))
        return konvlib.col2im(konvlib.im2col(y, 2), y.shape[2:], 2)

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    w = random((4, 3, 2, 3), implementation, dtype=torch.float32)
    for size in ((8, 9), (11, 7)):
        x = random((2, 3, *size), implementation, dtype=torch.float32, requires_grad=True)
        y, want = compiled(x, w), model(x, w)
        assert torch.allclose(y, want, rtol=0, atol=1e-5)
        pair = [torch.autograd.grad(out.sum(), x)[0] for out in (y, want)]
        assert torch.allclose(*pair, rtol=0, atol=1e-5)


def test_autocast_leaves_columns_alone_and_lowers_the_product(implementation):
    x, w = (random((4, 3, 2, 2), implementation, dtype=torch.float32, seed=seed) for seed in (0, 1))
    with torch.autocast(implementation, dtype=torch.bfloat16):
        assert konvlib.im2col(x, 2).dtype == torch.float32
        assert konvlib.conv2d_im2col(x, w, torch.ones(4, device=implementation)).dtype == torch.bfloat16


def test_the_matrix_is_on_the_device_and_multiplies_there(implementation):
    w = random((4, 2, 2, 3), implementation).round()
    x = random((1, 4, 5, 6), implementation).round()
    matrix = konvlib.conv_matrix(w, (4, 5, 6), groups=2, padding=1, stride=(1, 2))
    assert (matrix.layout, matrix.device.type, matrix.dtype) == (torch.sparse_csr, implementation, torch.float64)
    torch._validate_sparse_csr_tensor_args(matrix.crow_indices(), matrix.col_indices(), matrix.values(), matrix.shape)
    y = functional.conv2d(x.cpu(), w.cpu(), groups=2, padding=1, stride=(1, 2))
    assert torch.equal((matrix @ x.flatten()).cpu(), y.flatten())


def test_singular_values_of_halves_are_doubles_and_differentiable(implementation):
    w = random((2, 3, 2, 2), implementation).round()
    halves = konvlib.circulant_singular_values(w.half(), (4, 5))
    assert torch.equal(halves, konvlib.circulant_singular_values(w, (4, 5)))
    w = random((2, 1, 2), implementation, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: konvlib.circulant_singular_values(w, 3)[:1], (w,))


def test_no_tensor_is_kept(implementation):
    def once():
        x = random((1, 2, 6, 6), implementation, requires_grad=True)
        konvlib.col2im(konvlib.im2col(x, 2), (6, 6), 2).sum().backward()

    assert_keeps_no_tensor(once)


def test_the_kernels_are_what_runs_here(implementation, monkeypatch):
    """Else the tests above would test ATen twice."""
    calls = []
    im2col = columns.im2col
    monkeypatch.setattr(columns, "im2col", lambda *args: calls.append(args) or im2col(*args))
    konvlib.im2col(torch.ones(1, 1, 4, device=implementation), 2)
    assert len(calls) == int(runtime.INTERPRET or implementation == "cuda")


IMAGE, KERNEL = torch.ones(1, 2, 6, 6), torch.ones(3, 2, 2, 2)
REALS = "float16, bfloat16, float32, float64"
ERRORS = [
    (
        TypeError,
        f"x must be of dtype {REALS}, got torch.int64; convert it, as with x.double()",
        lambda: konvlib.im2col(IMAGE.long(), 2),
    ),
    (
        TypeError,
        f"cols must be of dtype {REALS}, got torch.complex64; give its real and its imaginary part, "
        "cols.real and cols.imag",
        lambda: konvlib.col2im(IMAGE[0].cfloat(), 7, 2),
    ),
    (
        TypeError,
        "w must be of dtype float16, bfloat16, float32, float64, complex64, complex128, got torch.int64; convert it, "
        "as with w.double()",
        lambda: konvlib.conv_matrix(KERNEL.long(), (2, 6, 6)),
    ),
    (
        TypeError,
        "w must be of dtype float16, bfloat16, float32, float64, complex64, complex128, got torch.int64; convert it, "
        "as with w.double()",
        lambda: konvlib.circulant_singular_values(KERNEL.long(), 4),
    ),
    (
        TypeError,
        "x and w must have one dtype, got torch.float32 and torch.float64",
        lambda: konvlib.conv2d_im2col(IMAGE, KERNEL.double()),
    ),
    (
        TypeError,
        "bias must be a torch tensor like the other operands, got list",
        lambda: konvlib.conv2d_im2col(IMAGE, KERNEL, [1.0, 2.0, 3.0]),
    ),
    (
        ValueError,
        "x and bias must be on one device, got cpu and meta",
        lambda: konvlib.conv2d_im2col(IMAGE, KERNEL, torch.ones(3, device="meta")),
    ),
    (
        ValueError,
        "w must have 2 // 1 = 2 channels, got 1 with groups 1",
        lambda: konvlib.conv2d_im2col(IMAGE, KERNEL[:, :1]),
    ),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_tensors_that_do_not_fit_are_refused(row):
    kind, message, call = row
    assert_refused(kind, message, call)


@on_cuda
@pytest.mark.gpu
def test_another_stream():
    x = torch.zeros(8, 32, 64, 64, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        cols = konvlib.im2col(x.add_(3), 3)
        back = konvlib.col2im(cols, (64, 64), 3)
    stream.synchronize()
    assert (cols == 3).all()
    assert (back[..., 2:-2, 2:-2] == 27).all()


@on_cuda
@pytest.mark.gpu
def test_a_cuda_graph_replays_it():
    x = torch.zeros(2, 3, 16, 16, device="cuda")
    konvlib.col2im(konvlib.im2col(x, 3), (16, 16), 3)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cols = konvlib.im2col(x, 3)
        back = konvlib.col2im(cols, (16, 16), 3)
    x.copy_(random(x.shape, "cuda").round())
    graph.replay()
    assert torch.equal(cols, functional.unfold(x, 3))
    assert torch.equal(back, functional.fold(cols, (16, 16), 3))


@on_cuda
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_the_tensors_own_device():
    x = random((2, 3, 16, 16), "cuda:1")
    cols = konvlib.im2col(x, 3)
    back = konvlib.col2im(cols, (16, 16), 3)
    matrix = konvlib.conv_matrix(x[:, :, :3, :3], (3, 16, 16))
    assert cols.device == back.device == matrix.device == x.device
    assert torch.equal(cols, functional.unfold(x, 3))


@on_cuda
@pytest.mark.gpu
@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    """In the columns, where few are in the images."""
    x = torch.zeros(1, 1, 2**20, device="cuda", dtype=torch.float16)
    x[..., -1] = 5
    cols = konvlib.im2col(x, 2100)
    assert cols.numel() > 2**31
    assert cols[0, -1, -1] == 5
    assert cols.count_nonzero() == 1
    back = konvlib.col2im(cols, 2**20, 2100)
    assert back[0, 0, -1] == 5
    assert back.count_nonzero() == 1


@on_cuda
@pytest.mark.gpu
def test_no_memory_is_kept_on_the_device():
    x = torch.ones(2, 3, 16, 16, device="cuda", requires_grad=True)
    assert_keeps_no_device_memory(lambda: torch.autograd.grad(konvlib.im2col(x, 3).sum(), x))


@on_cuda
@pytest.mark.gpu
def test_random_geometries_as_torchs_unfold():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        kernel, stride, dilation = (tuple(map(int, rng.integers(1, 4, 2))) for _ in range(3))
        padding = tuple(map(int, rng.integers(0, 4, 2)))
        x = random((int(rng.integers(1, 5)), int(rng.integers(1, 90)), *map(int, rng.integers(8, 70, 2))), "cuda")
        x = next(same_but_for_layout(x.round())) if seed % 2 else x.round()
        arguments = {"stride": stride, "padding": padding, "dilation": dilation}
        cols = functional.unfold(x, kernel, **arguments)
        assert torch.equal(konvlib.im2col(x, kernel, **arguments), cols)
        back = functional.fold(cols, x.shape[2:], kernel, **arguments)
        assert torch.equal(konvlib.col2im(cols, x.shape[2:], kernel, **arguments), back)
