"""What a TIFF may claim: looked at before a parser follows it.

The parsers behind our readers believe a file. Pages that follow each other in a circle, thousands of entries that
share one value, or a tile of a terapixel then cost hours or all the memory, and an allocation that fails inside a C
library ends the process. A sound slide is far below every limit here. A structure that merely ends early is left to
the parsers, which cope.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
import tifffile

from wsi.errors import UnreadableSlideError

MAX_PAGES = 1024
"""Levels, focal planes and pictures; a z-stack of 60 planes with 10 levels fits."""

MAX_PAGE_ENTRIES = 4096
MAX_TABLE_ENTRIES = 1 << 23
"""Offsets and lengths of all pages together: a slide of 450,000 px a side in tiles of 256 px."""

SPARE_BYTES = 16 << 20
"""What the values may claim beyond the size of the file, since writers may let pages share a value."""

MAX_TEXT_BYTES = 16 << 20
MAX_TILE_BYTES = 1 << 28
"""Largest stored tile or strip, decoded: 8192 x 8192 px in OpenSlide's ARGB."""

MAX_PICTURE_PX = 1 << 26
"""Largest label, macro or thumbnail that is decoded; the largest known are a tenth of that."""

IMAGE_WIDTH, IMAGE_LENGTH, BITS, DESCRIPTION, SAMPLES, ROWS_PER_STRIP, SOFTWARE = 256, 257, 258, 270, 277, 278, 305
TILE_WIDTH, TILE_LENGTH, SUB_IFDS, XMP, NDPI_FORMAT = 322, 323, 330, 700, 65420
TABLES = (273, 279, 324, 325)
"""Offsets and lengths of strips and of tiles."""

LENGTHS = (279, 325)
MAX_READ_BYTES = 1 << 32
"""Longest compressed strip or tile; a BigTIFF can claim more."""

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

_FOREIGN = ("lsm", "scanimage", "stk", "fluoview", "mmstack", "micromanager", "ndtiff", "imagej", "sis", "eer", "nih")
TIFFFILE_OPTIONS: dict[str, Any] = {"_multifile": False} | {
    f"is_{name}": False for name in _FOREIGN if name in tifffile.TIFF.FILE_FLAGS
}
"""For `tifffile.TiffFile`: open no other file that this one names, and try no parser for what is no slide."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What the structure says, for further checks.

    Attributes
    ----------
    pages_px : tuple of (w, h)
        Sizes of the pages of the main chain; 0 where a page does not say.
    description : bytes
        Of the first page.
    """

    pages_px: tuple[tuple[int, int], ...]
    description: bytes


def check_tiff(path: Path) -> Claims | None:
    """Walk the structure of a local file; None if it is no TIFF.

    Raises
    ------
    UnreadableSlideError
        If it claims what no slide has.
    """
    try:
        with path.open("rb") as handle:
            return check_structure(handle, ndpi=path.suffix.lower() == ".ndpi")
    except OSError as error:
        if isinstance(error, UnreadableSlideError):
            raise
        raise UnreadableSlideError(f"cannot be read ({error.strerror})") from error


def check_structure(handle: IO[bytes], *, ndpi: bool = False) -> Claims | None:
    """`check_tiff` for an open file.

    Parameters
    ----------
    handle : binary file
        Must be able to seek.
    ndpi : bool
        Offsets of pages have 64 bits although it is no BigTIFF.
    """
    head = handle.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    version = struct.unpack(f"{order}H", head[2:4])[0] if order and len(head) == 16 else 0
    if version not in (42, 43):
        return None
    ndpi = ndpi and order == "<"
    walk = _Walk(handle, str(order), version == 43, ndpi)
    start = head[8:16] if version == 43 else head[4:12] if ndpi else head[4:8]
    walk.follow(walk.integer(start))
    return Claims(tuple(walk.pages_px), walk.description)


@dataclass(frozen=True, slots=True)
class _Entry:
    tag: int
    kind: int
    count: int
    field: bytes

    @property
    def nbytes(self) -> int:
        return self.count * TYPE_BYTES.get(self.kind, 0)


