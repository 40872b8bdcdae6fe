// Keys for what a reader does hundreds of times, and the sheet that lists them.

import { h } from "./dom.js";

const bound = new Map();
const sheet = h("dialog", { class: "keys", "aria-label": "Keys" });
const held = new Set();

// bind("a", {words: "Accept the grade", group: "Decide", run, release}); `release(heldMs)` where a key can be held.
export function bind(key, action) {
  bound.set(key, action);
}

// What the next case binds anew, or has no use for.
export function unbind() {
  for (const key of bound.keys()) if (key !== "?") bound.delete(key);
}

export function listen() {
  document.body.append(sheet);
  sheet.addEventListener("click", (event) => event.target === sheet && sheet.close());
  bind("?", { words: "This sheet", group: "Keys", run: showKeys });
  addEventListener("keydown", press);
  addEventListener("keyup", (event) => {
    const action = held.delete(name(event)) && bound.get(name(event));
    if (action?.release) action.release(event.timeStamp - action.since);
  });
}

// A single letter stays a letter where somebody types, and belongs to the browser with Ctrl, Alt or Cmd.
function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented || typing(event.target) || sheet.open) return;
  const action = bound.get(name(event));
  if (!action || (event.target.matches?.("button, a, summary, input, select") && ["Enter", " "].includes(event.key))) return;
  if (event.target.matches?.("input, select") && event.key.startsWith("Arrow")) return;
  if (event.repeat && !action.repeats) return event.preventDefault();
  held.add(name(event));
  action.since = event.timeStamp;
  if (action.run(event) !== false) event.preventDefault();
}

const name = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

function typing(target) {
  if (target.isContentEditable || target.matches?.("textarea, select")) return true;
  return Boolean(target.matches?.("input") && !["checkbox", "radio", "range", "button"].includes(target.type));
}

export function showKeys() {
  const groups = Map.groupBy ? Map.groupBy(bound, ([, action]) => action.group) : groupBy(bound);
  sheet.replaceChildren(
    h("form", { method: "dialog" }, h("h2", {}, "Keys"), h("button", { class: "quiet", "aria-label": "Close" }, "Close")),
    h("div", { class: "groups" }, ...[...groups].filter(([group]) => group).map(([group, rows]) => h("section", {}, h("h3", {}, group),
      h("dl", {}, ...rows.flatMap(([key, { words }]) => [h("dt", {}, h("kbd", {}, NAMES[key] ?? key.toUpperCase())), h("dd", {}, words)]))))),
  );
  sheet.showModal();
}

function groupBy(entries) {
  const groups = new Map();
  for (const entry of entries) groups.set(entry[1].group, [...(groups.get(entry[1].group) ?? []), entry]);
  return groups;
}

const NAMES = { ArrowLeft: "← ↑ → ↓", ArrowDown: "↓", ArrowUp: "↑", Enter: "Enter", Escape: "Esc", Backspace: "⌫", " ": "Space" };
