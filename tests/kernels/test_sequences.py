"""Sequences of tensors, by ATen and by kernels: the operator's integration with torch, dtypes, devices.

That they compute the right sums is tested with the other backends, in tests/engine/test_sequences.py; that the
composite is right under every transform of torch, in tests/engine/test_sequences_tensors.py.
"""

from __future__ import annotations

import gc
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import konvlib
from konvlib import geometry, runtime
from konvlib.sequences import kernels
from konvlib.sequences.tensors import DTYPES
from tests.engine.mistakes import assert_refused
from tests.kernels.operators import on_cuda

pytestmark = pytest.mark.usefixtures("implementation")

METHODS = ("direct", "fft", "overlap-add")
SHAPES = [((7,), (3,)), ((3,), (7,)), ((2, 6), (4,)), ((2, 1, 5), (3, 2)), ((1, 5), (4, 3))]


def random(shape, dtype, device, *, seed=0, requires_grad=False):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)
    values = values.to(dtype) if dtype.is_complex else values.real.to(dtype)
    return values.to(device).requires_grad_(requires_grad)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_opcheck(implementation, method, dtype):
    f, g = (random(shape, dtype, implementation, requires_grad=True) for shape in ((2, 1, 6), (1, 3, 4)))
    windows = ((-2, 7, [-2]), (0, 9, []), (3, 3, [-2]), (1, 20, [-3, -2]))
    for start, length, summed in windows[:1] if runtime.INTERPRET else windows:
        torch.library.opcheck(torch.ops.konvlib.convolve_window.default, (f, g, start, length, summed, method))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mode", geometry.MODES)
