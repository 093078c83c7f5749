"""The translation tables of book/translation.md: both cells of every row are evaluated, and must be equal.

What is compared is what the page prints. A row is true on every case of its table that meets its condition; outside the
condition some case must contradict it. TensorFlow is compared where it is installed; elsewhere konvlib is compared with
what TensorFlow gave once, which `python -m tests.book.test_conventions` stores.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.ndimage
import scipy.signal
import scipy.special

import konvlib

PAGE = Path(__file__).parents[2] / "book" / "translation.md"
STORED = Path(__file__).with_name("tensorflow_rows.json")
LIBRARIES = {
    "np": "numpy",
    "scipy": "scipy",
    "F": "torch",
    "torch": "torch",
    "jnp": "jax",
    "lax": "jax",
    "jax": "jax",
    "tf": "tensorflow",
}
Case = dict[str, Any]


# What the page calls a padded array, index by index.


def padded(x: np.ndarray, pairs: Any, mode: str) -> np.ndarray:
    (top, bottom), (left, right) = pairs
    result = np.zeros((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right), x.dtype)
    for i, j in np.ndindex(result.shape[2:]):
        source = [read_index(i - top, x.shape[2], mode), read_index(j - left, x.shape[3], mode)]
        if None not in source:
            result[:, :, i, j] = x[:, :, source[0], source[1]]
    return result


def read_index(i: int, n: int, mode: str) -> int | None:
    if 0 <= i < n:
        return i
    folded = abs((i + n - 1) % (2 * n - 2) - (n - 1))
    return {"zeros": None, "replicate": min(max(i, 0), n - 1), "reflect": folded, "circular": i % n}[mode]


# The cases: small integers in every geometry of a box, height other than width, channels in other than channels out.


def integers(*shape: int, scale: int = 1) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-9, 10, shape).astype(float) * scale


def sequence_cases() -> Iterator[Case]:
    for n, m, mode, real in product(range(1, 7), range(1, 7), ("full", "same", "valid"), (True, False)):
        f, g = integers(n, 2), integers(m, 3)
        f, g = (f[:, 0], g[:, 0]) if real else (f[:, 0] + 1j * f[:, 1], g[:, 0] + 1j * g[:, 1])
        yield {"f": f, "g": g, "N": n, "M": m, "mode": mode, "real": real}


def layer_cases() -> Iterator[Case]:
    box = product(((2, 3), (3, 2)), ((1, 1), (2, 1), (2, 3)), ((0, 0), (1, 2)), ((1, 1), (1, 2)), (1, 2))
    for k, s, p, d, groups in box:
        x, w = integers(2, 4, 7, 6), integers(8, 4 // groups, *k)
        if s != (1, 1) and d != (1, 1):
            continue
        yield {
            "x": x, "w": w, "k": k, "s": s, "p": p, "d": d, "groups": groups, "pp": ((p[0], 1), (p[1], 0)),
            "N": 2, "C": 4, "H": 7, "W": 6,
        }  # fmt: skip


def transposed_cases() -> Iterator[Case]:
    box = product(((2, 3), (3, 2)), ((1, 1), (2, 1), (2, 3)), ((0, 0), (1, 1)), (0, 1), ((1, 1), (1, 2)), (1, 2))
    for k, s, p, extra, d, groups in box:
        op = tuple(extra if step > 1 else 0 for step in s)
        x, v = integers(2, 4, 3, 5), integers(4, 6 // groups, *k)
        size = [(n - 1) * step + taps + more for n, step, taps, more in zip((3, 5), s, k, op, strict=True)]
        out = [n + (gap - 1) * (taps - 1) - 2 * side for n, gap, taps, side in zip(size, d, k, p, strict=True)]
        yield {
            "x": x, "v": v, "k": k, "s": s, "p": p, "op": op, "d": d, "groups": groups, "size": size, "out": out,
            "N": 2, "H": 3, "W": 5,
        }  # fmt: skip


def pooling_cases() -> Iterator[Case]:
    box = product(((2, 3), (3, 2)), ((1, 1), (2, 1), (3, 2)), ((0, 0), (1, 1)), ((1, 1), (2, 1)), (True, False))
    for k, s, p, d, ceil in box:
        x = integers(2, 3, 7, 6, scale=2520)
        for inside in (True, False):
            yield {"x": x, "k": k, "s": s, "p": p, "d": d, "ceil": ceil, "inside": inside, "H": 7, "W": 6}


def gradient_cases() -> Iterator[Case]:
    for case in layer_cases():
        options = {"stride": case["s"], "padding": case["p"], "dilation": case["d"], "groups": case["groups"]}
        yield case | {"dy": integers(*konvlib.conv2d(case["x"], case["w"], **options).shape)}


def konvolution_cases() -> Iterator[Case]:
    for case, degree in product(layer_cases(), (0, 1, 3)):
        if case["groups"] == 1:
            x, kappa = integers(2, 3, 7, 6), integers(4, degree + 1, 3, *case["k"])
            yield case | {"x": x, "kappa": kappa, "degree": degree, "zeros": not any(case["p"])}


CASES = {
    "S": sequence_cases,
    "L": layer_cases,
    "M": layer_cases,
    "X": layer_cases,
    "T": transposed_cases,
    "P": pooling_cases,
    "G": gradient_cases,
    "D": sequence_cases,
    "K": konvolution_cases,
}


# The page: its rows, its helper functions, and their evaluation.


@dataclass(frozen=True)
class Row:
    name: str
    named: str
    theirs: str
    ours: str
    when: str

    @property
    def library(self) -> str:
        return next(LIBRARIES[word] for word in re.findall(r"\w+", self.theirs) if word in LIBRARIES)


def read_rows(markdown: str) -> list[Row]:
    pattern = re.compile(r"^\| ([A-Z]\d+) \| (\w+) \| `([^`]+)` \| `([^`]+)` \|(?: (?:`([^`]+)` )?\|)?$", re.M)
    return [Row(*(cell or "" for cell in found.groups())) for found in pattern.finditer(markdown)]


ROWS = read_rows(PAGE.read_text(encoding="utf-8"))


@cache
def modules(library: str) -> dict[str, Any]:
    """The names that a cell of one library may use."""
    names: dict[str, Any] = {"np": np, "scipy": scipy}
    if library == "torch":
        names["torch"] = pytest.importorskip("torch")
        names["F"] = names["torch"].nn.functional
    if library == "jax":
        names |= {"jax": pytest.importorskip("jax"), "jnp": importlib.import_module("jax.numpy")}
        importlib.import_module("jax.scipy.signal")
        names["lax"] = names["jax"].lax
    if library == "tensorflow":
        names["tf"] = pytest.importorskip("tensorflow")
    helpers = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(helpers[1], names)
    return names


def cases_of(row: Row) -> list[Case]:
    """The cases of a row's table, each once as far as the row can tell them apart."""
    words = set(re.findall(r"\w+", f"{row.theirs} {row.ours} {row.when}"))
    seen = {}
    for case in CASES[row.name[0]]():
        used = {name: value for name, value in case.items() if name in words}
        seen.setdefault(repr([(n, v.tobytes() if isinstance(v, np.ndarray) else v) for n, v in used.items()]), used)
    return list(seen.values())


