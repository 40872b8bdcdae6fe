"""Readers who pan and zoom: seeded walks over slides, as views, and the tiles that a view needs from either server.

A view is a rectangle of a slide at a scale. What is asked for is what OpenSeadragon would ask for to fill it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

VIEW_PX = (960, 720)
"""A page's viewport in which about 12 tiles of 256 px are seen."""


@dataclass(frozen=True)
class SlideSize:
    """A slide by its number, and its size in level-0 px."""

    number: int
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """What a reader sees: top left in level-0 px, and level-0 px along a pixel of the screen, a power of two."""

    slide: SlideSize
    x: float
    y: float
    factor: int


def walk(slide: SlideSize, rng: np.random.Generator, steps: int) -> Iterator[View]:
    """A reader's way over a slide: in from the whole, then mostly along at one zoom, now and then in or out."""
    coarsest = max(0, math.ceil(math.log2(max(slide.width / VIEW_PX[0], slide.height / VIEW_PX[1]))))
    power, (x, y) = coarsest, (rng.uniform(0, slide.width), rng.uniform(0, slide.height))
    heading = rng.uniform(0, 2 * math.pi)
    for _ in range(steps):
        factor = 1 << power
        w, h = VIEW_PX[0] * factor, VIEW_PX[1] * factor
        x, y = (
            min(max(place, view / 2), max(size - view / 2, view / 2))
            for place, view, size in ((x, w, slide.width), (y, h, slide.height))
        )
        yield View(slide, max(0.0, x - w / 2), max(0.0, y - h / 2), factor)
        act = rng.random()
        if power > 0 and (power == coarsest or act < 0.25):
            power -= 1
        elif act > 0.93:
            power = min(coarsest, power + 1)
        else:
            heading += rng.normal(0, 0.5)
            x, y = x + math.cos(heading) * w * 0.6, y + math.sin(heading) * h * 0.6


def tiles_under(view: View, tile_px: int) -> Iterator[tuple[int, int]]:
    """(column, row) of the tiles of the view's level that it shows."""
    ranges = []
    for start, size, length in ((view.x, view.slide.width, VIEW_PX[0]), (view.y, view.slide.height, VIEW_PX[1])):
        whole = -(-size // view.factor)
        first = int(start / view.factor)
        ranges.append(range(first // tile_px, -(-min(first + length, whole) // tile_px)))
    for row in ranges[1]:
        for column in ranges[0]:
            yield column, row


def desk_tiles(view: View, cases: list[int], tile_px: int, version: str, levels: int) -> list[str]:
    """Addresses at the desk."""
    level = levels - 1 - view.factor.bit_length() + 1
    place = f"/api/cases/{cases[view.slide.number]}/tiles/{level}"
    return [f"{place}/{column}_{row}.jpg?v={version}" for column, row in tiles_under(view, tile_px)]


def deepzoom_tiles(view: View, tile_px: int) -> list[str]:
    """Addresses at a DeepZoom server, whose levels count up to the whole slide from a single pixel."""
    finest = math.ceil(math.log2(max(view.slide.width, view.slide.height)))
    level = finest - view.factor.bit_length() + 1
    place = f"/{view.slide.number}_files/{level}"
    return [f"{place}/{column}_{row}.jpeg" for column, row in tiles_under(view, tile_px)]
