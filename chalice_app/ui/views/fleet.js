// The fleet: machines and workers, what the provisioner decided and why, and the last hour.

import { h, list, replace, set, text } from "../lib/dom.js";
import { chart, legend, valuesTable } from "../lib/chart.js";
import { count, counted, rate, seconds, setTime, time, usd } from "../lib/format.js";
import { SPAN_MS, addLook, points, setHistory } from "../lib/history.js";
import { missing } from "../lib/parts.js";

const SLOTS_DRAWN = 64;
const MACHINES = [
  { name: "wanted", key: "desired", tone: "warn", step: true },
  { name: "there", key: "machines", tone: "kind-1", area: true, step: true },
];
const BACKLOG = [
  { name: "messages that wait", key: "backlog", tone: "kind-2", area: true },
  { name: "with workers", key: "in_flight", tone: "kind-4" },
];
const SLOTS = [
  { name: "there", key: "slots", tone: "kind-7", step: true },
  { name: "busy", key: "running", tone: "run", area: true },
];
const CHARTS = [["Machines", MACHINES], ["Backlog", BACKLOG], ["Slots", SLOTS]];
const SPANS = [[15, "15 min"], [60, "1 hour"]];

export async function show(root, params, context) {
  context.title("Fleet");
  const banner = h("div", { class: "banner", role: "status", hidden: true });
  const seen = time(null);
  const facts = makeFacts();
  const charts = CHARTS.map(([label, series]) => chart({ label, series, format: count, tall: true }));
  let span = SPAN_MS;
  const spans = SPANS.map(([minutes, label]) =>
    h("button", { type: "button", class: "small", "aria-pressed": String(minutes * 60_000 === span), onclick: () => choose(minutes) }, label),
  );
  const table = valuesTable("The fleet over the last hour", [
    { name: "Wanted", key: "desired", format: count },
    { name: "There", key: "machines", format: count },
    { name: "Backlog", key: "backlog", format: count },
    { name: "Busy", key: "running", format: count },
    { name: "Slots", key: "slots", format: count },
    { name: "Ended a second", key: "rate", format: rate },
    { name: "Dollars an hour", key: "usd", format: usd },
  ]);
  const note = h("div", {});
  const workers = h("ul", { class: "workers" });
  const noWorkers = h("p", { class: "muted", hidden: true }, "No worker reports.");
  const states = h("ul", { class: "workers" });
  const noStates = h("p", { class: "muted", hidden: true }, "No machine of EC2.");
  const decisions = h("ul", { class: "decisions", tabindex: "0", "aria-labelledby": "decisions" });
  const noDecisions = h("p", { class: "muted", hidden: true }, "The provisioner has decided nothing yet.");
  const looked = h("span", { class: "muted" });

  replace(root,
    h("div", { class: "head" }, h("h1", {}, "Fleet"), h("span", { class: "muted" }, "As of ", seen)),
    banner,
    h("section", { class: "panel", "aria-label": "Now" }, facts.node),
    h("section", { class: "panel charts", "aria-labelledby": "hour" },
      h("div", { class: "head" }, h("h2", { id: "hour" }, "Over time"), h("div", { class: "segments", role: "group", "aria-label": "How far back" }, spans)),
      note,
      h("div", { class: "trio" }, CHARTS.map(([label, series], n) =>
        h("div", {}, h("div", { class: "head" }, h("h3", {}, label), legend(series)), charts[n].node),
      )),
      table.node,
    ),
    h("div", { class: "columns" },
      h("section", { class: "panel", "aria-labelledby": "workers" }, h("h2", { id: "workers" }, "Workers"), workers, noWorkers),
      h("div", { class: "view" },
        h("section", { class: "panel", "aria-labelledby": "states" }, h("h2", { id: "states" }, "Machines by state"), states, noStates),
        h("section", { class: "panel", "aria-labelledby": "decisions" },
          h("div", { class: "head" }, h("h2", { id: "decisions" }, "Decisions of the provisioner"), h("span", { class: "spacer" }), looked),
          decisions,
          noDecisions,
        ),
      ),
    ),
  );

  context.poll(context, 2, async () => {
    const fleet = await context.api.get("fleet", {}, { signal: context.signal });
    addLook(fleet);
    setTime(seen, new Date().toISOString());
    set(banner, "hidden", !fleet.why);
    text(banner, fleet.why);
    facts.update(fleet);
    list(workers, fleet.workers, (one) => one.worker_id, makeWorker, (row, one) => row.update(one));
    set(noWorkers, "hidden", fleet.workers.length > 0);
    list(states, fleet.instances, (one) => one.state, makeState, (row, one) => row.update(one));
    set(noStates, "hidden", fleet.instances.length > 0);
    list(decisions, fleet.decisions, (one) => `${one.at} ${one.reason}`, makeDecision, (row, one) => row.update(one));
    set(noDecisions, "hidden", fleet.decisions.length > 0);
    text(looked, fleet.looked_s === null ? "" : `looked ${seconds(fleet.looked_s)} ago`);
    draw();
  });
  const history = context.poll(context, 60, async () => {
    try {
      setHistory((await context.api.get("fleet/history", { minutes: 60 }, { signal: context.signal })).points);
      draw();
    } catch (error) {
      if (!error.missing) throw error;
      history.stop();
      replace(note, missing("The last hour"));
    }
  });

  function draw() {
    const now = Date.now();
    const all = points(now);
    for (const one of charts) one.update(all, now - span, now);
    table.update(all);
  }

  function choose(minutes) {
    span = minutes * 60_000;
    SPANS.forEach(([each], n) => set(spans[n], "aria-pressed", String(each === minutes)));
    draw();
  }
}

