// One clock for all repeated calls of the page: at most one call a second in all, none while the
// tab is hidden, and none of a view that was left.

const SPACING_MS = 1000;
const BACK_OFF_MAX_S = 60;

const polls = new Set();
let lastAt = -Infinity;
let timer = null;
let busy = false;

// Calls `fn` at once and then about every `everyS` seconds until `view` (the context of a view, or
// an AbortSignal) has ended. fn makes one call of the API and may return a promise; while it fails,
// pauses grow up to a minute. Returns {soon(), stop()}: `soon` asks for the next call as soon as
// one is allowed.
export function poll(view, everyS, fn) {
  const signal = view.signal ?? view;
  const one = { everyS, fn, signal, dueAt: performance.now(), failures: 0 };
  if (signal.aborted) return { soon() {}, stop() {} };
  polls.add(one);
  const stop = () => {
    polls.delete(one);
    plan();
  };
  signal.addEventListener("abort", stop, { once: true });
  run(one, true);
  return {
    soon() {
      one.dueAt = 0;
      one.again = true; // also if a call is on its way
      plan();
    },
    stop,
  };
}

document.addEventListener("visibilitychange", plan);

function plan() {
  clearTimeout(timer);
  timer = null;
  if (document.hidden || busy || polls.size === 0) return;
  const next = [...polls].filter((one) => !one.running).sort((a, b) => a.dueAt - b.dueAt)[0];
  if (!next) return;
  const now = performance.now();
  const wait = Math.max(next.dueAt - now, lastAt + SPACING_MS - now, 0);
  timer = setTimeout(() => run(next, false), wait);
}

// first: the call that fills a view which was just opened. It does not wait for its turn.
async function run(one, first) {
  if (!first && (document.hidden || !polls.has(one))) {
    plan();
    return;
  }
  one.running = true;
  one.again = false;
  if (!first) busy = true;
  lastAt = performance.now();
  try {
    await one.fn();
    one.failures = 0;
  } catch (error) {
    if (error.name !== "AbortError") {
      one.failures += 1;
      if (!error.status && error.code === undefined) reportError(error); // a fault of the page itself
    }
  }
  one.running = false;
  if (!first) busy = false;
  const pauseS = one.failures
    ? Math.min(BACK_OFF_MAX_S, one.everyS * 2 ** one.failures)
    : one.everyS;
  one.dueAt = one.again ? 0 : performance.now() + pauseS * 1000;
  plan();
}
