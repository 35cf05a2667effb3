// Words for numbers on a chart, where times span from microseconds to days.

// A number in groups of three: "100,000".
export function count(number) {
  return Number(number).toLocaleString("en-US");
}

// "1 task", "1,203 tasks".
export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

// A time of some milliseconds with three digits that count: "0.05 ms", "12.3 s", "3 min 4 s".
export function ms(number) {
  if (!(number > 0)) return "0 ms";
  if (number < 1000) return `${Number(number.toPrecision(3))} ms`;
  if (number < 60_000) return `${Number((number / 1000).toPrecision(3))} s`;
  const seconds = Math.round(number / 1000);
  const parts = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([size]) => size > 0);
  return parts.slice(first, first + 2).filter(([size]) => size > 0).map((part) => part.join(" ")).join(" ");
}
