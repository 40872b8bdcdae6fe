"""Pictures of a heatmap over the slide's thumbnail, with legend and scale bar: `attention.png` and `evidence.png`.

Where no tile was scored the thumbnail is left as it is; tiles that should have been and were not are crossed out. The
evidence is that for the class which the slide was given. Lengths are written in mm and text in plain letters, because
the font that comes with Pillow has no more.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from shapely import Polygon

from wsi.exports import Export
from wsi.files import write_atomic
from wsi.heatmap import Channel, SlideMaps
from wsi.pictures import encode_palette, encode_picture
from wsi.scales import Scale, round_length_um
from wsi.tiles import tile_polygons

INK, FAINT, LINE = (32, 33, 36), (95, 99, 104), (190, 194, 199)
OUTLINE = (70, 74, 80)
LEAST_WIDTH_PX = 900
MARGIN_PX = 24
BAR_PX = (300, 14)


def write_png(folder: Path, maps: SlideMaps) -> None:
    """Write `attention.png` and `evidence.png`."""
    for name, channel in (("attention", maps.attention), ("evidence", maps.evidence[maps.predicted])):
        write_atomic(folder / f"{name}.png", encode_picture(draw_heatmap(maps, channel), "PNG"))


def draw_heatmap(maps: SlideMaps, channel: Channel) -> np.ndarray:
    """The picture of one channel with title, legend and scale bar, (H, W, 3) uint8 RGB."""
    pixels = overlay(maps, channel)
    draw_outline(pixels, maps)
    missing = draw_unscored(pixels, maps)
    height, width = pixels.shape[:2]
    canvas_w = max(LEAST_WIDTH_PX, width + 2 * MARGIN_PX)
    top, bottom = 64, 96
    canvas = Image.new("RGB", (canvas_w, top + height + bottom), "white")
    left = (canvas_w - width) // 2
    canvas.paste(Image.fromarray(pixels), (left, top))
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=LINE)
    pen.text((left, 36), shortened(maps.info.slide_id, 60), INK, _font(20), anchor="ls")
    pen.text((left, 54), channel.scale.title, FAINT, _font(14), anchor="ls")
    _draw_scale_bar(pen, (left, top + height + 34), scale_bar(maps, width / 4))
    if missing:
        text = f"{missing} crossed {'tile' if missing == 1 else 'tiles'} not scored"
        pen.text((left, top + height + 78), text, FAINT, _font(13), anchor="ls")
    end = max(left + width, left + LEAST_WIDTH_PX - 2 * MARGIN_PX)
    _draw_legend(canvas, (min(end, canvas_w - MARGIN_PX) - BAR_PX[0] - BAR_PX[1], top + height + 24), channel.scale)
    return np.asarray(canvas)


def overlay(maps: SlideMaps, channel: Channel) -> np.ndarray:
    """The thumbnail with one channel on it, (H, W, 3) uint8 RGB."""
    return channel.scale.over(maps.on_thumbnail(channel), maps.thumbnail)


def layer(maps: SlideMaps, channel: Channel) -> bytes:
    """One channel alone as a PNG on the thumbnail's pixels, to be laid over it."""
    values = maps.on_thumbnail(channel)
    return encode_palette(channel.scale.index(values), channel.scale.table, np.isfinite(values))


def draw_outline(pixels: np.ndarray, maps: SlideMaps) -> None:
    """Draw the tissue's outline into a picture of the thumbnail, one pixel wide."""
    rings = [ring for polygon in maps.tissue.geoms for ring in _rings(polygon)]
    origin, pitch = np.array(maps.info.bounds_px0[:2]), np.array(maps.thumbnail_pitch_px0)
    points = [np.rint(((ring - origin) / pitch - 0.5) * 16).astype(np.int32) for ring in rings]
    cv2.polylines(pixels, points, isClosed=True, color=OUTLINE, thickness=1, lineType=cv2.LINE_AA, shift=4)


def draw_unscored(pixels: np.ndarray, maps: SlideMaps) -> int:
    """Cross out the tiles of the grid that have no score, unreadable ones mostly; gives their number."""
    unscored = np.delete(tile_polygons(maps.grid), maps.rows, axis=0)
    corners = (unscored - maps.info.bounds_px0[:2]) / maps.thumbnail_pitch_px0 - 0.5
    for ring in np.rint(corners * 16).astype(np.int32):
        for line in (ring, ring[[0, 2]], ring[[1, 3]]):
            cv2.polylines(pixels, [line], isClosed=True, color=OUTLINE, thickness=1, lineType=cv2.LINE_AA, shift=4)
    return len(unscored)


def _rings(polygon: Polygon) -> list[np.ndarray]:
    return [np.asarray(ring.coords)[:, :2] for ring in (polygon.exterior, *polygon.interiors)]


def scale_bar(maps: SlideMaps, longest_px: float) -> tuple[float, str]:
    """A round length that is at most `longest_px` of the thumbnail: pixels, and how it is written."""
    um_per_px = maps.thumbnail_pitch_px0[0] * maps.info.require_mpp()[0]
    length = round_length_um(longest_px * um_per_px)
    return length / um_per_px, f"{length / 1000:g} mm"


def shortened(text: str, most: int) -> str:
    """A text with its middle left out where it is too long."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\u2026{text[-(most // 2 - 1) :]}"


def _draw_scale_bar(pen: ImageDraw.ImageDraw, place: tuple[int, int], bar: tuple[float, str]) -> None:
    x, y = place
    length, text = bar
    pen.rectangle((x, y, x + round(length) - 1, y + 3), fill=INK)
    pen.text((x, y + 22), text, INK, _font(14), anchor="ls")


def _draw_legend(canvas: Image.Image, place: tuple[int, int], scale: Scale) -> None:
    """The colours over white, with ticks and unit; points at the ends where values beyond them exist."""
    (x, y), (w, h) = place, BAR_PX
    values = scale.low + np.linspace(0, 1, w) * (scale.high - scale.low)
    if scale.log:
        values = scale.low * (scale.high / scale.low) ** np.linspace(0, 1, w)
    bar = scale.over(np.repeat(values[None], h, axis=0), np.full((h, w, 3), 255, np.uint8))
    canvas.paste(Image.fromarray(bar), (x, y))
    pen = ImageDraw.Draw(canvas)
    frame = [(x - 1, y - 1), (x + w, y - 1), (x + w, y + h), (x - 1, y + h)]
    if scale.clips:
        frame = [*frame[:2], (x + w + h // 2, y + h // 2), *frame[2:], (x - 1 - h // 2, y + h // 2)]
        for end, colour in ((frame[2], bar[0, -1]), (frame[-1], bar[0, 0])):
            side = x + w if end[0] > x else x - 1
            pen.polygon([end, (side, y), (side, y + h - 1)], fill=tuple(colour.tolist()))
    pen.polygon(frame, outline=LINE)
    for value, text in scale.ticks:
        at = x + round(float(scale.position(np.array(value))) * (w - 1))
        pen.line((at, y + h + 1, at, y + h + 4), fill=INK)
        pen.text((at, y + h + 19), text, INK, _font(13), anchor="ms")
    pen.text((x + w // 2, y + h + 37), scale.unit, FAINT, _font(13), anchor="ms")


def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


EXPORT = Export(("attention.png", "evidence.png"), write_png)

__all__ = ["EXPORT", "draw_heatmap", "draw_outline", "layer", "overlay", "scale_bar", "shortened", "write_png"]
