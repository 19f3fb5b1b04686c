// The queue: every patch as a card, in the order in which it is worth a correction.

import * as api from "./api.js";
import { finish, help, reviewerName } from "./dialogs.js";
import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { commandOf, pressesControl } from "./keys.js";
import { sinceOpening } from "./measures.js";
import * as settings from "./settings.js";
import { APP, HELP, NAME, QUEUE, RESEARCH_USE, STATE, when } from "./strings.js";

const STATES = ["new", "started", "corrected", "confirmed", "skipped", "unusable"];
const OPEN_STATES = new Set(["new", "started"]);

/** A patch's state, told by word and mark, not by colour alone. */
export function stateChip(state) {
  return h("span", { class: `chip state-${state}` }, h("span", { class: "mark", "aria-hidden": true }), STATE[state]);
}

export function brand(session) {
  return [
    h("span", { class: "brand" }, h("img", { src: "/static/icon.svg", alt: "", width: 24, height: 24 }), APP),
    h("span", { class: "notice-chip", title: session.notice, text: RESEARCH_USE }),
  ];
}

export function reviewerButton() {
  const button = h("button", { type: "button", class: "quiet" });
  const show = () => {
    if (!button.isConnected && button.textContent) document.removeEventListener("reviewer", show);
    const name = settings.get("reviewer");
    fill(button, icon("person"), h("span", { text: name }));
    button.setAttribute("aria-label", NAME.change(name));
    button.hidden = !name;
  };
  button.addEventListener("click", () => reviewerName(true));
  document.addEventListener("reviewer", show);
  show();
  return button;
}

export function helpButton() {
  return h(
    "button",
    { type: "button", class: "quiet", "aria-label": HELP.open, title: HELP.open, on: { click: help } },
    icon("help"),
  );
}

/** What the next patch to decide on is, after a place in the queue; null if all are decided. */
export function nextOpen(patches, place = 0) {
  const open = patches.filter((patch) => OPEN_STATES.has(patch.state));
  return open.find((patch) => patch.place > place) ?? open[0] ?? null;
}

export class QueueView {
  /** @param navigate opens an address of the page */
  constructor(root, session, navigate) {
    this.root = root;
    this.session = session;
    this.navigate = navigate;
    this.state = null;
    this.slide = "";
    this.patches = [];
    this.isLeft = false;
    this.onKey = (event) => this.#key(event);
    this.onFocus = () => this.refresh();
  }

  async show() {
    document.title = `${QUEUE.title} · ${APP}`;
    fill(this.root, h("p", { class: "loading", text: QUEUE.loading }));
    this.patches = await api.list();
    if (this.isLeft) return;
    this.#build();
    document.addEventListener("keydown", this.onKey);
    globalThis.addEventListener("focus", this.onFocus);
    sinceOpening("uga:queue-interactive");
    (globalThis.requestIdleCallback ?? setTimeout)(() => import("./editor.js").then((editor) => editor.prepare()));
  }

  async leave() {
    this.isLeft = true;
    document.removeEventListener("keydown", this.onKey);
    globalThis.removeEventListener("focus", this.onFocus);
    // Pictures that are still to come would keep what is opened next waiting.
    for (const picture of this.root.querySelectorAll(".card img"))
      if (!picture.complete) picture.removeAttribute("src");
    return true;
  }

  /** Others may have reviewed meanwhile. */
  async refresh() {
    const before = JSON.stringify(this.patches);
    this.patches = await api.list().catch(() => this.patches);
    if (JSON.stringify(this.patches) !== before) this.#update();
  }

  finish() {
    finish(this.session, this.patches, () => this.#choose("started"));
  }

  #build() {
    this.summary = h("div", { class: "summary" });
    this.filters = h("div", { class: "filters", role: "group", "aria-label": QUEUE.filter });
    this.grid = h("ol", { class: "cards" });
    this.actions = h("div", { class: "queue-actions" });
    const slides = [...new Set(this.patches.map((patch) => patch.slide))].sort();
    fill(
      this.root,
      h("header", { class: "bar" }, brand(this.session), h("span", { class: "grow" }), reviewerButton(), helpButton()),
      h(
        "main",
        { class: "queue" },
        h("div", { class: "queue-head" }, h("div", {}, h("h1", { text: QUEUE.title }), this.summary), this.actions),
        this.#problems(),
        h("div", { class: "queue-filters" }, this.filters, slides.length > 1 ? this.#slideChoice(slides) : null),
        this.grid,
        h("p", { class: "research", text: this.session.notice }),
      ),
    );
    this.#update();
  }

  #problems() {
    const { problems } = this.session;
    if (!problems.length) return null;
    return h(
      "details",
      { class: "warning" },
      h("summary", { text: QUEUE.problems(problems.length) }),
      h(
        "ul",
        {},
        problems.map((problem) => h("li", { text: problem })),
      ),
    );
  }

