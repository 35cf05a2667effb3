// A command, run once for each of some files, or once with all of them.

import { h, list, set, text } from "../lib/dom.js";
import { dropZone } from "../lib/files.js";
import { bytes, count, counted } from "../lib/format.js";
import { command, pattern } from "../lib/template.js";
import { sendFiles } from "../lib/upload.js";

export function commandForm(context) {
  const { fault } = context;
  let files = [];
  const input = h("input", { name: "command", class: "mono", spellcheck: "false", autocomplete: "off", placeholder: "wc -l {}", "aria-describedby": "command-help" });
  const outputs = h("input", { name: "outputs", class: "mono", spellcheck: "false", autocomplete: "off", placeholder: "*.png {.}.txt" });
  const each = h("input", { type: "radio", name: "how", value: "each", checked: true });
  const once = h("input", { type: "radio", name: "how", value: "once" });
  const how = h("fieldset", { class: "how", hidden: true },
    h("legend", {}, "Run it"),
    h("label", { class: "choice" }, each, "once for each file"),
    h("label", { class: "choice" }, once, "once, with all files in its folder"),
  );
  const shown = h("ul", { class: "files" });
  const preview = h("p", { class: "mono long preview", "aria-live": "polite" });
  const zone = dropZone({ label: "Add files", hint: "or drop them here; each task finds its own in its folder", onFiles: add });
  const node = h("div", { class: "form" },
    h("label", {}, "Command", input),
    h("p", { class: "muted", id: "command-help" }, "Text for the shell. In it, {} is the file, {.} the file without its ending; each is quoted as one word. Without either, the file is the last word."),
    zone.node,
    shown,
    how,
    h("label", {}, "Files to keep, as patterns", outputs),
    preview,
  );
  node.addEventListener("input", look);
  look();
  return { node, collect };

  function add(given) {
    const known = new Set(files.map((file) => file.name));
    const twice = given.filter((file) => known.has(file.name));
    files = [...files, ...given.filter((file) => !known.has(file.name))];
    changed();
    if (twice.length) fault.say(`${twice[0].name}: a file of this name is there already. Names must differ.`);
  }

  function remove(file) {
    files = files.filter((one) => one !== file);
    changed();
  }

  function changed() {
    list(shown, files, (file) => file.name, makeFile);
    set(how, "hidden", files.length < 2);
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function makeFile(file) {
    return h("li", {},
      h("span", { class: "long" }, file.name),
      h("span", { class: "muted" }, bytes(file.size)),
      h("button", { type: "button", class: "small quiet", "aria-label": `Remove ${file.name}`, onclick: () => remove(file) }, "Remove"),
    );
  }

  // The commands, each with its files.
  function runs() {
    const template = input.value.trim();
    if (!files.length) return [{ shell: template, files: [], item: "" }];
    if (files.length > 1 && once.checked) return [{ shell: template, files, item: "" }];
    return files.map((file) => ({ shell: command(template, file.name), files: [file], item: file.name }));
  }

  function look() {
    set(input, "aria-invalid", null);
    if (!input.value.trim()) {
      text(preview, "");
      return;
    }
    try {
      const all = runs();
      text(preview, `$ ${all[0].shell}${all.length > 1 ? ` (and ${counted(all.length - 1, "more command")})` : ""}`);
    } catch (error) {
      set(input, "aria-invalid", "true");
      text(preview, error.message);
    }
  }

  async function collect(say) {
    if (!input.value.trim()) {
      fault.say("There is no command.");
      input.focus();
      return null;
    }
    let all;
    try {
      all = runs();
    } catch (error) {
      fault.say(error.message);
      input.focus();
      return null;
    }
    const patterns = outputs.value.split(/\s+/).filter(Boolean);
    const ids = await sendFiles(files, context, (done, of) => of && say(`Sending files: ${count(done)} of ${count(of)}`));
    const tasks = all.map((run) => {
      const params = { shell: run.shell };
      if (run.files.length) params.inputs = Object.fromEntries(run.files.map((file) => [file.name, `upload:${ids.get(file)}`]));
      if (patterns.length) params.outputs = patterns.map((one) => pattern(one, run.item));
      return { kind: "command", params };
    });
    return { tasks };
  }
}
