// The editor: one patch at full size, its tools, and the way to the next.

import * as api from "./api.js";
import * as dialogs from "./dialogs.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { commandOf, pressesControl, shownKeys } from "./keys.js";
import { Layers } from "./layers.js";
import { untilPainted } from "./measures.js";
import { Panel } from "./panel.js";
import { crc, encodePng } from "./png.js";
import { listen } from "./pointer.js";
import { brand, helpButton, nextOpen, reviewerButton, stateChip } from "./queue.js";
import { Raster } from "./raster.js";
import { Saver } from "./saver.js";
import * as settings from "./settings.js";
import { APP, EDITOR, LOCKED_HINT, MOVE_HINT, NOTE, SAVING, TOAST, TOOL, sentence } from "./strings.js";
import { Steps } from "./steps.js";
import { LARGEST_BRUSH, makeTools } from "./tools.js";
import { SlideViewer, loadOpenSeadragon } from "./viewer.js";

const ZOOM_STEP = 1.5;
const CURSOR_CSS_PX = 10;
const BRUSH_STEP = 1.25;
const SPOT_SCALE = 3;
/** A key that was pressed once too often shall decide on no patch that nobody has seen. */
const SHORTEST_LOOK_MS = 600;
const SCALE_BAR_CSS_PX = 140;
const KEY_GROUPS = ["review", "tools", "labels", "see", "keyboard"];

/** Loads what an editor needs, so that the first patch is there soon. */
export function prepare() {
  return loadOpenSeadragon();
}

export class EditorView {
  /** @param navigate opens an address of the page */
  constructor(root, session, id, navigate) {
    this.root = root;
    this.session = session;
    this.id = id;
    this.navigate = navigate;
    this.handlers = new AbortController();
    this.toolName = "brush";
    this.point = null;
    this.holdsSpace = false;
    this.penIsDown = false;
    this.spot = null;
    this.hidden = null;
    this.isStepping = false;
    this.turn = Promise.resolve();
    this.shownAt = Infinity;
  }

  async show() {
    const maps = Promise.all([api.open(this.id), api.labels(this.id), api.prediction(this.id), api.uncertainty(this.id)]);
    maps.catch(() => {}); // looked at below
    this.patches = await api.list();
    if (this.isLeft) return;
    this.entry = this.patches.find((patch) => patch.id === this.id);
    document.title = `${EDITOR.title(this.entry.place, this.patches.length)} · ${APP}`;
    this.#buildFrame();
    this.#listenToKeys();
    try {
      const [patch, labels, prediction, uncertainty] = await maps;
      if (!this.isLeft) await this.#open(patch, labels, prediction, uncertainty);
    } catch (failure) {
      if (!(failure instanceof api.Failure) || failure.code !== "unusable") throw failure;
      fill(this.stage, h("div", { class: "unusable" }, h("h2", { text: NOTE.unusable }), h("p", { text: sentence(failure) })));
    }
  }

  /** Saves what is open; false if the view must stay. */
  async leave() {
    this.handlers.abort();
    if (this.saver) {
      this.tools.polygon.drop();
      await this.saver.flush();
      if (this.review.state === "started") dialogs.toast(TOAST.left(this.entry.place), { text: TOAST.openAgain, do: () => this.navigate(`/patch/${this.id}`) });
    }
    this.resize?.disconnect();
    this.viewer?.destroy();
    return true;
  }

  // --- what the tools work on ---

  get desk() {
    const view = this;
    return {
      get raster() { return view.raster; },
      get value() { return view.value; },
      get brush() { return settings.get("brush"); },
      get place() { return view.layers.place; },
      changed: (part) => view.layers.changed(part),
      commit: (before) => view.#commit(before),
      pending: () => view.#updateHint(),
    };
  }

  get tool() {
    return this.tools[this.toolName];
  }

  /** Whether another view has taken its place, perhaps before it was complete. */
  get isLeft() {
    return this.handlers.signal.aborted;
  }

  /** Whether a reviewer has decided; a correction that another tool has left is none of theirs. */
  get isDecided() {
    return this.review.reviewer !== null && this.review.state !== "started";
  }

  // --- building ---

