"""What a JPEG stream says of itself before anyone decodes it, and whether a decoder that reports little may have it.

libjpeg tells the CPU path of everything that is odd. A decoder on a card may answer odd streams with grey or with
wrong colours and no error, so only streams without any oddity go there. What can be seen without decoding: headers,
tables, colour space, markers inside of the data, the end. A flipped bit in the coded data cannot be seen.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

Colour = Literal["ycbcr", "rgb"]

SAMPLINGS = {(1, 1), (2, 1), (2, 2)}
"""Of luma, chroma being (1, 1): 4:4:4, 4:2:2, 4:2:0."""

SOF0, SOF1, DHT, SOS, DQT, DRI, APP0, APP14, COM = 0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE
TABLES_AND_NOTES = {DHT, DQT, DRI, COM, *range(APP0, APP0 + 16)}

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_END = 0xD9


class StreamDoubt(ValueError):
    """A stream that is better left to libjpeg; it need not be damaged."""


@dataclass(frozen=True, slots=True)
class JpegHead:
    """What stands before the coded data of a JPEG.

    Attributes
    ----------
    width_px, height_px : int
    colour : Colour
        Of the stored components.
    length : int
        Bytes before the coded data.
    """

    width_px: int
    height_px: int
    colour: Colour
    length: int


def read_head(stream: np.ndarray) -> JpegHead:
    """Walk over the markers up to the start of the coded data (ITU-T T.81, annex B).

    Parameters
    ----------
    stream : ndarray (n,) uint8

    Raises
    ------
    StreamDoubt
        If it is no baseline or extended Huffman JPEG of three 8-bit components in one scan with its tables, or its
        colour space can be read in two ways.
    """
    data = stream.tobytes()
    if data[:2] != b"\xff\xd8":
        raise StreamDoubt("is not a JPEG (no start marker)")
    at, frame, segments = 2, b"", dict[int, bytes]()
    while True:
        if len(data) < at + 4 or data[at] != 0xFF:
            raise StreamDoubt("has no readable header")
        kind, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if length < 2 or at > len(data):
            raise StreamDoubt("has no readable header")
        if kind == SOS:
            break
        if kind in (SOF0, SOF1) and not frame:
            frame = body
        elif kind in TABLES_AND_NOTES:
            segments[kind] = body if body.startswith((b"Adobe", b"JFIF")) else segments.get(kind, b"")
        else:
            raise StreamDoubt(f"has a marker {kind:02x}, which is not of a baseline JPEG")
    if len(frame) != 15 or frame[0] != 8 or frame[5] != 3 or body[:1] != b"\x03":
        raise StreamDoubt("is not of three 8-bit components in one scan")
    if (frame[7] >> 4, frame[7] & 15) not in SAMPLINGS or frame[10] != 0x11 or frame[13] != 0x11:
        raise StreamDoubt("has an unusual subsampling")
    if not {DHT, DQT} <= set(segments):
        raise StreamDoubt("lacks its tables")
    colour = _colour(frame[6::3], segments.get(APP0, b""), segments.get(APP14, b""))
    return JpegHead(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3]), colour, at)


def _colour(names: bytes, jfif: bytes, adobe: bytes) -> Colour:
    """The colour space as libjpeg takes it, where all signs agree."""
    transform = adobe[11] if len(adobe) > 11 else None
    if transform == 0 and not jfif:
        return "rgb"
    if transform in (None, 1) and (jfif or names != b"RGB"):
        return "ycbcr"
    raise StreamDoubt("says its colour space in two ways")


def check_scan(stream: np.ndarray, start: int) -> None:
    """See that the coded data run from `start` to the one end marker, which is the end of the stream.

    Raises
    ------
    StreamDoubt
    """
    found = _MARKER.search(stream, start)
    if found is None:
        raise StreamDoubt("has no end marker")
    if stream[found.start() + 1] != _END:
        raise StreamDoubt("has a marker within its data")
    if len(stream) - found.end() > 1:  # one byte may fill up to an even length
        raise StreamDoubt(f"ends {len(stream) - found.end()} bytes early")
