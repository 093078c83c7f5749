"""Sharpness: each usual mistake, made on purpose in a copy of a module, must be caught.

The folder ``mutants`` lists them. A mistake is caught when at least one test of the package fails: for a backend, the
tests whose only argument is ``backend`` in ``test_<package>.py`` and in the files that start with this name; for
`konvlib.geometry`, those without arguments in such files.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import pkgutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import konvlib
from konvlib import geometry
from tests.engine import backends, mutants

PACKAGES = [info.name for info in pkgutil.iter_modules(mutants.__path__)]
ROWS = [
    (package, *row)
    for package in PACKAGES
    for row in importlib.import_module(f"tests.engine.mutants.{package}").MUTANTS
]
PUBLIC = ("__init__", "gradients", "poolings", "unpoolings", "whole")
"""The files of a package that hold public functions; a test that asks for others catches nothing there."""
numbers = itertools.count()


def mutate(package: str, file: str, old: str, new: str, folder: Path) -> ModuleType:
    source = (Path(konvlib.__file__).parent / package / f"{file}.py").read_text(encoding="utf-8")
    assert source.count(old) == 1, f"the text to replace occurs {source.count(old)} times in {package}/{file}.py"
    name = f"mutant_{next(numbers)}"
    path = folder / f"{name}.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, module)  # where dataclasses look themselves up
        spec.loader.exec_module(module)
    return module


def killers(module: ModuleType, *arguments: str) -> list:
    """The tests of a module that take exactly these arguments."""
    functions = [function for name, function in vars(module).items() if name.startswith("test_")]
    return [function for function in functions if tuple(inspect.signature(function).parameters) == arguments]


def modules_of(package: str) -> list[ModuleType]:
    """The modules whose tests must catch a mistake in this package, the one named after it first."""
    paths = sorted(Path(__file__).parent.glob(f"test_{package}*.py"))
    return [importlib.import_module(f"tests.engine.{path.stem}") for path in paths]


def candidates(package: str, file: str) -> list[Callable[..., None]]:
    arguments = () if package == "geometry" else ("backend",)
    return [test for module in modules_of(package) for test in killers(module, *arguments)]


def passes_with(test: Callable[..., None], package: str, file: str, module: ModuleType) -> bool:
    """Whether a test passes with a module in the place of the file."""
    with pytest.MonkeyPatch.context() as patch:
        if package == "geometry":
            owner, arguments = importlib.import_module(test.__module__), []
            patch.setattr(owner, "geometry", SimpleNamespace(**(vars(geometry) | vars(module))))
        else:
            arguments = [module if file in PUBLIC else backends.ArrayBackend(package, module)]
        return passes(lambda: test(*arguments))


def passes(run: Callable[[], None]) -> bool:
    try:
        run()
    except (Exception, pytest.fail.Exception):
        return False
    return True


@cache
def passes_unchanged(test: Callable[..., None], package: str, file: str) -> bool:
    same = "from __future__ import annotations"
    with tempfile.TemporaryDirectory() as folder:
        return passes_with(test, package, file, mutate(package, file, same, same, Path(folder)))


KILLS: Counter[tuple[str, str, Callable[..., None]]] = Counter()
"""What caught how many mistakes so far: it is tried first on the next mistake in the same file."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}/{row[1]}: {row[2]}")
def test_the_mistake_is_caught(row, tmp_path):
    """By a test that passes on an unchanged copy, so that the mistake is what it fails of."""
    package, file, mistake, old, new = row
    mutant = mutate(package, file, old, new, tmp_path)
    tests = sorted(candidates(package, file), key=lambda test: -KILLS[package, file, test])
    assert tests
    for test in tests:
        if not passes_with(test, package, file, mutant) and passes_unchanged(test, package, file):
            KILLS[package, file, test] += 1
            return
    pytest.fail(f"no test catches: {mistake}")
