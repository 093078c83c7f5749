// The ledger's filter: entries without the words are hidden, and so are chapters without entries.

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".kv-filter");
  if (!form) return;
  const words = form.querySelector("#kv-filter");
  const tolerance = form.querySelector("#kv-filter-tolerance");
  const entries = [...document.querySelectorAll(".kv-entry")];

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of entries) {
      const section = entry.closest("section");
      const text = `${section.querySelector("h2").textContent} ${entry.textContent}`.toLowerCase();
      const fits = wanted.every((word) => text.includes(word));
      entry.hidden = !fits || (tolerance.checked && !entry.querySelector(".kv-tolerance"));
      shown += !entry.hidden;
    }
    for (const section of new Set(entries.map((entry) => entry.closest("section"))))
      section.hidden = !section.querySelector(".kv-entry:not([hidden])");
    form.querySelector("output").value = `${shown} of ${entries.length} shown`;
  }

  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
});
