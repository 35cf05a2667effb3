// Parts that several views show: a status, a bar of progress, a question, a call that is missing.

import { h, replace, set, text } from "./dom.js";
import { count, counted } from "./format.js";

const TONES = {
  WAITING: "warn",
  QUEUED: "muted",
  RUNNING: "run",
  DONE: "ok",
  SUCCEEDED: "ok",
  FAILED: "bad",
  CANCELLED: "muted",
};

// Returns the tag of a status of a batch or a task.
export function statusTag(status) {
  const tag = h("span", { class: "tag" });
  setStatus(tag, status);
  return tag;
}

// Brings the tag up to date. failed: tasks of the batch that failed, 0 for a task.
export function setStatus(tag, status, failed = 0) {
  const troubled = status === "DONE" && failed > 0;
  text(tag, troubled ? "done, failures" : String(status ?? "").toLowerCase());
  set(tag, "data-tone", troubled ? "bad" : TONES[status] ?? "muted");
}

export function hasEnded(batch) {
  return batch.status === "DONE" || batch.status === "CANCELLED";
}

// Returns a bar of how the tasks of a batch ended: {node, update(batch)}.
export function progressBar() {
  const [ok, bad, off] = ["ok", "bad", "off"].map((name) => h("span", { class: `eased part ${name}` }));
  const node = h("div", { class: "progress", role: "progressbar", "aria-valuemin": "0" }, ok, bad, off);
  return {
    node,
    update(batch) {
      const ended = batch.succeeded + batch.failed + batch.cancelled;
      // A batch whose file is being read has no total yet.
      const total = Math.max(batch.total, ended);
      const share = (n) => `${total ? (100 * n) / total : 0}%`;
      ok.style.width = share(batch.succeeded);
      bad.style.width = share(batch.failed);
      off.style.width = share(batch.cancelled);
      set(node, "aria-label", `Progress of ${batch.name || batch.batch_id}`);
      set(node, "aria-valuemax", Math.max(1, total));
      set(node, "aria-valuenow", ended);
      set(node, "aria-valuetext", progressText(batch));
    },
  };
}

// "120 of 300 tasks, 2 failed".
export function progressText(batch) {
  const ended = batch.succeeded + batch.failed + batch.cancelled;
  const parts = [
    batch.total === 0 && !hasEnded(batch)
      ? "reading its file"
      : ended === batch.total
        ? counted(batch.total, "task")
        : `${count(ended)} of ${counted(batch.total, "task")}`,
  ];
  if (batch.failed) parts.push(`${count(batch.failed)} failed`);
  if (batch.cancelled) parts.push(`${count(batch.cancelled)} cancelled`);
  return parts.join(", ");
}

// Asks a question in a dialog. Resolves to whether the reader said yes.
export function confirm({ title, body, yes, danger = false }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const finish = (answer) => {
      dialog.close();
      dialog.remove();
      before?.focus?.();
      resolve(answer);
    };
    const dialog = h("dialog", { "aria-labelledby": "question" },
      h("form", { method: "dialog", onsubmit: (event) => event.preventDefault() },
        h("h2", { id: "question", class: "long" }, title),
        h("p", {}, body),
        h("div", { class: "actions" },
          h("button", { type: "button", onclick: () => finish(false) }, "Back"),
          h("button", { type: "button", class: danger ? "danger" : "primary", onclick: () => finish(true) }, yes),
        ),
      ),
    );
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      finish(false);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

// Asks, then cancels a batch. Returns its view after that, or null.
export async function cancelBatch(batch, { api, announce }) {
  const yes = await confirm({
    title: `Cancel ${batch.name || batch.batch_id}?`,
    body: "Tasks that have not started become cancelled. Those that run come to their end.",
    yes: "Cancel the batch",
    danger: true,
  });
  if (!yes) return null;
  const after = await api.delete(`batches/${batch.batch_id}`);
  announce(`${batch.name || batch.batch_id} is cancelled`);
  return after;
}

// Runs the failed tasks of a batch again, as a new one. Returns that one's id.
export async function retryBatch(batch, { api, announce }) {
  const accepted = await api.post(`batches/${batch.batch_id}/retry`, {});
  announce(`The failed tasks run again, as batch ${accepted.batch_id}`);
  return accepted.batch_id;
}

// Returns a message that is hidden while it has no text: {node, say(text), clear()}.
export function faultLine() {
  const node = h("p", { class: "fault", role: "alert" });
  return { node, say: (message) => text(node, message), clear: () => replace(node) };
}

// Returns a note that this service lacks what a part of the page shows.
export function missing(what) {
  return h("p", { class: "muted note" }, `${what}: this service does not have the call for it. It may be an older version.`);
}

// Runs the action of a button, which does nothing more meanwhile; it is not disabled, since that
// would take the focus from it. Says in `fault` what went wrong.
export async function act(button, fault, action) {
  if (button.getAttribute("aria-busy") === "true") return null;
  set(button, "aria-busy", "true");
  fault?.clear();
  try {
    return await action();
  } catch (error) {
    if (error.name !== "AbortError") {
      if (error.status === undefined) reportError(error);
      fault?.say(error.message);
    }
    return null;
  } finally {
    set(button, "aria-busy", null);
  }
}
