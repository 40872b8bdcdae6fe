// One case on one A4 sheet: what was decided, what the model said, the slide under its map, regions, the trail's last hash.

import { get, me, toSignIn } from "./api.js";
import { preferred } from "./drafts.js";
import { fill, find, h, svg } from "./dom.js";
import { heatTable } from "./heat_colours.js";
import { greyTile, repaint } from "./heat_layer.js";
import { pathOf } from "./overlay.js";
import { areaOf } from "./regions.js";
import { roundLength } from "./scalebar.js";
import { levelThatFits } from "./slide_source.js";
import { entryWords } from "./trail.js";
import { STATES, areaText, chance, lengthText } from "./words.js";

const WIDE_PX = 1400;
const MOST_ENTRIES = 8;

async function start() {
  const caseId = Number(location.pathname.match(/^\/case\/(\d+)/)[1]);
  const [reader, run, found, slide, maps, trail] = await Promise.all([me(), get("/api/run"), ...["", "/slide", "/maps", "/trail"].map((part) => get(`/api/cases/${caseId}${part}`))]);
  const map = maps.maps.find((one) => one.name === preferred("map", maps.default)) ?? maps.maps.find((one) => one.name === maps.default);
  const picture = h("div", { class: "picture" });
  document.title = `${found.slide_id} – case sheet`;
  fill(find("#sheet"), head(found, run, reader), decisions(found, trail), h("section", { class: "two" }, model(found, run.model), regions(found, slide)),
    h("figure", {}, picture, caption(map, slide)), trailTable(found, trail), h("footer", {}, h("p", {}, h("b", {}, run.disclaimer), " Every result must be read together with the slide."),
      h("p", {}, `Printed ${stamp(new Date().toISOString())} by ${reader.full_name}; run "${run.name}", model ${run.model.id}.`)));
  await drawPicture(picture, { caseId, slide, maps, map, found });
  find("#sheet").setAttribute("aria-busy", "false");
  find("#print").disabled = false;
  find("#print").addEventListener("click", () => print());
}

const stamp = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;

function head(found, run, reader) {
  const patient = found.patient_id && reader.sees_patients ? `Patient ${found.patient_id}` : "";
  return h("header", {}, h("div", {}, h("h1", {}, found.slide_id), h("p", {}, patient)), h("p", { class: "kind" }, "histograde review", h("br"), "Case sheet"));
}

function decisions(found, trail) {
  const signed = found.decisions.map((one) => {
    const entry = trail.find(({ entry: number }) => number === one.entry);
    return h("p", {}, h("b", {}, entry ? entryWords(entry, found) : one.action), ` · ${one.reader}, ${stamp(one.at)}`, entry?.payload?.comment ? h("span", { class: "comment" }, entry.payload.comment) : null);
  });
  return h("section", { class: `decision ${found.state}` }, h("h2", {}, `Decision: ${STATES[found.state].toLowerCase()}`), ...(signed.length ? signed : [h("p", {}, "Nobody has decided yet.")]),
    found.disagreement ? h("p", {}, "The readers disagree.") : null);
}

function model(found, { calibration, sets }) {
  return h("div", {}, h("h2", {}, `The model: ${found.label} (${chance(found.confidence)}${found.calibrated ? "" : ", not calibrated"})`),
    h("table", { class: "chances" }, h("tbody", {}, ...found.classes.map((name, at) => h("tr", {}, h("th", { scope: "row" }, found.labels[at]), h("td", {}, chance(found.probabilities[at])),
      h("td", { class: "bar" }, h("span", { style: { width: `${100 * found.probabilities[at]}%` } })))))),
    h("p", {}, found.set ? `Set ${found.set_text}. ` : "The model has no sets. ", `In its place because: ${found.reason}.`), h("p", { class: "small" }, calibration, " ", sets));
}

function regions(found, slide) {
  const rows = found.regions.map((one, at) => h("tr", {}, h("td", {}, String(at + 1)), h("td", {}, one.class), h("td", {}, one.kind === "point" ? "point" : areaText(areaOf(one.geometry) * slide.mpp[0] * slide.mpp[1])), h("td", {}, one.note)));
  return h("div", {}, h("h2", {}, "Regions"), rows.length ? h("table", {}, h("tbody", {}, ...rows)) : h("p", {}, "None are marked."));
}

