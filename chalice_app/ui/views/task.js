// The view of a task: params, result, traceback, attempts, and what it prints.

import { h, replace, text } from "../lib/dom.js";
import { attemptsPanel } from "../lib/attempts.js";
import { count, counted, seconds } from "../lib/format.js";
import { outputPanel } from "../lib/output.js";
import { faultLine, setStatus, statusTag } from "../lib/parts.js";
import { factList, fileLink, filesOf, kindAndParams, movieOf, movieWords, player, telling, value } from "../lib/pieces.js";

const EVERY_S = 2;
const FINAL = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

export async function show(root, params, context) {
  const { api, poll, signal } = context;
  const batchPath = `batches/${encodeURIComponent(params.batch)}`;
  const path = `${batchPath}/tasks/${params.index}`;
  const index = Number(params.index);
  let task = await api.get(path, {}, { signal });
  const running = () => !FINAL.has(task.status);
  context.title(`Task ${index}`);

  const stale = faultLine();
  const tag = statusTag(task.status);
  const batchLink = h("a", { href: `#/${batchPath}` }, "Batch");
  const back = h("a", { class: "button small", href: `#/${batchPath}/tasks/${index - 1}`, hidden: index === 0 }, "Task before");
  const on = h("a", { class: "button small", href: `#/${batchPath}/tasks/${index + 1}`, hidden: true }, "Task after");
  const why = h("p", { class: "why" });
  const facts = factList();
  const error = h("p", { class: "error" });
  const bar = progressBar();
  const parts = { params: place("Params"), result: place("Result"), traceback: place("Traceback") };
  const attempts = attemptsPanel();
  const output = outputPanel({ api, poll, signal, path, running });
  replace(
    root,
    h("nav", { class: "crumbs", "aria-label": "Place" }, h("a", { href: "#/batches" }, "Batches"), " / ", batchLink),
    h("div", { class: "head" }, h("h1", {}, `Task ${index}`), tag, back, on),
    stale.node,
    h("section", { class: "panel state", "aria-label": "State" }, error, why, bar.element, facts.element),
    parts.params.element,
    parts.result.element,
    parts.traceback.element,
    output.element,
    attempts.element,
  );
  draw();
  const look = { stop() {} };
  if (running()) Object.assign(look, poll(context, EVERY_S, telling(stale, refresh)));
  await nameTheBatch();

  async function refresh() {
    const before = task.status;
    task = await api.get(path, {}, { signal });
    draw();
    if (task.status !== before) context.announce(`The task is ${task.status.toLowerCase()}`);
    // A result that is not counted yet is final, but what it waits for still changes.
    if (!running() && task.why === "nothing: it is done") look.stop();
  }

  function draw() {
    setStatus(tag, task.status);
    text(why, task.why ? `Now: ${task.why}.` : "");
    why.hidden = !task.why || (!running() && task.why.startsWith("nothing"));
    text(error, task.error ?? "");
    error.hidden = !task.error;
    bar.fill(running() ? task.progress : null);
    const { kind, params: given } = kindAndParams(task.task);
    facts.fill([
      ["Kind", kind || null],
      ["Took", task.duration_s === null ? null : seconds(task.duration_s)],
      ["Attempts", count(Math.max(task.attempts, task.history.length))],
      ["Worker", task.worker_id],
      ["Result of", task.reused_from ? earlierTask(task.reused_from) : null],
      ["Limits", limitsText(task.limits)],
    ]);
    parts.params.fill(given === "" ? null : given, () => value(given, "Params"));
    parts.result.fill(task.result, () => resultOf(task.result, index));
    parts.traceback.fill(task.traceback, () => value(task.traceback, "Traceback"));
    attempts.fill(task.history);
    output.follow(task.history, task.log_bytes);
  }

  async function nameTheBatch() {
    const batch = await api.get(batchPath, {}, { signal });
    text(batchLink, batch.name ?? batch.batch_id);
    on.hidden = index + 1 >= batch.total;
    context.title(`Task ${index} of ${batch.name ?? batch.batch_id}`);
  }
}

// A panel that is there only with content, and built anew only if the content changed.
function place(heading) {
  const id = `part-${heading.toLowerCase()}`;
  const content = h("div");
  const element = h("section", { class: "panel", "aria-labelledby": id, hidden: true }, h("h2", { id }, heading), content);
  let known = null;
  const fill = (given, make) => {
    element.hidden = given === null || given === undefined;
    // Addresses are signed anew at each answer: they alone are no change.
    const state = element.hidden ? null : JSON.stringify(given, (key, one) => (/url$/.test(key) ? undefined : one));
    if (state === known) return;
    known = state;
    if (element.hidden) replace(content);
    else replace(content, make());
  };
  return { element, fill };
}

// The result of a task: a movie plays, files are links, output ends are text, the rest is JSON.
function resultOf(result, index) {
  const movie = movieOf(result);
  if (movie) {
    return [
      player(movie, `Movie of task ${index}`),
      h("p", {}, h("a", { href: movie.url, target: "_blank", rel: "noopener noreferrer" }, "Open the movie"), h("span", { class: "muted" }, ` ${movieWords(movie)}`)),
      h("details", {}, h("summary", {}, "As JSON"), value(result, "Result")),
    ];
  }
  if (!isOfCommand(result)) return value(result, "Result");
  const files = filesOf(result);
  const status = result.exit_status === null ? "ended by a signal" : `exit status ${result.exit_status}`;
  return [
    h("p", {}, `${status}, ${counted(files.length, "file")}`),
    files.length ? h("ul", { class: "files" }, files.map((file) => h("li", {}, fileLink(file)))) : null,
    ["stdout", "stderr"].map((name) => (result[name] ? h("details", {}, h("summary", {}, `End of ${name}`), value(result[name], name)) : null)),
    h("details", {}, h("summary", {}, "As JSON"), value(result, "Result")),
  ];
}

function isOfCommand(result) {
  return Array.isArray(result?.outputs) && typeof result.stdout === "string" && typeof result.stderr === "string";
}

function progressBar() {
  const bar = h("progress", { "aria-label": "Progress of the task" });
  const words = h("span", { class: "muted" });
  const element = h("p", { class: "task-progress", hidden: true }, bar, " ", words);
  const fill = (progress) => {
    const known = Array.isArray(progress) && progress.length === 2 && progress.every(Number.isFinite);
    element.hidden = !known;
    if (!known) return;
    const [done, total] = progress;
    bar.setAttribute("max", String(total || 1));
    bar.value = Math.min(done, total || 1);
    text(words, `${count(done)} of ${count(total)}`);
  };
  return { element, fill };
}

// A link to the task whose result this one took: `<batch>/<index>`.
function earlierTask(id) {
  const [batch, place] = id.split("/");
  return h("a", { href: `#/batches/${encodeURIComponent(batch)}/tasks/${encodeURIComponent(place)}` }, id);
}

function limitsText(limits) {
  if (!limits) return null;
  const said = [
    limits.timeout_s ? `time-out ${seconds(limits.timeout_s)}` : null,
    limits.max_attempts ? counted(limits.max_attempts, "attempt") : null,
    limits.memory_mb ? `${count(limits.memory_mb)} MB` : null,
  ].filter(Boolean);
  return said.length ? said.join(", ") : null;
}
