// The editor: one patch at full size, its tools, and the way to the next.

import * as api from "./api.js";
import * as dialogs from "./dialogs.js";
import { Cursor } from "./cursor.js";
import { fill, h } from "./dom.js";
import { buildFrame, decisionButtons, fillRail, zoomButtons } from "./frame.js";
import { commandOf, pressesControl } from "./keys.js";
import { Layers } from "./layers.js";
import { untilPainted } from "./measures.js";
import { Panel } from "./panel.js";
import { canEncode } from "./png.js";
import { listen } from "./pointer.js";
import { nextOpen, stateChip } from "./queue.js";
import * as settings from "./settings.js";
import { ALERT, APP, EDITOR, LOCKED_HINT, MOVE_HINT, NOTE, SAVING, TOAST, TOOL, sentence } from "./strings.js";
import { LARGEST_BRUSH, makeTools } from "./tools.js";
import { SlideViewer, loadOpenSeadragon } from "./viewer.js";
import { Work } from "./work.js";

const ZOOM_STEP = 1.5;
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
    this.unload = new AbortController();
    this.leaving = null;
    this.toolName = "brush";
    this.point = null;
    this.holdsSpace = false;
    this.cursor = new Cursor(this);
    this.spot = null;
    this.hidden = null;
    this.shownAt = Infinity;
  }

  async show() {
    if (!canEncode()) throw new api.Failure(0, { code: "old-browser" });
    const maps = Promise.all([
      api.open(this.id),
      api.labels(this.id),
      api.prediction(this.id),
      api.uncertainty(this.id),
    ]);
    maps.catch(() => {}); // looked at below
    this.patches = await api.list();
    if (this.isLeft) return;
    this.entry = this.patches.find((patch) => patch.id === this.id);
    if (!this.entry) throw new api.Failure(404, { code: "not-found" });
    document.title = `${EDITOR.title(this.entry.place, this.patches.length)} · ${APP}`;
    this.#buildFrame();
    this.#listenToKeys();
    try {
      const [patch, labels, prediction, uncertainty] = await maps;
      if (!this.isLeft) await this.#open(patch, labels, prediction, uncertainty);
    } catch (failure) {
      if (!(failure instanceof api.Failure) || failure.code !== "unusable") throw failure;
      fill(
        this.stage,
        h("div", { class: "unusable" }, h("h2", { text: NOTE.unusable }), h("p", { text: sentence(failure) })),
      );
    }
  }

  /** Saves what is open; false if the view must stay. */
  leave() {
    this.leaving ??= this.#leave();
    return this.leaving;
  }

  async #leave() {
    this.handlers.abort();
    if (this.work) {
      this.hand?.finish();
      this.cursor.lift();
      this.tools.polygon.drop();
      await this.work.flush();
      if (this.work.review.state === "started") this.#toast(TOAST.left(this.entry.place));
    }
    this.unload.abort(); // until all was saved, a page that is closed would lose it
    this.resize?.disconnect();
    this.viewer?.destroy();
    return true;
  }

  // --- what the tools work on ---

  get desk() {
    const view = this;
    return {
      get raster() {
        return view.work.raster;
      },
      get value() {
        return view.value;
      },
      get brush() {
        return settings.get("brush");
      },
      get place() {
        return view.layers.place;
      },
      changed: (part) => view.layers.changed(part),
      commit: (before) => view.work.commit(before),
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

  // --- building ---

  #buildFrame() {
    const place = this.patches.indexOf(this.entry);
    const go = (patch) => (patch ? () => this.navigate(`/patch/${patch.id}`) : null);
    this.goPrevious = go(this.patches[place - 1]);
    this.goNext = go(this.patches[place + 1]);
    Object.assign(
      this,
      buildFrame(this.root, this.session, EDITOR.title(this.entry.place, this.patches.length), {
        previous: this.goPrevious,
        next: this.goNext,
        panel: () => this.#togglePanel(),
      }),
    );
    fill(this.chip, stateChip(this.entry.state));
  }

  async #open(patch, labels, prediction, uncertainty) {
    this.patch = patch;
    this.value = patch.labels.find((label) => label.is_tumour).value;
    this.work = new Work(this.id, patch.size_px, labels, prediction, {
      changed: (part) => this.layers.changed(part),
      review: () => this.#updateReview(),
      status: (status, failure) => this.#showStatus(status, failure),
      conflict: (current) => {
        this.hand.cancel();
        return dialogs.conflict(current);
      },
      error: (failure) => dialogs.error(failure),
    });
    this.tools = makeTools(this.desk);
    const slide = h("div", { class: "slide" });
    const over = h("div", { class: "layers" });
    this.scaleBar = h("div", { class: "scale-bar", "aria-hidden": true });
    const zoom = zoomButtons({
      zoomIn: () => this.viewer?.zoomBy(ZOOM_STEP),
      zoomOut: () => this.viewer?.zoomBy(1 / ZOOM_STEP),
      fit: () => this.viewer?.fit(),
    });
    fill(this.stage, slide, over, zoom, this.scaleBar);
    this.layers = new Layers(over, patch, {
      scale: Uint8Array.from(this.session.heat),
      notJudged: this.session.not_judged,
    });
    this.layers.drawCursor = (context, place) => this.tool.draw(context, place, this.point);
    this.layers.load(this.work.raster, uncertainty);
    Object.assign(
      this,
      fillRail(this.rail, { tool: (name) => this.#chooseTool(name), step: (kind) => this.#step(kind) }),
    );
    this.panel = new Panel(this.aside, patch, this.session, {
      value: () => this.value,
      choose: (value) => this.#chooseLabel(value),
      brush: (size) => this.#setBrush(size),
      layers: () => this.#updateLayers(),
      spot: (step) => this.#goToSpot(step),
      changedShare: () => this.work.changedShare,
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
      mayPaint: () => this.mayPaint,
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

  // --- choices ---

  #chooseTool(name) {
    this.hand?.finish(); // what is painted belongs to the tool that painted it
    if (name !== "polygon") this.tools.polygon.drop();
    this.cursor.lift();
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
    this.spot =
      this.spot === null ? (step > 0 ? 0 : spots.length - 1) : (this.spot + step + spots.length) % spots.length;
    this.panel.spot = this.spot;
    settings.set("showSpots", true);
    this.hidden = null;
    this.#updateLayers();
    this.viewer.show(spots[this.spot], SPOT_SCALE);
  }

  // --- saving ---

  get mayPaint() {
    return !this.isLeft && settings.get("reviewer") !== "" && this.work.mayChange && !this.cursor.isDown;
  }

  #step(kind) {
    if (this.hand && !this.hand.isPainting && !this.cursor.isDown) this.work.step(kind);
  }

  async #decide(kind) {
    const isSeen = performance.now() - this.shownAt > SHORTEST_LOOK_MS;
    if (!isSeen || this.hand.isPainting) return;
    this.cursor.lift();
    if (this.tools.polygon.isOpen) this.tools.polygon.close();
    if (!(await this.work.decide(kind))) return;
    this.#toast(TOAST[this.work.review.state](this.entry.place));
    if (kind !== "reopen") await this.#goOn();
  }

  #toast(text) {
    dialogs.toast(text, { text: TOAST.openAgain, do: () => this.navigate(`/patch/${this.id}`) });
  }

  /** Opens the next patch that is not decided; the queue if there is none. */
  async #goOn() {
    this.patches = await api.list();
    if (this.isLeft) return; // the reviewer has chosen where to go meanwhile
    const next = nextOpen(this.patches, this.entry.place);
    if (!next) dialogs.toast(TOAST.done);
    await this.navigate(next ? `/patch/${next.id}` : "/");
  }

  // --- showing what has changed ---

  #showStatus(status, failure) {
    this.status.className = `status status-${status}`;
    this.status.textContent = SAVING[status];
    this.alert.textContent = failure?.code === "unwritable" ? ALERT.unwritable(failure.message) : (ALERT[status] ?? "");
    this.alert.hidden = !(status in ALERT);
    this.#updateHint();
  }

  #updateReview() {
    const { review, isDecided } = this.work;
    this.undoButton.disabled = !this.work.isUndoable;
    this.redoButton.disabled = !this.work.isRedoable;
    this.panel.update();
    const shown = JSON.stringify([review.state, review.as_predicted, isDecided, review.source, review.differing]);
    if (shown === this.shown) return; // a button that has the focus keeps it
    this.shown = shown;
    fill(this.chip, stateChip(review.state));
    const on = { decide: (kind) => this.#decide(kind), goOn: () => this.#goOn() };
    fill(this.decisions, decisionButtons(review, isDecided, on));
    const notes = [
      review.source && NOTE.source(review.source),
      review.differing.length && NOTE.differing(review.differing),
    ];
    fill(
      this.notes,
      notes.filter(Boolean).map((text) => h("p", { class: "warning", text })),
    );
  }

  #updateHint() {
    if (!this.tools || !this.work) return;
    const label =
      this.value === this.session.not_judged
        ? EDITOR.notJudged
        : this.patch.labels.find(({ value }) => value === this.value).name;
    const { polygon } = this.tools;
    const hint = this.work.saver.isStuck ? LOCKED_HINT : TOOL[this.toolName].hint(label);
    const button = (text, action) => h("button", { type: "button", class: "small", on: { click: action } }, text);
    fill(
      this.footer,
      h("span", { class: "hint", text: hint }),
      polygon.isOpen
        ? [button(EDITOR.closePolygon, () => polygon.close()), button(EDITOR.dropPolygon, () => polygon.drop())]
        : h("span", { class: "soft", text: MOVE_HINT }),
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
        if (this.work && !this.work.saver.isIdle) event.preventDefault();
      },
      { signal: this.unload.signal },
    );
  }

  #hold(isHeld) {
    this.holdsSpace = isHeld;
    this.layers?.canvases.at(-1).classList.toggle("moves", isHeld || this.toolName === "move");
  }

  #key(event) {
    const command = commandOf(event, KEY_GROUPS, settings.get("shortcuts"));
    const always = {
      nextPatch: () => this.goNext?.(),
      previousPatch: () => this.goPrevious?.(),
      queue: () => this.navigate("/"),
      help: dialogs.help,
    };
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
      this.cursor.move(event);
    } else if (command && !(command.name === "accept" && pressesControl(event))) {
      event.preventDefault();
      if (!event.repeat || ["smaller", "larger", "zoomIn", "zoomOut", "undo", "redo"].includes(command.name))
        this.#obey(command);
    }
  }

  #obey({ name, digit }) {
    const { polygon } = this.tools;
    const commands = {
      accept: () => {
        if (polygon.isOpen) polygon.close();
        else if (this.work.isDecided) this.#goOn();
        else this.#decide("accept");
      },
      skip: () => !this.work.isDecided && this.#decide("skip"),
      reopen: () => this.work.isDecided && this.#decide("reopen"),
      save: () => this.work.flush().then(() => dialogs.toast(TOAST.saved)),
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
      dab: () => this.cursor.press(),
    };
    if (name in TOOL) this.#chooseTool(name);
    else commands[name]?.();
  }

  #dropAll() {
    this.tools.polygon.drop();
    this.cursor.drop();
  }
}
