// Colours of labels and of uncertainty, and maps painted in them.


const FILL_ALPHA = 150;
const EDGE_ALPHA = 255;
const NOT_JUDGED_RGB = [74, 84, 99];
const HATCH_PX = 8;

/** How labels look: background is clear, not judged is hatched, the others are filled and have a firm edge. */
export class LabelColours {
  constructor(labels, notJudged) {
    this.notJudged = notJudged;
    this.colours = new Map(labels.filter((label) => label.colour).map((label) => [label.value, label.colour]));
  }

  /**
   * Paints a part of a raster onto a canvas of its size, and what borders on it.
   * @returns the part that was painted
   */
  paint(context, raster, part) {
    const { size } = raster;
    const grown = {
      x0: Math.max(0, part.x0 - 1),
      y0: Math.max(0, part.y0 - 1),
      x1: Math.min(size, part.x1 + 1),
      y1: Math.min(size, part.y1 + 1),
    };
    const width = grown.x1 - grown.x0;
    const picture = context.createImageData(width, grown.y1 - grown.y0);
    for (let y = grown.y0; y < grown.y1; y++) {
      for (let x = grown.x0; x < grown.x1; x++) {
        const value = raster.labels[y * size + x];
        const colour = value === this.notJudged ? NOT_JUDGED_RGB : this.colours.get(value);
        if (!colour) continue;
        const offset = 4 * ((y - grown.y0) * width + (x - grown.x0));
        picture.data[offset] = colour[0];
        picture.data[offset + 1] = colour[1];
        picture.data[offset + 2] = colour[2];
        picture.data[offset + 3] = this.#alpha(raster, value, x, y);
      }
    }
    context.putImageData(picture, grown.x0, grown.y0);
    return grown;
  }

  #alpha({ labels, size }, value, x, y) {
    const index = y * size + x;
    const isEdge =
      (x > 0 && labels[index - 1] !== value) ||
      (x + 1 < size && labels[index + 1] !== value) ||
      (y > 0 && labels[index - size] !== value) ||
      (y + 1 < size && labels[index + size] !== value);
    if (isEdge) return EDGE_ALPHA;
    if (value !== this.notJudged) return FILL_ALPHA;
    return (x + y) % HATCH_PX < HATCH_PX / 2 ? 190 : 60;
  }
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

