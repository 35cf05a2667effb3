// The client's schedules: when each submits its next batch, its last one, and removal.

import { h, list, replace, set, text } from "../lib/dom.js";
import { counted, seconds, setTime, time } from "../lib/format.js";
import { act, confirm, faultLine, missing } from "../lib/parts.js";

export async function show(root, params, context) {
  context.title("Schedules");
  const fault = faultLine();
  const note = h("div", {});
  const schedules = h("ul", { class: "letters" });
  const none = h("p", { class: "muted", hidden: true }, "None. A schedule submits the same tasks again and again; the command line makes one: taskfleet schedule add.");
  const head = h("h2", { id: "schedules" }, "Schedules");
  replace(root,
    h("div", { class: "head" }, h("h1", {}, "Schedules")),
    fault.node,
    h("section", { class: "panel", "aria-labelledby": "schedules" }, h("div", { class: "head" }, head), note, schedules, none),
  );

  const polled = context.poll(context, 10, read);

  async function read() {
    try {
      const answer = await context.api.get("schedules", {}, { signal: context.signal });
      draw(answer.schedules);
      fault.clear();
    } catch (error) {
      if (error.missing) {
        polled.stop();
        replace(note, missing("Schedules"));
      } else if (error.name !== "AbortError") {
        fault.say(error.message);
        throw error;
      }
    }
  }

  function draw(given) {
    text(head, given.length ? counted(given.length, "schedule") : "Schedules");
    set(none, "hidden", given.length > 0);
    list(schedules, given, (one) => one.name, make, (row, one) => row.update(one));
  }

  function make(one) {
    const when = h("span", { class: "muted" });
    const next = time(null);
    const last = h("a", { class: "mono" });
    const lastAt = time(null);
    const before = h("span", {}, "Last batch ", last, ", of ", lastAt);
    const error = h("span", { class: "reason" });
    const remove = context.writer
      ? h("button", { type: "button", "aria-label": `Remove the schedule ${one.name}`, onclick: () => act(remove, fault, () => removed(one.name)) }, "Remove")
      : null;
    const row = h("li", {},
      h("div", { class: "line" }, h("strong", { class: "long" }, one.name), when, h("span", {}, "Next batch ", next), remove),
      h("div", { class: "line" }, before),
      error,
    );
    row.update = (now) => {
      const rate = now.every_s === null ? `cron ${now.cron}, UTC` : `every ${seconds(now.every_s)}`;
      text(when, `${counted(now.total, "task")}, ${rate}; missed times: ${now.missed === "skip" ? "left out" : "made up for"}`);
      setTime(next, now.next_at);
      set(before, "hidden", !now.last_batch_id);
      text(last, now.last_batch_id);
      set(last, "href", now.last_batch_id ? `#/batches/${encodeURIComponent(now.last_batch_id)}` : null);
      setTime(lastAt, now.last_at);
      text(error, now.last_error);
      set(error, "hidden", !now.last_error);
    };
    return row;
  }

  async function removed(name) {
    const yes = await confirm({
      title: `Remove the schedule ${name}?`,
      body: "It submits no more batches. Those that it has submitted stay as they are.",
      yes: "Remove",
      danger: true,
    });
    if (!yes) return;
    await context.api.delete(`schedules/${encodeURIComponent(name)}`);
    context.announce(`The schedule ${name} is removed`);
    polled.soon();
  }
}
