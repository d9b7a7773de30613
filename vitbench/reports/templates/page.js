"use strict";
const number = (text) => {
  const found = parseFloat(text.replace(/−/g, "-").replace(/^<\./, "0.000").replace(/^\./, "0."));
  const unit = { k: 1e3, M: 1e6, G: 1e9 }[text.trim().slice(-1)] || 1;
  return Number.isNaN(found) ? null : found * unit;
};

// One collator: thousands of calls of localeCompare would each make their own. Numbers within names count as numbers.
const byName = new Intl.Collator("en", { numeric: true }).compare;

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0], first = [...body.rows];
  // Emptied first: taking thousands of rows out one by one, from the front, is quadratic in Chromium.
  const place = (rows) => { body.replaceChildren(); body.append(...rows); };
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th"), column = heads.indexOf(head);
    const before = head.getAttribute("aria-sort");
    // Numbers start with the largest, names with the first letter; a third click gives the first order back.
    const cells = first.map((row) => [row, (row.cells[column] || { textContent: "" }).textContent.trim()]);
    const numeric = cells.filter(([, text]) => number(text) !== null).length * 2 > cells.filter(([, text]) => text && text !== "–").length;
    const order = numeric ? ["descending", "ascending"] : ["ascending", "descending"];
    const next = before === order[0] ? order[1] : before === order[1] ? null : order[0];
    heads.forEach((h) => h.removeAttribute("aria-sort"));
    if (!next) { place(first); return; }
    head.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const keyed = cells.filter(([row]) => !row.classList.contains("group")).map(([row, text]) => [row, numeric ? number(text) : text || null]);
    keyed.sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : byName(a, b));
    });
    // Titles of sections mean nothing in another order: they go last.
    place([...keyed.map(([row]) => row), ...first.filter((row) => row.classList.contains("group"))]);
  });
}

const form = document.getElementById("filters");
if (form) {
  const rows = [...document.querySelectorAll("#board tbody tr")].map((row) => ({
    row, t: row.dataset.t, s: row.dataset.s, m: row.dataset.m, b: row.cells[0].textContent,
    r: row.cells[1].textContent.replace(/[°†]+$/, ""), words: row.textContent.toLowerCase(),
  }));
  const filter = () => {
    const chosen = [...form.querySelectorAll("select")].filter((s) => s.value).map((s) => [s.dataset.by, s.value]);
    const words = document.getElementById("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    // Of one table, the column that names it says nothing.
    document.getElementById("board").classList.toggle("one", chosen.some(([by]) => by === "t"));
    let shown = 0;
    for (const x of rows) {
      x.row.hidden = !(chosen.every(([by, value]) => x[by] === value) && words.every((word) => x.words.includes(word)));
      shown += !x.row.hidden;
    }
    document.getElementById("count").textContent = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    form.querySelectorAll("select").forEach((s) => (s.value = ""));
    document.getElementById("search").value = "";
    filter();
  });
  filter();
}

const choice = document.getElementById("heat-choice");
if (choice) {
  const show = () => document.querySelectorAll("[data-heat]").forEach((map) => (map.hidden = map.dataset.heat !== choice.value));
  choice.addEventListener("input", show);
  show();
}

// Paper has no summary to click: what is folded away is printed, and folded again after.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((d) => (d.open = true));
});
window.addEventListener("afterprint", () => folded.forEach((d) => (d.open = false)));
