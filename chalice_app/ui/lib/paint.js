// Draws lanes on a canvas. Owns the level of detail: bars narrower than a pixel become one column
// for each pixel, which shows how much of it was busy; columns that look alike become one rectangle.

import { CANCELLED, FAILED, Lanes } from "./lanes.js";
import { AXIS_HEIGHT, HEADER_HEIGHT, MARKS_HEIGHT, barHeight } from "./layout.js";

const KINDS = 8;
const LEVELS = 4; // of how busy a column was
const SLIM = 1.5; // bars below this many columns are merged
const MANY = 20_000; // bars in view from which on columns are two pixels wide
const HATCHED = 5; // pixels from which on a bar is hatched or outlined
const LABEL_ROOM = 34; // pixels that a bar must have for its index

export function styleOfKind(kind) {
  return Math.min(kind, KINDS - 1);
}

// Rectangles of one look, three numbers each: x, y, width.
function brushes(grain) {
  const make = () => ({ boxes: [], lastY: -1, lastEnd: -1 });
  return {
    grain, // width of a column
    wide: Array.from({ length: KINDS }, make),
    dense: Array.from({ length: KINDS * LEVELS }, make),
    failed: make(),
    cancelled: make(),
    labels: [],
    failures: new Set(), // pixels with a failure, for the marks above the lanes
  };
}

function add(brush, x, y, width) {
  if (brush.lastY === y && x - brush.lastEnd < 0.01) {
    brush.boxes[brush.boxes.length - 1] = x + width - brush.boxes[brush.boxes.length - 3];
  } else {
    brush.boxes.push(x, y, width);
  }
  brush.lastY = y;
  brush.lastEnd = x + width;
}

// Collects what a lane shows. `labels` says whether bars have room for their index.
function collect(lanes, lane, y, view, into, labels) {
  const scale = view.width / (view.to - view.from);
  const { from, to, kind, status } = lanes;
  const { grain } = into;
  const slim = SLIM * grain;
  let column = -1;
  let busy = 0;
  let longest = 0;
  let look = 0;
  let worst = 0; // 1 cancelled, 2 failed
  const flush = () => {
    if (column < 0) return;
    if (worst === 2) {
      add(into.failed, column, y, grain);
      into.failures.add(column);
    } else if (worst === 1) {
      add(into.cancelled, column, y, grain);
    } else {
      const level = Math.min(LEVELS - 1, Math.floor((busy * LEVELS) / grain));
      add(into.dense[look * LEVELS + level], column, y, grain);
    }
    column = -1;
  };
  for (let i = Lanes.after(lanes, lane, view.from); i < lane.length; i++) {
    const row = lane.at[i];
    const begin = (from[row] - view.from) * scale;
    if (begin > view.width) break;
    const size = (to[row] - from[row]) * scale;
    if (size >= slim) {
      flush();
      const x = Math.max(-2, begin);
      const width = Math.min(view.width + 2, begin + size) - x;
      const gap = size >= 3 ? 1 : 0;
      if (status[row] === FAILED) {
        into.failed.boxes.push(x, y, width - gap);
        into.failed.lastY = -1;
        into.failures.add(Math.max(0, Math.round(x + width / 2)));
      } else if (status[row] === CANCELLED) {
        into.cancelled.boxes.push(x, y, width - gap);
        into.cancelled.lastY = -1;
      } else {
        into.wide[styleOfKind(kind[row])].boxes.push(x, y, width - gap);
      }
      if (labels && width >= LABEL_ROOM) into.labels.push(row, Math.max(0, x), y, width);
      continue;
    }
    const at = Math.max(0, Math.floor(begin / grain) * grain);
    if (at !== column) {
      flush();
      column = at;
      busy = 0;
      longest = -1;
      worst = 0;
    }
    busy += size;
    if (size > longest) {
      longest = size;
      look = styleOfKind(kind[row]);
    }
    if (status[row] === FAILED) worst = 2;
    else if (status[row] === CANCELLED && worst === 0) worst = 1;
  }
  flush();
}

function fill(context, boxes, height) {
  for (let i = 0; i < boxes.length; i += 3) context.fillRect(boxes[i], boxes[i + 1], boxes[i + 2], height);
}

// Diagonal lines over failed bars, so that they differ from others not by colour alone.
function hatch(context, boxes, height, look) {
  if (height < 4) return;
  context.save();
  context.beginPath();
  let any = false;
  for (let i = 0; i < boxes.length; i += 3) {
    if (boxes[i + 2] < HATCHED) continue;
    context.rect(boxes[i], boxes[i + 1], boxes[i + 2], height);
    any = true;
  }
  if (!any) return context.restore();
  context.clip();
  context.strokeStyle = look.failedLine;
  context.lineWidth = 1.5;
  context.beginPath();
  for (let i = 0; i < boxes.length; i += 3) {
    const [x, y, width] = [boxes[i], boxes[i + 1], boxes[i + 2]];
    if (width < HATCHED) continue;
    for (let line = x - height - ((x - height) % 6); line < x + width; line += 6) {
      context.moveTo(line, y + height);
      context.lineTo(line + height, y);
    }
  }
  context.stroke();
  context.restore();
}

