"""Functions that a page prints, such as whole kernels: coloured as code is."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

PRINTS_A_SOURCE = re.compile(r"\bsource_of\b")
CLASS = "kv-source"
"""What konvbook.css knows them by."""


class ColourSources(SphinxTransform):
    """Say that what a cell prints is Python where the cell asks for the source of a function."""

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Look for the cells of myst-nb: containers of an input and an output."""
        for cell in self.document.findall(lambda node: is_container(node, "cell")):
            inputs = [part for part in cell.children if is_container(part, "cell_input")]
            if any(PRINTS_A_SOURCE.search(part.astext()) for part in inputs):
                for part in cell.children:
                    if is_container(part, "cell_output"):
                        colour(part)


def is_container(node: nodes.Node, name: str) -> bool:
    """Whether a node is a container of a class."""
    return isinstance(node, nodes.container) and name in node["classes"]


def colour(output: nodes.Node) -> None:
    """Take what is printed in an output for Python."""
    for block in output.findall(nodes.literal_block):
        block["language"] = "python"
        block["classes"].append(CLASS)


def setup(app: Sphinx) -> dict[str, bool]:
    """Colour the sources of every page."""
    app.add_transform(ColourSources)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
