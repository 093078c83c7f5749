"""The usual mistakes in keeping what is made of frozen parameters: some test catches each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
import torch

import konvlib
from konvlib import runtime
from tests.engine import test_konvolution_frozen as alike
from tests.engine import test_konvolution_frozen_changes as changes
from tests.engine import test_konvolution_frozen_torch as under_torch
from tests.engine.frozen_layers import counted
from tests.engine.test_mutants import passes

MUTANTS = [
    ("frozen", "replaced parameters taken for the old ones", "parameter is seen and ", ""),
    ("frozen", "changes in place not looked at", "return parameter._version, ", "return "),
    ("frozen", "memory not looked at", "parameter.data_ptr(), ", ""),
    ("frozen", "steps in memory not looked at", "parameter.stride(), ", ""),
    ("frozen", "shape not looked at", "parameter.shape, ", ""),
    ("frozen", "memory not held", "[parameter.detach() for", "[parameter.new_empty(1) for"),
    ("frozen", "another basis forgotten", "if basis is not self._basis or ", "if "),
    ("frozen", "a bias that is gone forgotten", " or len(parameters) != len(self._seen)", ""),
    ("frozen", "one value for all", "key, made = (key, _stream_of(", "key, made = (_stream_of("),
    ("frozen", "one value for all streams", "(key, _stream_of(self._memory[0]))", "(key, 0)"),
    ("frozen", "made in inference mode", "torch.inference_mode(False), ", ""),
    ("frozen", "no bound", "(key, value)][-MOST:]", "(key, value)]"),
    ("frozen", "the newest dropped", "(key, value)][-MOST:]", "(key, value)][:MOST]"),
    ("frozen", "one too few", "[-MOST:]", "[1 - MOST :]"),
    ("frozen", "the batch is part of the place", "return layer.input_size", "return layer.batch, layer.input_size"),
    ("frozen", "the size is none", "return layer.input_size, ", "return "),
    ("frozen", "the stride is none", "layer.stride, ", ""),
    ("frozen", "the padding is none", "layer.padding, ", ""),
    ("frozen", "the dilation is none", ", layer.dilation", ""),
    ("frozen", "kept values are copied", "return Frozen, (self.trained,)", "return object.__reduce_ex__(self, 2)"),
    ("frozen", "copies are not frozen before", "return Frozen, (self.trained,)", "return Frozen, ()"),
    ("frozen", "gradients of parameters lost", " or any([parameter.requires_grad for parameter in parameters])", ""),
    ("frozen", "computed parameters kept", "type(parameter) is not Parameter or ", ""),
    ("frozen", "uncounted parameters kept", " or parameter.is_inference()", ""),
    ("frozen", "transforms not looked at", "return is_plain(x) and ", "return "),
    ("frozen", "autocast not looked at", " and not lowers(x)", ""),
    ("frozen", "captured graphs not looked at", "x.is_cuda and torch.cuda.is_current_stream_capturing()", "False"),
    ("frozen", "said to be frozen in training", "tensor is not None and tensor.requires_grad", "False"),
    ("frozen", "said to be frozen while a bias is trained", "(self.kappa, self.bias)])", "(self.kappa,)])"),
    ("frozen", "said not to be while a scale is", "in (self.kappa, self.bias)]", "in self.parameters()]"),
    ("frozen", "lazy layers frozen", "if any(map(is_lazy, self.parameters())):", "if False:"),
    ("frozen", "what required a gradient forgotten", "Frozen([*before, *names])", "Frozen(names)"),
    ("frozen", "frozen anew, and what was kept stays", "        self._frozen = Frozen([", "        _ = Frozen(["),
    ("frozen", "gradients are still required", "super().requires_grad_(False)", "super().requires_grad_(True)"),
    ("frozen", "thawed, and all required", "            if name in trained:\n    ", "            if True:\n    "),
    ("frozen", "thawed, and none required", "if name in trained", "if False"),
    ("frozen", "thawed, and still frozen", "        self._frozen = None\n        for", "        for"),
    ("frozen", "not thawed by gradients", "        if requires_grad:\n", "        if False:\n"),
    ("frozen", "always thawed", "        if requires_grad:\n", "        if True:\n"),
    ("frozen", "moved and kept", "self._keep_nothing()\n        return super()._apply", "return super()._apply"),
    ("frozen", "loaded and kept", "        self._keep_nothing()\n        super()._load", "        super()._load"),
    ("frozen", "moved and thawed", "self._frozen = Frozen(self._frozen.trained)", "self._frozen = None"),
    ("aten", "the map of all sizes", "None if constants.sees is None else place_of(plan.layer)", "None"),
    ("aten", "one map for each size that needs none", "None if constants.sees is None else ", ""),
    ("aten", "a kept tensor given away", ".clone(memory_format=torch.contiguous_format)", ".contiguous()"),
    ("aten", "nothing kept of degree 0", 'keep(("degree 0", place), ', "anew(0, "),
    ("aten", "nothing kept of other degrees", 'keep("weight", ', "anew(0, "),
    ("layer", "nothing kept", "if self._frozen is not None:", "if False:"),
    ("layer", "the basis that is usual", "bases.BASES[self.basis]))", 'bases.BASES["chebyshev"]))'),
]  # fmt: skip


@contextmanager
def mistaken(file: str, old: str, new: str) -> Iterator[None]:
    """The functions of a module of Konvolution with a mistake in one of them; all else is as it was."""
    module = importlib.import_module(f"konvlib.konvolution.{file}")
    path = Path(konvlib.__file__).parent / "konvolution" / f"{file}.py"
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"the text to replace occurs {source.count(old)} times in {file}.py"
    codes = dict(_codes(compile(source.replace(old, new), str(path), "exec")))
    with pytest.MonkeyPatch.context() as patch:
        for function in _functions(module):
            patch.setattr(function, "__code__", codes[function.__qualname__])
        yield


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner.co_qualname, inner
            yield from _codes(inner)


def _functions(module: Any) -> Iterator[FunctionType]:
    owners = [module, *(value for value in vars(module).values() if inspect.isclass(value))]
    for owner in owners:
        for value in [each.fget if isinstance(each, property) else each for each in vars(owner).values()]:
            if isinstance(value, FunctionType) and value.__code__.co_filename == module.__file__:
                yield value


def checks() -> list[Callable[[pytest.MonkeyPatch], None]]:
    """Tests of test_konvolution_frozen*.py, each given what it asks for."""

    def plain(test: Callable[..., None], *given: Any) -> Callable[[pytest.MonkeyPatch], None]:
        return lambda patch: test(*given)

    def counting(test: Callable[..., None]) -> Callable[[pytest.MonkeyPatch], None]:
        return lambda patch: test(counted(patch))

    streams = under_torch.test_streams_share_nothing_and_captured_graphs_keep_nothing
    return [
        lambda patch: streams(counted(patch), patch),
        counting(alike.test_what_is_made_of_parameters_is_made_once),
        counting(alike.test_without_zeros_in_the_padding_one_value_serves_all_sizes),
        counting(alike.test_so_many_values_are_kept_and_no_more),
        counting(under_torch.test_autocast_finds_nothing_and_leaves_nothing),
        plain(alike.test_a_result_is_no_kept_tensor),
        plain(changes.test_memory_is_held_until_the_change_is_seen),
        plain(under_torch.test_traced_by_fx_it_follows_the_parameters),
        plain(changes.test_loading_and_moving_free_what_is_kept_at_once),
        plain(alike.test_nothing_kept_is_saved_or_copied),
        plain(alike.test_freezing_and_thawing_say_which_parameters_require_gradients),
        plain(changes.test_what_torch_does_not_count_needs_another_freeze),
        plain(under_torch.test_under_transforms),
        plain(under_torch.test_parameters_that_are_computed_at_each_call),
        plain(under_torch.test_parameters_of_inference_mode_count_no_changes),
        plain(alike.test_a_lazy_layer_learns_its_channels_first),
        *(lambda patch, change=change: changes.test_a_change_is_seen(patch, change) for change in changes.CHANGES),
        *(
            lambda patch, name=name: alike.test_a_layer_is_said_to_be_frozen_where_its_calls_reuse_what_is_kept(
                name, counted(patch)
            )
            for name in ("model", "bias", "scale", "layer")
        ),
        *(
            plain(alike.test_a_parameter_that_requires_a_gradient_again_gets_it, name)
            for name in ("layer", "model", "kappa", "bias")
        ),
        plain(alike.test_gradients_by_the_input_are_as_before, {}),
        plain(alike.test_every_geometry_is_computed_alike, 2, {}),
        plain(alike.test_every_dtype_is_computed_alike, torch.bfloat16),
    ]


def passes_alone(check: Callable[[pytest.MonkeyPatch], None]) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "INTERPRET", False)
        return passes(lambda: check(patch))


def test_without_a_mistake_all_pass():
    same = "from __future__ import annotations"
    with mistaken("frozen", same, same), mistaken("aten", same, same), mistaken("layer", same, same):
        assert all(map(passes_alone, checks()))


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_mistake_is_caught(row):
    file, _, old, new = row
    with mistaken(file, old, new):
        assert not all(map(passes_alone, checks()))