  #slideChoice(slides) {
    const select = h(
      "select",
      { id: "slide", on: { change: (event) => ((this.slide = event.target.value), this.#update()) } },
      h("option", { value: "", text: QUEUE.allSlides }),
      slides.map((slide) => h("option", { value: slide, text: slide })),
    );
    return h("div", { class: "slide-choice" }, h("label", { for: "slide", text: QUEUE.slide }), select);
  }

  #choose(state) {
    this.state = state;
    this.#update();
  }

  #update() {
    const { patches } = this;
    const count = (state) => patches.filter((patch) => patch.state === state).length;
    const decided = patches.length - count("new") - count("started") - count("unusable");
    fill(
      this.summary,
      h("span", { text: QUEUE.decided(decided, patches.length) }),
      h(
        "span",
        { class: "progress", "aria-hidden": true },
        ["corrected", "confirmed", "skipped", "started"].map((state) =>
          h("span", { class: `part-${state}`, style: { width: `${(100 * count(state)) / patches.length}%` } }),
        ),
      ),
    );
    const next = nextOpen(patches);
    const untouched = decided === 0 && !count("started");
    fill(
      this.actions,
      h("button", { type: "button", on: { click: () => this.finish() } }, icon("flag"), QUEUE.finish),
      next
        ? h(
            "a",
            { class: "button primary", href: `/patch/${next.id}` },
            untouched ? QUEUE.start : QUEUE.goOn(next.place),
            icon("next"),
          )
        : null,
    );
    const filter = (state, text, number) =>
      h(
        "button",
        { type: "button", "aria-pressed": this.state === state, on: { click: () => this.#choose(state) } },
        text,
        h("span", { class: "count", text: number }),
      );
    fill(
      this.filters,
      filter(null, QUEUE.all, patches.length),
      STATES.filter((state) => state !== "unusable" || count(state)).map((state) =>
        filter(state, STATE[state], count(state)),
      ),
    );
    const shown = patches.filter(
      (patch) => (!this.state || patch.state === this.state) && (!this.slide || patch.slide === this.slide),
    );
    const best = Math.max(...patches.map((patch) => patch.score), Number.MIN_VALUE);
    fill(
      this.grid,
      shown.length ? shown.map((patch) => card(patch, best)) : h("li", { class: "none", text: QUEUE.empty }),
    );
  }

  #key(event) {
    const command = commandOf(event, ["review", "queue"], settings.get("shortcuts"));
    const cards = [...this.grid.querySelectorAll("a")];
    const index = cards.indexOf(document.activeElement);
    const columns = Math.max(1, getComputedStyle(this.grid).gridTemplateColumns.split(" ").length);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    if (!document.querySelector("dialog[open]") && event.key in steps && !event.target.matches("select, input")) {
      cards[Math.min(cards.length - 1, Math.max(0, index < 0 ? 0 : index + steps[event.key]))]?.focus();
    } else if (command?.name === "nextPatch" || command?.name === "previousPatch") {
      const step = command.name === "nextPatch" ? 1 : -1;
      cards[Math.min(cards.length - 1, Math.max(0, index < 0 ? 0 : index + step))]?.focus();
    } else if (command?.name === "accept" && !pressesControl(event)) {
      const next = nextOpen(this.patches);
      if (next) this.navigate(`/patch/${next.id}`);
    } else if (command?.name === "help") {
      help();
    } else if (command?.name === "finish") {
      this.finish();
    } else {
      return;
    }
    event.preventDefault();
  }
}

function card(patch, best) {
  const picture = h("img", {
    src: api.thumbnailAddress(patch.id, patch.stamp),
    alt: QUEUE.thumbnail(patch.place),
    loading: "lazy",
    decoding: "async",
    width: 320,
    height: 320,
  });
  const who = patch.reviewer
    ? QUEUE.by(patch.reviewer, when(patch.at))
    : patch.state === "corrected"
      ? QUEUE.outside
      : "";
  return h(
    "li",
    {},
    h(
      "a",
      { href: `/patch/${patch.id}`, class: "card", "data-id": patch.id },
      h(
        "span",
        { class: "picture" },
        picture,
        h("span", { class: "place", "aria-label": QUEUE.rank(patch.place), text: patch.place }),
      ),
      h(
        "span",
        { class: "about" },
        h(
          "span",
          { class: "score" },
          h(
            "span",
            { class: "score-bar", "aria-hidden": true },
            h("span", { style: { width: `${(100 * patch.score) / best}%` } }),
          ),
          h("span", { text: QUEUE.scoreOf(patch.score, patch.unit) }),
        ),
        h("span", { class: "slide", title: patch.slide, text: patch.slide }),
        h("span", { class: "standing" }, stateChip(patch.state)),
        who ? h("span", { class: "who", title: who, text: who }) : null,
      ),
    ),
  );
}
