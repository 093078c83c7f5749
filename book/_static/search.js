// Results say what a reader reads, and lead to the section that says it.

(() => {
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
})();
