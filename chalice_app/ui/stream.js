// The task stream: one row a slot, one bar a task, over time. Owns the view (what is shown of the
// time), what the reader does with mouse, touch and keys, the legend and the table for those who do
// not see the canvas. Packing is in lib/lanes.js, drawing in lib/paint.js.

import { h, replace } from "./lib/dom.js";
import { count, plural, ms } from "./lib/words.js";
import { FAILED, Lanes, STATUS_WORDS } from "./lib/lanes.js";
import { AXIS_HEIGHT, MARKS_HEIGHT, box, laneAt, layout, paint, styleOfKind } from "./lib/paint.js";
import { ticks } from "./lib/ticks.js";
import { watchLook } from "./lib/look.js";

const ROOM = 420; // pixels of lanes that are shown without scrolling
const SPARE = 8; // pixels below the last row
const SHORTEST_SPAN = 0.02; // milliseconds
const IN_TABLE = 100;
const TICK_ROOM = 110; // pixels between ticks
const SLOP = 4; // pixels beside a bar that still mean it
const HELP =
  "Left and right arrow move in time, plus and minus zoom, 0 shows all. Up and down arrow scroll the rows. " +
  "Square brackets go to the task before and after, F to the next failure, Enter opens the task.";

export class Stream {
  // `onPick(index)` is called when a task is chosen; `href(index)` gives the table its links.
  constructor(host, { onPick = null, href = null } = {}) {
    this.lanes = new Lanes();
    this.onPick = onPick;
    this.href = href;
    this.moved = false; // the reader chose a view; else all is shown as it grows
    this.view = { from: 0, to: 1000, width: 0, height: 0, top: 0, plan: layout(this.lanes, ROOM) };
    this.rowHeight = undefined;
    this.selected = -1;
    this.hovered = -1;
    this.pointers = new Map();
    this.dirty = false;
    this.leave = new AbortController();
    this.#build(host);
    this.look = watchLook(this.root, this.leave.signal, () => this.#repaint());
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.plot);
    this.#resize();
  }

  // Adds a page of the batch's stream; see lib/lanes.js.
  add(page) {
    const added = this.lanes.add(page);
    if (!added) return 0;
    this.#replan();
    if (!this.moved) this.#show(...this.#whole());
    this.#describe();
    this.#repaint();
    return added;
  }

  fit() {
    this.moved = false;
    this.view.top = 0;
    this.rowHeight = undefined;
    this.#replan();
    this.#show(...this.#whole());
  }

  // Zooms by a factor (below 1: nearer) around x, a fraction of the width.
  zoom(factor, x = 0.5) {
    const { from, to } = this.view;
    const at = from + (to - from) * x;
    const [first, last] = this.#whole();
    const span = Math.min(Math.max((to - from) * factor, SHORTEST_SPAN), (last - first) * 1.5);
    this.moved = true;
    this.#show(at - span * x, at + span * (1 - x));
  }

  // Moves the view by fractions of its width, and by pixels of height.
  pan(share, down = 0) {
    const { from, to } = this.view;
    const [first, last] = this.#whole();
    const span = to - from;
    const by = Math.min(Math.max(span * share, first - span * 0.5 - from), last + span * 0.5 - to);
    if (share) this.moved = true;
    this.view.top = this.#top(this.view.top + down);
    this.#show(from + by, to + by);
  }

  // Marks a task and brings it into view.
  select(row) {
    this.selected = row;
    if (row < 0) return this.#overlay();
    const { from, to } = this.lanes;
    const span = this.view.to - this.view.from;
    if (from[row] < this.view.from || to[row] > this.view.to) {
      const wide = Math.max(span, (to[row] - from[row]) * 1.2);
      const middle = (from[row] + to[row]) / 2;
      this.moved = true;
      this.#show(middle - wide / 2, middle + wide / 2);
    }
    const { y, height } = box(this.lanes, row, this.view);
    const bottom = this.view.height - AXIS_HEIGHT - MARKS_HEIGHT;
    if (y < 0) this.pan(0, y);
    else if (y + height > bottom) this.pan(0, y + height - bottom);
    this.#overlay();
    this.live.textContent = this.#sentence(row);
  }