  #buildFrame() {
    const place = this.patches.indexOf(this.entry);
    const go = (patch) => (patch ? () => this.navigate(`/patch/${patch.id}`) : null);
    this.goPrevious = go(this.patches[place - 1]);
    this.goNext = go(this.patches[place + 1]);
    const step = (name, mark, action) =>
      h("button", { type: "button", class: "quiet", disabled: !action, "aria-label": EDITOR[name], title: `${EDITOR[name]} (${shownKeys(name === "next" ? "nextPatch" : "previousPatch")})`, on: { click: () => action?.() } }, icon(mark));
    this.chip = h("span", { class: "chip-place" });
    this.status = h("span", { class: "status", role: "status" });
    this.decisions = h("div", { class: "decisions" });
    this.stage = h("div", { class: "stage" }, h("p", { class: "loading", text: EDITOR.loading }));
    this.rail = h("div", { class: "rail", role: "group", "aria-label": EDITOR.tools });
    this.aside = h("aside", { class: "panel", "aria-label": EDITOR.panel });
    this.notes = h("div", { class: "notes" });
    this.body = h("main", { class: "editor" }, this.rail, h("div", { class: "view" }, this.notes, this.stage, (this.footer = h("div", { class: "footer" }))), this.aside);
    const panelToggle = h("button", { type: "button", class: "quiet panel-toggle", "aria-label": EDITOR.panel, title: EDITOR.panel, on: { click: () => this.#togglePanel() } }, icon("panel"));
    fill(
      this.root,
      h(
        "header",
        { class: "bar" },
        h("a", { class: "quiet back", href: "/", title: `${EDITOR.back} (${shownKeys("queue")})` }, icon("back"), h("span", { text: EDITOR.back })),
        step("previous", "previous", this.goPrevious),
        step("next", "next", this.goNext),
        h("h1", { text: EDITOR.title(this.entry.place, this.patches.length) }),
        this.chip,
        this.status,
        h("span", { class: "grow" }),
        brand(this.session)[1],
        reviewerButton(),
        helpButton(),
        panelToggle,
        this.decisions,
      ),
      this.body,
    );
    fill(this.chip, stateChip(this.entry.state));
  }

  async #open(patch, labels, prediction, uncertainty) {
    this.patch = patch;
    this.review = labels.review;
    this.raster = new Raster(patch.size_px, labels.values, prediction);
    this.value = patch.labels.find((label) => label.is_tumour).value;
    this.steps = new Steps();
    this.tools = makeTools(this.desk);
    const slide = h("div", { class: "slide" });
    const over = h("div", { class: "layers" });
    fill(this.stage, slide, over, this.#controls());
    this.layers = new Layers(over, patch, { scale: Uint8Array.from(this.session.heat), notJudged: this.session.not_judged });
    this.layers.drawCursor = (context, place) => this.tool.draw(context, place, this.point);
    this.layers.load(this.raster, uncertainty);
    this.saver = new Saver(this.id, this.review.version, () => settings.get("reviewer"), {
      status: (status) => this.#showStatus(status),
      saved: (review, operation) => this.#saved(review, operation),
      conflict: (current) => this.#conflict(current),
      refused: async (failure) => {
        await dialogs.error(failure);
        this.steps.clear();
        await this.#reload(); // what is shown is what is on disk again
      },
    });
    this.#buildRail();
    this.panel = new Panel(this.aside, patch, this.session, {
      value: () => this.value,
      choose: (value) => this.#chooseLabel(value),
      brush: (size) => this.#setBrush(size),
      layers: () => this.#updateLayers(),
      spot: (step) => this.#goToSpot(step),
      changedPixels: () => this.#changedShare(),
    });
    this.#togglePanel(settings.get("panel") ?? innerWidth >= 900);
    const surface = this.layers.canvases.at(-1);
    surface.tabIndex = 0;
    surface.setAttribute("role", "application");
    surface.setAttribute("aria-label", EDITOR.viewer);
    this.viewer = await SlideViewer.in(slide, this.panel.map, patch, (place) => {
      this.layers.move(place);
      this.#updateScaleBar(place);
    });
    if (this.isLeft) {
      this.viewer.destroy();
      return;
    }
    this.resize = new ResizeObserver(() => this.viewer.isOpen && this.layers.move(this.viewer.place));
    this.resize.observe(over);
    this.hand = listen(surface, this.viewer, {
      moves: () => this.holdsSpace || this.toolName === "move",
      mayPaint: () => this.#mayPaint(),
      tool: () => this.tool,
      hover: (point) => {
        this.point = point;
        this.layers.redrawCursor();
      },
      painted: (event) => {
        untilPainted("uga:stroke-visible", event);
        this.layers.redrawCursor();
      },
    });
    surface.focus({ preventScroll: true });
    this.#updateLayers();
    this.#chooseTool("brush");
    this.#updateReview();
    this.#preload();
    this.shownAt = performance.now();
    this.stage.dataset.shows = this.id;
  }

  /** What lies on the viewer: zoom, scale bar. */
  #controls() {
    const button = (name, mark, action, key) =>
      h("button", { type: "button", "aria-label": EDITOR[name], title: `${EDITOR[name]} (${shownKeys(key)})`, on: { click: action } }, icon(mark));
    this.scaleBar = h("div", { class: "scale-bar", "aria-hidden": true });
    return [
      h(
        "div",
        { class: "zoom" },
        button("zoomIn", "plus", () => this.viewer?.zoomBy(ZOOM_STEP), "zoomIn"),
        button("zoomOut", "minus", () => this.viewer?.zoomBy(1 / ZOOM_STEP), "zoomOut"),
        button("fit", "fit", () => this.viewer?.fit(), "fit"),
      ),
      this.scaleBar,
    ];
  }

  #buildRail() {
    this.toolButtons = {};
    for (const [name, { name: text }] of Object.entries(TOOL)) {
      this.toolButtons[name] = h(
        "button",
        { type: "button", title: `${text} (${shownKeys(name)})`, on: { click: () => this.#chooseTool(name) } },
        icon(name),
        h("span", { text }),
      );
    }
    const step = (name) =>
      h("button", { type: "button", title: `${EDITOR[name]} (${shownKeys(name)})`, on: { click: () => this.#step(name) } }, icon(name), h("span", { text: EDITOR[name] }));
    this.undoButton = step("undo");
    this.redoButton = step("redo");
    fill(this.rail, Object.values(this.toolButtons), h("hr"), this.undoButton, this.redoButton);
  }

  // --- choices ---

  #chooseTool(name) {
    if (name !== "polygon") this.tools.polygon.drop();
    this.#liftPen();
    this.toolName = name;
    for (const [other, button] of Object.entries(this.toolButtons)) button.setAttribute("aria-pressed", other === name);
    this.layers.canvases.at(-1).classList.toggle("moves", name === "move");
    this.#updateHint();
    this.layers.redrawCursor();
  }

  #chooseLabel(value) {
    const known = value === this.session.not_judged || this.patch.labels.some((label) => label.value === value);
    if (!known) return;
    this.value = value;
    if (this.toolName === "eraser" || this.toolName === "move") this.#chooseTool("brush");
    this.panel.update();
    this.#updateHint();
  }

  #setBrush(size) {
    settings.set("brush", Math.min(LARGEST_BRUSH, Math.max(1, Math.round(size))));
    this.panel.update();
    this.layers.redrawCursor();
  }

  #togglePanel(isOpen = this.body.classList.contains("without-panel")) {
    this.body.classList.toggle("without-panel", !isOpen);
    settings.set("panel", isOpen);
    if (isOpen) this.viewer?.refreshMap();
  }

  #updateLayers() {
    const shown = (flag, opacity) => (settings.get(flag) && !this.hidden ? settings.get(opacity) / 100 : 0);
    this.layers.currentSpot = this.spot;
    this.layers.set({
      labels: shown("showLabels", "labelsOpacity"),
      uncertainty: shown("showUncertainty", "uncertaintyOpacity"),
      prediction: settings.get("showPrediction") && !this.hidden,
      spots: settings.get("showSpots") && !this.hidden,
    });
    this.panel.update();
  }

