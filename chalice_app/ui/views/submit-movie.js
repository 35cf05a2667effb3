// A movie of pictures: thumbnails, their order by dragging, by buttons and by keys, and how the
// movie looks.

import { h, list, set, text } from "../lib/dom.js";
import { dropZone } from "../lib/files.js";
import { count, counted, seconds } from "../lib/format.js";
import { sendFiles } from "../lib/upload.js";

const MOST = 500;
const MOST_S = 3600;
const CHOICES = [
  ["preset", "Frame", [["720p", "1280 × 720"], ["1080p", "1920 × 1080"], ["square", "square, 1080 × 1080"], ["story", "story, 1080 × 1920"]]],
  ["transition", "Between pictures", [["crossfade", "crossfade"], ["cut", "cut"]]],
  ["fit", "Pictures of another shape", [["blur", "on a blurred ground"], ["contain", "with bars"], ["cover", "cropped"]]],
  ["motion", "Motion", [["none", "none"], ["kenburns", "slow zoom (Ken Burns)"]]],
  ["quality", "Quality", [["fast", "fast"], ["good", "good, takes longer"]]],
];

export function movieForm(context) {
  const { fault, announce, signal } = context;
  let pictures = [];
  let music = null;
  let dragged = null;
  const shown = h("ol", { class: "pictures", "aria-label": "Pictures in the order of the movie" });
  const length = h("p", { class: "muted" });
  const slot = h("input", { name: "duration", type: "number", min: "0.2", max: "60", step: "0.1", value: "2.4" });
  const selects = CHOICES.map(([name, , values]) => h("select", { name }, values.map(([value, label]) => h("option", { value }, label))));
  const zone = dropZone({ label: "Add pictures", hint: "or drop them here: JPEG, PNG, WebP and others", accept: "image/*", onFiles: add });
  const musicZone = dropZone({ label: "Add music", hint: "optional; it plays until the movie ends", accept: "audio/*", multiple: false, onFiles: ([file]) => file && setMusic(file) });
  const chosen = h("div", { class: "chosen", hidden: true },
    h("span", { class: "long" }),
    h("button", { type: "button", class: "small", onclick: () => setMusic(null) }, "Remove"),
  );
  const node = h("div", { class: "form" },
    zone.node,
    h("p", { class: "muted", id: "order-help" }, "Drag pictures into order, or use their buttons; with the keyboard, arrow keys move the picture that has the focus."),
    shown,
    length,
    h("div", { class: "choices" },
      h("label", {}, "Seconds a picture", slot),
      CHOICES.map(([, label], n) => h("label", {}, label, selects[n])),
    ),
    musicZone.node,
    chosen,
  );
  node.addEventListener("input", measure);
  signal.addEventListener("abort", () => pictures.forEach((picture) => URL.revokeObjectURL(picture.url)));
  measure();
  return { node, collect };

  function add(files) {
    const fit = files.filter((file) => file.type.startsWith("image/"));
    const room = fit.slice(0, MOST - pictures.length);
    pictures = [...pictures, ...room.map((file) => ({ file, url: URL.createObjectURL(file), id: crypto.randomUUID() }))];
    changed();
    if (room.length < fit.length) fault.say(`A movie has ${count(MOST)} pictures at most; the rest was left out.`);
    else if (fit.length < files.length) fault.say(`${counted(files.length - fit.length, "file")} left out: not a picture.`);
    announce(`${counted(room.length, "picture")} added`);
  }

  function changed() {
    list(shown, pictures, (picture) => picture.id, makeCard, (card) => card.update());
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function move(picture, to) {
    const from = pictures.indexOf(picture);
    const place = Math.max(0, Math.min(pictures.length - 1, to));
    if (place === from) return;
    pictures.splice(from, 1);
    pictures.splice(place, 0, picture);
    changed();
    announce(`${picture.file.name} is now ${place + 1} of ${pictures.length}`);
  }

  function remove(picture) {
    const place = pictures.indexOf(picture);
    pictures = pictures.filter((one) => one !== picture);
    URL.revokeObjectURL(picture.url);
    changed();
    const next = shown.children[Math.min(place, pictures.length - 1)];
    (next?.querySelector(".grip") ?? zone.input).focus();
    announce(`${picture.file.name} removed`);
  }

  function makeCard(picture) {
    const place = () => pictures.indexOf(picture);
    const number = h("span", { class: "place", "aria-hidden": "true" });
    const grip = h("button", { type: "button", class: "grip", "aria-describedby": "order-help", onkeydown: keys },
      h("img", { src: picture.url, alt: "", draggable: "false" }), number);
    const button = (sign, label, action) => h("button", { type: "button", class: "small quiet icon", "aria-label": `${label} ${picture.file.name}`, onclick: action }, h("span", { "aria-hidden": "true" }, sign));
    const earlier = button("←", "Move earlier:", () => move(picture, place() - 1));
    const later = button("→", "Move later:", () => move(picture, place() + 1));
    const card = h("li", { draggable: "true" }, grip,
      h("div", { class: "caption" }, h("span", { class: "clip", title: picture.file.name }, picture.file.name)),
      h("div", { class: "tools" }, earlier, later, button("✕", "Remove", () => remove(picture))),
    );
    card.addEventListener("dragstart", (event) => {
      dragged = picture;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", String(place()));
      set(card, "data-dragged", "true");
    });
    card.addEventListener("dragover", (event) => {
      if (!dragged) return;
      event.preventDefault();
      set(card, "data-over", dragged === picture ? null : "true");
    });
    card.addEventListener("dragleave", () => set(card, "data-over", null));
    card.addEventListener("drop", (event) => {
      if (!dragged) return;
      event.preventDefault();
      set(card, "data-over", null);
      move(dragged, place());
    });
    card.addEventListener("dragend", () => {
      dragged = null;
      set(card, "data-dragged", null);
    });
    card.update = () => {
      text(number, place() + 1);
      set(grip, "aria-label", `${picture.file.name}, ${place() + 1} of ${pictures.length}`);
      earlier.disabled = place() === 0;
      later.disabled = place() === pictures.length - 1;
    };
    return card;

    function keys(event) {
      const to = {
        ArrowLeft: place() - 1,
        ArrowUp: place() - 1,
        ArrowRight: place() + 1,
        ArrowDown: place() + 1,
        Home: 0,
        End: pictures.length - 1,
      }[event.key];
      if (to !== undefined) {
        event.preventDefault();
        move(picture, to);
        grip.focus();
      } else if (event.key === "Delete") {
        event.preventDefault();
        remove(picture);
      }
    }
  }

  function setMusic(file) {
    music = file;
    set(chosen, "hidden", !file);
    text(chosen.firstChild, file?.name ?? "");
    set(musicZone.node, "hidden", Boolean(file));
    if (!file) musicZone.input.focus();
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function measure() {
    const total = pictures.length * Number(slot.value);
    text(length, pictures.length ? `${counted(pictures.length, "picture")}, a movie of ${seconds(total)}` : "");
  }

  async function collect(say) {
    if (!pictures.length) {
      fault.say("There is no picture yet.");
      zone.input.focus();
      return null;
    }
    const duration = Number(slot.value);
    const invalid = !slot.validity.valid || !slot.value || duration * pictures.length > MOST_S;
    set(slot, "aria-invalid", invalid ? "true" : null);
    if (invalid) {
      fault.say(slot.validity.valid && slot.value ? "A movie lasts an hour at most. Give its pictures less time." : "Seconds a picture: a number from 0.2 to 60.");
      slot.focus();
      return null;
    }
    const files = pictures.map((picture) => picture.file);
    const ids = await sendFiles(music ? [...files, music] : files, context, (done, of) => say(`Sending files: ${count(done)} of ${count(of)}`));
    const params = { images: files.map((file) => `upload:${ids.get(file)}`), duration };
    for (const select of selects) params[select.name] = select.value;
    if (music) params.music = { url: `upload:${ids.get(music)}` };
    return { tasks: [{ kind: "animoto", params }] };
  }
}
