// The task stream: one row a slot, one bar a task, over time. Owns the view: what is shown of the
// time and of the rows. Packing is in lib/lanes.js, drawing in lib/paint.js, mouse and keys in
// lib/gestures.js, all that is said in words in lib/streamtext.js.

import { h, replace, text } from "./lib/dom.js";
import { gestures } from "./lib/gestures.js";
import { FAILED, Lanes } from "./lib/lanes.js";
import { AXIS_HEIGHT, MARKS_HEIGHT, box, laneAt, layout } from "./lib/layout.js";
import { watchLook } from "./lib/look.js";
import { paint } from "./lib/paint.js";
import { fillLegend, makeButtons, makeHelp, makePlot, makeTable, note, sentence, summary } from "./lib/streamtext.js";
import { ticks } from "./lib/ticks.js";

const BASE = AXIS_HEIGHT + MARKS_HEIGHT;
const ROOM = 420; // pixels of rows that are shown without scrolling
const SPARE = 8; // pixels below the last row
const SHORTEST_VIEW = 0.02; // milliseconds
const TICK_ROOM = 110; // pixels between ticks
const SLOP = 4; // pixels beside a bar that still mean it

export class Stream {
  // onPick(index) is called when a task is chosen; href(index) gives the table its links.
  constructor(host, { onPick = null, href = null } = {}) {
    this.lanes = new Lanes();
    this.onPick = onPick;
    this.moved = false; // the reader chose a view; until then all is shown, also while it grows
    this.view = { from: 0, to: 1000, width: 0, height: 0, top: 0, plan: layout(this.lanes, ROOM) };
    this.selected = -1;
    this.hovered = -1;
    this.leave = new AbortController();
    this.#build(host, href);
    this.look = watchLook(this.root, this.leave.signal, () => this.#repaint());
    gestures(this.plot, this, this.leave.signal);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.plot);
    this.#replan();
    this.#resize();
  }

  // Adds an answer of GET /batches/{id}/stream; returns how many of its tasks are new.
  add(page) {
    const added = this.lanes.add(page);
    if (!added) return 0;
    this.#replan();
    if (!this.moved) this.#show(...this.#whole());
    text(this.summary, summary(this.lanes));
    fillLegend(this.legend, this.lanes);
    this.#repaint();
    return added;
  }

  // Shows all, and goes on showing all as tasks are added.
  fit() {
    this.moved = false;
    this.view.top = 0;
    this.#show(...this.#whole());
  }

  // Zooms by a factor (below 1: nearer) around x, a fraction of the width.
  zoom(factor, x = 0.5) {
    const { from, to } = this.view;
    const [first, last] = this.#whole();
    const at = from + (to - from) * x;
    const length = Math.min(Math.max((to - from) * factor, SHORTEST_VIEW), (last - first) * 1.5);
    this.moved = true;
    this.#show(at - length * x, at + length * (1 - x));
  }

  // Moves the view by a fraction of its width and by pixels of height.
  pan(share, down = 0) {
    const { from, to } = this.view;
    const [first, last] = this.#whole();
    const length = to - from;
    const by = Math.min(Math.max(length * share, first - length * 0.5 - from), last + length * 0.5 - to);
    if (share) this.moved = true;
    this.view.top = this.#top(this.view.top + down);
    this.#show(from + by, to + by);
  }

  // The row at a place {y, share} of the plot, or -1.
  under({ y, share }) {
    if (y < BASE) return -1;
    const found = laneAt(this.view.plan, y - BASE + this.view.top);
    const length = this.view.to - this.view.from;
    const slop = (SLOP / Math.max(1, this.view.width)) * length;
    return found ? this.lanes.at(found.worker, found.lane, this.view.from + length * share, slop) : -1;
  }

  // Shows a note on the row that the pointer is on; none with -1.
  hover(row, place) {
    if (row !== this.hovered) {
      this.hovered = row;
      this.plot.classList.toggle("stream-over-bar", row >= 0);
      this.tip.hidden = row < 0;
      if (row >= 0) replace(this.tip, note(this.lanes, row));
      this.#overlay();
    }
    if (row < 0 || !place) return;
    const { offsetWidth: wide, offsetHeight: high } = this.tip;
    const x = Math.max(4, Math.min(place.x + 14, this.view.width - wide - 4));
    const y = place.y + 18 + high > this.view.height ? Math.max(2, place.y - high - 10) : place.y + 18;
    this.tip.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }

  // Marks a row and tells of the task that it was chosen.
  pick(row) {
    if (row < 0) return;
    this.select(row);
    this.open();
  }

  open() {
    if (this.selected >= 0) this.onPick?.(this.lanes.index[this.selected]);
  }

  // Marks a row and brings it into view; none with -1.
  select(row) {
    this.selected = row;
    if (row >= 0) {
      this.#reveal(row);
      this.live.textContent = sentence(this.lanes, row);
    }
    this.#overlay();
  }

  // Marks the bar `by` places from the marked one in its lane; without one, the first in view.
  step(by) {
    const { lanes, view } = this;
    if (this.selected < 0) {
      const [row] = lanes.rowsIn(view.from, view.to, 1);
      if (row !== undefined) this.select(row);
      return;
    }
    const lane = lanes.workers[lanes.worker[this.selected]].lanes[lanes.lane[this.selected]];
    const at = lane.at.subarray(0, lane.length).indexOf(this.selected) + by;
    if (at >= 0 && at < lane.length) this.select(lane.at[at]);
  }

