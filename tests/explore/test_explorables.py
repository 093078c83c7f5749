"""Each explorable as a reader uses it, in Chromium, and against the engine.

``==`` throughout, on integers: what an explorable computes is compared with konvlib on random states, and what it
copies is run and compared with what it shows.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

import pytest

from konvlib import explore
from konvlib.explore.element import FOLDER, SHARED, state_text
from tests.book.browsing import opened
from tests.explore.cases import WORDS, cases

pytestmark = pytest.mark.browser
VECTORS = 1000
MOST_BYTES = 25_000
MOST_MILLISECONDS = 50
NARROW = {"width": 375, "height": 900}

every_word = pytest.mark.parametrize("word", WORDS)


class Shown:
    """An explorable on a page of its own."""

    def __init__(self, browser: Any, address: str, word: str, query: str = "", **context: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.word = word
        self.page = opened(browser, f"{address}{word}.html?{query}", self, **context)
        self.element = self.page.locator(f"kv-{word.replace('_', '-')}")

    def run(self, script: str, argument: Any = None) -> Any:
        """Run a function of the element and of an argument."""
        return self.element.evaluate(f"(shown, given) => {{ {script} }}", argument)

    def button(self, name: str) -> Any:
        return self.element.get_by_role("button", name=name, exact=True)


@pytest.fixture
def show(browser: Any, modules: str) -> Iterator[Any]:
    """Open explorables, and find no complaint of the browser's at the end."""
    found: list[Shown] = []

    def shown(word: str, query: str = "", **context: Any) -> Shown:
        found.append(Shown(browser, modules, word, query, **context))
        return found[-1]

    yield shown
    for one in found:
        assert not one.complaints
        one.page.close()


def defaults_of(word: str) -> dict[str, Any]:
    return {name: value for name, value in getattr(explore, word).__kwdefaults__.items() if name != "task"}


def text_of(word: str, state: dict[str, Any]) -> str:
    return getattr(explore, word)(**state).state


@every_word
def test_python_and_the_page_begin_with_the_same_state(word: str, show: Any):
    start = show(word).run("return shown.constructor.start")
    assert json.loads(json.dumps(defaults_of(word))) == start


@every_word
def test_what_it_computes_is_what_the_engine_computes(word: str, show: Any):
    known = cases(word)
    states = list(islice(known.states(Random(1)), VECTORS))
    script = """return given.map((text) => {
        shown.state = structuredClone(shown.constructor.start);
        const refused = shown.read(text);
        return refused ?? JSON.stringify(shown.result(shown.compute(shown.state)));
    })"""
    found = show(word).run(script, [text_of(word, state) for state in states])
    for state, result in zip(states, found, strict=True):
        assert json.loads(result) == known.engine(defaults_of(word) | state), state


@every_word
def test_a_link_restores_the_state(word: str, show: Any):
    for state in islice(cases(word).states(Random(2)), 3):
        text = text_of(word, state)
        first = show(word, f"{word}={text}")
        assert first.run("return shown.note.textContent") == ""  # nothing was refused
        link = first.run("return shown.link")
        again = show(word, link.partition("?")[2])
        assert again.run("return shown.text") == first.run("return shown.text")
        assert again.run("return shown.result(shown.model)") == first.run("return shown.result(shown.model)")


@every_word
@pytest.mark.parametrize("library", ["NumPy", "PyTorch"])
def test_the_copied_code_gives_what_is_shown(word: str, library: str, show: Any):
    shown = show(word)
    presets = shown.run("return Object.keys(shown.constructor.presets)")
    for preset in [None, *presets]:
        if preset:
            shown.button(preset).click()
        shown.button(f"Copy {library}").click()
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(shown.run("return shown.copied"), f"{word} {preset}", "exec"), {"__name__": "copied"})
        assert json.loads(printed.getvalue()) == shown.run("return shown.result(shown.model)"), preset


@every_word
def test_what_cannot_be_is_refused_in_the_words_of_the_engine(word: str, show: Any):
    for state in cases(word).REFUSALS:
        with pytest.raises(ValueError) as refused:  # noqa: PT011 - its words are what is compared
            getattr(explore, word)(**state)
        text = state_text(getattr(explore, word), defaults_of(word) | state)
        shown = show(word, f"{word}={text}")
        assert shown.element.get_by_text("This cannot be").text_content() == f"This cannot be: {refused.value}."
        assert shown.button("Play").is_disabled()


@every_word
def test_a_link_that_makes_no_sense_is_said(word: str, show: Any):
    shown = show(word, f"{word}=nothing.1")
    assert "'nothing' is nothing that can be set here" in shown.element.get_by_role("status").all_text_contents()
    assert shown.run("return shown.text") == ""


