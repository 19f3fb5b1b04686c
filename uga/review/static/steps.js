// Label maps of this session's steps, so that undo and redo are instant. The server has all steps; these are some of them.

const LARGEST_BYTES = 64_000_000;
/** Fewer than the server keeps. */
const MOST = 100;

export class Steps {
  past = [];
  future = [];

  /** A stroke was made on labels that were `before`. */
  add(before) {
    this.future = [];
    this.past.push(before);
    this.#limit(this.past);
  }

  /** The labels to show next for "undo" or "redo" from `current`; null if they are not remembered. */
  take(kind, current) {
    const from = kind === "undo" ? this.past : this.future;
    if (!from.length) return null;
    this.note(kind, current.slice());
    return from.pop();
  }

  /** An undo or redo from labels that were `before` was made otherwise. */
  note(kind, before) {
    const to = kind === "undo" ? this.future : this.past;
    to.push(before);
    this.#limit(to);
  }

  clear() {
    this.past = [];
    this.future = [];
  }

  #limit(list) {
    while (list.length > MOST || list.length * list[0].length > LARGEST_BYTES) list.shift();
  }
}
