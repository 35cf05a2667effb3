// The shell: the bar with the navigation, the router of views, the token's dialog, the theme, and
// the region that screen readers speak.

import { h, replace, set } from "./lib/dom.js";
import { api, ApiError } from "./lib/api.js";
import { poll } from "./lib/poll.js";
import { askForToken, signOut, takeTokenOfAddress } from "./lib/signin.js";
import { themeButton } from "./lib/theme.js";

// Each view: the form of its fragment's path, the module, and its place in the navigation.
const VIEWS = [
  { path: /^$/, load: () => import("./views/overview.js"), nav: "" },
  { path: /^batches$/, load: () => import("./views/batches.js"), nav: "batches" },
  { path: /^batches\/([^/]+)$/, load: () => import("./views/batch.js"), nav: "batches", names: ["batch"] },
  {
    path: /^batches\/([^/]+)\/tasks\/(\d+)$/,
    load: () => import("./views/task.js"),
    nav: "batches",
    names: ["batch", "index"],
  },
  { path: /^fleet$/, load: () => import("./views/fleet.js"), nav: "fleet" },
  { path: /^dead-letters$/, load: () => import("./views/letters.js"), nav: "dead-letters" },
  { path: /^schedules$/, load: () => import("./views/schedules.js"), nav: "schedules" },
  { path: /^submit$/, load: () => import("./views/submit.js"), nav: "submit" },
];
const NAVIGATION = [
  ["", "Overview"],
  ["batches", "Batches"],
  ["fleet", "Fleet"],
  ["dead-letters", "Dead letters"],
  ["schedules", "Schedules"],
  ["submit", "Submit"],
];

const main = document.getElementById("main");
const live = document.getElementById("live");
const links = new Map();
let left = null;

function start() {
  takeTokenOfAddress();
  api.onTokenNeeded(askForToken);
  drawBar();
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
  window.addEventListener("hashchange", () => {
    if (takeTokenOfAddress()) identify();
    route(true);
  });
  identify().then(() => route(false));
}

async function identify() {
  try {
    await api.identify();
  } catch (error) {
    announce(error.message);
  }
  drawIdentity();
}

// --- the bar ---------------------------------------------------------------------------------

const identityPlace = h("span", { class: "identity" });

function drawBar() {
  const items = NAVIGATION.map(([path, label]) => {
    const link = h("a", { href: `#/${path}` }, label);
    links.set(path, link);
    return h("li", {}, link);
  });
  replace(
    document.getElementById("bar"),
    h("a", { class: "brand", href: "#/" }, h("span", { class: "mark", "aria-hidden": "true" }), "Taskfleet"),
    h("nav", { "aria-label": "Views" }, h("ul", {}, items)),
    h("div", { class: "tools" }, identityPlace, themeButton()),
  );
}

function drawIdentity() {
  const { client_id: client, role } = api.identity ?? {};
  // A reader cannot submit.
  set(links.get("submit").parentNode, "hidden", role === "reader");
  replace(
    identityPlace,
    client ? h("span", { class: "client", title: `Client ${client}` }, client) : null,
    role === "reader" ? h("span", { class: "tag" }, "reads only") : null,
    api.token === null
      ? null
      : h("button", { type: "button", class: "quiet", onclick: leave }, "Sign out"),
  );
}

function leave() {
  signOut();
  drawIdentity();
  left?.abort();
  replace(
    main,
    h("section", { class: "empty" },
      h("h1", {}, "Signed out"),
      h("p", {}, "This tab has forgotten the token."),
      h("button", { type: "button", class: "primary", onclick: () => identify().then(() => route(true)) }, "Sign in"),
    ),
  );
  announce("Signed out");
  main.focus();
}

// --- views -----------------------------------------------------------------------------------

function parse() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const params = Object.fromEntries(new URLSearchParams(query));
  for (const view of VIEWS) {
    const match = view.path.exec(path.replace(/\/$/, ""));
    if (!match) continue;
    (view.names ?? []).forEach((name, n) => {
      params[name] = decodeURIComponent(match[n + 1]);
    });
    return { view, params };
  }
  return { view: null, params };
}

// moved: the reader came from another view, whose focus is to go to the new one.
async function route(moved) {
  left?.abort();
  left = new AbortController();
  const { signal } = left;
  const { view, params } = parse();
  for (const [path, link] of links) set(link, "aria-current", path === view?.nav ? "page" : null);
  const root = h("div", { class: "view" });
  replace(main, root);
  window.scrollTo(0, 0);
  if (moved) main.focus({ preventScroll: true });
  if (!view) {
    title("Not found");
    replace(root, h("h1", {}, "No such view"), h("p", {}, "The address names no view of the dashboard. ", h("a", { href: "#/" }, "Overview")));
    return;
  }
  const context = { signal, title, go, announce, api, poll, writer: api.role !== "reader" };
  try {
    const module = await view.load();
    if (!signal.aborted) await module.show(root, params, context);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof ApiError)) reportError(error);
    replace(root, problem(error));
    announce(error.message);
  }
}

function problem(error) {
  return h("section", { class: "empty", role: "alert" },
    h("h1", {}, error.status === 404 ? "Not found" : "This view cannot be shown"),
    h("p", {}, error.message),
    h("button", { type: "button", onclick: () => route(false) }, "Try again"),
  );
}

function title(text) {
  document.title = text ? `${text} · Taskfleet` : "Taskfleet";
}

function go(fragment) {
  location.hash = fragment;
}

function announce(text) {
  live.textContent = "";
  // A screen reader speaks a change; the same text again is none.
  requestAnimationFrame(() => {
    live.textContent = text;
  });
}

start();
