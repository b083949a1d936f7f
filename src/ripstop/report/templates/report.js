"use strict";
// Chains unfold in the side panel when the address names what is printed: #study.number, #tables/name:row:column, #run:study/run.
const find = (selector, of = document) => of.querySelector(selector);
const findAll = (selector, of = document) => [...of.querySelectorAll(selector)];
const make = (tag, content = "", attributes = {}) => {
  const element = document.createElement(tag);
  element.append(...[content].flat());
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  return element;
};
const FIRST = 12; // records, runs and hits that are shown at once

const data = JSON.parse(find("#data").textContent);
const text = (number) => data.texts[number];
const range = (written) => written.split(",").filter(Boolean).flatMap((part) => {
  const [first, last = first] = part.split("-").map(Number);
  return Array.from({ length: last - first + 1 }, (_, n) => first + n);
});
// What a study that is not here would have printed leads nowhere.
const link = (name, text = name) => {
  const anchor = name.replace(/\s/g, "_");
  return data.entries[anchor] || runs.has(anchor) ? make("a", text, { href: "#" + encodeURIComponent(anchor) }) : text;
};
const runs = new Map(data.runs.map((run) => [`run:${run[0]}/${run[1]}`, run]));

// The first few of a list, and a button that shows the others.
function shortened(items, into, what) {
  into.append(...items.slice(0, FIRST).map((item) => item()));
  if (items.length <= FIRST) return [into];
  const more = make("button", `all ${items.length} ${what}`, { type: "button" });
  more.onclick = () => { into.append(...items.slice(FIRST).map((item) => item())); more.remove(); };
  return [into, more];
}

function recordsTable(numbers) {
  const head = make("tr", ["run", "part", "metric", "slice", "value", "n"].map((name) => make("th", name, { scope: "col" })));
  const rows = numbers.map((number) => () => {
    const [run, kind, value, n] = data.records[number];
    const [part, metric, slice, unit] = data.kinds[kind].map(text);
    return make("tr", [data.runs[run][1], part, metric, slice, `${value} ${unit}`, String(n)].map((cell) => make("td", cell)));
  });
  const [body, ...more] = shortened(rows, make("tbody"), "records");
  return [make("div", make("table", [make("thead", head), body]), { class: "scroll", tabindex: 0, role: "region", "aria-label": "Records" }), ...more];
}

function chain([name, kind, printed, said, rests, set, of]) {
  const facts = make("dl");
  for (let i = 0; i < said.length; i += 2) {
    const label = text(said[i]);
    facts.append(make("dt", label.includes(".") ? link(label) : label), make("dd", text(said[i + 1])));
  }
  if (text(rests)) facts.append(make("dt", "rests on"), make("dd", text(rests)));
  const [records, members, folded] = data.sets[set];
  const parts = [make("p", `a ${text(kind)}`, { class: "kind" })];
  if (printed) parts.push(make("p", printed, { class: "printed" }));
  parts.push(facts);
  if (of.length) parts.push(make("ul", of.map((other) => make("li", link(other)))));
  if (records) parts.push(make("h3", "Records"), ...recordsTable(range(records)));
  if (members) {
    const items = range(members).map((n) => () => make("li", link(`run:${data.runs[n][0]}/${data.runs[n][1]}`, `${data.runs[n][0]}/${data.runs[n][1]}`)));
    parts.push(make("h3", "Runs"), ...folded.map((line) => make("p", text(line))), ...shortened(items, make("ul"), "runs"));
  }
  return [name, parts];
}

function runChain([study, run, lines, configuration]) {
  const parts = [make("p", `a run of ${study}`, { class: "kind" }), ...lines.map((line) => make("p", text(line), { class: text(line).startsWith(" ") ? "stood" : "stage" }))];
  if (configuration.length) parts.push(make("h3", "config.yaml"), make("pre", configuration.map(text).join("\n"), { tabindex: 0 }));
  return [run, parts];
}

const panel = find("#why");
let opener = null;
function show() {
  const name = decodeURIComponent(location.hash.slice(1));
  const target = name && document.getElementById(name);
  if (target) {
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView({ block: target.matches("section") ? "start" : "center" });
  }
  findAll(".named").forEach((element) => element.classList.remove("named"));
  const found = data.entries[name] ? chain(data.entries[name]) : runs.has(name) ? runChain(runs.get(name)) : null;
  panel.hidden = !found;
  if (!found) return;
  target?.classList.add("named");
  const close = make("button", "Close", { type: "button", class: "close" });
  close.onclick = hide;
  const title = make("h2", found[0], { tabindex: -1 });
  panel.replaceChildren(close, title, ...found[1]);
  panel.scrollTop = 0;
  title.focus({ preventScroll: true });
}
function hide() {
  if (panel.hidden) return;
  panel.hidden = true;
  findAll(".named").forEach((element) => element.classList.remove("named"));
  history.replaceState(null, "", location.pathname + location.search);
  (opener?.isConnected ? opener : find("#query")).focus({ preventScroll: true });
}
addEventListener("hashchange", show);
document.addEventListener("click", (event) => {
  const anchor = event.target.closest('a[href^="#"]');
  if (!anchor) return;
  if (!panel.contains(anchor)) opener = anchor.closest("#hits") ? query : anchor;
  if (anchor.hash === location.hash) show();
  hits.hidden = true;
});

