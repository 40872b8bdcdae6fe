"""Tissue: areas and shares that follow from geometry, each artefact alone, damage, and the real slides."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from wsi.errors import MissingMppError, TileReadError, UnsupportedStainError
from wsi.outline import mask_polygons
from wsi.overview import Overview, read_overview
from wsi.slide import Slide, SlideInfo, open_slide
from wsi.synthetic import write_slide
from wsi.tissue import TissueMask, check_brightfield, find_tissue, tissue_polygons

EOSIN = np.array([0.05, 0.35, 0.18], np.float32)
HAEMATOXYLIN = np.array([0.45, 0.50, 0.22], np.float32)
INKS = {
    "black": (1.2, 1.2, 1.15),
    "blue": (1.1, 0.55, 0.12),
    "green": (0.95, 0.25, 0.6),
    "red": (0.04, 0.95, 0.85),
    "pale blue": (0.4, 0.2, 0.05),
    "ink blue": (0.83, 0.63, 0.23),
    "brick red": (0.16, 0.86, 0.71),
}


def disc_mask(shape: tuple[int, int], x: float, y: float, radius: float) -> np.ndarray:
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    return (cols - x) ** 2 + (rows - y) ** 2 < radius**2


class Canvas:
    """A 4.8 x 3.6 mm picture at 4 um/px: a disc of tissue with a hole, on glass."""

    def __init__(self, glass: tuple[int, int, int] = (243, 241, 244), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape = (900, 1200)
        self.truth = disc_mask(self.shape, 520, 450, 300) & ~disc_mask(self.shape, 430, 400, 60)
        self.glass = np.ones((*self.shape, 1), np.float32) * np.array(glass, np.float32)
        self.density = np.zeros((*self.shape, 3), np.float32)

    def noise(self, sigma_px: float) -> np.ndarray:
        field = cv2.GaussianBlur(self.rng.normal(size=self.shape).astype(np.float32), (0, 0), sigma_px)
        return field / field.std()

    def stain(self, strength: float = 1.0) -> "Canvas":
        nuclei = np.clip(self.noise(1.0) - 0.8, 0, 1)[..., None] * HAEMATOXYLIN
        ground = np.clip(1 + 0.3 * self.noise(2.0), 0.1, None)[..., None] * EOSIN
        self.density += (nuclei + ground) * strength * self.truth[..., None]
        return self

    def slide(self, folder: Path, quality: int = 80) -> Slide:
        pixels = self.glass * 10**-self.density + self.rng.normal(size=self.density.shape) * 3
        return open_slide(save(folder, as_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), quality)), mpp=(4.0, 4.0))


def as_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)[..., ::-1]


def save(folder: Path, pixels: np.ndarray) -> Path:
    path = folder / "slide.npy"
    np.save(path, np.ascontiguousarray(pixels))
    return path


def iou(tissue: TissueMask, truth: np.ndarray) -> float:
    share = cv2.resize(truth.astype(np.float32), tissue.mask.shape[::-1], interpolation=cv2.INTER_AREA)
    return float((tissue.mask & (share >= 0.5)).sum() / (tissue.mask | (share >= 0.5)).sum())


def rectangle_slide(folder: Path, size: tuple[int, int], rect: tuple[int, int, int, int]) -> Path:
    """A flat pink rectangle (x, y, w, h) on glass."""
    pixels = np.full((size[1], size[0], 3), 240, np.uint8)
    x, y, w, h = rect
    pixels[y : y + h, x : x + w] = (225, 150, 190)
    return save(folder, pixels)


class TestMask:
    def test_a_rectangle_is_found_to_the_pixel(self, tmp_path: Path) -> None:
        slide = open_slide(rectangle_slide(tmp_path, (1600, 1600), (320, 480, 640, 800)), mpp=(1.0, 1.0))
        tissue = find_tissue(slide)
        expected = np.zeros((200, 200), bool)
        expected[60:160, 40:120] = True
        # Only the four corners may be rounded, by three pixels each.
        assert (tissue.mask != expected).sum() <= 12
        assert tissue.area_um2 == pytest.approx(640 * 800, rel=0.002)

    @pytest.mark.parametrize("radius_um", [300, 800])
    def test_the_area_of_a_disc(self, tmp_path: Path, radius_um: int) -> None:
        pixels = np.full((1000, 1000, 3), 240, np.uint8)
        pixels[disc_mask((1000, 1000), 500, 480, radius_um / 2)] = (225, 150, 190)
        tissue = find_tissue(open_slide(save(tmp_path, pixels), mpp=(2.0, 2.0)))
        assert tissue.area_um2 == pytest.approx(np.pi * radius_um**2, rel=0.02)

    def test_the_downsample_is_exact_and_fractional(self, tmp_path: Path) -> None:
        slide = open_slide(rectangle_slide(tmp_path, (1000, 777), (200, 200, 500, 300)), mpp=(0.499, 0.499))
        tissue = find_tissue(slide)
        assert tissue.mask.shape == (48, 62)  # 777 * 0.499 / 8 = 48.5, rounded to even; 1000 * 0.499 / 8 = 62.4
        assert tissue.downsample == (1000 / 62, 777 / 48)

    def test_a_mask_is_never_finer_than_the_slide(self, tmp_path: Path) -> None:
        slide = open_slide(rectangle_slide(tmp_path, (300, 200), (50, 50, 200, 100)), mpp=(16.0, 16.0))
        tissue = find_tissue(slide)
        assert tissue.mask.shape == (200, 300)
        assert tissue.downsample == (1.0, 1.0)

    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (17, 5)])
    def test_tiny_slides(self, tmp_path: Path, size: tuple[int, int]) -> None:
        slide = open_slide(save(tmp_path, np.full((size[1], size[0], 3), 240, np.uint8)), mpp=(0.5, 0.5))
        assert not find_tissue(slide).mask.any()

    def test_bounds_shift_the_mask(self, tmp_path: Path) -> None:
        slide = open_slide(rectangle_slide(tmp_path, (1600, 1600), (640, 800, 320, 320)), mpp=(1.0, 1.0))
        slide.info = replace(slide.info, bounds_px0=(400, 560, 800, 960))  # type: ignore[misc]
        tissue = find_tissue(slide)
        assert tissue.origin_px0 == (400, 560)
        assert tissue.mask.shape == (120, 100)
        (outline,) = tissue.polygons()
        np.testing.assert_allclose(outline.bounds, (640, 800, 960, 1120), atol=8)

    def test_a_missing_pixel_size_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(MissingMppError, match="--slide-mpp"):
            find_tissue(open_slide(rectangle_slide(tmp_path, (100, 100), (0, 0, 50, 50))))

    def test_the_same_pixels_give_the_same_mask_on_any_number_of_threads(self, tmp_path: Path) -> None:
        overview = read_overview(Canvas().stain(0.3).slide(tmp_path))
        before = cv2.getNumThreads()
        masks = []
        for threads in (1, 4):
            cv2.setNumThreads(threads)
            masks.append(find_tissue(overview).mask)
        cv2.setNumThreads(before)
        assert np.array_equal(*masks)


class TestHoles:
    @pytest.mark.parametrize(("radius_um", "stays"), [(55, False), (80, True)])
    def test_large_holes_stay_and_small_ones_are_filled(self, tmp_path: Path, radius_um: int, stays: bool) -> None:
        pixels = np.full((800, 800, 3), 240, np.uint8)
        pixels[disc_mask((800, 800), 400, 400, 300)] = (225, 150, 190)
        pixels[disc_mask((800, 800), 420, 380, radius_um / 2)] = 240
        (outline,) = find_tissue(open_slide(save(tmp_path, pixels), mpp=(2.0, 2.0))).polygons()
        assert len(outline.interiors) == int(stays)

    @pytest.mark.parametrize(("side_um", "kept"), [(96, False), (136, True)])
    def test_pieces_smaller_than_a_default_tile_are_dropped(self, tmp_path: Path, side_um: int, kept: bool) -> None:
        slide = open_slide(
            rectangle_slide(tmp_path, (400, 400), (160, 160, side_um // 2, side_um // 2)), mpp=(2.0, 2.0)
        )
        assert find_tissue(slide).mask.any() == kept


class TestFraction:
    def test_against_counting(self) -> None:
        rng = np.random.default_rng(3)
        mask = rng.random((40, 50)) < 0.5
        tissue = TissueMask(mask, (4.0, 3.0), (7, 11), (1.0, 1.0))
        level0 = np.zeros((400, 400), bool)
        level0[11 : 11 + 120, 7 : 7 + 200] = np.kron(mask, np.ones((3, 4), bool))
        coords = rng.integers(0, 220, (200, 2))
        counted = [level0[y : y + 31, x : x + 17].mean() for x, y in coords]
        np.testing.assert_allclose(tissue.fraction(coords, (17, 31)), counted, atol=1e-6)

    def test_fractional_downsample_and_side(self) -> None:
        # Left half tissue: a square that starts at 0 and is 1.5 times that half wide has two thirds.
        tissue = TissueMask(np.array([[True, False]]), (10.5, 30.25), (0, 0), (1.0, 1.0))
        np.testing.assert_allclose(tissue.fraction(np.array([[0, 0]]), (15.75, 30.25)), [2 / 3], rtol=1e-6)

    def test_outside_of_the_mask_there_is_no_tissue(self) -> None:
        tissue = TissueMask(np.ones((4, 4), bool), (10.0, 10.0), (100, 100), (1.0, 1.0))
        coords = np.array([[80, 100], [90, 90], [0, 0], [135, 100]])
        np.testing.assert_allclose(tissue.fraction(coords, (20.0, 20.0)), [0, 0.25, 0, 0.25])


class TestPolygons:
    def test_a_frame_has_one_hole_and_the_area_of_its_pixels(self) -> None:
        mask = np.zeros((30, 40), bool)
        mask[5:25, 10:30] = True
        mask[10:20, 15:22] = False
        tissue = TissueMask(mask, (16.25, 15.5), (1000, 2000), (0.5, 0.5))
        (outline,) = tissue_polygons(tissue)
        assert outline.area == pytest.approx((400 - 70) * 16.25 * 15.5)
        assert outline.bounds == (1000 + 10 * 16.25, 2000 + 5 * 15.5, 1000 + 30 * 16.25, 2000 + 25 * 15.5)
        assert len(outline.interiors) == 1

    @pytest.mark.parametrize("seed", range(40))
    def test_any_mask_gives_valid_polygons_of_its_pieces(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(1, 30, 2)) < rng.random()
        pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
        for tolerance_px in (0.0, 1.0):
            polygons = mask_polygons(mask, tolerance_px=tolerance_px)
            assert len(polygons) == pieces
            assert all(polygon.is_valid for polygon in polygons)
            assert sum(polygon.area for polygon in polygons) == pytest.approx(mask.sum(), rel=0.005)

    def test_simplified_outlines_keep_area_and_distance(self) -> None:
        mask = cv2.GaussianBlur(np.random.default_rng(5).normal(size=(400, 400)), (0, 0), 9) > 0
        exact, simple = mask_polygons(mask, tolerance_px=0), mask_polygons(mask, tolerance_px=1)
        assert sum(len(p.exterior.coords) for p in simple) < sum(len(p.exterior.coords) for p in exact) / 2
        assert sum(p.area for p in simple) == pytest.approx(mask.sum(), rel=0.005)
        assert simple[0].hausdorff_distance(exact[0]) <= 1.0 + 1e-9

    def test_no_tissue_no_polygons(self) -> None:
        assert TissueMask(np.zeros((5, 5), bool), (1.0, 1.0), (0, 0), (1.0, 1.0)).polygons() == []


def uneven(canvas: Canvas) -> None:
    rows, cols = np.mgrid[-1:1:900j, -1:1:1200j]
    canvas.glass *= (1 - 0.08 * ((cols - 0.2) ** 2 + (rows + 0.1) ** 2))[..., None]
    canvas.glass *= 1 - (cols[..., None] + 1) * np.array([0, 0.005, 0.015])


def shadow(canvas: Canvas) -> None:
    rows, cols = np.mgrid[:900, :1200]
    band = 0.4 * np.exp(-(((cols + 0.2 * rows - 980) / 30) ** 2)) + 0.25 * (rows > 820)
    canvas.density += (band + 0.6 * (abs(rows - 820) < 3))[..., None] * np.array([1, 1, 1.04], np.float32)


def black_surround(canvas: Canvas) -> None:
    band = np.zeros(canvas.shape, np.float32)
    band[:80] = band[:, :70] = band[-60:] = 3
    canvas.density += cv2.GaussianBlur(band, (0, 0), 1)[..., None]


def dust(canvas: Canvas) -> None:
    for _ in range(100):
        x, y, radius = canvas.rng.integers((8, 8, 1), (1192, 892, 7))
        speck = disc_mask((16, 16), 8, 8, radius)[..., None]
        tint = canvas.rng.uniform(0.2, 1) * canvas.rng.uniform(0.8, 1.2, 3)
        canvas.density[y - 8 : y + 8, x - 8 : x + 8] += speck * tint.astype(np.float32)


def fat(canvas: Canvas) -> None:
    """Cells of about 80 um between walls of one pixel in the right half of the piece."""
    seeds = np.ones(canvas.shape, np.uint8)
    rows, cols = np.mgrid[0:900:20, 0:1200:20]
    rows, cols = (axis + canvas.rng.integers(-5, 6, axis.shape) for axis in (rows, cols))
    seeds[rows.clip(0, 899), cols.clip(0, 1199)] = 0
    _, cell = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    wall = np.zeros(canvas.shape, bool)
    wall[:-1] = cell[:-1] != cell[1:]
    wall[:, :-1] |= cell[:, :-1] != cell[:, 1:]
    right = np.arange(1200) > 520
    canvas.density[:, right] = 0
    canvas.density += (wall & canvas.truth & right)[..., None] * EOSIN * 0.4


def pen(colour: str) -> Callable[[Canvas], None]:
    def draw(canvas: Canvas) -> None:
        stroke = np.zeros(canvas.shape, np.uint8)
        cv2.polylines(stroke, [np.array([[60, 60], [400, 40], [800, 90], [1150, 50]])], False, 1, 35)
        cv2.ellipse(stroke, (1000, 500), (150, 300), 0, 0, 330, 1, 25)
        soft = cv2.GaussianBlur(stroke.astype(np.float32), (0, 0), 1.5) * (1 + 0.1 * canvas.noise(12))
        canvas.density += soft[..., None] * np.array(INKS[colour], np.float32)

    return draw


ARTEFACTS: dict[str, Callable[[Canvas], None]] = {
    "none": lambda canvas: None,
    "uneven light": uneven,
    "shadow": shadow,
    "black surround": black_surround,
    "dust": dust,
    "fat": fat,
    **{f"{colour} pen": pen(colour) for colour in INKS},
}


class TestArtefacts:
    @pytest.mark.parametrize("name", list(ARTEFACTS))
    def test_each_alone(self, tmp_path: Path, name: str) -> None:
        canvas = Canvas().stain()
        ARTEFACTS[name](canvas)
        assert iou(find_tissue(canvas.slide(tmp_path)), canvas.truth) > (0.93 if name == "fat" else 0.97)

    @pytest.mark.parametrize("name", ["none", "uneven light", "dust", "black surround", "blue pen", "red pen"])
    def test_with_pale_tissue_on_tinted_glass(self, tmp_path: Path, name: str) -> None:
        canvas = Canvas(glass=(236, 228, 240), seed=1).stain(0.2)
        ARTEFACTS[name](canvas)
        assert iou(find_tissue(canvas.slide(tmp_path, quality=60)), canvas.truth) > 0.95

    @pytest.mark.parametrize("name", list(ARTEFACTS))
    def test_without_tissue_there_is_none(self, tmp_path: Path, name: str) -> None:
        canvas = Canvas()
        canvas.truth[:] = False
        ARTEFACTS[name](canvas)
        assert find_tissue(canvas.slide(tmp_path)).area_um2 == 0

    def test_padding_in_pure_white_is_not_taken_for_the_glass(self, tmp_path: Path) -> None:
        canvas = Canvas(glass=(236, 228, 240)).stain()
        slide = canvas.slide(tmp_path)
        pixels = slide.read_region((0, 0), 0, (1200, 900))
        pixels[:, 850:] = 255
        pixels[:120] = 255
        assert iou(find_tissue(open_slide(save(tmp_path, pixels), mpp=(4.0, 4.0))), canvas.truth) > 0.97


class TestSyntheticSlides:
    def test_iou_with_the_truth(self, tmp_path: Path) -> None:
        scores = []
        for seed, names in enumerate((("pen-blue", "shadow"), ("pale", "pen-red"), ("fat",))):
            path = tmp_path / f"{seed}.svs"
            truth = write_slide(path, seed=seed, size_px0=(4096, 4096), grade=0, site=seed, artefacts=names)
            slide = open_slide(path, content_hash="0")
            tissue = find_tissue(slide)
            slide.close()
            assert tissue.downsample == (truth.mask_downsample, truth.mask_downsample)
            scores.append(iou(tissue, truth.tissue_mask))
        assert np.mean(scores) >= 0.95


class DamagedSlide:
    """Two levels of a pink rectangle; some of level 1, or all of it, cannot be decoded."""

    def __init__(self, bad: tuple[int, int, int, int], finest_fails: bool) -> None:
        self.bad = bad
        self.finest_fails = finest_fails
        self.info = SlideInfo(
            "damaged", "test", "test", ((1024, 1024), (512, 512)), (1.0, 2.0), (4.0, 4.0), "test", None,
            (0, 0, 1024, 1024), "",
        )  # fmt: skip
        self.associated_images: dict[str, np.ndarray] = {}
        self.reads = 0

    def read_region(self, location_px0: tuple[int, int], level: int, size_px: tuple[int, int]) -> np.ndarray:
        self.reads += 1
        (x, y), factor = location_px0, (1, 2)[level]
        right, bottom = x + size_px[0] * factor, y + size_px[1] * factor
        left, top, w, h = self.bad
        if (level == 1 or self.finest_fails) and x < left + w and left < right and y < top + h and top < bottom:
            raise TileReadError("damaged")
        rows = np.arange(y, bottom, factor)[:, None]
        cols = np.arange(x, right, factor)[None]
        inside = (rows >= 256) & (rows < 768) & (cols >= 256) & (cols < 768)
        return np.where(inside[..., None], np.uint8((225, 150, 190)), np.uint8(240)).astype(np.uint8)

    def close(self) -> None: ...


class TestDamage:
    def test_only_what_cannot_be_decoded_is_lost(self) -> None:
        overview = read_overview(DamagedSlide((400, 400, 76, 76), finest_fails=True))
        lost = ~overview.readable
        assert lost[200:238, 200:238].all()
        # One block of 16 pixels at most around each side.
        rows, cols = np.nonzero(lost)
        assert min(rows.min(), cols.min()) >= 200 - 16
        assert max(rows.max(), cols.max()) < 238 + 16
        tissue = find_tissue(overview)
        assert not tissue.mask[lost].any()
        assert tissue.area_um2 == pytest.approx((256**2 - lost.sum()) * 64, rel=0.01)

    def test_a_spot_is_read_from_another_level(self) -> None:
        overview = read_overview(DamagedSlide((400, 400, 76, 76), finest_fails=False))
        assert overview.unreadable_share == 0
        assert find_tissue(overview).area_um2 == pytest.approx(2048**2, rel=0.005)

    def test_a_level_that_is_absent_is_replaced(self) -> None:
        slide = DamagedSlide((0, 0, 1024, 1024), finest_fails=False)
        assert find_tissue(slide).area_um2 == pytest.approx(2048**2, rel=0.005)

    def test_a_slide_of_which_nothing_can_be_read_has_no_tissue(self) -> None:
        slide = DamagedSlide((0, 0, 1024, 1024), finest_fails=True)
        overview = read_overview(slide)
        assert overview.unreadable_share == 1
        assert not find_tissue(overview).mask.any()
        assert slide.reads < 200
        check_brightfield(overview)


def plain_overview(pixels: np.ndarray) -> Overview:
    return Overview("s", pixels, np.ones(pixels.shape[:2], bool), (16.0, 16.0), (0, 0), (0.5, 0.5))


class TestBrightfield:
    def test_nuclei_on_black_are_refused_with_what_was_found(self) -> None:
        pixels = np.zeros((200, 200, 3), np.uint8)
        pixels[::5, ::5, 2] = 200
        with pytest.raises(UnsupportedStainError, match=r"median luminance 0 of 255, 96% dark background"):
            check_brightfield(plain_overview(pixels))

    def test_a_dense_field_of_tissue_without_glass_is_brightfield(self) -> None:
        canvas = Canvas()
        canvas.truth[:] = True
        pixels = canvas.stain(1.3).glass * 10**-canvas.density
        check_brightfield(plain_overview(pixels.astype(np.uint8)))

    def test_black_surround_around_tissue_is_brightfield(self) -> None:
        canvas = Canvas().stain()
        pixels = (canvas.glass * 10**-canvas.density).astype(np.uint8)
        pixels[:450] = 3
        pixels[:, 500:] = 3
        check_brightfield(plain_overview(pixels))

    def test_green_emission_all_over_is_refused(self) -> None:
        pixels = np.random.default_rng(0).integers(60, 120, (100, 100, 3)).astype(np.uint8)
        pixels[:50, :, 1] = 180
        with pytest.raises(UnsupportedStainError, match="colours of emitted light"):
            check_brightfield(plain_overview(pixels))


@pytest.fixture
def shared_slide() -> Iterator[Callable[..., Slide]]:
    default = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    folder = Path(os.environ.get("HISTOGRADE_SHARED_DATA", default)) / "slides"
    slides: list[Slide] = []

    def open_shared(name: str, mpp: float | None = None) -> Slide:
        if not (folder / name).exists():
            pytest.skip("shared data absent")
        slides.append(open_slide(folder / name, mpp=(mpp, mpp) if mpp else None, content_hash="0"))
        return slides[-1]

    yield open_shared
    for slide in slides:
        slide.close()


class TestRealSlides:
    """Ranges drawn by eye on the thumbnails."""

    @pytest.mark.parametrize(
        ("name", "mpp", "low", "high"),
        [
            ("CMU-1-Small-Region.svs", None, 0.34, 0.42),
            ("cmu1_dicom", None, 0.34, 0.42),
            ("cmu1_tiff_wrong_mpp/CMU-1-Small-Region.jpeg.tiff", 0.499, 0.34, 0.42),
            ("TCGA-DU-6399-01A-01-TS1.svs", None, 0.115, 0.145),
            ("TCGA-CR-7395-01A-01-TS1.svs", 0.499, 0.6, 0.66),
            ("OS-2-ndpi.ome.tif", None, 0.8, 1.0),
            ("kidney-blank.tif", 0.499, 0.0, 0.0),
        ],
    )
    def test_share_of_tissue(
        self, shared_slide: Callable[..., Slide], name: str, mpp: float | None, low: float, high: float
    ) -> None:
        overview = read_overview(shared_slide(name, mpp))
        check_brightfield(overview)
        assert low <= find_tissue(overview).mask.mean() <= high

    def test_the_frozen_section_has_two_fragments(self, shared_slide: Callable[..., Slide]) -> None:
        tissue = find_tissue(shared_slide("TCGA-DU-6399-01A-01-TS1.svs"))
        assert len(tissue.polygons()) == 2

    @pytest.mark.parametrize("name", ["test3-DAPI.ndpi", "Mirax2-Fluorescence-2.mrxs"])
    def test_fluorescence_is_refused(self, shared_slide: Callable[..., Slide], name: str) -> None:
        with pytest.raises(UnsupportedStainError, match="not a brightfield slide"):
            check_brightfield(shared_slide(name))

    def test_a_mirax_slide_without_its_fine_levels_is_read_from_the_others(
        self, shared_slide: Callable[..., Slide]
    ) -> None:
        overview = read_overview(shared_slide("Mirax2-Fluorescence-2.mrxs"), mpp=4.0)
        assert overview.unreadable_share == 0
        assert overview.origin_px0 == (9153, 102664)
