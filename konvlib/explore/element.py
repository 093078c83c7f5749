"""What an explorable is in Python: an element of HTML, the module that draws it, and its state as text."""

from __future__ import annotations

import html
import operator
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SHARED = ("look", "kit", "arithmetic")
LINKS = re.compile(r"^import .*?;\n|^export (?=const|class|function)", re.M)

Numbers = Sequence[int]
Table = Sequence[Sequence[int]]


class Explorable:
    """A picture that the reader moves, as notebooks show it.

    Attributes
    ----------
    word : str
        Which one: the name of the function that made it.
    state : str
        What differs from its first state, as it stands in the address of a page that shows it.
    sentence : str
        What is seen.
    task : str or None
        The exercise that it judges.
    """

    def __init__(self, word: str, state: str, sentence: str, task: str | None = None) -> None:
        self.word, self.state, self.sentence, self.task = word, state, sentence, task

    def __repr__(self) -> str:
        return self.sentence

    @property
    def element(self) -> str:
        """The HTML element, without the module that draws it."""
        tag = f"kv-{self.word.replace('_', '-')}"
        given = {"state": self.state, "task": self.task}
        attributes = "".join(f' {name}="{html.escape(value)}"' for name, value in given.items() if value)
        return f'<{tag} class="kv-explorable"{attributes}>{html.escape(self.sentence)}</{tag}>'

    def _repr_html_(self) -> str:
        script = f'<script type="module" data-kv-explore="{self.word}">\n{module(self.word)}</script>'
        return f"{self.element}\n{script}"


@cache
def module(word: str) -> str:
    """Return the module of an explorable with all that it imports, as one text.

    Examples
    --------
    >>> "./kit.js" in module("strides")
    False
    """
    texts = [(FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in (*SHARED, word)]
    return "".join(LINKS.sub("", text) for text in texts)


def explorable(function: Callable[..., Explorable], given: dict[str, Any], sentence: str) -> Explorable:
    """Return what a function shows, from all that it was given and its sentence.

    Examples
    --------
    >>> from konvlib.explore import strides
    >>> explorable(strides, {**strides.__kwdefaults__, "s1": 1}, "A sentence.").state
    's1.1'
    """
    return Explorable(function.__name__, state_text(function, given), sentence, given["task"])


def state_text(function: Callable[..., Explorable], given: dict[str, Any]) -> str:
    """Return what differs from a function's defaults as it stands in an address.

    Examples
    --------
    >>> from konvlib.explore import strides
    >>> state_text(strides, {**strides.__kwdefaults__, "w1": [1, -2], "p": 1})
    'w1.1.-2*p.1'
    """
    defaults = {name: value for name, value in (function.__kwdefaults__ or {}).items() if name != "task"}
    changed = [name for name, default in defaults.items() if text_of(name, given[name]) != text_of(name, default)]
    return "*".join(f"{name}.{text_of(name, given[name])}" for name in changed)


def text_of(name: str, value: Any) -> str:
    """Return a value as it stands in an address: entries between points, rows between underscores.

    Examples
    --------
    >>> text_of("x", [[1, 2], [3, -4]])
    '1.2_3.-4'
    """
    if isinstance(value, str):
        return value
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, Sequence):
        return str(integer(name, value))
    if value and isinstance(value[0], Sequence):
        return "_".join(text_of(name, row) for row in value)
    return ".".join(str(integer(name, entry)) for entry in value)


def entries(name: str, values: Any) -> list[int]:
    """Return integers as a list, or name what holds another thing.

    Examples
    --------
    >>> entries("x", np.array([1, 2]))
    [1, 2]
    """
    return [integer(name, value) for value in values]


def integer(name: str, value: Any) -> int:
    """Return an integer, or name what holds another thing.

    Raises
    ------
    TypeError
        If the value is no integer.

    Examples
    --------
    >>> integer("s1", 2.5)
    Traceback (most recent call last):
    TypeError: s1 must hold integers, got 2.5
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must hold integers, got {value!r}") from None


def joined(things: Sequence[Any]) -> str:
    """Return things as a sentence lists them.

    Examples
    --------
    >>> joined([1, 2, 3])
    '1, 2 and 3'
    """
    *first, last = map(str, things)
    return f"{', '.join(first)} and {last}" if first else last