def our_names() -> dict[str, Any]:
    return {name: getattr(konvlib, name) for name in konvlib.__all__} | {"padded": padded}


def as_library(value: Any, library: str) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if library == "torch":
        return importlib.import_module("torch").from_numpy(value.copy())
    if library == "jax":
        return importlib.import_module("jax.numpy").asarray(value)
    if library == "tensorflow":
        narrow = np.complex64 if np.iscomplexobj(value) else np.float32
        return importlib.import_module("tensorflow").constant(value.astype(narrow))
    return value


def cells_agree(row: Row, case: Case) -> bool:
    theirs = {name: as_library(value, row.library) for name, value in case.items()}
    try:
        got = np.asarray(eval(row.theirs, {**modules(row.library), **theirs}))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, *foreign_errors(row.library)):
        if holds(row, case):
            raise
        return False
    expected = eval(row.ours, {**modules(row.library), **our_names(), **case})
    return got.shape == expected.shape and bool(np.array_equal(got, expected))


def foreign_errors(library: str) -> tuple[type[Exception], ...]:
    return (importlib.import_module("tensorflow").errors.OpError,) if library == "tensorflow" else ()


def holds(row: Row, case: Case) -> bool:
    return not row.when or bool(eval(row.when, dict(case)))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_both_cells_are_equal(row: Row):
    modules(row.library)
    inside = [case for case in cases_of(row) if holds(row, case)]
    wrong = [case for case in inside if not cells_agree(row, case)]
    assert inside, f"{row.name}: no case meets {row.when}"
    if wrong:
        pytest.fail(f"{row.name}: {row.theirs} is not {row.ours} in {len(wrong)} of {len(inside)} cases: {wrong[0]}")


