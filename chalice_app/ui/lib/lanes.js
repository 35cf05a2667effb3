// The tasks of a stream, packed into lanes: one lane is what one slot of a worker ran. Owns the
// rows, their columns and the packing; knows nothing of a canvas.
//
// Tasks of a worker go, in the order of their ends, into the lane that became free last before they
// began. Packed so, bars of a lane never overlap, and no worker has more lanes than it ran tasks at
// once. A lane is a stack in that order, so tasks that arrive late take back what ended after them
// and pack it anew: the lanes do not depend on the pages in which the tasks came.

import { Names, Places } from "./columns.js";

export const SUCCEEDED = 0;
export const FAILED = 1;
export const CANCELLED = 2;
export const STATUS_WORDS = ["succeeded", "failed", "cancelled"];

// A start is recorded in whole milliseconds, so a task may seem to begin before the one ended that
// ran before it. Such a bar is drawn up to so much later than recorded, and the one before it ends there.
const ROUNDING_MS = 1;
const EXAMPLES = 5;

const COLUMNS = {
  index: Int32Array,
  kind: Uint16Array,
  status: Uint8Array,
  start: Float64Array, // as recorded, milliseconds since 1970; NaN for a task that never ran
  duration: Float64Array, // milliseconds
  from: Float64Array, // as drawn
  to: Float64Array,
  error: Int32Array,
  worker: Int32Array,
  lane: Int32Array,
};

export class Lanes {
  constructor() {
    this.size = 0;
    this.capacity = 0;
    this.kinds = new Names();
    this.errors = new Names();
    this.workerNames = new Names();
    this.workers = []; // {name, order: Places, lanes: [Places]}
    this.byStatus = [0, 0, 0];
    this.byKind = []; // tasks of each kind
    this.byError = []; // failed tasks with each error
    this.examples = []; // of each error, the first few indices
    this.bareFailures = []; // the first few indices of failures without an error
    this.neverRan = 0;
    this.first = Infinity; // begin of the first bar and end of the last, milliseconds since 1970
    this.last = -Infinity;
    this.seen = new Uint8Array(1024);
    this.rowOf = new Int32Array(1024);
  }

  // Adds a page of GET /batches/{id}/stream and returns how many of its tasks are new.
  add(page) {
    const kinds = page.kinds.map((name) => this.kinds.place(name));
    const workers = page.workers.map((name) => this.#worker(name));
    const errors = page.errors.map((text) => this.errors.place(text));
    const fresh = new Map();
    const before = this.size;
    for (const [index, kind, status, start, duration, worker, error] of page.rows) {
      if (this.#known(index)) continue;
      const row = this.#append();
      this.seen[index] = 1;
      this.rowOf[index] = row;
      this.index[row] = index;
      this.kind[row] = kind < 0 ? this.kinds.place("unknown") : kinds[kind];
      this.status[row] = status;
      this.start[row] = start ?? NaN;
      this.duration[row] = duration ?? 0;
      this.worker[row] = worker < 0 ? -1 : workers[worker];
      this.error[row] = error < 0 ? -1 : errors[error];
      this.lane[row] = -1;
      this.#count(row);
      if (start === null || start === undefined) {
        this.neverRan++;
        continue;
      }
      if (worker < 0) this.worker[row] = this.#worker("unknown worker");
      const of = this.worker[row];
      if (!fresh.has(of)) fresh.set(of, []);
      fresh.get(of).push(row);
    }
    for (const [worker, rows] of fresh) this.#pack(worker, rows);
    return this.size - before;
  }

  // Row of the task with this index, or -1.
  row(index) {
    return index < this.seen.length && this.seen[index] ? this.rowOf[index] : -1;
  }

  // The place in a lane of the first bar that ends after `time`.
  static after(columns, lane, time) {
    let low = 0;
    let high = lane.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (columns.to[lane.at[middle]] > time) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // The row of the bar at `time` in a lane, else of the nearest within `slop` milliseconds, else -1.
  // A failure within `slop` wins over what stands beside it: it is what people aim at.
  at(worker, lane, time, slop) {
    const rows = this.workers[worker]?.lanes[lane];
    if (!rows) return -1;
    let best = -1;
    let distance = Infinity;
    for (let i = Lanes.after(this, rows, time - slop); i < rows.length; i++) {
      const row = rows.at[i];
      if (this.from[row] > time + slop) break;
      let far = Math.max(this.from[row] - time, time - this.to[row], 0);
      if (this.status[row] === FAILED && this.to[row] - this.from[row] < slop) far -= slop;
      if (far < distance) {
        best = row;
        distance = far;
      }
    }
    return best;
  }

  // Counts the bars that a span of time touches.
  countIn(from, to) {
    let count = 0;
    for (const worker of this.workers) {
      for (const lane of worker.lanes) {
        let low = Lanes.after(this, lane, from);
        const begin = low;
        let high = lane.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          if (this.from[lane.at[middle]] > to) high = middle;
          else low = middle + 1;
        }
        count += low - begin;
      }
    }
    return count;
  }

  // Up to `limit` rows that a span of time touches, lane by lane.
  rowsIn(from, to, limit) {
    const found = [];
    for (const worker of this.workers) {
      for (const lane of worker.lanes) {
        for (let i = Lanes.after(this, lane, from); i < lane.length; i++) {
          if (this.from[lane.at[i]] > to || found.length >= limit) break;
          found.push(lane.at[i]);
        }
      }
    }
    return found;
  }

  get laneCount() {
    let count = 0;
    for (const worker of this.workers) count += worker.lanes.length;
    return count;
  }

  #known(index) {
    if (index >= this.seen.length) {
      const size = Math.max(index + 1, this.seen.length * 2);
      const seen = new Uint8Array(size);
      const rowOf = new Int32Array(size);
      seen.set(this.seen);
      rowOf.set(this.rowOf);
      this.seen = seen;
      this.rowOf = rowOf;
    }
    return this.seen[index] === 1;
  }

  #append() {
    if (this.size === this.capacity) {
      this.capacity = Math.max(1024, this.capacity * 2);
      for (const [name, Kind] of Object.entries(COLUMNS)) {
        const grown = new Kind(this.capacity);
        if (this[name]) grown.set(this[name]);
        this[name] = grown;
      }
    }
    return this.size++;
  }

