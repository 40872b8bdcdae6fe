// What is drawn over the slide beside its map: the tissue's outline, tiles that could not be read, the tiles looked at most.

import { prefer, preferred } from "./drafts.js";
import { svg } from "./dom.js";
import { pathOf } from "./overlay.js";

export const MARKS = {
  outline: { words: "Tissue outline", key: "o" },
  bad: { words: "Unreadable tiles", key: "u" },
  tops: { words: "Most-attended tiles", key: "t" },
};

export class Marks {
  constructor(overlay, maps) {
    this.layers = { outline: overlay.layer("outline"), bad: overlay.layer("bad"), tops: overlay.layer("tops") };
    if (maps.tissue?.coordinates?.length) this.layers.outline.append(svg("path", { d: pathOf(maps.tissue) }));
    this.drawBad(maps.bad_tiles);
    this.numbers = maps.top_tiles.map((tile, at) => this.drawTop(tile, at + 1));
    for (const name of Object.keys(MARKS)) this.show(name, preferred(`marks.${name}`, true));
  }

  // One path for each reason: thousands of bad tiles are a few elements, and the reason is their tooltip.
  drawBad(tiles) {
    const paths = new Map();
    for (const { x, y, w, h, reason } of tiles) paths.set(reason, `${paths.get(reason) ?? ""}M${x} ${y}h${w}v${h}h${-w}z`);
    for (const [reason, d] of paths) this.layers.bad.append(svg("path", { d }, svg("title", {}, `Unreadable: ${reason}`)));
  }

  drawTop({ x, y, w, h }, number) {
    const mark = svg("g", { class: "top" }, svg("rect", { class: "halo", x, y, width: w, height: h }), svg("rect", { x, y, width: w, height: h }));
    mark.dataset.number = number;
    this.layers.tops.append(mark);
    return mark;
  }

  shown(name) {
    return this.layers[name].style.display !== "none";
  }

  show(name, shown) {
    this.layers[name].style.display = shown ? "" : "none";
    prefer(`marks.${name}`, shown);
  }

  light(number) {
    this.numbers.forEach((mark, at) => mark.classList.toggle("near", at + 1 === number));
  }
}
