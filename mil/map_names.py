"""Names of the maps of a slide's tiles and what people call them. Knows neither torch nor a model."""

from typing import Literal

MapName = Literal["attention", "evidence", "contribution", "gradient", "left_out"]

MAPS: tuple[MapName, ...] = ("evidence", "attention", "contribution", "gradient", "left_out")
"""What each costs rises: of maps that do equally well the first is shown. `mil.explanations` has their equations."""

SIGNED: tuple[MapName, ...] = ("contribution", "gradient", "left_out")
"""In logits, for or against a class; the others are probabilities and shares."""

MAP_TITLES: dict[MapName, str] = {
    "attention": "attention",
    "evidence": "evidence of the tile alone",
    "contribution": "attention x evidence",
    "gradient": "gradient x input",
    "left_out": "tiles left out",
}
