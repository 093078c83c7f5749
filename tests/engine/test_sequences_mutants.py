"""The usual mistakes in transforming arrays and in setting bad samples apart: some test catches each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import konvlib
from konvlib.images import sums
from konvlib.sequences import arrays
from tests.engine import test_images_ways as on_images
from tests.engine import test_sequences as on_sequences
from tests.engine import test_sequences_functions as on_functions
from tests.engine import test_sequences_operands as on_operands
from tests.engine.test_mutants import mutate, passes

MUTANTS = [
    ("spectra", "wrap-around falls on wanted values", "max(n + m - 1 - start, start + length)", "start + length"),
    ("spectra", "= for += where blocks overlap", "sums[..., 1:, : m - 1] += parts", "sums[..., 1:, : m - 1] = parts"),
    ("spectra", "what hangs over into the next blocks lost", "sums[..., : m - 1] += carry", "pass"),
    ("spectra", "blocks one too long", "step = size - (m - 1)", "step = size - (m - 2)"),
    ("spectra", "blocks reversed", "f.shape[:-1], count, step)", "f.shape[:-1], count, step)[..., ::-1]"),
    ("spectra", "limbs without sign", "low = (low ^ half) - half", "low = low - half"),
    ("spectra", "limbs one digit off", "sums << (self.bits * digit)", "sums << (self.bits * (digit + 1))"),
    ("spectra", "some pairs of limbs forgotten", "for k in pairs[1:]:", "for k in pairs[2:]:"),
    ("spectra", "cut in the precision of the operand", "part.astype(self.dtype, copy=False)", "part"),
    ("spectra", "powers of two not put back", "        values = values * power", "        pass"),
    ("spectra", "halves of long integers in one place", "[begin - first], sums)", "[begin], sums)"),
    ("finite", "infinity times zero is 0", "None, first) for bad, _", "abs(_signs(xp, other)), first) for bad, other"),
    ("finite", "infinities of both signs are one", "abs(signed) == terms", "abs(signed) >= terms - 2"),
    ("finite", "zero times infinity is no product", "abs(signed) == terms", "signed != 0"),
    ("finite", "sign of an infinity lost", "count(_signs(xp, bad) *", "count(abs(_signs(xp, bad)) *"),
    ("finite", "infinity has no sign", "xp.where(signed > 0, math.inf, -math.inf)", "math.inf"),
    ("finite", "finite samples counted too", "_signs(xp, bad) * xp.isinf(bad), ", "_signs(xp, bad), "),
    ("finite", "sign of the imaginary parts' product", "(a.imag, b.imag, -1)", "(a.imag, b.imag, 1)"),
    ("finite", "the square of i is one", "sign * count(", "count("),
    ("finite", "windows one too long", "-= until[..., :-1]", "-= np.roll(until, 1, -1)[..., :-1]"),
    ("finite", "the second operand's bad samples forgotten", "((a, b, True), (b, a, False))", "((a, b, True),)"),
]
FOLDERS = {"spectra": "sequences", "finite": "."}


def checks() -> list[Callable[[], None]]:
    operands, public = on_operands, konvlib.sequences
    bad = [
        lambda method=method, dtype=dtype: operands.test_bad_samples_reach_what_they_reach_in_the_direct_sum(
            method, dtype, np.asarray
        )
        for method, dtype in (("fft", "f8"), ("overlap-add", "c16"))
    ]
    return [
        lambda: on_sequences.test_every_method_agrees_within_rounding(public),
        lambda: operands.test_integers_of_any_size_are_exact_modulo_their_wrap("q"),
        lambda: operands.test_sums_that_overflow_are_infinite_and_others_are_not("f8", np.asarray),
        operands.test_a_narrow_operand_is_widened_before_it_is_transformed,
        operands.test_integers_in_parts_are_those_of_one_transform,
        *bad,
        lambda: on_images.test_what_is_not_finite_is_where_the_definition_has_it(sums),
        lambda: on_functions.test_all_axes_where_auto_transforms(public),
    ]


def passes_with(check: Callable[[], None], file: str, module: ModuleType) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        for owner in (arrays, sums) if file == "finite" else (arrays,):
            patch.setattr(owner, file, module)
        return passes(check)


@pytest.mark.parametrize("file", ["spectra", "finite"])
def test_an_unchanged_copy_passes(file: str, tmp_path: Path):
    same = "from __future__ import annotations"
    copy = mutate(FOLDERS[file], file, same, same, tmp_path)
    assert all(passes_with(check, file, copy) for check in checks())


@pytest.mark.parametrize("row", MUTANTS, ids=lambda row: row[1])
def test_the_mistake_is_caught(row: tuple[str, str, str, str], tmp_path: Path):
    file, mistake, old, new = row
    mutant = mutate(FOLDERS[file], file, old, new, tmp_path)
    assert not all(passes_with(check, file, mutant) for check in checks()), f"no test catches: {mistake}"
