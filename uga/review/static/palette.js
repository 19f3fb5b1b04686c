// Colours of labels and of uncertainty, and maps painted in them.

const OPAQUE = 255;
const DARK = [55, 65, 81];
const LIGHT = [255, 255, 255];
const HATCH_PX = 10;

/** How labels look: background is clear, not judged is hatched, the others are filled and have a firm edge. */
export class LabelColours {
  constructor(labels, notJudged) {
    this.notJudged = notJudged;
    this.colours = new Map(labels.filter((label) => label.colour).map((label) => [label.value, label.colour]));
    this.opacity = 0.5;
  }

  /**
   * Paints a part of a raster onto a canvas of its size, and what borders on it.
   * @returns the part that was painted
   */
  paint(context, raster, part) {
    const { size, labels } = raster;
    const grown = {
      x0: Math.max(0, part.x0 - 1),
      y0: Math.max(0, part.y0 - 1),
      x1: Math.min(size, part.x1 + 1),
      y1: Math.min(size, part.y1 + 1),
    };
    const width = grown.x1 - grown.x0;
    const picture = context.createImageData(width, grown.y1 - grown.y0);
    const pixels = new Uint32Array(picture.data.buffer);
    const fills = this.#table(Math.round(OPAQUE * this.opacity));
    const edges = this.#table(OPAQUE);
    const hatch = [pixelOf(DARK, OPAQUE * Math.min(1, this.opacity + 0.3)), pixelOf(LIGHT, OPAQUE * this.opacity)];
    for (let y = grown.y0; y < grown.y1; y++) {
      for (let x = grown.x0; x < grown.x1; x++) {
        const index = y * size + x;
        const value = labels[index];
        if (!edges[value]) continue;
        const isEdge =
          (x > 0 && labels[index - 1] !== value) ||
          (x + 1 < size && labels[index + 1] !== value) ||
          (y > 0 && labels[index - size] !== value) ||
          (y + 1 < size && labels[index + size] !== value);
        const inside = value === this.notJudged ? hatch[(x + y) % HATCH_PX < HATCH_PX / 2 ? 0 : 1] : fills[value];
        pixels[(y - grown.y0) * width + (x - grown.x0)] = isEdge ? edges[value] : inside;
      }
    }
    context.putImageData(picture, grown.x0, grown.y0);
    return grown;
  }

  /** Pixels by label value; 0 for what is clear. */
  #table(alpha) {
    const table = new Uint32Array(256);
    for (const [value, colour] of this.colours) table[value] = pixelOf(colour, alpha);
    table[this.notJudged] = pixelOf(DARK, alpha);
    return table;
  }
}

const isLittleEndian = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** A colour as one number of a picture's buffer. */
function pixelOf([red, green, blue], alpha) {
  const bytes = [red, green, blue, Math.round(alpha)];
  return (isLittleEndian ? bytes.reverse() : bytes).reduce((number, byte) => number * 256 + byte, 0);
}

/** Paints uncertainty: colours of the scale, the clearer the less uncertain. */
export function paintUncertainty(context, values, size, scale, displayMax) {
  const picture = context.createImageData(size, size);
  for (let i = 0; i < values.length; i++) {
    const level = Math.min(255, Math.round((values[i] * 255) / displayMax));
    picture.data.set(scale.subarray(3 * level, 3 * level + 3), 4 * i);
    picture.data[4 * i + 3] = Math.min(255, 4 * level);
  }
  context.putImageData(picture, 0, 0);
}

/** The scale as a CSS gradient. */
export function gradient(scale) {
  const stops = Array.from({ length: 9 }, (_, index) => {
    const level = Math.round((index * 255) / 8);
    return `rgb(${scale[3 * level]}, ${scale[3 * level + 1]}, ${scale[3 * level + 2]})`;
  });
  return `linear-gradient(to right, ${stops.join(", ")})`;
}
