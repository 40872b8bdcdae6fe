"""The pixels under the page: open slides, maps, and what was made of them, in bounded memory and few open files."""

import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import simplejpeg

from workflows.review.graded_slides import VERSION_DIGITS, GradedSlides, KeptSlide, Stamp, stamp_of
from workflows.review.shared_answers import SharedAnswers
from workflows.review.shelf import ShelfFullError, SlideShelf
from workflows.review.slide_files import OpenSlide, SlideFiles
from wsi.errors import WsiError
from wsi.heat_tiles import heat_png
from wsi.slide import SlideInfo
from wsi.stored_jpeg import stored_jpeg
from wsi.tile_pyramid import TILE_PX, PyramidTile, TilePyramid, read_tile

OPEN_SLIDES = 64
"""More than the readers of a desk look at together: to open a slide takes as long as fifty of its tiles."""

CACHE_BYTES = 256 << 20
"""About 15,000 tiles, of which a reader sees some 500 on a slide."""

JPEG_QUALITY = 90
PIXELS_VERSION = 1
"""To be raised when tiles of the same slide come out with other bytes: browsers keep them for a year."""


class Pixels:
    """All that the routes of pixels share; a desk has one.

    Parameters
    ----------
    run : Path
        The run folder.
    moved : Path, optional
        Where the slides lie now.
    """

    def __init__(
        self, run: Path, moved: Path | None = None, *, open_slides: int = OPEN_SLIDES, cache_bytes: int = CACHE_BYTES
    ):
        self.run = run
        self.graded = GradedSlides(run)
        self.files = SlideFiles(run, moved)
        self.shelf: SlideShelf[OpenSlide] = SlideShelf(self._open, open_slides)
        self.answers = SharedAnswers(cache_bytes, threads=min(open_slides, 2 + (os.cpu_count() or 1)))
        self.slide_ids: dict[int, str] = {}
        self._cuts: dict[str, Cut] = {}

    def _open(self, slide_id: str) -> OpenSlide:
        return self.files.open(slide_id, self.graded.get(slide_id).graded.info)

    def slide_tile(self, slide_id: str, tile: PyramidTile) -> bytes:
        """A tile of a slide as JPEG.

        Raises
        ------
        UsageError
            If there is no such tile.
        TileReadError, UnreadableSlideError
            If its pixels, or the slide, cannot be read.
        """
        with self.shelf.lent(slide_id) as opened:
            slide, pyramid = opened.slide, opened.pyramid
            return stored_jpeg(slide, pyramid, tile) or _jpeg(read_tile(slide, pyramid, tile))

    def map_tile(self, shown: "Shown", name: str, tile: PyramidTile) -> bytes:
        """A tile of a map as PNG; `KeyError` where the slide has no such map."""
        one = shown.kept.maps[name]
        return heat_png(one.heatmap, one.channel.scale, shown.cut.pyramid, tile)

    def cut(self, slide_id: str) -> "Cut":
        """How a slide is cut; where its file is away, how its maps are, and why it is.

        Raises
        ------
        UsageError
            If the run does not hold the slide.
        """
        kept = self.graded.get(slide_id)
        info = kept.graded.info
        try:
            with self.shelf.lent(slide_id) as opened:
                pyramid = opened.pyramid
        except (WsiError, ShelfFullError) as error:
            pyramid = TilePyramid(info.size_px0, TILE_PX)
            return Cut(slide_id, pyramid, _version(info, pyramid), kept.folder, kept.stamp, str(error))
        found = self._cuts[slide_id] = Cut(slide_id, pyramid, _version(info, pyramid), kept.folder, kept.stamp)
        return found

    def known_cut(self, slide_id: str) -> "Cut | None":
        """The same without waiting for a slide, if it was asked for before and `grade` has not written it anew."""
        found = self._cuts.get(slide_id)
        return found if found is not None and found.stamp == stamp_of(found.folder) else None

    def shown(self, slide_id: str) -> "Shown":
        """A slide with its maps; errors as of `cut`."""
        kept = self.graded.get(slide_id)
        return Shown(kept, self.known_cut(slide_id) or self.cut(slide_id))

    def known(self, slide_id: str) -> "Shown | None":
        """The same without waiting, where both are at hand."""
        cut, kept = self.known_cut(slide_id), self.graded.known(slide_id)
        return Shown(kept, cut) if cut is not None and kept is not None else None

    def label(self, slide_id: str) -> bytes:
        """The label as JPEG; `KeyError` where the slide has none."""
        with self.shelf.lent(slide_id) as opened:
            return _jpeg(opened.slide.associated_images["label"])

    def close(self) -> None:
        """Make nothing more, and close the slides."""
        self.answers.close()
        self.shelf.close()


@dataclass(frozen=True, slots=True)
class Cut:
    """How a slide is cut into tiles: little, so that it is remembered of every slide that was looked at.

    Attributes
    ----------
    slide_id : str
    pyramid : TilePyramid
        Of the slide and of its maps.
    version : str
        Another wherever any tile of the slide would be another.
    folder : Path
        The slide's in the run.
    stamp : Stamp
        What `stamp_of` said of it.
    message : str
        Why the slide's file cannot be shown; empty where it can.
    """

    slide_id: str
    pyramid: TilePyramid
    version: str
    folder: Path
    stamp: Stamp
    message: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A slide as the page sees it: what the run keeps of it, and how it is cut."""

    kept: KeptSlide
    cut: Cut

    def map_version(self, name: str) -> str:
        """Another wherever any tile of a map would be another; `KeyError` where the slide has no such map."""
        return f"{self.kept.maps[name].version}-{self.cut.pyramid.tile_px}"


def _version(info: SlideInfo, pyramid: TilePyramid) -> str:
    return sha256(f"{info.content_hash} {pyramid} {PIXELS_VERSION}".encode()).hexdigest()[:VERSION_DIGITS]


def _jpeg(pixels: np.ndarray) -> bytes:
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=JPEG_QUALITY, colorsubsampling="422"))
