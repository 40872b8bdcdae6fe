// The map over a slide. Its tiles come as grey values with an alpha; they are coloured here, so that threshold, opacity and
// colours change at once and nothing is fetched again. A tile is coloured anew when it is next drawn.

import { heatTable, paint } from "./heat_colours.js";
import { pyramid } from "./slide_source.js";

export class HeatLayer {
  constructor(viewer, caseId, slide) {
    Object.assign(this, { viewer, caseId, slide, item: null, map: null, look: { opacity: 0.75, threshold: 0 }, shown: true, turn: 0 });
    this.table = new Uint32Array(256);
    this.stamp = 0;
    viewer.addHandler("tile-drawing", (event) => this.colour(event));
    keepOutOf(viewer.navigator);
  }

  // map: one of the maps of the case, or null for none.
  choose(map) {
    const turn = (this.turn += 1);
    this.map = map;
    if (!map) return this.drop();
    this.restyle();
    this.viewer.addTiledImage({
      tileSource: { ...pyramid(this.slide, (level, x, y) => this.url(map, level, x, y)), heat: true, hasTransparency: () => true, ...LOADING(this) },
      opacity: this.shown ? 1 : 0,
      success: ({ item }) => {
        if (turn !== this.turn) return this.viewer.world.removeItem(item);
        this.drop();
        this.item = item;
      },
    });
  }

  url(map, level, x, y) {
    return `/api/cases/${this.caseId}/maps/${encodeURIComponent(map.name)}/${level}/${x}_${y}.png?v=${map.version}`;
  }

  drop() {
    if (this.item && this.viewer.world.getIndexOfItem(this.item) >= 0) this.viewer.world.removeItem(this.item);
    this.item = null;
  }

  setLook(look) {
    this.look = look;
    this.restyle();
    this.viewer.forceRedraw();
  }

  setShown(shown) {
    this.shown = shown;
    this.item?.setOpacity(shown ? 1 : 0);
  }

  restyle() {
    if (!this.map) return;
    this.table = heatTable(this.map.legend, this.look);
    this.stamp += 1;
  }

  colour({ tiledImage, context, rendered }) {
    context.imageSmoothingEnabled = !tiledImage.source.heat;
    if (!rendered?.heat || rendered.heat.stamp === this.stamp) return;
    repaint(rendered, this);
  }
}

// The overview shows the slide alone: OpenSeadragon would draw the map there as well, in colours that do not follow.
function keepOutOf(navigator) {
  const add = navigator.addTiledImage;
  navigator.addTiledImage = (options) => (options.tileSource.heat ? undefined : add.call(navigator, options));
}

// How OpenSeadragon gets a tile of the map: the grey values stay beside the canvas that shows them.
const LOADING = (layer) => ({
  downloadTileStart(job) {
    const stop = new AbortController();
    job.userData.stop = stop;
    greyTile(job.src, stop.signal).then(
      (context) => {
        repaint(context, layer);
        job.finish(context, null, "context2d");
      },
      (error) => error.name === "AbortError" || job.fail(String(error), null),
    );
  },
  downloadTileAbort: (job) => job.userData.stop?.abort(),
});

export async function greyTile(url, signal) {
  const answer = await fetch(url, { signal, credentials: "same-origin" });
  if (!answer.ok) throw new Error(`the map's tile answered ${answer.status}`);
  const bitmap = await createImageBitmap(await answer.blob(), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const grey = new Uint8Array(data.length / 4);
  const shown = new Uint8Array(data.length / 4);
  for (let at = 0; at < grey.length; at += 1) {
    grey[at] = data[4 * at];
    shown[at] = data[4 * at + 3];
  }
  context.heat = { grey, shown, stamp: -1 };
  return context;
}

export function repaint(context, { table, stamp }) {
  const { canvas, heat } = context;
  const image = context.createImageData(canvas.width, canvas.height);
  paint(new Uint32Array(image.data.buffer), heat.grey, heat.shown, table);
  context.putImageData(image, 0, 0);
  heat.stamp = stamp;
}
