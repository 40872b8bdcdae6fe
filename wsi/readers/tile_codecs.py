"""Stored tiles to pixels: JPEG with the DCT scaled, JPEG 2000 whole.

JPEG 2000 could leave resolution levels out as well, but its low band is no area mean: it sits half a pixel off and is
sharper (26 to 35 dB against the area mean on real slides, where the scaled DCT reaches over 50), so it is not used.
"""

import base64
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import imagecodecs
import numpy as np
import simplejpeg

from wsi.readers.codec_limits import check_codestream, check_scans, plain_size

if TYPE_CHECKING:
    from wsi.readers.tiff_levels import StoredLevel

JPEG_REDUCTIONS = (1, 2, 4, 8)
"""What libjpeg-turbo computes with fast transforms; other eighths exist and are slower."""

MAX_PICTURE_PX = 1 << 26
"""Largest label or macro that is decoded; the largest known are a tenth of that."""

ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""APP14 marker that says: the components are R, G, B. TIFF says it in a tag that the decoder does not see."""


class CodecError(ValueError):
    """A stored tile is missing, damaged or not what its slide says."""


def decode_tile(level: "StoredLevel", data: bytes, reduce: int, buffer: np.ndarray | None = None) -> np.ndarray:
    """Decode one stored tile.

    Parameters
    ----------
    data : bytes
        Compressed; may be empty or cut off, which is an error here and never grey pixels.
    reduce : int
        1, 2, 4 ...: how many times smaller.
    buffer : ndarray uint8, optional
        Contiguous memory of the result's size to decode a JPEG into, instead of new memory.

    Returns
    -------
    ndarray (tile_h / reduce, tile_w / reduce, 3) uint8

    Raises
    ------
    CodecError
        Also for what libjpeg only warns of (corrupt data, premature end).
    """
    if not data:
        raise CodecError("is missing (no bytes)")
    w, h = level.tile_px[0] // reduce, level.tile_px[1] // reduce
    try:
        pixels = _decode_jpeg(level, data, reduce, buffer) if level.codec == "jpeg" else _decode_jp2k(level, data)
    except CodecError:
        raise
    except Exception as error:  # simplejpeg and imagecodecs each raise several kinds, all of them about the data
        raise CodecError(f"cannot be decoded ({error})") from error
    if pixels.shape != (h, w, 3) or pixels.dtype != np.uint8:
        raise CodecError(f"is {pixels.shape} {pixels.dtype}, expected ({h}, {w}, 3) uint8")
    return pixels


def _decode_jpeg(level: "StoredLevel", data: bytes, reduce: int, buffer: np.ndarray | None) -> np.ndarray:
    if data[:2] != b"\xff\xd8":
        raise CodecError("is not a JPEG (no start marker)")
    data = complete_jpeg(level, data)
    if (size := plain_size(data)) is None:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
        check_scans(data)
    else:
        width, height = size
    if (width, height) != level.tile_px:
        raise CodecError(f"is {width} x {height} px, expected {level.tile_px[0]} x {level.tile_px[1]}")
    if buffer is None:
        buffer = np.empty(3 * (width // reduce) * (height // reduce), np.uint8)
    if reduce == 1:
        return simplejpeg.decode_jpeg(data, "RGB", buffer=buffer)
    return simplejpeg.decode_jpeg(
        data, "RGB", min_width=width // reduce, min_height=height // reduce, min_factor=reduce, buffer=buffer
    )


def complete_jpeg(level: "StoredLevel", data: bytes) -> bytes:
    """A stored JPEG with the tables and the colour space that the file says elsewhere; what is none stays as it is."""
    if not level.prefix or data[:2] != b"\xff\xd8":
        return data
    return b"".join((level.prefix, data[2:]))


def _decode_jp2k(level: "StoredLevel", data: bytes) -> np.ndarray:
    head = jp2k_header(data)
    if (head.width, head.height) != level.tile_px:
        raise CodecError(f"is {head.width} x {head.height} px, expected {level.tile_px[0]} x {level.tile_px[1]}")
    check_codestream(data)
    pixels = imagecodecs.jpeg2k_decode(data)
    # The library converts where the chroma is subsampled, and takes three full components for RGB.
    return ycbcr_to_rgb(pixels) if level.codec == "jp2k-ycbcr" and not head.subsampled else pixels


@lru_cache(maxsize=4)
def white_jpeg(size_px: tuple[int, int]) -> bytes:
    """A white picture of (w, h), baseline YCbCr 4:2:0."""
    return bytes(simplejpeg.encode_jpeg(np.full((size_px[1], size_px[0], 3), 255, np.uint8), colorsubsampling="420"))


def ycbcr_to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Full-range BT.601 (JFIF) YCbCr to RGB, (H, W, 3) uint8."""
    return cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB)


@dataclass(frozen=True, slots=True)
class Jp2kHeader:
    """Size in pixels, and whether any component is subsampled."""

    width: int
    height: int
    subsampled: bool


def jp2k_header(data: bytes) -> Jp2kHeader:
    """Read the SIZ segment of a JPEG 2000 codestream (ISO/IEC 15444-1, annex A.5.1).

    Raises
    ------
    CodecError
        If it is not a codestream of three components.
    """
    if data[:4] != b"\xff\x4f\xff\x51" or len(data) < 51:
        raise CodecError("is not a JPEG 2000 codestream")
    x1, y1, x0, y0 = struct.unpack(">4I", data[8:24])
    if struct.unpack(">H", data[40:42])[0] != 3:
        raise CodecError("has not three components")
    subsampled = any(data[at] != 1 for part in range(3) for at in (43 + 3 * part, 44 + 3 * part))
    return Jp2kHeader(x1 - x0, y1 - y0, subsampled)


def reductions_of(level: "StoredLevel") -> tuple[int, ...]:
    """By how much the tiles of a level can be reduced while they are decoded, ascending from 1."""
    possible = JPEG_REDUCTIONS if level.codec == "jpeg" else (1,)
    return tuple(factor for factor in possible if all(side % factor == 0 for side in level.tile_px))


def decode_base64_jpeg(text: str) -> np.ndarray:
    """A picture (H, W, 3) uint8 that a file keeps as text; raises `CodecError` before it decodes what is no picture."""
    data = base64.b64decode(text)
    height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    if height * width > MAX_PICTURE_PX:
        raise CodecError(f"claims {width} x {height} px")
    return simplejpeg.decode_jpeg(data, "RGB")


def jpeg_prefix(tables: bytes | None, rgb: bool) -> bytes:
    """What goes before a tile's stream in place of its start marker: tables, and the colour space where needed."""
    if tables is None and not rgb:
        return b""
    middle = b"" if tables is None else tables[2:-2] if tables[-2:] == b"\xff\xd9" else tables[2:]
    return b"\xff\xd8" + (ADOBE_RGB if rgb and b"Adobe" not in middle else b"") + middle
