// Saves what is done to a patch, one thing after the other, and never gives up on one.
//
// An operation is {kind: "edit", png} or {kind: "undo" | "redo" | "accept" | "skip" | "reopen"}. Each names the version
// that the one before it left; if somebody else has saved meanwhile, `on.conflict` says what counts.

import * as api from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const DECISIONS = new Set(["accept", "skip", "reopen"]);

export class Saver {
  /**
   * @param id of the patch
   * @param version that was opened
   * @param reviewer gives the reviewer's name
   * @param on {status(text, failure), saved(review, operation), refused(failure), conflict(current)}; the last gives the PNG of
   *   what is shown if that counts, null if the other one's does
   */
  constructor(id, version, reviewer, on) {
    this.id = id;
    this.version = version;
    this.reviewer = reviewer;
    this.on = on;
    this.waiting = [];
    this.running = null;
    this.status = "saved";
  }

  get isIdle() {
    return this.running === null;
  }

  /** Whether the last try has failed; until the next has not, no more should be done to the patch. */
  get isStuck() {
    return this.status === "offline" || this.status === "locked";
  }

  /** Takes an operation; resolves when it is saved (true) or was dropped (false). */
  add(operation) {
    return new Promise((resolve) => {
      this.waiting.push({ operation, resolve });
      this.running ??= this.#run();
    });
  }

  /** Resolves when nothing is waiting any more. */
  async flush() {
    await this.running;
  }

  async #run() {
    this.#tell("saving");
    for (let wait = FIRST_WAIT_MS; this.waiting.length; ) {
      const item = this.waiting[0];
      try {
        const review = await this.#send(item.operation);
        this.version = review.version;
        if (this.isStuck) this.#tell("saving");
        wait = FIRST_WAIT_MS;
        this.waiting.shift();
        await this.on.saved(review, item.operation);
        item.resolve(true);
      } catch (failure) {
        if (!(failure instanceof api.Failure)) throw failure;
        if (failure.isTemporary) {
          this.#tell(failure.status === 401 ? "locked" : "offline", failure);
          await new Promise((resolve) => setTimeout(resolve, wait));
          wait = Math.min(2 * wait, LONGEST_WAIT_MS);
        } else if (failure.current) {
          await this.#settle(failure.current);
        } else {
          this.waiting.shift();
          this.#tell("failed");
          await this.on.refused(failure);
          this.#tell("saving");
          item.resolve(false);
        }
      }
    }
    this.running = null;
    this.#tell("saved");
  }

  /** After a conflict: goes on from what is on disk, with what is shown here or without. */
  async #settle(current) {
    const png = await this.on.conflict(current);
    this.version = current.version;
    const waiting = this.waiting.splice(0);
    if (!png) {
      for (const { resolve } of waiting) resolve(false);
      return;
    }
    // What is shown has all strokes in it that were waiting; only decisions are left to be made.
    const isDecision = ({ operation }) => DECISIONS.has(operation.kind);
    for (const item of waiting) if (!isDecision(item)) item.resolve(true);
    this.waiting = [{ operation: { kind: "edit", png }, resolve: () => {} }, ...waiting.filter(isDecision)];
  }

  async #send(operation) {
    const { id, version } = this;
    const reviewer = this.reviewer();
    if (operation.kind === "edit") return api.save(id, version, reviewer, await operation.png);
    return api.review(id, version, reviewer, operation.kind);
  }

  #tell(status, failure = null) {
    this.status = status;
    this.on.status(status, failure);
  }
}
