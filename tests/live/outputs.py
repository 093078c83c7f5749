"""What cells print: the stored, and what comes of running them elsewhere."""

from __future__ import annotations

import re
from typing import Any

import laboratory


def text_of(data: dict[str, Any]) -> str:
    """What a shown value says in words; of a figure, nothing."""
    if any(kind.startswith("image/") for kind in data):
        return ""
    return "".join(data.get("text/markdown", data.get("text/plain", "")))


def printed(cell: dict[str, Any]) -> str:
    """What a cell printed, the text of its values, and its error."""
    texts = []
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            texts.append(f"{output['ename']}: {output['evalue']}")
        elif "text" in output:
            texts.append("".join(output["text"]) if output["name"] == "stdout" else "")
        else:
            texts.append(text_of(output.get("data", {})))
    return "".join(texts).strip()


def differences(stored: dict[str, Any], found: dict[str, str]) -> list[tuple[str, str, str]]:
    """The cells of a notebook that print something else than is stored: each with what is stored, and what was printed.

    A cell that needs what is not there must say so. Where times are measured, figures may differ.
    """
    wrong = []
    for cell in stored["cells"]:
        if cell["cell_type"] != "code":
            continue
        tags, before, now = set(cell["metadata"].get("tags", [])), printed(cell), found[cell["id"]]
        if tags & set(laboratory.ELSEWHERE):
            right = now.startswith("This cell needs ")
        elif "nbval-ignore-output" in tags:
            right = without_figures(now) == without_figures(before)
        else:
            right = now == before
        if not right:
            wrong.append((cell["id"], before, now))
    return wrong


def without_figures(text: str) -> list[str]:
    """The words of a text, its figures replaced by one."""
    return re.sub(r"\d[\d,.]*", "0", text).split()
