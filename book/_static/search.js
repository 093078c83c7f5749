// Results say what a reader reads, lead to the section that says it, and begin with the page that is about the query.

// Sphinx takes this in place of its own weights. A page whose title has the words, best at its beginning, comes before one
// that only mentions them; chapters' first pages, practice and exercises speak of everything and come later.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score([page, title, , , score]) {
    const query = new URLSearchParams(window.location.search).get("q") ?? "";
    const words = query.toLowerCase().split(/[^\p{L}\p{N}_]+/u).filter(Boolean);
    const heading = title.toLowerCase().replace(/^[\d.\s]+/, "");
    const held = words.filter((word) => heading.includes(word)).length;
    const whole = words.length && held === words.length;
    let weighed = score + (10 * held) / Math.max(1, words.length);
    if (whole) weighed += 10;
    if (whole && words.every((word) => new RegExp(`\\b${word}\\b`).test(heading))) weighed += 4;
    if (whole && words.some((word) => heading.startsWith(word))) weighed += 8;
    if (/\/index$/.test(page)) weighed -= 8;
    if (/\/(?:exercises|in_practice)$/.test(page)) weighed -= 14;
    if (/^book\/(?:library|glossary|figures|ledger|corrections)/.test(page)) weighed -= 8;
    return weighed;
  },
};

document.addEventListener("DOMContentLoaded", () => {
  const UNREAD = "pre, .math, mjx-container, nav, script, style, .headerlink, .cell_input";
  if (typeof Search === "undefined") return;
  const summarise = Search.makeSearchSummary;

  function readable(html) {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const element of page.querySelectorAll(UNREAD)) element.remove();
    return page;
  }

  Search.htmlToText = (html, anchor) => {
    const page = readable(html);
    const place = (anchor && page.querySelector(`[role="main"] ${anchor}`)) || page.querySelector('[role="main"]');
    return place?.textContent.replace(/\s+/g, " ") ?? "";
  };

  // The innermost section that holds most of the words.
  function sectionWith(html, words) {
    const sections = [...readable(html).querySelectorAll('[role="main"] section[id]')];
    const counted = sections.map((section) => {
      const text = section.textContent.toLowerCase();
      return { section, found: words.filter((word) => text.includes(word)).length, size: text.length };
    });
    counted.sort((a, b) => b.found - a.found || a.size - b.size);
    return counted.length && counted[0].found ? counted[0].section.id : "";
  }

  Search.makeSearchSummary = (html, keywords, anchor) => {
    const summary = summarise(html, keywords, anchor);
    if (summary && !anchor) {
      const id = sectionWith(html, [...keywords].map((word) => word.toLowerCase()));
      queueMicrotask(() => {
        const link = summary.closest("li")?.querySelector("a");
        if (id && link && !link.hash) link.hash = id;
      });
    }
    return summary;
  };
});
