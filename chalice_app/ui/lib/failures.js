// The failures of a batch, grouped by their error, with links to some tasks of each group.

import { h, list, replace, text } from "./dom.js";
import { counted } from "./format.js";
import { FAILED } from "./lanes.js";

const SHOWN = 20; // groups

// Returns {element, fill(lanes)}. `href(index)` leads to a task; `all()` shows them in the table.
export function failureGroups({ href, all }) {
  const groups = h("ul", { class: "failures" });
  const more = h("p", { class: "muted" });
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "failures-heading", hidden: true },
    h(
      "div",
      { class: "head" },
      h("h2", { id: "failures-heading" }, "Failures by error"),
      h("button", { type: "button", class: "small", onclick: all }, "Show them in the table"),
    ),
    groups,
    more,
  );

  const make = () => {
    const parts = { number: h("strong"), error: h("p", { class: "error" }), examples: h("p", { class: "muted" }) };
    return Object.assign(h("li", {}, h("div", {}, parts.number), h("div", {}, parts.error, parts.examples)), { parts });
  };
  const update = ({ parts }, { error, number, examples }) => {
    text(parts.number, counted(number, "task"));
    text(parts.error, error);
    const shown = examples.join();
    if (parts.examples.dataset.shown === shown) return;
    parts.examples.dataset.shown = shown;
    const links = examples.map((index, n) => [n ? ", " : "", h("a", { href: href(index) }, `task ${index}`)]);
    replace(parts.examples, number > examples.length ? "for example " : "", links);
  };

  const fill = (lanes) => {
    const found = groupsOf(lanes);
    element.hidden = found.length === 0;
    list(groups, found.slice(0, SHOWN), (group) => group.error, make, update);
    text(more, found.length > SHOWN ? `and ${counted(found.length - SHOWN, "other error")}` : "");
  };
  return { element, fill };
}

// The groups, largest first: [{error, number, examples}].
export function groupsOf(lanes) {
  const found = lanes.errors.list.map((error, place) => ({
    error,
    number: lanes.byError[place] ?? 0,
    examples: lanes.examples[place] ?? [],
  }));
  const without = lanes.byStatus[FAILED] - found.reduce((sum, group) => sum + group.number, 0);
  if (without > 0) found.push({ error: "failed without an error", number: without, examples: lanes.bareFailures });
  return found.filter((group) => group.number > 0).sort((a, b) => b.number - a.number);
}
