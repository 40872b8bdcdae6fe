"""What a compressed tile may claim: looked at before a decoder allocates by it.

The size of the picture is compared with the slide's elsewhere. What is left are structures that cost a decoder far
more than the picture is worth: thousands of passes over a progressive JPEG, a JPEG 2000 cut into tiny parts,
components that the conversion of colours does not expect.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from wsi.jpeg_stream import StreamDoubt, read_head

MAX_SCANS = 32
"""Passes over a JPEG; progressive encoders make about ten."""

MAX_PARTS = 256
"""Tiles, and parts of tiles, within one JPEG 2000 codestream; scanners write one."""

MAX_LAYERS = 64
SMALLEST_EXPONENT = 4
"""Code blocks and precincts have 16 px a side at least; encoders' own are 32 to 32,768 px."""

SIZ, COD, COC, SOT, SOD = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93


def check_scans(data: bytes) -> None:
    """Refuse a JPEG with too many passes (ITU-T T.81); raises `ValueError`."""
    if (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise ValueError(f"{scans} scans")


def plain_size(data: bytes) -> tuple[int, int] | None:
    """Size (w, h) of a baseline JPEG in one scan, which costs no more than its picture; None if it may be another.

    Tiles of a slide mostly share what stands before their coded data, so it is looked at once.
    """
    start = data.find(b"\xff\xda")
    return _plain_size(data[: start + 2 + int.from_bytes(data[start + 2 : start + 4])]) if start > 0 else None


@lru_cache(maxsize=256)
def _plain_size(head: bytes) -> tuple[int, int] | None:
    try:
        found = read_head(np.frombuffer(head, np.uint8))
    except StreamDoubt:
        return None
    return (found.width_px, found.height_px) if found.length == len(head) else None


def check_codestream(data: bytes) -> None:
    """Refuse a JPEG 2000 codestream that would cost more than its picture (ISO/IEC 15444-1, annex A).

    Raises
    ------
    ValueError, struct.error
    """
    for marker, segment in _segments(data):
        if marker == SIZ:
            _check_siz(segment)
        elif marker == COD:
            (layers,) = struct.unpack(">H", segment[2:4])
            if not 1 <= layers <= MAX_LAYERS:
                raise ValueError(f"{layers} layers")
            _check_style(segment[5:10], segment[10:] if segment[0] & 1 else b"")
        elif marker == COC:
            _check_style(segment[2:7], segment[7:] if segment[1] & 1 else b"")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker segments of the main header and of the header of each part of a tile."""
    at, part, parts = 2, 0, 0
    while at + 4 <= len(data):
        marker, length = struct.unpack(">HH", data[at : at + 4])
        if marker == SOT:
            part, parts = at, parts + 1
            if parts > MAX_PARTS:
                raise ValueError(f"more than {MAX_PARTS} parts of tiles")
        elif marker == SOD:
            (size,) = struct.unpack(">I", data[part + 6 : part + 10])
            if size < 14:  # the last part may leave it out
                return
            at = part + size
            continue
        if length < 2:
            raise ValueError(f"a segment of {length} bytes")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _check_siz(segment: bytes) -> None:
    x1, y1, x0, y0, tile_w, tile_h, tile_x, tile_y = struct.unpack(">8I", segment[2:34])
    if not tile_w or not tile_h or -(-(x1 - tile_x) // tile_w) * -(-(y1 - tile_y) // tile_h) > MAX_PARTS:
        raise ValueError(f"tiles of {tile_w} x {tile_h} px within")
    components = [tuple(segment[36 + 3 * part : 39 + 3 * part]) for part in range(3)]
    if any(depth != 7 for depth, _, _ in components):
        raise ValueError("components of other than 8 bits")
    luma, *chroma = (steps for _, *steps in components)
    if luma != [1, 1] or chroma[0] != chroma[1] or chroma[0] not in ([1, 1], [2, 1], [2, 2]):
        raise ValueError(f"components subsampled by {luma}, {chroma[0]}, {chroma[1]}")
    if chroma[0] != [1, 1] and (x0 or y0):
        raise ValueError("subsampled components off the origin")


def _check_style(style: bytes, precincts: bytes) -> None:
    _, *block, coding, _ = style
    if min(block) + 2 < SMALLEST_EXPONENT or coding > 0x3F:
        raise ValueError(f"code blocks of {block} in style {coding}")
    if any(min(one & 15, one >> 4) < SMALLEST_EXPONENT for one in precincts):
        raise ValueError("precincts below 16 px")