function makeFacts() {
  const names = ["Waiting", "With workers", "Running", "Machines", "Most machines", "Cost"];
  const values = names.map(() => [h("span", {}), h("small", {})]);
  const node = h("dl", { class: "pairs" }, names.map((name, n) => h("div", {}, h("dt", {}, name), h("dd", {}, values[n][0], " ", values[n][1]))));
  return {
    node,
    update(fleet) {
      const there = fleet.instances.reduce((sum, one) => sum + one.count, 0);
      const slots = fleet.workers.reduce((sum, one) => sum + one.slots, 0);
      [
        [count(fleet.backlog), fleet.backlog === 1 ? "message" : "messages"],
        [count(fleet.in_flight), fleet.in_flight === 1 ? "message" : "messages"],
        [count(fleet.running), `on ${counted(slots, "slot")}`],
        [count(there), `${count(fleet.desired)} wanted`],
        [count(fleet.max_capacity), fleet.max_capacity ? "may run" : "the provisioner is off"],
        [usd(fleet.usd_per_hour), `an hour, ${usd(fleet.cost_usd)} so far`],
      ].forEach(([value, unit], n) => {
        text(values[n][0], value);
        text(values[n][1], unit);
      });
    },
  };
}

function makeWorker() {
  const name = h("strong", { class: "mono" });
  const machine = h("span", { class: "muted mono" });
  const leaving = h("span", { class: "tag", "data-tone": "warn", hidden: true }, "leaving");
  const load = h("span", {});
  const ages = h("span", { class: "muted" });
  const slots = h("div", { class: "slots", "aria-hidden": "true" });
  const row = h("li", {}, h("div", { class: "line" }, name, machine, leaving, load, ages), slots);
  row.update = (worker) => {
    text(name, worker.worker_id);
    text(machine, worker.instance_id ?? "no machine of EC2");
    set(leaving, "hidden", !worker.leaving);
    const ended = typeof worker.ended === "number" ? `, ${count(worker.ended)} ended` : "";
    text(load, `${count(worker.running)} of ${counted(worker.slots, "slot")} busy, ${count(worker.pending)} pending${ended}`);
    text(ages, `up ${seconds(worker.age_s)}, reported ${seconds(worker.beat_s)} ago`);
    const drawn = Math.min(worker.slots, SLOTS_DRAWN);
    while (slots.children.length > drawn) slots.lastChild.remove();
    while (slots.children.length < drawn) slots.append(h("span", {}));
    const busy = Math.round((drawn * worker.running) / Math.max(1, worker.slots));
    [...slots.children].forEach((slot, n) => set(slot, "class", n < busy ? "busy" : null));
  };
  return row;
}

function makeState() {
  const state = h("strong", {});
  const many = h("span", {});
  const ages = h("span", { class: "muted" });
  const row = h("li", {}, h("div", { class: "line" }, state, many, ages));
  row.update = (one) => {
    text(state, one.state);
    text(many, counted(one.count, "machine"));
    const [newest, oldest] = [seconds(one.newest_s), seconds(one.oldest_s)];
    text(ages, newest === oldest ? `${oldest} old` : `${newest} to ${oldest} old`);
  };
  return row;
}

function makeDecision() {
  const wanted = h("strong", {});
  const done = h("span", { class: "muted" });
  const at = time(null);
  const reason = h("p", { class: "long" });
  const row = h("li", {}, h("div", { class: "line" }, wanted, done, at), reason);
  row.update = (one) => {
    text(wanted, `${count(one.desired)} wanted`);
    text(done, [
      one.launched ? `${count(one.launched)} launched` : null,
      one.ended ? `${count(one.ended)} ended` : null,
      one.retired ? `${count(one.retired)} asked to leave` : null,
    ].filter(Boolean).join(", "));
    setTime(at, one.at);
    text(reason, one.reason);
  };
  return row;
}