@every_word
def test_it_is_driven_by_the_keyboard_and_speaks(word: str, show: Any):
    shown = show(word)
    start = show_words(shown)
    shown.button("One step on").focus()
    shown.page.keyboard.press("Enter")
    assert show_words(shown) != start
    at = shown.run("return shown.at")
    shown.button("One step back").focus()
    shown.page.keyboard.press("Space")
    assert shown.run("return shown.at") == at - 1
    chosen = shown.element.locator("[aria-selected=true]").first
    chosen.focus()
    shown.page.keyboard.press("End")
    selected = shown.run("return shown.shadowRoot.activeElement.getAttribute('aria-selected')")
    assert selected == "true"
    tree = shown.element.aria_snapshot()
    assert shown.run("return shown.constructor.title") in tree
    assert shown.run("return shown.shadowRoot.activeElement.getAttribute('aria-label')")
    field = shown.element.locator("input.n, input[type=range]").first
    before = field.input_value()
    field.focus()
    shown.page.keyboard.press("ArrowUp")
    assert field.input_value() == str(int(before) + 1)
    assert shown.run("return shown.shadowRoot.activeElement.value") == str(int(before) + 1)


def show_words(shown: Shown) -> str:
    return shown.element.locator(".say").text_content()


@every_word
def test_it_plays_and_pauses(word: str, show: Any):
    shown = show(word)
    steps = shown.run("return shown.steps(shown.model)")
    assert steps > 2
    shown.run("shown.go(0)")
    shown.button("Play").click()
    shown.page.wait_for_function("shown => shown.at > 0", arg=shown.element.element_handle(), timeout=4000)
    shown.button("Pause").click()
    assert shown.run("return shown.timer") is None
    assert shown.button("Play").count() == 1


@every_word
def test_a_prediction_is_hidden_and_judged_exactly(word: str, show: Any):
    shown = show(word)
    answer = shown.run("return shown.question(shown.model).answer")
    shown.button("Predict").click()
    assert show_words(shown) == ""
    field = shown.element.locator(".guess input")
    field.fill(str(answer + 1))
    shown.button("Check").click()
    assert shown.element.locator(".guess").get_by_text(f"Not {answer + 1}".replace("-", "−")).count() == 1
    field.fill(str(answer))
    shown.page.keyboard.press("Enter")
    assert shown.element.get_by_text("Right:").count() == 1
    assert show_words(shown) != ""


@every_word
def test_its_tasks_are_not_solved_before_they_are(word: str, show: Any):
    solutions = cases(word).SOLUTIONS
    assert sorted(solutions) == sorted(show(word).run("return Object.keys(shown.constructor.tasks)"))
    assert len(solutions) >= 2
    for task, text in solutions.items():
        shown = show(word, f"task={task}")
        assert shown.element.locator(".verdict").text_content() == "Not yet."
        shown.run("shown.state = structuredClone(shown.constructor.start); shown.read(given); shown.paint()", text)
        assert shown.element.locator(".verdict").text_content().startswith("Right."), task


@every_word
def test_it_fits_a_phone_and_axe_finds_nothing(word: str, show: Any):
    from axe_playwright_python.sync_playwright import Axe

    shown = show(word, "dark", viewport=NARROW)
    presets = shown.run("return Object.keys(shown.constructor.presets)")
    for preset in presets:
        shown.button(preset).click()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], preset
    for one, theme in ((shown, "dark"), (show(word), "light")):
        assert one.run("return shown.getAttribute('mode')") == theme
        for asking in (False, True):
            if asking:
                one.button("Predict").click()
            wrong = Axe().run(one.page).response["violations"]
            assert not [(found["id"], found["nodes"][0]["html"]) for found in wrong]


@every_word
def test_it_is_light(word: str):
    weight = sum(len(gzip.compress((FOLDER / f"{name}.js").read_bytes())) for name in (*SHARED, word))
    assert weight < MOST_BYTES


@pytest.mark.slow
@every_word
def test_it_answers_at_once(word: str, show: Any):
    """On a processor slowed four times; alone on a machine, since times depend on what else runs."""
    shown = show(word)
    shown.page.context.new_cdp_session(shown.page).send("Emulation.setCPUThrottlingRate", {"rate": 4})
    script = """const times = [];
        for (let step = 0; step < 15; step += 1) {
            const begin = performance.now();
            shown.go(step % shown.steps(shown.model));
            shown.getBoundingClientRect();
            times.push(performance.now() - begin);
        }
        return times.sort((a, b) => a - b)"""
    times = shown.run(script)
    assert times[len(times) // 2] < MOST_MILLISECONDS, times


@every_word
def test_the_modules_of_a_notebook_are_one_text_that_runs(word: str, browser: Any):
    page = browser.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_content(f"<main>{getattr(explore, word)()._repr_html_()}</main>")
    element = page.locator(f"kv-{word.replace('_', '-')}")
    element.evaluate("shown => customElements.whenDefined(shown.localName)")
    assert element.evaluate("shown => shown.shadowRoot.querySelector('.say').textContent")
    assert not problems
    page.close()


@every_word
def test_on_paper_its_controls_are_gone(word: str, show: Any):
    shown = show(word)
    shown.page.emulate_media(media="print")
    assert shown.element.get_by_role("button").count() == 0
    assert shown.element.locator(".say").is_visible()
