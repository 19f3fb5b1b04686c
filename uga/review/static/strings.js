// Every text of the page, in one place. Functions take what varies.

export const APP = "UGA review";
export const RESEARCH_USE = "Research use only";

export const STATE = {
  new: "New",
  started: "In progress",
  corrected: "Corrected",
  confirmed: "Confirmed",
  skipped: "Skipped",
  unusable: "Cannot be reviewed",
};

export const QUEUE = {
  title: "Patches to review",
  all: "All",
  allSlides: "All slides",
  slide: "Slide",
  filter: "Show by state",
  decided: (done, all) => `${done} of ${all} decided`,
  start: "Start reviewing",
  goOn: (place) => `Go on with patch ${place}`,
  finish: "Finish",
  empty: "No patch is in this state.",
  loading: "Reading the patches…",
  rank: (place) => `Patch ${place}`,
  score: "Score",
  scoreOf: (score, unit) => `${score.toFixed(3)}${unit === "1" ? "" : ` ${unit}`}`,
  by: (who, when) => `${who}, ${when}`,
  outside: "by another tool",
  problems: (count) => `${count === 1 ? "One package is" : `${count} packages are`} not shown`,
  thumbnail: (place) => `Patch ${place} with the outlines of its labels`,
};

export const EDITOR = {
  title: (place, count) => `Patch ${place} of ${count}`,
  back: "Queue",
  previous: "Previous",
  next: "Next",
  skip: { long: "Skip" },
  reopen: { long: "Reopen" },
  accept: { long: "Accept correction", short: "Accept" },
  confirm: { long: "Confirm as predicted", short: "Confirm" },
  goOn: { long: "Go on" },
  loading: "Opening the patch…",
  viewer: "Patch with its labels. Arrow keys move the cursor, D paints there.",
  tools: "Tools",
  undo: "Undo",
  redo: "Redo",
  panel: "Settings",
  label: "Paint with",
  notJudged: "not judged",
  notJudgedHint: "nothing is learnt there",
  brush: "Brush size",
  brushOf: (pixels, micrometres) => `${pixels} px = ${micrometres} µm`,
  show: "Show",
  correction: "Correction",
  prediction: "Prediction, as outline",
  uncertainty: "Uncertainty",
  opacityOf: (layer) => `Opacity: ${layer}`,
  scaleEnd: (value, unit) => `${value.toFixed(2)}${unit === "1" ? "" : ` ${unit}`} and more`,
  spots: "Uncertain spots",
  contours: "Contours",
  noSpots: "None in this patch",
  spotOf: (number, count) => (number === null ? `${count} in this patch` : `Spot ${number} of ${count}`),
  previousSpot: "Previous spot",
  nextSpot: "Next spot",
  map: "On the slide",
  facts: "About this patch",
  zoomIn: "Zoom in",
  zoomOut: "Zoom out",
  fit: "Whole patch",
  closePolygon: "Close",
  dropPolygon: "Discard",
  scaleBar: (length) => (length >= 1000 ? `${length / 1000} mm` : `${length} µm`),
  fact: {
    slide: "Slide",
    rank: "Rank on its slide",
    score: "Score",
    place: "Corner, level 0",
    size: "Size",
    model: "Model",
    changed: "Differs from prediction",
  },
  share: (share) => `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`,
};

export const TOOL = {
  brush: { name: "Brush", hint: (label) => `Drag to paint ${label}.` },
  eraser: { name: "Eraser", hint: () => "Drag to take changes back: the eraser restores the prediction." },
  polygon: {
    name: "Polygon",
    hint: (label) => `Click corners or drag a line around ${label}; click the first corner, or Enter, to close.`,
  },
  fill: { name: "Fill", hint: (label) => `Click an area to fill it with ${label}.` },
  move: { name: "Move", hint: () => "Drag to move the slide." },
};
export const MOVE_HINT = "Space and drag, or two fingers, move the slide; the wheel zooms.";
export const LOCKED_HINT = "Painting waits until the last change is saved.";

export const SAVING = {
  saved: "Saved",
  saving: "Saving…",
  offline: "Not saved",
  locked: "Not saved",
  failed: "Not saved",
  broken: "Not saved",
  leave: "The last change is not saved yet.",
};

export const ALERT = {
  offline: "Your last change is not saved: the server does not answer. Keep this page open; it tries again.",
  locked:
    "Your last change is not saved: the server was started anew. Open the address in its terminal in another tab; " +
    "saving then goes on here.",
  broken: "Your last change is not saved: this page cannot send it. Keep it open; it tries again.",
  unwritable: (sentence) => `Your last change is not saved: ${sentence} Keep this page open; it tries again.`,
};

export const NOTE = {
  source: (file) => `The labels were read from ${file}.`,
  differing: (files) =>
    `${files.join(", ")} in this package ${files.length === 1 ? "says" : "say"} something else and ${files.length === 1 ? "is" : "are"} not shown; accepting takes ${files.length === 1 ? "its" : "their"} place.`,
  unusable: "This patch cannot be reviewed.",
};