@pytest.mark.parametrize("row", [row for row in ROWS if row.when], ids=lambda row: row.name)
def test_each_condition_is_needed(row: Row):
    modules(row.library)
    outside = [case for case in cases_of(row) if not holds(row, case)]
    assert any(not cells_agree(row, case) for case in outside), f"{row.name} holds without {row.when}"


def test_every_line_of_the_tables_is_a_row():
    lines = re.findall(r"^\| ([A-Z]\d+) \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert lines == [row.name for row in ROWS]
    assert len(set(lines)) == len(lines)
    assert set(CASES) == {name[0] for name in lines}
    assert not [row.name for row in ROWS if row.named.lower().replace("pytorch", "torch") != row.library]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("np.convolve(f, g, mode)", "correlate(f, g, mode=mode)"),
        ("np.correlate(f, g, mode)", "correlate(f, np.conj(g), mode=mode)"),
        ("scipy.signal.convolve(f, g, mode)", "convolve(f, g, mode=mode)"),
    ],
)
def test_a_false_row_is_caught(theirs: str, ours: str):
    row = SimpleNamespace(name="S0", named="NumPy", theirs=theirs, ours=ours, when="", library="numpy")
    assert not all(cells_agree(row, case) for case in sequence_cases())


# TensorFlow, which is not installed: what it gave once.


def stored_cases(row: Row) -> list[Case]:
    """A few of a row's cases, spread over all that meet its condition."""
    inside = [case for case in cases_of(row) if holds(row, case)]
    return inside[:: max(1, len(inside) // 6)][:6]


TENSORFLOW = [row for row in ROWS if row.library == "tensorflow"]


@pytest.mark.parametrize("row", TENSORFLOW, ids=lambda row: row.name)
def test_konvlib_equals_what_tensorflow_gave(row: Row):
    gave = json.loads(STORED.read_text(encoding="utf-8"))["rows"][row.name]
    assert gave["expression"] == row.theirs, "the row has changed: store it anew"
    cases = stored_cases(row)
    assert len(gave["results"]) == len(cases) > 0
    for case, result in zip(cases, gave["results"], strict=True):
        expected = eval(row.ours, {"np": np, **our_names(), **case})
        assert np.array_equal(np.reshape(result["values"], result["shape"]), expected)


def test_the_page_names_the_version_that_was_stored():
    version = json.loads(STORED.read_text(encoding="utf-8"))["version"]
    assert f"TensorFlow {version}" in PAGE.read_text(encoding="utf-8")


def store() -> None:
    """Run TensorFlow's rows, and keep what it gave."""
    tensorflow = importlib.import_module("tensorflow")
    rows = {}
    for row in TENSORFLOW:
        results = []
        for case in stored_cases(row):
            theirs = {name: as_library(value, "tensorflow") for name, value in case.items()}
            result = np.asarray(eval(row.theirs, {**modules("tensorflow"), **theirs}))
            results.append({"shape": result.shape, "values": result.ravel().tolist()})
        rows[row.name] = {"expression": row.theirs, "results": results}
    content = {"version": tensorflow.__version__, "rows": rows}
    STORED.write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    store()
