// What the fleet was over the last hour: the points that the service recorded, about one a minute,
// and after them those that this page saw.

export const SPAN_MS = 3_600_000;
const GAP_MS = 150_000; // the service records nothing while nothing runs
const KEPT_MS = 5_000; // between two points of the page's own
const RATE_OVER_MS = 12_000; // workers report every few seconds

let recorded = null; // null: not known
let seen = [];
let looks = [];

// Takes the answer of `GET /fleet/history`.
export function setHistory(points) {
  recorded = [];
  let before = null;
  for (const one of points) {
    const at = Date.parse(one.at);
    const past = before === null ? null : at - before;
    if (past !== null && past > GAP_MS) {
      recorded.push(idle(before + 30_000), idle(at - 30_000));
    }
    const over = past === null || past > GAP_MS ? 60_000 : Math.max(1_000, past);
    recorded.push({
      at,
      rate: (1000 * one.ended) / over,
      backlog: one.backlog,
      in_flight: one.in_flight,
      running: one.running,
      slots: one.slots,
      workers: one.workers,
      machines: one.instances,
      desired: one.desired,
      usd: one.usd_per_hour,
    });
    before = at;
  }
}

function idle(at) {
  return { at, rate: 0, backlog: 0, in_flight: 0, running: 0, slots: 0, workers: 0, machines: 0, desired: 0, usd: 0 };
}

// Takes an answer of `GET /fleet`; returns the point that it makes.
export function addLook(fleet, now = Date.now()) {
  const point = {
    at: now,
    rate: rateNow(fleet, now),
    backlog: fleet.backlog,
    in_flight: fleet.in_flight,
    running: fleet.running,
    slots: fleet.workers.reduce((sum, one) => sum + one.slots, 0),
    workers: fleet.workers.length,
    machines: fleet.instances.reduce((sum, one) => sum + one.count, 0),
    desired: fleet.desired,
    usd: fleet.usd_per_hour,
  };
  if (seen.length > 1 && now - seen.at(-2).at < KEPT_MS) seen.pop();
  seen.push(point);
  seen = seen.filter((one) => one.at > now - SPAN_MS);
  return point;
}

// Returns all points of the last hour, oldest first.
export function points(now = Date.now()) {
  const from = now - SPAN_MS;
  const first = seen[0]?.at ?? now;
  if (recorded === null) return seen;
  const all = recorded.filter((one) => one.at > from && one.at < first);
  if (!all.length || all[0].at - from > GAP_MS) all.unshift(idle(from), idle((all[0]?.at ?? first) - 1));
  if (first - all.at(-1).at > GAP_MS) all.push(idle(all.at(-1).at + 30_000), idle(first - 1));
  return [...all, ...seen];
}

// Tasks that workers ended a second, between now and some seconds ago; null while it is not known.
function rateNow(fleet, now) {
  const ended = new Map();
  for (const one of fleet.workers) if (typeof one.ended === "number") ended.set(one.worker_id, one);
  if (fleet.workers.length && !ended.size) return null;
  looks.push({ now, ended });
  while (looks.length > 2 && looks[1].now <= now - RATE_OVER_MS) looks.shift();
  const before = looks[0];
  const seconds = (now - before.now) / 1000;
  if (seconds < 1) return null;
  let sum = 0;
  for (const [id, one] of ended) {
    // A worker that is new since then has ended all its tasks since then.
    const base = before.ended.get(id)?.ended ?? (one.age_s <= seconds ? 0 : one.ended);
    sum += Math.max(0, one.ended - base);
  }
  return sum / seconds;
}