export const TOAST = {
  corrected: (place) => `Patch ${place}: correction accepted.`,
  confirmed: (place) => `Patch ${place}: confirmed as predicted.`,
  skipped: (place) => `Patch ${place}: skipped, so nothing is learnt from it.`,
  new: (place) => `Patch ${place}: reopened.`,
  started: (place) => `Patch ${place}: reopened.`,
  openAgain: "Open it again",
  saved: "Everything is saved.",
  done: "All patches are decided.",
  copied: "Copied.",
  left: (place) => `Patch ${place} stays in progress; it counts once it is accepted.`,
};

export const NAME = {
  title: "Who is reviewing?",
  text: "Your name goes into every patch you decide on and into the log of reviews. This browser remembers it.",
  label: "Name",
  ok: "Begin",
  change: (name) => `Reviewer: ${name}. Change`,
};

export const CONFLICT = {
  title: "Somebody else has saved this patch",
  text: (who, state) =>
    `${who ?? "Another tool"} has saved it (${state.toLowerCase()}) since it was opened here. What counts?`,
  theirs: "Show theirs",
  theirsHint: "Your last change is dropped.",
  mine: "Keep mine",
  mineHint: "Replaces theirs; Undo brings theirs back.",
};

export const FINISH = {
  title: "Learn from the corrections",
  counts: (corrected, confirmed) => `Accepted so far: ${corrected} corrected, ${confirmed} confirmed.`,
  started: (count) =>
    `${count === 1 ? "One patch is" : `${count} patches are`} in progress and will not count until accepted.`,
  showStarted: "Show",
  nothing: "Nothing is accepted yet, so there is nothing to learn from.",
  command: "Run this where UGA is installed:",
  commandFor: (model) => `For the predictions of ${model}:`,
  incomplete: "Replace MODEL by the folder of the model that predicted.",
  copy: "Copy",
  archive: "Corrections as ZIP",
  archiveHint: "Unpacked elsewhere, the folder is what --input takes.",
  close: "Close",
};

export const HELP = {
  title: "Help and keys",
  open: "Help and keys",
  close: "Close",
  intro: [
    "Correct what is wrong and accept the patch; confirm it if the prediction is right; skip it if it cannot be judged.",
    "Every stroke is saved at once. A patch counts when it is accepted, until then it is in progress.",
    "The eraser restores the prediction. “Not judged” (hatched) is area that nothing shall be learnt from.",
    "Mouse: the wheel zooms; the right or middle button, or Space, moves. Touch: one finger paints, two move and zoom; once a pen was used, fingers only move.",
  ],
  shortcuts: "Keys of one letter are active",
  groups: {
    review: "Review",
    tools: "Tools",
    labels: "Labels",
    see: "See",
    keyboard: "Without a mouse",
    queue: "In the queue",
  },
  keys: {
    accept: "Accept or confirm, and go on",
    skip: "Skip, and go on",
    reopen: "Take the decision back",
    nextPatch: "Next patch",
    previousPatch: "Previous patch",
    queue: "Back to the queue",
    save: "Save (done anyway)",
    brush: "Brush",
    eraser: "Eraser: back to the prediction",
    polygon: "Polygon",
    fill: "Fill",
    move: "Move",
    smaller: "Smaller brush",
    larger: "Larger brush",
    undo: "Undo",
    redo: "Redo",
    closePolygon: "Close the polygon",
    dropPolygon: "Discard the polygon",
    dropCorner: "Take the polygon’s last corner back",
    label: "The label with this value",
    notJudged: "Not judged",
    correction: "Correction on or off",
    prediction: "Outline of the prediction on or off",
    uncertainty: "Uncertainty on or off",
    contours: "Contours of uncertain spots on or off",
    all: "All of these off, and on again",
    nextSpot: "Next uncertain spot",
    previousSpot: "Previous uncertain spot",
    zoomIn: "Zoom in",
    zoomOut: "Zoom out",
    fit: "Whole patch",
    hold: "Hold to move with the mouse",
    cursor: "Move the cursor; with Shift by one pixel",
    dab: "Put the tool down, and lift it again",
    help: "This help",
    choose: "Choose a patch",
    openPatch: "Open it",
    finish: "Finish: command and ZIP",
  },
};

export const ERROR = {
  title: "That did not work",
  reload: "Reload",
  close: "Close",
  unreachable: "The server does not answer. Is `uga review` still running?",
  token: "This browser has no access any more. Open the address that `uga review` shows in its terminal.",
  unknown: "Something went wrong; reload the page.",
  viewer: "The viewer could not be loaded; reload the page.",
  queue: "To the queue",
  "old-browser": "This browser cannot save label maps. Open the page in a newer one, of 2023 or later.",
  "not-found": "There is no such patch here.",
  "nothing-judged": "Nothing in this patch is judged. Skip it instead.",
};

export function sentence(failure) {
  return ERROR[failure.code] ?? (failure.message || ERROR.unknown);
}

const LANGUAGE = "en-GB";

/** When something was done: the time today, the day and time before. */
export function when(text) {
  const date = new Date(text);
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { day: "numeric", month: "short" };
  return date.toLocaleString(LANGUAGE, { ...day, hour: "2-digit", minute: "2-digit" });
}
