"""What a reader of the API may count on: each public function documents itself, and backends agree on its signature."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import pkgutil

import pytest

import konvlib

MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(konvlib.__path__, prefix=f"{konvlib.__name__}.")
]
BACKENDS = ("naive", "arrays", "tensors")
NO_EXAMPLES = (".figures", ".tiles", ".kernels")
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
def test_each_public_name_has_one_signature_in_every_backend(name):
    public = getattr(konvlib, name)
    if not inspect.isfunction(public):
        return
    package = public.__module__
    for backend in BACKENDS:
        if importlib.util.find_spec(f"{package}.{backend}") is None:
            continue
        function = getattr(importlib.import_module(f"{package}.{backend}"), name)
        ours, theirs = inspect.signature(public).parameters, inspect.signature(function).parameters
        assert list(ours) == list(theirs)
        assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]
        assert [p.kind for p in ours.values()] == [p.kind for p in theirs.values()]


@pytest.mark.parametrize("name", konvlib.__all__)
def test_the_public_docstring_is_complete(name):
    public = getattr(konvlib, name)
    if inspect.isfunction(public):
        for section in ("Parameters\n---", "Returns\n---", "Raises\n---", "Examples\n---", ".. math::"):
            assert section in inspect.getdoc(public)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_example_runs(function):
    """Also for functions made by `by_rank`, which pytest's own collector of doctests does not see."""
    globs = dict(vars(importlib.import_module(function.__module__)))
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(function) or "", globs, function.__qualname__, None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0
