// Where the token comes from: the address, once, or the dialog that asks for it.

import { h, replace } from "./dom.js";
import { api } from "./api.js";

// Takes the token out of an address like `#token=...` and out of the address bar. Returns whether
// there was one.
export function takeTokenOfAddress() {
  const match = /^#token=([^&]*)/.exec(location.hash);
  if (!match) return false;
  const rest = new URLSearchParams(location.hash.slice(1)).get("view") ?? "";
  history.replaceState(null, "", `${location.pathname}${location.search}#/${rest}`);
  api.setToken(decodeURIComponent(match[1]));
  return true;
}

export function signOut() {
  api.setToken(null);
}

// Asks for a token in a dialog, and sets it. reason: what was wrong with the one before, or "".
export function askForToken(reason) {
  return new Promise((resolve) => {
    const input = h("input", {
      type: "password",
      name: "token",
      autocomplete: "off",
      spellcheck: "false",
      required: true,
      "aria-describedby": "token-help",
    });
    const fault = h("p", { class: "fault", role: "alert" });
    const dialog = h("dialog", { class: "signin", "aria-labelledby": "token-title" },
      h("form", { method: "dialog", novalidate: true, onsubmit: take },
        h("h2", { id: "token-title" }, "Sign in"),
        fault,
        h("label", {}, "Token", input),
        h("p", { id: "token-help", class: "muted" },
          "Paste the token of your service; ",
          h("code", {}, "taskfleet token"),
          " makes one, and the local cloud prints a link that has it. It is kept in this tab only.",
        ),
        h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Sign in")),
      ),
    );
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    if (reason) replace(fault, reason);
    document.body.append(dialog);
    dialog.showModal();
    input.focus();

    function take(event) {
      event.preventDefault();
      const value = input.value.trim().replace(/^bearer\s+/i, "");
      if (!/^[\x21-\x7e]+$/.test(value)) {
        replace(fault, value ? "A token has no spaces and only ASCII characters. Copy it again." : "Paste a token first.");
        input.setAttribute("aria-invalid", "true");
        input.focus();
        return;
      }
      api.setToken(value);
      dialog.close();
      dialog.remove();
      resolve();
    }
  });
}
