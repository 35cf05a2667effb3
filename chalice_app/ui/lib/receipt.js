// The receipt of a batch that has ended: whether every task has exactly one result.

import { h, replace } from "./dom.js";
import { count, counted } from "./format.js";
import { act, faultLine } from "./parts.js";

// Returns {element, fill(batch)}. The audit reads every record of the batch, so it is made on demand.
export function receiptOf({ api, signal, path }) {
  const said = h("div", { role: "status" });
  const fault = faultLine();
  const button = h("button", { type: "button", class: "small", onclick: () => act(button, fault, audit) }, "Audit");
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "receipt-heading", hidden: true },
    h("div", { class: "head" }, h("h2", { id: "receipt-heading" }, "Receipt"), button),
    h("p", { class: "muted" }, "Compares what was submitted, counted and recorded."),
    fault.node,
    said,
  );

  async function audit() {
    const found = await api.get(`${path}/audit`, {}, { signal });
    const more = found.fault_count - found.faults.length;
    replace(
      said,
      h("p", {}, h("strong", {}, found.balanced ? "It balances: every task has exactly one result." : "It does not balance.")),
      h("p", {}, `${counted(found.total, "task")}: ${count(found.succeeded)} succeeded, ${count(found.failed)} failed, ${count(found.cancelled)} cancelled; ${counted(found.attempts, "execution")}.`),
      found.faults.length ? h("ul", {}, found.faults.map((line) => h("li", { class: "error" }, line))) : null,
      more > 0 ? h("p", { class: "muted" }, `and ${counted(more, "other fault")}`) : null,
      h("p", { class: "muted" }, "SHA-256 of the results: ", h("code", { class: "digest" }, found.sha256)),
    );
  }

  return {
    element,
    fill(batch) {
      element.hidden = batch.finished_at === null;
    },
  };
}
