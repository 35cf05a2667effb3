// Templates of commands, with placeholders for a file as GNU parallel has them. The same rules as
// `taskfleet map` (taskfleet/cli/template.py); a test holds the two equal.

const PLACEHOLDER = /\{(?:\.|\/\.?|\/\/)?\}/g;
const NAMES = { "'": "single quotes", '"': "double quotes", "`": "backquotes", "#": "a comment" };

// Returns what a placeholder stands for.
export function value(placeholder, item) {
  const base = item.slice(item.lastIndexOf("/") + 1);
  switch (placeholder) {
    case "{.}": return withoutEnding(item);
    case "{/}": return base;
    case "{/.}": return withoutEnding(base);
    case "{//}": return item.includes("/") ? item.slice(0, item.lastIndexOf("/")) || "/" : ".";
    default: return item;
  }
}

function withoutEnding(path) {
  const start = path.lastIndexOf("/") + 1;
  const dot = path.lastIndexOf(".");
  // The dots that a name begins with begin no ending.
  return dot > start && /[^.]/.test(path.slice(start, dot)) ? path.slice(0, dot) : path;
}

// Returns the text for the shell, where each value is one word. Throws an Error for a placeholder
// within quotes, where a value could not be quoted.
export function command(template, item) {
  let whole = template;
  if (!template.match(PLACEHOLDER)) whole += " {}";
  for (const match of whole.matchAll(PLACEHOLDER)) {
    const quote = quotedAt(whole, match.index);
    if (quote !== null) {
      throw new Error(`${match[0]} stands within ${quote}, where it cannot be quoted. Write it outside: each value is quoted as one word.`);
    }
  }
  return whole.replace(PLACEHOLDER, (match) => shellQuote(value(match, item)));
}

// Returns the pattern of output files, in which a value stands for itself.
export function pattern(template, item) {
  return template.replace(PLACEHOLDER, (match) => value(match, item).replace(/^\.\//, "").replace(/[*?[]/g, "[$&]"));
}

export function shellQuote(text) {
  if (text === "") return "''";
  return /[^\w@%+=:,./-]/.test(text) ? `'${text.replaceAll("'", `'"'"'`)}'` : text;
}

// Returns what the place in a text for the shell lies in, such as "single quotes"; null if words
// stand there.
export function quotedAt(text, place) {
  const open = [];
  let at = 0;
  while (at < place) {
    const char = text[at];
    const inner = open.at(-1) ?? "";
    if (inner === "'") {
      if (char === "'") open.pop();
    } else if (inner === "#") {
      if (char === "\n") open.pop();
    } else if (char === "\\") {
      at += 1;
    } else if (text.startsWith("$(", at)) {
      open.push(")");
      at += 1;
    } else if (inner === '"') {
      if (char === '"') open.pop();
      else if (char === "`") open.push("`");
    } else if (char === inner) {
      open.pop();
    } else if ("'\"`".includes(char)) {
      open.push(char);
    } else if (char === "(") {
      open.push(")");
    } else if (char === "#" && (at === 0 || " \t\n;&|()".includes(text[at - 1]))) {
      open.push("#");
    } else if (text.startsWith("<<<", at)) {
      at += 2;
    } else if (text.startsWith("<<", at)) {
      return "a here-document";
    }
    at += 1;
  }
  if (at > place) return "a backslash";
  return NAMES[open.at(-1)] ?? null;
}
