"""Where a page first uses a term of the glossary, it links it.

Prose is what is left of a page's Markdown without headings, code, formulas, titles of directives, labels and the
targets of links. A word form is the term itself, or the term with s or es; hyphens count as spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.colon_fence import colon_fence_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin

from tests.book.pages import DIRECTIVE, NOTEBOOKS, ROOT, Part, split_options

PARSER = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, allow_labels=True).use(colon_fence_plugin)
GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^(\S.*)\n  \S", GLOSSARY.split(":sorted:\n", 1)[1], re.M)

EXEMPT = {
    "box": "everyday: two boxes make a triangle",
    "exact": "everyday: the exact value",
    "full": "everyday: a full account; as a mode it stands in code",
    "group": "everyday: a group of readers",
    "mode": "everyday: the padding mode, the mode of a loop",
    "phase": "everyday: the phase of a wave",
    "rank": "everyday: to rank by size",
    "backend": "everyday: backend for another sample",
    "same": "everyday; as a mode it stands in code",
    "span": "everyday: bases span a space",
    "strip": "everyday: a strip of ten digits, stripes",
    "valid": "everyday; as a mode it stands in code",
}


def prose(markdown: str) -> Iterator[Token]:
    """The inline tokens of a page's prose, in reading order, those inside directives included."""
    tokens = PARSER.parse(re.sub(r"\A---\n.*?\n---\n?|^\([\w-]+\)=$", "", markdown, flags=re.M | re.S))
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline" and not (before and before.type == "heading_open"):
            yield from token.children
            yield Token("text", "", 0, content="\n")
        elif token.type in ("fence", "colon_fence") and DIRECTIVE.match(token.info.strip()):
            body = split_options(token.content)[1]
            yield from prose("" if token.info.strip().startswith(("{math}", "{code")) else body)


def pieces(markdown: str) -> Iterator[tuple[str, bool]]:
    """The prose as text, and in between what ``{term}`` links, with True."""
    role = None
    for token in prose(markdown):
        if token.type == "text":
            role = found[1] if (found := re.search(r"\{([\w:]+)\}$", token.content)) else None
            yield token.content.removesuffix(f"{{{role}}}"), False
        elif token.type == "code_inline" and role == "term":
            target = re.search(r"<(.+)>$", token.content)
            yield (target[1] if target else token.content), True
        elif token.type == "softbreak":
            yield " ", False
        else:
            role = None
            if token.type in ("math_inline", "code_inline"):
                yield " . ", False


def plain(text: str) -> str:
    return re.sub(r"[-\s]+", " ", text).lower()


def unlinked_terms(markdown: str, terms: list[str]) -> dict[str, str]:
    """The terms whose first use is not linked, each with the words around it."""
    forms = {form: term for term in terms for form in (plain(term), plain(term) + "s", plain(term) + "es")}
    longest_first = sorted(forms, key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")
    seen: dict[str, str] = {}
    text = ""
    joined: list[tuple[str, bool]] = []
    for piece, linked in pieces(markdown):
        if linked:
            joined += [(text, False), (piece, True)]
            text = ""
        else:
            text += piece
    for piece, linked in [*joined, (text, False)]:
        if linked:
            seen.setdefault(forms.get(plain(piece), piece), "")
            continue
        for match in pattern.finditer(plain(piece)):
            seen.setdefault(forms[match[1]], plain(piece)[max(0, match.start() - 40) : match.end() + 40])
    return {term: around for term, around in seen.items() if around}


@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.title)
def test_first_use_of_each_term_is_linked(page: Part):
    assert not unlinked_terms(page.markdown, [term for term in TERMS if term not in EXEMPT])


def test_the_terms_are_sorted_and_each_exemption_is_a_term():
    assert sorted(TERMS, key=str.lower) == TERMS
    assert set(EXEMPT) <= set(TERMS)


def test_what_counts_as_prose():
    page = """
# On lags

The `lag` is in code, $lag$ in a formula, [this](#sec-lag) in a target; {ref}`lag <lag>` is another role.

:::{prf:theorem} The lag
:label: thm-lag

Two {term}`impulse responses <impulse response>`, one impulse.
:::

```python
lag
```

$$ lag $$ (eq-lag)

A shift-invariant map has taps. Taps and the {term}`lag`, two {term}`windows <window>`, a window.
"""
    terms = ["impulse", "impulse response", "lag", "shift invariant", "tap", "window"]
    assert list(unlinked_terms(page, terms)) == ["impulse", "shift invariant", "tap"]
