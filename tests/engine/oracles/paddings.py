"""Where SAME puts its padding, found by trying: as little as gives one output per stride."""

from __future__ import annotations

from itertools import count, product

SIDES = ("upper", "lower")
BOX = list(product(range(1, 8), range(1, 5), range(1, 5), range(1, 4)))
BOX_TEXT = f"sizes to 7, kernels and strides to 4, dilations to 3, both sides: {2 * len(BOX):,} cases"
PLANES = [((5, 4), (3, 2), (2, 1), (1, 3)), ((1, 6), (2, 4), (3, 4), (2, 1)), ((7, 3), (1, 3), (2, 2), (1, 1))]
CUBES = [((3, 2, 5), (2, 3, 4), (2, 1, 3), (1, 2, 1)), ((4, 1, 3), (3, 2, 1), (1, 3, 2), (1, 1, 2))]
ROOMS = [(row,) for row in BOX] + [tuple(zip(*room, strict=True)) for room in (*PLANES, *CUBES)]
"""Axes of one to three dimensions, each ``(size, kernel, stride, dilation)``."""


def pair_of(side, size, kernel, stride, dilation):
    """The padding before and after one axis."""
    wanted = len(range(0, size, stride))
    for total in count():
        starts = range(0, size + total - dilation * (kernel - 1), stride)
        if len(starts) >= wanted:
            assert len(starts) == wanted
            half, odd = divmod(total, 2)
            return (half, half + odd) if side == "upper" else (half + odd, half)


def pairs_of(side, room):
    """The padding of each axis."""
    return tuple(pair_of(side, *axis) for axis in room)


def windows_of(room):
    return tuple(len(range(0, size, stride)) for size, _, stride, _ in room)


def run_onnx(runtime, kind, operands, **attributes):
    """One node of ONNX on arrays."""
    from onnx import TensorProto, helper

    names = ["x", "w", "b"][: len(operands)]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in zip(names, operands, strict=True)
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(kind, names, ["y"], **attributes)], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, operands, strict=True)))[0]
