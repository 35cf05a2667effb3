// Builds and updates the page. Every text becomes a text node, so that no string of a user is ever
// read as markup.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "polyline", "text", "title:svg"]);

// Returns a new element. attributes: `class`, `data-*`, `aria-*`, `on*` (functions), and others; one
// whose value is null, undefined or false is left out. children: nodes, texts, numbers, null, arrays.
export function h(tag, attributes, ...children) {
  const element = SVG_TAGS.has(tag)
    ? document.createElementNS(SVG, tag.replace(":svg", ""))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) set(element, name, value);
  append(element, children);
  return element;
}

// Sets one attribute, or removes it if the value is null, undefined or false. A function for `on*`
// becomes a listener. `style` is an object of custom properties and properties.
export function set(element, name, value) {
  if (name.startsWith("on") && typeof value === "function") {
    element.addEventListener(name.slice(2).toLowerCase(), value);
  } else if (name === "style" && value && typeof value === "object") {
    for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
  } else if (PROPERTIES.has(name) && !(name === "value" && element.localName === "option")) {
    if (element[name] !== value) element[name] = value;
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

// What is a state of the element, not an attribute of the markup.
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "selected", "indeterminate", "open"]);

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

// Replaces all children of `node`.
export function replace(node, ...children) {
  const fresh = document.createDocumentFragment();
  append(fresh, children);
  node.replaceChildren(fresh);
}

// Sets the text of a node if it changed, so that selections and screen readers are left in peace.
export function text(node, value) {
  const wanted = value === null || value === undefined ? "" : String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

// Makes the children of `parent` those of `items`, in order. key(item) tells items apart;
// make(item) returns a new element; update(element, item) brings one up to date, also a new one.
// Elements that stay are kept, moved only if their order changed, and keep focus and scroll.
export function list(parent, items, key, make, update) {
  const known = parent.listed ?? new Map();
  const next = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const id = String(key(item));
    if (next.has(id)) continue;
    const element = known.get(id) ?? make(item);
    next.set(id, element);
    known.delete(id);
    update?.(element, item);
    if (element === place) {
      place = place.nextSibling;
    } else {
      // A row that went away stands at this place: remove it first, so that those behind stay.
      while (place && place !== element && !next.has(place.listKey) && !isWanted(items, key, place)) {
        const gone = place;
        place = place.nextSibling;
        gone.remove();
      }
      if (element === place) place = place.nextSibling;
      else parent.insertBefore(element, place);
    }
    element.listKey = id;
  }
  for (const element of known.values()) element.remove();
  parent.listed = next;
}

function isWanted(items, key, element) {
  return items.some((item) => String(key(item)) === element.listKey);
}

// Returns the URL if it is one of http or https, else null: other schemes of a user run code.
export function webUrl(value) {
  try {
    const url = new URL(value);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}
