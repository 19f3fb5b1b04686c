// What a browser remembers about its reviewer; lost without harm where it may not store anything.

const PREFIX = "uga-review.";

const DEFAULTS = {
  reviewer: "",
  brush: 32,
  showLabels: true,
  labelsOpacity: 50,
  showPrediction: false,
  showUncertainty: false,
  uncertaintyOpacity: 70,
  showSpots: true,
  shortcuts: true,
  panel: null,
};

export function get(name) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? DEFAULTS[name] : JSON.parse(text);
  } catch {
    return DEFAULTS[name];
  }
}

export function set(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    DEFAULTS[name] = value;
  }
}
