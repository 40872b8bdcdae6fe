// Two slides of one patient side by side. Locked, they move in step: the same distance in um, the same magnification and turn.

import { get } from "./api.js";
import { h } from "./dom.js";
import { HeatLayer } from "./heat_layer.js";
import { icon } from "./icons.js";
import { Marks } from "./marks.js";
import { Pane } from "./pane.js";

export class Compare {
  constructor({ host, pane, heatCard, say }) {
    Object.assign(this, { host, first: pane, heatCard, say, second: null, locked: false, leading: null });
  }

  get on() {
    return this.second !== null;
  }

  async open({ case_id: caseId, slide_id: slideId }) {
    this.close();
    const [slide, maps] = await Promise.all([get(`/api/cases/${caseId}/slide`), get(`/api/cases/${caseId}/maps`)]);
    if (!slide.available) return this.say(slide.message ?? "That slide is not there.", "warn");
    const pane = new Pane(caseId, slide, `Slide ${slideId}`);
    this.lockButton = h("button", { type: "button", class: "lock", "aria-pressed": "false", onclick: () => this.lock(!this.locked), title: "Move both in step (K)" }, icon("lock"), h("span", {}, "In step"));
    pane.root.append(h("div", { class: "pane-head" }, h("b", {}, slideId), this.lockButton, h("button", { type: "button", onclick: () => this.close(), "aria-label": "Close the second slide" }, icon("close"))));
    this.first.root.after(pane.root);
    this.host.classList.add("two");
    await pane.open();
    pane.fit();
    this.second = pane;
    pane.marks = new Marks(pane.overlay, maps);
    this.dropLayer = this.heatCard?.addLayer(new HeatLayer(pane.viewer, caseId, slide), maps.maps);
    for (const one of [this.first, pane]) {
      const leads = () => { this.leading = one; };
      for (const event of ["canvas-press", "canvas-scroll", "canvas-pinch", "canvas-double-click", "canvas-enter", "navigator-click", "navigator-drag"]) one.viewer.addHandler(event, leads);
      one.onMove(() => this.follow(one));
    }
    this.first.fit();
    this.lock(true);
  }

  lock(locked) {
    if (!this.on) return;
    this.locked = locked;
    this.lockButton.setAttribute("aria-pressed", String(locked));
    const [a, b] = [centreUm(this.first), centreUm(this.second)];
    this.apart = { x: b.x - a.x, y: b.y - a.y, turn: turnOf(this.second) - turnOf(this.first) };
    if (locked) this.follow(this.first, true);
  }

  follow(one, forced = false) {
    if (!this.locked || (!forced && this.leading !== null && one !== this.leading) || (this.leading === null && one !== this.first)) return;
    const other = one === this.first ? this.second : this.first;
    if (!other?.image) return;
    const sign = one === this.first ? 1 : -1;
    const at = centreUm(one);
    const [mx, my] = other.slide.mpp;
    const centre = other.image.imageToViewportCoordinates((at.x + sign * this.apart.x) / mx, (at.y + sign * this.apart.y) / my);
    const zoom = other.image.imageToViewportZoom((one.image.viewportToImageZoom(one.viewer.viewport.getZoom(true)) * mx) / one.slide.mpp[0]);
    other.viewer.viewport.zoomTo(zoom, null, true);
    other.viewer.viewport.panTo(centre, true);
    const turn = turnOf(one) + sign * this.apart.turn;
    if (Math.abs(turnOf(other) - turn) > 1e-6) other.viewer.viewport.setRotation(turn, true);
  }

  close() {
    if (!this.on) return;
    this.dropLayer?.();
    this.second.close();
    Object.assign(this, { second: null, locked: false, leading: null });
    this.host.classList.remove("two");
  }
}

function centreUm(pane) {
  const { x, y } = pane.image.viewportToImageCoordinates(pane.viewer.viewport.getCenter(true));
  return { x: x * pane.slide.mpp[0], y: y * pane.slide.mpp[1] };
}

const turnOf = (pane) => pane.viewer.viewport.getRotation(true);
