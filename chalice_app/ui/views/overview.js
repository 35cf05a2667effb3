import { h, replace } from "../lib/dom.js";

export async function show(root, params, context) {
  context.title("Overview");
  replace(root, h("h1", {}, "Overview"));
}
