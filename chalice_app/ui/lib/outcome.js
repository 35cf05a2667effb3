// The outcome bar of a batch: how many tasks succeeded, failed, were cancelled, and are left.

import { h, text } from "./dom.js";
import { count, percent } from "./format.js";

const PARTS = [
  ["succeeded", "succeeded"],
  ["failed", "failed"],
  ["cancelled", "cancelled"],
  ["left", "to come"],
];

// Returns {element, fill(batch)}.
export function outcomeBar() {
  const segments = PARTS.map(([name]) => h("span", { class: `outcome-part outcome-${name} eased` }));
  const numbers = PARTS.map(() => h("strong"));
  const bar = h("div", { class: "outcome-bar", role: "img" }, segments);
  const items = PARTS.map(([name, label], place) =>
    h("li", {}, h("span", { class: `outcome-swatch outcome-${name}`, "aria-hidden": "true" }), numbers[place], ` ${label}`),
  );
  const share = h("strong", { class: "outcome-share" });
  const element = h(
    "div",
    { class: "outcome" },
    h("div", { class: "outcome-row" }, bar, share),
    h("ul", { class: "outcome-legend" }, items),
  );
  const fill = ({ total, succeeded, failed, cancelled }) => {
    const ended = succeeded + failed + cancelled;
    const counts = [succeeded, failed, cancelled, Math.max(0, total - ended)];
    counts.forEach((number, place) => {
      // A part that is not empty is never too thin to be seen.
      segments[place].style.flexGrow = String(number);
      segments[place].style.minWidth = number ? "4px" : "0";
      text(numbers[place], count(number));
      items[place].hidden = number === 0 && place !== 0;
    });
    text(share, total ? percent(ended, total) : "");
    const said = PARTS.map(([, label], place) => `${count(counts[place])} ${label}`).join(", ");
    if (bar.getAttribute("aria-label") !== said) bar.setAttribute("aria-label", said);
  };
  return { element, fill };
}
