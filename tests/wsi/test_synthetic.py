"""Synthetic slides: what is written is what the truth says, and nothing but the arguments decides it."""

import csv
import itertools
import json
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import shapely
import tiffslide

from wsi.synthetic import Marker, SlideTruth, isup_grade, make_cohort, patterns_of, write_slide
from wsi.synthetic.artefacts import Overlay
from wsi.synthetic.cohort import _order
from wsi.synthetic.layout import plan
from wsi.synthetic.noise import Window, lattice, smooth
from wsi.synthetic.optics import colour_table, site_optics
from wsi.synthetic.render import draw_block
from wsi.synthetic.scene import Scene, grid_px, slide_habit, slide_tint

SIZE = (2100, 2048)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SlideTruth]:
    path = tmp_path_factory.mktemp("slide") / "S1.svs"
    return path, write_slide(path, seed=7, size_px0=SIZE, grade=2, marker=Marker(300, 400, 60, rgb=(10, 220, 30)))


def picture(path: Path, level: int = 0) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))


# ISUP 2014: 3+3 is 1, 3+4 is 2, 4+3 is 3, a sum of 8 is 4, of 9 or 10 is 5.
@pytest.mark.parametrize(("primary", "secondary"), list(itertools.product((3, 4, 5), repeat=2)))
def test_grade_group_of_every_pair(primary: int, secondary: int) -> None:
    expected = {(3, 3): 1, (3, 4): 2, (4, 3): 3, (4, 4): 4, (3, 5): 4, (5, 3): 4, (4, 5): 5, (5, 4): 5, (5, 5): 5}
    assert isup_grade(primary, secondary) == expected[primary, secondary]


def test_no_cancer_is_grade_0_and_half_a_score_is_an_error() -> None:
    assert isup_grade(None, None) == 0
    with pytest.raises(ValueError, match="each must be 3, 4 or 5"):
        isup_grade(3, None)
    with pytest.raises(ValueError, match="each must be 3, 4 or 5"):
        isup_grade(2, 3)


def test_patterns_follow_from_areas() -> None:
    assert patterns_of({"benign": 9.0}) == (None, None)
    assert patterns_of({"pattern 4": 1.0, "benign": 5.0}) == (4, 4)
    assert patterns_of({"pattern 3": 1.0, "pattern 4": 3.0}) == (4, 3)
    assert patterns_of({"pattern 3": 97.0, "pattern 5": 3.0}) == (3, 3)


@pytest.mark.parametrize("grade", range(6))
def test_the_areas_of_a_plan_have_its_grade(grade: int) -> None:
    for seed in range(3):
        area = plan(seed, (6144, 6144), 0.25, grade).area()
        assert isup_grade(*patterns_of(area)) == grade
        assert sum(area.values()) == pytest.approx(1)