  #count(row) {
    this.byStatus[this.status[row]]++;
    this.byKind[this.kind[row]] = (this.byKind[this.kind[row]] ?? 0) + 1;
    if (this.status[row] !== FAILED) return;
    const error = this.error[row];
    if (error < 0) {
      if (this.bareFailures.length < EXAMPLES) this.bareFailures.push(this.index[row]);
      return;
    }
    this.byError[error] = (this.byError[error] ?? 0) + 1;
    this.examples[error] ??= [];
    if (this.examples[error].length < EXAMPLES) this.examples[error].push(this.index[row]);
  }

  #worker(name) {
    const place = this.workerNames.place(name);
    this.workers[place] ??= { name, order: new Places(), lanes: [] };
    return place;
  }

  // The order in which tasks are packed: by end; of two with the same, by start, then by index.
  #before(a, b) {
    return (
      this.#end(a) - this.#end(b) ||
      this.start[a] - this.start[b] ||
      this.index[a] - this.index[b]
    );
  }

  // When a task surely had ended: its recorded end less what its start may be off.
  #end(row) {
    return this.start[row] + Math.max(0, this.duration[row] - ROUNDING_MS);
  }

  // Whether a bar from `start` on would take more than half of the last bar of its lane.
  #crowded(last, start) {
    return this.to[last] - start - ROUNDING_MS > this.duration[last] / 2;
  }

  #pack(place, fresh) {
    const { order, lanes } = this.workers[place];
    fresh.sort((a, b) => this.#before(a, b));
    const back = [];
    while (order.length && this.#before(order.last, fresh[0]) > 0) {
      const row = order.pop();
      const lane = lanes[this.lane[row]];
      lane.pop();
      if (lane.length) this.to[lane.last] = this.from[lane.last] + this.duration[lane.last];
      back.push(row);
    }
    while (lanes.length && lanes[lanes.length - 1].length === 0) lanes.pop();
    const free = lanes.map((lane) => (lane.length ? this.#end(lane.last) : -Infinity));
    for (let i = 0; i < fresh.length || back.length; ) {
      const late = back.length ? back[back.length - 1] : -1;
      const row = late >= 0 && (i >= fresh.length || this.#before(late, fresh[i]) < 0) ? back.pop() : fresh[i++];
      this.#place(row, order, lanes, free);
    }
  }

  #place(row, order, lanes, free) {
    const start = this.start[row];
    let best = -1;
    for (let lane = 0; lane < free.length; lane++) {
      if (free[lane] > start || (best >= 0 && free[lane] <= free[best])) continue;
      if (lanes[lane].length && this.#crowded(lanes[lane].last, start)) continue;
      best = lane;
    }
    if (best < 0) {
      best = lanes.push(new Places()) - 1;
      free.push(-Infinity);
    }
    this.from[row] = start;
    if (lanes[best].length) {
      const above = lanes[best].last;
      this.from[row] = Math.max(start, Math.min(this.to[above], start + ROUNDING_MS));
      this.to[above] = Math.min(this.to[above], this.from[row]);
    }
    this.to[row] = this.from[row] + this.duration[row];
    this.lane[row] = best;
    free[best] = this.#end(row);
    lanes[best].push(row);
    order.push(row);
    if (this.from[row] < this.first) this.first = this.from[row];
    if (this.to[row] > this.last) this.last = this.to[row];
  }
}
