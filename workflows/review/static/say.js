// One line to the reader, read aloud by screen readers: what was done, or what did not work.

import { fill, h } from "./dom.js";

const QUIET_S = { good: 6, warn: 12, "": 5 };
const place = h("div", { class: "toast", role: "status", "aria-live": "polite" });
let timer = 0;

export function say(text, kind = "", action = null) {
  if (!place.isConnected) document.body.append(place);
  place.dataset.kind = kind;
  fill(place, h("p", {}, text), action ? h("button", { type: "button", class: "quiet", onclick: () => { hush(); action.run(); } }, action.words) : null);
  place.classList.add("shown");
  clearTimeout(timer);
  timer = setTimeout(hush, 1000 * QUIET_S[kind]);
}

function hush() {
  place.classList.remove("shown");
}
