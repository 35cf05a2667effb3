// Dead letters: messages that nobody could take, why, and their way back.

import { h, list, replace, set, text } from "../lib/dom.js";
import { count, counted, setTime, time } from "../lib/format.js";
import { act, confirm, faultLine, missing } from "../lib/parts.js";

const QUEUES = [
  ["tasks", "Tasks", "Bundles of tasks that no worker could take."],
  ["responses", "Responses", "Results that could not be counted."],
  ["uploads", "Uploads", "Batches whose file could not be read."],
];
const MOST = 100;

export async function show(root, params, context) {
  context.title("Dead letters");
  let queue = QUEUES.some(([name]) => name === params.queue) ? params.queue : "tasks";
  const fault = faultLine();
  const told = h("p", { class: "muted" });
  const letters = h("ul", { class: "letters" });
  const none = h("p", { class: "muted", hidden: true }, "None. Everything that was sent could be taken.");
  const note = h("div", {});
  const head = h("h2", { id: "letters" }, "Letters");
  const redrive = context.writer
    ? h("button", { type: "button", hidden: true, onclick: () => act(redrive, fault, sendBack) }, "Redrive all")
    : null;
  const buttons = QUEUES.map(([name, label]) =>
    h("button", { type: "button", "aria-pressed": String(name === queue), onclick: () => choose(name) }, label),
  );
  replace(root,
    h("div", { class: "head" }, h("h1", {}, "Dead letters"), h("div", { class: "segments", role: "group", "aria-label": "Queue" }, buttons)),
    told,
    fault.node,
    h("section", { class: "panel", "aria-labelledby": "letters" }, h("div", { class: "head" }, head, h("span", { class: "spacer" }), redrive), note, letters, none),
  );

  const polled = context.poll(context, 10, read);

  function choose(name) {
    queue = name;
    QUEUES.forEach(([each], n) => set(buttons[n], "aria-pressed", String(each === queue)));
    history.replaceState(null, "", `#/dead-letters${queue === "tasks" ? "" : `?queue=${queue}`}`);
    polled.soon();
  }

  async function read() {
    const asked = queue;
    try {
      const answer = await context.api.get("dead-letters", { queue: asked, limit: MOST }, { signal: context.signal });
      if (asked === queue) draw(answer.letters);
      fault.clear();
    } catch (error) {
      if (error.missing) {
        polled.stop();
        replace(note, missing("Dead letters"));
      } else if (error.name !== "AbortError") {
        fault.say(error.message);
        throw error;
      }
    }
  }

  function draw(unsorted) {
    const given = [...unsorted].sort((a, b) => b.sent_at.localeCompare(a.sent_at) || a.message_id.localeCompare(b.message_id));
    const [, label, about] = QUEUES.find(([name]) => name === queue);
    text(told, about);
    text(head, given.length ? `${given.length === MOST ? `The first ${count(MOST)} letters` : counted(given.length, "letter")} of ${label.toLowerCase()}` : label);
    set(none, "hidden", given.length > 0);
    if (redrive) set(redrive, "hidden", given.length === 0);
    list(letters, given, (one) => one.message_id, makeLetter, (row, one) => row.update(one));
  }

  async function sendBack() {
    const asked = queue;
    const yes = await confirm({
      title: "Redrive the dead letters?",
      body: "The letters of this queue that you may see go back to where they belong, to be tried once more. Mend first what made them fail.",
      yes: "Redrive",
    });
    if (!yes) return;
    const { moved } = await context.api.post("dead-letters/redrive", { queue: asked });
    context.announce(`${counted(moved, "letter")} moved back`);
    text(told, `${counted(moved, "letter")} moved back.`);
    polled.soon();
  }
}

function makeLetter() {
  const reason = h("span", { class: "reason" });
  const at = time(null);
  const batch = h("a", { class: "mono" });
  const job = h("span", { class: "mono muted long" });
  const body = h("pre", { tabindex: "0" });
  const details = h("details", {}, h("summary", {}, "Show the message"), body);
  const hidden = h("span", { class: "muted" }, "Its content is not shown, since it names no client.");
  const row = h("li", {}, h("div", { class: "line" }, reason, at), h("div", { class: "line" }, batch, job), details, hidden);
  row.update = (one) => {
    text(reason, one.reason || "No reason is known: it was received too often.");
    setTime(at, one.sent_at);
    text(batch, one.batch_id ?? "");
    set(batch, "href", one.batch_id ? `#/batches/${encodeURIComponent(one.batch_id)}` : null);
    set(batch, "hidden", !one.batch_id);
    text(job, one.job_id ?? "");
    set(details, "hidden", !one.body);
    set(hidden, "hidden", Boolean(one.body));
    text(body, one.body ?? "");
    set(body, "aria-label", `Message ${one.message_id}`);
  };
  return row;
}
