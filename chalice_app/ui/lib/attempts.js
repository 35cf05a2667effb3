// The attempts of a task on a line of time, and as a table.

import { h, list, text } from "./dom.js";
import { seconds, setTime, time } from "./format.js";
import { setStatus, statusTag } from "./parts.js";

const HEADS = ["Attempt", "Outcome", "Started", "Took", "Worker", "Error"];

// Returns {element, fill(history)}; history as `GET /batches/{id}/tasks/{index}` has it.
export function attemptsPanel() {
  const line = h("div", { class: "attempts-line", "aria-hidden": "true" });
  const body = h("tbody");
  const head = h("thead", {}, h("tr", {}, HEADS.map((name) => h("th", { scope: "col" }, name))));
  const none = h("p", { class: "muted" }, "It has not started.");
  const region = h("div", { class: "frame", tabindex: "0", role: "group", "aria-label": "Attempts" }, h("table", { class: "task-rows" }, head, body));
  const element = h("section", { class: "panel", "aria-labelledby": "attempts-heading" }, h("h2", { id: "attempts-heading" }, "Attempts"), none, line, region);

  const makeRow = () => {
    const tag = statusTag("");
    const started = time(null);
    const cells = [h("td", {}, tag), h("td", {}, started), h("td"), h("td"), h("td", { class: "error" })];
    const number = h("th", { scope: "row" });
    return Object.assign(h("tr", {}, number, cells), { parts: { number, tag, started, cells } });
  };
  const fillRow = ({ parts }, one) => {
    text(parts.number, one.attempt);
    setStatus(parts.tag, one.outcome);
    setTime(parts.started, one.started_at);
    text(parts.cells[2], seconds(tookS(one)));
    text(parts.cells[3], one.worker_id ?? "–");
    text(parts.cells[4], one.error ?? "");
  };

  const fill = (history) => {
    none.hidden = history.length > 0;
    region.hidden = history.length === 0;
    line.hidden = history.length === 0;
    list(body, history, (one) => one.attempt, makeRow, fillRow);
    const placed = places(history, Date.now());
    list(line, placed, (one) => one.attempt, () => h("span", { class: "attempts-bar" }), (bar, one) => {
      bar.dataset.outcome = one.outcome;
      bar.style.setProperty("--left", `${one.left}%`);
      bar.style.setProperty("--width", `${one.width}%`);
      text(bar, one.width > 3 ? one.attempt : "");
    });
  };
  return { element, fill };
}

function tookS({ started_at: from, ended_at: to }) {
  if (!from) return null;
  return Math.max(0, ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000);
}

// Where attempts stand on a line from the first start to the last end, in percent. One that runs
// goes on until `now`; one that was lost is drawn to the next start, since its end is not known.
export function places(history, now) {
  const known = history.filter((one) => one.started_at);
  const spans = known.map((one, place) => {
    const from = Date.parse(one.started_at);
    const next = known[place + 1];
    let to = now;
    if (one.ended_at) to = Date.parse(one.ended_at);
    else if (one.outcome === "LOST") to = next ? Date.parse(next.started_at) : from;
    return { ...one, from, to: Math.max(from, to) };
  });
  const first = Math.min(...spans.map((one) => one.from));
  const whole = Math.max(1, Math.max(...spans.map((one) => one.to)) - first);
  return spans.map(({ attempt, outcome, from, to }) => ({
    attempt,
    outcome,
    left: (100 * (from - first)) / whole,
    width: (100 * (to - from)) / whole,
  }));
}
