"""The judge of exercises: no answer, a wrong one, one that fails, and the right one are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from konvlib.judge import judge

CASES = [((5, 3), 7), ((1, 1), 1)]


@pytest.mark.parametrize(
    ("answer", "verdict", "sentence"),
    [
        (lambda N, M: None, None, "Not yet: <lambda> returned nothing.\n"),
        (lambda N, M: N + M - 1, True, "Right on all 2 cases.\n"),
        (lambda N, M: np.int64(N + M - 1), True, "Right on all 2 cases.\n"),
        (lambda N, M: 7, False, "Not right: <lambda>(1, 1) gave 7, and 1 is right.\n"),
        (lambda N, M: [7], False, "Not right: <lambda>(5, 3) gave [7], and 7 is right.\n"),
        (lambda N, M: 1 // 0, False, "Not right: <lambda>(5, 3) raised ZeroDivisionError: "),
    ],
)
def test_it_tells_answers_apart(answer, verdict, sentence, capsys):
    assert judge(answer, CASES) is verdict
    assert capsys.readouterr().out.startswith(sentence)


def test_arrays_are_compared_whole_and_exactly(capsys):
    right = np.array([1.0, 2.0])
    assert judge(lambda x: x, [((right,), [1, 2])])
    assert judge(lambda x: x + 2**-50, [((right,), [1, 2])]) is False
    assert judge(lambda x: x[None], [((right,), [1, 2])]) is False
    assert judge(lambda x: [[1], [1, 2]], [((right,), [1, 2])]) is False
    assert capsys.readouterr().out.startswith("Right on the one case.\nNot right: <lambda>([1.0, 2.0]) gave ")


def test_without_a_case_nothing_is_judged():
    with pytest.raises(ValueError, match="cases must hold at least one pair"):
        judge(len, [])
