"""What a reader of the API may count on: each public function documents itself, and is found where one looks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import konvlib

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(konvlib.__path__, prefix=f"{konvlib.__name__}.")
]
LAUNCHERS = (".halo", ".halo_balanced", ".halo_beside", "konvolution.columns", ".preparation", "_hopper", "_runs")
NO_EXAMPLES = (".figures", ".runtime", ".kernels", *LAUNCHERS)
"""Drawings, which the notebooks show, and kernels with their launchers, which only the operators call."""


FUNCTIONS = [
    pytest.param(function, id=f"{module.__name__}.{name}")
    for module in MODULES
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == module.__name__
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_public_function_has_a_summary_an_example_and_type_hints(function):
    text = inspect.getdoc(function) or ""
    summary = text.split("\n\n")[0]
    assert summary.endswith((".", ":"))
    assert ">>> " in text or function.__module__.endswith(NO_EXAMPLES)
    parameters = inspect.signature(function).parameters
    hints = function.__annotations__
    assert set(parameters) <= set(hints), "type hints"
    assert "return" in hints, "type hint of the result"


@pytest.mark.parametrize("name", konvlib.__all__)
def test_each_public_function_is_written_out_where_one_looks(name):
    """In its chapter, under its name: grep, an editor and a type checker find it, and a mistake names it."""
    public = getattr(konvlib, name)
    if not inspect.isfunction(public):
        return
    module = public.__module__
    chapter = importlib.import_module(".".join(module.split(".")[:2]))
    assert getattr(chapter, name) is public
    assert module == chapter.__name__ or f"`{module}`" in chapter.__doc__, "the chapter says where"
    source = Path(importlib.import_module(module).__file__).read_text(encoding="utf-8")
    assert len(re.findall(rf"(?<!@overload)\ndef {name}\(", source)) == 1
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'strde'"):
        public(strde=2)


@pytest.mark.parametrize("name", konvlib.__all__)
def test_the_public_docstring_is_complete(name):
    """A function over one or three axes gives its shapes and its formula, and names the one whose manual it shares."""
    public = getattr(konvlib, name)
    if inspect.isfunction(public):
        text, manual = inspect.getdoc(public), re.sub("1d|3d", "2d", name)
        shared = manual != name and f"konvlib.{manual}" in text.split("\n\n")[0]
        sections = ("See Also", "Examples") if shared else ("Parameters", "Returns", "Raises", "See Also", "Examples")
        assert not [section for section in sections if f"{section}\n---" not in text]
        assert ".. math::" in text


def test_the_modules_of_torch_are_listed_and_torch_is_not_imported():
    names = "Konv1d", "Konv2d", "Konv3d", "LazyKonv1d", "LazyKonv2d", "LazyKonv3d"
    code = f"import sys, konvlib; assert set({names}) <= set(dir(konvlib)); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
