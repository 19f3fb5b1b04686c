// What interrupts: the reviewer's name, help, a conflict, an error, and the end of a review.

import * as api from "./api.js";
import { h } from "./dom.js";
import { icon } from "./icons.js";
import { helpGroups } from "./keys.js";
import * as settings from "./settings.js";
import { CONFLICT, ERROR, FINISH, HELP, NAME, STATE, TOAST, sentence } from "./strings.js";

/** Shows a dialog; resolves with the value that a button of it gave, null if it was left by Escape. */
function ask(title, { dismissible = true, className = "" }, content) {
  return new Promise((resolve) => {
    let result = null;
    const close = (value) => {
      result = value;
      dialog.close();
    };
    const heading = h("h2", { id: "dialog-title", tabindex: -1, text: title });
    const dialog = h("dialog", { class: className, "aria-labelledby": "dialog-title" }, heading, content(close));
    dialog.addEventListener("cancel", (event) => {
      if (!dismissible) event.preventDefault();
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    (dialog.querySelector("[autofocus]") ?? heading).focus();
  });
}

let asking = null;

/** The reviewer's name; asked for once. */
export function reviewerName(isChange = false) {
  const known = settings.get("reviewer");
  if (known && !isChange) return Promise.resolve(known);
  asking ??= askName(known, isChange).finally(() => (asking = null));
  return asking;
}

async function askName(known, isChange) {
  const name = await ask(NAME.title, { dismissible: isChange, className: "narrow" }, (close) => {
    const input = h("input", {
      id: "reviewer",
      type: "text",
      autofocus: true,
      maxlength: 80,
      required: true,
      autocomplete: "name",
      value: known,
    });
    const done = (event) => {
      event.preventDefault();
      const text = input.value.split(/\s+/).filter(Boolean).join(" ");
      if (text) close(text);
    };
    return h(
      "form",
      { on: { submit: done } },
      h("p", { text: NAME.text }),
      h("label", { for: "reviewer", text: NAME.label }),
      input,
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", text: NAME.ok })),
    );
  });
  if (name) {
    settings.set("reviewer", name);
    document.dispatchEvent(new CustomEvent("reviewer"));
  }
  return name ?? known;
}

export function help() {
  return ask(HELP.title, { className: "wide" }, (close) => {
    const toggle = h("input", {
      type: "checkbox",
      checked: settings.get("shortcuts"),
      on: { change: (event) => settings.set("shortcuts", event.target.checked) },
    });
    return [
      HELP.intro.map((text) => h("p", { text })),
      h("label", { class: "check" }, toggle, HELP.shortcuts),
      h(
        "div",
        { class: "keys" },
        helpGroups().map(({ title, lines }) =>
          h(
            "section",
            {},
            h("h3", { text: title }),
            h(
              "dl",
              {},
              lines.map(([keys, text]) =>
                h(
                  "div",
                  {},
                  h(
                    "dt",
                    {},
                    keys.map((key) => h("kbd", { text: key })),
                  ),
                  h("dd", { text }),
                ),
              ),
            ),
          ),
        ),
      ),
      closing(close, HELP.close),
    ];
  });
}

/** Somebody else has saved; gives "mine" or "theirs". */
export function conflict(current) {
  return ask(CONFLICT.title, { dismissible: false, className: "narrow" }, (close) => [
    h("p", { text: CONFLICT.text(current.reviewer, STATE[current.state]) }),
    h(
      "div",
      { class: "choices" },
      h("button", { type: "button", class: "primary", on: { click: () => close("theirs") } }, CONFLICT.theirs),
      h("p", { text: CONFLICT.theirsHint }),
      h("button", { type: "button", on: { click: () => close("mine") } }, CONFLICT.mine),
      h("p", { text: CONFLICT.mineHint }),
    ),
  ]);
}

export function error(failure) {
  return ask(ERROR.title, { className: "narrow" }, (close) => [
    h("p", { text: sentence(failure) }),
    closing(close, ERROR.close),
  ]);
}

/** The end of a review: what counts, the command, the archive. `showStarted` opens what is in progress. */
export function finish(session, patches, showStarted) {
  const count = (state) => patches.filter((patch) => patch.state === state).length;
  const [corrected, confirmed, started] = ["corrected", "confirmed", "started"].map(count);
  return ask(FINISH.title, {}, (close) => {
    const teaches = corrected + confirmed > 0;
    return [
      h("p", { text: teaches ? FINISH.counts(corrected, confirmed) : FINISH.nothing }),
      started
        ? h(
            "p",
            { class: "warning" },
            FINISH.started(started),
            " ",
            h(
              "button",
              { type: "button", class: "link", on: { click: () => (close(null), showStarted()) } },
              FINISH.showStarted,
            ),
          )
        : null,
      teaches
        ? [
            h("h3", { text: FINISH.command }),
            session.commands.map((command) => commandLine(command, session.commands.length > 1)),
          ]
        : null,
      teaches
        ? h(
            "p",
            { class: "archive" },
            h(
              "a",
              { class: "button", href: api.ARCHIVE, download: "corrections.zip" },
              icon("download"),
              FINISH.archive,
            ),
            h("span", { class: "soft", text: FINISH.archiveHint }),
          )
        : null,
      closing(close, FINISH.close),
    ];
  });
}

function commandLine({ text, model, is_complete: isComplete }, isOneOfSeveral) {
  const code = h("code", { text, tabindex: 0 });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      toast(TOAST.copied);
    } catch {
      getSelection().selectAllChildren(code);
    }
  };
  return h(
    "div",
    { class: "command" },
    isOneOfSeveral ? h("p", { text: FINISH.commandFor(model) }) : null,
    h("div", { class: "line" }, code, h("button", { type: "button", on: { click: copy } }, icon("copy"), FINISH.copy)),
    isComplete ? null : h("p", { class: "soft", text: FINISH.incomplete }),
  );
}

function closing(close, text) {
  return h("div", { class: "actions" }, h("button", { type: "button", on: { click: () => close(null) } }, text));
}

const TOAST_MS = 6000;

/** A word at the edge that goes by itself, perhaps with something to do. */
export function toast(text, action = null) {
  const place = document.getElementById("toasts");
  const box = h("div", { class: "toast" }, h("span", { text }));
  if (action)
    box.append(
      h("button", { type: "button", class: "link", on: { click: () => (box.remove(), action.do()) } }, action.text),
    );
  place.replaceChildren(box);
  setTimeout(() => box.remove(), TOAST_MS);
}
