// The ticks of an axis of time: where they stand and what they are called.

import { seconds } from "./format.js";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30].map((n) => n * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE),
  ...[1, 2, 3, 6, 12].map((n) => n * HOUR),
  ...[1, 2, 7, 14, 28].map((n) => n * DAY),
];

// The smallest step, in milliseconds, with which a span has at most `most` of them. Below a
// millisecond it is 1, 2 or 5 times a power of ten, and above 28 days a multiple of 28 days.
export function tickStep(span, most) {
  const least = span / Math.max(1, most);
  if (least <= 0.5) {
    const power = 10 ** Math.floor(Math.log10(Math.max(least, 1e-6)));
    return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least * 0.999999) ?? 10 * power;
  }
  return STEPS.find((step) => step >= least) ?? Math.ceil(least / (28 * DAY)) * 28 * DAY;
}

// The ticks between `from` and `to`, milliseconds since the zero of the axis, at most `most` + 1.
export function ticks(from, to, most) {
  const step = tickStep(to - from, most);
  const found = [];
  const begin = Math.ceil(from / step - 1e-9);
  for (let n = begin; n * step <= to + step * 1e-9 && found.length <= most; n++) {
    found.push({ at: n * step, text: tickText(n * step, step) });
  }
  return found;
}

// A time since the zero of the axis, as exact as the step needs it: "0", "250 ms", "1.5 s",
// "2 min 30 s", "3 h 10 min", "2 d 6 h".
export function tickText(ms, step) {
  if (Math.abs(ms) < step / 1e6) return "0";
  const sign = ms < 0 ? "−" : "";
  const size = Math.abs(ms);
  if (size < SECOND) return `${sign}${digits(size, step)} ms`;
  if (size < MINUTE) return `${sign}${digits(size / SECOND, step / SECOND)} s`;
  const parts = [
    [DAY, "d"],
    [HOUR, "h"],
    [MINUTE, "min"],
  ];
  const words = [];
  let rest = size;
  for (const [unit, name] of parts) {
    const count = Math.floor((rest + step / 1e6) / unit);
    if (count) words.push(`${count} ${name}`);
    rest = Math.max(0, rest - count * unit);
  }
  if (step < MINUTE && rest > step / 1e6) words.push(`${digits(rest / SECOND, step / SECOND)} s`);
  return sign + words.join(" ");
}

// A number with as many digits after the point as its step has.
function digits(number, step) {
  const places = Math.min(9, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
  return String(Number(number.toFixed(places)));
}

// A length of time in words, with three digits below a second, where charts look closely.
export function span(ms) {
  return ms > 0 && ms < SECOND ? `${Number(ms.toPrecision(3))} ms` : seconds(ms / SECOND);
}
