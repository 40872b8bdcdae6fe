// The tiles the model looked at most, side by side; a click goes to the place.

import { h } from "./dom.js";
import { short } from "./words.js";

export function topTiles(tiles, { go, light }) {
  const buttons = tiles.map((tile, at) => h("button", {
    type: "button", class: "tile", title: `Go to tile ${at + 1}`,
    "aria-label": `Tile ${at + 1}, ${short(tile.attention)} times the mean attention`,
    onclick: () => go(tile), onpointerenter: () => light(at + 1), onpointerleave: () => light(0), onfocus: () => light(at + 1), onblur: () => light(0),
  }, h("img", { src: tile.url, alt: "", decoding: "async" }), h("span", { class: "pin" }, String(at + 1)),
  h("span", { class: "times-mean" }, `${short(tile.attention)}×`)));
  const caption = h("p", { class: "caption" }, h("b", {}, "Most attended"), h("span", {}, "times the mean tile"));
  return h("section", { class: "strip", "aria-label": "Most-attended tiles" }, caption, h("div", { class: "row" }, ...buttons));
}
