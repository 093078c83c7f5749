"""Functions of konvlib with a mistake in them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import CodeType

import konvlib


def mutated_code(file: str, name: str, right: str, wrong: str) -> CodeType:
    """The code of a function with a mistake; nothing else of its module is touched."""
    path = Path(konvlib.__file__).parent / f"{file.replace('.', '/')}.py"
    source = path.read_text(encoding="utf-8")
    start = source.index(f"def {name}(")
    end = source.find("\n\n\n", start)
    function = source[start : end if end > 0 else None]
    assert function.count(right) == 1, f"the text to replace occurs {function.count(right)} times in {name}"
    namespace = dict(vars(importlib.import_module(f"konvlib.{file}")))
    text = source[:start] + function.replace(right, wrong) + source[start + len(function) :]
    exec(compile(text, str(path), "exec"), namespace)
    return namespace[name].__code__
