"""What a slide is, and how one is opened: `SlideInfo`, the `Slide` protocol and `open_slide`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from wsi.errors import (
    MissingMppError,
    TileReadError,
    UnreachableSlideError,
    UnreadableSlideError,
    UsageError,
    WsiError,
)
from wsi.registry import Registry
from wsi.slide_url import SlideLocation, SlideUrl, slide_location
from wsi.units import check_mpp

READERS = Registry(
    "reader",
    {
        "jpeg_tiff": "wsi.readers.jpeg_tiff:JpegTiffReader",
        "openslide": "wsi.readers.openslide:OpenSlideReader",
        "tiffslide": "wsi.readers.tiffslide:TiffSlideReader",
        "array": "wsi.readers.array:ArrayReader",
    },
)
"""Tried in this order; a reader that does not know a file declines it with `UnreadableSlideError`."""

HASH_BLOCK_BYTES = 1 << 22

MAX_SIDE_PX = 1 << 22
"""Longest side of a level 0 that is believed: 20 cm at 0.05 um/px. A header that says more is damaged."""


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """Everything known about a slide without decoding pixels.

    Attributes
    ----------
    slide_id : str
        Name of the slide in every file that is made from it.
    reader, vendor : str
        Which reader opened it, and the format it saw.
    level_sizes_px : tuple of (w, h)
        Size of each level in pixels of that level, largest first.
    downsamples : tuple of float
        Ratio of the sizes of level 0 and of each level (mean of both axes); first is 1. Only nearly the scale: places
        are computed with `level_downsample`.
    mpp : (x, y) or None
        um per level-0 pixel.
    mpp_source : str
        Where `mpp` came from ("aperio.MPP", "user", "none" ...).
    objective_power : float or None
        Nominal magnification, for people; nothing is computed from it.
    bounds_px0 : (x, y, w, h)
        The scanned part of level 0; the whole of it where the format knows no bounds.
    content_hash : str
        SHA-256 over the bytes of the slide's files; names and order of files do not enter. Of a remote slide a digest
        of samples, marked as such (`wsi.sampled_hash`).
    """

    slide_id: str
    reader: str
    vendor: str
    level_sizes_px: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    mpp: tuple[float, float] | None
    mpp_source: str
    objective_power: float | None
    bounds_px0: tuple[int, int, int, int]
    content_hash: str

    @property
    def size_px0(self) -> tuple[int, int]:
        """Width and height of level 0 in pixels."""
        return self.level_sizes_px[0]

    def require_mpp(self) -> tuple[float, float]:
        """The pixel size (x, y) in um/px; raises `MissingMppError` or `ImplausibleMppError`, never guesses."""
        return check_mpp(self.mpp, self.mpp_source)

    def level_downsample(self, level: int) -> tuple[float, float]:
        """True (x, y) scale of a level, level-0 px per px.

        A scanner halves or quarters and cuts off what is left over at the far edge: where the sizes allow a whole
        number it is that number, and not the ratio of the sizes, which is off by up to a pixel at that edge. Of a
        coarse level they may allow several; then it is the power of two.
        """
        (w0, h0), (w, h) = self.size_px0, self.level_sizes_px[level]
        ratio = (w0 / w + h0 / h) / 2
        for whole in (1 << round(math.log2(max(ratio, 1))), max(1, round(ratio))):
            if all(size0 // whole <= size <= -(-size0 // whole) for size0, size in ((w0, w), (h0, h))):
                return float(whole), float(whole)
        return w0 / w, h0 / h

    def level_location(self, level: int, place_px: tuple[int, int]) -> tuple[int, int]:
        """The (x, y) level-0 px to hand to `read_region` to start at a whole pixel (x, y) of a level."""
        dx, dy = self.level_downsample(level)
        return round(place_px[0] * dx), round(place_px[1] * dy)

    def level_place(self, level: int, location_px0: tuple[int, int]) -> tuple[int, int]:
        """The whole pixel (x, y) of a level nearest to a level-0 location: where `read_region` starts."""
        dx, dy = self.level_downsample(level)
        return round(location_px0[0] / dx), round(location_px0[1] / dy)

    def best_level(self, downsample: float) -> int:
        """The coarsest level that still has at least the resolution asked for (1 % tolerance)."""
        return max(
            (level for level, factor in enumerate(self.downsamples) if factor <= downsample * 1.01),
            key=lambda level: self.downsamples[level],
            default=0,
        )


@runtime_checkable
class Slide(Protocol):
    """An open slide. Handles are not shared between processes; one handle may serve several threads."""

    @property
    def info(self) -> SlideInfo: ...

    @property
    def associated_images(self) -> Mapping[str, np.ndarray]:
        """Label, macro, thumbnail ... as (H, W, 3) uint8 RGB, decoded when looked up."""
        ...

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        """Pixels of a rectangle.

        Parameters
        ----------
        location_px0 : (x, y)
            Top-left corner in level-0 pixels, whatever the level; the region starts at `SlideInfo.level_place`.
        level : int
            Pyramid level to read from.
        size_px : (w, h)
            Size in pixels of that level.

        Returns
        -------
        ndarray (h, w, 3) uint8
            RGB. White where the slide has no pixels (outside the level, or never scanned).

        Raises
        ------
        TileReadError
            If any of the pixels exist but cannot be decoded. The slide remains usable.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class ReducingSlide(Protocol):
    """A slide whose stored tiles can be decoded at reduced scale, which costs a fraction of decoding them whole."""

    def reductions(self, level: int) -> tuple[int, ...]:
        """Whole factors at which a level can be read, ascending from 1."""
        ...

    def read_reduced(self, level: int, reduce: int, origin: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
        """Like `read_region`, with origin and size in pixels of the level divided by `reduce`."""
        ...

    def read_windows(
        self,
        level: int,
        reduce: int,
        windows: Sequence[tuple[int, int, int, int]],
        out: Sequence[np.ndarray],
        *,
        done_above: int = 0,
    ) -> list[str | None]:
        """Several rectangles (x, y, w, h) of the reduced level, each stored tile under them decoded once.

        Fills `out`, and says of each window that cannot be read why. Nothing above the y `done_above` will be asked
        for again, so what ends there need not be kept.
        """
        ...


@runtime_checkable
class GriddedSlide(Protocol):
    """A slide of which it is known how its levels are cut into stored tiles."""

    def stored_tile_px(self, level: int) -> tuple[int, int]:
        """(w, h) of the stored tiles of a level."""
        ...


@runtime_checkable
class CompressedSlide(Protocol):
    """A slide whose stored tiles can be had undecoded, for a decoder elsewhere."""

    def jpeg_tile_px(self, level: int) -> tuple[int, int] | None:
        """(w, h) of the stored tiles of a level; None where they are no JPEGs."""
        ...

    def read_jpegs(self, level: int, places: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Bytes of the stored tiles at (row, column), each (n,) uint8: a complete JPEG, or what the file has instead.

        Empty where the file has none. Raises `TileReadError` if the file cannot be read.
        """
        ...


@runtime_checkable
class FarSlide(Protocol):
    """A slide that may lie on a server, and fetches beforehand what it is told that will be read."""

    @property
    def far(self) -> bool:
        """Whether it does; if not, nothing need be said."""
        ...

    def expect(self, level: int, reduce: int, windows: Iterable[tuple[int, int, int, int]]) -> None:
        """Windows (x, y, w, h) that will be read soon, in pixels of the level divided by `reduce`."""
        ...


def open_slide(
    path: str | SlideLocation,
    *,
    reader: str | None = None,
    mpp: tuple[float, float] | None = None,
    fallback_mpp: tuple[float, float] | None = None,
    slide_id: str | None = None,
    content_hash: str | None = None,
) -> Slide:
    """Open a slide with the first reader that knows it.

    Parameters
    ----------
    path : path or URL
        A slide file, or the folder of one DICOM slide. A URL is read in parts, by the readers that can.
    reader : str, optional
        Only this reader is tried.
    mpp : (x, y), optional
        um per level-0 pixel, instead of what the file says; recorded as given by the user.
    fallback_mpp : (x, y), optional
        um per level-0 pixel, used and recorded only where what the file says is missing or cannot be.
    slide_id : str, optional
        Name to use; default is the file's name without suffix.
    content_hash : str, optional
        If known already, the file is not hashed again.

    Raises
    ------
    UnreadableSlideError
        If no reader opens it. The message has every attempt.
    UnreachableSlideError
        If it is a URL and the server gives no answer, or denies it.
    ImplausibleMppError
        If the `mpp` given by the user cannot be.
    """
    path = slide_location(path)
    check_there(path)
    for given in (mpp, fallback_mpp):
        if given is not None:
            check_mpp(given, "the user", advice=False)
    attempts = []
    for name in [reader] if reader else READERS:
        if isinstance(path, SlideUrl) and not getattr(READERS[name], "reads_remote", False):
            attempts.append(f"{name}: cannot read remote slides")
            continue
        try:
            slide = READERS[name](path)
        except (UsageError, UnreachableSlideError):
            raise
        except (WsiError, ImportError) as error:
            attempts.append(f"{name}: {error}")
            continue
        if max(slide.info.size_px0) > MAX_SIDE_PX:
            attempts.append(f"{name}: the file claims {slide.info.size_px0[0]} x {slide.info.size_px0[1]} pixels")
            slide.close()
            continue
        if not _is_pyramid(slide.info.level_sizes_px):
            attempts.append(f"{name}: levels of {', '.join(f'{w} x {h}' for w, h in slide.info.level_sizes_px)} px")
            slide.close()
            continue
        changes: dict[str, Any] = {"slide_id": slide_id or path_slide_id(path)}
        given = mpp or (fallback_mpp if fallback_mpp and not believable(slide.info) else None)
        if given is not None:
            said = "x".join(f"{part:.6g}" for part in dict.fromkeys(slide.info.mpp or ())) or "nothing"
            changes |= {"mpp": given, "mpp_source": f"user (the file says {said})"}
        try:
            changes["content_hash"] = content_hash or hash_slide(path)
        except WsiError:
            slide.close()
            raise
        slide.info = replace(slide.info, **changes)
        return slide
    raise UnreadableSlideError(f"{path.name}: no reader can open it ({'; '.join(attempts)})")


def _is_pyramid(sizes_px: tuple[tuple[int, int], ...]) -> bool:
    """Whether the levels have one shape, up to 2 px and 5 %: what a scanner cuts off is less."""
    w0, h0 = sizes_px[0]
    return all(abs(h * w0 - h0 * w) <= 2 * (w0 + h0) + h * w0 // 20 for w, h in sizes_px)


def believable(info: SlideInfo) -> bool:
    """Whether the slide states a pixel size that can be."""
    try:
        info.require_mpp()
    except MissingMppError:
        return False
    return True


def check_there(path: SlideLocation) -> None:
    """Ask whether a slide is where it is said to be, before any reader tries it.

    Raises
    ------
    UnreadableSlideError, UnreachableSlideError, MissingPackageError
        If it is not, or cannot be reached.
    """
    if isinstance(path, SlideUrl):
        from wsi.remote_bytes import RemoteBytes

        RemoteBytes(path).close()
    elif not path.exists():
        raise UnreadableSlideError(f"{path.name}: no such file; check the path or the mount")


def path_slide_id(path: SlideLocation) -> str:
    """The slide's name: the folder's for a DICOM folder, else the file's without its (double) suffix."""
    if isinstance(path, Path) and path.is_dir():
        return path.name
    stem = path.stem
    return stem[: -len(".ome")] if stem.endswith(".ome") else stem


def slide_files(path: Path) -> list[Path]:
    """All files of one local slide: the file itself, with a MIRAX side folder, or the instances of a DICOM folder."""
    if path.is_dir():
        files = sorted(part for part in path.iterdir() if part.is_file() and not part.name.startswith("."))
        return [part for part in files if part.suffix.lower() == ".dcm"] or files
    side = path.with_suffix("")
    if path.suffix.lower() == ".mrxs" and side.is_dir():
        return [path, *sorted(part for part in side.rglob("*") if part.is_file())]
    return [path]


def hash_slide(path: SlideLocation) -> str:
    """The content hash of a slide: of all bytes of its files, or of samples where it is remote."""
    if isinstance(path, Path):
        return hash_files(slide_files(path))
    from wsi.remote_bytes import RemoteBytes
    from wsi.sampled_hash import remote_hash

    with closing(RemoteBytes(path)) as source:
        return remote_hash(source)


def hash_files(files: list[Path]) -> str:
    """SHA-256 of one file's bytes; of several, over their sorted digests, so that no name or order enters."""
    digests = sorted(_hash_file(file) for file in files)
    if len(digests) == 1:
        return digests[0]
    return sha256("\n".join(digests).encode()).hexdigest()


def _hash_file(file: Path) -> str:
    digest = sha256()
    try:
        with file.open("rb") as handle:
            while block := handle.read(HASH_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise UnreadableSlideError(f"{file.name}: cannot be read to its end ({error.strerror})") from error
    return digest.hexdigest()


def thumbnail(slide: Slide, side_px: int = 1024) -> np.ndarray:
    """The scanned bounds of a slide, reduced.

    Reads from the coarsest level that suffices, in bands, and does not trust the stored thumbnail, which
    in some formats is cropped or stretched.

    Returns
    -------
    ndarray (H, W, 3) uint8
        RGB with its longer side `side_px` at most.
    """
    from wsi.resample import read_scaled

    x, y, w, h = slide.info.bounds_px0
    factor = max(max(w, h) / side_px, 1.0)
    size_px = (max(1, round(w / factor)), max(1, round(h / factor)))
    return read_scaled(slide, (x, y, w, h), size_px)


__all__ = [
    "READERS",
    "CompressedSlide",
    "FarSlide",
    "GriddedSlide",
    "ReducingSlide",
    "Slide",
    "SlideInfo",
    "TileReadError",
    "open_slide",
    "thumbnail",
]
