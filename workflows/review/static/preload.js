// The next case, fetched while this one is read: what it says, where its tiles are, and the tiles of its first view.

import { get } from "./api.js";
import { levelThatFits } from "./slide_source.js";

const MOST_TILES = 40;
const fetched = new Map();

// What a page needs before it can show a slide. Slide and maps of a case do not change while the page is open.
export function loadSlide(caseId) {
  if (!fetched.has(caseId)) {
    const both = Promise.all([get(`/api/cases/${caseId}/slide`), get(`/api/cases/${caseId}/maps`)]);
    both.catch(() => fetched.delete(caseId));
    fetched.set(caseId, both);
    if (fetched.size > 4) fetched.delete(fetched.keys().next().value);
  }
  return fetched.get(caseId);
}

export async function preload(caseId, widthPx) {
  try {
    const [slide, maps] = await loadSlide(caseId);
    if (!slide.available) return;
    const urls = maps.top_tiles.map((tile) => tile.url);
    const level = levelThatFits(slide, widthPx);
    const side = level.tile_size ?? slide.tile_size;
    for (let y = 0; y * side < level.height; y += 1) {
      for (let x = 0; x * side < level.width; x += 1) urls.push(`/api/cases/${caseId}/tiles/${level.level}/${x}_${y}.jpg?v=${slide.version}`);
    }
    for (const url of urls.slice(0, MOST_TILES)) await fetch(url, { priority: "low", credentials: "same-origin" });
  } catch {
    // Only a head start: the case itself will say what is wrong.
  }
}
