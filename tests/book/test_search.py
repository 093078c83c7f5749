"""The site's search answers what readers ask: the page that says it is among the first three results."""

from __future__ import annotations

from typing import Any

import pytest

from tests.book.browsing import opened

pytestmark = pytest.mark.browser

QUERIES = {
    "KAN": "notebooks/7_konvolution/",
    "spline": "notebooks/7_konvolution/",
    "chebyshev": "notebooks/7_konvolution/",
    "causal": "notebooks/1_sequences/|notebooks/2_images/|book/glossary",
    "deconvolution of a signal": "notebooks/1_sequences/deconvolution|notebooks/3_matrices/deblurring",
    "autocorrelation": "notebooks/1_sequences/autocorrelation",
    "template matching": "notebooks/1_sequences/matching",
    "circular convolution": "notebooks/1_sequences/circular",
    "overlap-add": "notebooks/1_sequences/overlap_add",
    "polynomial multiplication": "notebooks/1_sequences/polynomials",
    "flip kernel": "notebooks/1_sequences/flip|notebooks/2_images/flip",
    "NaN": "notebooks/1_sequences/floating_point",
    "output size": "notebooks/2_images/output_size|notebooks/4_transposes/output_size",
    "same padding": "notebooks/2_images/same",
    "padding modes": "notebooks/2_images/padding_modes",
    "receptive field": "notebooks/2_images/receptive_field|notebooks/6_strides/receptive_field",
    "depthwise separable": "notebooks/2_images/depthwise|notebooks/2_images/separable",
    "max pooling": "notebooks/2_images/pooling|notebooks/5_gradients/pooling",
    "aliasing": "notebooks/2_images/aliasing|notebooks/6_strides/aliasing",
    "toeplitz": "notebooks/3_matrices/toeplitz",
    "im2col": "notebooks/3_matrices/im2col|notebooks/gpu/columns|book/library/matrices",
    "spectral norm": "notebooks/3_matrices/spectral_norm",
    "channels_last": "notebooks/3_matrices/",
    "pseudo-inverse": "notebooks/3_matrices/deblurring|notebooks/3_matrices/linear_algebra",
    "checkerboard": "notebooks/4_transposes/checkerboards",
    "output_padding": "notebooks/4_transposes/output_size",
    "finite differences": "notebooks/5_gradients/checking",
    "merge layers": "notebooks/6_strides/collapse|notebooks/6_strides/chains",
    "noble identities": "notebooks/6_strides/noble_identities",
    "wavelet": "notebooks/6_strides/cascade",
    "roofline": "notebooks/gpu/roofline",
    "halo": "notebooks/scale/|notebooks/gpu/halo|book/glossary",
    "larger than memory": "notebooks/scale/",
    "dask": "notebooks/scale/",
    "map_overlap": "notebooks/scale/",
    "torch.distributed": "notebooks/scale/",
    "rot180": "notebooks/5_gradients/|notebooks/2_images/flip|book/glossary",
}
"""What is typed, and the page (or one of several) that answers it."""

RESULTS = """() => [...document.querySelectorAll("#search-results ul.search > li")].map((item) => ({
    address: item.querySelector("a").getAttribute("href"), text: item.textContent,
}))"""


@pytest.fixture(scope="module")
def results(address: str, browser: Any) -> dict[str, list[dict[str, str]]]:
    """What the site finds for each query, when it has found all."""
    found = {}
    for query in QUERIES:
        page = opened(browser, f"{address}search.html?q={query.replace(' ', '+')}")
        page.wait_for_selector("#search-results ul.search > li a", timeout=20_000)
        page.wait_for_function("document.querySelector('#search-results').textContent.includes('Search finished')")
        page.wait_for_timeout(300)
        found[query] = page.evaluate(RESULTS)
        page.close()
    return found


def test_each_question_finds_its_page_among_the_first_three(results: dict[str, list[dict[str, str]]]):
    missed = {
        query: [result["address"] for result in results[query][:3]]
        for query, pages in QUERIES.items()
        if not any(page in result["address"] for result in results[query][:3] for page in pages.split("|"))
    }
    assert not missed


def test_no_result_shows_tex_or_code(results: dict[str, list[dict[str, str]]]):
    shown = [result["text"] for found in results.values() for result in found[:5]]
    assert shown
    assert not [text for text in shown if any(mark in text for mark in ("\\begin", "\\frac", "\\knl", "import numpy"))]


def test_a_result_leads_to_a_section(results: dict[str, list[dict[str, str]]]):
    found = [result["address"] for result in results["overlap-add"][:3]]
    assert any("#" in address for address in found), found
