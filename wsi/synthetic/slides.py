"""One synthetic slide, from its seed to a file."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi.synthetic import optics, render
from wsi.synthetic.layout import Layout, plan, region_name
from wsi.synthetic.svs import Jpeg, Subsampling, write_svs
from wsi.synthetic.truth import SlideTruth, outlines, patterns_of

LARGEST_PX = 131_072


def write_slide(
    path: str | os.PathLike[str],
    *,
    seed: int,
    size_px0: tuple[int, int] = (6144, 6144),
    grade: int | None = None,
    site: int = 0,
    mpp: float = 0.25,
    quality: int | None = 80,
    subsampling: Subsampling = "4:2:0",
    artefacts: tuple[str, ...] = (),
    marker: tuple[float, float, float] | None = None,
    tissue: float | None = None,
    stain_seed: int | None = None,
) -> SlideTruth:
    path = Path(path)
    if grade is None:
        grade = int(np.random.default_rng([seed & 0xFFFFFFFF, 1]).integers(6))
    layout = plan(seed, size_px0, mpp, grade, tissue)
    look = optics.site_optics(site, seed if stain_seed is None else stain_seed)
    scene = render.Scene(
        seed, mpp, layout, render.slide_habit(seed), render.slide_tint(seed), look, optics.colour_table(look)
    )
    jpeg = Jpeg(look.quality if quality is None else quality, subsampling)
    part = path.with_name(f".{path.stem}.part{path.suffix}")

    def draw(x_px0: int, y_px0: int, w_px: int, h_px: int) -> NDArray[np.uint8]:
        return render.draw_block(scene, x_px0, y_px0, w_px, h_px)

    write_svs(part, path.stem, size_px0, mpp, jpeg, draw)
    part.replace(path)
    return _truth(path.stem, layout, grade, mpp, size_px0)


def _truth(slide_id: str, layout: Layout, grade: int, mpp: float, size_px0: tuple[int, int]) -> SlideTruth:
    fraction = layout.area()
    primary, secondary = patterns_of(fraction)
    regions = tuple(
        (region_name(code), ring)
        for code in sorted(layout.patterns)
        for ring in outlines(layout.labels == code, layout.downsample, size_px0)
    )
    return SlideTruth(
        slide_id, grade, primary, secondary, fraction, regions, layout.labels > 0, float(layout.downsample), mpp, size_px0
    )
