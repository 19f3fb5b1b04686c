// What lies over the slide: three canvases, so that a stroke redraws only what it has touched.
//   labels  uncertainty and labels
//   lines   frame, outlines of the prediction and of uncertain spots
//   cursor  the brush's circle, an unfinished polygon; takes the pointer

import { h, rgb } from "./dom.js";
import { LabelColours, paintUncertainty } from "./palette.js";

const OUTSIDE = "rgba(246, 247, 249, 0.45)";
const INK = "#111827";
const PAPER = "#ffffff";
const SPOT = "#ffd21f";

export class Layers {
  constructor(element, patch, { scale, notJudged }) {
    this.size = patch.size_px;
    this.patch = patch;
    this.element = element;
    this.colours = new LabelColours(patch.labels, notJudged);
    this.scale = scale;
    this.canvases = ["labels", "lines", "cursor"].map((name) => h("canvas", { class: `layer layer-${name}` }));
    [this.labels, this.lines, this.cursor] = this.canvases.map((canvas) => canvas.getContext("2d"));
    this.painted = this.#texture();
    this.heat = this.#texture();
    this.spots = patch.spots.map((spot) => paths(spot.contours));
    this.prediction = patch.outlines.map(({ value, contours }) => ({ value, path: paths(contours) }));
    this.show = { labels: 1, prediction: false, uncertainty: 0, spots: false };
    this.currentSpot = null;
    this.place = null;
    this.drawCursor = () => {};
    element.append(...this.canvases);
  }

  /** Takes the maps; nothing is drawn before. */
  load(raster, uncertainty) {
    this.raster = raster;
    paintUncertainty(this.heat, uncertainty, this.size, this.scale, this.patch.uncertainty.display_max);
    this.colours.paint(this.painted, raster, this.#all);
  }

  /** Draws everything for a place of the patch in the element. */
  move(place) {
    this.place = place;
    const ratio = globalThis.devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.element;
    for (const canvas of this.canvases) {
      const [width, height] = [Math.round(clientWidth * ratio), Math.round(clientHeight * ratio)];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    }
    this.ratio = ratio;
    this.redraw();
  }

  /** Takes what is shown: opacities of `labels` and `uncertainty` (0: off), whether `prediction` and `spots` are. */
  set(show) {
    const repaint = show.labels && show.labels !== this.colours.opacity;
    this.show = show;
    if (repaint) {
      this.colours.opacity = show.labels;
      this.colours.paint(this.painted, this.raster, this.#all);
    }
    this.redraw();
  }

  redraw() {
    if (!this.place || !this.raster) return;
    this.#drawLabels(null);
    this.#drawLines();
    this.redrawCursor();
  }

  /** Labels have changed within a part of the patch, or everywhere. */
  changed(part) {
    const painted = this.colours.paint(this.painted, this.raster, part ?? this.#all);
    if (this.place) this.#drawLabels(painted);
  }

  redrawCursor() {
    if (!this.place) return;
    this.#clear(this.cursor);
    this.cursor.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.drawCursor(this.cursor, this.place);
  }

  get #all() {
    return { x0: 0, y0: 0, x1: this.size, y1: this.size };
  }

  #texture() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = this.size;
    return canvas.getContext("2d", { willReadFrequently: false });
  }

  #clear(context) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  }

  /** Draws labels and uncertainty, or only a part of them: the same pixels either way. */
  #drawLabels(part) {
    const { labels: context, place, ratio } = this;
    const scale = place.scale * ratio;
    const [x, y] = [place.x * ratio, place.y * ratio];
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    if (part) {
      const [left, top] = [Math.floor(x + part.x0 * scale) - 1, Math.floor(y + part.y0 * scale) - 1];
      const [right, bottom] = [Math.ceil(x + part.x1 * scale) + 1, Math.ceil(y + part.y1 * scale) + 1];
      context.beginPath();
      context.rect(left, top, right - left, bottom - top);
      context.clip();
    }
    context.clearRect(0, 0, context.canvas.width, context.canvas.height);
    context.setTransform(scale, 0, 0, scale, x, y);
    context.imageSmoothingEnabled = scale < 1;
    context.globalAlpha = this.show.uncertainty;
    if (this.show.uncertainty) context.drawImage(this.heat.canvas, 0, 0);
    context.globalAlpha = 1; // the fill's opacity is in its pixels, so that edges stay firm
    if (this.show.labels) context.drawImage(this.painted.canvas, 0, 0);
    context.restore();
  }

  #drawLines() {
    const { lines: context, place, ratio, size } = this;
    this.#clear(context);
    const scale = place.scale * ratio;
    const [x, y] = [place.x * ratio, place.y * ratio];
    context.fillStyle = OUTSIDE;
    context.beginPath();
    context.rect(0, 0, context.canvas.width, context.canvas.height);
    context.rect(x, y, size * scale, size * scale);
    context.fill("evenodd");
    context.setTransform(scale, 0, 0, scale, x, y);
    const line = (path, colour, width, dash = []) => {
      context.strokeStyle = colour;
      context.lineWidth = (width * ratio) / scale;
      context.setLineDash(dash.map((length) => (length * ratio) / scale));
      context.stroke(path);
    };
    context.lineJoin = "round";
    if (this.show.prediction) {
      for (const { value, path } of this.prediction) {
        line(path, INK, 4);
        line(path, rgb(this.colours.colours.get(value) ?? [255, 255, 255]), 2);
      }
    }
    if (this.show.spots) {
      for (const path of this.spots) {
        line(path, PAPER, 3);
        line(path, INK, 1.25, [4, 3]);
      }
      if (this.currentSpot !== null) {
        line(this.spots[this.currentSpot], INK, 4.5);
        line(this.spots[this.currentSpot], SPOT, 2.5);
      }
    }
    const frame = new Path2D();
    frame.rect(0, 0, size, size);
    line(frame, PAPER, 4);
    line(frame, INK, 1.5);
  }
}

/** Closed lines given as flat lists x, y, x, y, ... */
function paths(contours) {
  const path = new Path2D();
  for (const points of contours) {
    path.moveTo(points[0], points[1]);
    for (let i = 2; i < points.length; i += 2) path.lineTo(points[i], points[i + 1]);
    path.closePath();
  }
  return path;
}
