// What a stream says in words: legend, summary, help, the note beside the pointer, and the table for
// those who do not see the canvas.

import { h, replace } from "./dom.js";
import { count, counted } from "./format.js";
import { STATUS_WORDS } from "./lanes.js";
import { styleOfKind } from "./paint.js";
import { span } from "./ticks.js";

const HEADINGS = ["Task", "Kind", "Outcome", "Began after", "Took", "Worker", "Error"];
const IN_TABLE = 100;
const KINDS_SHOWN = 8;
const HELP =
  "Drag to move, Ctrl and the wheel to zoom. Keys: left and right arrow move in time, + and − zoom, 0 shows all, " +
  "up and down arrow scroll the rows, [ and ] go to the task before and after, F to the next failure, Enter opens the task.";
let made = 0;

// The texts of one row.
function words(lanes, row) {
  return {
    index: String(lanes.index[row]),
    kind: lanes.kinds.list[lanes.kind[row]],
    status: STATUS_WORDS[lanes.status[row]],
    began: span(lanes.start[row] - lanes.first),
    took: span(lanes.duration[row]),
    worker: lanes.worker[row] >= 0 ? lanes.workers[lanes.worker[row]].name : "no worker",
    error: lanes.error[row] >= 0 ? lanes.errors.list[lanes.error[row]] : "",
  };
}

export function sentence(lanes, row) {
  const { index, kind, status, took, worker, error } = words(lanes, row);
  return `Task ${index}, ${kind}, ${status}, took ${took}, on ${worker}.${error && ` ${error}`}`;
}

export function note(lanes, row) {
  const { index, kind, status, began, took, worker, error } = words(lanes, row);
  const clock = new Date(lanes.start[row]).toLocaleTimeString("en-GB");
  return [
    h("strong", {}, `Task ${index}`),
    ` ${kind}, ${status}`,
    h("div", {}, `took ${took}, began after ${began}, at ${clock}`),
    h("div", { class: "stream-quiet" }, worker),
    error ? h("div", { class: "stream-error" }, error) : null,
  ];
}

export function summary(lanes) {
  if (!lanes.size) return "No task has ended yet.";
  const [succeeded, failed, cancelled] = lanes.byStatus.map(count);
  const workers = lanes.workers.length ? ` on ${counted(lanes.workers.length, "worker")}` : "";
  const within = lanes.last >= lanes.first ? ` within ${span(lanes.last - lanes.first)}` : "";
  const bare = lanes.neverRan
    ? ` ${counted(lanes.neverRan, "task")} never ran and ${lanes.neverRan === 1 ? "has" : "have"} no bar.`
    : "";
  return (
    `${counted(lanes.size, "task")} ended${workers}${within}, up to ${count(lanes.laneCount)} at once: ` +
    `${succeeded} succeeded, ${failed} failed, ${cancelled} cancelled.${bare}`
  );
}

// Brings the legend up to date; keeps it as it is when nothing changed.
export function fillLegend(legend, lanes) {
  const [, failed, cancelled] = lanes.byStatus;
  const names = lanes.kinds.list.slice(0, KINDS_SHOWN);
  if (lanes.kinds.list.length > KINDS_SHOWN) names[KINDS_SHOWN - 1] = "other kinds";
  const shown = JSON.stringify([names, failed > 0, cancelled > 0]);
  if (legend.dataset.shown === shown) return;
  legend.dataset.shown = shown;
  const item = (look, name) =>
    h("li", {}, h("span", { class: `stream-swatch ${look}`, "aria-hidden": "true" }), name);
  replace(
    legend,
    names.map((name, kind) => item(`stream-kind-${styleOfKind(kind)}`, name)),
    failed ? item("stream-failed", "failed") : null,
    cancelled ? item("stream-cancelled", "cancelled") : null,
  );
}

// The place of the canvas, which takes the keys.
export function makePlot(parts) {
  return h("div", { class: "stream-plot", tabindex: "0", role: "application", "aria-label": "Task stream" }, parts);
}

// The help that describes a plot.
export function makeHelp(plot) {
  const id = `stream-help-${++made}`;
  plot.setAttribute("aria-describedby", id);
  return h("p", { class: "stream-help", id }, HELP);
}

export function makeButtons(stream) {
  const button = (label, name, run) =>
    h("button", { class: "stream-button", type: "button", "aria-label": name, onclick: run }, label);
  return h("div", { class: "stream-buttons", role: "group", "aria-label": "View of the stream" },
    button("+", "Zoom in", () => stream.zoom(0.5)),
    button("−", "Zoom out", () => stream.zoom(2)),
    button("Fit", "Fit: show all", () => stream.fit()),
  );
}

// A table of the tasks in view, closed at first. `fill(lanes, view)` brings it up to date.
export function makeTable(href, opened) {
  const caption = h("caption");
  const body = h("tbody");
  const head = h("tr", {}, HEADINGS.map((name) => h("th", { scope: "col" }, name)));
  const region = { class: "stream-scroll", tabindex: "0", role: "group", "aria-label": "Tasks in view" };
  const element = h(
    "details",
    { class: "stream-table", ontoggle: opened },
    h("summary", {}, "Table of the tasks in view"),
    h("div", region, h("table", {}, caption, h("thead", {}, head), body)),
  );
  const fill = (lanes, view) => {
    if (!element.open) return;
    const all = lanes.countIn(view.from, view.to);
    const rows = lanes.rowsIn(view.from, view.to, IN_TABLE).sort((a, b) => lanes.from[a] - lanes.from[b]);
    caption.textContent =
      all > rows.length
        ? `${rows.length} of the ${count(all)} tasks in view; zoom in to see the others`
        : `${counted(all, "task")} in view`;
    replace(body, rows.map((row) => tableRow(words(lanes, row), href)));
  };
  return { element, fill };
}

function tableRow({ index, kind, status, began, took, worker, error }, href) {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, href ? h("a", { href: href(index) }, index) : index),
    [kind, status, began, took, worker, error].map((text) => h("td", {}, text)),
  );
}