  // Marks the failure that began next after the marked task; after the last one, the first.
  nextFailure() {
    const { lanes, selected } = this;
    const later = (a, b) => lanes.from[a] > lanes.from[b] || (lanes.from[a] === lanes.from[b] && a > b);
    let next = -1;
    let first = -1;
    for (let row = 0; row < lanes.size; row++) {
      if (lanes.status[row] !== FAILED || lanes.lane[row] < 0) continue;
      if (first < 0 || later(first, row)) first = row;
      if ((selected < 0 || later(row, selected)) && (next < 0 || later(next, row))) next = row;
    }
    if (first < 0) this.live.textContent = "No task has failed.";
    else this.select(next < 0 ? first : next);
  }

  destroy() {
    this.leave.abort();
    this.observer.disconnect();
    clearTimeout(this.later);
    this.root.remove();
  }

  #build(host, href) {
    this.legend = h("ul", { class: "stream-legend", "aria-label": "Colours of the bars" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.over = h("canvas", { "aria-hidden": "true" });
    this.tip = h("div", { class: "stream-tip", "aria-hidden": "true", hidden: true });
    this.plot = makePlot([this.canvas, this.over, this.tip]);
    this.live = h("p", { class: "stream-hidden", role: "status" });
    this.summary = h("p", { class: "stream-summary" }, summary(this.lanes));
    this.table = makeTable(href, () => this.table.fill(this.lanes, this.view));
    this.root = h("div", { class: "stream" },
      h("div", { class: "stream-head" }, this.legend, makeButtons(this)),
      [this.plot, this.summary, makeHelp(this.plot), this.live, this.table.element],
    );
    host.append(this.root);
  }

  #whole() {
    const { first, last } = this.lanes;
    if (first > last) return [0, 1000];
    const margin = Math.max((last - first) * 0.015, 0.5);
    return [first - margin, last + margin];
  }

  #top(wanted) {
    return Math.max(0, Math.min(wanted, this.view.plan.total - (this.view.height - BASE)));
  }

  #reveal(row) {
    const { lanes, view } = this;
    if (lanes.from[row] < view.from || lanes.to[row] > view.to) {
      const length = Math.max(view.to - view.from, (lanes.to[row] - lanes.from[row]) * 1.2);
      const middle = (lanes.from[row] + lanes.to[row]) / 2;
      this.moved = true;
      this.#show(middle - length / 2, middle + length / 2);
    }
    const { y, height } = box(lanes, row, view);
    const room = view.height - BASE;
    if (y < 0) this.pan(0, y);
    else if (y + height > room) this.pan(0, y + height - room);
  }

  #replan() {
    const { view } = this;
    view.plan = layout(this.lanes, ROOM);
    const height = Math.min(ROOM + SPARE, Math.max(40, view.plan.total)) + BASE;
    if (height !== view.height) {
      view.height = height;
      this.plot.style.height = `${height + 2}px`; // with its border
      this.#size();
    }
    view.top = this.#top(view.top);
  }

  #resize() {
    const width = Math.floor(this.plot.clientWidth);
    if (!width || (width === this.view.width && this.ratio === devicePixelRatio)) return;
    this.view.width = width;
    this.#size();
    this.#paint(); // at once: a canvas that was resized is empty
  }

  #size() {
    const { width, height } = this.view;
    this.ratio = devicePixelRatio || 1;
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(width * this.ratio);
      canvas.height = Math.round(height * this.ratio);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${height}px`;
      canvas.getContext("2d").setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    }
  }

  #show(from, to) {
    this.view.from = from;
    this.view.to = to;
    this.#repaint();
  }

  #repaint() {
    this.frame ??= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    const { from, to, width } = this.view;
    if (!width || this.leave.signal.aborted) return;
    const zero = Number.isFinite(this.lanes.first) ? this.lanes.first : from;
    const axis = ticks(from - zero, to - zero, Math.max(2, Math.floor(width / TICK_ROOM)));
    const context = this.canvas.getContext("2d");
    paint(context, this.lanes, this.view, this.look.value, this.lanes.size ? axis : [], zero);
    this.#overlay();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.table.fill(this.lanes, this.view), 250);
  }

  // The marked and the hovered bar, on a canvas of their own: hovering never paints the bars anew.
  #overlay() {
    const context = this.over.getContext("2d");
    const { width, height, plan, top } = this.view;
    const room = height - BASE;
    const { text: line, muted } = this.look.value;
    context.clearRect(0, 0, width, height);
    context.save();
    context.beginPath();
    context.rect(0, BASE, width, room);
    context.clip();
    context.lineWidth = 2;
    context.strokeStyle = line;
    for (const row of [this.selected, this.hovered]) {
      if (row < 0 || this.lanes.lane[row] < 0) continue;
      const bar = box(this.lanes, row, this.view);
      context.strokeRect(bar.x - 1, BASE + bar.y - 1, bar.width + 1, bar.height + 2);
    }
    context.restore();
    if (plan.total <= room + 1) return;
    const long = Math.max(20, (room * room) / plan.total);
    context.fillStyle = muted;
    context.fillRect(width - 5, BASE + (top / (plan.total - room)) * (room - long), 4, long);
  }
}
