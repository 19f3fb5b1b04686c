// The tools: what a pointer, or the keyboard's cursor, does to the raster.
//
// A desk is what they work on: {raster, value, brush, changed(part), commit(before), pending(), place}. Points are in pixels of the
// patch. `down` and `move` are called in the order of the path; `up` ends it, `cancel` takes it back.

import { STEPS, around } from "./raster.js";

/** Diameter in pixels. */
export const LARGEST_BRUSH = 200;

const INK = "#111827";
const PAPER = "#ffffff";
const CLOSE_CSS_PX = 10;
const FREEHAND_PX = 1;

const onLattice = ({ x, y }) => ({ x: Math.round(x * STEPS), y: Math.round(y * STEPS) });

function ring(context, x, y, radius) {
  for (const [colour, width] of [
    [PAPER, 3],
    [INK, 1.25],
  ]) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}

function cross(context, x, y) {
  for (const [colour, width] of [
    [PAPER, 3],
    [INK, 1.25],
  ]) {
    context.beginPath();
    context.moveTo(x - 8, y);
    context.lineTo(x + 8, y);
    context.moveTo(x, y - 8);
    context.lineTo(x, y + 8);
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.stroke();
  }
}

/** Paints with the chosen label, or, as an eraser, with the prediction. */
class Brush {
  constructor(desk, isEraser) {
    this.desk = desk;
    this.isEraser = isEraser;
    this.last = null;
  }

  down(point) {
    this.before = this.desk.raster.labels.slice();
    this.touched = null;
    this.last = onLattice(point);
    this.#paint(this.last);
  }

  move(point) {
    if (this.last) this.#paint(onLattice(point));
  }

  up() {
    this.last = null;
    if (this.touched) this.desk.commit(this.before);
    this.touched = null;
  }

  cancel() {
    if (!this.last) return;
    this.last = null;
    this.desk.raster.labels.set(this.before);
    if (this.touched) this.desk.changed(this.touched);
  }

  draw(context, place, point) {
    if (!point) return;
    const radius = (this.desk.brush / 2) * place.scale;
    ring(context, place.x + point.x * place.scale, place.y + point.y * place.scale, Math.max(radius, 2));
  }

  #paint(to) {
    const { raster, brush } = this.desk;
    const part = raster.stroke(this.last, to, brush, this.isEraser ? null : this.desk.value);
    this.last = to;
    if (!part) return;
    this.touched = around(this.touched, part);
    this.desk.changed(part);
  }
}

/** Corners by clicks, or a line drawn around an area. */
class Polygon {
  constructor(desk) {
    this.desk = desk;
    this.corners = [];
    this.isDown = false;
  }

  get isOpen() {
    return this.corners.length > 0;
  }

  down(point) {
    if (this.corners.length > 2 && this.#isNear(point, this.corners[0])) {
      this.close();
      return;
    }
    this.isDown = true;
    this.corners.push(point);
    this.desk.pending();
  }

  move(point) {
    if (!this.isDown) return;
    const last = this.corners.at(-1);
    if (Math.hypot(point.x - last.x, point.y - last.y) >= FREEHAND_PX) this.corners.push(point);
  }

  up() {
    this.isDown = false;
    this.desk.pending();
  }

  /** A second finger came: the corner was not meant. */
  cancel() {
    if (this.isDown) this.corners.pop();
    this.isDown = false;
    this.desk.pending();
  }

  close() {
    const corners = this.corners.map(onLattice);
    this.drop();
    if (corners.length < 3) return;
    const before = this.desk.raster.labels.slice();
    const part = this.desk.raster.polygon(corners, this.desk.value);
    if (!part) return;
    this.desk.changed(part);
    this.desk.commit(before);
  }

  drop() {
    this.corners = [];
    this.isDown = false;
    this.desk.pending();
  }

  dropCorner() {
    this.corners.pop();
    this.desk.pending();
  }

  draw(context, place, point) {
    const on = ({ x, y }) => [place.x + x * place.scale, place.y + y * place.scale];
    if (this.isOpen) {
      for (const [colour, width] of [
        [PAPER, 3.5],
        [INK, 1.5],
      ]) {
        context.beginPath();
        for (const corner of this.corners) context.lineTo(...on(corner));
        if (point && !this.isDown) context.lineTo(...on(point));
        context.strokeStyle = colour;
        context.lineWidth = width;
        context.stroke();
      }
      const [x, y] = on(this.corners[0]);
      ring(context, x, y, this.corners.length > 2 && point && this.#isNear(point, this.corners[0]) ? 8 : 5);
    }
    if (point) cross(context, ...on(point));
  }

  #isNear(one, other) {
    return Math.hypot(one.x - other.x, one.y - other.y) * this.desk.place.scale <= CLOSE_CSS_PX;
  }
}

/** Fills where it was put down, once it is lifted: until then a second finger may come and move the slide. */
class Fill {
  constructor(desk) {
    this.desk = desk;
    this.point = null;
  }

  down(point) {
    this.point = point;
  }

  move() {}

  up() {
    if (!this.point) return;
    const { x, y } = this.point;
    this.point = null;
    const before = this.desk.raster.labels.slice();
    const part = this.desk.raster.fill(Math.floor(x), Math.floor(y), this.desk.value);
    if (!part) return;
    this.desk.changed(part);
    this.desk.commit(before);
  }

  cancel() {
    this.point = null;
  }

  draw(context, place, point) {
    if (point) cross(context, place.x + point.x * place.scale, place.y + point.y * place.scale);
  }
}

/** No tool: every pointer moves the slide. */
class Move {
  down() {}
  move() {}
  up() {}
  cancel() {}
  draw() {}
}

export function makeTools(desk) {
  return {
    brush: new Brush(desk, false),
    eraser: new Brush(desk, true),
    polygon: new Polygon(desk),
    fill: new Fill(desk),
    move: new Move(),
  };
}
