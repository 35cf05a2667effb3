// Pieces that the views of a batch and of a task share: facts, values, movies, files, and a dialog
// with choices.

import { h, replace, webUrl } from "./dom.js";
import { bytes, count, counted, seconds } from "./format.js";

const FOLD_LINES = 24;
const FOLD_CHARS = 4000;

// A list of facts: `fill([[name, text or node], ...])` shows those whose value is neither null nor
// undefined. Nodes should be the same from call to call; texts are changed in place.
export function factList() {
  const element = h("dl", { class: "facts" });
  const known = new Map();
  const fill = (facts) => {
    const shown = facts.filter(([, value]) => value !== null && value !== undefined);
    const names = shown.map(([name]) => name).join("\n");
    for (const [name, value] of shown) {
      if (!known.has(name)) known.set(name, h("div", {}, h("dt", {}, name), h("dd")));
      const place = known.get(name).lastChild;
      if (value instanceof Node) {
        if (place.firstChild !== value) place.replaceChildren(value);
      } else if (place.textContent !== String(value)) {
        place.textContent = String(value);
      }
    }
    if (element.dataset.names !== names) {
      element.dataset.names = names;
      element.replaceChildren(...shown.map(([name]) => known.get(name)));
    }
  };
  return { element, fill };
}

// A value of JSON, indented; a string as it is. A long one is folded until the reader opens it.
export function value(given, label) {
  const all = typeof given === "string" ? given : JSON.stringify(given, null, 2);
  const lines = all.split("\n");
  const short = lines.slice(0, FOLD_LINES).join("\n").slice(0, FOLD_CHARS);
  const pre = h("pre", { class: "value", tabindex: "0", role: "group", "aria-label": label }, short);
  if (short.length === all.length) return pre;
  const rest = `${label}: ${count(lines.length)} lines, ${bytes(new Blob([all]).size)}`;
  const button = h(
    "button",
    {
      type: "button",
      class: "small",
      "aria-expanded": "false",
      onclick: () => {
        const open = button.getAttribute("aria-expanded") !== "true";
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Show less" : "Show all";
        pre.textContent = open ? all : short;
      },
    },
    "Show all",
  );
  return h("div", { class: "folded" }, pre, h("p", { class: "muted" }, rest, " ", button));
}

// A value of JSON in one line, cut to `most` characters.
export function oneLine(given, most = 160) {
  const all = typeof given === "string" ? given : JSON.stringify(given);
  const line = (all ?? "").slice(0, most * 4).replace(/\s+/g, " ");
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

// The kind and the params of a task as results have it: text, an object, or null.
export function kindAndParams(task) {
  if (typeof task === "string") {
    const [kind, ...rest] = task.split(" ");
    return { kind, params: rest.join(" ") };
  }
  return { kind: task?.kind ?? "", params: task?.params ?? null };
}

// The movie in a task's result, or null: {url, poster, width, height, seconds, bytes, skipped}.
export function movieOf(result) {
  const url = webUrl(result?.url);
  const poster = webUrl(result?.poster_url);
  if (!url || !poster || !String(result.key ?? "").endsWith(".mp4")) return null;
  const { width, height, duration_s: length, bytes: size, pictures, skipped } = result;
  return { url, poster, width, height, length, size, pictures, skipped };
}

// A movie that plays, with its poster. It loads nothing but the poster before it is played.
export function player(movie, name) {
  const missing = h("p", { class: "fault", role: "alert" });
  const video = h("video", {
    controls: true,
    preload: "none",
    playsinline: true,
    poster: movie.poster,
    src: movie.url,
    width: movie.width,
    height: movie.height,
    "aria-label": name,
    onerror: () => replace(missing, "The movie cannot be loaded. Its address expires: load this page again."),
  });
  return h("div", { class: "player" }, video, missing);
}

// What is to be said of a movie in one line.
export function movieWords(movie) {
  const skipped = Array.isArray(movie.skipped) ? movie.skipped.length : movie.skipped;
  return [
    seconds(movie.length),
    `${movie.width} × ${movie.height}`,
    bytes(movie.size),
    Number.isFinite(movie.pictures) ? counted(movie.pictures, "picture") : null,
    skipped ? `${count(skipped)} skipped` : null,
  ]
    .filter(Boolean)
    .join(", ");
}

// The files in a command's result: [{name, bytes, url or null}].
export function filesOf(result) {
  if (!Array.isArray(result?.outputs)) return [];
  return result.outputs
    .filter((file) => typeof file?.name === "string")
    .map((file) => ({ name: file.name, bytes: file.bytes, url: webUrl(file.url) }));
}

export function fileLink({ name, bytes: size, url }) {
  const said = Number.isFinite(size) ? h("span", { class: "muted" }, ` ${bytes(size)}`) : null;
  const link = url ? h("a", { href: url, target: "_blank", rel: "noopener noreferrer", download: name }, name) : name;
  return h("span", { class: "file" }, link, said);
}

// Returns the call with its errors told in `fault`, a line of `faultLine`, until it succeeds again.
export function telling(fault, call) {
  let said = false;
  return async () => {
    try {
      await call();
      if (said) fault.clear();
      said = false;
    } catch (error) {
      if (error.name !== "AbortError") {
        fault.say(`What is shown may be out of date. ${error.message}`);
        said = true;
      }
      throw error;
    }
  };
}

// Asks which of some choices to act on: [{value, label, checked}]. Resolves to the ticked values, at
// least one, or to null if the reader thinks better of it.
export function choose({ title, body, yes, choices }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const ticks = choices.map((choice) => h("input", { type: "checkbox", value: choice.value, checked: choice.checked }));
    const act = h("button", { type: "submit", class: "primary", value: "yes" }, yes);
    const check = () => {
      act.disabled = !ticks.some((tick) => tick.checked);
    };
    const dialog = h("dialog", { "aria-labelledby": "choice", "aria-describedby": "choice-body" },
      h("form", { method: "dialog" },
        h("h2", { id: "choice" }, title),
        h("p", { id: "choice-body" }, body),
        choices.map((choice, place) => h("label", { class: "tick" }, ticks[place], choice.label)),
        h("div", { class: "actions" }, h("button", { type: "button", onclick: () => dialog.close("") }, "Back"), act),
      ),
    );
    for (const tick of ticks) tick.addEventListener("change", check);
    dialog.addEventListener("close", () => {
      const said = dialog.returnValue === "yes";
      dialog.remove();
      before?.focus?.();
      resolve(said ? ticks.filter((tick) => tick.checked).map((tick) => tick.value) : null);
    });
    document.body.append(dialog);
    check();
    dialog.showModal();
    act.focus();
  });
}
