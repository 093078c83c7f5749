"""The search index holds what a reader reads: no code, no formulas.

Words of a listing or of TeX would lead to pages that speak of something else, and stand in the results as noise. What a
reader may type all the same (``channels_last``, ``output_padding``) stands in prose, in headings or in the glossary.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import search
from sphinx.application import Sphinx

UNREAD = (nodes.literal_block, nodes.math, nodes.math_block, nodes.doctest_block)


class ProseCollector(search.WordCollector):
    """Collects the words of a page's prose."""

    def dispatch_visit(self, node: nodes.Node) -> None:
        """Skip what is no prose."""
        if isinstance(node, UNREAD) or (isinstance(node, nodes.container) and "cell_input" in node.get("classes", [])):
            raise nodes.SkipNode
        super().dispatch_visit(node)


def setup(app: Sphinx) -> dict[str, bool]:
    """Let the index builder use it."""
    search.WordCollector = ProseCollector
    return {"parallel_read_safe": True, "parallel_write_safe": True}
