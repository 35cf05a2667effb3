// What a task prints, as it grows: read from where the last answer ended, followed to its end,
// paused when the reader asks. Nothing is asked for before the task's view says that there is more.

import { h, text } from "./dom.js";
import { bytes } from "./format.js";

const SELDOM_S = 3600; // what is there is asked for with `soon`
const NEAR = 40; // pixels from the end that still count as being at the end

// Returns {element, follow(history, bytes)}. `running()` says whether more may come.
export function outputPanel({ api, poll, signal, path, running }) {
  const content = h("pre", { class: "value output", tabindex: "0", role: "group", "aria-label": "Output" });
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
  const sizes = new Map(); // bytes of each attempt's output, as far as they are known
  let attempt = null;
  let newest = null;
  let offset = 0;
  let dropped = 0;
  let paused = false;
  let handle = null;
  let round = 0;

  // Tells which attempts there are, and how much the newest has printed. Shows the newest, unless
  // the reader has chosen another.
  function follow(history, newestBytes) {
    for (const one of history) sizes.set(one.attempt, one.log_bytes);
    const attempts = history.map((one) => one.attempt);
    const chosen = attempt !== null && attempt !== newest;
    newest = attempts.length ? attempts[attempts.length - 1] : null;
    if (newest !== null) sizes.set(newest, Math.max(sizes.get(newest), newestBytes));
    offer(attempts);
    if (newest !== null && newest !== attempt && !chosen) start(newest);
    else catchUp();
    tell();
  }

  function offer(attempts) {
    pickerLabel.hidden = attempts.length < 2;
    const shown = attempts.join();
    if (picker.dataset.shown === shown) return;
    picker.dataset.shown = shown;
    picker.replaceChildren(...attempts.map((number) => h("option", { value: String(number) }, String(number))));
    if (attempt !== null) picker.value = String(attempt);
  }

  function start(number) {
    attempt = number;
    picker.value = String(number);
    offset = 0;
    dropped = 0;
    round += 1;
    content.textContent = "";
    handle?.stop();
    handle = null;
    catchUp();
    tell();
  }

  function catchUp() {
    if (paused || attempt === null || offset >= sizes.get(attempt)) return;
    if (handle !== null) {
      handle.soon();
      return;
    }
    const own = round;
    handle = poll({ signal }, SELDOM_S, () => read(own));
  }

  async function read(own) {
    if (own !== round || paused || offset >= sizes.get(attempt)) return;
    let answer;
    try {
      answer = await api.text(`${path}/log`, { offset, attempt }, { signal });
    } catch (error) {
      if (own === round && error.name !== "AbortError") text(note, error.message);
      throw error;
    }
    if (own !== round) return;
    const ends = Number(answer.headers.get("X-Log-End"));
    const size = Number(answer.headers.get("X-Log-Bytes"));
    dropped = Number(answer.headers.get("X-Log-Dropped"));
    if (ends > offset) append(answer.text);
    // An answer without news must not be asked for again at once.
    sizes.set(attempt, ends > offset ? Math.max(sizes.get(attempt), size) : offset);
    offset = Math.max(offset, ends);
    tell();
    catchUp();
  }

  // Stays at the end if the reader is there; otherwise leaves the scroll alone.
  function append(more) {
    const following = content.scrollHeight - content.scrollTop - content.clientHeight < NEAR;
    if (content.firstChild) content.firstChild.appendData(more);
    else content.append(more);
    if (following) content.scrollTop = content.scrollHeight;
  }

  function tell() {
    const grows = running() && attempt === newest;
    if (grows && offset) content.dataset.growing = "";
    else delete content.dataset.growing;
    pause.hidden = !grows && !paused;
    end.hidden = offset === 0;
    text(note, words(grows));
  }

  function words(grows) {
    if (attempt === null) return running() ? "It has not started." : "It never ran.";
    if (offset === 0 && sizes.get(attempt) === 0) return grows ? "No output yet." : "It printed nothing.";
    const lost = dropped ? `; ${bytes(dropped)} after that were not kept` : "";
    const state = paused ? "Paused" : grows ? "Following" : offset < sizes.get(attempt) ? "Reading" : "Complete";
    return `${state}: ${bytes(offset)}${lost}.`;
  }

  function onPause() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    catchUp();
    tell();
  }

  function onEnd() {
    content.scrollTop = content.scrollHeight;
    content.focus({ preventScroll: true });
  }

  return { element, follow };
}
