"""The reference of konvlib, made from its docstrings.

Where a page holds the line ``GENERATED``, a section per module takes its place: konvlib itself, the arithmetic of
sizes, and the modules that a chapter's functions use. So a new chapter appears by itself, when konvlib makes its
functions public. Modules whose imports are missing (torch, triton) are left out.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

from sphinx.application import Sphinx

PAGE = "book/api"
GENERATED = "<!-- generated: api -->"
MODULES = ("naive", "arrays", "tensors", "bases", "module")


def api_markdown() -> str:
    """Return a section for each module that exists and has public names."""
    konvlib = importlib.import_module("konvlib")
    functions = [value for value in map(vars(konvlib).get, public_names(konvlib)) if inspect.isfunction(value)]
    packages = dict.fromkeys(".".join(function.__module__.split(".")[:2]) for function in functions)
    names = ["konvlib", "konvlib.geometry"] + [f"{package}.{name}" for package in packages for name in MODULES]
    shown = [module for module in map(importable, names) if module is not None and public_names(module)]
    return "\n\n".join(module_markdown(module) for module in shown)


def importable(name: str) -> ModuleType | None:
    """Return the module, or None where it does not exist or needs a package that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or else the functions and classes that the module itself defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if callable(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def module_markdown(module: ModuleType) -> str:
    """Return a heading, the module's docstring and its public names, for autodoc to fill."""
    members = ", ".join(public_names(module))
    directive = f".. automodule:: {module.__name__}\n   :members: {members}\n   :imported-members:\n"
    return f"## {module.__name__}\n\n```{{eval-rst}}\n{directive}```"


def fill_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the reference in its place."""
    if GENERATED in source[0]:
        source[0] = source[0].replace(GENERATED, api_markdown())


def skip_field_aliases(app: Sphinx, what: str, name: str, value: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of a named tuple: its docstring lists them already."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def escape_stars(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Keep the star of a shape such as ``(N, C, *size)`` from beginning an emphasis."""
    lines[:] = [line if re.search("`|>>>", line) else re.sub(r"(?<=[ (])\*(?=\w)", r"\\*", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Generate the page in every build: new packages change it without changing its file."""
    app.connect("source-read", fill_page)
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: [PAGE] if PAGE in env.found_docs else [])
    return {"parallel_read_safe": True, "parallel_write_safe": True}
