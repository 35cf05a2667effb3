// A chart of values over time, as SVG: lines over a ground, the moment under the pointer, and words
// for those who do not see it.

import { h, replace, set, text } from "./dom.js";
import { setTime, time } from "./format.js";

const WIDTH = 600;
const HEIGHT = 100;

// Returns a chart: {node, update(points, from, to)}.
// label: what it shows. series: [{name, key, tone, area, step}], tone is a name of a variable in
// base.css. format(value): text of a value with its unit. least: smallest top of the scale.
// points: [{at, ...}], at in epoch milliseconds, oldest first; a null value breaks the line.
export function chart({ label, series, format, least = 1, tall = false }) {
  const lines = series.map((one) => h("path", { class: "line", style: { stroke: `var(--${one.tone})` } }));
  const grounds = series.map((one) =>
    one.area ? h("path", { class: "ground", style: { fill: `var(--${one.tone})` } }) : null,
  );
  const svg = h("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path", { class: "grid", d: `M0 0.5H${WIDTH}M0 50H${WIDTH}M0 99.5H${WIDTH}` }),
    grounds.filter(Boolean),
    lines,
  );
  const top = h("span", { class: "top", "aria-hidden": "true" });
  const at = time(null);
  const values = series.map(() => h("span", {}));
  const tip = h("div", { class: "tip" }, at, values.map((value, n) =>
    h("div", {}, key(series[n]), series.length > 1 ? `${series[n].name} ` : null, value),
  ));
  const cursor = h("div", { class: "cursor", hidden: true, "aria-hidden": "true" }, tip);
  const plot = h("div", { class: tall ? "plot tall" : "plot", role: "img" }, svg, top, cursor);
  const start = h("span", {});
  const node = h("div", { class: "chart" }, plot, h("div", { class: "axis", "aria-hidden": "true" }, start, h("span", {}, "now")));
  let shown = { points: [], from: 0, to: 1 };

  plot.addEventListener("pointermove", (event) => point(event.clientX));
  plot.addEventListener("pointerleave", () => set(cursor, "hidden", true));
  return { node, update };

  function update(points, from, to) {
    const inside = points.filter((one) => one.at >= from && one.at <= to);
    shown = { points: inside, from, to };
    const max = niceTop(Math.max(least, ...inside.flatMap((one) => series.map((each) => one[each.key] ?? 0))));
    series.forEach((one, n) => {
      const d = path(inside, one, max, from, to);
      set(lines[n], "d", d.line);
      if (grounds[n]) set(grounds[n], "d", d.ground);
    });
    text(top, format(max));
    text(start, `${Math.round((to - from) / 60_000)} min ago`);
    set(plot, "aria-label", words(inside));
  }

  function words(points) {
    if (!points.length) return `${label}: no values yet`;
    const parts = series.map((one) => {
      const all = points.map((each) => each[one.key]).filter((value) => value !== null && value !== undefined);
      if (!all.length) return `${one.name}: no values`;
      return `${one.name}: now ${format(all.at(-1))}, least ${format(Math.min(...all))}, most ${format(Math.max(...all))}`;
    });
    return `${label}, over ${Math.round((shown.to - shown.from) / 60_000)} minutes. ${parts.join(". ")}`;
  }

  function point(clientX) {
    const { points, from, to } = shown;
    const box = plot.getBoundingClientRect();
    const moment = from + ((clientX - box.left) / box.width) * (to - from);
    let nearest = null;
    for (const one of points) {
      if (!nearest || Math.abs(one.at - moment) < Math.abs(nearest.at - moment)) nearest = one;
    }
    set(cursor, "hidden", !nearest);
    if (!nearest) return;
    const share = (nearest.at - from) / (to - from);
    cursor.style.left = `${share * 100}%`;
    set(cursor, "data-side", share > 0.6 ? "left" : "right");
    setTime(at, new Date(nearest.at).toISOString());
    series.forEach((one, n) => text(values[n], format(nearest[one.key])));
  }
}

// Returns the legend of a chart.
export function legend(series) {
  return h("ul", { class: "legend" }, series.map((one) => h("li", {}, key(one), one.name)));
}

function key(one) {
  return h("span", { class: "key", "aria-hidden": "true", style: { background: `var(--${one.tone})` } });
}

function path(points, { key: name, step }, max, from, to) {
  const x = (at) => (((at - from) / (to - from)) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - 0.5 - (value / max) * (HEIGHT - 3)).toFixed(1);
  let line = "";
  let ground = "";
  let begun = null;
  let last = null;
  for (const one of points) {
    const value = one[name];
    if (value === null || value === undefined) {
      close();
      continue;
    }
    if (begun === null) {
      line += `M${x(one.at)} ${y(value)}`;
      ground += `M${x(one.at)} ${HEIGHT}L${x(one.at)} ${y(value)}`;
      begun = one;
    } else {
      const to = step ? `H${x(one.at)}V${y(value)}` : `L${x(one.at)} ${y(value)}`;
      line += to;
      ground += to;
    }
    last = one;
  }
  close();
  return { line, ground };

  function close() {
    if (begun !== null) ground += `L${x(last.at)} ${HEIGHT}Z`;
    begun = null;
  }
}

// The next of 1, 2, 5, 10, 20, ... at or above the value.
export function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  for (const factor of [1, 2, 5, 10]) if (value <= factor * power * 1.0001) return factor * power;
  return value;
}

// Returns the same values as a table that opens: {node, update(points)}.
export function valuesTable(label, columns) {
  const body = h("tbody", {});
  const details = h("details", { class: "values" },
    h("summary", {}, "Show the values"),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
      h("table", {},
        h("caption", { class: "visually-hidden" }, label),
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), columns.map((one) => h("th", { scope: "col" }, one.name)))),
        body,
      ),
    ),
  );
  let points = [];
  details.addEventListener("toggle", draw);
  return {
    node: details,
    update(given) {
      points = given;
      draw();
    },
  };

  function draw() {
    if (!details.open) return;
    replace(body, points.slice(-60).reverse().map((one) =>
      h("tr", {}, h("td", {}, time(new Date(one.at).toISOString())), columns.map((each) => h("td", { class: "number" }, each.format(one[each.key])))),
    ));
  }
}
