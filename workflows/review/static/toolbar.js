// The buttons over the slide: what a drag does, magnifications, turning, what is drawn, the label, a second slide.

import { fill, h } from "./dom.js";
import { icon } from "./icons.js";
import { MARKS } from "./marks.js";

const TOOLS = {
  pan: { words: "Move", key: "v" },
  polygon: { words: "Polygon: click corners, or drag a free hand", key: "p" },
  rectangle: { words: "Rectangle", key: "r" },
  point: { words: "Point", key: "d" },
};
const POWERS = [1, 5, 10, 20, 40];

export class Toolbar {
  constructor({ pane, drawing, marks, compare, strip, found, me, pickGrade }) {
    Object.assign(this, { pane, drawing, marks, compare, strip, found, me, pickGrade });
    this.tools = Object.entries(TOOLS).map(([name, { words, key }]) => button(name, `${words} (${key.toUpperCase()})`, () => drawing.choose(name), { "data-tool": name }));
    this.marking = Object.entries(MARKS).map(([name, { words, key }]) => button(name, `${words} (${key.toUpperCase()})`, () => this.toggleMark(name), { "data-mark": name }));
    const others = [button("rotate", "Turn by 90° (Q)", () => pane.turn(90))];
    if (me.sees_patients) others.push(this.labelButton = button("label", "Label of the slide (L): shows patient data", () => this.toggleLabel()));
    if (found.siblings.length) others.push(this.compareButton = button("compare", "Second slide of the patient beside it (B)", () => this.toggleCompare()));
    this.root = h("div", { class: "card tools", role: "toolbar", "aria-label": "Tools", "aria-orientation": "vertical" }, h("div", {}, ...this.tools), h("div", {}, ...this.marking), h("div", {}, ...others));
    this.powers = POWERS.map((times) => h("button", { type: "button", "data-times": times, onclick: () => pane.magnify(times), title: times > pane.power * 1.01 ? `Beyond the scan, which is ${pane.power}×` : null }, `${times}×`));
    this.magnifications = h("div", { class: "card powers", role: "group", "aria-label": "Magnification" }, h("button", { type: "button", onclick: () => pane.fit() }, "Fit"), ...this.powers);
    pane.onMove(() => this.tellPower());
    this.follow();
  }

  follow() {
    this.tools.forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.tool === this.drawing.tool)));
    this.marking.forEach((one) => one.setAttribute("aria-pressed", String(this.marks.shown(one.dataset.mark))));
    this.labelButton?.setAttribute("aria-pressed", String(Boolean(this.label)));
    if (this.strip) this.strip.hidden = !this.marks.shown("tops");
  }

  tellPower() {
    const now = this.pane.magnification;
    this.powers.forEach((one) => one.setAttribute("aria-pressed", String(Math.abs(now / one.dataset.times - 1) < 0.02)));
  }

  toggleMark(name) {
    this.marks.show(name, !this.marks.shown(name));
    this.follow();
  }

  toggleLabel() {
    if (!this.me.sees_patients) return;
    if (this.label) {
      this.label.remove();
      this.label = null;
    } else {
      this.label = h("figure", { class: "card label-image" }, h("img", { src: `/api/cases/${this.found.case_id}/label.jpg`, alt: "Label of the slide", onerror: () => fill(this.label, h("figcaption", {}, "The slide has no label image.")) }), h("figcaption", {}, "Label: patient data"));
      this.root.after(this.label);
    }
    this.follow();
  }

  // With several other slides each press shows the next one, then none.
  toggleCompare() {
    const others = this.found.siblings;
    const at = this.compare.on ? others.findIndex((one) => one.case_id === this.compare.second.caseId) : -1;
    if (at + 1 < others.length) this.compare.open(others[at + 1]);
    else this.compare.close();
  }

  bindKeys(bind) {
    for (const [name, { words, key }] of Object.entries(TOOLS)) bind(key, { words, group: "Draw", run: () => this.drawing.choose(name) });
    bind("Backspace", { words: "Take back the last corner", group: "Draw", repeats: true, run: () => this.drawing.takeBack() });
    bind("f", { words: "Close the polygon", group: "Draw", run: () => this.drawing.finish() });
    bind("Escape", { words: "Stop drawing", group: "Draw", run: () => { this.drawing.closed || this.drawing.clear(); this.drawing.choose("pan"); } });
    bind(" ", { words: "Hold to move while drawing", group: "Draw", run: () => { this.drawing.space = true; }, release: () => { this.drawing.space = false; } });
    for (const [name, { words, key }] of Object.entries(MARKS)) bind(key, { words, group: "Look", run: () => this.toggleMark(name) });
    bind("q", { words: "Turn by 90°", group: "Look", run: () => this.pane.turn(90) });
    bind("l", { words: "Label of the slide", group: "Look", run: () => this.toggleLabel() });
    bind("b", { words: "Second slide of the patient", group: "Look", run: () => this.found.siblings.length && this.toggleCompare() });
    bind("k", { words: "Second slide in step or free", group: "Look", run: () => this.compare.lock(!this.compare.locked) });
    this.bindMoves(bind);
  }

  bindMoves(bind) {
    const group = "Move";
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    for (const [key, [x, y]] of Object.entries(way)) bind(key, { words: "Move the slide", group: key === "ArrowLeft" ? group : "", repeats: true, run: () => this.pane.pan(x, y) });
    for (const key of ["+", "="]) bind(key, { words: "Nearer", group: key === "+" ? group : "", repeats: true, run: () => this.pane.zoomBy(1.5) });
    bind("-", { words: "Farther", group, repeats: true, run: () => this.pane.zoomBy(1 / 1.5) });
    bind("0", { words: "Whole slide; while correcting, digits are grades", group, run: () => this.digit("0", () => this.pane.fit()) });
    POWERS.forEach((times, at) => bind(String(at + 1), { words: `${times}×`, group, run: () => this.digit(String(at + 1), () => this.pane.magnify(times)) }));
  }

  digit(digit, otherwise) {
    if (!this.pickGrade?.(digit)) otherwise();
  }
}

function button(name, title, onclick, extra = {}) {
  return h("button", { type: "button", title, "aria-label": title.replace(/ \(.\)/, ""), onclick, "aria-pressed": "false", ...extra }, icon(name));
}
