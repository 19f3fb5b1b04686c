// The browser's own performance entries: how long the page took, and how long until a stroke was seen.

const MOST_STROKES = 1000;
let strokes = 0;

/** From the opening of the page until now. */
export function sinceOpening(name) {
  if (!performance.getEntriesByName(name).length) performance.measure(name, { start: 0, end: performance.now() });
}

/** From an event until the frame that shows what it did has been painted. */
export function untilPainted(name, event) {
  if (strokes++ > MOST_STROKES) return;
  const start = event.timeStamp;
  requestAnimationFrame(() => {
    const channel = new MessageChannel();
    channel.port1.onmessage = () => performance.measure(name, { start, end: performance.now() });
    channel.port2.postMessage(null);
  });
}
