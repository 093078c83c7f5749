"""The extensions that write the site, each on its own: formulas, pictures, folds, the edition of a page, the PDF."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import edition
import folds
import launch
import mathematics
import pictures
import pytest
import sources
import tidyhtml
import yaml
from docutils import nodes
from docutils.utils import new_document

ROOT = Path(__file__).parents[2]

# Formulas


@pytest.fixture(scope="module")
def typesetter(tmp_path_factory):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    settings = config["sphinx"]["config"]["mathjax3_config"]
    found = mathematics.Typesetter(settings, tmp_path_factory.mktemp("formulas") / "formulas.json")
    yield found
    found.close()


def test_a_formula_has_signs_colours_and_mathml(typesetter):
    html = typesetter.typeset(r"\out{y} = \inp{x} \conv \knl{w} \in \R", display=False)
    assert all(f"kv-{role}" in html for role in ("output", "input", "kernel"))
    assert "<math " in html
    assert 'aria-hidden="true"' in html
    assert 'display="true"' in typesetter.typeset("y", display=True)


@pytest.mark.parametrize(("tex", "words"), [(r"\unknown", "Undefined control sequence"), (r"\frac{1}", "Missing")])
def test_what_mathjax_does_not_know_is_an_error(typesetter, tex, words):
    with pytest.raises(ValueError, match=words):
        typesetter.typeset(tex, display=False)


def test_a_long_formula_may_break_outside_its_brackets(typesetter):
    long = typesetter.typeset(r"y[n] = f[n - 2] + f[n - 1] + f[n] + f[n + 1]", display=False)
    assert long.count("<mjx-break>") == 4
    bracketed = typesetter.typeset(r"(2, 1, -1) * (1, 1) = (2, 3, 0, -1)", display=False)
    assert bracketed.count("<mjx-break>") == 2  # after the star and after the sign of equality
    signed = typesetter.typeset(r"f[0] = -1, \quad f[1] = -f[0] - f[2]", display=False)
    assert signed.count("<mjx-break>") == 4  # after = , = and the difference, not after signs
    assert "<mjx-break>" not in typesetter.typeset("y = f + g", display=False)
    assert "<mjx-break>" not in typesetter.typeset(r"y[n] = f[n - 2] + f[n - 1] + f[n] + f[n + 1]", display=True)


def test_what_is_known_is_not_asked_again(typesetter, tmp_path):
    html = typesetter.typeset(r"\sum_k x_k \{1\}", display=True)
    typesetter.write(tmp_path)
    again = mathematics.Typesetter({key: typesetter.start[key] for key in ("tex", "chtml")}, typesetter.memory)
    assert again.typeset(r"\sum_k x_k \{1\}", display=True) == html
    assert again.process is None
    other = mathematics.Typesetter({"tex": {"macros": {"R": "R"}}}, typesetter.memory)
    assert not other.known


def test_the_style_sheet_has_the_rules_of_the_signs_in_use_and_their_fonts_alone(typesetter, tmp_path):
    typesetter.typeset(r"\{ x \}", display=False)
    typesetter.write(tmp_path)
    sheet = (tmp_path / "mathematics.css").read_text(encoding="utf-8")
    assert 'mjx-container [space="4"] { margin-left: .278em; }' in sheet
    assert 'content: "{"' in sheet
    assert ".mjx-c1D465.TEX-I::before" in sheet
    assert "TEX-FR" not in sheet
    assert {path.name for path in (tmp_path / "mathematics").iterdir()} >= {"MathJax_Math-Italic.woff"}
    assert not list((tmp_path / "mathematics").glob("*Fraktur*"))


def test_blank_lines_separate_formulas_as_in_sphinx():
    assert mathematics.joined("a = b") == "a = b"
    assert mathematics.joined(r"a \\ b") == r"\begin{split}a \\ b\end{split}"
    assert mathematics.joined("a\n\nb") == r"\begin{align}\begin{aligned}a\\b\end{aligned}\end{align}"


def test_a_full_stop_stays_with_its_formula():
    body = '<span class="math x"><mjx-container></mjx-container></span>. Then'
    tied = mathematics.tie_punctuation(None, "", body)
    assert tied.startswith('<span class="kv-tied"><span class="math x">')
    assert tied.endswith("</span>.</span> Then")


# Pictures


def test_a_picture_gets_its_size_and_the_width_that_its_digits_need(tmp_path):
    drawing = tmp_path / "a.svg"
    letters = '<g transform="scale(0.1 -0.1)"/>'
    drawing.write_text(f'<svg width="300pt" height="150pt">{letters}</svg>', encoding="utf-8")
    assert pictures.size(drawing) == (400, 200)
    assert pictures.least_width(drawing) == pytest.approx(400 * 9 / (10 * 4 / 3))
    assert pictures.boxed('<img src="a.svg" />', drawing) == (
        '<span class="kv-picture"><img src="a.svg" width="400" height="200" style="--kv-least: 270px"></span>'
    )


# Folds


def test_folds_of_all_kinds_become_one():
    cell = (
        '<details class="admonition hide above-input">\n<summary aria-label="Toggle hidden content">\n'
        '<p class="collapsed admonition-title">Checks</p>\n<p class="expanded admonition-title">Checks</p>\n</summary>'
    )
    assert folds.fold(cell) == '<details class="kv-fold kv-fold-input">\n<summary><span>Checks</span></summary>'
    dropdown = (
        '<details class="sd-sphinx-override sd-dropdown sd-card sd-mb-3">\n'
        '<summary class="sd-summary-title sd-card-header">\n<span class="sd-summary-text">Proof</span>'
        '<span class="sd-summary-state-marker"><svg></svg></span></summary>'
        '<div class="sd-summary-content sd-card-body docutils">\n<p>x</p></div></details>'
    )
    assert folds.fold(dropdown) == (
        '<details class="kv-fold">\n<summary><span class="sd-summary-text">Proof</span></summary>\n'
        '<div class="kv-fold-body docutils">\n<p>x</p></div></details>'
    )
    solution = (
        '<div class="solution dropdown admonition" id="s">\n'
        '<p class="admonition-title">Solution to <a href="#e">1.1</a></p>'
        "<div><div>x</div></div></div><p>after</p>"
    )
    assert folds.fold(solution) == (
        '<details class="kv-fold solution" id="s">\n<summary><span>Solution to 1.1</span></summary>'
        '<div class="kv-fold-body"><div><div>x</div></div></div></details><p>after</p>'
    )


# Sources that a page prints


def test_what_a_cell_prints_is_code_only_where_it_asks_for_a_source():
    document = new_document("")
    for code in ("print(figures.source_of(kernel))", "print(resource_of(y))"):
        parts = [nodes.container(classes=[name]) for name in ("cell_input", "cell_output")]
        for part, text in zip(parts, (code, "def kernel(): ..."), strict=True):
            part += nodes.literal_block(text, text, language="none", classes=["output"])
        document += nodes.container("", *parts, classes=["cell"])
    sources.ColourSources(document).apply()
    found = [(block["language"], block["classes"]) for block in document.findall(nodes.literal_block)]
    printed, given = ("python", ["output", sources.CLASS]), ("none", ["output"])
    assert found == [given, printed, given, given]


# Small mends


def test_a_size_stays_in_one_line_where_it_is_no_code():
    body = "<p>a 4 × 16 matrix</p><pre>4 × 16</pre><p>a × b</p>"
    assert tidyhtml.tidy(body) == "<p>a 4\u00a0×\u00a016 matrix</p><pre>4 × 16</pre><p>a × b</p>"


# The edition


def foot_of_page(monkeypatch, address) -> str:
    monkeypatch.setenv(launch.VARIABLE, address)
    config = SimpleNamespace(kv_date="2026-01-02", myst_substitutions={"version": "1.2.3"})
    context = {"title": "1.2. Output size", "theme_extra_footer": "Tested."}
    edition.sign_page(SimpleNamespace(config=config), "notebooks/2_images/output_size", "", context, None)
    return context["theme_extra_footer"]


def test_a_page_says_its_version_and_date_and_reports_errors_only_where_there_is_a_repository(monkeypatch):
    foot = foot_of_page(monkeypatch, "")
    assert "Version 1.2.3, 2026-01-02." in foot
    assert "Report" not in foot
    foot = foot_of_page(monkeypatch, "https://github.com/a/b")
    href = foot.split('href="')[1].split('"')[0].replace("&amp;", "&")
    assert href.startswith("https://github.com/a/b/issues/new?")
    query = parse_qs(urlsplit(href).query)
    assert query["title"] == ["Error: 1.2. Output size"]
    assert "Page: 1.2. Output size (notebooks/2_images/output_size)\nSection: \nVersion" in query["body"][0]


def test_the_pdf_is_offered_where_it_has_been_printed(tmp_path):
    body = "<p><!-- pdf: Read it on paper --></p>"
    page = "notebooks/2_images/output_size"
    assert edition.with_pdf(body, tmp_path, page) == body
    (tmp_path / edition.PDF).write_bytes(b"x" * 2_000_000)
    link = '<a class="kv-pdf" href="../../convolution-verified.pdf">Read it on paper</a> (2 MB)'
    assert edition.with_pdf(body, tmp_path, page) == f"<p>{link}</p>"


@pytest.mark.browser
def test_the_pdf_binds_pages_numbers_them_and_keeps_links_inside(site, monkeypatch, tmp_path):
    pypdf = pytest.importorskip("pypdf")
    import pdf

    from tests.book.browsing import running_browser

    names = ("book/intro", "book/conventions", "book/glossary")
    entries = [pdf.Printed(name, 0) for name in names]
    places = pdf.linked_places(site, list(names))
    with running_browser() as chromium, pdf.served(site) as address:
        files = pdf.print_pages(chromium, address, entries, places, 3)
        writer = pdf.bind(pdf.print_front(chromium, entries, address), files, entries, address)
    writer.write(out := io.BytesIO())
    book = pypdf.PdfReader(out)
    assert edition.version() in book.pages[0].extract_text()
    assert edition.date() in book.pages[0].extract_text()
    assert [book.get_destination_page_number(each) for each in book.outline] == [entry.first - 1 for entry in entries]
    for number, page in enumerate(book.pages[2:], start=3):
        lines = page.extract_text().splitlines()
        assert str(number) in lines
        assert any("Convolution, Verified" in line for line in lines)
    links = [link.get_object() for page in book.pages for link in page.get("/Annots", ())]
    inside = [link for link in links if isinstance(link.get("/Dest"), list)]
    assert len(inside) > 4
    assert not [link for link in links if "/index.html" in str(link.get("/A", {}).get("/URI", ""))]


# All together, on a book of two pages

CONF = """
import sys
sys.path.insert(0, {ext!r})
extensions = ["myst_parser", "mathematics", "edition"]
myst_enable_extensions = ["amsmath", "dollarmath"]
html_math_renderer = "typeset"
math_eqref_format = "({{number}})"
math_numfig = False
mathjax3_config = {{"tex": {{"packages": ["base", "ams", "html"]}}}}
"""
FIRST_PAGE = r"""# The sum $x_1 + y$

