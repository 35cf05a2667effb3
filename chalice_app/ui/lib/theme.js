// The theme: light or dark as the system has it, unless the reader chose one.

import { h, replace } from "./dom.js";

const STORED = "taskfleet.theme";
const NEXT = { system: "light", light: "dark", dark: "system" };
const SIGNS = { system: "◐", light: "☀", dark: "☾" };

let chosen = "system";
try {
  chosen = localStorage.getItem(STORED) ?? "system";
} catch {
  // Storage is switched off: the choice lasts as long as the page.
}
if (!(chosen in NEXT)) chosen = "system";
apply();

// Returns the button that goes from the system's theme to light, to dark and back.
export function themeButton() {
  const button = h("button", { type: "button", class: "quiet icon", onclick: next });
  draw(button);
  return button;

  function next() {
    chosen = NEXT[chosen];
    try {
      localStorage.setItem(STORED, chosen);
    } catch {
      // As above.
    }
    apply();
    draw(button);
  }
}

function draw(button) {
  replace(button, h("span", { "aria-hidden": "true" }, SIGNS[chosen]));
  button.setAttribute("aria-label", `Theme: ${chosen}. Change to ${NEXT[chosen]}`);
  button.title = `Theme: ${chosen}`;
}

function apply() {
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  document.dispatchEvent(new CustomEvent("themechange"));
}
