// What scrolls can be reached by keyboard, and paper comes unfolded.

const SCROLLING = "mjx-container, span.math, pre, .kv-picture, .pst-scrollable-table-container, .cell_output .output";

const BLOCK = "p, li, dd, dt, td, th, figcaption, div";

function boxWhatScrolls() {
  for (const formula of document.querySelectorAll("span.math")) {
    formula.classList.remove("kv-wide");
    const room = formula.closest(BLOCK).clientWidth;
    if (room && formula.getBoundingClientRect().width > room) formula.classList.add("kv-wide");
  }
  for (const box of document.querySelectorAll(SCROLLING)) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
    else if (box.tabIndex === 0) box.removeAttribute("tabindex");
  }
}

function unfoldForPaper() {
  for (const fold of document.querySelectorAll("details:not([open])")) {
    fold.open = true;
    fold.dataset.unfolded = "";
  }
}

function foldAgain() {
  for (const fold of document.querySelectorAll("details[data-unfolded]")) {
    fold.open = false;
    delete fold.dataset.unfolded;
  }
}

document.addEventListener("DOMContentLoaded", boxWhatScrolls);
window.addEventListener("resize", boxWhatScrolls);
document.addEventListener("toggle", boxWhatScrolls, true);
window.addEventListener("beforeprint", unfoldForPaper);
window.addEventListener("afterprint", foldAgain);
