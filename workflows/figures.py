"""What is drawn on the report's pages as SVG and CSS: places on a slide, legends, bars.

Places on a slide are drawn in level-0 pixels from the corner of its scanned bounds, so that the numbers in the page
are those of the slide and no rounding to a picture's pixels comes in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workflows.results import GradedSlide
from wsi.scales import Scale, round_length_um

LEGEND_STOPS = 24
OUTLINE_PARTS = 800
"""The tissue's outline is simplified to this share of the slide's longer side: finer cannot be seen."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A numbered tile on the slide: its outline, and where its number stands; all in level-0 px of the bounds."""

    number: int
    x: float
    y: float
    w: float
    h: float
    label_x: float
    label_y: float


@dataclass(frozen=True, slots=True)
class SlideDrawing:
    """What lies over the picture of a slide.

    Attributes
    ----------
    width, height : int
        The scanned bounds, level-0 px: the drawing's own units.
    outline, bad : str
        SVG paths of the tissue's edge and of unreadable tiles.
    markers : tuple of Marker
        The most-attended tiles.
    label_px0 : float
        Radius of a marker's number.
    bar_percent : float
        Length of the scale bar in percent of the width.
    bar_label : str
        The same in um or mm.
    """

    width: int
    height: int
    outline: str
    bad: str
    markers: tuple[Marker, ...]
    label_px0: float
    bar_percent: float
    bar_label: str


def slide_drawing(graded: GradedSlide) -> SlideDrawing:
    """Lay out what lies over the picture of a slide."""
    left, top, width, height = graded.info.bounds_px0
    origin = np.array([left, top])
    side = np.array(graded.grid.side_px0)
    radius = max(width, height) / 75
    corners = graded.grid.coords[[tile.row for tile in graded.top_tiles]] - origin
    limits = (radius, radius, width - radius, height - radius)
    clearance = float(np.hypot(*side)) / 2 + 1.3 * radius
    labels = spread(corners + side / 2, 2.2 * radius, clearance, limits) if len(corners) else corners
    markers = tuple(
        Marker(number, float(x), float(y), float(side[0]), float(side[1]), float(label_x), float(label_y))
        for number, ((x, y), (label_x, label_y)) in enumerate(zip(corners, labels, strict=True), start=1)
    )
    bad = graded.grid.coords[[tile.row for tile in graded.bad]] - origin
    bar_um = round_length_um(width * graded.info.require_mpp()[0] / 4)
    return SlideDrawing(
        width,
        height,
        outline_path(graded, max(width, height) / OUTLINE_PARTS),
        "".join(f"M{x:g} {y:g}h{side[0]:.1f}v{side[1]:.1f}h{-side[0]:.1f}z" for x, y in bad),
        markers,
        radius,
        100 * bar_um / (width * graded.info.require_mpp()[0]),
        length_text(bar_um),
    )


def outline_path(graded: GradedSlide, tolerance_px0: float) -> str:
    """SVG path of the tissue's edge with its holes, level-0 px of the bounds."""
    left, top, _, _ = graded.info.bounds_px0
    parts = []
    for polygon in graded.tissue.geoms:
        simple = polygon.simplify(tolerance_px0)
        for ring in (simple.exterior, *simple.interiors):
            places = [f"{x - left:.0f} {y - top:.0f}" for x, y, *_ in ring.coords[:-1]]
            parts.append(f"M{'L'.join(places)}z")
    return "".join(parts)


def spread(
    points: np.ndarray, gap: float, clearance: float, limits: tuple[float, float, float, float], *, rounds: int = 300
) -> np.ndarray:
    """Where to write numbers beside points: off the points themselves and off each other; always the same.

    Parameters
    ----------
    points : ndarray (k, 2)
        (x, y) of what is numbered.
    gap : float
        Least distance of two numbers.
    clearance : float
        Least distance of a number from any of the points.
    limits : (x0, y0, x1, y1)
        Numbers stay within; where there is not room enough they come nearer than asked.

    Returns
    -------
    ndarray (k, 2) float64
    """
    turn = np.arange(len(points)) * 2.4
    aside = 1e-3 * gap * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outward = points - points.mean(axis=0) + aside
    placed = points + clearance * outward / np.hypot(*outward.T)[:, None]
    for _ in range(rounds):
        push = np.zeros_like(placed)
        for others, least, share in ((points, clearance, 1.0), (placed, gap, 0.5)):
            way = placed[:, None] - others[None]
            distance = np.hypot(way[..., 0], way[..., 1])
            near = (distance < least - 1e-6) & (distance > 1e-9)
            lack = np.where(near, (least - distance) / np.maximum(distance, 1e-9), 0)
            push += share * (way * lack[..., None]).sum(axis=1)
        if not np.abs(push).max() > 1e-6:
            break
        placed = np.clip(placed + push, limits[:2], limits[2:])
    return placed


@dataclass(frozen=True, slots=True)
class Legend:
    """A colour bar: its CSS gradient, and its ticks as (percent of the length, text)."""

    title: str
    unit: str
    gradient: str
    ticks: tuple[tuple[float, str], ...]


def legend(scale: Scale) -> Legend:
    """The colour bar of a scale, fading as the map does."""
    stops = []
    for row in np.linspace(0, 255, LEGEND_STOPS).round().astype(int):
        r, g, b, opacity = scale.table[row].tolist()
        stops.append(f"rgb({r} {g} {b} / {opacity / 255:.3f}) {100 * row / 255:.1f}%")
    ticks = [(100 * float(scale.position(np.array(value))), text.replace("-", "\u2212")) for value, text in scale.ticks]
    if scale.clips:
        ticks[0], ticks[-1] = (ticks[0][0], f"\u2264 {ticks[0][1]}"), (ticks[-1][0], f"\u2265 {ticks[-1][1]}")
    unit = scale.unit.replace("against to for", "against \u2013 for")
    return Legend(scale.title, unit, f"linear-gradient(to right, {', '.join(stops)})", tuple(ticks))


def probability_bars(classes: Sequence[str], probabilities: Sequence[float], predicted: str) -> list[dict[str, Any]]:
    """Columns of a small bar chart of width 100 and height 100."""
    pitch = 100 / max(1, len(classes))
    return [
        {
            "x": round(k * pitch + pitch * 0.12, 2),
            "w": round(pitch * 0.76, 2),
            "h": round(max(100 * p, 1.5), 2),
            "chosen": name == predicted,
        }
        for k, (name, p) in enumerate(zip(classes, probabilities, strict=True))
    ]


def length_text(um: float) -> str:
    """A round length for people, in um below 1 mm."""
    return f"{um / 1000:g} mm" if um >= 1000 else f"{um:g} \u00b5m"
