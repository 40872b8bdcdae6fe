"""What a slide is compared by with those a model was trained on: some of its tiles, their mean, and its traits.

Tiles are compared by direction (Sun et al.: Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022,
https://arxiv.org/abs/2204.06507) in at most 256 dimensions: a projection by random signs keeps distances (Achlioptas:
Database-friendly random projections, Journal of Computer and System Sciences 2003), and as no slide has a part in it,
training slides and new ones stay alike. The signs are bits of PCG64, the same on every machine.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.conformal_scores import slide_uniforms
from wsi.errors import RecipeMismatchError

if TYPE_CHECKING:
    from mil.bag import Bag, Choice
    from wsi.store import FeatureStore

MEAN_TILES = 128
"""Tiles of a slide that are drawn; their mean stands for the slide."""

TILES = 32
"""Of these, tiles that are compared one by one."""

DIMENSIONS = 256

TRAITS = ("stain_density", "stain_x", "stain_y", "stain_spread", "focus", "glass_r", "glass_g", "glass_b", "tissue_mm2")
"""Numbers about a slide's pixels, as extraction leaves them in its store."""


@dataclass(frozen=True, slots=True)
class SlideView:
    """A slide, reduced to what is compared.

    Attributes
    ----------
    tiles : ndarray (m, d) float32
        Directions of some tiles; rows have length 1, or 0 where a tile has no features at all.
    mean : ndarray (D,) float32
        Mean of the drawn tiles' features.
    traits : ndarray (9,) float64
        As `TRAITS` names them; NaN where one was not measured.
    """

    tiles: np.ndarray
    mean: np.ndarray
    traits: np.ndarray

    @classmethod
    def of(cls, bag: "Bag", traits: np.ndarray, seed: int = 0) -> "SlideView":
        """The view of a whole bag; the order of its tiles does not matter."""
        ordered = bag.take(np.argsort(bag.rows, kind="stable"))
        drawn = choice(seed)(bag.slide_id, len(bag))
        return cls.of_drawn(ordered if drawn is None else ordered.take(drawn), traits)

    @classmethod
    def of_drawn(cls, bag: "Bag", traits: np.ndarray) -> "SlideView":
        """The view of a bag of tiles that `choice` drew."""
        features = bag.features.astype(np.float32)
        projected = _directions(features[:TILES])
        return cls(projected, features.mean(axis=0, dtype=np.float64).astype(np.float32), traits)


def choice(seed: int) -> "Choice":
    """Which tiles of a slide are drawn, in an order of chance: by its name, its number of tiles and the seed alone."""

    def choose(slide_id: str, tiles: int) -> np.ndarray:
        own = int(slide_uniforms([slide_id], seed)[0] * 2**53)
        return np.random.default_rng([seed, own]).permutation(tiles)[:MEAN_TILES]

    return choose


def traits_of(store: "FeatureStore") -> np.ndarray:
    """The traits (9,) of a slide; NaN for what its store does not say, as where older programs or others made it."""
    found = measured(store.meta.get("qc") or {})
    with suppress(RecipeMismatchError):  # imported features come without their tissue
        found["tissue_mm2"] = store.tissue_area_um2 / 1e6
    return np.array([found.get(name, np.nan) for name in TRAITS])


def measured(qc: Mapping[str, Any]) -> dict[str, float]:
    """The traits that a slide's quality, as a store keeps it, tells of."""
    found = {name: float(qc[name]) for name in TRAITS if isinstance(qc.get(name), int | float)}
    if isinstance(qc.get("glass_rgb"), str):
        red, green, blue = (float(part) for part in qc["glass_rgb"].split(","))
        found |= {"glass_r": red, "glass_g": green, "glass_b": blue}
    return found


def _directions(features: np.ndarray) -> np.ndarray:
    """Features (m, D) projected and scaled to length 1, (m, d) float32."""
    if features.shape[1] > DIMENSIONS:
        features = features @ _signs(features.shape[1])
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, 1), dtype=np.float32)


@lru_cache(maxsize=4)
def _signs(columns: int) -> np.ndarray:
    """(D, 256) float32 of +1 and -1, over 16, so that lengths are kept on average."""
    raw = np.random.PCG64(0).random_raw(columns * DIMENSIONS // 64).astype("<u8")
    bits = np.unpackbits(raw.view(np.uint8)).reshape(columns, DIMENSIONS)
    return ((2 * bits.astype(np.float32)) - 1) / np.float32(DIMENSIONS**0.5)
