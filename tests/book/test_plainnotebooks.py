"""Copies of the notebooks for JupyterLab and Colab: the site's numbers and plain links."""

from __future__ import annotations

from plainnotebooks import Plain, references, write_unless_edited
from sitenumbers import Thing, numbers_of_page

from tests.book.pages import ROOT

HERE, THERE = "notebooks/2_images/output_size", "notebooks/1_sequences/modes"
THINGS = {
    "thm-here": Thing("Theorem 2.1", HERE, "thm-here"),
    "thm-there": Thing("Theorem 1.8", THERE, "thm-there"),
    "eq-here": Thing("(2.3)", HERE, "equation-eq-here"),
    "ex-here": Thing("Exercise 2.4", HERE, "ex-here"),
    "fig-here": Thing("Fig. 2.2", HERE, "fig-here"),
}
PLAIN = Plain(HERE, THINGS, {THERE: "Full, same, valid"}, {"knuth1997": "Knuth (1997)"})


def test_numbers_are_read_from_the_site():
    page = """
    <figure id="fig-a"><img src="a.svg"><br/><figcaption><p><span class="caption-number">Fig. 1.1 </span>
    <span class="caption-text">x</span></p></figcaption></figure>
    <div class="math" id="equation-eq-b"><span class="eqno">(1.2)<a href="#equation-eq-b">#</a></span>x</div>
    <section id="s"><p>None.</p></section>"""
    assert numbers_of_page(page) == {"fig-a": "Fig. 1.1", "equation-eq-b": "(1.2)"}


def test_references_become_links_with_the_numbers_of_the_site():
    text = "By {prf:ref}`thm-there` and {prf:ref}`thm-here`, {eq}`eq-here`, {doc}`/notebooks/1_sequences/modes`."
    link = "../1_sequences/modes.ipynb"
    assert PLAIN.markdown(text) == f"By [Theorem 1.8]({link}) and Theorem 2.1, (2.3), [Full, same, valid]({link})."
    assert PLAIN.markdown("{term}`taps <tap>`, {cite:t}`knuth1997`, {doc}`the end <exercises>`") == (
        "taps, Knuth (1997), [the end](exercises.ipynb)"
    )


def test_statements_equations_and_solutions_carry_their_numbers():
    text = """:::{prf:theorem} Lengths
:label: thm-here

$$
a
$$ (eq-here)
:::

:::{prf:proof}
Clear.
:::
"""
    assert (
        PLAIN.markdown(text)
        == """:::{admonition} Theorem 2.1 (Lengths)

$$
a
\\tag{2.3}
$$
:::

:::{admonition} Proof
Clear.
:::
"""
    )
    assert PLAIN.markdown(":::{rubric} The pages\n:heading-level: 2\n:::\n") == "## The pages\n"
    solution = ":::{solution-start} ex-here\n:class: dropdown\n:::\n\nCount.\n\n:::{solution-end}\n:::\n"
    assert PLAIN.markdown(solution).startswith("::::::{dropdown} Solution of Exercise 2.4\nCount.\n::::::\n")
    assert "solution" not in PLAIN.markdown(solution)


def test_a_caption_follows_its_figure_and_code_is_untouched():
    figure = {"mystnb": {"figure": {"name": "fig-here", "caption": "What $n$ is."}}}
    code = {"cell_type": "code", "id": "a", "metadata": figure, "source": ["x = 1"], "outputs": []}
    front = {"cell_type": "markdown", "id": "b", "metadata": {}, "source": ["---\n", "math:\n", "  \\R: 'R'\n", "---"]}
    found = PLAIN.notebook({"cells": [front, code]})["cells"]
    assert "".join(found[0]["source"]) == "---\nnumbering:\n  equation: false\nmath:\n  \\R: 'R'\n---"
    assert found[1] == code
    assert "".join(found[2]["source"]) == "*Fig. 2.2: What $n$ is.*"


def test_what_a_reader_edited_is_kept(tmp_path):
    write_unless_edited(tmp_path, {"a/x.ipynb": "one", "y.ipynb": "one"})
    (tmp_path / "a" / "x.ipynb").write_text("mine")
    write_unless_edited(tmp_path, {"a/x.ipynb": "two", "y.ipynb": "two"})
    assert (tmp_path / "a" / "x.ipynb").read_text() == "mine"
    assert (tmp_path / "y.ipynb").read_text() == "two"


def test_every_entry_of_the_bibliography_has_a_name():
    assert not [key for key, name in references(ROOT).items() if name.startswith(" (") or "{" in name]
