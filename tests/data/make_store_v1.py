"""How `store_v1` was made, once, on the day format version 1 was settled. It must never be made again."""

import json
import sys
from pathlib import Path

import numpy as np

from mil.encoders.toy import CARD, ToyEncoder
from tests.hostile.makers import tissue_pixels
from wsi.slide import SlideInfo
from wsi.store import FeatureStore
from wsi.store_writer import begin_features, publish_grid, slide_lock
from wsi.tiles import BadTile, TileSpec, tile_grid
from wsi.tissue import TissueMask

root = Path(sys.argv[1])
info = SlideInfo(
    "v1", "openslide", "aperio", ((1600, 1200), (400, 300)), (1.0, 4.0), (0.2457, 0.2457), "aperio.MPP", 40.0,
    (100, 50, 1400, 1100), "0123456789abcdef" * 4,
)  # fmt: skip
y, x = np.mgrid[0:34, 0:43]
mask = ((x - 21) / 20) ** 2 + ((y - 17) / 15) ** 2 < 1
tissue = TissueMask(mask, (1400 / 43, 1100 / 34), (100, 50), (0.2457, 0.2457))
spec = TileSpec(tile_px=224, mpp=0.25, stride_px=112, min_tissue=0.5)
grid = tile_grid(info, tissue, spec)
tiles = np.stack([tissue_pixels(224, 224, seed) for seed in range(len(grid))])
features = ToyEncoder().encode(tiles)
recipe = {"tiles": spec.to_dict(), "tissue": {"method": "classical-1", "mpp": 8.0}}
with slide_lock(root, "v1"):
    store = publish_grid(root, info, tissue, grid, recipe, {"focus": 0.5, "note": "made up"})
    writer = begin_features(store, CARD.to_dict(), chunk_tiles=16)
    bad = [BadTile(3, "level 0: the first reason"), BadTile(20, "another reason"), BadTile(21, "another reason")]
    for chunk in writer.todo():
        rows = writer.rows(chunk)
        here = tuple(one for one in bad if one.row in rows)
        good = np.setdiff1d(rows, [one.row for one in here])
        writer.write(chunk, good, features[good], here)
    writer.publish()
good = np.setdiff1d(np.arange(len(grid)), [one.row for one in bad])
expected = {
    "content_hash": info.content_hash,
    "mpp": info.mpp,
    "recipe": recipe,
    "coords": grid.coords.tolist(),
    "tissue_area_um2": tissue.area_um2,
    "tissue_pixels": int(mask.sum()),
    "bad": [[one.row, one.reason] for one in bad],
    "features": features[good].astype(np.float16).astype(float).tolist(),
}
(root / "expected.json").write_text(json.dumps(expected) + "\n")
assert FeatureStore(store.path).verify() == []
