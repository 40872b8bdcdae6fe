// One slide on the screen: OpenSeadragon with what a microscope has beside the picture: magnification, scale bar, place.

import { find, h } from "./dom.js";
import { Overlay, placeOf } from "./overlay.js";
import { ScaleBar } from "./scalebar.js";
import { slideSource } from "./slide_source.js";
import { magnificationText } from "./words.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Pane {
  constructor(caseId, slide, title) {
    Object.assign(this, { caseId, slide, listeners: new Set() });
    this.picture = h("div", { class: "picture" });
    this.scale = new ScaleBar();
    this.times = h("output", { class: "times", title: "Magnification" });
    this.place = h("span", { class: "place" });
    this.unreadable = h("p", { class: "card unreadable", role: "status", hidden: true }, "Some of this slide cannot be read or fetched; those places stay empty.");
    this.root = h("div", { class: "pane" }, this.picture, this.unreadable,
      h("div", { class: "corner" }, this.scale.root, h("p", { class: "readout" }, this.times, this.place)));
    this.title = title;
  }

  // Once the pane is in the page: OpenSeadragon measures its element.
  open() {
    noInlineStyle();
    quieten();
    this.viewer = OpenSeadragon({
      element: this.picture, tileSources: slideSource(this.caseId, this.slide), ...SETTINGS,
      animationTime: calm.matches ? 0 : 0.5, navigatorSizeRatio: this.navigatorRatio(),
    });
    this.viewer.canvas.setAttribute("aria-label", `${this.title}: arrow keys move, plus and minus zoom`);
    this.viewer.canvas.setAttribute("role", "application");
    this.overlay = new Overlay(this.viewer);
    this.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
    this.viewer.addHandler("update-viewport", () => this.follow());
    this.viewer.addHandler("tile-load-failed", () => this.tellUnreadable());
    this.picture.addEventListener("pointermove", (event) => this.tellPlace(event));
    this.picture.addEventListener("pointerleave", () => { this.place.textContent = ""; });
    return new Promise((resolve, reject) => {
      this.viewer.addOnceHandler("open", () => resolve(this));
      this.viewer.addOnceHandler("open-failed", ({ message }) => reject(new Error(message)));
    });
  }

  navigatorRatio() {
    return find("body").clientWidth < 1000 ? 0.16 : 0.18;
  }

  get image() {
    return this.viewer.world.getItemAt(0);
  }

  // Magnification of the objective that one level-0 pixel for one screen pixel stands for.
  get power() {
    return this.slide.objective_power || 10 / this.slide.mpp[0];
  }

  get magnification() {
    return this.power * this.image.viewportToImageZoom(this.viewer.viewport.getZoom(true));
  }

  magnify(times) {
    this.viewer.viewport.zoomTo(this.image.imageToViewportZoom(times / this.power)).applyConstraints();
  }

  fit() {
    const { x, y, w, h: tall } = this.slide.bounds;
    this.viewer.viewport.fitBounds(this.image.imageToViewportRectangle(x, y, w, tall));
  }

  // Centre a rectangle of level-0 px, as wide as `share` of the pane.
  goTo({ x, y, w, h: tall }, share = 0.35) {
    const grow = (1 / share - 1) / 2;
    this.viewer.viewport.fitBounds(this.image.imageToViewportRectangle(x - grow * w, y - grow * tall, w / share, tall / share));
  }

  pan(x, y) {
    const by = new OpenSeadragon.Point(x, y).times(0.2 * this.picture.clientWidth);
    this.viewer.viewport.panBy(this.viewer.viewport.deltaPointsFromPixels(by)).applyConstraints();
  }

  zoomBy(factor) {
    this.viewer.viewport.zoomBy(factor).applyConstraints();
  }

  turn(degrees) {
    this.viewer.viewport.rotateBy(degrees);
  }

  // Level-0 px of a pointer event.
  under(event) {
    const box = this.picture.getBoundingClientRect();
    return this.image.viewerElementToImageCoordinates(new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top));
  }

  onMove(listener) {
    this.listeners.add(listener);
  }

  follow() {
    if (!this.image) return;
    const { a, c } = placeOf(this.image);
    const [x, y] = this.slide.mpp;
    const across = a * a + c * c;
    this.umPerPx = Math.hypot((a / across) * x, (c / across) * y);
    this.scale.show(this.umPerPx);
    this.times.textContent = magnificationText(this.magnification);
    this.listeners.forEach((listener) => listener(this));
  }

  tellPlace(event) {
    if (!this.image) return;
    const [x, y] = this.slide.mpp;
    const at = this.under(event);
    const um = (value) => Math.round(value).toLocaleString("en");
    this.place.textContent = `x ${um(at.x * x)}  y ${um(at.y * y)} µm`;
  }

  // Once a slide: a place that stays empty has a reason.
  tellUnreadable() {
    if (this.told) return;
    this.told = true;
    this.unreadable.hidden = false;
  }

  // What was on the screen, for the trail: centre and width in um, rotation.
  view() {
    const bounds = this.image.viewportToImageRectangle(this.viewer.viewport.getBounds(true));
    const [x, y] = this.slide.mpp;
    const round = (value) => Math.round(10 * value) / 10;
    return {
      x_um: round((bounds.x + bounds.width / 2) * x), y_um: round((bounds.y + bounds.height / 2) * y),
      magnification: Number(this.magnification.toPrecision(3)), rotation: this.viewer.viewport.getRotation(true),
    };
  }

  close() {
    this.viewer?.destroy();
    this.root.remove();
  }
}

// OpenSeadragon looks for a style element of its own and adds one where there is none, which the desk's content security
// policy forbids. An element of that name outside HTML is found, and styles nothing.
function noInlineStyle() {
  if (find("style[data-openseadragon-mobile-css]")) return;
  const stand = document.createElementNS("urn:histograde", "style");
  stand.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(stand);
}

// It also warns of every tile that arrives after its map was changed, which is no news.
function quieten() {
  OpenSeadragon.console = { ...OpenSeadragon.console, error: console.error.bind(console), assert: console.assert.bind(console), warn() {}, log() {}, debug() {}, info() {} };
}

const SETTINGS = {
  drawer: "canvas", navigatorDrawer: "canvas", showNavigationControl: false, showNavigator: true, navigatorPosition: "TOP_RIGHT",
  navigatorAutoFade: false, navigatorRotate: false, navigatorDisplayRegionColor: "#d55e00", gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  gestureSettingsTouch: { pinchRotate: false, clickToZoom: false, dblClickToZoom: true }, gestureSettingsPen: { clickToZoom: false },
  minZoomImageRatio: 0.5, maxZoomPixelRatio: 4, visibilityRatio: 0.3, zoomPerScroll: 1.35, springStiffness: 9, imageLoaderLimit: 8,
  maxImageCacheCount: 600, smoothTileEdgesMinZoom: Infinity, placeholderFillStyle: null, preserveImageSizeOnResize: true, blendTime: 0,
};
