// The elements around the editor's viewer: head, tools, zoom, decisions.

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { shownKeys } from "./keys.js";
import { brand, helpButton, reviewerButton } from "./queue.js";
import { EDITOR, TOOL } from "./strings.js";

const withKey = (text, command) => `${text} (${shownKeys(command)})`;

/**
 * Builds the page of a patch; what is open is put into its parts.
 * @param on {previous, next, panel}: what buttons do; null: there is none
 */
export function buildFrame(root, session, title, on) {
  const parts = {
    chip: h("span", { class: "chip-place" }),
    status: h("span", { class: "status", role: "status" }),
    decisions: h("div", { class: "decisions" }),
    rail: h("div", { class: "rail", role: "group", "aria-label": EDITOR.tools }),
    notes: h("div", { class: "notes" }),
    alert: h("div", { class: "alert", role: "alert", hidden: true }),
    stage: h("div", { class: "stage" }, h("p", { class: "loading", text: EDITOR.loading })),
    footer: h("div", { class: "footer" }),
    aside: h("aside", { class: "panel", "aria-label": EDITOR.panel }),
  };
  const quiet = (text, mark, title, action, attributes = {}) =>
    h(
      "button",
      {
        type: "button",
        class: "quiet",
        "aria-label": text,
        title,
        disabled: !action,
        ...attributes,
        on: { click: () => action() },
      },
      icon(mark),
    );
  const view = h("div", { class: "view" }, parts.notes, parts.stage, parts.alert, parts.footer);
  const body = h("main", { class: "editor" }, parts.rail, view, parts.aside);
  fill(
    root,
    h(
      "header",
      { class: "bar" },
      h(
        "a",
        { class: "quiet back", href: "/", title: withKey(EDITOR.back, "queue") },
        icon("back"),
        h("span", { text: EDITOR.back }),
      ),
      quiet(EDITOR.previous, "previous", withKey(EDITOR.previous, "previousPatch"), on.previous),
      quiet(EDITOR.next, "next", withKey(EDITOR.next, "nextPatch"), on.next),
      h("h1", { text: title }),
      parts.chip,
      parts.status,
      h("span", { class: "grow" }),
      brand(session)[1],
      reviewerButton(),
      helpButton(),
      quiet(EDITOR.panel, "panel", EDITOR.panel, on.panel, { class: "quiet panel-toggle" }),
      parts.decisions,
    ),
    body,
  );
  return { ...parts, body };
}

/** @param on {tool(name), step("undo" | "redo")} */
export function fillRail(rail, on) {
  const button = (text, mark, command, action) =>
    h(
      "button",
      { type: "button", title: withKey(text, command), on: { click: action } },
      icon(mark),
      h("span", { text }),
    );
  const toolButtons = Object.fromEntries(
    Object.entries(TOOL).map(([name, tool]) => [name, button(tool.name, name, name, () => on.tool(name))]),
  );
  const undoButton = button(EDITOR.undo, "undo", "undo", () => on.step("undo"));
  const redoButton = button(EDITOR.redo, "redo", "redo", () => on.step("redo"));
  fill(rail, Object.values(toolButtons), h("hr"), undoButton, redoButton);
  return { toolButtons, undoButton, redoButton };
}

/** @param on {zoomIn, zoomOut, fit} */
export function zoomButtons(on) {
  const marks = { zoomIn: "plus", zoomOut: "minus", fit: "fit" };
  return h(
    "div",
    { class: "zoom" },
    Object.entries(marks).map(([name, mark]) =>
      h(
        "button",
        { type: "button", "aria-label": EDITOR[name], title: withKey(EDITOR[name], name), on: { click: on[name] } },
        icon(mark),
      ),
    ),
  );
}

/**
 * What can be decided on a patch as it is.
 * @param on {decide(kind), goOn()}
 */
export function decisionButtons(review, isDecided, on) {
  const button = (text, mark, command, action, attributes = {}) =>
    h(
      "button",
      {
        type: "button",
        "aria-label": text.long,
        title: withKey(text.long, command),
        ...attributes,
        on: { click: action },
      },
      icon(mark),
      h("span", { class: "long", text: text.long }),
      h("span", { class: "short", text: text.short ?? text.long }),
    );
  const decide = (kind, text, mark, attributes) => button(text, mark, kind, () => on.decide(kind), attributes);
  const primary = { class: "primary" };
  if (isDecided)
    return [decide("reopen", EDITOR.reopen, "reopen"), button(EDITOR.goOn, "next", "accept", on.goOn, primary)];
  const accept = review.as_predicted ? EDITOR.confirm : EDITOR.accept;
  return [decide("skip", EDITOR.skip, "skip"), decide("accept", accept, "check", primary)];
}