def test_gradients(implementation, mode, method, dtype):
    shapes = SHAPES[2:3] if runtime.INTERPRET else SHAPES[::2]
    for function, (left, right) in product((konvlib.convolve, konvlib.correlate), shapes):
        f, g = random(left, dtype, implementation, requires_grad=True), random(right, dtype, implementation, seed=1)
        call = lambda f, g, function=function: function(f, g, mode=mode, method=method)  # noqa: E731
        assert torch.autograd.gradcheck(call, (f, g.requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_second_derivatives(implementation, dtype):
    for left, right in [((4,), (2,))] if runtime.INTERPRET else SHAPES[1:4]:
        f, g = (random(s, dtype, implementation, seed=i, requires_grad=True) for i, s in enumerate((left, right)))
        assert torch.autograd.gradgradcheck(lambda f, g: konvlib.convolve(f, g, mode="same"), (f, g), fast_mode=True)


def test_gradients_of_integers_are_exact(implementation):
    """The map is bilinear: in integers the gradient equals the difference of two sums, and so torch's own."""
    for (left, right), mode in product(SHAPES, geometry.MODES):
        rng = np.random.default_rng(len(left))
        f, g = (torch.tensor(rng.integers(-5, 6, s), dtype=torch.float64, device=implementation) for s in (left, right))
        f.requires_grad_(), g.requires_grad_()
        y = konvlib.convolve(f, g, mode=mode)
        dy = torch.arange(1.0, y.numel() + 1, dtype=torch.float64, device=implementation).reshape(y.shape)
        df, dg = torch.autograd.grad(y, (f, g), dy)
        for operand, gradient, other in ((f, df, g), (g, dg, f)):
            for place in np.ndindex(tuple(operand.shape)):
                step = torch.zeros_like(operand)
                step[place] = 1
                pair = (step, other) if operand is f else (other, step)
                assert gradient[place] == (konvlib.convolve(*pair, mode=mode) * dy).sum()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_against_double(implementation, dtype):
    """Halves are summed in float32 and rounded once: their error is half a unit of the result's own precision.

    Elsewhere each of the 30 products and sums rounds once; a transform of 128 samples loses a few units more.
    """
    if dtype is torch.bfloat16 and runtime.INTERPRET:
        pytest.skip("Triton's interpreter is wrong in bfloat16")
    f, g = random((2, 60), dtype, implementation), random((30,), dtype, implementation, seed=1)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    exact = konvlib.convolve(f.to(wide).cpu(), g.to(wide).cpu(), method="direct")
    for method in ("auto", *METHODS):
        y = konvlib.convolve(f, g, method=method)
        assert (y.dtype, y.device.type, y.is_contiguous()) == (dtype, implementation, True)
        error = (y.to(wide).cpu() - exact).abs().max() / exact.abs().max()
        assert error < 40 * torch.finfo(dtype).eps


def test_small_integers_are_exact_in_half(implementation):
    f, g = torch.arange(-8.0, 8), torch.tensor([3.0, -2, 1, 5])
    y = konvlib.convolve(f.half().to(implementation), g.half().to(implementation))
    assert torch.equal(y.double().cpu(), torch.from_numpy(np.convolve(f.double(), g.double())))


def test_non_contiguous_and_lazily_conjugated_operands(implementation):
    f = random((6, 5), torch.complex128, implementation)
    g = random((8,), torch.complex128, implementation, seed=1)
    for left, right in ((f.mT, g[::2]), (f.conj(), g.conj()), (f[:, 1:4], g), (f.expand(2, 6, 5), g[None])):
        copied = left.resolve_conj().clone().contiguous(), right.resolve_conj().clone().contiguous()
        assert torch.equal(konvlib.convolve(left, right), konvlib.convolve(*copied))
    assert torch.equal(konvlib.convolve(f.real, g.imag), konvlib.convolve(f.real.clone(), g.imag.clone()))


def test_every_element_is_written(implementation, monkeypatch):
    """Poison what is allocated: an element left unwritten would be NaN."""
    poisoned = []

    def empty(*args, make, **kwargs):
        tensor = make(*args, **kwargs)
        poisoned.append(tensor)
        return tensor.fill_(float("nan")) if tensor.is_floating_point() or tensor.is_complex() else tensor

    for owner, name in ((torch, "empty"), (torch.Tensor, "new_empty"), (torch, "empty_like")):
        make = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, make=make, **kwargs: empty(*args, make=make, **kwargs))
    for (n, m), mode in product(((37, 5), (5, 37), (1, 1), (64, 64)), geometry.MODES):
        assert (
            konvlib.convolve(torch.ones(3, n, device=implementation), torch.ones(m, device=implementation), mode=mode)
            .isfinite()
            .all()
        )
    assert poisoned or implementation == "cpu"


def test_two_runs_are_bitwise_equal(implementation):
    f, g = random((4, 300), torch.float32, implementation), random((40,), torch.float32, implementation, seed=1)
    g.requires_grad_()
    runs = [torch.autograd.grad(konvlib.convolve(f, g).square().sum(), g)[0] for _ in range(2)]
    assert torch.equal(*runs)


def test_vmap_on_integers_exactly(implementation):
    """Exactly, since there the composite runs, which adds up in another order."""
    f, g = (random(shape, torch.float64, implementation, seed=3).mul(4).round() for shape in ((3, 2, 7), (3, 4)))
    assert torch.equal(torch.vmap(konvlib.convolve)(f, g), konvlib.convolve(f, g[:, None]))
    batched = torch.vmap(konvlib.convolve, in_dims=(2, None))(f, g[0])
    assert torch.equal(batched, konvlib.convolve(f.movedim(2, 0), g[0]))


def test_compiles_whole_with_changing_sizes(implementation):
    compiled = torch.compile(lambda f, g: konvlib.convolve(f, g, mode="same") * 2, fullgraph=True, dynamic=True)
    for n, m in ((20, 5), (31, 8), (9, 12)):
        f = random((3, n), torch.float32, implementation)
        g = random((m,), torch.float32, implementation, seed=1)
        assert torch.equal(compiled(f, g), konvlib.convolve(f, g, mode="same") * 2)


def test_autocast_computes_in_its_dtype(implementation):
    f, g = random((2, 9), torch.float32, implementation), random((3,), torch.float32, implementation, seed=1)
    with torch.autocast(implementation, dtype=torch.float16):
        assert konvlib.convolve(f, g).dtype == torch.float16
        assert konvlib.convolve(f.double(), g.double()).dtype == torch.float64
    assert konvlib.convolve(f, g).dtype == torch.float32


def test_flops_are_those_of_the_direct_sum(implementation):
    with FlopCounterMode(display=False) as counter:
        konvlib.convolve(torch.ones(2, 9, device=implementation), torch.ones(4, device=implementation))
    assert counter.get_total_flops() == 2 * 2 * 12 * 4


def test_no_tensor_is_kept(implementation):
    def once():
        f = random((20,), torch.float32, implementation, requires_grad=True)
        konvlib.convolve(f, torch.ones(3, device=implementation)).sum().backward()

    def alive():
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    once()
    before = alive()
    for _ in range(20):
        once()
    assert alive() <= before


ERRORS = [
    (TypeError, "f must be of dtype float16, bfloat16, float32, float64, complex64, complex128, got torch.int64; "
     "convert it, as with f.float()", (torch.arange(3), torch.ones(2))),
    (TypeError, "f and g must have one dtype, got torch.float64 and torch.float32",
     (torch.ones(3).double(), torch.ones(2))),
    (TypeError, "g must be a torch tensor like the other operand, got list", (torch.ones(3), [1.0, 2.0])),
    (TypeError, "f must be a torch tensor like the other operand, got ndarray", (np.ones(3), torch.ones(2))),
    (ValueError, "f and g must be on one device, got cpu and meta", (torch.ones(3), torch.ones(2, device="meta"))),
]  # fmt: skip


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row[1][:40])
def test_tensors_that_do_not_go_together_are_refused(row):
    kind, message, operands = row
    for function in (konvlib.convolve, konvlib.correlate):
        assert_refused(kind, message, function, *operands)


