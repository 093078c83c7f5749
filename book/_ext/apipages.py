"""The reference of konvlib, made from its docstrings, a page for each package.

Where a page holds ``<!-- generated: api konvlib.sequences -->``, a section for each module that it names takes its
place; ``<!-- generated: api index -->`` becomes the list of all public functions with their first lines. So a new
function appears by itself, when konvlib makes it public. Modules whose imports are missing (torch) are left out.
"""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

from hooks import make_anew
from sphinx.application import Sphinx

FOLDER = "book/library"
GENERATED = re.compile(r"<!-- generated: api ([\w. ]+) -->")


def api_markdown(names: list[str]) -> str:
    """Return a section for each of the modules that exists and has public names, without heading where it is one."""
    modules = [module for module in map(importable, names) if module is not None and public_names(module)]
    return "\n\n".join(module_markdown(module, heading=len(names) > 1) for module in modules)


CHAPTERS = ("sequences", "images", "matrices", "transposes", "gradients", "strides", "konvolution")


def index_markdown() -> str:
    """Return every public function as a line, by package, in the order of its source."""
    sections = []
    for word in CHAPTERS:
        paths = public_paths(importlib.import_module(f"konvlib.{word}"))
        lines = [function_line(path, value) for path, value in paths if path.count(".") == 1]
        sections.append("\n".join([f"## {{doc}}`{word}`\n", *lines]))
    return "\n\n".join(sections)


def function_line(path: str, value: object) -> str:
    """Return a list item: the name as a link, and the first sentence of its docstring."""
    summary = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ").replace("``", "`")
    return f"- {{py:obj}}`~{path}`: {summary}"


def importable(name: str) -> ModuleType | None:
    """Return the module, or None where it does not exist or needs a package that is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or else the functions and classes that the module itself defines, in the order of its source.

    What a chapter defines in several modules of its package stands in its package, but for torch's modules.
    """
    inside = (module.__name__, f"{module.__name__}.") if hasattr(module, "__path__") else (module.__name__,)
    if hasattr(module, "__all__"):
        names = [name for name in module.__all__ if callable(getattr(module, name))]
        of_torch = f"{module.__name__}.module" if hasattr(module, "__path__") else None
        return [name for name in names if getattr(module, name).__module__ != of_torch]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and (value.__module__ == module.__name__ or (is_public(name, value) and value.__module__.startswith(inside)))
    ]


def is_public(name: str, value: object) -> bool:
    """Return whether konvlib itself has a function or class under its name."""
    return getattr(importlib.import_module("konvlib"), name, None) is value


def module_markdown(module: ModuleType, heading: bool) -> str:
    """Return a module's docstring and its public names, for autodoc to fill, under its name as a heading or not."""
    lines = [f".. automodule:: {module.__name__}", ""]
    for path, value in public_paths(module):
        lines += (
            [f".. autoclass:: {path}", "   :members:", ""]
            if inspect.isclass(value)
            else [f".. autofunction:: {path}", ""]
        )
    head = f"## {module.__name__}\n\n" if heading else ""
    return f"{head}```{{eval-rst}}\n" + "\n".join(lines) + "```"


def public_paths(module: ModuleType) -> list[tuple[str, object]]:
    """Return what a module defines, each by the shortest path that it is imported from."""
    doors = [importlib.import_module(name) for name in ("konvlib", "konvlib.geometry")]
    found = []
    for name in public_names(module):
        value = getattr(module, name)
        door = next((door for door in doors if getattr(door, name, None) is value and name in door.__all__), module)
        found.append((f"{door.__name__}.{name}", value))
    return found


def fill_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the reference in its place."""
    source[0] = GENERATED.sub(
        lambda found: index_markdown() if found[1] == "index" else api_markdown(found[1].split()), source[0]
    )


def skip_field_aliases(app: Sphinx, what: str, name: str, value: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of a named tuple: its docstring lists them already."""
    return True if (getattr(value, "__doc__", None) or "").startswith("Alias for field number") else None


def escape_stars(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Keep the star of a shape such as ``(N, C, *size)`` from beginning an emphasis."""
    lines[:] = [line if re.search("`|>>>", line) else re.sub(r"(?<=[ (])\*(?=\w)", r"\\*", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Generate the pages in every build: the library changes them without changing their files."""
    app.connect("source-read", fill_page)
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("autodoc-process-docstring", escape_stars, priority=400)
    make_anew(app, FOLDER)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
