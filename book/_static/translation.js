// The translation tables: choose a library, and only its rows are shown.

document.addEventListener("DOMContentLoaded", () => {
  const rows = [...document.querySelectorAll(".kv-translation tbody tr")];
  const first = document.querySelector(".kv-translation");
  if (!first) return;
  const libraries = [...new Set(rows.map((row) => row.cells[1].textContent.trim()))];
  const form = document.createElement("form");
  form.className = "kv-picker";
  const group = document.createElement("fieldset");
  const legend = document.createElement("legend");
  legend.textContent = "Show the rows of";
  group.append(legend);
  for (const name of ["all", ...libraries]) {
    const label = document.createElement("label");
    const choice = document.createElement("input");
    Object.assign(choice, { type: "radio", name: "library", value: name, checked: name === "all" });
    label.append(choice, ` ${name}`);
    group.append(label);
  }
  form.append(group);
  first.closest("section").before(form);
  form.addEventListener("change", () => {
    const chosen = form.elements.library.value;
    for (const row of rows) row.hidden = chosen !== "all" && row.cells[1].textContent.trim() !== chosen;
    for (const table of document.querySelectorAll(".kv-translation"))
      table.hidden = !table.querySelector("tbody tr:not([hidden])");
  });
});
