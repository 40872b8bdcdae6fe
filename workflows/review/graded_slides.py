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

KEPT_SLIDES = 64
"""More than the readers of a desk look at together. One of 20,000 tiles and six classes takes about 2 MB."""

Stamp = tuple[int, int]

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
    """A graded slide and its maps.

    Attributes
    ----------
    maps : dict
        By their names in addresses.
    leading : str
        The map that is shown first: what `histograde explain` measured to be the best for the model; else attention.
    folder : Path
        Of the slide in the run.
    stamp : Stamp
        Of its files.
    """

    graded: GradedSlide
    slide_maps: SlideMaps
    maps: dict[str, MapOfSlide]
    leading: str
    folder: Path
    stamp: Stamp

    @property
    def version(self) -> str:
        """Another wherever `grade` has written the slide's files anew."""
        return sha256(repr((self.graded.info.slide_id, self.stamp)).encode()).hexdigest()[:VERSION_DIGITS]


class GradedSlides:
    """The graded slides of a run, read again where `grade` has written them anew. Any thread may use it."""

    def __init__(self, run: Path):
        self._run = run
        self._model: ModelSummary | None = None
        self._kept: OrderedDict[str, KeptSlide] = OrderedDict()
        self._reading = [threading.Lock() for _ in range(16)]
        self._lock = threading.Lock()

    def known(self, slide_id: str) -> KeptSlide | None:
        """What is kept of a slide, without a look at the disk beyond its stamp."""
        with self._lock:
            if (found := self._kept.get(slide_id)) is None:
                return None
            self._kept.move_to_end(slide_id)
        return found if found.stamp == stamp_of(found.folder) else None

    def get(self, slide_id: str) -> KeptSlide:
        """A graded slide.

        Raises
        ------
        UsageError
            If the run does not hold it, or a part of it is damaged.
        """
        with self._reading[hash(slide_id) % len(self._reading)]:  # read once for all tiles of the first view
            return self.known(slide_id) or self._read(slide_id)

    def _read(self, slide_id: str) -> KeptSlide:
        folder = slide_folder(self._run, slide_id)
        stamp = stamp_of(folder)
        graded = _without_pictures(load_slide(self._run, slide_id))
        self._model = self._model or load_model(self._run)
        slide_maps = graded.maps(self._model)
        names = ["attention", *(f"evidence-{number}" for number in range(len(slide_maps.evidence)))]
        maps = {
            name: MapOfSlide(name, channel, slide_maps.heatmap(channel), _version(graded, channel))
            for name, channel in zip(names, slide_maps.channels, strict=True)
        }
        leading = "attention" if self._model.shown_map in ("", "attention") else f"evidence-{slide_maps.predicted}"
        kept = KeptSlide(graded, slide_maps, maps, leading, folder, stamp)
        with self._lock:
            self._kept[slide_id] = kept
            self._kept.move_to_end(slide_id)
            while len(self._kept) > KEPT_SLIDES:
                self._kept.popitem(last=False)
        return kept


def stamp_of(folder: Path) -> Stamp:
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


__all__ = ["GradedSlides", "KeptSlide", "MapOfSlide", "Stamp", "stamp_of"]
