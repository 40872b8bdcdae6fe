"""From a graded slide to the file it was graded from: where it lies now, and proof that it is that slide.

Files are looked for where `grade` found them (`sources.csv`), else in the folder that the desk was given. A file is
that slide if its content hash is the one in the run. It need not be read to its end for that each time: a note of size
and time of the file with the hash is kept by the feature store, and another by the desk.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from workflows.results import slide_folder
from workflows.run_sources import load_sources
from workflows.source_hash import NOTE, Stamp, remember_hash, source_stamp
from workflows.sources import SlideSource, find_slides
from wsi.errors import SlideChangedError, UsageError, VanishedSlideError
from wsi.slide import Slide, SlideInfo, hash_slide
from wsi.tile_pyramid import TilePyramid, pyramid_of

IDENTITIES = "review/identities"
"""Folder below the run for the desk's own notes."""


@dataclass(frozen=True, slots=True)
class OpenSlide:
    """A graded slide's file, open.

    Attributes
    ----------
    slide : Slide
        With the pixel size that it was graded with.
    pyramid : TilePyramid
    """

    slide: Slide
    pyramid: TilePyramid
    source: SlideSource
    stamp: Stamp

    def check(self) -> None:
        """Raise `VanishedSlideError` or `SlideChangedError` if the file is not the one that was opened any more."""
        if source_stamp(self.source) != self.stamp:
            raise SlideChangedError(f"{self.source.path.name}: the file was replaced or written to while it was open")

    def close(self) -> None:
        self.slide.close()


class SlideFiles:
    """Finds and opens the files of a run's slides.

    Parameters
    ----------
    run : Path
        The run folder.
    moved : Path, optional
        Where the slides lie now: a folder, or a list as `find_slides` takes it.
    """

    def __init__(self, run: Path, moved: Path | None = None):
        self._run, self._moved = run, moved

    @cached_property
    def _recorded(self) -> Mapping[str, SlideSource]:
        try:
            return load_sources(self._run)
        except UsageError:  # names folders of this machine; that nothing is known is what matters to a reader
            return {}

    @cached_property
    def _in_moved(self) -> Mapping[str, SlideSource]:
        """By slide_id and by the file's name: a slide may have been given its id by a list."""
        if self._moved is None:
            return {}
        try:
            found = find_slides([self._moved])
        except UsageError:  # as above
            return {}
        return {one.path.name: one for one in found} | {one.slide_id: one for one in found}

    @cached_property
    def _stores(self) -> Path | None:
        try:
            store = str(json.loads((self._run / "run.json").read_bytes())["config"]["store"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return None if "://" in store else Path(store)

    def locate(self, slide_id: str) -> SlideSource:
        """Where a slide's file is.

        Raises
        ------
        VanishedSlideError
            If it is at none of the places where it may be.
        """
        recorded = self._recorded.get(slide_id)
        if recorded is not None:
            try:
                source_stamp(recorded)
                return recorded
            except VanishedSlideError:
                pass
        names = (slide_id,) if recorded is None else (slide_id, recorded.path.name)
        for name in names:
            if (found := self._in_moved.get(name)) is not None:
                return replace(found, slide_id=slide_id)
        looked = "the place it was graded from" if recorded else "a place the run knows (it keeps no list of slides)"
        if self._moved is not None:
            looked += f" or in {self._moved.name}"
        raise VanishedSlideError(
            f"the file of slide {slide_id} is not at {looked}; start the desk with --slides and the folder it is in"
        )

    def open(self, slide_id: str, info: SlideInfo) -> OpenSlide:
        """Open a slide as it was graded, by the same reader.

        Parameters
        ----------
        info : SlideInfo
            What the run says of it.

        Raises
        ------
        VanishedSlideError, SlideChangedError, UnreadableSlideError
            If its file is away, holds another slide by now, or cannot be opened.
        """
        source = self.locate(slide_id)
        stamp = source_stamp(source)
        self._check_identity(source, stamp, info)
        slide = replace(source, mpp=None).open(reader=info.reader, content_hash=info.content_hash)
        slide.info = replace(slide.info, mpp=info.mpp, mpp_source=info.mpp_source)  # type: ignore[misc]  # as `open_slide` does
        return OpenSlide(slide, pyramid_of(slide), source, stamp)

    def _check_identity(self, source: SlideSource, stamp: Stamp, info: SlideInfo) -> None:
        """See that a file is the slide that was graded, from a note where one is, else from all of its bytes."""
        own = slide_folder(self._run, source.slide_id, IDENTITIES)
        known = {"stamp": stamp, "content_hash": info.content_hash}
        folders = [own] if self._stores is None else [own, self._stores / f"{source.slide_id}.zarr"]
        if stamp and any(_note(folder / NOTE) == known for folder in folders):
            return
        found = hash_slide(source.path)
        if found != info.content_hash:
            raise SlideChangedError(
                f"{source.path.name}: is not the slide that was graded (its content is another); grade it again, or "
                "give --slides with the folder of the slide that was"
            )
        own.mkdir(parents=True, exist_ok=True)
        remember_hash(own, found, stamp)


def _note(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


__all__ = ["OpenSlide", "SlideFiles"]
