// Numbers with their units, and times in the reader's zone.

import { h } from "./dom.js";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

// "12,345"; "–" if it is not known.
export function count(n) {
  return known(n) ? whole.format(n) : "–";
}

// "1 task", "2 tasks".
export function counted(n, noun, plural = `${noun}s`) {
  return `${count(n)} ${n === 1 ? noun : plural}`;
}

// Seconds: "12 ms", "1.2 s", "34 s", "3 min 4 s", "2 h 5 min", "3 d 4 h".
export function seconds(s) {
  if (!known(s)) return "–";
  if (s < 0) return `−${seconds(-s)}`;
  if (s === 0) return "0 s";
  if (s < 0.001) return "< 1 ms";
  if (s < 0.9995) return `${Math.round(s * 1000)} ms`;
  if (s < 9.95) return `${one.format(s)} s`;
  const all = Math.round(s);
  if (all < 60) return `${all} s`;
  if (all < 3600) return two(Math.floor(all / 60), "min", all % 60, "s");
  const minutes = Math.round(s / 60);
  if (minutes < 1440) return two(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(s / 3600);
  return two(Math.floor(hours / 24), "d", hours % 24, "h");
}

function two(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

// US dollars: "$1,234", "$12.30", "$0.0123", "< $0.0001".
export function usd(x) {
  if (!known(x)) return "–";
  if (x === 0) return "$0";
  if (x < 0.0001) return "< $0.0001";
  if (x < 0.1) return `$${x.toFixed(4).replace(/0{1,2}$/, "")}`;
  return x < 1000 ? `$${x.toFixed(2)}` : `$${whole.format(x)}`;
}

// "812 B", "1.2 kB", "3.4 MB".
export function bytes(n) {
  if (!known(n)) return "–";
  let value = n;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" || value >= 100 ? whole.format(value) : one.format(value)} ${unit}`;
    value /= 1000;
  }
  return `${one.format(value)} TB`;
}

// Of something a second: "0.3", "12", "1,234"; the unit stands beside it.
export function rate(n) {
  if (!known(n)) return "–";
  return n < 10 ? one.format(n) : whole.format(n);
}

// "12 %".
export function percent(part, of) {
  if (!of) return "–";
  const share = (100 * part) / of;
  return `${share > 0 && share < 1 ? "< 1" : Math.floor(share)} %`;
}

// A <time> in the reader's zone, UTC in its title; "–" without a time. Text of today has no date.
export function time(iso) {
  const element = h("time", {});
  setTime(element, iso);
  return element;
}

// Brings a <time> up to date.
export function setTime(element, iso) {
  const moment = iso ? new Date(iso) : null;
  if (!moment || Number.isNaN(moment.getTime())) {
    element.removeAttribute("datetime");
    element.removeAttribute("title");
    if (element.textContent !== "–") element.textContent = "–";
    return;
  }
  const wanted = clock(moment);
  if (element.textContent !== wanted) element.textContent = wanted;
  if (element.getAttribute("datetime") !== iso) {
    element.setAttribute("datetime", iso);
    element.title = `${moment.toISOString().slice(0, 19).replace("T", " ")} UTC`;
  }
}

const today = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const dated = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

function clock(moment) {
  const now = new Date();
  if (moment.toDateString() === now.toDateString()) return today.format(moment);
  return (moment.getFullYear() === now.getFullYear() ? day : dated).format(moment);
}

function known(n) {
  return n !== null && n !== undefined && Number.isFinite(n);
}
