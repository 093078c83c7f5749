"""Operands of all kinds against NumPy, SciPy and PyTorch: dtypes, byte orders, strides, read-only, empty batches.

Samples are small integers, so that every sum is exact in every dtype that is drawn, and all agree with ``==``: at most
some hundred products of at most 3 times 3, so below 2**11, which float16 and int16 hold. Where a mean comes in, or a
transform, the tolerance is some of the dtype's own rounding errors.
"""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal
from torch.nn import functional

import konvlib
from konvlib import runtime

drawn = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = [
    *("int16", "int32", "int64", "uint16", "uint32", "float16", "float32", "float64", "longdouble"),
    *("complex64", "complex128"),
]
REALS = [dtype for dtype in DTYPES if "complex" not in dtype]
LAYOUTS = ("plain", "swapped", "reversed", "strided", "transposed", "read-only", "broadcast")


def laid_out(values: np.ndarray, layout: str) -> np.ndarray:
    """The same values, another way in memory; ``broadcast`` repeats the first along the last axis."""
    if layout == "swapped":
        return values.astype(values.dtype.newbyteorder())
    if layout == "reversed":
        return values[..., ::-1].copy()[..., ::-1]
    if layout == "strided":
        wide = np.zeros((*values.shape[:-1], 2 * values.shape[-1]), values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "transposed":
        return np.asfortranarray(values)
    if layout == "broadcast":
        return np.broadcast_to(values[..., :1], values.shape)
    values = values.copy()
    values.flags.writeable = layout != "read-only"
    return values


@st.composite
def arrays(draw, *shape, dtypes=DTYPES):
    """An array of small integers, in some dtype and layout."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    seed, least = draw(st.integers(0, 10**6)), 0 if dtype.kind == "u" else -3
    rng = np.random.default_rng(seed)
    values = rng.integers(least, 4, shape).astype(dtype)
    if dtype.kind == "c":
        values = values + 1j * rng.integers(-3, 4, shape).astype(values.real.dtype)
    return laid_out(values.astype(dtype), draw(st.sampled_from(LAYOUTS)))


def wide(values: np.ndarray) -> np.ndarray:
    """The values in a dtype that PyTorch has, and in which all sums are exact."""
    native = values.astype(values.dtype.newbyteorder("="))
    return native.astype(np.complex128 if native.dtype.kind == "c" else np.float64)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(wide(values)))


def common(*operands: np.ndarray) -> np.dtype:
    return np.result_type(*operands)


def check(have: np.ndarray, want: np.ndarray, dtype: np.dtype) -> None:
    """The values that another library has, in the dtype that NumPy gives the operands; unsigned ones wrap."""
    assert have.dtype == dtype
    assert have.dtype.isnative
    assert have.shape == want.shape
    assert np.array_equal(have, np.asarray(want).astype(dtype) if dtype.kind != "u" else (want % 2**64).astype(dtype))


def torch_exact(function, *operands, **options) -> np.ndarray:
    """What PyTorch makes of operands in double precision, all complex if one is."""
    tensors = [None if each is None else tensor(each) for each in operands]
    if any(each is not None and each.is_complex() for each in tensors):
        tensors = [None if each is None else each.to(torch.complex128) for each in tensors]
    return function(*tensors, **options).resolve_conj().numpy()


def bilinear(function, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What a function that is linear in both makes of complex operands, by real ones, as PyTorch has it."""
    parts = [[torch.from_numpy(part.copy()) for part in (wide(each).real, wide(each).imag)] for each in (a, b)]
    (real, imag), (real2, imag2) = parts
    whole = function(real, real2) - function(imag, imag2) + 1j * (function(real, imag2) + function(imag, real2))
    return whole.numpy() if "c" in (a.dtype.kind, b.dtype.kind) else whole.real.numpy()


@drawn
@given(data=st.data(), n=st.integers(1, 12), m=st.integers(1, 8), mode=st.sampled_from(["full", "same", "valid"]))
def test_sequences(data, n, m, mode):
    f, g = data.draw(arrays(n)), data.draw(arrays(m))
    dtype = common(f, g)
    check(konvlib.convolve(f, g, mode=mode), np.convolve(wide(f), wide(g), mode), dtype)
    check(konvlib.correlate(f, g, mode=mode), np.correlate(wide(f), wide(g), mode), dtype)
    batch = data.draw(st.integers(0, 3))
    rows = data.draw(arrays(batch, n))
    want = np.stack([signal.convolve(wide(row), wide(g), method="direct") for row in rows]) if batch else None
    want = np.zeros((0, n + m - 1)) if want is None else want
    check(konvlib.convolve(rows, g), want, common(rows, g))


@drawn
@given(data=st.data(), n=st.integers(1, 12), m=st.integers(1, 8), batch=st.integers(0, 3))
def test_sequences_by_transforms(data, n, m, batch):
    rows, g = data.draw(arrays(batch, n)), data.draw(arrays(m))
    want = konvlib.convolve(rows, g, method="direct")
    eps = np.finfo(want.dtype).eps if want.dtype.kind in "fc" else 0
    for method in ("fft", "overlap-add"):
        by = konvlib.convolve(rows, g, method=method)
        assert by.shape == want.shape
        assert by.dtype == want.dtype
        assert np.allclose(by, want, rtol=0, atol=1000 * eps)


@st.composite
def layers(draw):
    """A batch, a weight and the options of a layer over one to three axes."""
    axes, groups, batch = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    inputs, outputs = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel = [draw(st.integers(1, 2 if axes > 1 else 3)) for _ in range(axes)]
    size = [draw(st.integers(5, 6)) for _ in range(axes)]
    options = {name: draw(st.integers(low, 2)) for name, low in (("stride", 1), ("padding", 0), ("dilation", 1))}
    x, w = draw(arrays(batch, inputs, *size)), draw(arrays(outputs, inputs // groups, *kernel))
    return axes, x, w, options | {"groups": groups}


@drawn
@given(layer=layers(), data=st.data())
def test_layers_and_their_gradients(layer, data):
    axes, x, w, options = layer
    bias = data.draw(st.none() | arrays(len(w)))
    conv, ours = getattr(functional, f"conv{axes}d"), getattr(konvlib, f"conv{axes}d")
    given_arrays = [x, w] if bias is None else [x, w, bias]
    y = torch_exact(conv, x, w, bias, **options) if len(x) else None
    have = ours(x, w, bias, **options)
    if y is None:
        assert have.shape[:2] == (0, len(w))
        assert have.dtype == common(*given_arrays)
    else:
        check(have, y, common(*given_arrays))
    kappa = np.zeros((len(w), 2, *w.shape[1:]), w.dtype)
    kappa[:, 1] = w
    konv = getattr(konvlib, f"konv{axes}d")(x, kappa, bias, basis="monomial", **options)
    assert np.array_equal(konv, have)
    assert konv.dtype == have.dtype
    dy = data.draw(arrays(*have.shape))
    dx = getattr(konvlib, f"conv{axes}d_input_grad")(dy, w, input_size=x.shape[2:], **options)
    dw = getattr(konvlib, f"conv{axes}d_weight_grad")(x, dy, kernel_size=w.shape[2:], **options)
    db = getattr(konvlib, f"conv{axes}d_bias_grad")(dy)
    assert (dx.dtype, dw.dtype) == (common(dy, w), common(x, dy))
    if not len(x):
        assert dx.shape == x.shape
        assert not dw.any()
        assert not db.any()
        return
    grads = {"input": (x.shape, dy, w), "weight": (w.shape, x, dy)}
    for name, made in (("input", dx), ("weight", dw)):
        shape, first, second = grads[name]
        by_torch = getattr(torch.nn.grad, f"conv{axes}d_{name}")
        if name == "input":
            want = bilinear(lambda a, b, f=by_torch, s=shape: f(s, b, a, **options), first, second)
        else:
            want = bilinear(lambda a, b, f=by_torch, s=shape: f(a, s, b, **options), first, second)
        check(made, want, made.dtype)
    check(db, wide(dy).sum((0, *range(2, dy.ndim))), db.dtype)


@drawn
@given(layer=layers())
def test_transposes(layer):
    axes, x, w, options = layer
    groups = options["groups"]
    w = np.ascontiguousarray(w).reshape(groups, -1, *w.shape[1:])
    w = np.swapaxes(w, 1, 2).reshape(x.shape[1], -1, *w.shape[3:])
    options["padding"] = min(options["padding"], 1)
    have = getattr(konvlib, f"conv_transpose{axes}d")(x, w, **options)
    assert have.dtype == common(x, w)
    if len(x):
        check(have, torch_exact(getattr(functional, f"conv_transpose{axes}d"), x, w, **options), common(x, w))
    else:
        assert have.shape[:2] == (0, w.shape[1] * groups)


@drawn
@given(data=st.data(), axes=st.integers(1, 3), batch=st.integers(0, 2), kernel=st.integers(1, 3))
def test_poolings(data, axes, batch, kernel):
    x = data.draw(arrays(batch, 2, *(data.draw(st.integers(3, 5)) for _ in range(axes)), dtypes=REALS))
    options = {"stride": data.draw(st.integers(1, 3)), "padding": data.draw(st.integers(0, kernel // 2))}
    options["ceil_mode"] = data.draw(st.booleans())
    have = getattr(konvlib, f"max_pool{axes}d")(x, kernel, **options)
    mean = getattr(konvlib, f"avg_pool{axes}d")(x, kernel, **options)
    native = x.dtype.newbyteorder("=")
    assert mean.dtype == (np.float64 if x.dtype.kind in "iu" else native)
    assert have.shape == mean.shape
    if not batch:
        assert have.shape[:2] == (0, 2)
        return
    check(have, getattr(functional, f"max_pool{axes}d")(tensor(x), kernel, **options).numpy(), native)
    want = getattr(functional, f"avg_pool{axes}d")(tensor(x), kernel, **options).numpy()
    eps = max(np.finfo(mean.dtype).eps, np.finfo(np.float64).eps)  # PyTorch's own means are doubles
    assert np.allclose(mean.astype(np.float64), want, rtol=0, atol=3 * eps)
    dy = data.draw(arrays(*have.shape, dtypes=REALS))
    sample = tensor(x).requires_grad_()
    pooled = getattr(functional, f"avg_pool{axes}d")(sample, kernel, **options)
    want = torch.autograd.grad(pooled, sample, tensor(dy))[0].numpy()
    made = getattr(konvlib, f"avg_pool{axes}d_grad")(dy, kernel, input_size=x.shape[2:], **options)
    eps = max(np.finfo(made.dtype).eps, np.finfo(np.float64).eps)
    assert np.allclose(made.astype(np.float64), want, rtol=0, atol=3**axes * 3 * eps)
    sent = getattr(konvlib, f"max_pool{axes}d_grad")(x, dy, kernel, **options)
    assert wide(sent).sum() == wide(dy).sum() or sent.dtype.kind == "u"
    if kernel % 2 and options["stride"] == 1 and options["padding"] == kernel // 2 and not options["ceil_mode"]:
        by_scipy = ndimage.maximum_filter(wide(x), (1, 1, *(kernel,) * axes), mode="constant", cval=-np.inf)
        assert np.array_equal(wide(have), by_scipy)


@drawn
@given(layer=layers())
def test_columns(layer):
    axes, x, w, options = layer
    del options["groups"]
    kernel = w.shape[2:]
    cols = konvlib.im2col(x, kernel, **options)
    assert cols.dtype == x.dtype.newbyteorder("=")
    if not len(x):
        assert cols.shape[0] == 0
        return
    if axes == 2:
        check(cols, torch_exact(functional.unfold, x, kernel_size=kernel, **options), cols.dtype)
        back = konvlib.col2im(cols, x.shape[2:], kernel, **options)
        want = torch_exact(functional.fold, cols, output_size=x.shape[2:], kernel_size=kernel, **options)
        check(back, want, back.dtype)
    ones = np.ones((3, x.shape[1], *kernel), w.dtype)
    ones[1:] = np.arange(ones[0].size).reshape(ones[0].shape) % 3
    y = getattr(konvlib, f"conv{axes}d")(x, ones, **options)
    assert np.array_equal(np.matmul(wide(ones).reshape(3, -1), wide(cols)).reshape(y.shape).astype(y.dtype), y)


@st.composite
def tensors(draw, *shape, dtype=torch.float64):
    """A tensor of small integers, in some layout."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    values = torch.from_numpy(rng.integers(-3, 4, shape)).to(dtype)
    layout = draw(st.sampled_from(["plain", "expanded", "strided", "transposed", "channels last", "parameter"]))
    if layout == "expanded":
        return values[..., :1].expand(shape)
    if layout == "strided":
        return torch.stack([values, values], -1)[..., 0]
    if layout == "transposed":
        return values.mT.contiguous().mT
    if layout == "channels last":
        return values.movedim(1, -1).contiguous().movedim(-1, 1)
    return torch.nn.Parameter(torch.cat([values] * 2))[: len(values)] if layout == "parameter" else values


@drawn
@given(layer=layers(), data=st.data(), dtype=st.sampled_from(runtime.REALS))
def test_tensors_in_every_layout(layer, data, dtype):
    """Sums of integers below 2**8 are exact in the halves too; PyTorch has them in double precision."""
    axes, x, w, options = layer
    x, w = data.draw(tensors(*x.shape, dtype=dtype)), data.draw(tensors(*w.shape, dtype=dtype))
    w = w.detach().sign()
    y = getattr(konvlib, f"conv{axes}d")(x, w, **options)
    assert y.dtype == dtype
    if len(x):
        assert torch.equal(y.double(), getattr(functional, f"conv{axes}d")(x.double(), w.double(), **options))
        kappa = torch.stack([torch.zeros_like(w), w], 1)
        assert torch.equal(getattr(konvlib, f"konv{axes}d")(x, kappa, basis="monomial", **options), y)
        pooled = getattr(konvlib, f"max_pool{axes}d")(x, 2)
        assert torch.equal(pooled.double(), getattr(functional, f"max_pool{axes}d")(x.double(), 2))
        grad = getattr(konvlib, f"conv{axes}d_input_grad")(torch.ones_like(y), w, input_size=x.shape[2:], **options)
        want = getattr(torch.nn.grad, f"conv{axes}d_input")(x.shape, w.double(), torch.ones_like(y).double(), **options)
        assert torch.equal(grad.double(), want)
    else:
        assert y.shape[:2] == (0, len(w))
