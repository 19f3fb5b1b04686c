// Mouse, pen and fingers on the viewer: which of them paint, and which move the slide.

const WHEEL_STEP = 1.0015;
const MIDDLE = 1;
const RIGHT = 2;

/**
 * Listens on an element.
 * @param viewer the slide viewer
 * @param hand {moves(), mayPaint(), tool(), hover(point), painted(event)}: what the editor is up to
 */
export function listen(element, viewer, hand) {
  const fingers = new Map();
  let painting = null;
  let panning = null;
  let pinch = null;
  let hasPen = false;

  const at = (event) => viewer.toPatch(event.clientX, event.clientY);

  function stopPainting(event) {
    if (painting === null || (event && event.pointerId !== painting)) return;
    painting = null;
    hand.tool().cancel();
  }

  function spread() {
    const [one, other] = [...fingers.values()];
    return {
      x: (one.x + other.x) / 2,
      y: (one.y + other.y) / 2,
      distance: Math.max(1, Math.hypot(one.x - other.x, one.y - other.y)),
    };
  }

  function down(event) {
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    if (event.pointerType === "pen") hasPen = true;
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (fingers.size > 1) {
        stopPainting();
        panning = null;
        if (fingers.size === 2) pinch = spread();
        return;
      }
    }
    event.preventDefault();
    const isFingerBesidePen = event.pointerType === "touch" && hasPen;
    if (event.button === MIDDLE || event.button === RIGHT || isFingerBesidePen || hand.moves()) {
      panning = { id: event.pointerId, x: event.clientX, y: event.clientY };
      return;
    }
    if (event.button !== 0 || !hand.mayPaint()) return;
    viewer.settle();
    painting = event.pointerId;
    const point = at(event);
    hand.hover(point);
    hand.tool().down(point);
    hand.painted(event);
  }

  function move(event) {
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pinch && fingers.size === 2) {
      const now = spread();
      viewer.panBy(pinch.x - now.x, pinch.y - now.y);
      viewer.zoomBy(now.distance / pinch.distance, now.x, now.y);
      pinch = now;
      return;
    }
    if (panning?.id === event.pointerId) {
      viewer.panBy(panning.x - event.clientX, panning.y - event.clientY);
      panning = { id: event.pointerId, x: event.clientX, y: event.clientY };
      return;
    }
    if (event.pointerType !== "touch" || painting === event.pointerId) hand.hover(at(event));
    if (painting !== event.pointerId) return;
    const path = event.getCoalescedEvents?.() ?? [];
    for (const step of path.length ? path : [event]) hand.tool().move(at(step));
    hand.painted(event);
  }

  function up(event) {
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    if (panning?.id === event.pointerId) panning = null;
    if (painting !== event.pointerId) return;
    painting = null;
    hand.tool().up();
    if (event.pointerType === "touch") hand.hover(null);
  }

  function gone(event) {
    stopPainting(event);
    up(event);
  }

  function wheel(event) {
    event.preventDefault();
    if (painting !== null) return;
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const pace = event.ctrlKey ? 5 : 1; // a touchpad's pinch comes in small steps
    viewer.zoomBy(WHEEL_STEP ** (-event.deltaY * lines * pace), event.clientX, event.clientY);
  }

  element.addEventListener("pointerdown", down);
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", gone);
  element.addEventListener("pointerleave", () => hand.hover(null));
  element.addEventListener("wheel", wheel, { passive: false });
  element.addEventListener("contextmenu", (event) => event.preventDefault());

  return {
    get isPainting() {
      return painting !== null;
    },
    cancel: () => stopPainting(),
    /** Ends a stroke where it is. */
    finish() {
      if (painting === null) return;
      painting = null;
      hand.tool().up();
    },
  };
}
