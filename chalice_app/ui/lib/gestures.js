// What a reader does with a stream by mouse, wheel, touch and keys. `stream` gives `zoom`, `pan`,
// `fit`, `under`, `hover`, `pick`, `step`, `nextFailure`, `select`, `open` and `view`.

const DRAG = 4; // pixels from which on a press is no click

// Listens on `plot` until `signal` aborts.
export function gestures(plot, stream, signal) {
  const pointers = new Map();
  const on = (type, run, options = {}) => plot.addEventListener(type, run, { signal, ...options });

  function place(event) {
    const area = plot.getBoundingClientRect();
    const x = event.clientX - area.left - plot.clientLeft;
    return { x, y: event.clientY - area.top - plot.clientTop, share: x / Math.max(1, stream.view.width) };
  }

  on("pointerdown", (event) => {
    if (event.button !== 0) return;
    plot.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { ...place(event), dragged: false });
  });

  on("pointermove", (event) => {
    const now = place(event);
    const held = pointers.get(event.pointerId);
    if (!held) {
      stream.hover(stream.under(now), now);
      return;
    }
    const dx = now.x - held.x;
    const dy = now.y - held.y;
    if (!held.dragged && Math.hypot(dx, dy) < DRAG) return;
    held.dragged = true;
    stream.hover(-1);
    plot.classList.add("stream-dragged");
    if (pointers.size === 1) {
      // Touch moves rows by scrolling the page: see touch-action in the style sheet.
      stream.pan(-dx / stream.view.width, event.pointerType === "mouse" ? -dy : 0);
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      other.dragged = true;
      const far = (one) => Math.max(8, Math.hypot(one.x - other.x, one.y - other.y));
      stream.zoom(far(held) / far(now), other.share);
    }
    Object.assign(held, now);
  });

  const up = (event) => {
    const held = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    plot.classList.remove("stream-dragged");
    if (held && !held.dragged && event.type === "pointerup") stream.pick(stream.under(place(event)));
  };
  on("pointerup", up);
  on("pointercancel", up);
  on("pointerleave", () => stream.hover(-1));
  on("dblclick", (event) => stream.zoom(0.5, place(event).share));

  // The wheel zooms with Ctrl, or once the stream has the focus; otherwise it scrolls the page.
  on(
    "wheel",
    (event) => {
      const unit = event.deltaMode === 1 ? 16 : 1;
      const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
      const sideways = Math.abs(dx) > Math.abs(dy);
      const zooms = event.ctrlKey || event.metaKey || document.activeElement === plot;
      if (!sideways && !event.shiftKey && !zooms) return;
      event.preventDefault();
      stream.hover(-1);
      if (sideways) stream.pan(dx / stream.view.width);
      else if (event.shiftKey) stream.pan(0, dy);
      // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
      else stream.zoom(Math.exp(Math.max(-1, Math.min(1, dy * (event.ctrlKey ? 0.01 : 0.0015)))), place(event).share);
    },
    { passive: false },
  );

  const keys = {
    ArrowLeft: () => stream.pan(-0.15),
    ArrowRight: () => stream.pan(0.15),
    ArrowUp: () => stream.pan(0, -60),
    ArrowDown: () => stream.pan(0, 60),
    "+": () => stream.zoom(0.6),
    "=": () => stream.zoom(0.6),
    "-": () => stream.zoom(1 / 0.6),
    0: () => stream.fit(),
    Home: () => stream.fit(),
    "]": () => stream.step(1),
    "[": () => stream.step(-1),
    f: () => stream.nextFailure(),
    F: () => stream.nextFailure(),
    Enter: () => stream.open(),
    Escape: () => stream.select(-1),
  };
  on("keydown", (event) => {
    if (event.target !== plot || event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    stream.hover(-1);
    keys[event.key]();
  });
}