class _Walk:
    """One way through all pages of a file; raises at the first claim that is beyond a limit."""

    def __init__(self, handle: IO[bytes], order: str, big: bool, ndpi: bool):
        self._handle, self._order, self._big, self._ndpi = handle, order, big, ndpi
        self._file_bytes = handle.seek(0, os.SEEK_END)
        self._seen: set[int] = set()
        self._claimed_bytes = self._values = 0
        self.pages_px: list[tuple[int, int]] = []
        self.description = b""

    def integer(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self._order == "<" else "big")

    def follow(self, offset: int) -> None:
        """The main chain from its first page, and the pages below each."""
        below: list[int] = []
        while page := self._page(offset):
            entries, offset = page
            self.pages_px.append((self._one(entries, IMAGE_WIDTH), self._one(entries, IMAGE_LENGTH)))
            below += self._check_page(entries)
        while below:
            if page := self._page(below.pop()):
                below += self._check_page(page[0])

    def _page(self, offset: int) -> tuple[list[_Entry], int] | None:
        """Entries of a page and the offset of the next; None where there is none, or nothing that can be followed."""
        head, size, form = (8, 20, "HHQ8s") if self._big else (2, 12, "HHI4s")
        count = self.integer(self._read(offset, head)) if 0 < offset < self._file_bytes else 0
        if not 0 < count <= MAX_PAGE_ENTRIES:
            return None
        if offset in self._seen:
            _refuse(f"the page at byte {offset} is linked twice: its pages form a circle or share their structure")
        self._seen.add(offset)
        if len(self._seen) > MAX_PAGES:
            _refuse(f"more than {MAX_PAGES} pages")
        data = self._read(offset + head, count * size + 8)
        entries = [_Entry(*part) for part in struct.iter_unpack(self._order + form, data[: len(data) // size * size])]
        if len(entries) < count:
            return None
        entries = entries[:count]
        self._ndpi |= any(one.tag == NDPI_FORMAT for one in entries)
        following = data[count * size :]
        return entries, self.integer(following if self._big or self._ndpi else following[:4])

    def _check_page(self, entries: list[_Entry]) -> Iterator[int]:
        """Look at the claims of a page, and give the offsets of the pages below it."""
        self._claimed_bytes += sum(one.nbytes for one in entries if one.nbytes <= self._file_bytes)
        self._values += sum(one.count for one in entries if one.tag in TABLES and one.nbytes <= self._file_bytes)
        if self._claimed_bytes > self._file_bytes + SPARE_BYTES:
            _refuse(f"its tags claim more than the {self._file_bytes} bytes that there are")
        if self._values > MAX_TABLE_ENTRIES:
            _refuse(f"more than {MAX_TABLE_ENTRIES:,} entries in the tables of tiles")
        if self._ndpi:
            return
        self._check_tile(entries)
        for one in entries:
            if one.tag in LENGTHS and TYPE_BYTES.get(one.kind) == 8 and one.nbytes <= self._file_bytes:
                lengths = np.frombuffer(self._value(one), f"{self._order}u8", len(self._value(one)) // 8)
                if len(lengths) and int(lengths.max()) > MAX_READ_BYTES:  # OpenSlide allocates it, or dies
                    _refuse(f"a tile of {int(lengths.max())} bytes")
            if one.tag in (DESCRIPTION, SOFTWARE, XMP):
                self._check_text(one)
            elif one.tag == SUB_IFDS and one.count <= MAX_PAGES:
                data, size = self._value(one), TYPE_BYTES.get(one.kind, 4)
                yield from (self.integer(data[at : at + size]) for at in range(0, len(data), size))

    def _check_tile(self, entries: list[_Entry]) -> None:
        width, length = self._one(entries, TILE_WIDTH), self._one(entries, TILE_LENGTH)
        if any(one.tag in (TILE_WIDTH, TILE_LENGTH) for one in entries):
            stored = max((one.count for one in entries if one.tag in TABLES), default=0)
            sides_px = self._one(entries, IMAGE_WIDTH), self._one(entries, IMAGE_LENGTH)
            # OpenSlide 4.0.1 dies of a table that is too short
            if not width or not length or -(-sides_px[0] // width) * -(-sides_px[1] // length) > stored:
                _refuse(f"{stored} stored tiles of {width} x {length} px for {sides_px[0]} x {sides_px[1]} px")
        else:
            width, length = self._one(entries, IMAGE_WIDTH), self._one(entries, IMAGE_LENGTH)
            length = min(length, self._one(entries, ROWS_PER_STRIP) or length)
        samples = next((max(1, self._one([one], one.tag)) for one in entries if one.tag == SAMPLES), 1)
        bits = next((self.integer(self._value(one)[:2]) for one in entries if one.tag == BITS), 8)
        if width * length * max(4, samples * -(-bits // 8)) > MAX_TILE_BYTES:
            _refuse(f"stored tiles or strips of {width} x {length} px of {samples} x {bits} bits")

    def _check_text(self, entry: _Entry) -> None:
        if entry.nbytes > self._file_bytes:
            return
        if entry.nbytes > MAX_TEXT_BYTES:
            _refuse(f"a description of {entry.nbytes:,} bytes")
        text = self._value(entry)
        if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            _refuse("its description defines XML entities")
        if entry.tag == DESCRIPTION and not self.description and len(self.pages_px) == 1:
            self.description = text

    def _one(self, entries: list[_Entry], tag: int) -> int:
        """A number stored in the entry itself; 0 if there is none."""
        found = (one for one in entries if one.tag == tag and one.count == 1)
        return next((self.integer(one.field[: TYPE_BYTES.get(one.kind, 0)]) for one in found), 0)

    def _value(self, entry: _Entry) -> bytes:
        if entry.nbytes <= len(entry.field):
            return entry.field[: entry.nbytes]
        return self._read(self.integer(entry.field), entry.nbytes)

    def _read(self, offset: int, size: int) -> bytes:
        if offset >= self._file_bytes:
            return b""
        self._handle.seek(offset)
        return self._handle.read(min(size, self._file_bytes - offset))


def _refuse(found: str) -> NoReturn:
    raise UnreadableSlideError(f"no slide has such a structure: {found}")
