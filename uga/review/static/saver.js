// Saves what is done to a patch, one thing after the other, and never gives up on one.
//
// An operation is {kind: "edit", png} or {kind: "undo" | "redo" | "accept" | "skip" | "reopen"}. Each names the version
// that the one before it left; if somebody else has saved meanwhile, `onConflict` says what counts.

import * as api from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Saver {
  /**
   * @param id of the patch
   * @param version that was opened
   * @param reviewer gives the reviewer's name
   * @param on {status(text), saved(review, operation), conflict(current, operation) -> "mine" | "theirs",
   *   refused(failure, operation)}
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
    while (this.waiting.length) {
      const { operation, resolve } = this.waiting[0];
      resolve(await this.#carryOut(operation));
      this.waiting.shift();
    }
    this.running = null;
    if (this.status === "saving") this.#tell("saved");
  }

  async #carryOut(operation) {
    for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
      try {
        const review = await this.#send(operation);
        this.version = review.version;
        if (this.isStuck) this.#tell("saving");
        await this.on.saved(review, operation);
        return true;
      } catch (failure) {
        if (!(failure instanceof api.Failure)) throw failure;
        if (failure.isTemporary) {
          this.#tell(failure.status === 401 ? "locked" : "offline");
          await new Promise((resolve) => setTimeout(resolve, wait));
        } else if (failure.code === "conflict" && failure.current) {
          this.version = failure.current.version;
          if ((await this.on.conflict(failure.current, operation)) === "theirs") {
            for (const { resolve } of this.waiting.splice(1)) resolve(false);
            return false;
          }
        } else {
          this.#tell("failed");
          await this.on.refused(failure, operation);
          if (this.status === "failed") this.#tell("saving");
          return false;
        }
      }
    }
  }

  async #send(operation) {
    const { id, version } = this;
    const reviewer = this.reviewer();
    if (operation.kind === "edit") return api.save(id, version, reviewer, await operation.png);
    return api.review(id, version, reviewer, operation.kind);
  }

  #tell(status) {
    this.status = status;
    this.on.status(status);
  }
}
