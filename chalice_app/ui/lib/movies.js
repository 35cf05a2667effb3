// The movies among a batch's results, playing with their posters.

import { h, list, text } from "./dom.js";
import { counted } from "./format.js";
import { movieOf, movieWords, player } from "./pieces.js";

const PAGE = 12;

// Returns {element, refresh()}. `refresh` looks for movies until the first page of them is full.
export function movieShow({ api, signal, path, href }) {
  const movies = new Map();
  let cursor = null;
  let done = false;
  let wanted = PAGE;
  const places = h("ul", { class: "movies" });
  const note = h("p", { class: "muted", role: "status" });
  const more = h("button", { type: "button", class: "small", hidden: true, onclick: onMore }, "Show more movies");
  const element = h(
    "section",
    { class: "panel", "aria-labelledby": "movies-heading", hidden: true },
    h("h2", { id: "movies-heading" }, "Movies"),
    places,
    h("div", { class: "pager" }, note, more),
  );

  async function onMore() {
    wanted += PAGE;
    try {
      await refresh();
    } catch (error) {
      if (error.name !== "AbortError") text(note, error.message);
    }
  }

  // Asks in the order of completion, so that the cursor goes on where it stood while movies come.
  async function refresh() {
    if (done || movies.size >= wanted) return;
    const query = { status: "SUCCEEDED", order: "completion", limit: PAGE, cursor };
    const page = await api.get(`${path}/results`, query, { signal });
    for (const { index, result } of page.results) {
      const movie = movieOf(result);
      if (movie && !movies.has(index)) movies.set(index, { index, movie });
    }
    done = page.cursor === null;
    cursor = page.cursor ?? cursor;
    draw();
  }

  function draw() {
    element.hidden = movies.size === 0;
    const shown = [...movies.values()].slice(0, wanted);
    list(places, shown, ({ index }) => index, make);
    text(note, counted(shown.length, "movie"));
    more.hidden = done && movies.size <= wanted;
  }

  function make({ index, movie }) {
    const words = h("p", {}, h("a", { href: href(index) }, `Task ${index}`), h("span", { class: "muted" }, ` ${movieWords(movie)}`));
    return h("li", {}, player(movie, `Movie of task ${index}`), words);
  }

  return { element, refresh };
}
