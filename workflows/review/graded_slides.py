"""What the run keeps of its slides, read once and kept while it stays as it is: the desk's source of maps."""

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from workflows.gradings import ModelSummary, load_model
from workflows.results import GradedSlide, load_slide, slide_folder
from wsi.heatmap import Channel, Heatmap, SlideMaps

KEPT_SLIDES = 32
"""Slides of 100,000 tiles and six classes take about 6 MB each."""

VERSION_DIGITS = 16
NO_PICTURE = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class MapOfSlide:
    """One map of a slide.

    Attributes
    ----------
    name : str
        In addresses: "attention", "evidence-0" ...
    channel : Channel
    heatmap : Heatmap
    version : str
        Another wherever any pixel would be another.
    """

    name: str
    channel: Channel
    heatmap: Heatmap
    version: str


@dataclass(frozen=True, slots=True)
class KeptSlide:
    """A graded slide, its maps by their names in addresses, and its folder in the run with a version of its files."""

    graded: GradedSlide
    slide_maps: SlideMaps
    maps: dict[str, MapOfSlide]
    folder: Path
    version: str


class GradedSlides:
    """The graded slides of a run, read again where `grade` has written them anew. Any thread may use it."""

    def __init__(self, run: Path):
        self._run = run
        self._model: ModelSummary | None = None
        self._kept: OrderedDict[str, tuple[tuple[int, int], KeptSlide]] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, slide_id: str) -> KeptSlide | None:
        """What is kept of a slide, without a look at the disk beyond its stamp."""
        with self._lock:
            if (found := self._kept.get(slide_id)) is None:
                return None
            self._kept.move_to_end(slide_id)
        return found[1] if found[0] == _stamp(found[1].folder) else None

    def get(self, slide_id: str) -> KeptSlide:
        """A graded slide.

        Raises
        ------
        UsageError
            If the run does not hold it, or a part of it is damaged.
        """
        if (kept := self.known(slide_id)) is not None:
            return kept
        folder = slide_folder(self._run, slide_id)
        stamp = _stamp(folder)
        graded = _without_pictures(load_slide(self._run, slide_id))
        self._model = self._model or load_model(self._run)
        slide_maps = graded.maps(self._model)
        names = ["attention", *(f"evidence-{number}" for number in range(len(slide_maps.evidence)))]
        maps = {
            name: MapOfSlide(name, channel, slide_maps.heatmap(channel), _version(graded, channel))
            for name, channel in zip(names, slide_maps.channels, strict=True)
        }
        version = sha256(repr((slide_id, stamp)).encode()).hexdigest()[:VERSION_DIGITS]
        kept = KeptSlide(graded, slide_maps, maps, folder, version)
        with self._lock:
            self._kept[slide_id] = stamp, kept
            self._kept.move_to_end(slide_id)
            while len(self._kept) > KEPT_SLIDES:
                self._kept.popitem(last=False)
        return kept


def _stamp(folder: Path) -> tuple[int, int]:
    """Of the file that is written last of a slide's; it is replaced where the slide is graded again."""
    try:
        found = os.stat(f"{folder}/slide.json")
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _without_pictures(graded: GradedSlide) -> GradedSlide:
    """Thumbnail and top tiles are served as the files they are, and would take ten times the memory of the rest."""
    tops = tuple(replace(top, pixels=NO_PICTURE) for top in graded.top_tiles)
    return replace(graded, thumbnail=NO_PICTURE, top_tiles=tops)


def _version(graded: GradedSlide, channel: Channel) -> str:
    """Of everything that a map's pixels depend on."""
    digest = sha256(repr((graded.info, channel.scale, graded.grid.side_px0)).encode())
    for part in (graded.grid.coords, graded.rows, channel.scores):
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:VERSION_DIGITS]


__all__ = ["GradedSlides", "KeptSlide", "MapOfSlide"]
