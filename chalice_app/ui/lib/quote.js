// A quote, as the page for submitting shows it.

import { h } from "./dom.js";
import { count, counted, seconds, usd } from "./format.js";

// Returns the lines of the answer of `POST quote`.
export function quoteLines(quote) {
  return h("section", { class: "panel", "aria-label": "Quote" },
    h("p", {}, h("strong", {}, timeOf(quote)), ` for ${counted(quote.tasks, "task")}, and ${usd(quote.usd)} for their time and AWS calls${idleOf(quote)}.`),
    h("p", { class: "muted" }, `${counted(quote.machines, "machine")} would work on it, ${count(quote.launches)} of them launched for it. The fleet: ${quote.fleet}.`),
    h("ul", { class: "muted" }, quote.rests_on.map((group) => h("li", { class: "long" }, basisOf(group)))),
  );
}

function timeOf(quote) {
  if (quote.p50_s === null) return "No end: no slot is there, and no machine may be launched";
  return `${seconds(quote.p50_s)}, at most ${seconds(quote.p90_s)} in nine of ten cases`;
}

function idleOf(quote) {
  return quote.idle_usd > 0 ? `, and ${usd(quote.idle_usd)} for machines that boot and idle` : "";
}

function basisOf(group) {
  const why = group.learned === null
    ? "as the kind says"
    : group.learned > 0
      ? `learned from ${counted(group.learned, "task")}`
      : "assumed, since none has run yet";
  return `${group.name}: ${counted(group.tasks, "task")} of ${seconds(group.mean_s)} on average, ${why}`;
}
