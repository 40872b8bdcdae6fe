// One case as a row of the worklist.

import { h, svg } from "./dom.js";
import { tag } from "./model_panel.js";
import { STATES, chance, count, flagWords, unbroken } from "./words.js";

export function caseRow(found, model, { open }) {
  const href = `/case/${found.case_id}`;
  return h("tr", { "data-case": found.case_id, onclick: (event) => event.target.closest("a, button") || open(found, event) },
    h("td", { class: "num rank" }, count(found.rank)),
    h("td", { class: "preview" }, h("img", { src: `/api/cases/${found.case_id}/preview.jpg`, alt: "", loading: "lazy", decoding: "async" })),
    h("th", { scope: "row" }, h("a", { href }, found.slide_id), found.patient_id && found.patient_id !== found.slide_id ? h("span", { class: "patient" }, `Patient ${found.patient_id}`) : null,),
    h("td", { class: "grade" }, h("b", {}, unbroken(found.label)), h("span", { class: "p", title: found.set ? `Set ${found.set_text}` : null }, chance(found.confidence), found.set ? ` · set ${found.set_text.replace(/ at .*/, "")}` : null),
      found.calibrated ? null : tag("warn", "not calibrated")),
    h("td", { class: "bars" }, bars(found, model)),
    h("td", { class: "reason" }, found.reason, flags(found)),
    h("td", { class: "state-cell" }, h("span", { class: `state ${found.state}` }, STATES[found.state] ?? found.state), who(found)));
}

function bars({ probabilities, predicted }, { classes, labels }) {
  const words = probabilities.map((p, at) => `${labels[at]} ${chance(p)}`).join(", ");
  const pitch = 100 / Math.max(1, classes.length);
  const columns = probabilities.map((p, at) => svg("rect", { x: at * pitch + 0.12 * pitch, width: 0.76 * pitch, y: 100 - Math.max(1.5, 100 * p), height: Math.max(1.5, 100 * p), class: classes[at] === predicted ? "chosen" : "" }));
  const ticks = classes.every((name) => name.length <= 2) ? h("span", { class: "ticks", "aria-hidden": "true" }, ...classes.map((name) => h("i", {}, name))) : null;
  return h("div", { title: words }, svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": words }, ...columns), ticks);
}

// What the reason says already (uncertain, a wide set) is no tag as well.
function flags({ flags: names }) {
  const tags = names.filter((name) => !["uncertain", "wide_set"].includes(name)).map((name) => tag(name === "disagreement" ? "warn" : "plain", flagWords(name)));
  return tags.length ? h("span", { class: "flags" }, ...tags) : null;
}

function who({ claimed_by: claimedBy, claimed_by_me: mine, decisions }) {
  if (mine) return h("span", { class: "who-has" }, "open by you");
  if (claimedBy) return h("span", { class: "who-has" }, `${claimedBy} has it`);
  const last = decisions.at(-1);
  return last ? h("span", { class: "who-has" }, decisions.map((one) => one.reader).filter((name, at, all) => all.indexOf(name) === at).join(", ")) : null;
}
