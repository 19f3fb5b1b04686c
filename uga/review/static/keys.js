// What keys do, for the handlers and for the help.

import { HELP } from "./strings.js";

/** name, what starts it (`Ctrl+` means the command key on a Mac, too), how it is shown */
const BINDINGS = {
  review: [
    ["accept", ["Enter"], ["Enter"]],
    ["skip", ["s"], ["S"]],
    ["reopen", ["r"], ["R"]],
    ["nextPatch", ["j", "PageDown"], ["J", "PgDn"]],
    ["previousPatch", ["k", "PageUp"], ["K", "PgUp"]],
    ["queue", ["q"], ["Q"]],
    ["save", ["Ctrl+s"], ["Ctrl S"]],
    ["help", ["?", "F1"], ["?"]],
  ],
  labels: [
    ["label", [], ["0", "…", "9"]],
    ["notJudged", ["x"], ["X"]],
  ],
  queue: [
    ["choose", [], ["←", "↑", "→", "↓"]],
    ["openPatch", [], ["Enter"]],
    ["finish", ["f"], ["F"]],
  ],
  tools: [
    ["brush", ["b"], ["B"]],
    ["eraser", ["e"], ["E"]],
    ["polygon", ["p"], ["P"]],
    ["fill", ["f"], ["F"]],
    ["move", ["h"], ["H"]],
    ["smaller", ["[", ","], ["[", ","]],
    ["larger", ["]", "."], ["]", "."]],
    ["undo", ["Ctrl+z", "z"], ["Ctrl Z", "Z"]],
    ["redo", ["Ctrl+Shift+z", "Ctrl+y", "Shift+z"], ["Ctrl Shift Z", "Ctrl Y"]],
    ["closePolygon", [], ["Enter"]],
    ["dropCorner", ["Backspace"], ["Backspace"]],
    ["dropPolygon", ["Escape"], ["Esc"]],
  ],
  keyboard: [
    ["cursor", [], ["←", "↑", "→", "↓"]],
    ["dab", ["d"], ["D"]],
  ],
  see: [
    ["correction", ["c"], ["C"]],
    ["prediction", ["v"], ["V"]],
    ["uncertainty", ["u"], ["U"]],
    ["contours", ["o"], ["O"]],
    ["all", ["a"], ["A"]],
    ["nextSpot", ["g"], ["G"]],
    ["previousSpot", ["Shift+g"], ["Shift G"]],
    ["zoomIn", ["+", "="], ["+"]],
    ["zoomOut", ["-"], ["−"]],
    ["fit", ["w"], ["W"]],
    ["hold", [], ["Space"]],
  ],
};

/** The groups of the help: title and [keys, text] of each line. */
export function helpGroups() {
  return Object.entries(BINDINGS).map(([group, lines]) => ({
    title: HELP.groups[group],
    lines: lines.map(([name, , shown]) => [shown, HELP.keys[name]]),
  }));
}

/** Keys of a command as a tooltip shows them. */
export function shownKeys(name) {
  const line = Object.values(BINDINGS)
    .flat()
    .find(([command]) => command === name);
  return line ? line[2][0] : "";
}

function spelled(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isLetter = /^[a-z]$/.test(key);
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.shiftKey && (isLetter || event.key.length > 1)) parts.push("Shift");
  return [...parts, key].join("+");
}

function isTyping(target) {
  return (
    target instanceof HTMLElement &&
    target.matches("input:not([type=range], [type=checkbox], [type=radio]), textarea, select")
  );
}

const WITHOUT_LETTERS = new Set(["Enter", "PageDown", "PageUp", "Escape", "Backspace", "F1"]);

/**
 * The command that a key event asks for: {name, digit}; null if none.
 * @param groups names of the groups that are active
 * @param single whether keys without Ctrl that write a character are active
 */
export function commandOf(event, groups, single) {
  if (isTyping(event.target) || event.altKey || document.querySelector("dialog[open]")) return null;
  const text = spelled(event);
  if (!single && !text.startsWith("Ctrl+") && !WITHOUT_LETTERS.has(event.key)) return null;
  const digit = /^Digit(\d)$/.exec(event.code) ?? /^Numpad(\d)$/.exec(event.code);
  if (
    digit &&
    !event.ctrlKey &&
    !event.metaKey &&
    groups.includes("labels") &&
    (/^\d$/.test(event.key) || !event.shiftKey)
  ) {
    return { name: "label", digit: Number(digit[1]) };
  }
  for (const group of groups) {
    for (const [name, keys] of BINDINGS[group]) if (keys.includes(text)) return { name, digit: null };
  }
  return null;
}

/** Whether Enter or Space would press the control that has the focus. */
export function pressesControl(event) {
  return event.target instanceof HTMLElement && event.target.matches("button, a, summary, input, select");
}