def test_a_scalar_is_a_sequence_of_one(implementation):
    y = konvlib.convolve(torch.tensor(2.0, device=implementation), torch.tensor([1.0, 3.0], device=implementation))
    assert y.tolist() == [2.0, 6.0]


@on_cuda
@pytest.mark.gpu
def test_another_stream():
    f, g = torch.ones(1 << 20, device="cuda"), torch.ones(9, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = konvlib.convolve(f.add_(1), g)
    stream.synchronize()
    assert y[100].item() == 18


@on_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("count", [9, 3000])
def test_a_cuda_graph_replays_it_and_leaves_nan_where_it_is(count):
    f, g = torch.ones(2, 1 << 16, device="cuda"), torch.ones(count, device="cuda")
    konvlib.convolve(f, g)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = konvlib.convolve(f, g)
    f[0, 1000] = float("nan")
    graph.replay()
    assert y[0, 1000 : 1000 + count].isnan().all()
    assert int(y.isnan().sum()) == count


@on_cuda
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_the_tensors_own_device():
    f, g = torch.ones(100, device="cuda:1"), torch.ones(9, device="cuda:1")
    assert konvlib.convolve(f, g, method="direct")[50].item() == 9


@on_cuda
@pytest.mark.gpu
def test_more_than_two_to_the_31_samples():
    f, g = (
        torch.ones(2**31 + 100, device="cuda", dtype=torch.float16),
        torch.ones(3, device="cuda", dtype=torch.float16),
    )
    y = konvlib.convolve(f, g, mode="valid", method="direct")
    assert (y[-1000:] == 3).all()
    assert (y[:1000] == 3).all()


@on_cuda
@pytest.mark.gpu
def test_no_memory_is_kept_on_the_device():
    f, g = torch.ones(1000, device="cuda", requires_grad=True), torch.ones(9, device="cuda")
    konvlib.convolve(f, g).sum().backward()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(200):
        konvlib.convolve(f, g).sum().backward()
    assert torch.cuda.memory_allocated() == before


def test_the_kernels_are_what_runs_here(implementation, monkeypatch):
    """Else the tests above would test ATen twice."""
    calls = []
    direct = kernels.direct
    monkeypatch.setattr(kernels, "direct", lambda *args: calls.append(args) or direct(*args))
    konvlib.convolve(torch.ones(9, device=implementation), torch.ones(3, device=implementation), method="direct")
    assert len(calls) == int(runtime.INTERPRET or implementation == "cuda")
