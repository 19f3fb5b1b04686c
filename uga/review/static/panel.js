// The editor's side panel: labels, brush, what is shown, uncertain spots, facts.

import { fill, h, rgb } from "./dom.js";
import { icon } from "./icons.js";
import { shownKeys } from "./keys.js";
import { gradient } from "./palette.js";
import * as settings from "./settings.js";
import { EDITOR } from "./strings.js";
import { LARGEST_BRUSH } from "./tools.js";

export class Panel {
  /** @param on {value(), choose(value), brush(size), layers(), spot(step), changedShare()} */
  constructor(root, patch, session, on) {
    this.patch = patch;
    this.session = session;
    this.on = on;
    this.spot = null;
    this.map = h("div", { class: "map" });
    const where = h("section", { class: "where" }, h("h2", { class: "legend", text: EDITOR.map }), this.map);
    fill(root, this.#labels(), this.#brush(), this.#show(), this.#spots(), patch.tiles ? where : null, this.#facts());
  }

  update() {
    for (const [value, input] of this.choices) input.checked = value === this.on.value();
    const size = settings.get("brush");
    this.size.value = size;
    this.sizeText.textContent = EDITOR.brushOf(size, Math.round(size * this.patch.spacing_um));
    for (const [flag, input, slider] of this.layers) {
      input.checked = settings.get(flag);
      if (slider) slider.disabled = !input.checked;
    }
    this.spotText.textContent = EDITOR.spotOf(this.spot === null ? null : this.spot + 1, this.patch.spots.length);
    if (this.facts.open) this.changed.textContent = EDITOR.share(this.on.changedShare());
  }

  #labels() {
    this.choices = new Map();
    const line = (value, name, colour, key, hint = null) => {
      const input = h("input", { type: "radio", name: "label", value, on: { change: () => this.on.choose(value) } });
      this.choices.set(value, input);
      const swatch = h("span", {
        class: `swatch ${colour ? "" : value === this.session.not_judged ? "hatched" : "clear"}`,
        "aria-hidden": true,
        style: colour ? { background: rgb(colour) } : {},
      });
      return h(
        "label",
        { class: "label" },
        input,
        swatch,
        h("span", { class: "name" }, name, hint ? h("small", { text: hint }) : null),
        key === null ? null : h("kbd", { text: key }),
      );
    };
    return h(
      "fieldset",
      {},
      h("legend", { text: EDITOR.label }),
      this.patch.labels.map(({ name, value, colour }) => line(value, name, colour, value < 10 ? value : null)),
      line(this.session.not_judged, EDITOR.notJudged, null, shownKeys("notJudged"), EDITOR.notJudgedHint),
    );
  }

  #brush() {
    this.size = h("input", {
      type: "range",
      id: "brush",
      min: 1,
      max: LARGEST_BRUSH,
      on: { input: (event) => this.on.brush(Number(event.target.value)) },
    });
    this.sizeText = h("span", { class: "soft" });
    return h(
      "section",
      {},
      h("div", { class: "line" }, h("label", { class: "legend", for: "brush", text: EDITOR.brush }), this.sizeText),
      this.size,
    );
  }

  #show() {
    this.layers = [];
    const layer = (flag, text, key, opacity = null) => {
      const input = h("input", {
        type: "checkbox",
        on: { change: (event) => (settings.set(flag, event.target.checked), this.on.layers()) },
      });
      const slider =
        opacity &&
        h("input", {
          type: "range",
          min: 5,
          max: 100,
          value: settings.get(opacity),
          "aria-label": EDITOR.opacityOf(text),
          on: { input: (event) => (settings.set(opacity, Number(event.target.value)), this.on.layers()) },
        });
      this.layers.push([flag, input, slider]);
      return h(
        "div",
        { class: "layer-line" },
        h("label", { class: "check" }, input, h("span", { text }), h("kbd", { text: shownKeys(key) })),
        slider,
      );
    };
    const { full_scale: fullScale, display_max: displayMax, unit } = this.patch.uncertainty;
    return h(
      "fieldset",
      {},
      h("legend", { text: EDITOR.show }),
      layer("showLabels", EDITOR.correction, "correction", "labelsOpacity"),
      layer("showPrediction", EDITOR.prediction, "prediction"),
      layer("showUncertainty", EDITOR.uncertainty, "uncertainty", "uncertaintyOpacity"),
      h(
        "div",
        { class: "scale" },
        h("span", { text: "0" }),
        h("span", { class: "scale-colours", "aria-hidden": true, style: { background: gradient(this.session.heat) } }),
        h("span", { text: EDITOR.scaleEnd((displayMax / 255) * fullScale, unit) }),
      ),
    );
  }

  #spots() {
    const { spots } = this.patch;
    this.spotText = h("span", { class: "soft" });
    const input = h("input", {
      type: "checkbox",
      on: { change: (event) => (settings.set("showSpots", event.target.checked), this.on.layers()) },
    });
    this.layers.push(["showSpots", input, null]);
    const button = (name, mark, step) =>
      h(
        "button",
        {
          type: "button",
          class: "small",
          disabled: !spots.length,
          "aria-label": EDITOR[name],
          title: `${EDITOR[name]} (${shownKeys(name)})`,
          on: { click: () => this.on.spot(step) },
        },
        icon(mark),
      );
    return h(
      "fieldset",
      {},
      h("legend", { text: EDITOR.spots }),
      h(
        "div",
        { class: "line" },
        this.spotText,
        h("span", { class: "pair" }, button("previousSpot", "previous", -1), button("nextSpot", "next", 1)),
      ),
      h(
        "label",
        { class: "check" },
        input,
        h("span", { text: EDITOR.contours }),
        h("kbd", { text: shownKeys("contours") }),
      ),
    );
  }

  #facts() {
    const { patch } = this;
    this.changed = h("dd");
    const fact = (name, text) =>
      h("div", {}, h("dt", { text: EDITOR.fact[name] }), text instanceof Node ? text : h("dd", { text }));
    this.facts = h(
      "details",
      { class: "facts", on: { toggle: () => this.update() } },
      h("summary", { text: EDITOR.facts }),
      h(
        "dl",
        {},
        fact("slide", patch.slide),
        fact("rank", patch.rank),
        fact("score", `${patch.score.toFixed(4)} ${patch.unit === "1" ? "" : patch.unit}`),
        fact("changed", this.changed),
        fact("place", `${patch.level0.x}, ${patch.level0.y}`),
        fact("size", `${Math.round(patch.size_px * patch.spacing_um)} µm`),
        fact("model", patch.model),
      ),
    );
    return this.facts;
  }
}
