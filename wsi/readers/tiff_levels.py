"""The structure of a tiled TIFF slide: which pages are levels, where tiles lie, and what the file says of scale."""

import logging
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tifffile

from wsi.errors import UnreadableSlideError
from wsi.readers.tiff_vendors import Layout, number, philips_layout, ventana_layout
from wsi.readers.tile_codecs import jpeg_prefix
from wsi.slide import SlideInfo

Codec = Literal["jpeg", "jp2k-rgb", "jp2k-ycbcr"]

JPEG, APERIO_JP2K_YCBCR, APERIO_JP2K_RGB = 7, 33003, 33005
PHOTOMETRIC_RGB, PHOTOMETRIC_YCBCR = 2, 6
MAX_TILE_PX = 4096
"""Larger stored tiles are declined: they are no tiles for random access, and a header may lie."""

MAX_TABLES_BYTES = 1 << 16
"""Longest JPEGTables that are put before each tile; those of scanners have about 600 bytes."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())
"""tifffile logs what it finds odd; what matters of it is raised here, so nothing of it goes to the terminal unasked."""

UM_PER_UNIT = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6}
UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}
"""TIFF ResolutionUnit: inch, centimetre."""


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One level as it lies in the file.

    Attributes
    ----------
    size_px, tile_px : (w, h)
    columns : int
        Stored tiles in a row.
    offsets, counts : ndarray (n,) int64
        Place and length of each tile's bytes.
    codec : Codec
    prefix : bytes
        Goes in place of the start marker of each JPEG stream.
    blank : ndarray (n,) bool
        Which tiles were never scanned and are white. Any other without bytes is missing.
    """

    size_px: tuple[int, int]
    tile_px: tuple[int, int]
    columns: int
    offsets: np.ndarray
    counts: np.ndarray
    codec: Codec
    prefix: bytes
    blank: np.ndarray

    def place(self, number: int) -> tuple[int, int]:
        """Offset and length in the file of a stored tile."""
        return int(self.offsets[number]), int(self.counts[number])

    def name(self, number: int) -> str:
        """A stored tile for people: its column and row."""
        row, column = divmod(number, self.columns)
        return f"stored tile (column {column}, row {row})"


def read_layout(tiff: tifffile.TiffFile) -> Layout:
    """Which pages are the pyramid, and what the file says of itself.

    Raises
    ------
    UnreadableSlideError
        If it is of a layout that this reader does not know.
    """
    if tiff.is_ndpi or tiff.is_scn or tiff.is_qpi:
        raise UnreadableSlideError(f"{'/'.join(sorted(tiff.flags))}: a layout that this reader leaves to others")
    return philips_layout(tiff) or ventana_layout(tiff) or _plain_layout(tiff)


def _plain_layout(tiff: tifffile.TiffFile) -> Layout:
    """Aperio SVS, OME-TIFF and generic TIFF."""
    series = tiff.series[0]
    if tiff.is_ome and (len(tiff.series) > 1 or series.axes not in ("YXS", "YX")):
        raise UnreadableSlideError(f"OME-TIFF with {len(tiff.series)} images of axes {series.axes}")
    # of Aperio's pages the tiled ones are the levels: tifffile takes the second page for the thumbnail in any case
    every: list[Any] = list(tiff.pages)
    tiled = (page for page in every if page.is_tiled)
    pages: list[Any] = list(tiled) if tiff.is_svs else [one.pages[0] for one in series.levels]
    description = str(every[0].description or "")
    power: float | None = None
    if description.startswith("Aperio"):
        fields = dict(_aperio_fields(description))
        vendor, source = "aperio", "aperio.MPP"
        pitch, power = number(fields.get("MPP")), number(fields.get("AppMag"))
        mpp = (pitch, pitch) if pitch is not None else None
    elif tiff.is_ome:
        vendor, source, mpp = "ome-tiff", "OME PhysicalSize", _ome_mpp(tiff.ome_metadata or "")
    else:
        vendor, source, mpp = "generic-tiff", "the TIFF resolution tags", _resolution_mpp(every[0])
    names = {"thumbnail", "label", "macro"}
    return Layout(
        vendor=vendor,
        pages=tuple(pages),
        sizes_px=tuple((int(page.imagewidth), int(page.imagelength)) for page in pages),
        mpp=mpp,
        mpp_source=source,
        objective_power=power,
        sparse=False,
        pictures={one.name.lower(): one.keyframe for one in tiff.series if one.name.lower() in names},
    )


def stored_levels(layout: Layout, file_bytes: int) -> tuple[StoredLevel, ...]:
    """The pyramid, largest level first.

    Raises
    ------
    UnreadableSlideError
        If it is not a plain pyramid of JPEG or JPEG 2000 tiles in RGB or YCbCr.
    """
    pages = zip(layout.pages, layout.sizes_px, strict=True)
    levels = tuple(_level(page, size_px, layout.sparse, file_bytes) for page, size_px in pages)
    widths, heights = ([level.size_px[axis] for level in levels] for axis in range(2))
    if widths != sorted(set(widths), reverse=True) or heights != sorted(heights, reverse=True):
        raise UnreadableSlideError(f"levels of {widths} x {heights} px are no pyramid")
    return levels


