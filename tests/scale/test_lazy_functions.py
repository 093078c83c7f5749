"""Every public function with Dask arrays: lazy, or refused by name; nothing is ever read before it is asked for."""

import inspect

import dask.array as da
import numpy as np
import pytest

import konvlib
from konvlib import bases
from tests.scale.lazy_cases import Source, lazy

NO_OPERANDS = {"correlation_lags", "overlap_counts"}
"""What takes sizes only."""


def _calls(axes: int) -> dict:
    """By name, operands and what else the functions over some axes need; all fit each other."""
    x, dy, taps = np.ones((1, 2, *(4,) * axes)), np.ones((1, 3, *(3,) * axes)), (2,) * axes
    w, kappa, bias = np.ones((3, 2, *taps)), np.ones((3, 2, 2, *taps)), np.ones(3)
    pooled = np.ones((1, 2, *(2,) * axes))
    named = {
        "avg_pool{}d": ({"x": x}, {"kernel_size": 2}),
        "avg_pool{}d_grad": ({"dy": pooled}, {"kernel_size": 2, "input_size": 4}),
        "conv{}d": ({"x": x, "w": w, "bias": bias}, {}),
        "conv{}d_bias_grad": ({"dy": dy}, {}),
        "conv{}d_input_grad": ({"dy": dy, "w": w}, {"input_size": 4}),
        "conv{}d_weight_grad": ({"x": x, "dy": dy}, {"kernel_size": 2}),
        "conv_transpose{}d": ({"x": dy, "w": w, "bias": np.ones(2)}, {}),
        "konv{}d": ({"x": x, "kappa": kappa, "bias": bias}, {}),
        "konv{}d_bias_grad": ({"dy": dy}, {}),
        "konv{}d_input_grad": ({"dy": dy, "x": x, "kappa": kappa}, {}),
        "konv{}d_kappa_grad": ({"x": x, "dy": dy}, {"degree": 1, "kernel_size": 2}),
        "max_pool{}d": ({"x": x}, {"kernel_size": 2}),
        "max_pool{}d_grad": ({"x": x, "dy": pooled}, {"kernel_size": 2}),
        "max_unpool{}d": ({"x": pooled, "indices": np.zeros(pooled.shape, int)}, {"kernel_size": 2}),
    }
    return {name.format(axes): call for name, call in named.items()}


IMAGE, KERNEL, ROW = np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)), np.ones(5)
CALLS = {
    **_calls(1),
    **_calls(2),
    **_calls(3),
    "circulant_singular_values": ({"w": KERNEL}, {"shape": 4}),
    "col2im": ({"cols": np.ones((1, 8, 9))}, {"output_size": (4, 4), "kernel_size": 2}),
    "compose": ({"w1": KERNEL[:2], "w2": KERNEL}, {}),
    "conv2d_im2col": ({"x": IMAGE, "w": KERNEL, "bias": np.ones(3)}, {}),
    "conv_matrix": ({"w": KERNEL}, {"input_shape": (2, 4, 4)}),
    "conv_transpose_by_scattering": ({"x": IMAGE, "w": np.ones((2, 3, 2, 2)), "bias": np.ones(3)}, {}),
    "conv_transpose_by_zero_insertion": ({"x": IMAGE, "w": np.ones((2, 3, 2, 2)), "bias": np.ones(3)}, {}),
    "convolve": ({"f": ROW, "g": ROW[:2]}, {}),
    "convolve_nd": ({"f": KERNEL[0, 0], "g": KERNEL[0, 0]}, {}),
    "correlate": ({"f": ROW, "g": ROW[:2]}, {}),
    "dilate": ({"k": ROW}, {"step": 2}),
    "factor": ({"k": [1, 2, 2, 4]}, {}),
    "im2col": ({"x": IMAGE}, {"kernel_size": 2}),
    "insert_zeros": ({"x": IMAGE}, {"stride": 2}),
    "normalized_correlation": ({"f": ROW, "g": ROW[:2]}, {}),
    "resample": ({"x": ROW, "h": ROW[:2]}, {}),
}
LAZY = {
    *(name for axes in (1, 2, 3) for name in _calls(axes) if "unpool" not in name),
    *("convolve", "convolve_nd", "correlate", "normalized_correlation", "resample"),
}
WEIGHTS = {"w", "kappa", "bias", "g", "h"}