  #toggle(flag) {
    this.hidden = null;
    settings.set(flag, !settings.get(flag));
    this.#updateLayers();
  }

  #goToSpot(step) {
    const { spots } = this.patch;
    if (!spots.length || !this.viewer) return;
    this.spot = this.spot === null ? (step > 0 ? 0 : spots.length - 1) : (this.spot + step + spots.length) % spots.length;
    this.panel.spot = this.spot;
    settings.set("showSpots", true);
    this.hidden = null;
    this.#updateLayers();
    this.viewer.show(spots[this.spot], SPOT_SCALE);
  }

  // --- saving ---

  #mayPaint() {
    return settings.get("reviewer") !== "" && !this.saver.isStuck && !this.isStepping && !this.penIsDown;
  }

  /** The tool has changed the labels, which were `before`. */
  #commit(before) {
    this.steps.add(before);
    this.saver.add({ kind: "edit", png: encodePng(this.raster.labels.slice(), this.raster.size) });
    this.#updateSteps();
  }

  /** Undo or redo: at once where the labels are remembered here, from the server where they are from before. */
  #step(kind) {
    this.turn = this.turn.then(() => this.#stepNow(kind));
  }

  async #stepNow(kind) {
    if (this.isLeft || this.hand.isPainting || this.penIsDown || this.saver.isStuck) return;
    const labels = this.steps.take(kind, this.raster.labels);
    if (labels) {
      this.raster.labels.set(labels);
      this.layers.changed(null);
      this.saver.add({ kind, crc: crc(labels) });
      this.#updateSteps();
      return;
    }
    this.isStepping = true;
    try {
      await this.saver.flush();
      const possible = kind === "undo" ? this.review.undoable : this.review.redoable;
      const before = this.raster.labels.slice();
      if (possible && (await this.saver.add({ kind }))) {
        await this.#reload();
        this.steps.note(kind, before);
        this.#updateSteps();
      }
    } finally {
      this.isStepping = false;
    }
  }

  /** Takes the labels that are on disk. */
  async #reload() {
    let answer;
    try {
      answer = await api.labels(this.id);
    } catch (failure) {
      await dialogs.error(failure);
      location.reload();
      return;
    }
    const { values, review } = answer;
    this.raster.labels.set(values);
    this.saver.version = review.version;
    this.review = review;
    this.layers.changed(null);
    this.#updateReview();
  }

  async #saved(review, operation) {
    this.review = review;
    this.#updateReview();
    if ("crc" in operation && operation.crc !== review.labels_crc32) {
      // Not what was expected, so what is on disk counts.
      this.steps.clear();
      await this.#reload();
    }
  }

  /** Somebody else has saved; gives the PNG of what is shown here if that is to count. */
  async #conflict(current) {
    this.hand.cancel();
    this.steps.clear();
    if ((await dialogs.conflict(current)) === "mine") return encodePng(this.raster.labels.slice(), this.raster.size);
    await this.#reload();
    return null;
  }

  async #decide(kind) {
    const isSeen = performance.now() - this.shownAt > SHORTEST_LOOK_MS;
    if (!isSeen || this.hand.isPainting || this.isStepping) return;
    this.#liftPen();
    if (this.tools.polygon.isOpen) this.tools.polygon.close();
    if (!(await this.saver.add({ kind }))) return;
    const { state } = this.review;
    dialogs.toast(TOAST[state](this.entry.place), { text: TOAST.openAgain, do: () => this.navigate(`/patch/${this.id}`) });
    if (kind !== "reopen") await this.#goOn();
  }

  /** Opens the next patch that is not decided; the queue if there is none. */
  async #goOn() {
    this.patches = await api.list();
    const next = nextOpen(this.patches, this.entry.place);
    if (!next) dialogs.toast(TOAST.done);
    await this.navigate(next ? `/patch/${next.id}` : "/");
  }

  // --- showing what has changed ---

  #showStatus(status) {
    this.status.className = `status status-${status}`;
    this.status.textContent = SAVING[status];
    this.#updateHint();
  }

  #updateReview() {
    const { review } = this;
    fill(this.chip, stateChip(review.state));
    this.#updateSteps();
    const button = (action, text, mark, key, attributes = {}) =>
      h("button", { type: "button", "aria-label": text.long, title: `${text.long} (${shownKeys(key)})`, ...attributes, on: { click: action } }, icon(mark), h("span", { class: "long", text: text.long }), h("span", { class: "short", text: text.short ?? text.long }));
    const decide = (kind, text, mark, attributes) => button(() => this.#decide(kind), text, mark, kind, attributes);
    const primary = { class: "primary" };
    fill(
      this.decisions,
      this.isDecided
        ? [decide("reopen", EDITOR.reopen, "reopen"), button(() => this.#goOn(), EDITOR.goOn, "next", "accept", primary)]
        : [decide("skip", EDITOR.skip, "skip"), decide("accept", review.as_predicted ? EDITOR.confirm : EDITOR.accept, "check", primary)],
    );
    const notes = [review.source && NOTE.source(review.source), review.differing.length && NOTE.differing(review.differing)];
    fill(this.notes, notes.filter(Boolean).map((text) => h("p", { class: "warning", text })));
    this.panel.update();
  }

  #updateSteps() {
    this.undoButton.disabled = !this.steps.past.length && !this.review.undoable;
    this.redoButton.disabled = !this.steps.future.length && !this.review.redoable;
  }

  #updateHint() {
    if (!this.tools || !this.saver) return;
    const label = this.value === this.session.not_judged ? EDITOR.notJudged : this.patch.labels.find(({ value }) => value === this.value).name;
    const { polygon } = this.tools;
    const hint = this.saver.isStuck ? LOCKED_HINT : TOOL[this.toolName].hint(label);
    const button = (text, action) => h("button", { type: "button", class: "small", on: { click: action } }, text);
    fill(
      this.footer,
      h("span", { class: "hint", text: hint }),
      polygon.isOpen ? [button(EDITOR.closePolygon, () => polygon.close()), button(EDITOR.dropPolygon, () => polygon.drop())] : h("span", { class: "soft", text: MOVE_HINT }),
    );
    this.layers.redrawCursor();
  }

  #updateScaleBar({ scale }) {
    const micrometres = (SCALE_BAR_CSS_PX / scale) * this.patch.spacing_um;
    const power = 10 ** Math.floor(Math.log10(micrometres));
    const length = [5, 2, 1].map((factor) => factor * power).find((value) => value <= micrometres);
    this.scaleBar.style.width = `${(length / this.patch.spacing_um) * scale}px`;
    this.scaleBar.textContent = EDITOR.scaleBar(length);
  }

  #changedShare() {
    const { labels, prediction } = this.raster;
    let changed = 0;
    for (let i = 0; i < labels.length; i++) changed += labels[i] !== prediction[i];
    return changed / labels.length;
  }

  /** The next patch's picture, so that it is there when it is opened. */
  #preload() {
    const next = nextOpen(this.patches, this.entry.place);
    if (next && next.id !== this.id) new Image().src = api.imageAddress(next.id, next.image_stamp);
  }

  // --- keys ---

  #listenToKeys() {
    const { signal } = this.handlers;
    document.addEventListener("keydown", (event) => this.#key(event), { signal });
    document.addEventListener("keyup", (event) => event.key === " " && this.#hold(false), { signal });
    globalThis.addEventListener("blur", () => this.#hold(false), { signal });
    globalThis.addEventListener(
      "beforeunload",
      (event) => {
        if (this.saver && !this.saver.isIdle) event.preventDefault();
      },
      { signal },
    );
  }

  #hold(isHeld) {
    this.holdsSpace = isHeld;
    this.layers?.canvases.at(-1).classList.toggle("moves", isHeld || this.toolName === "move");
  }

  #key(event) {
    const command = commandOf(event, KEY_GROUPS, settings.get("shortcuts"));
    const always = { nextPatch: () => this.goNext?.(), previousPatch: () => this.goPrevious?.(), queue: () => this.navigate("/"), help: dialogs.help };
    if (command && command.name in always) {
      event.preventDefault();
      always[command.name]();
      return;
    }
    if (!this.viewer || document.querySelector("dialog[open]")) return;
    const onSurface = event.target === document.body || event.target === this.layers.canvases.at(-1);
    if (event.key === " " && onSurface) {
      event.preventDefault();
      if (!event.repeat) this.#hold(true);
    } else if (event.key.startsWith("Arrow") && onSurface) {
      event.preventDefault();
      this.#moveCursor(event);
    } else if (command && !(command.name === "accept" && pressesControl(event))) {
      event.preventDefault();
      if (!event.repeat || ["smaller", "larger", "zoomIn", "zoomOut", "undo", "redo"].includes(command.name)) this.#obey(command);
    }
  }

  #obey({ name, digit }) {
    const { polygon } = this.tools;
    const commands = {
      accept: () => {
        if (polygon.isOpen) polygon.close();
        else if (this.isDecided) this.#goOn();
        else this.#decide("accept");
      },
      skip: () => !this.isDecided && this.#decide("skip"),
      reopen: () => this.isDecided && this.#decide("reopen"),
      save: () => this.saver.flush().then(() => dialogs.toast(TOAST.saved)),
      smaller: () => this.#setBrush(Math.min(settings.get("brush") - 1, settings.get("brush") / BRUSH_STEP)),
      larger: () => this.#setBrush(Math.max(settings.get("brush") + 1, settings.get("brush") * BRUSH_STEP)),
      undo: () => (polygon.isOpen ? polygon.dropCorner() : this.#step("undo")),
      redo: () => this.#step("redo"),
      dropCorner: () => polygon.isOpen && polygon.dropCorner(),
      dropPolygon: () => (this.hand.isPainting ? this.hand.cancel() : this.#dropAll()),
      label: () => this.#chooseLabel(digit),
      notJudged: () => this.#chooseLabel(this.session.not_judged),
      correction: () => this.#toggle("showLabels"),
      prediction: () => this.#toggle("showPrediction"),
      uncertainty: () => this.#toggle("showUncertainty"),
      contours: () => this.#toggle("showSpots"),
      all: () => {
        this.hidden = !this.hidden;
        this.#updateLayers();
      },
      nextSpot: () => this.#goToSpot(1),
      previousSpot: () => this.#goToSpot(-1),
      zoomIn: () => this.viewer.zoomBy(ZOOM_STEP),
      zoomOut: () => this.viewer.zoomBy(1 / ZOOM_STEP),
      fit: () => this.viewer.fit(),
      dab: () => this.#dab(),
    };
    if (name in TOOL) this.#chooseTool(name);
    else commands[name]?.();
  }

  #dropAll() {
    this.tools.polygon.drop();
    if (this.penIsDown) this.tool.cancel();
    this.penIsDown = false;
  }

  // --- the keyboard's cursor ---

  #moveCursor(event) {
    const size = this.patch.size_px;
    const step = event.shiftKey ? 1 : CURSOR_CSS_PX / this.viewer.place.scale;
    const [dx, dy] = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const from = this.point ?? { x: size / 2, y: size / 2 };
    const clamp = (value) => Math.min(size, Math.max(0, value));
    this.point = { x: clamp(from.x + dx), y: clamp(from.y + dy) };
    if (this.penIsDown) this.tool.move(this.point);
    this.#keepInView();
    this.layers.redrawCursor();
  }

  #keepInView() {
    const { x, y, scale } = this.viewer.place;
    const { clientWidth, clientHeight } = this.stage;
    const beyond = (value, end) => (value < 0 ? value : value > end ? value - end : 0);
    const right = beyond(x + this.point.x * scale - CURSOR_CSS_PX, clientWidth - 2 * CURSOR_CSS_PX);
    const down = beyond(y + this.point.y * scale - CURSOR_CSS_PX, clientHeight - 2 * CURSOR_CSS_PX);
    if (right || down) this.viewer.panBy(right, down);
  }

  /** Puts the tool down at the cursor; a brush stays down until it is lifted by the next call. */
  #dab() {
    if (this.penIsDown) {
      this.#liftPen();
    } else if (this.#mayPaint() && !this.hand.isPainting) {
      this.point ??= { x: this.patch.size_px / 2, y: this.patch.size_px / 2 };
      this.tool.down(this.point);
      if (this.toolName === "brush" || this.toolName === "eraser") this.penIsDown = true;
      else this.tool.up();
      this.layers.redrawCursor();
    }
  }

  #liftPen() {
    if (!this.penIsDown) return;
    this.penIsDown = false;
    this.tool.up();
  }
}