function outline(context, boxes, height, look) {
  context.fillStyle = look.panel;
  fill(context, boxes, height);
  context.fillStyle = look.muted;
  context.strokeStyle = look.muted;
  context.lineWidth = 1;
  context.setLineDash([3, 2]);
  context.beginPath();
  for (let i = 0; i < boxes.length; i += 3) {
    if (boxes[i + 2] < HATCHED) {
      context.fillRect(boxes[i], boxes[i + 1], boxes[i + 2], 1);
      context.fillRect(boxes[i], boxes[i + 1] + height - 1, boxes[i + 2], 1);
      continue;
    }
    context.rect(boxes[i] + 0.5, boxes[i + 1] + 0.5, Math.max(0.5, boxes[i + 2] - 1), Math.max(0.5, height - 1));
  }
  context.stroke();
  context.setLineDash([]);
}

function marks(context, failures, look, y) {
  context.fillStyle = look.bad;
  context.beginPath();
  let last = -Infinity;
  for (const x of [...failures].sort((a, b) => a - b)) {
    if (x - last < 5) continue;
    last = x;
    context.moveTo(x - 4, y + 1);
    context.lineTo(x + 4, y + 1);
    context.lineTo(x, y + 9);
    context.closePath();
  }
  context.fill();
}

function paintAxis(context, view, look, axis, zero) {
  context.font = look.font;
  context.textBaseline = "middle";
  const end = view.height;
  context.strokeStyle = look.line;
  context.lineWidth = 1;
  context.beginPath();
  for (const tick of axis) {
    const x = Math.round(((tick.at + zero - view.from) / (view.to - view.from)) * view.width) + 0.5;
    context.moveTo(x, AXIS_HEIGHT - 6);
    context.lineTo(x, end);
  }
  context.moveTo(0, AXIS_HEIGHT - 0.5);
  context.lineTo(view.width, AXIS_HEIGHT - 0.5);
  context.stroke();
  context.fillStyle = look.muted;
  for (const tick of axis) {
    const x = ((tick.at + zero - view.from) / (view.to - view.from)) * view.width;
    const wide = context.measureText(tick.text).width;
    const left = Math.min(Math.max(2, x + 4), view.width - wide - 2);
    if (x >= -1 && x <= view.width - 8) context.fillText(tick.text, left, AXIS_HEIGHT / 2 - 1);
  }
}

function paintGroups(context, view, look, base) {
  context.textBaseline = "middle";
  for (const group of view.plan.groups) {
    const y = base + group.y - view.top;
    const height = view.plan.header + group.count * view.plan.rowHeight;
    if (y > view.height || y + height < base) continue;
    context.fillStyle = look.line;
    if (group.y > 0) context.fillRect(0, Math.round(y), view.width, 1);
    if (view.plan.header < HEADER_HEIGHT) continue;
    context.fillStyle = look.muted;
    context.font = look.font;
    context.fillText(`${group.name} · ${group.count} at once`, 4, y + view.plan.header / 2 + 1, view.width - 8);
  }
}

// Paints all. `view`: {from, to} in milliseconds since 1970, width, height in CSS pixels, `plan` of
// `layout`, `top` scrolled off. `axis`: ticks, from `zero` on. Returns the number of rectangles.
export function paint(context, lanes, view, look, axis, zero) {
  context.clearRect(0, 0, view.width, view.height);
  paintAxis(context, view, look, axis, zero);
  const base = AXIS_HEIGHT + MARKS_HEIGHT;
  const height = barHeight(view.plan.rowHeight);
  const into = brushes(lanes.countIn(view.from, view.to) > MANY ? 2 : 1);
  for (const group of view.plan.groups) {
    const worker = lanes.workers[group.place];
    for (let lane = 0; lane < group.count; lane++) {
      const y = base + group.lanesY + lane * view.plan.rowHeight - view.top;
      if (y + height < base || y > view.height) continue;
      collect(lanes, worker.lanes[lane], y, view, into, view.plan.rowHeight >= 14);
    }
  }
  context.save();
  context.beginPath();
  context.rect(0, base, view.width, view.height - base);
  context.clip();
  paintGroups(context, view, look, base);
  let count = 0;
  for (let kind = 0; kind < KINDS; kind++) {
    context.fillStyle = look.kinds[kind];
    for (let level = 0; level < LEVELS; level++) {
      const { boxes } = into.dense[kind * LEVELS + level];
      context.globalAlpha = 0.4 + (0.6 * (level + 1)) / LEVELS;
      fill(context, boxes, height);
      count += boxes.length / 3;
    }
    context.globalAlpha = 1;
    fill(context, into.wide[kind].boxes, height);
    count += into.wide[kind].boxes.length / 3;
  }
  if (into.cancelled.boxes.length) outline(context, into.cancelled.boxes, height, look);
  if (into.failed.boxes.length) {
    context.fillStyle = look.bad;
    fill(context, into.failed.boxes, height);
    hatch(context, into.failed.boxes, height, look);
  }
  count += (into.cancelled.boxes.length + into.failed.boxes.length) / 3;
  context.font = look.font;
  context.textBaseline = "middle";
  for (let i = 0; i < into.labels.length; i += 4) {
    const [row, x, y, width] = into.labels.slice(i, i + 4);
    if (lanes.status[row] === FAILED) continue;
    context.fillStyle = lanes.status[row] === CANCELLED ? look.text : look.onKinds[styleOfKind(lanes.kind[row])];
    const text = String(lanes.index[row]);
    if (context.measureText(text).width <= width - 8) context.fillText(text, x + 4, y + height / 2 + 0.5);
  }
  context.restore();
  if (into.failures.size) marks(context, into.failures, look, AXIS_HEIGHT + 1);
  return count;
}