```{toctree}
second
```

$$
y = \class{kv-input}{x}
$$ (eq-first)

\begin{gather*}
a \\ b
\end{gather*}

By {eq}`eq-first`. {pdf}`On paper`
"""


def built(folder: Path, second: str, capsys) -> tuple[dict[str, str], str]:
    from sphinx.cmd.build import build_main

    source, out = folder / "source", folder / "out"
    source.mkdir(exist_ok=True)
    (source / "conf.py").write_text(CONF.format(ext=str(ROOT / "book" / "_ext")), encoding="utf-8")
    (source / "index.md").write_text(FIRST_PAGE, encoding="utf-8")
    (source / "second.md").write_text(second, encoding="utf-8")
    build_main(["-q", "-b", "html", str(source), str(out)])
    return {path.stem: path.read_text(encoding="utf-8") for path in out.glob("*.html")}, capsys.readouterr().err


def test_titles_numbers_links_and_later_pages_have_their_formulas(tmp_path, capsys):
    pages, warnings = built(tmp_path, "# Second\n\nBack to {eq}`eq-first`.", capsys)
    assert not warnings
    first = pages["index"]
    title = first.split("<title>")[1].split("</title>")[0]
    assert "<" not in title
    assert "\\" not in title
    assert first.count("<mjx-container") >= 3
    assert '<span class="eqno">(1)' in first
    assert "Link to this equation" in first
    assert 'class="reference internal" href="index.html#equation-eq-first">(1)</a>' in pages["second"]
    assert "<!-- pdf: On paper -->" in first
    pages, warnings = built(tmp_path, "# Second\n\nNew is $\\Omega$.", capsys)
    assert not warnings
    sheet = (tmp_path / "out" / "_static" / "mathematics.css").read_text(encoding="utf-8")
    assert "mjx-c3A9" in sheet
    assert "mjx-c1D465" in sheet, "the signs of a page that was not written again stay"


def test_an_unknown_macro_is_a_warning_that_says_where(tmp_path, capsys):
    _, warnings = built(tmp_path, "# Second\n\nNo $\\nosuchmacro$.", capsys)
    assert "second.md" in warnings
    assert "Undefined control sequence \\nosuchmacro" in warnings