  destroy() {
    this.leave.abort();
    this.observer.disconnect();
    clearTimeout(this.later);
    this.root.remove();
  }

  #build(host) {
    const on = (name, run) => h("button", { class: "stream-button", type: "button", onclick: run }, name);
    this.legend = h("ul", { class: "stream-legend", "aria-label": "Colours of the bars" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.over = h("canvas", { class: "stream-over", "aria-hidden": "true" });
    this.tip = h("div", { class: "stream-tip", "aria-hidden": "true", hidden: true });
    this.hint = h("p", { class: "stream-help", id: `stream-help-${(Stream.made = (Stream.made ?? 0) + 1)}` }, HELP);
    this.plot = h(
      "div",
      {
        class: "stream-plot",
        tabindex: "0",
        role: "application",
        "aria-label": "Task stream",
        "aria-describedby": this.hint.id,
      },
      this.canvas,
      this.over,
      this.tip,
    );
    this.live = h("p", { class: "stream-hidden", role: "status" });
    this.summary = h("p", { class: "stream-summary" }, "No task has ended yet.");
    this.rows = h("tbody");
    this.shown = h("caption");
    this.table = h(
      "details",
      { class: "stream-table", ontoggle: () => this.#tabulate() },
      h("summary", {}, "Table of the tasks in view"),
      h(
        "div",
        { class: "stream-scroll", tabindex: "0", role: "region", "aria-label": "Tasks in view" },
        h(
          "table",
          {},
          this.shown,
          h(
            "thead",
            {},
            h("tr", {}, ...["Task", "Kind", "Outcome", "Began after", "Took", "Worker", "Error"].map((name) => h("th", { scope: "col" }, name))),
          ),
          this.rows,
        ),
      ),
    );
    this.root = h(
      "div",
      { class: "stream" },
      h(
        "div",
        { class: "stream-head" },
        this.legend,
        h(
          "div",
          { class: "stream-buttons", role: "group", "aria-label": "View of the stream" },
          h("button", { class: "stream-button", type: "button", "aria-label": "Zoom in", onclick: () => this.zoom(0.5) }, "+"),
          h("button", { class: "stream-button", type: "button", "aria-label": "Zoom out", onclick: () => this.zoom(2) }, "−"),
          on("Fit", () => this.fit()),
        ),
      ),
      this.plot,
      this.summary,
      this.hint,
      this.live,
      this.table,
    );
    host.append(this.root);
    const listen = (type, run, options = {}) =>
      this.plot.addEventListener(type, run.bind(this), { signal: this.leave.signal, ...options });
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#up);
    listen("pointerleave", () => this.#hover(-1));
    listen("wheel", this.#wheel, { passive: false });
    listen("keydown", this.#key);
    listen("dblclick", (event) => this.zoom(0.5, this.#place(event).share));
  }

  #whole() {
    const { first, last } = this.lanes;
    if (first > last) return [0, 1000];
    const margin = Math.max((last - first) * 0.015, 0.5);
    return [first - margin, last + margin];
  }

  #top(wanted) {
    const room = this.view.height - AXIS_HEIGHT - MARKS_HEIGHT;
    return Math.max(0, Math.min(wanted, this.view.plan.total - room));
  }

  #replan() {
    this.view.plan = layout(this.lanes, ROOM, this.rowHeight);
    const height = Math.min(ROOM + SPARE, Math.max(40, this.view.plan.total)) + AXIS_HEIGHT + MARKS_HEIGHT;
    if (height !== this.view.height) {
      this.view.height = height;
      this.plot.style.height = `${height}px`;
      this.#size();
    }
    this.view.top = this.#top(this.view.top);
  }

  #resize() {
    const width = Math.floor(this.plot.clientWidth);
    if (!width || (width === this.view.width && this.ratio === devicePixelRatio)) return;
    this.view.width = width;
    this.#size();
    this.#paint(); // at once: a canvas that was resized is empty
  }

  #size() {
    this.ratio = globalThis.devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(this.view.width * this.ratio);
      canvas.height = Math.round(this.view.height * this.ratio);
      canvas.style.width = `${this.view.width}px`;
      canvas.style.height = `${this.view.height}px`;
      canvas.getContext("2d").setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    }
  }

  #show(from, to) {
    this.view.from = from;
    this.view.to = to;
    this.#repaint();
  }