def _level(page: Any, size_px: tuple[int, int], sparse: bool, file_bytes: int) -> StoredLevel:
    if not page.is_tiled or page.samplesperpixel != 3 or page.bitspersample != 8 or page.planarconfig != 1:
        raise UnreadableSlideError("a level is not stored as tiles of 8-bit RGB")
    codec = _codec(int(page.compression), int(page.photometric))
    tile_px = int(page.tilewidth), int(page.tilelength)
    if not all(16 <= side <= MAX_TILE_PX for side in tile_px):
        raise UnreadableSlideError(f"stored tiles of {tile_px[0]} x {tile_px[1]} px")
    claimed_px = int(page.imagewidth), int(page.imagelength)
    if min(*size_px, *claimed_px) < 1:
        raise UnreadableSlideError(f"a level of {claimed_px[0]} x {claimed_px[1]} px")
    columns, rows = (-(-whole // side) for whole, side in zip(claimed_px, tile_px, strict=True))
    offsets = np.asarray(page.dataoffsets, dtype=np.int64)
    counts = np.asarray(page.databytecounts, dtype=np.int64)
    if len(offsets) != columns * rows or len(counts) != columns * rows:
        raise UnreadableSlideError(f"{len(offsets)} stored tiles, expected {columns} x {rows}")
    if size_px != claimed_px:
        across, down = (-(-whole // side) for whole, side in zip(size_px, tile_px, strict=True))
        if across > columns + 1 or down > rows + 1:  # padding of less than one tile of level 0 cannot explain it
            raise UnreadableSlideError(f"a level of {across} x {down} tiles of which {columns} x {rows} are stored")
        offsets, counts = (_regrid(part, (rows, columns), (down, across)) for part in (offsets, counts))
        columns = across
    blank = (offsets == 0) & (counts == 0) & sparse
    most_bytes = min(file_bytes, 6 * tile_px[0] * tile_px[1] + (1 << 20))  # no codec doubles 3 bytes a pixel
    there = (offsets > 0) & (counts > 0) & (counts <= most_bytes) & (offsets <= file_bytes - counts)
    rgb = int(page.photometric) == PHOTOMETRIC_RGB
    if page.jpegtables is not None and len(page.jpegtables) > MAX_TABLES_BYTES:
        raise UnreadableSlideError(f"JPEG tables of {len(page.jpegtables):,} bytes")
    prefix = jpeg_prefix(page.jpegtables, rgb) if codec == "jpeg" else b""
    offsets, counts = np.where(there, offsets, 0), np.where(there, counts, 0)
    return StoredLevel(size_px, tile_px, columns, offsets, counts, codec, prefix, blank)


def _regrid(values: np.ndarray, stored: tuple[int, int], needed: tuple[int, int]) -> np.ndarray:
    """Cut a grid of (rows, columns) off at its far edges, or fill it up with 0, into the one that a level needs."""
    grid = np.zeros(needed, values.dtype)
    rows, columns = min(stored[0], needed[0]), min(stored[1], needed[1])
    grid[:rows, :columns] = values.reshape(stored)[:rows, :columns]
    return grid.ravel()


def _codec(compression: int, photometric: int) -> Codec:
    if compression == JPEG and photometric in (PHOTOMETRIC_RGB, PHOTOMETRIC_YCBCR):
        return "jpeg"
    if compression in (APERIO_JP2K_RGB, APERIO_JP2K_YCBCR):
        return "jp2k-rgb" if compression == APERIO_JP2K_RGB else "jp2k-ycbcr"
    raise UnreadableSlideError(f"compression {compression} with photometric {photometric}")


def describe(layout: Layout) -> SlideInfo:
    """What the file says of itself."""
    sizes_px = layout.sizes_px
    width, height = sizes_px[0]
    return SlideInfo(
        slide_id="",
        reader="jpeg_tiff",
        vendor=layout.vendor,
        level_sizes_px=sizes_px,
        downsamples=tuple((width / w + height / h) / 2 for w, h in sizes_px),
        mpp=layout.mpp,
        mpp_source=layout.mpp_source if layout.mpp else "none",
        objective_power=power if (power := layout.objective_power) is not None and math.isfinite(power) else None,
        bounds_px0=(0, 0, width, height),
        content_hash="",
    )


def _aperio_fields(description: str) -> Iterator[tuple[str, str]]:
    for part in description.split("|")[1:]:
        key, equals, value = part.partition("=")
        if equals:
            yield key.strip(), value.strip()


def _ome_mpp(xml: str) -> tuple[float, float] | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((one for one in root.iter() if re.sub(r"\{.*\}", "", one.tag) == "Pixels"), None)
    if pixels is None:
        return None
    found = []
    for axis in "XY":
        size, unit = number(pixels.get(f"PhysicalSize{axis}")), pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if size is None or unit not in UM_PER_UNIT:
            return None
        found.append(size * UM_PER_UNIT[unit])
    return found[0], found[1]


def _resolution_mpp(page: Any) -> tuple[float, float] | None:
    unit = UM_PER_RESOLUTION_UNIT.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    found = []
    for axis in "XY":
        ratio = page.tags.valueof(f"{axis}Resolution")
        if unit is None or ratio is None or not ratio[0] or not ratio[1]:
            return None
        found.append(unit * ratio[1] / ratio[0])
    return found[0], found[1]
