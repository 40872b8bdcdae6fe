"""One synthetic slide, from its seed to a file."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsi.synthetic import optics, render, scene
from wsi.synthetic.artefacts import PENS, Artefact, Marker, Overlay
from wsi.synthetic.layout import Layout, distance_without_holes, plan, region_name
from wsi.synthetic.noise import Pixels
from wsi.synthetic.svs import Jpeg, Subsampling, write_svs
from wsi.synthetic.truth import SlideTruth, outlines, patterns_of

LARGEST_PX = 131_072
SMALLEST_PX = 256


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
    artefacts: Sequence[Artefact] = (),
    marker: Marker | None = None,
    tissue: float | None = None,
    stain_seed: int | None = None,
) -> SlideTruth:
    """Write one slide as a pyramidal Aperio-style SVS; the same arguments give the same bytes.

    Parameters
    ----------
    path : path
        The file to write; it appears under this name when it is complete. Its stem is the slide's id.
    seed : int
    size_px0 : (int, int)
        Width and height, level-0 px, 256 to 131,072 each. Memory grows with the plan at 8 um per pixel only.
    grade : int or None
        ISUP grade group 0-5; None draws one from the seed.
    site : int
        Laboratory and scanner: stain colours, white point, tone curve, sharpness. Sites 0-2 are far apart.
    mpp : float
        um per level-0 px, 0.2 to 0.6. The file says AppMag 40 below 0.36, else 20.
    quality : int or None
        JPEG quality, 1-100; None takes the site's.
    subsampling : {"4:2:0", "4:2:2", "4:4:4"}
    artefacts : sequence of str
        Pen of four colours, shadow, glass edge, coverslip line, dust, black surround, pale stain, adipose tissue.
    marker : Marker or None
        A coloured disc or square at a known place.
    tissue : float or None
        Share of the slide's area to cover with tissue, before holes.
    stain_seed : int or None
        Seed of the slide's own change of stain; slides that share it look alike. None takes `seed`.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the slide is too small for the grade's regions.
    """
    path = Path(path)
    _check(size_px0, grade, site, mpp, tissue)
    if grade is None:
        grade = int(np.random.default_rng([seed & 0xFFFFFFFF, 1]).integers(6))
    layout = plan(seed, size_px0, mpp, grade, tissue, "fat" in artefacts)
    look = optics.site_optics(site, seed if stain_seed is None else stain_seed)
    table = optics.colour_table(look, 0.4 if "pale" in artefacts else 1.0)
    overlay = Overlay(seed, tuple(artefacts), size_px0, mpp, scene.grid_px(mpp), marker)
    outer = distance_without_holes(layout) if set(PENS) & set(artefacts) else layout.tissue
    habit, tint = scene.slide_habit(seed), scene.slide_tint(seed)
    setting = scene.Scene(seed, mpp, layout, habit, tint, look, table, overlay, outer)
    jpeg = Jpeg(look.quality if quality is None else quality, subsampling)
    part = path.with_name(f".{path.stem}.part{path.suffix}")

    def draw(x_px0: int, y_px0: int, w_px: int, h_px: int) -> Pixels:
        return render.draw_block(setting, x_px0, y_px0, w_px, h_px)

    write_svs(part, path.stem, size_px0, mpp, jpeg, draw)
    part.replace(path)
    return _truth(path.stem, layout, grade, mpp, size_px0)


def _check(size_px0: tuple[int, int], grade: int | None, site: int, mpp: float, tissue: float | None) -> None:
    if not all(SMALLEST_PX <= side <= LARGEST_PX for side in size_px0):
        raise ValueError(f"size_px0 {size_px0}: each side must be {SMALLEST_PX} to {LARGEST_PX} px")
    if grade is not None and grade not in range(6):
        raise ValueError(f"grade {grade}: ISUP grade groups are 0 (benign) to 5")
    if site < 0:
        raise ValueError(f"site {site}: must not be negative")
    if not 0.2 <= mpp <= 0.6:
        raise ValueError(f"mpp {mpp}: synthetic slides are drawn at 0.2 to 0.6 um per px")
    if tissue is not None and not 0.02 <= tissue <= 0.95:
        raise ValueError(f"tissue {tissue}: the share of the slide to cover must be 0.02 to 0.95")


def _truth(slide_id: str, layout: Layout, grade: int, mpp: float, size_px0: tuple[int, int]) -> SlideTruth:
    fraction = layout.area()
    primary, secondary = patterns_of(fraction)
    regions = tuple(
        (region_name(code), ring)
        for code in sorted(layout.patterns)
        for ring in outlines(layout.labels == code, layout.downsample, size_px0)
    )
    return SlideTruth(
        slide_id,
        grade,
        primary,
        secondary,
        fraction,
        regions,
        layout.labels > 0,
        float(layout.downsample),
        mpp,
        size_px0,
    )