  #repaint() {
    if (this.dirty) return;
    this.dirty = true;
    requestAnimationFrame(() => {
      this.dirty = false;
      this.#paint();
    });
  }

  #paint() {
    if (!this.view.width || this.leave.signal.aborted) return;
    const zero = Number.isFinite(this.lanes.first) ? this.lanes.first : 0;
    const { from, to, width } = this.view;
    const axis = this.lanes.size ? ticks(from - zero, to - zero, Math.max(2, Math.floor(width / TICK_ROOM))) : [];
    paint(this.canvas.getContext("2d"), this.lanes, this.view, this.look.value, axis, zero);
    this.#overlay();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.#tabulate(), 250);
  }

  // The marked and the hovered bar, on a canvas of their own: hovering never paints the bars anew.
  #overlay() {
    const context = this.over.getContext("2d");
    const { width, height } = this.view;
    context.clearRect(0, 0, width, height);
    const base = AXIS_HEIGHT + MARKS_HEIGHT;
    context.save();
    context.beginPath();
    context.rect(0, base, width, height - base);
    context.clip();
    for (const row of [this.selected, this.hovered]) {
      if (row < 0 || this.lanes.lane[row] < 0) continue;
      const bar = box(this.lanes, row, this.view);
      context.lineWidth = 2;
      context.strokeStyle = this.look.value.text;
      context.strokeRect(bar.x - 1, base + bar.y - 1, bar.width + 1, bar.height + 2);
    }
    context.restore();
    const room = height - base;
    if (this.view.plan.total > room + 1) {
      context.fillStyle = this.look.value.muted;
      const long = Math.max(20, (room * room) / this.view.plan.total);
      const at = base + (this.view.top / (this.view.plan.total - room)) * (room - long);
      context.fillRect(width - 5, at, 4, long);
    }
  }

  #place(event) {
    const area = this.plot.getBoundingClientRect();
    const x = event.clientX - area.left - this.plot.clientLeft;
    const y = event.clientY - area.top - this.plot.clientTop;
    return { x, y, share: x / Math.max(1, this.view.width) };
  }

  #under({ y, share }) {
    const base = AXIS_HEIGHT + MARKS_HEIGHT;
    if (y < base) return -1;
    const found = laneAt(this.view.plan, y - base + this.view.top);
    const span = this.view.to - this.view.from;
    const slop = (SLOP / Math.max(1, this.view.width)) * span;
    return found ? this.lanes.at(found.worker, found.lane, this.view.from + span * share, slop) : -1;
  }

  #down(event) {
    if (event.button !== 0) return;
    this.plot.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { ...this.#place(event), dragged: false });
  }

  #move(event) {
    const place = this.#place(event);
    const held = this.pointers.get(event.pointerId);
    if (!held) return this.#hover(this.#under(place), place);
    const dx = place.x - held.x;
    const dy = place.y - held.y;
    if (!held.dragged && Math.hypot(dx, dy) < 4) return;
    held.dragged = true;
    this.#hover(-1);
    this.plot.classList.add("stream-dragged");
    if (this.pointers.size === 1) {
      this.pan(-dx / this.view.width, event.pointerType === "mouse" ? -dy : 0);
    } else {
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.max(8, Math.abs(held.x - other.x));
      const now = Math.max(8, Math.abs(place.x - other.x));
      this.zoom(before / now, other.share);
    }
    Object.assign(held, place);
  }

  #up(event) {
    const held = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.plot.classList.remove("stream-dragged");
    if (!held || held.dragged || event.type === "pointercancel") return;
    const row = this.#under(this.#place(event));
    if (row < 0) return;
    this.select(row);
    this.onPick?.(this.lanes.index[row]);
  }

  // The wheel zooms with Ctrl, or once the stream has the focus; otherwise it scrolls the page.
  #wheel(event) {
    const place = this.#place(event);
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      return this.pan((event.deltaX * unit) / this.view.width);
    }
    if (event.shiftKey) {
      event.preventDefault();
      return this.pan(0, event.deltaY * unit);
    }
    if (!event.ctrlKey && !event.metaKey && document.activeElement !== this.plot) return undefined;
    event.preventDefault();
    this.#hover(-1);
    const speed = event.ctrlKey ? 0.01 : 0.0015;
    return this.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY * unit * speed))), place.share);
  }

  #key(event) {
    if (event.target !== this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {
      ArrowLeft: () => this.pan(-0.15),
      ArrowRight: () => this.pan(0.15),
      ArrowUp: () => this.pan(0, -60),
      ArrowDown: () => this.pan(0, 60),
      "+": () => this.zoom(0.6),
      "=": () => this.zoom(0.6),
      "-": () => this.zoom(1 / 0.6),
      0: () => this.fit(),
      Home: () => this.fit(),
      "]": () => this.#step(1),
      "[": () => this.#step(-1),
      f: () => this.#failure(),
      F: () => this.#failure(),
      Enter: () => this.selected >= 0 && this.onPick?.(this.lanes.index[this.selected]),
      Escape: () => (this.#hover(-1), this.select(-1)),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  // Marks the bar beside the marked one in its lane; without one, the first in view.
  #step(by) {
    if (this.selected < 0) {
      const [row] = this.lanes.rowsIn(this.view.from, this.view.to, 1);
      if (row !== undefined) this.select(row);
      return;
    }
    const lane = this.lanes.workers[this.lanes.worker[this.selected]].lanes[this.lanes.lane[this.selected]];
    const at = lane.at.subarray(0, lane.length).indexOf(this.selected) + by;
    if (at >= 0 && at < lane.length) this.select(lane.at[at]);
  }

  // Marks the failure that began next after the marked task, and the first one after the last.
  #failure() {
    const { lanes } = this;
    const now = this.selected < 0 ? -Infinity : lanes.from[this.selected];
    let next = -1;
    let first = -1;
    for (let row = 0; row < lanes.size; row++) {
      if (lanes.status[row] !== FAILED || lanes.lane[row] < 0) continue;
      if (first < 0 || this.#sooner(row, first)) first = row;
      const later = lanes.from[row] > now || (lanes.from[row] === now && row > this.selected);
      if (later && (next < 0 || this.#sooner(row, next))) next = row;
    }
    if (first < 0) this.live.textContent = "No task has failed.";
    else this.select(next < 0 ? first : next);
  }

  #sooner(a, b) {
    return this.lanes.from[a] - this.lanes.from[b] || a - b ? this.lanes.from[a] < this.lanes.from[b] || (this.lanes.from[a] === this.lanes.from[b] && a < b) : false;
  }

  #hover(row, place) {
    if (row !== this.hovered) {
      this.hovered = row;
      this.plot.classList.toggle("stream-over-bar", row >= 0);
      this.tip.hidden = row < 0;
      if (row >= 0) replace(this.tip, ...this.#tipLines(row));
      this.#overlay();
    }
    if (row < 0 || !place) return;
    const wide = this.tip.offsetWidth;
    const high = this.tip.offsetHeight;
    const x = Math.max(4, Math.min(place.x + 14, this.view.width - wide - 4));
    const y = place.y + 18 + high > this.view.height ? place.y - high - 10 : place.y + 18;
    this.tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }

  #tipLines(row) {
    const { lanes } = this;
    const lines = [
      h("strong", {}, `Task ${lanes.index[row]}`),
      ` ${lanes.kinds.list[lanes.kind[row]]}, ${STATUS_WORDS[lanes.status[row]]}`,
      h("div", {}, `took ${ms(lanes.duration[row])}, began after ${ms(lanes.start[row] - lanes.first)}`),
      h("div", { class: "stream-quiet" }, `${new Date(lanes.start[row]).toLocaleTimeString()} on ${this.#workerName(row)}`),
    ];
    if (lanes.error[row] >= 0) lines.push(h("div", { class: "stream-error" }, lanes.errors.list[lanes.error[row]]));
    return lines;
  }

  #workerName(row) {
    return lanesName(this.lanes, row);
  }

  #sentence(row) {
    const { lanes } = this;
    const error = lanes.error[row] >= 0 ? ` ${lanes.errors.list[lanes.error[row]]}.` : "";
    return (
      `Task ${lanes.index[row]}, ${lanes.kinds.list[lanes.kind[row]]}, ${STATUS_WORDS[lanes.status[row]]}, ` +
      `took ${ms(lanes.duration[row])}, on ${this.#workerName(row)}.${error}`
    );
  }

  #describe() {
    const { lanes } = this;
    const [succeeded, failed, cancelled] = lanes.byStatus;
    const parts = [`${plural(lanes.size, "task")} ended on ${plural(lanes.laneCount, "slot")} of ${plural(lanes.workers.length, "worker")}`];
    if (lanes.last >= lanes.first) parts.push(`within ${ms(lanes.last - lanes.first)}`);
    const ends = [`${count(succeeded)} succeeded`, `${count(failed)} failed`, `${count(cancelled)} cancelled`];
    const bare = lanes.neverRan ? ` ${plural(lanes.neverRan, "task")} never ran and ${lanes.neverRan === 1 ? "has" : "have"} no bar.` : "";
    this.summary.textContent = `${parts.join(" ")}: ${ends.join(", ")}.${bare}`;
    const shown = `${lanes.kinds.list.length},${failed > 0},${cancelled > 0}`;
    if (shown === this.legendOf) return;
    this.legendOf = shown;
    const swatch = (look, name) => h("li", {}, h("span", { class: `stream-swatch ${look}`, "aria-hidden": "true" }), name);
    const kinds = lanes.kinds.list.slice(0, 8).map((name, kind) => swatch(`stream-kind-${styleOfKind(kind)}`, lanes.kinds.list.length > 8 && kind === 7 ? "other kinds" : name));
    replace(this.legend, ...kinds, failed ? swatch("stream-failed", "failed") : null, cancelled ? swatch("stream-cancelled", "cancelled") : null);
  }

  #tabulate() {
    if (!this.table.open || this.leave.signal.aborted) return;
    const { lanes, view } = this;
    const all = lanes.countIn(view.from, view.to);
    const rows = lanes.rowsIn(view.from, view.to, IN_TABLE).sort((a, b) => lanes.from[a] - lanes.from[b]);
    this.shown.textContent = all > rows.length ? `${rows.length} of the ${count(all)} tasks in view; zoom in to see the others` : `${plural(all, "task")} in view`;
    replace(
      this.rows,
      ...rows.map((row) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, this.href ? h("a", { href: this.href(lanes.index[row]) }, String(lanes.index[row])) : String(lanes.index[row])),
          h("td", {}, lanes.kinds.list[lanes.kind[row]]),
          h("td", {}, STATUS_WORDS[lanes.status[row]]),
          h("td", {}, ms(lanes.start[row] - lanes.first)),
          h("td", {}, ms(lanes.duration[row])),
          h("td", {}, this.#workerName(row)),
          h("td", {}, lanes.error[row] >= 0 ? lanes.errors.list[lanes.error[row]] : ""),
        ),
      ),
    );
  }
}

function lanesName(lanes, row) {
  return lanes.worker[row] >= 0 ? lanes.workers[lanes.worker[row]].name : "no worker";
}
