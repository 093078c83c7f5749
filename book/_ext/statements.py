"""The index: definitions and theorems by their titles, and each function of the library once.

The glossary and autodoc put their own entries there. Numbered statements do not, unless this extension does it. What
computes for a public function has a name like it: the backends are left out.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

BACKEND = re.compile(r"\bkonvlib\.\w+\.(?:naive|arrays|tensors)\b|^cls_to_become ")


class IndexStatements(SphinxTransform):
    """Put an index entry before each statement that has a title and a kind: ``Lengths (theorem)``."""

    default_priority = 500  # before the domains collect the entries, at 850

    def apply(self, **kwargs: Any) -> None:
        """Look for the nodes of sphinx_proof, which know their kind."""
        for statement in list(
            self.document.findall(lambda node: isinstance(node, nodes.Element) and "realtype" in node)
        ):
            title = next(statement.findall(nodes.title), None)
            name = title.astext().strip().removeprefix("(").removesuffix(")") if title is not None else ""
            if name and statement["realtype"] != "proof":
                entry = ("single", f"{name} ({statement['realtype']})", statement["ids"][0], "", None)
                place = statement.parent.index(statement)
                statement.parent.insert(place, addnodes.index(entries=[entry]))
        for index in self.document.findall(addnodes.index):
            index["entries"] = [entry for entry in index["entries"] if not BACKEND.search(entry[1])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Index the statements of every page."""
    app.add_transform(IndexStatements)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
