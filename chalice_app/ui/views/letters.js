import { h, replace } from "../lib/dom.js";

export async function show(root, params, context) {
  context.title("Dead letters");
  replace(root, h("h1", {}, "Dead letters"));
}
