// Regions of a case: the form for one that was just drawn, the list of those that are saved, and their shapes on the slide.

import { DeskError, remove } from "./api.js";
import { keep, kept, prefer, preferred } from "./drafts.js";
import { fill, h, svg } from "./dom.js";
import { icon } from "./icons.js";
import { deliver } from "./outbox.js";
import { pathOf } from "./overlay.js";
import { areaText, sentence } from "./words.js";

const PATTERN_CLASSES = ["Benign", "Gleason 3", "Gleason 4", "Gleason 5", "Artefact"];
const COLOURS = 7;

export class Regions {
  constructor({ caseId, pane, drawing, model, regions, say, mayWrite, onChange }) {
    Object.assign(this, { caseId, pane, drawing, regions, say, mayWrite, onChange });
    this.classes = classesOf(model);
    this.layer = pane.overlay.layer("regions");
    this.form = h("form", { class: "region-form", hidden: true, onsubmit: (event) => { event.preventDefault(); this.save(); } });
    this.list = h("ul", { class: "region-list" });
    this.empty = h("p", { class: "note" }, "None yet. Draw with P (polygon), R (rectangle) or D (point).");
    this.root = h("section", { class: "block regions", "aria-labelledby": "regions-head" }, h("h2", { id: "regions-head" }, "Regions"), this.form, this.list, this.empty);
    this.show();
  }

  // After a shape was closed: ask for its class.
  ask(draft = {}) {
    const chosen = draft.class ?? preferred("region.class", this.classes[0]);
    this.choices = this.classes.map((name, at) => h("label", { class: `choice colour-${at % COLOURS}` },
      h("input", { type: "radio", name: "region-class", value: name, checked: name === chosen, onchange: () => this.remember() }), h("span", {}, name)));
    this.other = h("input", { type: "text", maxlength: 60, placeholder: "another class", "aria-label": "Another class", value: this.classes.includes(chosen) ? "" : chosen, oninput: () => this.remember() });
    this.note = h("input", { type: "text", maxlength: 500, placeholder: "Note (optional)", "aria-label": "Note", value: draft.note ?? "", oninput: () => this.remember() });
    fill(this.form, h("fieldset", {}, h("legend", {}, `${sentence(this.drawing.tool)} of`), h("div", { class: "choices" }, ...this.choices, this.other)), this.note,
      h("div", { class: "buttons" }, h("button", { class: "primary" }, "Save region"), h("button", { type: "button", class: "plain", onclick: () => this.discard() }, "Discard")));
    this.form.hidden = false;
    this.remember();
    (this.choices.find((one) => one.firstChild.checked)?.firstChild ?? this.other).focus();
  }

  remember() {
    const { tool, points } = this.drawing;
    if (this.drawing.closed) keep(`region.${this.caseId}`, { tool, points, class: this.chosenClass(), note: this.note.value });
  }

  recall() {
    const draft = kept(`region.${this.caseId}`);
    if (!draft) return;
    this.drawing.restore(draft);
    this.ask(draft);
  }

  chosenClass() {
    return this.other.value.trim() || this.form.querySelector("input[type=radio]:checked")?.value || "";
  }

  async save() {
    const body = { geometry: this.drawing.geometry(), kind: this.drawing.tool, class: this.chosenClass() };
    if (!body.class) return this.say("Choose what the region shows.", "warn");
    if (this.note.value.trim()) body.note = this.note.value.trim();
    prefer("region.class", body.class);
    try {
      const saved = await deliver(`/api/cases/${this.caseId}/regions`, body);
      this.regions.push({ ...body, mine: true, region_id: saved?.region_id, waits: !saved });
      this.done();
      this.say(saved ? `Region saved: ${body.class}.` : "The desk does not answer. The region is kept here and will be sent.", saved ? "good" : "warn");
      this.onChange();
    } catch (error) {
      this.say(error.message, "warn");
    }
  }

  discard() {
    this.done();
    this.say("Drawing discarded.");
  }

  done() {
    keep(`region.${this.caseId}`, null);
    this.form.hidden = true;
    this.drawing.clear();
    this.drawing.choose("pan");
    this.show();
    this.pane.viewer.canvas.focus();
  }

  async drop(region) {
    try {
      await remove(`/api/cases/${this.caseId}/regions/${region.region_id}`);
      this.regions = this.regions.filter((one) => one !== region);
      this.show();
      this.say("Region removed; the trail keeps it.");
      this.onChange();
    } catch (error) {
      if (!(error instanceof DeskError)) throw error;
      this.say(error.message, "warn");
    }
  }

  show() {
    this.empty.hidden = this.regions.length > 0;
    fill(this.list, ...this.regions.map((region) => this.line(region)));
    fill(this.layer, ...this.regions.map((region) => this.shape(region)));
  }

  line(region) {
    const size = region.geometry.type === "Point" ? "point" : areaText(areaOf(region.geometry) * this.pane.slide.mpp[0] * this.pane.slide.mpp[1]);
    return h("li", { class: this.colour(region) },
      h("button", { type: "button", class: "go", onclick: () => this.pane.goTo(boxOf(region.geometry), 0.5), title: "Go to the region" }, h("b", {}, region.class), h("span", {}, region.waits ? "waits to be sent" : size), region.note ? h("em", {}, region.note) : null),
      this.mayWrite() && region.region_id && region.mine ? h("button", { type: "button", class: "quiet", "aria-label": `Remove region ${region.class}`, title: "Remove", onclick: () => this.drop(region) }, icon("remove")) : null);
  }

  shape(region) {
    const [x, y] = region.geometry.coordinates;
    const title = svg("title", {}, region.class);
    if (region.geometry.type !== "Point") return svg("path", { class: this.colour(region), d: pathOf(region.geometry) }, title);
    const side = 12 / this.pane.slide.mpp[0];
    return svg("path", { class: `point ${this.colour(region)}`, d: `M${x - side} ${y}h${2 * side}M${x} ${y - side}v${2 * side}` }, title);
  }

  colour(region) {
    const at = this.classes.indexOf(region.class);
    return `colour-${(at < 0 ? COLOURS - 1 : at) % COLOURS}`;
  }
}

// Where the model gives grade groups, a region shows a pattern, not a group.
export function classesOf({ classes, labels }) {
  return labels[0]?.startsWith("Grade group") ? PATTERN_CLASSES : [...new Set([...labels.slice(0, 5), "Artefact"])].slice(0, Math.max(classes.length + 1, 2));
}

export function boxOf({ type, coordinates }) {
  const points = type === "Point" ? [coordinates] : coordinates[0];
  const [xs, ys] = [points.map((at) => at[0]), points.map((at) => at[1])];
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, w: Math.max(Math.max(...xs) - x, 200), h: Math.max(Math.max(...ys) - y, 200) };
}

export function areaOf({ coordinates: [ring] }) {
  const twice = ring.slice(1).reduce((sum, [x, y], at) => sum + ring[at][0] * y - x * ring[at][1], 0);
  return Math.abs(twice) / 2;
}
