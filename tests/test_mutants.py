"""Sharpness: each usual mistake, made on purpose in a copy of a module, must be caught.

tests/mutants/ lists them. A mistake is caught when at least one test of the package fails: for a room, the tests whose
only argument is ``room`` in ``tests/test_<package>.py`` and in the files that start with this name; for kernels, those
in ``tests/test_<package>_kernels.py``, on the GPU room that launches them; for `konvlib.geometry`, those of
``tests/test_geometry.py`` without arguments.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import itertools
import pkgutil
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import konvlib
from konvlib import geometry
from tests import mutants, rooms

PACKAGES = [info.name for info in pkgutil.iter_modules(mutants.__path__)]
ROWS = [(package, *row) for package in PACKAGES for row in importlib.import_module(f"tests.mutants.{package}").MUTANTS]
FILES = sorted({(package, file) for package, file, *_ in ROWS})
numbers = itertools.count()


def mutate(package: str, file: str, old: str, new: str, folder: Path) -> ModuleType:
    source = (Path(konvlib.__file__).parent / package / f"{file}.py").read_text(encoding="utf-8")
    assert source.count(old) == 1, f"the text to replace occurs {source.count(old)} times in {package}/{file}.py"
    name = f"mutant_{next(numbers)}"
    path = folder / f"{name}.py"
    path.write_text(source.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def killers(module: ModuleType, *arguments: str) -> list:
    """The tests of a module that take exactly these arguments."""
    functions = [function for name, function in vars(module).items() if name.startswith("test_")]
    return [function for function in functions if tuple(inspect.signature(function).parameters) == arguments]


def modules_of(package: str, file: str) -> list[ModuleType]:
    """The modules whose tests must catch a mistake in this file, the one named after the package first."""
    if file == "kernels":
        return [importlib.import_module(f"tests.test_{package}_kernels")]
    paths = sorted(Path(__file__).parent.glob(f"test_{package}*.py"))
    return [importlib.import_module(f"tests.{path.stem}") for path in paths if not path.stem.endswith("_kernels")]


def survives(package: str, file: str, mutant: ModuleType) -> bool:
    modules = modules_of(package, file)
    with pytest.MonkeyPatch.context() as patch:
        if package == "geometry":
            patch.setattr(modules[0], "geometry", SimpleNamespace(**(vars(geometry) | vars(mutant))))
            runs = killers(modules[0])
        else:
            subject = mutant
            if file == "kernels":
                gpu = importlib.import_module(f"konvlib.{package}.gpu")
                patch.setattr(gpu, "kernels", mutant)
                subject = rooms.TensorRoom(gpu, kernels=True)
            runs = [
                lambda test=test: test(subject)
                for test in itertools.chain(*(killers(module, "room") for module in modules))
            ]
        assert runs
        return all(passes(run) for run in runs)


def passes(run) -> bool:
    try:
        run()
    except (Exception, pytest.fail.Exception):
        return False
    return True


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}/{row[1]}: {row[2]}")
def test_the_mistake_is_caught(row, tmp_path):
    package, file, mistake, old, new = row
    assert not survives(package, file, mutate(package, file, old, new, tmp_path)), f"no test catches: {mistake}"


@pytest.mark.parametrize(("package", "file"), FILES)
def test_the_unchanged_module_survives(package, file, tmp_path):
    """Else its mutants would die of something other than their mistake."""
    same = "from __future__ import annotations"
    assert survives(package, file, mutate(package, file, same, same, tmp_path))
