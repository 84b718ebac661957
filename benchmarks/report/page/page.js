"use strict";
const said = document.getElementById("said");
for (const button of document.querySelectorAll("th button")) button.addEventListener("click", () => {
  const th = button.closest("th"), table = th.closest("table"), column = th.cellIndex, body = table.tBodies[0];
  const up = th.getAttribute("aria-sort") !== "ascending";
  for (const other of th.parentElement.cells) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", up ? "ascending" : "descending");
  const numeric = [...body.rows].some(row => row.cells[column].dataset.sort !== undefined);
  const key = row => numeric ? Number(row.cells[column].dataset.sort ?? NaN) : row.cells[column].textContent.trim();
  const compare = (a, b) => {
    if (!numeric) return (up ? 1 : -1) * a.localeCompare(b, "en", { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return up ? a - b : b - a;
  };
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
  said.textContent = `${table.caption.textContent.trim()}: sorted by ${th.textContent.trim()}, ${up ? "ascending" : "descending"}`;
});

const dialog = document.querySelector("dialog");
for (const link of document.querySelectorAll("a[href^='#cell-']")) link.addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const cell = document.getElementById(link.getAttribute("href").slice(1)).cloneNode(true), title = document.createElement("h3");
  title.textContent = cell.querySelector("summary").textContent;
  cell.querySelector("summary").remove();
  dialog.querySelector("div").replaceChildren(title, ...cell.childNodes);
  dialog.showModal();
});

const reveal = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target?.scrollIntoView();
};
addEventListener("hashchange", reveal);
if (location.hash) reveal();

if ("IntersectionObserver" in window) {
  const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.getAttribute("href").slice(1), link]));
  const observer = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) {
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(entry.target.id), nav = link.parentElement;
      link.setAttribute("aria-current", "true");
      nav.scrollLeft = link.offsetLeft - nav.clientWidth / 2;
    }
  }, { rootMargin: "-25% 0px -70% 0px" });
  for (const section of document.querySelectorAll("main > section[id]")) if (links.has(section.id)) observer.observe(section);
}
