// Saves what is done to a patch, one thing after the other, and never gives up on one.
//
// An operation is {kind: "edit", png()} or {kind: "undo" | "redo" | "accept" | "skip" | "reopen"}. Each names the version
// that the one before it left; if somebody else has saved meanwhile, `on.conflict` says what counts.

import * as api from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const DECISIONS = new Set(["accept", "skip", "reopen"]);
const STUCK = new Set(["offline", "locked", "broken"]);

/** The status after a try that failed. */
function stuckAs(error) {
  if (!(error instanceof api.Failure)) return "broken";
  return error.status === 401 ? "locked" : "offline";
}

export class Saver {
  /**
   * @param id of the patch
   * @param version that was opened
   * @param reviewer gives the reviewer's name
   * @param on {status(text, failure), saved(review, operation), refused(failure), conflict(current)}; the last gives what
   *   encodes what is shown if that counts, null if the other one's does
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
    return STUCK.has(this.status);
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
      try {
        await this.#next();
        wait = FIRST_WAIT_MS;
      } catch (error) {
        // Whatever it was: what is waiting is not given up, and the next try may do.
        if (!(error instanceof api.Failure)) console.error(error);
        this.#tell(stuckAs(error), error);
        await new Promise((resolve) => setTimeout(resolve, wait));
        wait = Math.min(2 * wait, LONGEST_WAIT_MS);
      }
    }
    this.running = null;
    this.#tell("saved");
  }

  /** Sends what waits longest, and does what the answer asks for. */
  async #next() {
    const item = this.waiting[0];
    let review;
    try {
      review = await this.#send(item.operation);
    } catch (error) {
      if (!(error instanceof api.Failure) || error.isTemporary) throw error;
      await (error.current ? this.#settle(error.current) : this.#refuse(item, error));
      return;
    }
    this.version = review.version;
    this.waiting.shift();
    try {
      if (this.isStuck) this.#tell("saving");
      await this.on.saved(review, item.operation);
    } finally {
      item.resolve(true);
    }
  }

  async #refuse(item, failure) {
    this.waiting.shift();
    try {
      this.#tell("failed");
      await this.on.refused(failure);
      this.#tell("saving");
    } finally {
      item.resolve(false);
    }
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
    if (operation.kind === "edit") return api.save(id, version, reviewer, await operation.png());
    return api.review(id, version, reviewer, operation.kind);
  }

  #tell(status, failure = null) {
    this.status = status;
    this.on.status(status, failure);
  }
}
