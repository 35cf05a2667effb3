// Tasks as text, one a line, pasted or from a file.

import { h, replace, set, text } from "../lib/dom.js";
import { acceptDrops, dropZone } from "../lib/files.js";
import { bytes, counted } from "../lib/format.js";

const SHOWN_MAX_BYTES = 1_000_000; // a larger file is sent as it is, and not shown
const ONE_REQUEST_BYTES = 5 * 1024 * 1024;

export function taskForm({ fault }) {
  let file = null;
  const input = h("textarea", {
    name: "tasks",
    rows: "12",
    spellcheck: "false",
    placeholder: "sleep 1000\nsleep 2000\n{\"kind\": \"command\", \"params\": \"date\"}",
    "aria-describedby": "tasks-help tasks-count",
  });
  const many = h("p", { class: "muted", id: "tasks-count" });
  const kinds = h("span", {});
  const chosen = h("div", { class: "chosen" });
  const zone = dropZone({ label: "Choose a task file", hint: "or drop one here, of any size", multiple: false, onFiles: take });
  acceptDrops(input, take);
  input.addEventListener("input", counting);
  counting();
  return {
    node: h("div", { class: "form" },
      h("label", {}, "Tasks", input),
      chosen,
      many,
      h("p", { class: "muted", id: "tasks-help" }, "One task a line: a kind and its params, or a task as a JSON object. Lines that begin with # are skipped. ", kinds),
      zone.node,
    ),
    kinds(known) {
      replace(kinds, known.size ? `Kinds of this service: ${[...known].sort().join(", ")}.` : "");
    },
    async collect() {
      if (file) return { file, large: true };
      if (!lines().length) {
        fault.say("There is no task. Write one a line, such as sleep 1000.");
        input.focus();
        return null;
      }
      const size = new Blob([input.value]).size;
      return { text: input.value, large: size > ONE_REQUEST_BYTES };
    },
  };

  function lines() {
    return input.value.split("\n").filter((line) => line.trim() && !line.trim().startsWith("#"));
  }

  function counting() {
    text(many, file ? "" : counted(lines().length, "task"));
  }

  async function take(files) {
    const [one] = files;
    if (!one) return;
    if (one.size > SHOWN_MAX_BYTES) {
      file = one;
    } else {
      file = null;
      input.value = await one.text();
    }
    set(input, "disabled", file !== null);
    replace(chosen, file
      ? [
          h("span", { class: "long" }, `${file.name}, ${bytes(file.size)}`),
          h("button", { type: "button", class: "small", onclick: forget }, "Remove"),
        ]
      : null);
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function forget() {
    file = null;
    set(input, "disabled", false);
    replace(chosen);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.focus();
  }
}
