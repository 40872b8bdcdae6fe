"""What the page is told of a slide and of its maps, as plain values: sizes, legends, outlines, marks."""

from typing import Any

import numpy as np
from shapely.geometry import mapping

from workflows.review.pixels import Shown
from wsi.scales import Scale, colour_table
from wsi.slide import SlideInfo
from wsi.tile_pyramid import TilePyramid


def pyramid_facts(pyramid: TilePyramid) -> dict[str, Any]:
    """Levels from the smallest, and how they are cut."""
    sizes = [pyramid.size_px(level) for level in range(pyramid.levels)]
    levels = [{"level": level, "width": w, "height": h} for level, (w, h) in enumerate(sizes)]
    return {"levels": levels, "tile_size": pyramid.tile_px, "overlap": 0}


def slide_facts(info: SlideInfo, pyramid: TilePyramid) -> dict[str, Any]:
    """A slide's geometry: sizes in level-0 px, `mpp` in um/px."""
    width, height = info.size_px0
    x, y, w, h = info.bounds_px0
    return {
        "width": width,
        "height": height,
        "mpp": info.mpp,
        "bounds": {"x": x, "y": y, "w": w, "h": h},
        "objective_power": info.objective_power,
        **pyramid_facts(pyramid),
    }


def maps_facts(shown: Shown, top_tile_url: str) -> dict[str, Any]:
    """The maps of a slide, cut as the slide is, and what is drawn beside them; places in level-0 px.

    Parameters
    ----------
    top_tile_url : str
        Address of the picture of a top tile, with `{number}` for its place in the list, from 1.
    """
    kept, graded = shown.kept, shown.kept.graded
    side_w, side_h = graded.grid.side_px0
    attention = dict(zip(graded.rows.tolist(), kept.slide_maps.attention.scores.tolist(), strict=True))

    def place(row: int) -> dict[str, float]:
        x, y = graded.grid.coords[row].tolist()
        return {"x": x, "y": y, "w": side_w, "h": side_h}

    return {
        "maps": [
            {
                "name": name,
                "title": one.channel.scale.title,
                "legend": legend(one.channel.scale),
                "version": shown.map_version(name),
            }
            for name, one in kept.maps.items()
        ],
        **pyramid_facts(shown.cut.pyramid),
        "default": kept.leading,
        "predicted": f"evidence-{kept.slide_maps.predicted}",
        "tissue": mapping(graded.tissue),
        "bad_tiles": [{**place(bad.row), "reason": bad.reason} for bad in graded.bad],
        "top_tiles": [
            {
                "row": top.row,
                **place(top.row),
                "attention": attention[top.row],
                "url": top_tile_url.format(number=number),
            }
            for number, top in enumerate(graded.top_tiles, start=1)
        ],
        "tile_side_px0": [side_w, side_h],
    }


def legend(scale: Scale) -> dict[str, Any]:
    """The 256 values that a map's grey levels stand for, each with its colour; ticks with their texts."""
    position = np.linspace(0, 1, 256)
    values = scale.low + position * (scale.high - scale.low)
    if scale.log:
        values = scale.low * (scale.high / scale.low) ** position
    colours = ["#" + bytes(colour).hex() for colour in colour_table(scale.colours)]
    return {
        "low": scale.low,
        "high": scale.high,
        "unit": scale.unit,
        "diverging": scale.colours == "blue-orange",
        "log": scale.log,
        "clips": scale.clips,
        "ticks": [[value, text] for value, text in scale.ticks],
        "stops": [[float(f"{value:.6g}"), colour] for value, colour in zip(values.tolist(), colours, strict=True)],
    }
