// The colours of a canvas, from the variables of the style sheet; follows the theme.

const FALLBACK = {
  "--panel": "#ffffff",
  "--text": "#1a1d21",
  "--muted": "#5b6470",
  "--line": "#d5dae0",
  "--bad": "#b3261e",
};

// Returns {value}, the colours that count for `node` now; `changed()` is called after they changed.
export function watchLook(node, signal, changed) {
  const look = { value: readLook(node) };
  const again = () => {
    look.value = readLook(node);
    changed();
  };
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
    matchMedia(query).addEventListener("change", again, { signal });
  }
  const observer = new MutationObserver(again);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
  signal.addEventListener("abort", () => observer.disconnect());
  return look;
}

function readLook(node) {
  const style = getComputedStyle(node);
  const read = (name) => style.getPropertyValue(name).trim() || FALLBACK[name] || "#4c78a8";
  const kinds = Array.from({ length: 8 }, (_, kind) => read(`--kind-${kind}`));
  const bad = read("--bad");
  return {
    panel: read("--panel"),
    text: read("--text"),
    muted: read("--muted"),
    line: read("--line"),
    bad,
    failedLine: readable(bad) === "#ffffff" ? "rgba(255,255,255,0.55)" : "rgba(0,0,0,0.5)",
    kinds,
    onKinds: kinds.map(readable),
    font: `12px ${style.fontFamily || "sans-serif"}`,
  };
}

// Black or white, whichever can be read better on a colour that a style sheet may name in any form.
function readable(colour) {
  const context = (readable.context ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true }));
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  const linear = (part) => (part <= 10 ? part / 3294 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
  return light > 0.179 ? "#000000" : "#ffffff";
}
