// The view of a batch: its outcome, the task stream, failures, movies and results.

import { h, replace, text } from "../lib/dom.js";
import { count, counted, seconds, setTime, time, usd } from "../lib/format.js";
import { failureGroups } from "../lib/failures.js";
import { movieShow } from "../lib/movies.js";
import { outcomeBar } from "../lib/outcome.js";
import { act, cancelBatch, faultLine, setStatus, statusTag } from "../lib/parts.js";
import { choose, factList, telling } from "../lib/pieces.js";
import { receiptOf } from "../lib/receipt.js";
import { resultsTable } from "../lib/results.js";
import { Stream } from "../stream.js";

const STATUS_S = 2;
const STREAM_S = 3;
const RESULTS_S = 5;
const OPTIONS = { timeout_s: "time-out", max_attempts: "tries", memory_mb: "memory", retry_timeouts: "time-outs tried again", after_failures: "after failures", reuse: "results reused", priority: "priority" };
const SHOWN_APART = new Set(["after", "deadline_s", "budget_usd"]);

export async function show(root, params, context) {
  const { api, poll, signal } = context;
  const path = `batches/${encodeURIComponent(params.batch)}`;
  const href = (index) => `#/${path}/tasks/${index}`;
  let batch = await api.get(path, {}, { signal });
  let ended = () => batch.finished_at !== null;

  const head = heading(context, path, () => batch, refresh);
  const outcome = outcomeBar();
  const facts = batchFacts(path);
  const banner = h("p", { class: "banner", role: "status", hidden: true });
  const streamHost = h("div");
  const failures = failureGroups({ href, all: () => { results.show("FAILED"); results.element.scrollIntoView({ block: "start" }); } });
  const movies = movieShow({ api, signal, path, href });
  const results = resultsTable({ api, signal, path, href, status: params.status ?? "", changed: keepFilter });
  const receipt = receiptOf({ api, signal, path });
  const stale = faultLine();
  const told = (call) => telling(stale, call);
  replace(
    root,
    head.element,
    stale.node,
    banner,
    h("section", { class: "panel", "aria-label": "Outcome" }, outcome.element, facts.element),
    h("section", { class: "panel", "aria-labelledby": "stream-heading" }, h("h2", { id: "stream-heading" }, "Task stream"), streamHost),
    failures.element,
    movies.element,
    results.element,
    receipt.element,
  );
  const stream = new Stream(streamHost, { onPick: (index) => context.go(href(index).slice(1)), href });
  signal.addEventListener("abort", () => stream.destroy());
  draw();

  // The filter stands in the address, so that the view can be sent to a colleague.
  function keepFilter(status) {
    const query = status ? `?status=${encodeURIComponent(status)}` : "";
    history.replaceState(null, "", `#/${path}${query}`);
  }

  function draw() {
    context.title(batch.name ?? `Batch ${batch.batch_id}`);
    head.fill(batch);
    outcome.fill(batch);
    facts.fill(batch);
    receipt.fill(batch);
    const said = [batch.error, batch.at_risk && `${batch.finished_at ? "Late" : "At risk"}: ${batch.at_risk}`].filter(Boolean).join("; ");
    text(banner, said);
    banner.hidden = !said;
  }

  async function refresh() {
    const before = batch.status;
    batch = await api.get(path, {}, { signal });
    draw();
    if (batch.status !== before) context.announce(`The batch is ${batch.status.toLowerCase()}`);
    if (ended()) look.stop();
  }

  let cursor = null;
  async function growStream() {
    const page = await api.get(`${path}/stream`, { cursor }, { signal });
    cursor = page.cursor;
    if (stream.add(page)) failures.fill(stream.lanes);
    if (cursor === null) return grow.stop();
    if (page.rows.length) grow.soon();
    return undefined;
  }

  let last = false;
  async function growResults() {
    last = ended(); // what is asked for after the end is complete
    await results.refresh();
    if (last) rows.stop();
  }

  let seen = false;
  async function growMovies() {
    const last = ended();
    if (stream.lanes.kinds.list.includes("animoto") || batch.kinds?.includes("animoto")) await movies.refresh();
    seen = last && cursor === null;
    if (seen) shows.stop();
  }

  // `poll` runs its function at once, before it returns: the first answers must find the handles.
  const look = { stop() {} };
  const grow = { stop() {}, soon() {} };
  const rows = { stop() {} };
  const shows = { stop() {} };
  Object.assign(grow, poll(context, STREAM_S, told(growStream)));
  Object.assign(rows, poll(context, RESULTS_S, told(growResults)));
  Object.assign(shows, poll(context, RESULTS_S, told(growMovies)));
  if (!ended()) Object.assign(look, poll(context, STATUS_S, told(refresh)));
}

