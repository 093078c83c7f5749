"""Every function of gradients, transposes, matrices, strides and Konvolution, in every dtype and layout.

Held to the definition on small integers, which all dtypes hold and whose sums they hold too, with ``==``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.sparse import issparse

from tests.engine import backends
from tests.engine.boxes import integers

KINDS = "?bBhHiIlLqQefdgFDG"
ORDERS = [order + kind for kind in KINDS for order in ("<" if np.dtype(kind).itemsize == 1 else "<>")]


class Call(NamedTuple):
    """A function, the shapes of its operands, and its other arguments; the batch, if any, is its first operand's."""

    package: str
    name: str
    shapes: Sequence[tuple[int, ...]]
    options: dict[str, Any]
    others: Sequence[Any] = ()


KONV = {"stride": 2, "padding": [(1, 0), (0, 1)]}
CALLS = [
    Call("gradients", "conv1d_input_grad", [(2, 4, 5), (4, 3, 2)], {"input_size": 11, "stride": 2, "dilation": 2}),
    Call("gradients", "conv1d_input_grad", [(2, 1, 80), (1, 1, 70)], {"input_size": 149}),
    Call("gradients", "conv2d_input_grad", [(2, 4, 3, 1), (4, 3, 2, 3)], {"input_size": (5, 3), "groups": 2, **KONV}),
    Call(
        "gradients",
        "conv2d_input_grad",
        [(2, 4, 5, 4), (4, 3, 2, 3)],
        {"input_size": (4, 3), "padding": [(1, 1), (1, 2)], "padding_mode": "circular"},
    ),
    Call("gradients", "conv3d_input_grad", [(1, 2, 2, 1, 2), (2, 2, 1, 2, 2)], {"input_size": (2, 2, 3)}),
    Call("gradients", "conv1d_weight_grad", [(2, 3, 11), (2, 4, 5)], {"kernel_size": 2, "stride": 2, "dilation": 2}),
    Call("gradients", "conv1d_weight_grad", [(2, 1, 80), (2, 1, 11)], {"kernel_size": 70}),
    Call("gradients", "conv2d_weight_grad", [(2, 4, 5, 3), (2, 2, 3, 1)], {"kernel_size": (2, 3), "groups": 2, **KONV}),
    Call(
        "gradients",
        "conv1d_weight_grad",
        [(2, 2, 30), (2, 1, 3)],
        {"kernel_size": 2, "stride": 20, "padding": 6, "padding_mode": "reflect"},
    ),
    Call("gradients", "conv3d_weight_grad", [(1, 2, 2, 2, 3), (1, 2, 2, 1, 2)], {"kernel_size": (1, 2, 2)}),
    *(Call("gradients", f"conv{axes}d_bias_grad", [(2, 3, *(4, 2, 3)[:axes])], {}) for axes in (1, 2, 3)),
    *(
        Call("transposes", name, [(2, 4, 3, 2), (4, 3, 2, 3), (6,)], {"groups": 2, "stride": (3, 2), "padding": 1})
        for name in ("conv_transpose2d", "conv_transpose_by_scattering", "conv_transpose_by_zero_insertion")
    ),
    Call("transposes", "conv_transpose1d", [(2, 3, 4), (3, 2, 3)], {"stride": 2, "dilation": 3, "output_padding": 1}),
    Call("transposes", "conv_transpose1d", [(2, 1, 70), (1, 1, 80)], {"padding": 30}),
    Call("transposes", "conv_transpose3d", [(1, 2, 2, 1, 2), (2, 2, 1, 2, 2)], {"stride": 2}),
    Call("transposes", "insert_zeros", [(2, 2, 3)], {}, [2]),
    Call("matrices", "conv_matrix", [(4, 2, 2, 3)], {"groups": 2, "padding": 1}, [(4, 3, 2)]),
    Call("matrices", "im2col", [(2, 2, 3, 4)], {"padding": 1, "stride": 2}, [(2, 3)]),
    Call("matrices", "im2col", [(2, 2, 3)], {"padding": 40, "stride": 31}, [3]),
    Call("matrices", "col2im", [(2, 6, 8)], {}, [(3, 4), (2, 1)]),
    Call("matrices", "conv2d_im2col", [(2, 4, 3, 4), (2, 2, 2, 2), (2,)], {"groups": 2, "padding": 1, "stride": 2}),
    Call("matrices", "circulant_singular_values", [(2, 3, 2)], {}, [3]),
    Call("strides", "dilate", [(2, 1, 3)], {"step": 2}),
    Call("strides", "compose", [(4, 1, 3), (2, 4, 2)], {"groups1": 2, "stride1": 2}),
    Call("strides", "compose", [(3,), (2,)], {"dilation2": 3}),
    Call("konvolution", "konv2d", [(2, 4, 4, 3), (2, 3, 2, 2, 2), (2,)], {"groups": 2, **KONV}),
    Call("konvolution", "konv1d", [(2, 2, 4), (2, 3, 2, 2)], {"padding": 1, "pad": "input", "basis": "hermite"}),
    Call("konvolution", "konv3d", [(1, 1, 2, 2, 1), (1, 3, 1, 1, 2, 1)], {}),
    Call("konvolution", "konv2d_input_grad", [(2, 2, 2, 2), (2, 4, 4, 3), (2, 3, 2, 2, 2)], {"groups": 2, **KONV}),
    Call("konvolution", "konv2d_kappa_grad", [(2, 2, 3, 3), (2, 1, 2, 2)], {"degree": 2, "kernel_size": 2}),
    *(Call("konvolution", f"konv{axes}d_bias_grad", [(2, 3, *(4, 2, 3)[:axes])], {}) for axes in (1, 2, 3)),
]
IDS = [f"{call.name}-{number}" for number, call in enumerate(CALLS)]