def test_a_slide_too_small_for_its_grade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too small"):
        write_slide(tmp_path / "a.svs", seed=0, size_px0=(256, 256), grade=3)


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    for wrong in ({"grade": 6}, {"mpp": 2.0}, {"size_px0": (100, 400)}, {"site": -1}, {"quality": 0}, {"tissue": 2.0}):
        with pytest.raises(ValueError, match=str(next(iter(wrong)))):
            write_slide(tmp_path / "a.svs", **{"seed": 0, "size_px0": (512, 512), "grade": 0, **wrong})
    with pytest.raises(ValueError, match="expected one of pen-blue"):
        write_slide(tmp_path / "a.svs", seed=0, size_px0=(512, 512), grade=0, artefacts=("coffee",))
    assert not list(tmp_path.iterdir())


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        write_slide(tmp_path / name / "S.svs", seed=seed, size_px0=(1024, 1280), grade=0)
    a, b, c = ((tmp_path / n / "S.svs").read_bytes() for n in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("reader", [openslide.OpenSlide, tiffslide.TiffSlide])
def test_readers_see_an_aperio_pyramid(made: tuple[Path, SlideTruth], reader: type) -> None:
    with reader(made[0]) as slide:
        prefix = "openslide" if reader is openslide.OpenSlide else "tiffslide"
        assert slide.properties[f"{prefix}.vendor"] == "aperio"
        assert float(slide.properties[f"{prefix}.mpp-x"]) == 0.25
        assert float(slide.properties[f"{prefix}.objective-power"]) == 40
        assert slide.level_dimensions == (SIZE, (525, 512), (131, 128))
        assert "thumbnail" in slide.associated_images


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_both_readers_decode_the_same_colours(tmp_path: Path, subsampling: str) -> None:
    path = tmp_path / "S.svs"
    write_slide(path, seed=3, size_px0=(600, 520), grade=0, subsampling=subsampling, mpp=0.2457)
    with tiffslide.TiffSlide(path) as slide:
        other = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB")).astype(int)
        assert float(slide.properties["tiffslide.mpp-x"]) == 0.2457
    assert np.abs(other - picture(path)).mean() < 1


def test_a_slide_at_half_the_magnification(tmp_path: Path) -> None:
    truth = write_slide(tmp_path / "S.svs", seed=3, size_px0=(2304, 512), grade=0, mpp=0.5)
    assert truth.mask_downsample == 16
    with openslide.OpenSlide(tmp_path / "S.svs") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert float(slide.properties["openslide.objective-power"]) == 20


def test_lower_levels_are_the_area_average(made: tuple[Path, SlideTruth]) -> None:
    level0, level1 = picture(made[0]), picture(made[0], 1)
    average = cv2.resize(level0[:2048, :2100], (525, 512), interpolation=cv2.INTER_AREA)
    assert np.abs(average.astype(int) - level1).mean() < 3


def test_marker_is_at_its_place(made: tuple[Path, SlideTruth]) -> None:
    green = np.abs(picture(made[0]).astype(int) - (10, 220, 30)).max(axis=2) < 40
    ys, xs = np.nonzero(green)
    assert xs.mean() + 0.5 == pytest.approx(300, abs=1)
    assert ys.mean() + 0.5 == pytest.approx(400, abs=1)
    assert green.sum() == pytest.approx(np.pi * 60**2, rel=0.05)


def test_tissue_mask_agrees_with_the_pixels(tmp_path: Path) -> None:
    for seed, artefacts in ((5, ()), (6, ("pale",))):
        truth = write_slide(tmp_path / "S.svs", seed=seed, size_px0=(3072, 3072), grade=1, artefacts=artefacts)
        small = picture(tmp_path / "S.svs", 2).astype(int)
        dense = (small.max(axis=2) - small.min(axis=2) > 14).astype(np.uint8)
        # lumens are tissue: empty spots within are filled before comparing
        contours, _ = cv2.findContours(dense, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        mask = cv2.resize(truth.tissue_mask.astype(np.uint8), (192, 192), interpolation=cv2.INTER_NEAREST)
        outer, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        seen, told = (cv2.drawContours(np.zeros((192, 192), np.uint8), c, -1, 1, -1) for c in (contours, outer))
        assert (seen & told).sum() / (seen | told).sum() > 0.95
        holes = cv2.erode(((told > 0) & (mask == 0)).astype(np.uint8), np.ones((5, 5)))
        assert (dense & holes).sum() <= 0.02 * holes.sum()


def test_regions_cover_the_tissue_and_nothing_else(made: tuple[Path, SlideTruth]) -> None:
    truth = made[1]
    drawn = np.zeros(truth.tissue_mask.shape, np.uint8)
    for _, ring in truth.regions:
        cv2.fillPoly(drawn, [np.rint(ring / truth.mask_downsample - 0.5).astype(np.int32)], 1)
    inside = cv2.dilate(truth.tissue_mask.astype(np.uint8), np.ones((5, 5)))
    assert not (drawn & ~inside & 1).any()
    assert drawn[truth.tissue_mask].mean() > 0.98
    area = {name: 0.0 for name, _ in truth.regions}
    for name, ring in truth.regions:
        assert shapely.Polygon(ring).is_valid
        area[name] += shapely.Polygon(ring).area
    total = truth.tissue_mask.sum() * truth.mask_downsample**2
    for name, fraction in truth.pattern_fraction.items():
        assert area[name] / total == pytest.approx(fraction, abs=0.03)


def test_geojson_is_what_qupath_reads(made: tuple[Path, SlideTruth]) -> None:
    collection = json.loads(json.dumps(made[1].to_geojson()))
    assert collection["type"] == "FeatureCollection"
    names = {f["properties"]["classification"]["name"] for f in collection["features"]}
    assert names == {"benign", "pattern 3", "pattern 4"}
    for feature in collection["features"]:
        ring = feature["geometry"]["coordinates"][0]
        assert ring[0] == ring[-1]
        assert min(map(min, ring)) >= 0
        assert max(map(max, ring)) <= max(SIZE)


def scene(seed: int, grade: int) -> Scene:
    size, mpp = (4096, 4096), 0.25
    layout, look = plan(seed, size, mpp, grade), site_optics(0, seed)
    overlay = Overlay(seed, ("dust", "shadow", "pen-red"), size, mpp, grid_px(mpp), None)
    habit, tint = slide_habit(seed), slide_tint(seed)
    return Scene(seed, mpp, layout, habit, tint, look, colour_table(look), overlay, layout.tissue)


def test_blocks_fit_together_without_a_seam() -> None:
    """A block is the same whether it is drawn alone or as part of a larger one, but for noise and its very edge."""
    for seed, grade in ((1, 2), (2, 5)):
        setting = scene(seed, grade)
        whole = draw_block(setting, 1024, 1024, 1536, 1536).astype(int)
        part = draw_block(setting, 1536, 1536, 512, 512).astype(int)
        difference = np.abs(whole[512:1024, 512:1024] - part).max(axis=2)
        assert difference[4:-4, 4:-4].max() <= 12  # two sheets of noise, and dither
        assert np.asarray(difference).mean() < 4


def test_noise_depends_on_the_place_only() -> None:
    whole, part = Window(-40, 16, 96, 64), Window(-8, 40, 16, 24)
    at = (slice(24, 48), slice(32, 48))
    np.testing.assert_array_equal(lattice(5, whole)[at], lattice(5, part))
    for cell in (1.7, 9.0, 61.3):
        np.testing.assert_allclose(smooth(5, cell, whole)[at], smooth(5, cell, part), atol=1e-5)
    field = smooth(1, 3.0, Window(0, 0, 512, 512))
    assert abs(field.mean()) < 0.05
    assert 0.8 < field.std() < 1.2


def test_sites_differ_more_than_grades() -> None:
    """Colour of the same tissues at three sites, and of three grades at one site."""

    def colour(seed: int, grade: int, site: int) -> np.ndarray:
        setting = scene(seed, grade)
        look = site_optics(site, seed)
        moved = Scene(**{n: getattr(setting, n) for n in Scene.__slots__} | {"look": look, "table": colour_table(look)})
        return draw_block(moved, 1536, 1536, 1024, 1024).reshape(-1, 3).mean(axis=0)

    sites = [np.mean([colour(s, g, site) for s, g in ((1, 1), (2, 4))], axis=0) for site in range(3)]
    grades = [np.mean([colour(s, grade, 0) for s in (1, 2, 3, 4)], axis=0) for grade in (0, 1, 4)]
    assert np.std(sites, axis=0).max() > 1.5 * np.std(grades, axis=0).max()


def test_cohort_is_the_same_in_any_order(tmp_path: Path) -> None:
    size = (1024, 1024)
    two = make_cohort(tmp_path / "two", slides=2, seed=4, size_px0=size)
    three = make_cohort(tmp_path / "three", slides=3, seed=4, size_px0=size, workers=2)
    for a, b in zip(two, three[:2], strict=True):
        assert a.path.read_bytes() == b.path.read_bytes()
    assert [s.slide_id for s in three] == ["synth-004-0000", "synth-004-0001", "synth-004-0002"]
    assert [s.patient_id for s in three] == ["P0001", "P0001", "P0002"]
    with (tmp_path / "three" / "labels.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [r["slide_id"] for r in rows] == [s.slide_id for s in three]
    assert [int(r["label"]) for r in rows] == [s.truth.grade for s in three]
    mask = cv2.imread(str(tmp_path / "three" / "truth" / "synth-004-0002_tissue.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(mask > 0, three[2].truth.tissue_mask)


def test_grades_are_balanced_and_independent_of_the_site() -> None:
    orders = [_order(0, 3, number) for number in range(54)]
    counts = np.zeros((6, 3), int)
    for order in orders:
        counts[order.grade, order.site] += 1
    assert (counts == 3).all()
    for patient in {o.patient for o in orders}:
        assert len({(o.site, o.grade, o.stain_seed) for o in orders if o.patient == patient}) == 1
    assert len({o.seed for o in orders}) == 54


@pytest.mark.slow
def test_memory_does_not_grow_with_the_slide(tmp_path: Path) -> None:
    write_slide(tmp_path / "warm.svs", seed=1, size_px0=(512, 512), grade=0)
    peaks = []
    for width in (8192, 32768):
        tracemalloc.start()
        write_slide(tmp_path / "S.svs", seed=1, size_px0=(width, 2048), grade=1, tissue=0.3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0]
    assert peaks[1] < 300e6
