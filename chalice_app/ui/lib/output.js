// What a task prints, as it grows: read from where the last answer ended, followed to its end,
// paused when the reader asks.

import { h, text } from "./dom.js";
import { bytes } from "./format.js";

const EVERY_S = 2;
const NEAR = 40; // pixels from the end that still count as being at the end

// Returns {element, follow(attempt)}. `running()` says whether more may come.
export function outputPanel({ api, poll, signal, path, running }) {
  const content = h("pre", { class: "output", tabindex: "0", role: "region", "aria-label": "Output" });
  const note = h("p", { class: "muted", role: "status" });
  const pause = h("button", { type: "button", class: "small", "aria-pressed": "false", onclick: onPause }, "Pause");
  const end = h("button", { type: "button", class: "small", onclick: onEnd }, "Jump to the end");
  const picker = h("select", { onchange: () => start(Number(picker.value)) });
  const pickerLabel = h("label", { class: "inline", hidden: true }, "Attempt", picker);
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "output-heading" },
    h("div", { class: "head" }, h("h2", { id: "output-heading" }, "Output"), pickerLabel, pause, end),
    content,
    note,
  );
  let attempt = null;
  let newest = null;
  let offset = 0;
  let dropped = 0;
  let size = 0;
  let paused = false;
  let handle = null;
  let round = 0;

  // Shows the output of the newest attempt, unless the reader chose another.
  function follow(attempts) {
    const last = attempts.length ? attempts[attempts.length - 1] : null;
    pickerLabel.hidden = attempts.length < 2;
    if (attempts.join() !== picker.dataset.shown) {
      picker.dataset.shown = attempts.join();
      picker.replaceChildren(...attempts.map((number) => h("option", { value: String(number) }, String(number))));
    }
    const chosen = attempt !== null && attempt !== newest;
    newest = last;
    if (last !== null && last !== attempt && !chosen) start(last);
    if (attempt !== null) picker.value = String(attempt);
    if (last === null) text(note, "It has not started.");
  }

  function start(number) {
    attempt = number;
    offset = 0;
    dropped = 0;
    size = 0;
    round += 1;
    content.textContent = "";
    text(note, "");
    handle?.stop();
    resume();
  }

  function resume() {
    const own = round;
    const one = { stop() {}, soon() {} };
    handle = one;
    Object.assign(one, poll({ signal }, EVERY_S, () => read(own, one)));
    if (own !== round) one.stop();
  }

  async function read(own, one) {
    const last = !running() || attempt !== newest; // what is read after the end is complete
    let answer;
    try {
      answer = await api.text(`${path}/log`, { offset, attempt }, { signal });
    } catch (error) {
      if (own !== round || error.name === "AbortError") return;
      if (error.status !== 404) {
        text(note, error.message);
        throw error;
      }
      text(note, last ? "It printed nothing." : "No output yet.");
      if (last) one.stop();
      return;
    }
    if (own !== round) return;
    const ends = Number(answer.headers.get("X-Log-End"));
    size = Number(answer.headers.get("X-Log-Bytes"));
    dropped = Number(answer.headers.get("X-Log-Dropped"));
    if (ends > offset) append(answer.text);
    offset = Math.max(offset, ends);
    tell();
    if (offset < size) one.soon();
    else if (last) one.stop();
  }

  // Stays at the end if the reader is there; otherwise leaves the scroll alone.
  function append(more) {
    const following = content.scrollHeight - content.scrollTop - content.clientHeight < NEAR;
    const last = content.lastChild;
    if (last) last.appendData(more);
    else content.append(more);
    if (following) content.scrollTop = content.scrollHeight;
  }

  function tell() {
    const kept = dropped ? `; ${bytes(dropped)} after that were not kept` : "";
    const state = paused ? "Paused" : running() && attempt === newest ? "Following" : "Complete";
    text(note, `${state}: ${bytes(offset)}${kept}.`);
  }

  function onPause() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    text(pause, paused ? "Go on" : "Pause");
    if (attempt === null) return;
    if (paused) {
      handle?.stop();
      tell();
    } else {
      resume();
    }
  }

  function onEnd() {
    content.scrollTop = content.scrollHeight;
    content.focus({ preventScroll: true });
  }

  return { element, follow };
}
