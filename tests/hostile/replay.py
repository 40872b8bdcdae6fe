"""All that is read of one slide, damaged or not, and how it ended."""

import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from wsi.errors import TileReadError, WsiError
from wsi.overview import read_overview
from wsi.slide import Slide, SlideInfo, open_slide, thumbnail
from wsi.tiles import TileReader, TileSpec, tile_grid
from wsi.tissue import TissueMask

MOST_TILES = 64
MOST_PLACES = 4096


def read_slide(path: Path, reader: str | None, mpp: tuple[float, float] | None) -> tuple[str, list[str]]:
    """Open a slide and read from it in every way there is.

    Parameters
    ----------
    mpp : (x, y), optional
        Used where the slide has none that can be.

    Returns
    -------
    outcome : str
        "pixels" if all could be read, "bad tiles" if some could not, or the name of the error that refused the slide.
    said : list of str
        Every message of an error or a bad tile.

    Raises
    ------
    Exception
        Whatever is no `WsiError`, and `AssertionError` for pixels or a description that cannot be.
    """
    said: list[str] = []
    try:
        with closing(open_slide(path, reader=reader, fallback_mpp=mpp)) as slide:
            check_info(slide.info)
            for read in (read_tiles, read_levels, read_pictures):
                said += read(slide)
    except WsiError as error:
        return type(error).__name__, [*said, str(error)]
    return ("bad tiles" if said else "pixels"), said


def check_info(info: SlideInfo) -> None:
    """What a slide says of itself can be, as far as code relies on it."""
    assert all(w > 0 and h > 0 for w, h in info.level_sizes_px), info.level_sizes_px
    assert len(info.downsamples) == len(info.level_sizes_px)
    assert info.downsamples[0] == 1, info.downsamples
    x, y, w, h = info.bounds_px0
    assert 0 <= x < x + w <= info.size_px0[0], info.bounds_px0
    assert 0 <= y < y + h <= info.size_px0[1], info.bounds_px0
    assert info.objective_power is None or math.isfinite(info.objective_power), info.objective_power


def read_tiles(slide: Slide) -> Iterator[str]:
    """A grid over all of the slide, and the pixels of its first tiles."""
    mpp = slide.info.require_mpp()
    w, h = slide.info.size_px0
    coarser = max(1.0, (w * h / 64**2 / MOST_PLACES) ** 0.5)
    mask = TissueMask(np.ones((1, 1), bool), (float(w), float(h)), (0, 0), mpp)
    grid = tile_grid(slide.info, mask, TileSpec(64, min(20.0, mpp[0] * coarser), 64))
    rows = np.arange(min(len(grid), MOST_TILES))
    batch = TileReader(slide, grid).read(rows)
    assert batch.pixels.shape == (len(batch.rows), 64, 64, 3), batch.pixels.shape
    assert batch.pixels.dtype == np.uint8
    assert sorted([*batch.rows.tolist(), *(one.row for one in batch.bad)]) == rows.tolist()
    yield from (one.reason for one in batch.bad)


def read_levels(slide: Slide) -> Iterator[str]:
    """A region in the middle, at the far corner and outside of each level."""
    for level, (w, h) in enumerate(slide.info.level_sizes_px):
        for place in ((w // 3, h // 3), (w - 30, h - 30), (-20, h + 5)):
            location_px0 = slide.info.level_location(level, place)
            try:
                region = slide.read_region(location_px0, level, (96, 80))
            except TileReadError as error:
                yield str(error)
                continue
            assert region.shape == (80, 96, 3), region.shape
            assert region.dtype == np.uint8


def read_pictures(slide: Slide) -> Iterator[str]:
    """The overview, a thumbnail, and the pictures beside the pyramid."""
    overview = read_overview(slide)
    assert overview.pixels.shape == (*overview.readable.shape, 3), overview.pixels.shape
    if not overview.readable.all():
        yield f"{overview.unreadable_share:.0%} of the overview is unreadable"
    try:
        small = thumbnail(slide, 100)
        assert small.ndim == 3, small.shape
        assert max(small.shape[:2]) <= 100, small.shape
    except TileReadError as error:
        yield str(error)
    for name in slide.associated_images:
        try:
            picture = slide.associated_images[name]
        except TileReadError as error:
            yield str(error)
            continue
        assert picture.dtype == np.uint8, picture.dtype
        assert picture.ndim == 3, picture.shape
        assert picture.shape[2] == 3, picture.shape
