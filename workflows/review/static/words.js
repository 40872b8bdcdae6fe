// How the desk says things: states, numbers, lengths, times.

export const STATES = {
  new: "New",
  open: "Open",
  accepted: "Accepted",
  corrected: "Corrected",
  rejected: "Rejected",
  second_look: "Second look",
};

export const DONE = ["accepted", "corrected", "rejected"];

const ACTIONS = {
  accept: "accepted", correct: "corrected", reject: "rejected", second_look: "asked for a second look", comment: "commented",
  undo: "took back", region: "drew a region", remove_region: "removed a region",
};

export const actionWords = (action) => ACTIONS[action] ?? action.replaceAll("_", " ");
export const FLAGS = {
  uncertain: "Uncertain", wide_set: "Wide set", unlike_training: "Unlike training", unreadable_tiles: "Unreadable tiles", little_tissue: "Little tissue",
  graded_again: "Graded again since", disagreement: "Readers disagree", proposed: "Proposed for labelling",
};

export const flagWords = (flag) => FLAGS[flag] ?? sentence(flag.replaceAll("_", " "));
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const chance = (p) => p.toFixed(2);
export const count = (n) => n.toLocaleString("en");
// A short name stays on one line.
export const unbroken = (text) => (text.length <= 18 ? text.replaceAll(" ", "\u00a0") : text);
export const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

// Two significant digits, with a true minus sign: what a legend or a threshold needs.
export function short(value) {
  if (value === 0 || Math.abs(value) < 1e-12) return "0";
  return String(Number(value.toPrecision(2))).replace("-", "−");
}

export function lengthText(um) {
  if (um >= 1000) return `${Number((um / 1000).toPrecision(3))} mm`;
  return `${Number(um.toPrecision(3))} µm`;
}

export function areaText(um2) {
  return um2 >= 1e5 ? `${(um2 / 1e6).toFixed(um2 >= 1e7 ? 1 : 2)} mm²` : `${count(Math.round(um2))} µm²`;
}

// 12.3×, 0.62×, 40×
export function magnificationText(times) {
  return `${times >= 9.95 ? times.toFixed(times % 1 > 0.04 && times % 1 < 0.96 ? 1 : 0) : Number(times.toPrecision(2))}×`;
}

export function timeText(iso) {
  const at = new Date(iso);
  const clock = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}, ${clock}`;
}

// A Gleason score or a class in the model's own words.
export function gradeWords(grade, classes, labels) {
  const at = classes.indexOf(String(grade));
  return at < 0 ? String(grade) : labels[at];
}
