"""Layers of one sample without a batch: what the batched call gives for a batch of one, without its axis."""

from __future__ import annotations

import io
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional

import konvlib
from tests.engine import backends, transforms

SIZE, KERNEL, PADDING = (7, 6, 5), (3, 2, 2), ((1, 0), (0, 1), (1, 1))
MIX = r"^{} must all have a batch or none of them, got shapes "


class Case(NamedTuple):
    """A call of a function by name, with operands of which some have a batch."""

    package: str
    name: str
    operands: dict[str, np.ndarray]
    batched: tuple[str, ...]
    options: dict[str, Any]
    gives_batch: bool = True

    def of(self, backend: Any, **given: Any) -> Any:
        given = {**self.operands, **given}
        if "indices" in given and isinstance(backend, backends.TensorBackend):
            given["indices"] = torch.from_numpy(np.ascontiguousarray(given["indices"])).to(backend.device)
        return getattr(backend, self.name)(**given, **self.options)

    def alone(self) -> dict[str, np.ndarray]:
        return {name: self.operands[name][0] for name in self.batched}


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-4, 5, shape)


def cases(axes: int) -> list[Case]:
    size, kernel, padding = SIZE[:axes], KERNEL[:axes], PADDING[:axes]
    outputs = tuple((n + sum(p) - k) // 2 + 1 for n, k, p in zip(size, kernel, padding, strict=True))
    layer = {"stride": 2, "padding": padding, "groups": 2}
    x, w, bias, dy = numbers(1, 4, *size), numbers(6, 2, *kernel), numbers(6), numbers(1, 6, *outputs)
    v, kappa, pooled = numbers(4, 3, *kernel), numbers(6, 3, 2, *kernel), numbers(1, 4, *(n // 2 for n in size))
    window = {"kernel_size": 2}
    indices = np.arange(pooled.size).reshape(pooled.shape) % prod(pooled.shape[2:])
    wide, told = {"kernel_size": kernel, "padding": padding}, {"input_size": size}
    windows = [n + sum(p) - k + 1 for n, k, p in zip(size, kernel, padding, strict=True)]
    cols = numbers(1, 4 * prod(kernel), prod(windows))
    xw, xdy = {"x": x, "w": w, "bias": bias}, {"x": x, "dy": dy}
    xv = {"x": x, "w": v, "bias": bias}
    return [
        Case("images", f"conv{axes}d", xw, ("x",), layer),
        Case("images", f"conv{axes}d", {"x": x, "w": w}, ("x",), layer | {"padding_mode": "reflect"}),
        Case("images", f"max_pool{axes}d", {"x": x}, ("x",), {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case("images", f"max_pool{axes}d", {"x": x}, ("x",), window | {"return_indices": True}),
        Case("images", f"max_unpool{axes}d", {"x": pooled, "indices": indices}, ("x", "indices"), window),
        Case("images", f"avg_pool{axes}d", {"x": x}, ("x",), {"kernel_size": 3, "stride": 2, "padding": 1}),
        Case("matrices", "im2col", {"x": x}, ("x",), wide),
        Case("matrices", "col2im", {"cols": cols}, ("cols",), wide | {"output_size": size}),
        Case("transposes", f"conv_transpose{axes}d", xv, ("x",), layer),
        Case("transposes", "conv_transpose_by_scattering", xv, ("x",), layer),
        Case("transposes", "conv_transpose_by_zero_insertion", xv, ("x",), layer),
        Case("transposes", "insert_zeros", {"x": x}, ("x",), {"stride": kernel}),
        Case("gradients", f"conv{axes}d_input_grad", {"dy": dy, "w": w}, ("dy",), layer | told),
        Case("gradients", f"conv{axes}d_weight_grad", xdy, ("x", "dy"), layer | {"kernel_size": kernel}, False),
        Case("gradients", f"conv{axes}d_bias_grad", {"dy": dy}, ("dy",), {}, False),
        Case("gradients", f"max_pool{axes}d_grad", {"x": x, "dy": pooled}, ("x", "dy"), window),
        Case("gradients", f"avg_pool{axes}d_grad", {"dy": pooled}, ("dy",), window | told),
        Case("konvolution", f"konv{axes}d", {"x": x, "kappa": kappa, "bias": bias}, ("x",), layer),
        Case("konvolution", f"konv{axes}d_input_grad", {"dy": dy, "x": x, "kappa": kappa}, ("dy", "x"), layer),
        Case(
            "konvolution", f"konv{axes}d_kappa_grad", xdy, ("x", "dy"),
            layer | {"kernel_size": kernel, "degree": 2}, False,
        ),
        Case("konvolution", f"konv{axes}d_bias_grad", {"dy": dy}, ("dy",), {}, False),
    ]  # fmt: skip


CASES = [case for axes in (1, 2, 3) for case in cases(axes)]
CASES.append(
    Case("matrices", "conv2d_im2col", {"x": numbers(1, 4, 7, 6), "w": numbers(6, 2, 3, 2)}, ("x",), {"groups": 2})
)
ON = [
    pytest.param(case, backend.values[0], id=f"{backend.id}-{case.name}-{place}")
    for place, case in enumerate(CASES)
    for backend in backends.of(case.package)
]


def named(case: Case) -> str:
    return f"{case.package}.{case.name}"


def parts(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize(("case", "backend"), ON)
def test_it_is_the_only_entry_of_the_batched_call(case, backend):
    alone, batched = parts(case.of(backend, **case.alone())), parts(case.of(backend))
    for one, many in zip(alone, batched, strict=True):
        assert one.dtype == many.dtype
        expected = many[0] if case.gives_batch else many
        assert one.shape == expected.shape
        assert (one == expected).all()


@pytest.mark.parametrize("case", CASES, ids=named)
def test_lists_and_objects_have_no_batch_either(case):
    """The numbers are so large that no machine integer holds them."""
    if case.name.startswith(("avg", "max_unpool")):
        pytest.skip("means of these are no integers; indices are")
    whole = {name: operand.astype(object) * 10**20 for name, operand in case.operands.items()}
    backend = getattr(konvlib, case.package)
    alone = {name: whole[name][0].tolist() for name in case.batched}
    expected = parts(case.of(backend, **whole))
    for one, many in zip(parts(case.of(backend, **{**whole, **alone})), expected, strict=True):
        assert one.tolist() == (many[0] if case.gives_batch else many).tolist()


ORACLES: dict[str, Callable[..., Any]] = {
    "conv": lambda axes, x, w, bias: getattr(functional, f"conv{axes}d")(x, w, bias, stride=2, padding=1, groups=2),
    "conv_transpose": lambda axes, x, w, bias: getattr(functional, f"conv_transpose{axes}d")(
        x, w.transpose(0, 1).reshape(4, 3, *w.shape[2:]), bias, stride=2, padding=1, groups=2
    ),
    "max_pool": lambda axes, x, w, bias: getattr(functional, f"max_pool{axes}d")(x, 3, 2, 1),
    "avg_pool": lambda axes, x, w, bias: getattr(functional, f"avg_pool{axes}d")(x, 2),
    "max_unpool": lambda axes, x, w, bias: getattr(functional, f"max_unpool{axes}d")(
        *getattr(functional, f"max_pool{axes}d")(x, 2, return_indices=True), 2, output_size=SIZE[:axes]
    ),
}
OURS: dict[str, Callable[..., Any]] = {
    "conv": lambda axes, x, w, bias: getattr(konvlib, f"conv{axes}d")(x, w, bias, stride=2, padding=1, groups=2),
    "conv_transpose": lambda axes, x, w, bias: getattr(konvlib, f"conv_transpose{axes}d")(
        x, w.swapaxes(0, 1).reshape(4, 3, *w.shape[2:]), bias, stride=2, padding=1, groups=2
    ),
    "max_pool": lambda axes, x, w, bias: getattr(konvlib, f"max_pool{axes}d")(x, 3, stride=2, padding=1),
    "avg_pool": lambda axes, x, w, bias: getattr(konvlib, f"avg_pool{axes}d")(x, 2),
    "max_unpool": lambda axes, x, w, bias: getattr(konvlib, f"max_unpool{axes}d")(
        *getattr(konvlib, f"max_pool{axes}d")(x, 2, return_indices=True), 2, output_size=SIZE[:axes]
    ),
}


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("name", ORACLES)
def test_it_is_what_pytorch_gives_for_a_sample(name, axes):
    given = [numbers(*shape) * 1.0 for shape in ((4, *SIZE[:axes]), (6, 2, *KERNEL[:axes]), (6,))]
    tensors = [torch.from_numpy(a) for a in given]
    expected = ORACLES[name](axes, *tensors)
    for y in (OURS[name](axes, *given), OURS[name](axes, *tensors)):
        assert tuple(y.shape) == tuple(expected.shape)
        assert np.array_equal(np.asarray(y), expected.numpy())


@pytest.mark.parametrize("image", [(4, 7, 6), (1, 4, 7, 6)])
def test_im2col_and_col2im_are_unfold_and_fold(image):
    x = torch.from_numpy(numbers(*image) * 1.0)
    options = {"kernel_size": (3, 2), "padding": 1, "stride": (2, 1)}
    cols = functional.unfold(x, **options)
    assert torch.equal(konvlib.im2col(x, **options), cols)
    assert torch.equal(konvlib.col2im(cols, (7, 6), **options), functional.fold(cols, (7, 6), **options))


def test_one_size_for_all_axes_does_not_tell_them_so_there_is_a_batch():
    x = numbers(3, 4, 6)
    assert konvlib.im2col(x, 2).shape == (3, 8, 5)
    assert konvlib.insert_zeros(x, 2).shape == (3, 4, 11)
    assert konvlib.im2col(x, (2, 2)).shape == (12, 15)
    assert konvlib.insert_zeros(x, (2, 2)).shape == (3, 7, 11)


def test_modules_say_what_they_take():
    for layer in (konvlib.Konv2d(2, 3, 2), konvlib.LazyKonv2d(3, 2)):
        with pytest.raises(ValueError, match=r"^x must have 4 axes \(N, C, H, W\), or 3 without the batch, got shape "):
            layer(torch.ones(5, 6))
        assert layer(torch.ones(2, 5, 6)).shape == (3, 4, 5)


# What is refused.


@pytest.mark.parametrize(("case", "backend"), [row for row in ON if len(row.values[0].batched) == 2])
def test_a_mix_is_refused_by_name(case, backend):
    for name in case.batched:
        if name == "indices":
            with pytest.raises(ValueError, match=r"^indices must have the shape of x \(1, 4, "):
                case.of(backend, indices=case.operands[name][0])
            continue
        with pytest.raises(ValueError, match=MIX.format(" and ".join(case.batched))):
            case.of(backend, **{name: case.operands[name][0]})


@pytest.mark.parametrize("case", CASES, ids=named)
@pytest.mark.parametrize("kind", ["konvlib", "naive", "tensors"])
def test_other_ranks_are_refused_with_both_that_fit(case, kind):
    backend = {row.id: row.values[0] for row in backends.of(case.package)}[kind]
    for name in case.batched[:1]:
        operand = case.operands[name]
        fits = f"{name} must have {operand.ndim} axes .*, or {operand.ndim - 1} without the batch(, with .*)?, got "
        for wrong in (operand[None], operand[(0,) * (operand.ndim - 1)]):
            for _ in range(2):
                with pytest.raises(ValueError, match=f"^{fits}"):
                    case.of(backend, **{name: wrong})


def test_what_does_not_fit_is_told_with_the_batch_that_was_put_on():
    told = (
        r"^dy must have the convolution's output shape \(1, 6, 5\), got \(1, 6, 4\); .*; x and dy had no batch and got"
    )
    with pytest.raises(ValueError, match=f"{told} one of size 1$"):
        konvlib.conv1d_weight_grad(np.ones((2, 7)), np.ones((6, 4)), kernel_size=3)
    told = r"^x must not be empty, got shape \(1, 2, 0\); x had no batch and got one of size 1$"
    with pytest.raises(ValueError, match=told):
        konvlib.conv1d(np.ones((2, 0)), np.ones((4, 2, 3)))
    with pytest.raises(ValueError, match=r"^groups must be at least 1, got 0$"):
        konvlib.conv1d(np.ones((2, 7)), np.ones((4, 2, 3)), groups=0)


def test_a_batch_of_one_and_a_sample_take_turns():
    x, w = numbers(1, 2, 7), numbers(4, 2, 3)
    for _ in range(3):
        for make in (np.asarray, lambda a: torch.from_numpy(a * 1.0)):
            assert tuple(konvlib.conv1d(make(x), make(w)).shape) == (1, 4, 5)
            assert tuple(konvlib.conv1d(make(x[0]), make(w)).shape) == (4, 5)


# What torch does to functions.


FUNCTIONS = {
    "conv2d": (lambda x, w: konvlib.conv2d(x, w, padding=1), (3, 5, 4), (2, 3, 2, 3)),
    "conv_transpose2d": (lambda x, w: konvlib.conv_transpose2d(x, w, stride=2), (3, 4, 3), (3, 2, 2, 3)),
    "by scattering": (lambda x, w: konvlib.conv_transpose_by_scattering(x, w, stride=2), (3, 4, 3), (3, 2, 2, 3)),
    "konv1d": (lambda x, w: konvlib.konv1d(x, w), (2, 7), (3, 3, 2, 3)),
    "conv1d_weight_grad": (lambda x, dy: konvlib.conv1d_weight_grad(x, dy, kernel_size=3), (2, 7), (3, 5)),
    "konv1d_input_grad": (
        lambda dy, x: konvlib.konv1d_input_grad(dy, x, torch.ones(3, 3, 2, 3, dtype=x.dtype)), (3, 5), (2, 7)
    ),
    "max_pool2d": (lambda x: konvlib.max_pool2d(x, 2), (3, 5, 4)),
    "avg_pool2d": (lambda x: konvlib.avg_pool2d(x, 2), (3, 5, 4)),
    "im2col": (lambda x: konvlib.im2col(x, (2, 3)), (3, 5, 4)),
}  # fmt: skip


@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_under_everything_that_torch_does(name, check):
    function, *shapes = FUNCTIONS[name]
    generator = torch.Generator().manual_seed(1)
    check(function, [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes])


class Model(torch.nn.Module):
    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return konvlib.max_pool2d(konvlib.conv2d(x, w, padding=1), 2)


@pytest.mark.parametrize("strict", [True, False])
def test_exported_for_samples_of_any_size(strict):
    x, w = torch.randn(3, 9, 8), torch.randn(4, 3, 3, 2)
    dims = {1: torch.export.Dim("height", min=5, max=64), 2: torch.export.Dim("width", min=5, max=64)}
    program = torch.export.export(Model(), (x, w), dynamic_shapes=(dims, {}), strict=strict)
    stored = io.BytesIO()
    torch.export.save(program, stored)
    stored.seek(0)
    for size in ((9, 8), (6, 11)):
        other = torch.randn(3, *size)
        expected = functional.max_pool2d(functional.conv2d(other, w, padding=1), 2)
        assert torch.allclose(torch.export.load(stored).module()(other, w), expected, atol=1e-5)
        stored.seek(0)