def _public() -> set[str]:
    functions = {name for name in konvlib.__all__ if inspect.isfunction(getattr(konvlib, name))}
    return functions - NO_OPERANDS


def _halved(source: Source) -> da.Array:
    return lazy(source, tuple([(n // 2, n - n // 2) if n > 1 else (n,) for n in source.shape]))


def test_every_public_function_is_called_here():
    assert {*CALLS, "collapse", "compose_chain"} == _public()


@pytest.mark.parametrize("name", CALLS)
def test_each_operand_is_lazy_or_refused_by_name(name):
    operands, options = CALLS[name]
    function = getattr(konvlib, name)
    assert function(**operands, **options) is not None  # the call is a good one
    for some in ({each} for each in operands) if len(operands) == 1 else [*({each} for each in operands), {*operands}]:
        sources = {each: Source(np.asarray(operands[each])) for each in some}
        given = operands | {each: _halved(source) for each, source in sources.items()}
        if name in LAZY and not some & WEIGHTS:
            assert isinstance(function(**given, **options), da.Array)
        else:
            with pytest.raises(TypeError, match=r"got a Dask array.*(compute\(\))"):
                function(**given, **options)
        assert not any([source.reads for source in sources.values()]), some


def test_what_takes_lists_or_names_refuses_too():
    source = Source(ROW)
    x = _halved(source)
    for function in (
        lambda: konvlib.compose_chain([(x, 2), (ROW, 1)]),
        lambda: konvlib.compose_chain([(ROW, 2, 1, x[:1]), (ROW, 1)]),
        lambda: bases.values("chebyshev", x, 2),
        lambda: bases.derivatives("chebyshev", x, 2),
        lambda: bases.expand("chebyshev", x[None], 2),
        lambda: bases.convert(x[None, :], "chebyshev", "monomial"),
        lambda: bases.condition_number("chebyshev", x, 2),
    ):
        with pytest.raises(TypeError, match="got a Dask array"):
            function()
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Sequential"):
        konvlib.collapse(x)
    assert not source.reads
    named = {name for name in bases.__all__ if inspect.isfunction(getattr(bases, name))}
    without_arrays = {"add_basis", "change_of_basis", "coefficients", "get_basis", "whole_step"}
    for_backends = {"result_dtype", "terms"}
    assert named == without_arrays | for_backends | {"values", "derivatives", "expand", "convert", "condition_number"}


@pytest.mark.parametrize("name", sorted(LAZY))
def test_operands_that_no_block_can_hold_are_refused_first(name):
    operands, options = CALLS[name]
    function = getattr(konvlib, name)
    for each in operands.keys() - WEIGHTS:
        source = Source(operands[each])
        x = _halved(source)
        unknown = da.Array(x.dask, x.name, tuple([(np.nan,) * len(row) for row in x.chunks]), meta=x._meta)
        with pytest.raises(ValueError, match=f"{each} must have chunks of known size"):
            function(**(operands | {each: unknown}), **options)
        with pytest.raises(TypeError, match=f"{each} must hold machine numbers beside Dask arrays, got dtype object"):
            function(**(operands | {each: x.astype(object)}), **options)
        with pytest.raises(TypeError, match=f"{each} must hold machine numbers beside Dask arrays, got dtype datetime"):
            function(**(operands | {each: x.astype("datetime64[s]")}), **options)
        with pytest.raises(ValueError, match=f"{each} must not be empty|{each} must have {x.ndim} axes"):
            function(**(operands | {each: x[..., None, None] if x.ndim > 2 else x[:0]}), **options)
        assert not source.reads


@pytest.mark.parametrize("name", sorted(name for name in LAZY if len(CALLS[name][0]) > 1))
def test_a_dask_array_beside_a_tensor_is_refused(name):
    torch = pytest.importorskip("torch")
    operands, options = CALLS[name]
    for each in operands:
        source = Source(operands[each])
        tensors = {other: torch.from_numpy(operand) for other, operand in operands.items()}
        with pytest.raises(
            TypeError, match=f"{each} must be a torch tensor like the other operands?, got a Dask array"
        ):
            getattr(konvlib, name)(**(tensors | {each: _halved(source)}), **options)
        assert not source.reads
