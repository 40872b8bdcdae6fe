"""Where inside the most-attended tiles the evidence lies, for the report: read, and asked of encoder and model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workflows.results import TopTile
from wsi.errors import UsageError
from wsi.slide import Slide
from wsi.tiles import TileGrid, TileReader

if TYPE_CHECKING:
    from mil.bag import Bag
    from mil.encoders import Encoder
    from mil.model_folder import GradingModel


def check_encoder(encoder: "Encoder") -> None:
    """Raise `UsageError` unless the encoder can be looked into."""
    from mil.inside_tile import can_look_inside

    if not can_look_inside(encoder):
        raise UsageError(
            f"the encoder {encoder.card.name} has no layers to look into; leave --inside-tiles out, or use lite0 or a "
            "timm encoder"
        )


def with_insides(
    model: "GradingModel",
    encoder: "Encoder",
    bag: "Bag",
    slide: Slide,
    grid: TileGrid,
    tops: Sequence[TopTile],
    predicted: str,
) -> tuple[TopTile, ...]:
    """The top tiles, each with a map (h, w) of where in it the evidence for the predicted class lies.

    It takes one pass through the encoder and back for each tile. A tile that cannot be read again has an empty map.
    """
    from mil.encoders.timm import TimmEncoder
    from mil.inside_tile import feature_slopes, inside_tile

    if not tops or not isinstance(encoder, TimmEncoder):
        return tuple(tops)
    rows = np.array([top.row for top in tops])
    places, chosen = np.searchsorted(bag.rows, rows), model.card.classes.index(predicted)
    slopes = np.mean([feature_slopes(one, model.link, bag, places, chosen) for one in model.networks], axis=0)
    order = np.argsort(rows)
    batch = TileReader(slide, grid).read(rows[order])
    pixels = dict(zip(batch.rows.tolist(), batch.pixels, strict=True))
    maps = {
        row: inside_tile(encoder, pixels[row], slope)
        for row, slope in zip(rows.tolist(), slopes, strict=True)
        if row in pixels
    }
    shape = next(iter(maps.values())).shape if maps else (1, 1)
    return tuple(replace(top, inside=maps.get(top.row, np.zeros(shape, np.float32))) for top in tops)