def operands(call: Call, kinds: Sequence[str]) -> list[np.ndarray]:
    """Small integers of some dtypes, negative ones too where the dtype has them."""
    given = []
    for number, (shape, kind) in enumerate(zip(call.shapes, kinds, strict=True)):
        values = integers(*shape, seed=number) % 4
        given.append((values if np.dtype(kind).kind in "bu" else values - 1).astype(kind))
    return given


def run(backend: Any, call: Call, given: Sequence[np.ndarray]) -> np.ndarray:
    result = getattr(backend, call.name)(*given, *call.others, **call.options)
    return result.toarray() if issparse(result) else result


def assert_same(call: Call, ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype
    assert ours.dtype.isnative
    assert ours.shape == theirs.shape
    if call.name == "circulant_singular_values":  # a few roundings of values of size 10
        assert np.abs(ours - theirs).max() <= 64 * np.finfo(ours.dtype).eps
    else:
        assert (ours == theirs).all()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_all_dtypes_and_orders_of_bytes_as_the_definition(call):
    package, naive = backends.exact(call.package)[0].values[0], backends.definition(call.package)
    for kind in ORDERS:
        if call.name == "circulant_singular_values" and kind[1] == "G":
            continue  # the definition's own decomposition has no such complex numbers
        given = operands(call, [kind] * len(call.shapes))
        expected = run(naive, call, [array.astype(array.dtype.newbyteorder("=")) for array in given])
        assert_same(call, run(package, call, given), expected)
        assert_same(call, run(naive, call, given), expected)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("call", [call for call in CALLS if len(call.shapes) > 1], ids=lambda call: call.name)
def test_mixed_dtypes_as_the_definition_and_numpy(call):
    package, naive = backends.exact(call.package)[0].values[0], backends.definition(call.package)
    pairs = "? h,b B,B d,l e,e f,h e,F l,F d,F g,e F,>f d,>i >f,f >G,L l,q Q,g >D"
    for pair in (text.split() for text in pairs.split(",")):
        for order in (pair, pair[::-1]):
            given = operands(call, [order[place % 2] for place in range(len(call.shapes))])
            ours = run(package, call, given)
            assert_same(call, ours, run(naive, call, given))
            assert ours.dtype in (np.result_type(*given), np.dtype(np.int64))  # a basis has no booleans
            assert ours.dtype == np.result_type(*given) or call.package == "konvolution"


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_operands_may_be_read_only_and_lie_in_memory_as_they_like(call):
    package = backends.exact(call.package)[0].values[0]
    for kind in ("e", "f", "l", ">d"):
        given = operands(call, [kind] * len(call.shapes))
        expected = run(package, call, given)
        views = [np.repeat(array.T, 2, axis=0)[::-2].T[..., ::-1] for array in given]
        for layout in (views, [np.asfortranarray(array) for array in given], given):
            copies = [array.copy() for array in layout]
            for array in layout:
                array.flags.writeable = False
            result = run(package, call, layout)
            assert_same(call, result, expected)
            assert all((array == copy).all() for array, copy in zip(layout, copies, strict=True))
            assert not any(np.shares_memory(result, array) for array in layout)


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_batches_of_none_and_axes_of_none(call):
    """A batch may be empty, and its gradients are zero; any other axis may not, and the error names the operand."""
    package, naive = backends.exact(call.package)[0].values[0], backends.definition(call.package)
    batched = [number for number, shape in enumerate(call.shapes) if is_batch(call, number)]
    for kind in ("l", "e", "D"):
        given = operands(call, [kind] * len(call.shapes))
        for number in batched:
            given[number] = given[number][:0]
        if batched:
            result = run(package, call, given)
            assert_same(call, result, run(naive, call, given))
            assert not result.any()
    for number, shape in enumerate(call.shapes):
        for axis in range(number in batched, len(shape)):
            given = operands(call, ["d"] * len(call.shapes))
            given[number] = np.zeros((*shape[:axis], 0, *shape[axis + 1 :]))
            with pytest.raises(ValueError, match="must"):
                run(package, call, given)


def is_batch(call: Call, number: int) -> bool:
    """Whether the first axis of an operand is a batch."""
    if call.package == "strides" or call.name in ("conv_matrix", "circulant_singular_values"):
        return False
    return number < {"weight": 2, "input": 1, "kappa": 2}.get(call.name.partition("_")[2].partition("_")[0], 1) + (
        call.name.endswith("_input_grad") and call.package == "konvolution"
    )


NEEDS_MACHINE_NUMBERS = ("conv_matrix", "circulant_singular_values")


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.name not in NEEDS_MACHINE_NUMBERS], ids=lambda c: c.name
)
def test_integers_of_python_are_exact_and_so_is_their_padding(call):
    """They lie near 10^20, beyond those of machines, with which zeros of int64 do not multiply."""
    given = [operand.astype(object) * 10**20 for operand in operands(call, ["l"] * len(call.shapes))]
    found = run(backends.exact(call.package)[0].values[0], call, given)
    assert found.tolist() == run(backends.definition(call.package), call, given).tolist()
    assert {type(entry) for entry in found.ravel()} == {int}
