// Where a slide's tiles are, as OpenSeadragon asks for them. The map over a slide has the same shape with other addresses.

export function slideSource(caseId, slide) {
  return pyramid(slide, (level, x, y) => `/api/cases/${caseId}/tiles/${level}/${x}_${y}.jpg?v=${slide.version}`);
}

// The addresses of the tiles of one level that lie over the whole slide: what is fetched ahead for the next case.
export function levelThatFits(slide, widthPx) {
  const levels = [...slide.levels].sort((a, b) => a.width - b.width);
  return levels.find((level) => level.width >= widthPx) ?? levels.at(-1);
}

export function pyramid(slide, getTileUrl) {
  const levels = [...slide.levels].sort((a, b) => a.level - b.level);
  const scale = new Map(levels.map((one) => [one.level, levelScale(one, slide)]));
  const sides = new Map(levels.map((one) => [one.level, one.tile_size ?? slide.tile_size]));
  return {
    width: slide.width,
    height: slide.height,
    tileSize: slide.tile_size,
    tileOverlap: slide.overlap ?? 0,
    minLevel: levels[0].level,
    maxLevel: levels.at(-1).level,
    getLevelScale: (level) => scale.get(level) ?? 0,
    getTileWidth: (level) => sides.get(level),
    getTileHeight: (level) => sides.get(level),
    getTileUrl,
  };
}

// A level that was halved k times stands for exactly 2^k pixels each, whatever its rounded width says.
function levelScale(level, slide) {
  if (level.downsample) return 1 / level.downsample;
  const ratio = slide.width / level.width;
  const halvings = Math.round(Math.log2(ratio));
  return Math.ceil(slide.width / 2 ** halvings) === level.width ? 1 / 2 ** halvings : level.width / slide.width;
}
