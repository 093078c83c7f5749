"""Functions of konvlib with a mistake in them."""

from __future__ import annotations

import importlib
from operator import attrgetter
from pathlib import Path
from types import CodeType, SimpleNamespace

import konvlib


def mutated_code(file: str, name: str, right: str, wrong: str) -> CodeType:
    """The code of a function, or of a class's method, with a mistake; nothing else of its module is touched."""
    path = Path(konvlib.__file__).parent / f"{file.replace('.', '/')}.py"
    source = path.read_text(encoding="utf-8")
    owner, _, method = name.rpartition(".")
    start = source.index(f"def {method}(", source.index(f"class {owner}") if owner else 0)
    end = source.find("\n\n" if owner else "\n\n\n", start)
    function = source[start : end if end > 0 else None]
    assert function.count(right) == 1, f"the text to replace occurs {function.count(right)} times in {name}"
    namespace = dict(vars(importlib.import_module(f"konvlib.{file}")))
    text = source[:start] + function.replace(right, wrong) + source[start + len(function) :]
    exec(compile(text, str(path), "exec"), namespace)
    return attrgetter(name)(SimpleNamespace(**namespace)).__code__
