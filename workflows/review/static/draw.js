// Drawing on a slide: a polygon by clicks or by a free hand, a rectangle, a point. What is drawn can be changed until it is
// saved: corners are dragged, the last one taken back. Wheel, pinch and Space + drag still move the slide.

import { svg } from "./dom.js";
import { pathOf, placeOf } from "./overlay.js";

const NEAR_PX = 11;
const FREEHAND_PX = 5;

export class Drawing {
  constructor(pane, { onChange, onDone }) {
    Object.assign(this, { pane, onChange, onDone, tool: "pan", points: [], closed: false, grip: -1, moving: false, pointer: null, space: false });
    this.layer = pane.overlay.layer("drawing");
    this.shape = svg("path", { class: "shape" });
    this.line = svg("path", { class: "line" });
    this.handles = svg("g", { class: "handles" });
    this.layer.append(this.shape, this.line, this.handles);
    const { viewer } = pane;
    const handlers = { "canvas-press": "press", "canvas-drag": "drag", "canvas-release": "release", "canvas-click": "click", "canvas-double-click": "finish" };
    for (const [event, method] of Object.entries(handlers)) viewer.addHandler(event, (told) => this.active && this[method](told));
    viewer.addHandler("update-viewport", () => this.paint());
    pane.picture.addEventListener("pointermove", (event) => this.hover(event));
  }

  get active() {
    return this.tool !== "pan" && !this.space;
  }

  choose(tool) {
    if (tool !== this.tool && !this.closed) this.clear();
    this.tool = tool;
    this.pane.picture.dataset.tool = tool;
    this.onChange();
  }

  clear() {
    Object.assign(this, { points: [], closed: false, grip: -1, pointer: null });
    this.paint();
    this.onChange();
  }

  // A shape from before a reload.
  restore({ tool, points }) {
    Object.assign(this, { tool, points, closed: true });
    this.pane.picture.dataset.tool = tool;
    this.paint();
  }

  // Level-0 px of an event, within the slide: what lies outside of it cannot be part of a region.
  place({ position }) {
    const at = this.pane.image.viewerElementToImageCoordinates(position);
    const within = (value, most) => Math.min(most, Math.max(0, Math.round(10 * value) / 10));
    return [within(at.x, this.pane.slide.width), within(at.y, this.pane.slide.height)];
  }

  // The corner under a position of the viewer's element, or -1.
  gripAt({ position }) {
    const { a, b, c, d, e, f } = placeOf(this.pane.image);
    return this.corners().findIndex(([x, y]) => Math.hypot(a * x + c * y + e - position.x, b * x + d * y + f - position.y) < NEAR_PX);
  }

  corners() {
    if (this.tool !== "rectangle" || this.points.length < 2) return this.points;
    const [[x0, y0], [x1, y1]] = this.points;
    return [[x0, y0], [x1, y1], [x1, y0], [x0, y1]];
  }

  press(event) {
    this.grip = this.gripAt(event);
    this.moving = false;
    if (this.tool === "rectangle" && !this.closed && this.grip < 0) this.points = [this.place(event)];
  }

  drag(event) {
    event.preventDefaultAction = true;
    this.moving = true;
    if (this.closed && this.grip < 0) event.preventDefaultAction = false;
    else if (this.closed) this.moveCorner(this.grip, this.place(event));
    else if (this.tool === "rectangle") this.points = [this.points[0], this.place(event)];
    else if (this.tool === "polygon") this.addFreehand(event);
    this.paint();
  }

  release() {
    if (!this.moving) return;
    this.moving = false;
    if (this.closed) return this.onChange();
    if (this.tool === "rectangle" && this.points.length === 2) this.close();
    if (this.tool === "polygon" && this.freehand && this.points.length > 3) this.close();
    this.freehand = false;
  }

  click(event) {
    event.preventDefaultAction = true;
    if (!event.quick || this.closed) return;
    if (this.tool === "point") {
      this.points = [this.place(event)];
      this.close();
    } else if (this.tool === "polygon") {
      if (this.points.length > 2 && this.gripAt(event) === 0) return this.close();
      this.points.push(this.place(event));
      this.paint();
      this.onChange();
    }
  }

  finish(event) {
    if (event) event.preventDefaultAction = true;
    const [last, before] = [this.points.at(-1), this.points.at(-2)];
    if (before && last[0] === before[0] && last[1] === before[1]) this.points.pop();
    if (this.tool === "polygon" && !this.closed && this.points.length > 2) this.close();
  }

  addFreehand(event) {
    this.freehand = true;
    const at = this.place(event);
    const last = this.points.at(-1);
    const { a, b } = placeOf(this.pane.image);
    if (!last || Math.hypot(at[0] - last[0], at[1] - last[1]) * Math.hypot(a, b) > FREEHAND_PX) this.points.push(at);
  }

  moveCorner(corner, to) {
    if (this.tool !== "rectangle") {
      this.points[corner] = to;
      return;
    }
    const opposite = this.corners()[[1, 0, 3, 2][corner]];
    this.points = [opposite, to];
    this.grip = 1;
  }

  takeBack() {
    if (!this.points.length) return false;
    if (this.closed && this.tool === "polygon") this.closed = false;
    else if (this.tool === "polygon") this.points.pop();
    else this.clear();
    this.paint();
    this.onChange();
    return true;
  }

  close() {
    this.closed = true;
    this.pointer = null;
    this.paint();
    this.onDone();
  }

  hover(event) {
    if (this.tool !== "polygon" || this.closed || !this.points.length || !this.pane.image) return;
    const at = this.pane.under(event);
    this.pointer = [at.x, at.y];
    this.paint();
  }

  geometry() {
    if (!this.closed) return null;
    if (this.tool === "point") return { type: "Point", coordinates: this.points[0] };
    const ring = this.tool === "rectangle" ? ringOf(this.points) : this.points;
    return { type: "Polygon", coordinates: [[...ring, ring[0]]] };
  }

  paint() {
    if (!this.pane.image) return;
    const { a, b } = placeOf(this.pane.image);
    const unit = 1 / Math.hypot(a, b);
    const ring = this.tool === "rectangle" && this.points.length === 2 ? ringOf(this.points) : this.points;
    const solid = ring.length > 2 && (this.closed || this.tool === "rectangle" || this.freehand);
    this.shape.setAttribute("d", solid ? pathOf({ type: "Polygon", coordinates: [ring] }) : "");
    const open = !solid && ring.length && this.tool === "polygon" ? [...ring, this.pointer ?? ring.at(-1)] : [];
    this.line.setAttribute("d", open.length ? `M${open.map((at) => at.join(" ")).join("L")}` : "");
    const shown = this.freehand && !this.closed ? [] : this.corners();
    this.handles.replaceChildren(...shown.map(([x, y], at) => svg("circle", { cx: x, cy: y, r: (this.tool === "point" ? 7 : 5) * unit, class: at === 0 && !this.closed ? "first" : "" })));
  }
}

function ringOf([[x0, y0], [x1, y1]]) {
  const [left, right] = [Math.min(x0, x1), Math.max(x0, x1)];
  const [top, bottom] = [Math.min(y0, y1), Math.max(y0, y1)];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}
