// All batches of the client: search, filters, cancel, retry.

import { h, list, replace, set, text } from "../lib/dom.js";
import { count, seconds, setTime, time, usd } from "../lib/format.js";
import { act, cancelBatch, faultLine, hasEnded, progressBar, progressText, retryBatch, setStatus } from "../lib/parts.js";

const PAGE = 50;
const STATUSES = ["WAITING", "QUEUED", "RUNNING", "DONE", "CANCELLED"];
const TYPING_MS = 300;

export async function show(root, params, context) {
  context.title("Batches");
  const filters = { name: params.name ?? "", status: params.status ?? "", kind: params.kind ?? "" };
  // The pages after the first, which stay as they were read.
  let first = [];
  let rest = [];
  let cursor = null;
  let asked = 0;

  const name = h("input", { type: "search", name: "name", value: filters.name, maxlength: "200", placeholder: "Part of a name, or an id", autocomplete: "off" });
  const status = select("status", STATUSES, filters.status);
  const kind = select("kind", filters.kind ? [filters.kind] : [], filters.kind);
  const fault = faultLine();
  const table = makeTable();
  const none = h("div", { class: "empty", hidden: true });
  const more = h("button", { type: "button", hidden: true }, "Show older ones");
  const found = h("p", { class: "visually-hidden", role: "status" });

  replace(root,
    h("div", { class: "head" }, h("h1", {}, "Batches"), context.writer ? h("a", { class: "button", href: "#/submit" }, "Submit") : null),
    h("form", { class: "filters", role: "search", onsubmit: (event) => { event.preventDefault(); changed(); } },
      h("label", { class: "wide" }, "Search", name),
      h("label", {}, "Status", status),
      h("label", {}, "Kind", kind),
    ),
    fault.node,
    h("section", { class: "panel", "aria-label": "Batches" }, table.node, none),
    h("div", { class: "more" }, more),
    found,
  );

  let typing = null;
  name.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(changed, TYPING_MS);
  });
  status.addEventListener("change", changed);
  kind.addEventListener("change", changed);
  more.addEventListener("click", () => act(more, fault, readMore));
  context.signal.addEventListener("abort", () => clearTimeout(typing));

  const polled = context.poll(context, 3, readFirst);
  fillKinds();

  async function fillKinds() {
    try {
      const { kinds } = await context.api.get("kinds", {}, { signal: context.signal });
      for (const { name: each } of kinds) if (each !== filters.kind) kind.append(h("option", { value: each }, each));
    } catch (error) {
      if (error.name !== "AbortError") fault.say(error.message);
    }
  }

  function changed() {
    Object.assign(filters, { name: name.value.trim(), status: status.value, kind: kind.value });
    const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
    history.replaceState(null, "", `#/batches${query ? `?${query}` : ""}`);
    rest = [];
    asked += 1;
    polled.soon();
  }

  // A page may be short or empty while there are more: reads until there is something to show.
  async function readPage(after) {
    const wanted = asked;
    let page = { batches: [], cursor: after };
    do {
      const { batches, cursor: next } = await context.api.get("batches", { ...filters, limit: PAGE, cursor: page.cursor }, { signal: context.signal });
      page = { batches: [...page.batches, ...batches], cursor: next };
    } while (page.cursor && !page.batches.length && wanted === asked && page.cursor !== after);
    return wanted === asked ? page : null;
  }

  async function readFirst() {
    let page;
    try {
      page = await readPage(null);
    } catch (error) {
      if (error.name !== "AbortError") fault.say(error.message);
      throw error;
    }
    if (!page) {
      polled.soon();
      return;
    }
    fault.clear();
    first = page.batches;
    if (!rest.length) cursor = page.cursor;
    draw();
  }

  async function readMore() {
    const page = await readPage(cursor);
    if (!page) return;
    rest = [...rest, ...page.batches];
    cursor = page.cursor;
    draw();
  }

  function draw() {
    const known = new Set(first.map((batch) => batch.batch_id));
    const all = [...first, ...rest.filter((batch) => !known.has(batch.batch_id))];
    set(more, "hidden", !cursor);
    set(table.node, "hidden", all.length === 0);
    set(none, "hidden", all.length > 0);
    if (!all.length) {
      const filtered = Object.values(filters).some(Boolean);
      replace(none, h("p", { class: "muted" }, filtered ? "No batch is like this." : "No batch yet."));
    }
    text(found, `${count(all.length)} shown${cursor ? ", there are more" : ""}`);
    table.update(all);
  }

  function makeTable() {
    const body = h("tbody", { role: "rowgroup" });
    const column = (label, more = {}) => h("th", { scope: "col", role: "columnheader", ...more }, label);
    // Roles, since the display of a narrow screen takes those of a table away.
    const node = h("table", { class: "rows", role: "table", "aria-label": "Batches" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        column("Batch"), column("Status"), column("Progress"), column("Submitted"), column("Time", { class: "number" }), column("Cost", { class: "number" }),
        context.writer ? column("Actions", { class: "number" }) : null,
      )),
      body,
    );
    return { node, update: (batches) => list(body, batches, (batch) => batch.batch_id, makeRow, (row, batch) => row.update(batch)) };
  }

  function makeRow() {
    const cell = (attributes, ...children) => h("td", { role: "cell", ...attributes }, children);
    const link = h("a", { class: "name" });
    const sub = h("span", { class: "sub mono" });
    const tag = h("span", { class: "tag" });
    const bar = progressBar();
    const told = h("span", { class: "sub" });
    const at = time(null);
    const took = cell({ class: "number" });
    const cost = cell({ class: "number" });
    const cancel = h("button", { type: "button", class: "small danger", onclick: () => act(cancel, fault, () => cancelBatch(batch, context)).then(changedHere) }, "Cancel");
    const retry = h("button", { type: "button", class: "small", onclick: () => act(retry, fault, () => retryBatch(batch, context)).then(again) }, "Retry failed");
    const row = h("tr", { role: "row" },
      cell({ class: "who" }, link, sub),
      cell({}, tag),
      cell({ class: "doing" }, bar.node, told),
      cell({}, at),
      took,
      cost,
      context.writer ? cell({ class: "buttons" }, cancel, retry) : null,
    );
    let batch = null;
    row.update = (given) => {
      batch = given;
      const ended = hasEnded(batch);
      text(link, batch.name || batch.batch_id);
      set(link, "href", `#/batches/${batch.batch_id}`);
      text(sub, batch.name ? batch.batch_id : "");
      setStatus(tag, batch.status, batch.failed);
      bar.update(batch);
      text(told, progressText(batch));
      setTime(at, batch.created_at);
      text(took, ended
        ? seconds((Date.parse(batch.finished_at ?? batch.created_at) - Date.parse(batch.created_at)) / 1000)
        : batch.eta_s === null ? "" : `${seconds(batch.eta_s)} left`);
      text(cost, batch.cost_usd ? usd(batch.cost_usd) : "");
      set(cancel, "hidden", ended);
      set(cancel, "aria-label", `Cancel ${batch.name || batch.batch_id}`);
      set(retry, "hidden", !ended || !batch.failed);
      set(retry, "aria-label", `Retry the failed tasks of ${batch.name || batch.batch_id}`);
    };
    return row;

    function changedHere(after) {
      if (!after) return;
      row.update(after);
      rest = rest.map((one) => (one.batch_id === after.batch_id ? after : one));
      polled.soon();
    }

    function again(id) {
      if (id) context.go(`#/batches/${id}`);
    }
  }
}

function select(name, values, chosen) {
  return h("select", { name },
    h("option", { value: "" }, "Any"),
    values.map((value) => h("option", { value, selected: value === chosen }, value.toLowerCase())),
  );
}
