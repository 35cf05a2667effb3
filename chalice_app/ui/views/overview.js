// The overview: what the fleet does now and did in the last hour, why nothing runs when nothing
// does, and the newest batches.

import { h, list, replace, set, text } from "../lib/dom.js";
import { chart } from "../lib/chart.js";
import { count, rate, seconds, setTime, time, usd } from "../lib/format.js";
import { SPAN_MS, addLook, points, setHistory } from "../lib/history.js";
import { hasEnded, missing, progressBar, progressText, setStatus } from "../lib/parts.js";

const NEWEST = 10;

export async function show(root, params, context) {
  context.title("Overview");
  const banner = h("div", { class: "banner", role: "status", hidden: true });
  const tiles = makeTiles();
  const note = h("div", {});
  const seen = time(null);
  const newest = h("ul", { class: "batches" });
  const none = h("div", { class: "panel empty", hidden: true },
    h("h2", {}, "No batch yet"),
    h("p", { class: "muted" }, "A batch is a list of tasks that the fleet executes."),
    context.writer ? h("a", { class: "button", href: "#/submit" }, "Submit one") : null,
  );
  replace(root,
    h("div", { class: "head" }, h("h1", {}, "Overview"), h("span", { class: "muted live" }, "Fleet as of ", seen)),
    banner,
    h("div", { class: "tiles" }, tiles.map((tile) => tile.node)),
    note,
    h("section", { class: "panel", "aria-labelledby": "newest" },
      h("div", { class: "head" }, h("h2", { id: "newest" }, "Newest batches"), h("span", { class: "spacer" }), h("a", { href: "#/batches" }, "All batches")),
      newest,
      none,
    ),
  );

  context.poll(context, 2, async () => {
    const fleet = await context.api.get("fleet", {}, { signal: context.signal });
    addLook(fleet);
    setTime(seen, new Date().toISOString());
    set(banner, "hidden", !fleet.why);
    text(banner, fleet.why);
    draw(fleet);
  });
  context.poll(context, 3, async () => {
    const page = await context.api.get("batches", { limit: NEWEST }, { signal: context.signal });
    drawBatches(page.batches);
  });
  const history = context.poll(context, 60, async () => {
    try {
      setHistory((await context.api.get("fleet/history", { minutes: 60 }, { signal: context.signal })).points);
      draw(null);
    } catch (error) {
      if (!error.missing) throw error;
      history.stop();
      replace(note, missing("The last hour"));
    }
  });

  function draw(fleet) {
    const now = Date.now();
    const all = points(now);
    for (const tile of tiles) tile.update(fleet, all, now);
  }

  function drawBatches(batches) {
    set(none, "hidden", batches.length > 0);
    list(newest, batches, (batch) => batch.batch_id, makeRow, (row, batch) => row.update(batch));
  }
}

function makeTiles() {
  return [
    tile("Tasks ended", { key: "rate", tone: "ok", format: (n) => `${rate(n)} /s` }, (last) => [rate(last.rate), "a second", ""]),
    tile("Backlog", { key: "backlog", tone: "kind-2", format: (n) => count(n) }, (last) => [
      count(last.backlog),
      last.backlog === 1 ? "message" : "messages",
      `${count(last.in_flight)} with workers`,
    ]),
    tile("Slots busy", { key: "running", tone: "run", format: (n) => count(n) }, (last) => [
      count(last.running),
      `of ${count(last.slots)}`,
      last.slots ? `${Math.round((100 * Math.min(last.running, last.slots)) / last.slots)} %` : "no slots",
    ]),
    tile("Machines", { key: "machines", tone: "kind-1", format: (n) => count(n), step: true }, (last) => [
      count(last.machines),
      `of ${count(last.desired)} wanted`,
      `${count(last.workers)} ${last.workers === 1 ? "worker" : "workers"}`,
    ]),
    tile("Dollars", { key: "usd", tone: "kind-3", format: (n) => `${usd(n)} /h`, least: 0.01, step: true }, (last, fleet) => [
      usd(last.usd),
      "an hour",
      fleet ? `${usd(fleet.cost_usd)} so far` : null,
    ]),
  ];
}

function tile(label, { key, tone, format, least = 1, step = false }, read) {
  const value = h("span", { class: "value" }, "–");
  const unit = h("span", { class: "unit" });
  const aside = h("span", { class: "aside muted" });
  const drawing = chart({ label, series: [{ name: label, key, tone, area: true, step }], format, least });
  const node = h("section", { class: "panel tile", "aria-label": label },
    h("h2", {}, label, aside),
    h("p", { class: "figure" }, value, " ", unit),
    drawing.node,
  );
  return {
    node,
    update(fleet, all, now) {
      const last = all.at(-1);
      if (last) {
        const [figure, its, beside] = read(last, fleet);
        text(value, figure);
        text(unit, its);
        if (beside !== null) text(aside, beside);
      }
      drawing.update(all, now - SPAN_MS, now);
    },
  };
}

function makeRow() {
  const link = h("a", { class: "name" });
  const tag = h("span", { class: "tag" });
  const bar = progressBar();
  const told = h("span", { class: "muted" });
  const left = h("span", { class: "muted" });
  const at = time(null);
  const row = h("li", {}, h("div", { class: "what" }, link, tag), bar.node, h("div", { class: "under" }, told, left, at));
  row.update = (batch) => {
    text(link, batch.name || batch.batch_id);
    set(link, "href", `#/batches/${batch.batch_id}`);
    set(link, "title", batch.name ? batch.batch_id : null);
    setStatus(tag, batch.status, batch.failed);
    bar.update(batch);
    text(told, progressText(batch));
    text(left, !hasEnded(batch) && batch.eta_s !== null ? `about ${seconds(batch.eta_s)} left` : "");
    setTime(at, batch.created_at);
  };
  return row;
}
