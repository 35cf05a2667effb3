import { h, replace } from "../lib/dom.js";

export async function show(root, params, context) {
  context.title("task");
  replace(root, h("h1", {}, "task"));
}
