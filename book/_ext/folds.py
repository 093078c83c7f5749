"""One kind of fold for all: code and outputs of cells, dropdowns and solutions become the same ``details`` element.

A browser opens and closes it without a script, finds words in it, and unfolds it for a link that leads inside.
"""

from __future__ import annotations

import re

from hooks import change_bodies
from sphinx.application import Sphinx

CELL = re.compile(
    r'<details class="admonition hide (?:above|below)-(input|output|code)">\s*<summary[^>]*>(.*?)</summary>', re.S
)
PROMPT = re.compile(r'<p class="(?:collapsed|expanded) admonition-title">(.*?)</p>', re.S)
DROPDOWN = re.compile(
    r'<details class="sd-sphinx-override sd-dropdown sd-card(?: sd-mb-\d)?([^"]*)"([^>]*)>\s*'
    r'<summary class="sd-summary-title sd-card-header[^"]*">(.*?)<span class="sd-summary-state-marker.*?</summary>\s*'
    r'<div class="sd-summary-content sd-card-body',
    re.S,
)
ADMONITION = re.compile(
    r'<div class="((?:[\w-]+ )*)(?:dropdown|toggle) ((?:[\w-]+ )*)admonition([^"]*)"([^>]*)>\s*'
    r'<p class="admonition-title">(.*?)</p>',
    re.S,
)
DIV = re.compile(r"<div\b|</div>")
LINK = re.compile(r"</?a\b[^>]*>")


def fold_cell(found: re.Match[str]) -> str:
    """Return the head of a cell's fold; where both its titles agree, there is one."""
    closed, *others = PROMPT.findall(found[2])
    titles = f'<span class="kv-closed">{closed}</span><span class="kv-open">{others[0]}</span>'
    title = titles if others and others[0] != closed else f"<span>{closed}</span>"
    return f'<details class="kv-fold kv-fold-{found[1]}">\n<summary>{title}</summary>'


def fold_dropdown(found: re.Match[str]) -> str:
    """Return the head of a dropdown."""
    head = f'<details class="kv-fold{found[1]}"{found[2]}>\n<summary>{found[3].strip()}</summary>'
    return f'{head}\n<div class="kv-fold-body'


def end_of_div(body: str, start: int) -> int:
    """Return where the ``div`` that opens at a place is closed."""
    depth = 0
    for found in DIV.finditer(body, start):
        depth += 1 if found[0] == "<div" else -1
        if depth == 0:
            return found.start()
    raise ValueError("a div is never closed")


def fold_admonitions(body: str) -> str:
    """Return a page in which each box that is to be folded, and each solution, is a fold."""
    while found := ADMONITION.search(body):
        end = end_of_div(body, found.start())
        classes = " ".join(f"{found[1]}{found[2]}{found[3]}".split())
        head = (
            f'<details class="kv-fold {classes}"{found[4]}>\n<summary><span>{LINK.sub("", found[5])}</span></summary>'
        )
        inside = f'<div class="kv-fold-body">{body[found.end() : end]}</div></details>'
        body = body[: found.start()] + head + inside + body[end + len("</div>") :]
    return body


def fold(body: str) -> str:
    """Return a page with one kind of fold."""
    return fold_admonitions(DROPDOWN.sub(fold_dropdown, CELL.sub(fold_cell, body)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page."""
    change_bodies(app, lambda app, page, body: fold(body))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
