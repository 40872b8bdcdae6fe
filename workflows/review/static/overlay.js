// Drawings that move with the slide: an SVG whose units are level-0 pixels.

import { svg } from "./dom.js";

export class Overlay {
  constructor(viewer) {
    this.viewer = viewer;
    this.group = svg("g");
    this.root = svg("svg", { class: "overlay", "aria-hidden": "true" }, this.group);
    viewer.canvas.append(this.root);
    for (const event of ["update-viewport", "open", "resize", "rotate"]) viewer.addHandler(event, () => this.follow());
  }

  layer(name) {
    const layer = svg("g", { class: name });
    this.group.append(layer);
    return layer;
  }

  follow() {
    const image = this.viewer.world.getItemAt(0);
    if (!image) return;
    const { a, b, c, d, e, f } = placeOf(image);
    this.group.setAttribute("transform", `matrix(${a} ${b} ${c} ${d} ${e} ${f})`);
  }
}

// Level-0 pixels to pixels of the viewer's element, as it is drawn now: x' = a x + c y + e, y' = b x + d y + f.
export function placeOf(image) {
  const { x: width, y: height } = image.getContentSize();
  const at = (x, y) => image.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
  const [origin, right, down] = [at(0, 0), at(width, 0), at(0, height)];
  return {
    a: (right.x - origin.x) / width, b: (right.y - origin.y) / width,
    c: (down.x - origin.x) / height, d: (down.y - origin.y) / height,
    e: origin.x, f: origin.y,
  };
}

// GeoJSON Polygon or MultiPolygon as an SVG path.
export function pathOf(geometry) {
  const polygons = geometry.type === "MultiPolygon" ? geometry.coordinates : [geometry.coordinates];
  return polygons.flat().map((ring) => `M${ring.map(([x, y]) => `${x} ${y}`).join("L")}Z`).join("");
}
