// A place to drop files, or to choose them.

import { h, set } from "./dom.js";

// Returns {node, input}. label: what to drop. onFiles gets a list of files.
export function dropZone({ label, hint, accept = null, multiple = true, onFiles }) {
  const input = h("input", { type: "file", class: "visually-hidden", accept, multiple });
  const node = h("label", { class: "drop" }, input, h("strong", {}, label), h("span", { class: "muted" }, hint));
  input.addEventListener("change", () => {
    onFiles([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });
  acceptDrops(node, onFiles);
  return { node, input };
}

// Lets files be dropped onto a node. Other drags, such as of a picture's card, are left alone.
export function acceptDrops(node, onFiles) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    set(node, "data-over", "true");
  };
  node.addEventListener("dragenter", over);
  node.addEventListener("dragover", over);
  node.addEventListener("dragleave", () => set(node, "data-over", null));
  node.addEventListener("drop", (event) => {
    set(node, "data-over", null);
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFiles([...event.dataTransfer.files]);
  });
}
