"""Pictures that hold their place before they are loaded, and stay legible on a phone.

Each picture of a page gets its width and height, read from its file, and a box of its own. A figure whose smallest
letters would shrink below `LEGIBLE` pixels on a phone gets the width at which they do not: there its box scrolls.
"""

from __future__ import annotations

import re
from pathlib import Path

import imagesize
from hooks import change_bodies
from sphinx.application import Sphinx

LEGIBLE = 9
PIXELS = {"pt": 4 / 3, "px": 1.0, "": 1.0}
PICTURE = re.compile(r'<img\b[^>]*\bsrc="(?:\.\./)*_images/([^"]+)"[^>]*>')
ROOT = re.compile(r"<svg\b[^>]*>")
LENGTH = {side: re.compile(rf'\b{side}="([\d.]+)(pt|px|)"') for side in ("width", "height")}
LETTERS = re.compile(r"scale\(([\d.]+) -[\d.]+\)")


def size(path: Path) -> tuple[float, float]:
    """Return width and height of a picture in pixels."""
    if path.suffix != ".svg":
        return imagesize.get(path)
    root = ROOT.search(path.read_text(encoding="utf-8"))[0]
    width, height = (LENGTH[side].search(root) for side in ("width", "height"))
    return float(width[1]) * PIXELS[width[2]], float(height[1]) * PIXELS[height[2]]


def least_width(path: Path) -> float:
    """Return the width that a drawing by Matplotlib needs for its smallest letters; scripts are not counted."""
    letters = LETTERS.findall(path.read_text(encoding="utf-8")) if path.suffix == ".svg" else []
    smallest = min((float(scale) * 100 * PIXELS["pt"] for scale in letters), default=None)
    return size(path)[0] * min(1.0, LEGIBLE / smallest) if smallest else 0


def boxed(tag: str, path: Path) -> str:
    """Return a picture's tag with its size, in a box."""
    width, height = size(path)
    least = least_width(path)
    style = f' style="--kv-least: {least:.0f}px"' if least else ""
    sized = "" if " width=" in tag else f' width="{width:.0f}" height="{height:.0f}"'
    return f'<span class="kv-picture">{tag.removesuffix("/>").removesuffix(">").rstrip()}{sized}{style}></span>'


def give_sizes(app: Sphinx, page: str, body: str) -> str:
    """Return a page with its pictures in boxes."""
    sources = {name: Path(app.srcdir, source) for source, name in getattr(app.builder, "images", {}).items()}

    def found(tag: re.Match[str]) -> str:
        return boxed(tag[0], sources[tag[1]]) if tag[1] in sources else tag[0]

    return PICTURE.sub(found, body)


def setup(app: Sphinx) -> dict[str, bool]:
    """Look at every page."""
    change_bodies(app, give_sizes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