// Search: every name, what it says and its runs.
const query = find("#query"), hits = find("#hits");
const known = [
  ...Object.entries(data.entries).map(([anchor, [name, kind, printed, said]]) => [anchor, name, text(kind), printed, said[1] === undefined || text(kind) === "cell" ? "" : text(said[1])]),
  ...[...runs].map(([anchor, [study, run]]) => [anchor, `${study}/${run}`, "run", "", ""]),
].map((entry) => [...entry, entry.slice(1).join(" ").toLowerCase()]);
query.oninput = () => {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? known.filter((entry) => words.every((word) => entry[5].includes(word))) : [];
  // What is named exactly so comes first, then the shorter names.
  found.sort((a, b) => (b[1].toLowerCase() === query.value.toLowerCase()) - (a[1].toLowerCase() === query.value.toLowerCase()) || a[1].length - b[1].length);
  hits.replaceChildren(...found.slice(0, FIRST).map(([anchor, name, kind, printed, says]) =>
    make("li", make("a", [make("b", name), ` ${printed} `, make("small", `${kind}${says ? ` · ${says}` : ""}`)], { href: "#" + encodeURIComponent(anchor) }))));
  hits.hidden = !words.length;
  find("#found").textContent = words.length ? `${found.length} found` : "";
  if (!found.length) hits.append(make("li", "nothing found"));
  if (found.length > FIRST) hits.append(make("li", `${found.length} found; the first ${FIRST} are shown`));
};
query.onfocus = () => { hits.hidden = !query.value; };
find("search").addEventListener("focusout", (event) => { if (!find("search").contains(event.relatedTarget)) hits.hidden = true; });

addEventListener("keydown", (event) => {
  const at = document.activeElement;
  if (event.key === "Escape") hits.hidden ? hide() : (hits.hidden = true);
  else if (event.key === "/" && !at.matches("input") && !event.ctrlKey && !event.metaKey && !event.altKey) { event.preventDefault(); query.focus(); query.select(); }
  else if (at.closest("search") && !hits.hidden) {
    const stops = [query, ...findAll("a", hits)], next = stops.indexOf(at) + { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (stops[next]) { event.preventDefault(); stops[next].focus(); }
    else if (event.key === "Enter" && at === query) stops[1]?.click();
  } else if (at.closest("table.cells td")) walk(event, at.closest("td"));
});

// One stop of the tabulator a table; arrow keys walk through its cells.
function walk(event, cell) {
  const row = cell.parentElement, [down, right] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [];
  const next = down === undefined ? null : find("a", row.parentElement.rows[row.sectionRowIndex + down]?.cells[cell.cellIndex + right] ?? make("p"));
  if (!next) return;
  event.preventDefault();
  find("a", cell).tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}
findAll("table.cells").forEach((table) => findAll("td a", table).forEach((anchor, n) => { anchor.tabIndex = n ? -1 : 0; }));
findAll(".scroll").forEach((box) => Object.assign(box, { tabIndex: 0 }));

// Tables sort by a column: numbers by value, else by letters.
const value = (cell) => { const number = cell.textContent.replace("\u2212", "-").match(/^[≥≤]?\s*(-?[\d.]+(?:e[-+]?\d+)?)(?![\w.])/); return number ? Number(number[1]) : NaN; };
findAll("table.sortable").forEach((table) => findAll("th", table).forEach((heading, column) => {
  const button = make("button", heading.textContent, { type: "button" });
  heading.replaceChildren(button);
  button.onclick = () => {
    const up = heading.getAttribute("aria-sort") !== "ascending", rows = [...table.tBodies[0].rows];
    const compare = (a, b) => (value(a) - value(b)) || a.textContent.localeCompare(b.textContent, "en", { numeric: true });
    rows.sort((a, b) => (up ? 1 : -1) * compare(a.cells[column], b.cells[column]));
    table.tBodies[0].append(...rows);
    findAll("th", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  };
}));

// Claims by verdict.
findAll(".filter").forEach((group) => { group.hidden = false; });
findAll(".filter button").forEach((button) => { button.onclick = () => {
  const on = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", on);
  findAll(`#section-claims tr[data-verdict="${button.dataset.verdict}"]`).forEach((row) => { row.hidden = !on; });
}; });
addEventListener("beforeprint", () => findAll("details").forEach((fold) => { fold.open = true; }));
show();
