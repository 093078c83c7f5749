"""The table of what is known of every kernel without a device: ``benchmarks/results/sm_90-offline.json``.

``python -m benchmarks.offline`` writes it, the tests hold it to limits, and the book shows it. A row has the key of
what it was compiled of, so what a change to a kernel leaves as it was is not compiled again.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import triton
from tqdm import tqdm

from tests.kernels import launches
from tests.kernels.offline import (
    boxes,
    columns,
    compiling,
    halo,
    halo_balanced,
    halo_beside,
    layers,
    pooling,
    preparation,
    runs,
    sequences,
)
from tests.kernels.offline.compiling import Row

FAMILIES = {
    "sequences": sequences,
    "layers": layers,
    "boxes": boxes,
    "runs": runs,
    "halo": halo,
    "halo, degrees side by side": halo_beside,
    "halo, equal shares": halo_balanced,
    "columns of degrees": columns,
    "preparation": preparation,
    "pooling and columns": pooling,
}
"""Modules with ``ROWS``: the kernels of a part of the library, with every tile that their launchers may choose."""

PATH = Path(__file__).parents[3] / "benchmarks" / "results" / "sm_90-offline.json"
FIGURES = {"spilled": 1, "shared": 1, "waits": 1, "drains": 1, "instructions": 1.02}
"""What should not grow, and how much is allowed: the assembler orders instructions by chance."""

TOGETHER = 8
"""How many rows a compiler is started for: so many are lost at most if it is stopped."""


def every_row() -> dict[str, tuple[str, Row]]:
    """Return every row after the name of its family, by its own name."""
    return {row.name: (family, row) for family, module in FAMILIES.items() for row in module.ROWS}


def read(path: Path = PATH) -> dict[str, Any]:
    """Return the table, or one without rows where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"launches": {}, "rows": []}


def write(table: dict[str, Any], path: Path = PATH) -> None:
    """Write a table, each row on a line of its own; whoever reads meanwhile sees the one before."""
    facts = json.dumps({name: value for name, value in table.items() if name != "rows"}, indent=1)
    body = ",\n".join(json.dumps(row) for row in table["rows"])
    draft = path.with_suffix(".part")
    draft.write_text(f'{facts[:-2]},\n "rows": [\n{body}\n ]\n}}\n', encoding="utf-8")
    os.replace(draft, path)


def stale(table: dict[str, Any], keys: dict[str, str]) -> list[str]:
    """Return the rows that are not of the sources that stand here: changed, new, or of a kernel that is gone."""
    known = {row["name"]: row["key"] for row in table["rows"]}
    return [name for name in {**known, **keys} if known.get(name) != keys.get(name)]


def update(path: Path = PATH, processes: int = 1) -> tuple[int, list[str]]:
    """Compile the rows whose key is not the table's, and write the table after each few.

    Returns how many there were, and what became worse than the table says.
    """
    rows, before = every_row(), {row["name"]: row for row in read(path)["rows"]}
    keys = compiling.keys([row for _, row in rows.values()])
    known = {name: row for name, row in before.items() if row["key"] == keys.get(name)}
    missing = [row for name, (_, row) in rows.items() if name not in known]
    facts = {"target": f"sm_{compiling.HOPPER}", "triton": triton.__version__, "launches": launches.of_calls()}
    parts = [missing[begin : begin + TOGETHER] for begin in range(0, len(missing), TOGETHER)]
    with ThreadPoolExecutor(processes) as pool, tqdm(total=len(missing), desc="kernels") as progress:
        for done in as_completed([pool.submit(compiling.figures, part) for part in parts]):
            for name, found in done.result().items():
                known[name] = {"name": name, "family": rows[name][0], "key": keys[name], **found}
            progress.update(len(done.result()))
            both = {**before, **known}  # what is stale stays until it is compiled again
            write({**facts, "rows": [both[name] for name in rows if name in both]}, path)
    write({**facts, "rows": [known[name] for name in rows]}, path)
    changed = [row.name for row in missing if row.name in before]
    return len(missing), [line for name in changed for line in worse(before[name], known[name])]


def worse(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return a line for each figure of a row that grew: by more than two in a hundred, where that may be by chance.

    Examples
    --------
    >>> before = dict.fromkeys(FIGURES, 100) | {"name": "conv"}
    >>> worse(before, before | {"instructions": 102, "registers": 90, "waits": 101})
    ['conv: waits 101, were 100']
    >>> worse(before, before | {"instructions": 103})
    ['conv: instructions 103, were 100']
    """
    return [
        f"{now['name']}: {name} {now[name]}, were {before[name]}"
        for name, allowed in FIGURES.items()
        if now[name] > allowed * before[name]
    ]


def figures(rows: list[Row], keys: dict[str, str], path: Path = PATH) -> dict[str, dict[str, Any]]:
    """Return the figures of rows: of the table where they stand there as they are, else compiled now."""
    known = {row["name"]: row for row in read(path)["rows"] if row["key"] == keys.get(row["name"])}
    return {row.name: known[row.name] for row in rows if row.name in known} | compiling.figures(
        [row for row in rows if row.name not in known]
    )
