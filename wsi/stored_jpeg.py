"""Tiles of a pyramid that lie in the file as they are asked for, passed on without being decoded and coded again.

That costs a third of the time and none of the quality. A stored tile goes out only if it is what decoding would show:
its tables are put in; its colour space must be said in the stream itself, since a browser sees no tag of a TIFF (JFIF
for YCbCr, Adobe's marker for either); and its coded data are walked through once, at an eighth of the scale, because a
browser shows a damaged stream half grey and says nothing.
"""

import numpy as np
import simplejpeg

from wsi.jpeg_stream import StreamDoubt, check_scan, read_head
from wsi.slide import CompressedSlide, Slide
from wsi.tile_pyramid import PyramidTile, TilePyramid

JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
"""APP0 marker (ITU-T T.871): the components are Y, Cb, Cr."""

WALK_REDUCTION = 8


def stored_level(slide: Slide, pyramid: TilePyramid, tile: PyramidTile) -> int | None:
    """The level of the file on whose grid of JPEGs a whole tile lies; None where there is none."""
    if not isinstance(slide, CompressedSlide):
        return None
    x, y, w, h = pyramid.tile_rect(tile)
    side, factor = pyramid.tile_px, float(pyramid.factor(tile.level))
    for level, (width, height) in enumerate(slide.info.level_sizes_px):
        if slide.info.level_downsample(level) == (factor, factor) and slide.jpeg_tile_px(level) == (side, side):
            whole = w == h == side and x + w <= width and y + h <= height
            return level if whole else None
    return None


def stored_jpeg(slide: Slide, pyramid: TilePyramid, tile: PyramidTile) -> bytes | None:
    """A complete JPEG of a tile as the file has it; None where it must be decoded.

    Raises
    ------
    TileReadError
        If the file cannot be read there.
    """
    level = stored_level(slide, pyramid, tile)
    if level is None or not isinstance(slide, CompressedSlide):
        return None
    (stream,) = slide.read_jpegs(level, [(tile.row, tile.column)])
    return _presentable(stream, pyramid.tile_px)


def _presentable(stream: np.ndarray, side_px: int) -> bytes | None:
    """The stream as a browser shows it rightly; None if it had better be decoded, which also says what is wrong."""
    try:
        head = read_head(stream)
        check_scan(stream, head.length)
        if (head.width_px, head.height_px) != (side_px, side_px):
            return None
        data = stream.tobytes()
        least = side_px // WALK_REDUCTION
        simplejpeg.decode_jpeg(data, "RGB", min_width=least, min_height=least, min_factor=WALK_REDUCTION)
    except (StreamDoubt, ValueError):
        return None
    before = data[: head.length]
    return data if b"JFIF\0" in before or b"Adobe" in before else b"".join((data[:2], JFIF, data[2:]))


__all__ = ["stored_jpeg", "stored_level"]
