// Submit a batch: tasks as text, a command over files, or a movie of pictures.

import { h, replace, set, text } from "../lib/dom.js";
import { act, faultLine } from "../lib/parts.js";
import { quoteLines } from "../lib/quote.js";
import { sendFile } from "../lib/upload.js";
import { taskForm } from "./submit-tasks.js";
import { commandForm } from "./submit-command.js";
import { movieForm } from "./submit-movie.js";

const WAYS = [
  ["tasks", "Tasks", taskForm, null],
  ["command", "Command", commandForm, "command"],
  ["movie", "Movie", movieForm, "animoto"],
];

export async function show(root, params, context) {
  context.title("Submit");
  if (!context.writer) {
    replace(root, h("h1", {}, "Submit"), h("p", {}, "This token may only read. Sign in with another one to submit batches."));
    return;
  }
  const fault = faultLine();
  const doing = h("p", { class: "muted", role: "status" });
  const name = h("input", { name: "name", maxlength: "200", autocomplete: "off", placeholder: "Optional" });
  const timeout = h("input", { name: "timeout_s", type: "number", min: "0.001", max: "86400", step: "any", placeholder: "None" });
  const attempts = h("input", { name: "max_attempts", type: "number", min: "1", max: "100", step: "1", placeholder: "As the kind has it" });
  const priority = h("select", { name: "priority" }, h("option", { value: "" }, "Normal"), h("option", { value: "high" }, "High: before other batches"));
  const deadline = h("input", { name: "deadline_s", type: "number", min: "0.001", max: "604800", step: "any", placeholder: "None" });
  const budget = h("input", { name: "budget_usd", type: "number", min: "0.000001", max: "1000000", step: "any", placeholder: "None" });
  const after = h("input", { name: "after", autocomplete: "off", placeholder: "None" });
  const button = h("button", { type: "submit", class: "primary" }, "Submit");
  const ask = h("button", { type: "button", onclick: () => act(ask, fault, askForQuote) }, "Quote");
  const quoted = h("div", { class: "quoted", role: "status" });
  const forms = WAYS.map(([, , make]) => make({ ...context, fault }));
  const tabs = WAYS.map(([way, label], n) =>
    h("button", { type: "button", role: "tab", id: `tab-${way}`, "aria-controls": `way-${way}`, onclick: () => choose(n), onkeydown: arrows }, label),
  );
  const panels = WAYS.map(([way], n) =>
    h("section", { class: "panel way", role: "tabpanel", id: `way-${way}`, "aria-labelledby": `tab-${way}` }, forms[n].node),
  );
  const form = h("form", { class: "view", novalidate: true, onsubmit: submit },
    panels,
    h("section", { class: "panel options", "aria-label": "Batch" },
      h("label", {}, "Name of the batch", name),
      h("label", {}, "Time-out of a task, in seconds", timeout),
      h("label", {}, "Most attempts of a task", attempts),
      h("label", {}, "Priority", priority),
      h("label", {}, "Deadline, in seconds from now", deadline),
      h("label", {}, "Budget, in US dollars", budget),
      h("label", {}, "After these batches, by id", after),
    ),
    fault.node,
    quoted,
    h("div", { class: "actions" }, button, ask, doing),
  );
  replace(root, h("div", { class: "head" }, h("h1", {}, "Submit"), h("div", { class: "segments", role: "tablist", "aria-label": "What to submit" }, tabs)), form);

  let chosen = Math.max(0, WAYS.findIndex(([way]) => way === params.way));
  // A key is kept until something changes, so that pressing the button again after a lost answer
  // makes no second batch.
  let key = crypto.randomUUID();
  form.addEventListener("input", () => {
    key = crypto.randomUUID();
    fault.clear();
    replace(quoted);
  });
  choose(chosen);
  warnOfMissingKinds();

  function choose(n) {
    chosen = n;
    tabs.forEach((tab, each) => {
      set(tab, "aria-selected", String(each === n));
      set(tab, "tabindex", each === n ? "0" : "-1");
      set(panels[each], "hidden", each !== n);
    });
    fault.clear();
    replace(quoted);
    history.replaceState(null, "", `#/submit${n ? `?way=${WAYS[n][0]}` : ""}`);
  }

  function arrows(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choose((chosen + step + WAYS.length) % WAYS.length);
    tabs[chosen].focus();
  }

  async function warnOfMissingKinds() {
    try {
      const { kinds } = await context.api.get("kinds", {}, { signal: context.signal });
      const known = new Set(kinds.map((kind) => kind.name));
      forms.forEach((one) => one.kinds?.(known));
      WAYS.forEach(([, , , needed], n) => {
        if (!needed || known.has(needed)) return;
        panels[n].prepend(h("p", { class: "banner" }, `This service does not run the kind ${needed}; a batch of it would be refused.`));
      });
    } catch (error) {
      if (error.name !== "AbortError") fault.say(error.message);
    }
  }

  function submit(event) {
    event.preventDefault();
    return act(button, fault, send);
  }

  async function send() {
    const options = readOptions();
    if (!options) return;
    try {
      const collected = await forms[chosen].collect((told) => text(doing, told));
      if (!collected) return;
      text(doing, "Submitting");
      const accepted = await hand(collected, { ...options, idempotency_key: key });
      context.announce("The batch is accepted");
      if (!context.signal.aborted) context.go(`#/batches/${accepted.batch_id}`);
    } finally {
      text(doing, "");
    }
  }

  async function askForQuote() {
    try {
      const collected = await forms[chosen].collect((told) => text(doing, told));
      if (!collected) return;
      if (collected.large) {
        fault.say("These tasks are too many for a quote. Quote a part of them.");
        return;
      }
      text(doing, "Asking for a quote");
      const quote = collected.tasks
        ? await context.api.post("quote", { tasks: collected.tasks })
        : await context.api.postText("quote", collected.text);
      replace(quoted, quoteLines(quote));
    } finally {
      text(doing, "");
    }
  }

  function readOptions() {
    const options = {};
    if (name.value.trim()) options.name = name.value.trim();
    if (priority.value) options.priority = priority.value;
    const predecessors = after.value.split(/[\s,]+/).filter(Boolean);
    if (predecessors.length) options.after = predecessors;
    for (const input of [timeout, attempts, deadline, budget]) {
      set(input, "aria-invalid", input.validity.valid ? null : "true");
      if (!input.validity.valid) {
        fault.say(`${input.parentNode.firstChild.textContent}: ${input.validationMessage}`);
        input.focus();
        return null;
      }
      if (input.value) options[input.name] = Number(input.value);
    }
    return options;
  }

  // What is too much for one request goes through the bucket.
  async function hand(collected, options) {
    if (collected.tasks) return context.api.post("batches", { tasks: collected.tasks, ...options });
    if (!collected.large) {
      try {
        return await context.api.postText("batches", collected.text, options);
      } catch (error) {
        if (error.status !== 413) throw error;
      }
    }
    text(doing, "Sending the file");
    const uploaded = await sendFile(collected.file ?? new File([collected.text], "tasks.txt"), context);
    return context.api.post("batches", { upload_id: uploaded, ...options });
  }
}