function caption(map, slide) {
  const ticks = map.legend.ticks.map(([, text]) => text);
  const ramp = h("canvas", { width: 256, height: 1, class: "ramp" });
  const image = new ImageData(256, 1);
  new Uint32Array(image.data.buffer).set(heatTable(map.legend, { opacity: 0.75, threshold: 0 }));
  ramp.getContext("2d").putImageData(image, 0, 0);
  return h("figcaption", {}, h("span", {}, `${map.title}, ${map.legend.unit}: ${ticks[0]} `), ramp, h("span", {}, ` ${ticks.at(-1)}`), h("span", { class: "small" }, `${slide.mpp[0]} µm/px at full resolution`));
}

function trailTable(found, trail) {
  const shown = trail.slice(-MOST_ENTRIES);
  const rows = shown.map((entry) => h("tr", {}, h("td", {}, String(entry.entry)), h("td", {}, stamp(entry.at)), h("td", {}, entry.reader), h("td", {}, entryWords(entry, found)), h("td", {}, h("code", {}, entry.hash.slice(0, 12)))));
  return h("section", {}, h("h2", {}, "Trail", shown.length < trail.length ? ` (the last ${shown.length} of ${trail.length} entries)` : ""), rows.length ? h("table", {}, h("tbody", {}, ...rows)) : h("p", {}, "Nothing has been signed."),
    trail.length ? h("p", { class: "small" }, "Last hash ", h("code", { id: "last-hash" }, trail.at(-1).hash)) : null);
}

// The thumbnail with the map over it, and what is drawn on the slide; places in level-0 px of the scanned bounds.
async function drawPicture(place, { caseId, slide, maps, map, found }) {
  const { x, y, w, h: tall } = slide.bounds;
  const scale = WIDE_PX / w;
  const canvas = h("canvas", { width: WIDE_PX, height: Math.max(1, Math.round(tall * scale)) });
  const context = canvas.getContext("2d");
  context.drawImage(await loaded(`/api/cases/${caseId}/thumbnail.jpg`), 0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  await drawMap(context, { caseId, slide, map, scale });
  const um = roundLength((w * slide.mpp[0]) / 5);
  const barWidth = um / slide.mpp[0];
  const unit = Math.max(w / 700, tall / 350);
  fill(place, canvas, svg("svg", { viewBox: `${x} ${y} ${w} ${tall}` }, svg("path", { class: "outline", d: maps.tissue ? pathOf(maps.tissue) : "" }),
    ...found.regions.map((one) => regionMark(one, unit)),
    svg("path", { class: "bar", d: `M${x + 12 * unit} ${y + tall - 10 * unit}h${barWidth}` }),
    svg("text", { x: x + 12 * unit, y: y + tall - 15 * unit, "font-size": 13 * unit }, lengthText(um))));
}

function regionMark({ geometry, class: name }, unit) {
  const [x, y] = geometry.type === "Point" ? geometry.coordinates : geometry.coordinates[0][0];
  const shape = geometry.type === "Point" ? `M${x - 6 * unit} ${y}h${12 * unit}M${x} ${y - 6 * unit}v${12 * unit}` : pathOf(geometry);
  return svg("g", { class: "region" }, svg("path", { d: shape }), svg("text", { x, y: y - 4 * unit, "font-size": 12 * unit }, name));
}

async function drawMap(context, { caseId, slide, map, scale }) {
  const level = levelThatFits(slide, WIDE_PX / 2);
  const side = slide.tile_size;
  const step = slide.width / level.width;
  const style = { table: heatTable(map.legend, { opacity: preferred("opacity", 0.75), threshold: 0 }), stamp: 0 };
  for (let row = 0; row * side < level.height; row += 1) {
    for (let column = 0; column * side < level.width; column += 1) {
      const tile = await greyTile(`/api/cases/${caseId}/maps/${map.name}/${level.level}/${column}_${row}.png?v=${map.version}`);
      repaint(tile, style);
      const { width, height } = tile.canvas;
      context.drawImage(tile.canvas, (column * side * step - slide.bounds.x) * scale, (row * side * step - slide.bounds.y) * scale, width * step * scale, height * step * scale);
    }
  }
}

function loaded(src) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("The slide's picture is not there."));
    image.src = src;
  });
}

start().catch((error) => (error.status === 401 ? toSignIn() : fill(find("#sheet"), h("p", {}, error.message))));
