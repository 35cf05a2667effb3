// Where the rows of a stream stand: workers below each other, each with a header and its lanes.

export const AXIS_HEIGHT = 26; // pixels of the axis, and of the marks of failures below it
export const MARKS_HEIGHT = 12;
export const HEADER_HEIGHT = 18; // of a worker's name
const TALLEST = 20; // of a row
const SHORTEST = 2;

// Where lanes stand: the height of a row, and for each worker the y of its header and of its first
// lane, from the top of all. `room` is the height in pixels that all should fit in, if they can.
export function layout(lanes, room) {
  const count = Math.max(1, lanes.laneCount);
  const workers = lanes.workers.filter((worker) => worker.lanes.length);
  const fits = (header) => Math.floor((room - workers.length * header) / count);
  let header = HEADER_HEIGHT;
  let height = Math.min(TALLEST, Math.max(SHORTEST, fits(header)));
  if (height < 5 && workers.length > 4) {
    header = 3;
    height = Math.min(TALLEST, Math.max(SHORTEST, fits(header)));
  }
  const groups = [];
  let y = 0;
  lanes.workers.forEach((worker, place) => {
    if (!worker.lanes.length) return;
    groups.push({ place, name: worker.name, y, lanesY: y + header, count: worker.lanes.length });
    y += header + worker.lanes.length * height;
  });
  return { groups, rowHeight: height, header, total: y + 6 };
}

// The worker's place and the lane at y from the top of all, or null.
export function laneAt(plan, y) {
  for (const group of plan.groups) {
    if (y < group.lanesY) continue;
    const lane = Math.floor((y - group.lanesY) / plan.rowHeight);
    if (lane < group.count) return { worker: group.place, lane };
  }
  return null;
}

// The rectangle of a row's bar in a view, at least two pixels wide.
export function box(lanes, row, view) {
  const group = view.plan.groups.find((one) => one.place === lanes.worker[row]);
  const scale = view.width / (view.to - view.from);
  const x = (lanes.from[row] - view.from) * scale;
  return {
    x,
    y: group.lanesY + lanes.lane[row] * view.plan.rowHeight - view.top,
    width: Math.max(2, (lanes.to[row] - lanes.from[row]) * scale),
    height: barHeight(view.plan.rowHeight),
  };
}

// Pixels of a bar in a row: less than the row, so that rows stand apart.
export function barHeight(rowHeight) {
  return rowHeight >= 6 ? rowHeight - 2 : rowHeight >= 3 ? rowHeight - 1 : rowHeight;
}
