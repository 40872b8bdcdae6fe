"""Quality: shares that follow from the picture's geometry, and a focus that blur lowers and staining does not."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from wsi.errors import TileReadError
from wsi.overview import read_overview
from wsi.qc import FOCUS_FIELD_PX, MAX_FOCUS_FIELDS, find_tissue_with_qc, focus_of_fields, sharpness_of
from wsi.slide import Slide, open_slide
from wsi.tissue import TissueMask, find_tissue


def texture(side: int, blur_px: float = 0.0, strength: float = 1.0) -> np.ndarray:
    """Pink noise with edges (side, side, 3) uint8."""
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(size=(side, side)).astype(np.float32), (0, 0), 2)
    density = 0.3 + 0.1 * (noise > 0)
    if blur_px:
        density = cv2.GaussianBlur(density, (0, 0), blur_px)
    return (245 * 10 ** -(strength * density[..., None] * np.array([0.2, 1.0, 0.5]))).astype(np.uint8)


def slide_of(folder: Path, pixels: np.ndarray, mpp: float = 1.0) -> Slide:
    np.save(folder / "slide.npy", pixels)
    return open_slide(folder / "slide.npy", mpp=(mpp, mpp))


@pytest.fixture
def canvas() -> np.ndarray:
    """Glass of 1600 x 2000 um at 1 um/px with 1000 x 1000 um of tissue."""
    pixels = np.full((1600, 2000, 3), (244, 240, 242), np.uint8)
    pixels[400:1400, 600:1600] = texture(1000)
    return pixels


class TestReport:
    def test_a_clean_slide(self, tmp_path: Path, canvas: np.ndarray) -> None:
        slide = slide_of(tmp_path, canvas)
        tissue, report = find_tissue_with_qc(slide)
        assert np.array_equal(tissue.mask, find_tissue(slide).mask)
        assert tissue.area_um2 == pytest.approx(1e6, rel=0.02)
        assert report.glass_rgb == (244, 240, 242)
        assert (report.pen_share, report.surround_share, report.unreadable_share) == (0, 0, 0)
        assert report.focus_fields == 9  # fields of 256 um in 1000 um with at least 3/4 tissue
        assert report.to_dict()["glass_rgb"] == "244, 240, 242"

    @pytest.mark.parametrize("ink", [(30, 70, 190), (20, 130, 60), (215, 30, 40), (15, 15, 18)])
    def test_the_share_of_a_stroke(self, tmp_path: Path, canvas: np.ndarray, ink: tuple[int, int, int]) -> None:
        canvas[100:260, 200:1800] = ink
        tissue, report = find_tissue_with_qc(slide_of(tmp_path, canvas))
        # The stroke, and 16 um that are taken off around it.
        assert 160 * 1600 <= report.pen_share * canvas.shape[0] * canvas.shape[1] <= 200 * 1640
        assert report.surround_share == 0
        assert tissue.area_um2 == pytest.approx(1e6, rel=0.02)

    def test_the_share_of_black_surround(self, tmp_path: Path, canvas: np.ndarray) -> None:
        canvas[:, :400] = 2
        _, report = find_tissue_with_qc(slide_of(tmp_path, canvas))
        assert report.surround_share == pytest.approx(400 / 2000, abs=0.015)
        assert report.pen_share == 0

    def test_an_empty_slide_has_no_focus(self, tmp_path: Path) -> None:
        slide = slide_of(tmp_path, np.full((900, 900, 3), 240, np.uint8))
        tissue, report = find_tissue_with_qc(slide, read_overview(slide))
        assert not tissue.mask.any()
        assert report.focus is None
        assert report.focus_fields == 0
        assert "focus" not in report.to_dict()

    def test_a_slide_smaller_than_a_field(self, tmp_path: Path) -> None:
        _, report = find_tissue_with_qc(slide_of(tmp_path, texture(200)))
        assert report.focus is None


class TestFocus:
    def test_blur_lowers_it(self) -> None:
        sharpness = [sharpness_of(texture(256, blur)) for blur in (0, 1, 2, 4)]
        assert sharpness == sorted(sharpness, reverse=True)
        assert sharpness[0] > 5 * sharpness[2]

    def test_staining_hardly_changes_it(self) -> None:
        assert sharpness_of(texture(256, 1, 0.6)) == pytest.approx(sharpness_of(texture(256, 1, 1.2)), rel=0.1)

    def test_stripes_by_hand(self) -> None:
        # Of a cosine of 8 px the binomial leaves (1 + c) / 2 and the Laplacian makes 2 (1 - c), with c = cos(45 deg):
        # 1 - c^2 = 1/2 together, so that the variances are as 1 to 4.
        stripes = 0.3 + 0.1 * np.cos(2 * np.pi * np.arange(8 * 20) / 8)
        grey = np.rint(np.tile(256 * 10**-stripes - 1, (160, 1))).astype(np.uint8)
        assert sharpness_of(np.repeat(grey[..., None], 3, axis=2)) == pytest.approx(0.25, rel=0.02)

    def test_a_flat_field_is_zero(self) -> None:
        assert sharpness_of(np.full((32, 32, 3), 200, np.uint8)) == 0

    def test_the_number_of_fields_is_bounded(self, tmp_path: Path) -> None:
        slide = slide_of(tmp_path, np.full((1600, 1600, 3), 200, np.uint8), mpp=4.0)
        tissue = TissueMask(np.ones((800, 800), bool), (2.0, 2.0), (0, 0), (4.0, 4.0))
        assert len(focus_of_fields(slide, tissue)) == MAX_FOCUS_FIELDS

    def test_fields_that_cannot_be_decoded_are_skipped(self, tmp_path: Path, canvas: np.ndarray) -> None:
        slide = slide_of(tmp_path, canvas)
        slide.info = replace(slide.info, bounds_px0=(600, 400, 1000, 1000))  # type: ignore[misc]
        tissue = find_tissue(slide)
        whole = slide.read_region

        def damaged(location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
            if location_px0 == (600, 400):
                raise TileReadError("damaged")
            return whole(location_px0, level, size_px)

        before = len(focus_of_fields(slide, tissue))
        slide.read_region = damaged  # type: ignore[method-assign]
        assert before == (1000 // FOCUS_FIELD_PX) ** 2
        assert len(focus_of_fields(slide, tissue)) == before - 1
