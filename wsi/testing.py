"""Contracts that a plug-in must keep, shipped so that its author can run them: `check_export`."""

from pathlib import Path

import numpy as np
from shapely import MultiPolygon, box

from wsi.exports import Export
from wsi.heatmap import Channel, SlideMaps
from wsi.scales import attention_scale, evidence_scale
from wsi.slide import SlideInfo
from wsi.tiles import TileSpec, tile_grid
from wsi.tissue import TissueMask


def example_maps(
    *,
    mpp: tuple[float, float] = (0.2457, 0.2457),
    size_px0: tuple[int, int] = (6000, 4000),
    bounds_px0: tuple[int, int, int, int] = (700, 300, 4500, 3200),
    spec: TileSpec | None = None,
    marked_px0: tuple[float, float] = (2345.0, 1234.0),
    unscored: int = 1,
    slide_id: str = "example",
) -> SlideMaps:
    """Maps of a slide that is all tissue within its bounds, of two classes, with one place marked.

    Tiles over `marked_px0` have evidence 1 for the second class and ten times the attention of the others, which have
    evidence 0. The last `unscored` tiles have no score.
    """
    x, y, w, h = bounds_px0
    info = SlideInfo(slide_id, "array", "png", (size_px0,), (1.0,), mpp, "user", None, bounds_px0, "0" * 64)
    tissue = TissueMask(np.ones((8, 8), bool), (w / 8, h / 8), (x, y), mpp)
    grid = tile_grid(info, tissue, spec or TileSpec(64, 0.5, 64))
    rows = np.arange(len(grid) - unscored)
    offset = np.array(marked_px0) - grid.coords[rows]
    marked = ((offset >= 0) & (offset < grid.side_px0)).all(axis=1)
    attention = np.where(marked, 10.0, 1.0)
    evidence = np.stack([1.0 - marked, marked.astype(float)], axis=1)
    labels = ("benign", "tumour")
    return SlideMaps(
        info,
        grid,
        rows,
        Channel("attention", attention / attention.mean(), attention_scale()),
        tuple(Channel(name, evidence[:, k], evidence_scale(name, "probability")) for k, name in enumerate(labels)),
        labels,
        1,
        MultiPolygon([box(x, y, x + w, y + h)]),
        np.full((round(h / 8), round(w / 8), 3), 230, np.uint8),
    )


def check_export(export: Export, folder: Path) -> None:
    """Write example maps, and raise `AssertionError` where the export breaks its contract.

    It writes exactly the files that it names, leaves nothing else behind, replaces older ones, gives the same bytes
    for equal maps wherever they are written, other bytes for other scores, and takes any slide name.
    """
    maps = example_maps(slide_id='<b>&"\u00e9')
    first, second, other = (folder / name for name in ("first", "second", "other"))
    for place in (first, second, other):
        place.mkdir()
    for name in export.file_names:
        (second / name).write_bytes(b"older")
    export.write(first, maps)
    export.write(second, example_maps(slide_id='<b>&"\u00e9'))
    export.write(other, example_maps(slide_id='<b>&"\u00e9', marked_px0=(3456.0, 2345.0)))
    for place in (first, second, other):
        found = sorted(path.name for path in place.iterdir())
        assert found == sorted(export.file_names), f"expected {sorted(export.file_names)}, found {found}"
    for name in export.file_names:
        assert (first / name).stat().st_size > 0, f"{name} is empty"
        assert (first / name).read_bytes() == (second / name).read_bytes(), f"{name} differs between equal maps"
        assert (first / name).read_bytes() != (other / name).read_bytes(), f"{name} does not depend on the scores"


__all__ = ["check_export", "example_maps"]
