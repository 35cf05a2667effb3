// The table of a batch's results: pages, a filter by status, and rows that are brought up to date
// in place while the batch runs.

import { h, list, replace, text } from "./dom.js";
import { counted, seconds } from "./format.js";
import { setStatus, statusTag } from "./parts.js";
import { fileLink, filesOf, kindAndParams, movieOf, oneLine } from "./pieces.js";

const PAGE = 100; // rows
const HOPS = 20; // pages that may come empty before the reader is asked to go on
const FILTERS = [
  ["ALL", "All tasks"],
  ["SUCCEEDED", "Succeeded"],
  ["FAILED", "Failed"],
  ["CANCELLED", "Cancelled"],
  ["FAILED,CANCELLED", "Failed or cancelled"],
  ["RUNNING", "Running"],
];
const FILES_SHOWN = 3;

// Returns {element, refresh(), show(status)}. `changed(status)` tells of another filter.
export function resultsTable({ api, signal, path, href, status, changed }) {
  let before = []; // cursors of the pages before this one
  let cursor = null; // of this page
  let next = null; // of the page after it
  let wanted = FILTERS.some(([name]) => name === status) ? status : "ALL";
  let asked = 0;

  const select = h(
    "select",
    { onchange: () => show(select.value) },
    FILTERS.map(([name, label]) => h("option", { value: name }, label)),
  );
  select.value = wanted;
  const body = h("tbody");
  const note = h("p", { class: "muted", role: "status" });
  const back = h("button", { type: "button", class: "small", disabled: true, onclick: () => turn(-1) }, "Previous page");
  const on = h("button", { type: "button", class: "small", disabled: true, onclick: () => turn(1) }, "Next page");
  const heads = ["Task", "Status", "Took", "Tries", "Kind and params", "Result or error"];
  const region = { class: "frame", tabindex: "0", role: "group", "aria-label": "Results" };
  const head = h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name))));
  const element = h(
    "section",
    { class: "panel results", "aria-labelledby": "results-heading" },
    h("div", { class: "head" }, h("h2", { id: "results-heading" }, "Results"), h("label", { class: "inline" }, "Show", select)),
    h("div", region, h("table", { class: "task-rows" }, head, body)),
    h("div", { class: "pager" }, note, back, on),
  );

  async function load(at) {
    const mine = ++asked;
    const rows = [];
    let place = at;
    let hops = 0;
    do {
      const page = await api.get(`${path}/results`, { limit: PAGE - rows.length, cursor: place, status: wanted === "ALL" ? "" : wanted }, { signal });
      if (mine !== asked) return false; // the reader has gone elsewhere meanwhile
      rows.push(...page.results);
      place = page.cursor;
      hops += 1;
    } while (place !== null && rows.length < PAGE && hops < HOPS);
    cursor = at;
    next = place;
    list(body, rows, (row) => row.index, makeRow, fillRow);
    back.disabled = before.length === 0;
    on.disabled = next === null;
    text(note, words(rows));
    return true;
  }

  function words(rows) {
    if (rows.length === 0) return next === null ? (wanted === "ALL" ? "No worker has reported on a task yet." : "No task is like this.") : "Nothing on this page; the next may have some.";
    const first = rows[0].index;
    const last = rows[rows.length - 1].index;
    return `${counted(rows.length, "task")}, ${first} to ${last}`;
  }

  async function turn(by) {
    if (by > 0) before.push(cursor);
    const at = by > 0 ? next : before.pop();
    await guarded(at);
    element.querySelector(".frame").scrollTop = 0;
  }

  async function show(name) {
    wanted = name;
    select.value = name;
    before = [];
    changed(name === "ALL" ? "" : name);
    await guarded(null);
  }

  async function guarded(at) {
    try {
      await load(at);
    } catch (error) {
      if (error.name === "AbortError") return;
      text(note, error.message);
    }
  }

  function makeRow(row) {
    const cells = Array.from({ length: heads.length - 1 }, () => h("td"));
    const tag = statusTag(row.status);
    cells[0].append(tag);
    const link = h("a", { href: href(row.index) }, String(row.index));
    return Object.assign(h("tr", {}, h("th", { scope: "row" }, link), cells), { parts: { cells, tag } });
  }

  function fillRow({ parts }, row) {
    const [, took, tries, task, result] = parts.cells;
    setStatus(parts.tag, row.status);
    text(took, seconds(row.duration_s));
    text(tries, String(row.attempts));
    const { kind, params } = kindAndParams(row.task);
    text(task, `${kind} ${params === null ? "" : oneLine(params)}`);
    fillResult(result, row);
  }

  // A cell is built anew only if what it tells has changed; URLs are signed anew at each answer.
  function fillResult(cell, row) {
    const files = filesOf(row.result);
    const movie = movieOf(row.result);
    const said = row.error ?? (files.length || movie || row.result === null ? "" : oneLine(row.result));
    const state = JSON.stringify([said, files.map((file) => file.name), movie !== null]);
    if (cell.dataset.state === state) return;
    cell.dataset.state = state;
    replace(
      cell,
      said ? h("span", row.error ? { class: "error" } : {}, said) : null,
      movie ? h("a", { href: href(row.index) }, "movie") : null,
      files.slice(0, FILES_SHOWN).map(fileLink),
      files.length > FILES_SHOWN ? h("a", { href: href(row.index) }, `and ${files.length - FILES_SHOWN} more`) : null,
    );
  }

  return { element, refresh: () => load(cursor), show };
}
