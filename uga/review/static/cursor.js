// A cursor that arrow keys move, for painting without a mouse. A brush that was put down paints until it is lifted.

const STEP_CSS_PX = 10;
const STAYS_DOWN = new Set(["brush", "eraser"]);

export class Cursor {
  /** @param view the editor */
  constructor(view) {
    this.view = view;
    this.isDown = false;
  }

  /** Follows an arrow key; with Shift by one pixel. */
  move(event) {
    const { view } = this;
    const size = view.patch.size_px;
    const step = event.shiftKey ? 1 : STEP_CSS_PX / view.viewer.place.scale;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[
      event.key
    ];
    const from = this.#start();
    const clamp = (value) => Math.min(size, Math.max(0, value));
    view.point = { x: clamp(from.x + dx), y: clamp(from.y + dy) };
    if (this.isDown) view.tool.move(view.point);
    this.#keepInView();
    view.layers.redrawCursor();
  }

  /** Puts the tool down, or lifts it. */
  press() {
    const { view } = this;
    if (this.isDown) {
      this.lift();
    } else if (view.mayPaint && !view.hand.isPainting) {
      view.point = this.#start();
      view.tool.down(view.point);
      if (STAYS_DOWN.has(view.toolName)) this.isDown = true;
      else view.tool.up();
      view.layers.redrawCursor();
    }
  }

  /** Ends what the tool has painted. */
  lift() {
    if (!this.isDown) return;
    this.isDown = false;
    this.view.tool.up();
  }

  /** Takes back what the tool has painted since it was put down. */
  drop() {
    if (!this.isDown) return;
    this.isDown = false;
    this.view.tool.cancel();
  }

  #start() {
    const middle = this.view.patch.size_px / 2;
    return this.view.point ?? { x: middle, y: middle };
  }

  #keepInView() {
    const { viewer, stage, point } = this.view;
    const { x, y, scale } = viewer.place;
    const beyond = (value, end) => (value < 0 ? value : value > end ? value - end : 0);
    const right = beyond(x + point.x * scale - STEP_CSS_PX, stage.clientWidth - 2 * STEP_CSS_PX);
    const down = beyond(y + point.y * scale - STEP_CSS_PX, stage.clientHeight - 2 * STEP_CSS_PX);
    if (right || down) viewer.panBy(right, down);
  }
}
