// The label map that is edited, and the four ways to change it. All geometry is exact: points lie on a lattice of
// quarter pixels, so what is painted depends on no rounding and can be computed again elsewhere.
//
// A pixel has its centre at (x + 1/2, y + 1/2).
//   brush    every pixel whose centre is at most half the diameter from a segment of the path, and the pixels that hold
//            the path's points
//   eraser   the same, but each pixel gets the prediction back
//   polygon  every pixel whose centre is inside by the even-odd rule; on an edge to the right or below: outside
//   fill     the pixels of one value that hang together over their sides with the one that was pointed at

/** Steps of the lattice in a pixel. */
export const STEPS = 4;

const EMPTY = null;

/** The smallest rectangle around two; either may be null. */
export function around(one, other) {
  if (!one || !other) return one ?? other;
  return {
    x0: Math.min(one.x0, other.x0),
    y0: Math.min(one.y0, other.y0),
    x1: Math.max(one.x1, other.x1),
    y1: Math.max(one.y1, other.y1),
  };
}

export class Raster {
  /** `labels` and `prediction`: values of size x size pixels, row by row. */
  constructor(size, labels, prediction) {
    this.size = size;
    this.labels = labels;
    this.prediction = prediction;
  }

  /** Whether the labels are as predicted. */
  get isAsPredicted() {
    for (let i = 0; i < this.labels.length; i++) if (this.labels[i] !== this.prediction[i]) return false;
    return true;
  }

  /** The value at a pixel; null outside. */
  at(x, y) {
    return x < 0 || y < 0 || x >= this.size || y >= this.size ? null : this.labels[y * this.size + x];
  }

  /**
   * Paints a segment of a brush's path.
   * @param from,to points on the lattice, in quarter pixels
   * @param diameter in pixels
   * @param value null: the prediction's
   * @returns the rectangle {x0, y0, x1, y1} (ends excluded) of what has changed, null if nothing has
   */
  stroke(from, to, diameter, value) {
    const radius = (diameter * STEPS) / 2;
    const half = STEPS / 2;
    const vx = to.x - from.x;
    const vy = to.y - from.y;
    const length2 = vx * vx + vy * vy;
    const reach2 = radius * radius;
    const first = (low) => Math.max(0, Math.floor((low - radius - half) / STEPS));
    const last = (high) => Math.min(this.size - 1, Math.ceil((high + radius - half) / STEPS));
    const bounds = {
      x0: first(Math.min(from.x, to.x)),
      x1: last(Math.max(from.x, to.x)),
      y0: first(Math.min(from.y, to.y)),
      y1: last(Math.max(from.y, to.y)),
    };
    const inside = (x, y) => {
      const wx = x * STEPS + half - from.x;
      const wy = y * STEPS + half - from.y;
      const along = wx * vx + wy * vy;
      if (along <= 0) return wx * wx + wy * wy <= reach2;
      if (along >= length2) return (wx - vx) ** 2 + (wy - vy) ** 2 <= reach2;
      return (vx * wy - vy * wx) ** 2 <= reach2 * length2;
    };
    let changed = EMPTY;
    for (let y = bounds.y0; y <= bounds.y1; y++) {
      for (let x = bounds.x0; x <= bounds.x1; x++) if (inside(x, y)) changed = this.#set(x, y, value, changed);
    }
    for (const point of [from, to]) {
      const [x, y] = [Math.floor(point.x / STEPS), Math.floor(point.y / STEPS)];
      if (this.at(x, y) !== null) changed = this.#set(x, y, value, changed);
    }
    return changed;
  }

  /** Fills a polygon given by its corners on the lattice; returns as `stroke`. */
  polygon(corners, value) {
    const half = STEPS / 2;
    const ys = corners.map((corner) => corner.y);
    const top = Math.max(0, Math.floor(Math.min(...ys) / STEPS));
    const bottom = Math.min(this.size - 1, Math.ceil(Math.max(...ys) / STEPS));
    let changed = EMPTY;
    for (let y = top; y <= bottom; y++) {
      const line = y * STEPS + half;
      const crossings = [];
      corners.forEach((a, index) => {
        const b = corners[(index + 1) % corners.length];
        if (a.y <= line === b.y <= line) return;
        crossings.push(a.x + ((line - a.y) * (b.x - a.x)) / (b.y - a.y));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        const x0 = Math.max(0, Math.ceil((crossings[i] - half) / STEPS));
        for (let x = x0; x < this.size && x * STEPS + half < crossings[i + 1]; x++) {
          changed = this.#set(x, y, value, changed);
        }
      }
    }
    return changed;
  }

  /** Fills the area that hangs together with a pixel; returns as `stroke`. */
  fill(x, y, value) {
    const from = this.at(x, y);
    if (from === null || from === value) return EMPTY;
    const { size, labels } = this;
    const waiting = [y * size + x];
    let changed = EMPTY;
    while (waiting.length) {
      const start = waiting.pop();
      if (labels[start] !== from) continue;
      const row = Math.floor(start / size);
      let left = start - row * size;
      while (left > 0 && labels[row * size + left - 1] === from) left--;
      for (let column = left; column < size && labels[row * size + column] === from; column++) {
        changed = this.#set(column, row, value, changed);
        if (row > 0 && labels[(row - 1) * size + column] === from) waiting.push((row - 1) * size + column);
        if (row + 1 < size && labels[(row + 1) * size + column] === from) waiting.push((row + 1) * size + column);
      }
    }
    return changed;
  }

  #set(x, y, value, changed) {
    const index = y * this.size + x;
    const next = value ?? this.prediction[index];
    if (this.labels[index] === next) return changed;
    this.labels[index] = next;
    if (!changed) return { x0: x, y0: y, x1: x + 1, y1: y + 1 };
    if (x < changed.x0) changed.x0 = x;
    if (y < changed.y0) changed.y0 = y;
    if (x >= changed.x1) changed.x1 = x + 1;
    if (y >= changed.y1) changed.y1 = y + 1;
    return changed;
  }
}
