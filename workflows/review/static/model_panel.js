// What the model says of the slide: its grade, how sure it is of every class, its set, and why the case has its place.

import { h } from "./dom.js";
import { chance, count, flagWords, percent, unbroken } from "./words.js";

export function modelPanel(found, model) {
  const held = new Set(found.set?.held ?? []);
  return h("section", { class: "block model", "aria-labelledby": "model-head" },
    h("h2", { id: "model-head" }, "The model says"),
    h("div", { class: "verdict" }, h("p", { class: "big" }, unbroken(found.label)),
      h("p", {}, h("b", {}, chance(found.confidence)), " ", found.calibrated ? tag("good", "calibrated", model.calibration) : tag("warn", "not calibrated", model.calibration))),
    chances(found, held),
    found.set
      ? h("p", { class: "set" }, h("span", { class: "swatch" }), `Set ${found.set_text.replace(/ at .*/, "")}`, h("span", { class: "soft" }, ` · holds the truth in ${percent(found.set.coverage)} of slides`))
      : h("p", { class: "set soft" }, "The model has no sets."),
    h("p", { class: "reason" }, found.reason),
    flagTags(found),
    h("details", { class: "about" }, h("summary", {}, "How far to trust this"), h("p", {}, model.calibration), h("p", {}, model.sets), ...model.limits.map((limit) => h("p", {}, limit)), h("p", { class: "soft" }, `Model ${model.id}.`)));
}

function chances({ classes, labels, probabilities, predicted }, held) {
  return h("table", { class: "chances" }, h("caption", { class: "hidden" }, "Probability of each class"),
    h("tbody", {}, ...classes.map((name, at) => h("tr", { class: [name === predicted && "chosen", held.has(name) && "held"].filter(Boolean).join(" ") },
      h("th", { scope: "row" }, labels[at].replace("Grade group", "Group")), h("td", { class: "bar" }, h("span", { style: { width: `${100 * probabilities[at]}%` } })),
      h("td", { class: "num" }, chance(probabilities[at]))))));
}

function flagTags({ flags, bad_tiles: badTiles }) {
  const told = flags.filter((flag) => !["uncertain", "wide_set"].includes(flag));
  if (!told.length) return null;
  return h("p", { class: "flags" }, ...told.map((flag) => tag("warn", flag === "unreadable_tiles" ? `${count(badTiles)} unreadable ${badTiles === 1 ? "tile" : "tiles"}` : flagWords(flag))));
}

export const tag = (kind, text, title) => h("span", { class: `tag ${kind}`, title: title || null }, text);
