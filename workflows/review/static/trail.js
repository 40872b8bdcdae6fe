// The trail of a case: who did what, when, and the head of each entry's hash.

import { fill, h } from "./dom.js";
import { actionWords, gradeWords, sentence, timeText } from "./words.js";

export class Trail {
  constructor({ found, onUndo }) {
    Object.assign(this, { found, onUndo });
    this.list = h("ol", { class: "trail-list", reversed: true });
    this.note = h("p", { class: "note" });
    this.root = h("section", { class: "block trail", "aria-labelledby": "trail-head" }, h("h2", { id: "trail-head" }, "Trail"), this.list, this.note);
  }

  show(entries, undoable) {
    const undone = new Set(entries.filter((entry) => entry.action === "undo").map((entry) => entry.payload?.undoes));
    this.note.textContent = entries.length ? "Entries are only ever added; each holds the hash of the one before." : "Nothing has been signed yet.";
    fill(this.list, ...[...entries].reverse().map((entry) => this.line(entry, undone.has(entry.entry), entry.entry === undoable)));
  }

  line(entry, undone, undoable) {
    const { comment, note } = entry.payload ?? {};
    return h("li", { class: undone ? "undone" : "" },
      h("p", {}, h("b", {}, entryWords(entry, this.found)), undone ? h("span", { class: "tag plain" }, "taken back") : null),
      comment || note ? h("blockquote", {}, comment || note) : null,
      h("p", { class: "by" }, h("span", {}, entry.reader ?? "The desk"), h("time", { datetime: entry.at }, timeText(entry.at)), h("code", { title: `sha256 ${entry.hash}` }, `${entry.entry} · ${entry.hash.slice(0, 8)}`),
        undoable && !undone ? h("button", { type: "button", class: "quiet", onclick: () => this.onUndo(entry) }, "Undo") : null));
  }
}

// "Corrected to Grade group 3 (4 + 3)"
export function entryWords({ action, payload = {} }, { classes, labels, label }) {
  const what = sentence(actionWords(action));
  if (action === "accept") return `${what}: ${label}`;
  if (action === "correct") return `${what} to ${gradeWords(payload.grade, classes, labels)}${payload.gleason ? ` (${payload.gleason.primary} + ${payload.gleason.secondary})` : ""}`;
  if (payload.reason) return `${what}: ${payload.reason}`;
  if (action.startsWith("region") && payload.class) return `${what}: ${payload.class}`;
  if (action === "undo") return `${what} entry ${payload.undoes}`;
  return what;
}

// The reader's own last decision that still stands; null where there is none.
export function lastOwn(entries, fullName) {
  const undone = new Set(entries.filter((entry) => entry.action === "undo").map((entry) => entry.payload?.undoes));
  const decided = entries.filter((entry) => ["accept", "correct", "reject", "second_look"].includes(entry.action) && !undone.has(entry.entry));
  return decided.at(-1)?.reader === fullName ? decided.at(-1) : null;
}
