// The card of the map: which one, its legend with the threshold on it, its opacity, and the switch.

import { prefer, preferred } from "./drafts.js";
import { fill, h } from "./dom.js";
import { heatTable, thresholdValue } from "./heat_colours.js";
import { short } from "./words.js";

const HOLD_MS = 350;

// 0 (low) to 1 (high).
function placeOn({ low, high, log }, value) {
  return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
}

function clipped({ clips, ticks }, at, text) {
  if (!clips || (at > 0 && at < ticks.length - 1)) return text;
  return at === 0 ? `≤ ${text}` : `≥ ${text}`;
}

export class HeatCard {
  constructor(maps, layers) {
    Object.assign(this, { maps: maps.maps, layers });
    this.look = { opacity: preferred("opacity", 0.75), threshold: 0 };
    this.build(maps.default);
    this.choose(this.maps.some((map) => map.name === preferred("map", "")) ? preferred("map", "") : maps.default);
  }

  build() {
    const id = (name) => `heat-${name}`;
    this.select = h("select", { id: id("map"), onchange: () => this.choose(this.select.value) },
      ...this.maps.map((map) => h("option", { value: map.name }, map.title.replace("Evidence for Grade group", "Evidence, group"))), h("option", { value: "" }, "No map"));
    this.visible = h("input", { type: "checkbox", role: "switch", id: id("on"), checked: true, onchange: () => this.show(this.visible.checked) });
    this.ramp = h("canvas", { width: 256, height: 1, class: "ramp" });
    this.threshold = h("input", { type: "range", min: 0, max: 100, value: 0, id: id("threshold"), class: "on-ramp", oninput: () => this.restyle() });
    this.opacity = h("input", { type: "range", min: 5, max: 100, value: 100 * this.look.opacity, id: id("opacity"), oninput: () => this.restyle() });
    this.ticks = h("div", { class: "ticks", "aria-hidden": "true" });
    this.unit = h("p", { class: "unit" });
    this.thresholdText = h("output", { for: id("threshold") });
    this.opacityText = h("output", { for: id("opacity") });
    this.legend = h("div", { class: "legend" }, h("div", { class: "scale" }, this.ramp, this.threshold), this.ticks, this.unit,
      h("label", { for: id("threshold"), class: "line" }, "Hidden below", this.thresholdText),
      h("label", { for: id("opacity"), class: "line" }, "Opacity", this.opacity, this.opacityText));
    this.root = h("section", { class: "card heat", "aria-label": "Heatmap" },
      h("div", { class: "heading" }, h("label", { class: "switch", for: id("on"), title: "H; hold to peek" }, this.visible, h("span", {}, "Map")),
        h("label", { class: "hidden", for: id("map") }, "Map to show"), this.select), this.legend);
  }

  get chosen() {
    return this.maps.find((map) => map.name === this.select.value) ?? null;
  }

  // Maps of another slide of the patient follow this card.
  addLayer(layer, maps) {
    this.layers.push({ layer, maps });
    layer.setLook(this.look);
    layer.setShown(this.visible.checked);
    layer.choose(maps.find((map) => map.name === this.select.value) ?? null);
    return () => { this.layers = this.layers.filter((one) => one.layer !== layer); };
  }

  choose(name) {
    this.select.value = name;
    prefer("map", name);
    this.legend.hidden = !this.chosen;
    this.layers.forEach(({ layer, maps }) => layer.choose(maps.find((map) => map.name === name) ?? null));
    if (this.chosen) this.restyle();
  }

  chooseNext() {
    const names = [...this.maps.map((map) => map.name), ""];
    this.choose(names[(names.indexOf(this.select.value) + 1) % names.length]);
  }

  restyle() {
    this.look = { opacity: this.opacity.value / 100, threshold: this.threshold.value / 100 };
    prefer("opacity", this.look.opacity);
    this.layers.forEach(({ layer }) => layer.setLook(this.look));
    if (this.chosen) this.drawLegend(this.chosen.legend);
  }

  drawLegend(legend) {
    const image = new ImageData(256, 1);
    new Uint32Array(image.data.buffer).set(heatTable(legend, { ...this.look, threshold: this.look.threshold }));
    this.ramp.getContext("2d").putImageData(image, 0, 0);
    fill(this.ticks, ...legend.ticks.map(([value, text], at) => h("i", { style: { left: `${100 * placeOn(legend, value)}%` } }, clipped(legend, at, text))));
    this.unit.textContent = legend.unit;
    const value = short(thresholdValue(legend, this.look.threshold));
    const word = this.look.threshold === 0 ? "nothing" : legend.diverging ? `±${value}` : value;
    this.thresholdText.textContent = word;
    this.threshold.setAttribute("aria-valuetext", word);
    this.opacityText.textContent = `${this.opacity.value} %`;
  }

  nudge(input, by) {
    input.value = Number(input.value) + by;
    this.restyle();
  }

  show(shown) {
    this.visible.checked = shown;
    this.layers.forEach(({ layer }) => layer.setShown(shown));
  }

  bindKeys(bind) {
    const group = "Map";
    bind("h", { words: "Map on or off; hold to peek", group, run: () => this.show(!this.visible.checked),
      release: (heldMs) => heldMs > HOLD_MS && this.show(!this.visible.checked) });
    bind("m", { words: "Next map", group, run: () => this.chooseNext() });
    bind("]", { words: "More opaque", group, repeats: true, run: () => this.nudge(this.opacity, 5) });
    bind("[", { words: "Less opaque", group, repeats: true, run: () => this.nudge(this.opacity, -5) });
    bind(".", { words: "Hide more of the low values", group, repeats: true, run: () => this.nudge(this.threshold, 5) });
    bind(",", { words: "Hide less of them", group, repeats: true, run: () => this.nudge(this.threshold, -5) });
  }

  // For the trail: what the reader had before their eyes; the threshold in the legend's unit.
  shown() {
    const seen = this.visible.checked && this.chosen;
    if (!seen) return {};
    const { threshold, opacity } = this.look;
    return { map: seen.name, opacity, ...(threshold > 0 ? { threshold: thresholdValue(seen.legend, threshold) } : {}) };
  }
}
