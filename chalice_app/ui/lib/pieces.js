// Pieces that the views of a batch and of a task share: statuses, facts, values, movies, files, and
// the dialog that asks before something is changed.

import { h, replace, webUrl } from "./dom.js";
import { bytes, count, seconds } from "./format.js";

const TONES = { SUCCEEDED: "ok", FAILED: "bad", LOST: "bad", CANCELLED: "warn", RUNNING: "run", DONE: "ok" };
const FOLD_LINES = 24;
const FOLD_CHARS = 4000;

// A status as a tag. `setStatus` brings it up to date.
export function statusTag(status) {
  const tag = h("span", { class: "tag" });
  setStatus(tag, status);
  return tag;
}

export function setStatus(tag, status) {
  if (tag.dataset.status === status) return;
  tag.dataset.status = status;
  tag.dataset.tone = TONES[status] ?? "";
  tag.textContent = status ? status[0] + status.slice(1).toLowerCase() : "";
}

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
  const pre = h("pre", { class: "value", tabindex: "0", role: "region", "aria-label": label }, short);
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
    Number.isFinite(movie.pictures) ? `${count(movie.pictures)} pictures` : null,
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

// Asks before something is changed. `choices` are [{value, label, checked}] to tick, at least one.
// Resolves to the ticked values ([] without choices), or to null if the reader thinks better of it.
export function confirm({ heading, body, act, danger = false, keep = "Back", choices = [] }) {
  return new Promise((resolve) => {
    const before = document.activeElement;
    const ticks = choices.map((choice) => h("input", { type: "checkbox", value: choice.value, checked: choice.checked }));
    const yes = h("button", { type: "submit", class: danger ? "primary bad" : "primary", value: "yes" }, act);
    const no = h("button", { type: "button", onclick: () => dialog.close("") }, keep);
    const check = () => {
      yes.disabled = ticks.length > 0 && !ticks.some((tick) => tick.checked);
    };
    const dialog = h(
      "dialog",
      { class: "confirm", "aria-labelledby": "confirm-heading", "aria-describedby": "confirm-body" },
      h(
        "form",
        { method: "dialog" },
        h("h2", { id: "confirm-heading" }, heading),
        h("p", { id: "confirm-body" }, body),
        choices.map((choice, place) => h("label", { class: "tick" }, ticks[place], choice.label)),
        h("div", { class: "actions" }, no, yes),
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
    dialog.showModal();
    (danger ? no : yes).focus();
    check();
  });
}
