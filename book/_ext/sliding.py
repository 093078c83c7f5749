"""The first page's picture: a kernel slides over a sequence, and the convolution appears below it, sum by sum.

The numbers are konvlib's. The picture moves once and stays; where motion is not wanted it is complete from the start.
``python book/_ext/sliding.py`` draws ``book/_static/sliding.svg`` anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import konvlib
from konvlib import figures

F, G = [1, 3, 2, 0, 4], [2, 1, -1]
CELL, LEFT, STEP = 56, 96, 0.7
"""Pixels of a cell, pixels left of the first column, and seconds that the kernel rests at a place."""

ROWS = {"kernel": 40, "input": 112, "sum": 214, "output": 240}
"""The upper edge of each row."""


def cell(column: float, top: float, value: int, role: str, extra: str = "") -> str:
    """Return a square with a number in it."""
    x = LEFT + column * CELL
    text = figures.number(value)
    return (
        f'<g{extra}><rect x="{x:g}" y="{top:g}" width="{CELL}" height="{CELL}" fill="{figures.tint(role)}" '
        f'stroke="{figures.shade(role)}"/><text x="{x + CELL / 2:g}" y="{top + CELL / 2 + 7:g}">{text}</text></g>'
    )


def sums() -> list[str]:
    """Return the sum that each place of the kernel stands for, as it is written."""
    result = konvlib.convolve(F, G)
    lines = []
    for i, value in enumerate(result):
        terms = [(F[j], G[i - j]) for j in range(len(F)) if 0 <= i - j < len(G)]
        assert sum(a * b for a, b in terms) == value
        products = " + ".join(f"{figures.number(a)}·{bracketed(b)}" for a, b in terms)
        lines.append(f"{products} = {figures.number(int(value))}")
    return lines


def bracketed(value: int) -> str:
    """Return a factor, in brackets where it is negative."""
    return f"({figures.number(value)})" if value < 0 else figures.number(value)


def parts() -> Iterator[str]:
    """Yield the pieces of the picture from back to front."""
    result = konvlib.convolve(F, G)
    reach = len(G) - 1
    labels = {"kernel": "kernel, flipped", "input": "input", "output": "output"}
    for role, label in labels.items():
        yield f'<text class="label" x="{LEFT}" y="{ROWS[role] - 8}" fill="{figures.shade(role)}">{label}</text>'
    for j, value in enumerate(F):
        yield cell(j + reach, ROWS["input"], value, "input")
    flipped = [cell(u, ROWS["kernel"], value, "kernel") for u, value in enumerate(reversed(G))]
    yield f'<g class="kernel">{"".join(flipped)}</g>'
    frame = LEFT - 3, ROWS["input"] - 3, len(G) * CELL + 6, CELL + 6
    yield '<rect class="kernel frame" x="{}" y="{}" width="{}" height="{}"/>'.format(*frame)
    for i, (line, value) in enumerate(zip(sums(), result, strict=True)):
        delay = f'style="animation-delay: {i * STEP:g}s"'
        kind = "sum last" if i == len(result) - 1 else "sum"
        yield f'<text class="{kind}" x="{LEFT + 4.5 * CELL:g}" y="{ROWS["sum"]}" {delay}>{line}</text>'
        yield cell(i + reach / 2, ROWS["output"], int(value), "output", f' class="result" {delay}')


def slide() -> str:
    """Return the keyframes of the kernel: at rest in each place, then one cell further."""
    places = len(F) + len(G) - 1
    stops = []
    for i in range(places):
        start, end = 100 * i / places, 100 * (i + 0.7) / places
        stops.append(f"{start:.2f}%, {end:.2f}% {{ transform: translateX({i * CELL}px); }}")
    return "\n".join([*stops, f"100% {{ transform: translateX({(places - 1) * CELL}px); }}"])


def picture() -> str:
    """Return the whole SVG."""
    places = len(F) + len(G) - 1
    width, height = LEFT + 9 * CELL + 24, ROWS["output"] + CELL + 12
    style = f"""
text {{ font: 22px "DejaVu Sans", Verdana, sans-serif; text-anchor: middle; fill: {figures.INK}; }}
.label {{ font-size: 15px; text-anchor: start; }}
.sum {{ font-size: 19px; opacity: 0; animation: show {STEP:g}s step-end forwards; }}
.sum.last {{ animation: appear 0.1s forwards; }}
.result {{ opacity: 0; animation: appear 0.2s forwards; }}
.frame {{ fill: none; stroke: {figures.shade("kernel", 0.85)}; stroke-width: 3; stroke-dasharray: 9 4; }}
.kernel {{ animation: slide {places * STEP:g}s both; }}
@keyframes slide {{
{slide()}
}}
@keyframes show {{ from {{ opacity: 1; }} to {{ opacity: 0; }} }}
@keyframes appear {{ from {{ opacity: 0; }} to {{ opacity: 1; }} }}
@media (prefers-reduced-motion: reduce), print {{
* {{ animation-duration: 1ms !important; animation-delay: 0s !important; }}
}}"""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{style}\n</style>\n" + "\n".join(parts()) + "\n</svg>\n"
    )


if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("_static", "sliding.svg").write_text(picture(), encoding="utf-8")
