"""What about a slide's quality a reader of its report should know: glass, ink, black surround, damage, focus, stain."""

from dataclasses import asdict, dataclass

import cv2
import numpy as np

from wsi.appearance import appearance
from wsi.artefacts import find_ink
from wsi.errors import TileReadError
from wsi.glass import learn_glass
from wsi.overview import Overview, read_overview
from wsi.resample import read_scaled
from wsi.slide import Slide
from wsi.stain import stain_of
from wsi.tissue import TissueMask, tissue_of_appearance

FOCUS_MPP = 1.0
"""Scale at which focus is measured, um/px: nuclei have edges there, and JPEG noise is mostly averaged away."""

FOCUS_FIELD_PX = 256
"""Side of a field in which focus is measured."""

MAX_FOCUS_FIELDS = 12
"""Fields measured on a slide, spread evenly over its tissue."""

MIN_FIELD_TISSUE = 0.75
"""Least share of tissue in a field; the edge against the glass is no measure of focus."""

_DENSITY_OF_GREY = -np.log10((np.arange(256, dtype=np.float64) + 1) / 256)


@dataclass(frozen=True, slots=True)
class QcReport:
    """Quality of one slide. Shares are of the scanned bounds, 0 to 1.

    Attributes
    ----------
    glass_rgb : (r, g, b)
        Colour of the empty glass, 0 to 255.
    pen_share, surround_share, unreadable_share : float
        Ink of a pen; black surround; what cannot be decoded.
    focus : float or None
        Sharpness of the tissue at `FOCUS_MPP`: variance of the Laplacian over variance, median of the fields. Twice as
        much staining does not change it, blur lowers it. None where no field has enough tissue.
    focus_fields : int
        Fields measured.
    stain_density, stain_x, stain_y, stain_spread : float or None
        Amount and colour of the stain, as `wsi.stain.Stain` has them; None where nothing is stained.
    """

    glass_rgb: tuple[float, float, float]
    pen_share: float
    surround_share: float
    unreadable_share: float
    focus: float | None
    focus_fields: int
    stain_density: float | None = None
    stain_x: float | None = None
    stain_y: float | None = None
    stain_spread: float | None = None

    def to_dict(self) -> dict[str, float | int | str]:
        """Plain rounded values for a report; what was not measured is left out."""
        plain = {name: value for name, value in asdict(self).items() if value is not None}
        plain["glass_rgb"] = ", ".join(f"{value:.0f}" for value in self.glass_rgb)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in plain.items()}


def find_tissue_with_qc(slide: Slide, overview: Overview | None = None) -> tuple[TissueMask, QcReport]:
    """Tissue and quality of a slide in one go: the overview is read and measured once.

    Parameters
    ----------
    overview : Overview, optional
        If it has been read already.

    Raises
    ------
    MissingMppError, ImplausibleMppError
        If the slide has no believable pixel size.
    """
    if overview is None:
        overview = read_overview(slide)
    glass = learn_glass(overview)
    seen = appearance(overview, glass)
    pen, surround = find_ink(seen.ink, overview.side_um)
    tissue = tissue_of_appearance(overview, seen, pen | surround)
    sharpness = focus_of_fields(slide, tissue)
    stain = stain_of(overview, glass, tissue)
    report = QcReport(
        glass_rgb=glass.rgb,
        pen_share=np.count_nonzero(pen) / pen.size,
        surround_share=np.count_nonzero(surround) / surround.size,
        unreadable_share=overview.unreadable_share,
        focus=float(np.median(sharpness)) if len(sharpness) else None,
        focus_fields=len(sharpness),
        **({f"stain_{name}": value for name, value in asdict(stain).items()} if stain else {}),
    )
    return tissue, report


def focus_of_fields(slide: Slide, tissue: TissueMask) -> np.ndarray:
    """Sharpness (n,) float64 of up to `MAX_FOCUS_FIELDS` fields of tissue; what cannot be decoded is skipped."""
    side_px0 = (FOCUS_FIELD_PX * FOCUS_MPP / tissue.mpp[0], FOCUS_FIELD_PX * FOCUS_MPP / tissue.mpp[1])
    height, width = tissue.mask.shape
    axes = [
        tissue.origin_px0[axis] + np.arange(int(size * tissue.downsample[axis] / side_px0[axis])) * side_px0[axis]
        for axis, size in enumerate((width, height))
    ]
    coords = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    coords = coords[tissue.fraction(coords, side_px0) >= MIN_FIELD_TISSUE]
    steps = np.linspace(0, max(0, len(coords) - 1), min(MAX_FOCUS_FIELDS, len(coords)))
    found = []
    for x, y in coords[steps.round().astype(int)]:
        try:
            field = read_scaled(slide, (x, y, *side_px0), (FOCUS_FIELD_PX, FOCUS_FIELD_PX))
        except TileReadError:
            continue
        found.append(sharpness_of(field))
    return np.array(found)


def sharpness_of(pixels: np.ndarray) -> float:
    """Variance of the Laplacian over the variance of the grey optical density of (H, W, 3) uint8 pixels; 0 if flat.

    A 3 x 3 binomial goes first, so that the noise of a pale or badly blurred field does not pass for sharpness.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    density = cv2.LUT(grey, _DENSITY_OF_GREY)
    variance = float(density.var())
    if variance < 1e-9:
        return 0.0
    binomial = np.array([0.25, 0.5, 0.25])
    edges = cv2.Laplacian(cv2.sepFilter2D(density, cv2.CV_64F, binomial, binomial), cv2.CV_64F)
    return float(edges[2:-2, 2:-2].var()) / variance
