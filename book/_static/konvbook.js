// What scrolls can be reached by keyboard and shows that it goes on; links open folds; paper comes light and unfolded.

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
    showMore(box);
  }
}

// An equation, figure or table that goes on beyond an edge fades there.
function showMore(box) {
  box.classList.toggle("kv-more-right", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  box.classList.toggle("kv-more-left", box.scrollLeft > 1);
}

// Paper is white, and nothing on it can be unfolded.
function prepareForPaper() {
  const root = document.documentElement;
  root.dataset.screenTheme = root.dataset.theme;
  root.dataset.theme = "light";
  for (const fold of document.querySelectorAll("details:not([open])")) {
    fold.open = true;
    fold.dataset.unfolded = "";
  }
}

function returnToScreen() {
  document.documentElement.dataset.theme = document.documentElement.dataset.screenTheme;
  for (const fold of document.querySelectorAll("details[data-unfolded]")) {
    fold.open = false;
    delete fold.dataset.unfolded;
  }
}

// A link that leads into a fold opens it.
function unfoldTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target && target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

// The report of an error names the section that is on the screen.
function nameSection(event) {
  const link = event.target.closest?.("a.kv-report");
  if (!link) return;
  const above = [...document.querySelectorAll(".bd-article h1, .bd-article h2, .bd-article h3")].filter(
    (heading) => heading.getBoundingClientRect().top < window.innerHeight / 2,
  );
  const section = above.at(-1)?.textContent.replace(/#$/, "").trim() ?? "";
  const address = new URL(link.href);
  address.searchParams.set("body", address.searchParams.get("body").replace(/^Section: .*$/m, `Section: ${section}`));
  link.href = address.href;
}

document.addEventListener("DOMContentLoaded", boxWhatScrolls);
document.addEventListener("DOMContentLoaded", unfoldTarget);
window.addEventListener("hashchange", unfoldTarget);
document.addEventListener("pointerdown", nameSection);
document.addEventListener("keydown", nameSection);
window.addEventListener("resize", boxWhatScrolls);
document.addEventListener("toggle", boxWhatScrolls, true);
document.addEventListener("scroll", (event) => event.target.matches?.(SCROLLING) && showMore(event.target), true);
window.addEventListener("beforeprint", prepareForPaper);
window.addEventListener("afterprint", returnToScreen);

// The theme's switches of the list of pages have no name.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("nav.bd-links details > summary")) {
    const link = summary.parentElement.parentElement.querySelector(":scope > a");
    summary.setAttribute("aria-label", `Pages of ${link?.textContent.trim() ?? "this part"}`);
  }
});
