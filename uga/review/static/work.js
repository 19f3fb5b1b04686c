// A patch that is being worked on: its labels, what is on disk of it, the steps between, and the way there.

import * as api from "./api.js";
import { crc, encodePng } from "./png.js";
import { Raster } from "./raster.js";
import { Saver } from "./saver.js";
import * as settings from "./settings.js";
import { Steps } from "./steps.js";

export class Work {
  /**
   * @param id of the patch
   * @param size of the patch in pixels
   * @param answer labels and review, as the server gave them together
   * @param on {changed(part): labels were changed here, null: all of them; review(): what is on disk has changed;
   *   status(text, failure); conflict(current) gives "mine" or "theirs"; error(failure)}
   */
  constructor(id, size, { values, review }, prediction, on) {
    this.id = id;
    this.on = on;
    this.review = review;
    this.raster = new Raster(size, values, prediction);
    this.steps = new Steps();
    this.turn = Promise.resolve();
    this.isFetching = false;
    this.saver = new Saver(id, review.version, () => settings.get("reviewer"), {
      status: on.status,
      saved: (saved, operation) => this.#saved(saved, operation),
      conflict: (current) => this.#conflict(current),
      refused: async (failure) => {
        await on.error(failure);
        await this.#reload(); // what is shown is what is on disk again
      },
    });
  }

  get mayChange() {
    return !this.saver.isStuck && !this.isFetching;
  }

  get isUndoable() {
    return this.steps.past.length > 0 || this.review.undoable > 0;
  }

  get isRedoable() {
    return this.steps.future.length > 0 || this.review.redoable > 0;
  }

  /** Whether a reviewer has decided; a correction that another tool has left is none of theirs. */
  get isDecided() {
    return this.review.reviewer !== null && this.review.state !== "started";
  }

  /** The share of pixels that differ from the prediction. */
  get changedShare() {
    const { labels, prediction } = this.raster;
    let changed = 0;
    for (let i = 0; i < labels.length; i++) changed += labels[i] !== prediction[i];
    return changed / labels.length;
  }

  /** A tool has changed the labels, which were `before`. */
  commit(before) {
    this.steps.add(before);
    this.saver.add({ kind: "edit", png: this.#png() });
    this.on.review();
  }

  /** Undo or redo: at once where the labels are remembered here, from the server where they are from before. */
  step(kind) {
    this.turn = this.turn.catch(() => {}).then(() => this.#step(kind));
    return this.turn;
  }

  /** Accepts, skips or reopens; whether that was done. */
  decide(kind) {
    return this.saver.add({ kind });
  }

  /** Resolves when everything is on disk. */
  async flush() {
    await this.turn;
    await this.saver.flush();
  }

  async #step(kind) {
    if (this.saver.isStuck) return;
    const { raster, steps } = this;
    const labels = steps.take(kind, raster.labels);
    if (labels) {
      raster.labels.set(labels);
      this.on.changed(null);
      this.saver.add({ kind, crc: crc(labels) });
      this.on.review();
      return;
    }
    this.isFetching = true;
    try {
      await this.saver.flush();
      const before = raster.labels.slice();
      const isPossible = kind === "undo" ? this.review.undoable : this.review.redoable;
      if (isPossible && (await this.saver.add({ kind }))) {
        await this.#reload();
        steps.note(kind, before);
        this.on.review();
      }
    } finally {
      this.isFetching = false;
    }
  }

  /** Takes the labels that are on disk. */
  async #reload() {
    let answer;
    try {
      answer = await api.labels(this.id);
    } catch (failure) {
      await this.on.error(failure);
      location.reload();
      return;
    }
    this.steps.clear();
    this.raster.labels.set(answer.values);
    this.saver.version = answer.review.version;
    this.review = answer.review;
    this.on.changed(null);
    this.on.review();
  }

  async #saved(review, operation) {
    this.review = review;
    this.on.review();
    // Not what was expected of a step: what is on disk counts.
    if ("crc" in operation && operation.crc !== review.labels_crc32) await this.#reload();
  }

  /** Somebody else has saved; gives what encodes what is shown here if that is to count. */
  async #conflict(current) {
    this.steps.clear();
    if ((await this.on.conflict(current)) === "mine") return this.#png();
    await this.#reload();
    return null;
  }

  /** What encodes the labels as they are now; it can be tried again. */
  #png() {
    const { size } = this.raster;
    const labels = this.raster.labels.slice();
    return () => encodePng(labels, size);
  }
}