// The heading with what a writer may do: cancel while it runs, retry once it has ended.
function heading(context, path, now, refresh) {
  const name = h("h1");
  const tag = statusTag("");
  const fault = faultLine();
  const cancel = h("button", { type: "button", class: "danger", hidden: true, onclick: () => act(cancel, fault, askToCancel) }, "Cancel");
  const retry = h("button", { type: "button", hidden: true, onclick: () => act(retry, fault, askToRetry) }, "Retry");
  const crumbs = h("nav", { class: "crumbs", "aria-label": "Place" }, h("a", { href: "#/batches" }, "Batches"));
  const element = h("div", {}, crumbs, h("div", { class: "head" }, name, tag, cancel, retry), fault.node);

  function fill(batch) {
    text(name, batch.name ?? batch.batch_id);
    setStatus(tag, batch.status, batch.failed);
    const ended = batch.finished_at !== null;
    cancel.hidden = !context.writer || ended || batch.status === "CANCELLED";
    retry.hidden = !context.writer || !ended || batch.failed + batch.cancelled === 0;
    text(retry, batch.failed ? "Retry failed" : "Retry cancelled");
  }

  async function askToCancel() {
    if ((await cancelBatch(now(), context)) !== null) await refresh();
  }

  async function askToRetry() {
    const batch = now();
    const key = newKey(); // pressing twice makes one batch
    const choices = [
      { value: "FAILED", label: `Failed (${count(batch.failed)})`, number: batch.failed, checked: true },
      { value: "CANCELLED", label: `Cancelled (${count(batch.cancelled)})`, number: batch.cancelled, checked: batch.failed === 0 },
    ];
    const status = await choose({
      title: "Retry these tasks?",
      body: "They run again in a new batch with the name and the options of this one. This batch stays as it is.",
      yes: "Retry",
      choices: choices.filter((choice) => choice.number > 0),
    });
    if (status === null) return;
    const made = await context.api.post(`${path}/retry`, { status, idempotency_key: key });
    context.announce(`A new batch has ${counted(made.total, "task")}`);
    context.go(`/batches/${encodeURIComponent(made.batch_id)}`);
  }

  return { element, fill };
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function batchFacts(path) {
  const { element, fill } = factList();
  const created = time(null);
  const finished = time(null);
  const due = time(null);
  const before = h("a");
  const predecessors = batchLinks();
  const followers = batchLinks();
  const id = h("code", {}, decodeURIComponent(path.slice("batches/".length)));
  const trace = h("code");
  return {
    element,
    fill(batch) {
      setTime(created, batch.created_at);
      setTime(finished, batch.finished_at);
      text(trace, batch.trace_id);
      const done = batch.succeeded + batch.failed + batch.cancelled;
      const until = batch.finished_at === null ? Date.now() : Date.parse(batch.finished_at);
      const took = Math.max(0, (until - Date.parse(batch.created_at)) / 1000);
      if (batch.retry_of) {
        before.href = `#/batches/${encodeURIComponent(batch.retry_of)}`;
        text(before, batch.retry_of);
      }
      const running = batch.finished_at === null;
      const { deadline_s: deadline, budget_usd: budget } = batch.options ?? {};
      if (deadline) setTime(due, new Date(Date.parse(batch.created_at) + 1000 * deadline).toISOString());
      fill([
        ["Tasks", count(batch.total)],
        ["Left, estimated", running ? (batch.eta_s === null ? "not known yet" : seconds(batch.eta_s)) : null],
        [running ? "Since submission" : "Took", seconds(took)],
        ["Tasks a second", took > 0 && done ? rateOf(done / took) : null],
        [running ? "Cost so far" : "Cost", `${usd(batch.cost_usd)} for ${counted(batch.aws_calls, "AWS call")}`],
        ["Quoted", quotedText(batch.quote)],
        ["Actual", actualText(batch.quote)],
        ["Submitted", created],
        ["Ended", running ? null : finished],
        ["Kinds", batch.kinds?.length ? batch.kinds.join(", ") : null],
        ["Deadline", deadline ? due : null],
        ["Budget", budget ? usd(budget) : null],
        ["Options", optionsText(batch.options)],
        ["Growing", batch.open ? "tasks can still be added" : null],
        ["Retry of", batch.retry_of ? before : null],
        [batch.status === "WAITING" ? "Waits for" : "Waited for", predecessors(batch.options?.after)],
        [running ? "Waiting for this" : "Waited for this", followers(batch.followers)],
        ["Batch", id],
        ["Trace", batch.trace_id ? trace : null],
      ]);
    },
  };
}

function quotedText(quote) {
  if (!quote) return null;
  if (quote.p50_s === null) return "no end: no machine may be launched";
  return `${seconds(quote.p50_s)}, at most ${seconds(quote.p90_s)} in nine of ten cases, ${usd(quote.usd)}`;
}

function actualText(quote) {
  if (!quote || quote.actual_s === null) return null;
  return `${seconds(quote.actual_s)}, ${usd(quote.actual_usd)}`;
}

// Returns a function that gives the links to batches, by id, as one node; null for none.
function batchLinks() {
  const shown = 10;
  const node = h("span", { class: "links" });
  let drawn = "";
  return (ids) => {
    if (!ids?.length) return null;
    if (drawn !== ids.join()) {
      drawn = ids.join();
      const links = ids.slice(0, shown).map((id) => h("a", { href: `#/batches/${encodeURIComponent(id)}` }, id));
      replace(node, ...links.flatMap((link, n) => (n ? [", ", link] : [link])), ids.length > shown ? ` and ${count(ids.length - shown)} more` : "");
    }
    return node;
  };
}

function rateOf(number) {
  return number >= 100 ? count(Math.round(number)) : String(Number(number.toPrecision(2)));
}

function optionsText(options) {
  if (!options) return null;
  const said = Object.entries(options)
    .filter(([name, value]) => value !== null && !SHOWN_APART.has(name))
    .map(([name, value]) => {
      const label = OPTIONS[name] ?? name;
      if (name === "timeout_s") return `${label} ${seconds(value)}`;
      if (name === "memory_mb") return `${label} ${count(value)} MB`;
      return value === true ? label : value === false ? `no ${label}` : `${label} ${value}`;
    });
  return said.length ? said.join(", ") : null;
}
