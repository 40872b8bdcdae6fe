"""Philips and Ventana files through the fast reader, against OpenSlide on the same file, and what is declined."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.hostile.makers import damage_tile
from tests.wsi.readers.makers import TILE_OFFSETS, smooth_pixels, write_bif, write_page, write_philips
from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.readers.openslide import OpenSlideReader
from wsi.slide import Slide, open_slide
from wsi.testing import check_reader

SCAN = smooth_pixels(1100, 700)
"""Not a whole number of tiles on either side."""

GRID = smooth_pixels(7 * 128, 5 * 128)
"""Seven by five tiles of 128 px: the coarser levels end within a tile."""


@contextmanager
def both(path: Path) -> Iterator[tuple[JpegTiffReader, OpenSlideReader]]:
    with closing(JpegTiffReader(path)) as ours, closing(OpenSlideReader(path)) as theirs:
        yield ours, theirs


def difference(ours: Slide, theirs: Slide, level: int) -> int:
    size_px = ours.info.level_sizes_px[level]
    found = ours.read_region((0, 0), level, size_px).astype(int)
    return int(np.abs(found - theirs.read_region((0, 0), level, size_px)).max())


def assert_same_description(ours: Slide, theirs: Slide) -> None:
    for name in ("vendor", "level_sizes_px", "mpp_source", "objective_power", "bounds_px0"):
        assert getattr(ours.info, name) == getattr(theirs.info, name)
    assert ours.info.mpp == pytest.approx(theirs.info.mpp)


@pytest.mark.parametrize("subsampling", ["444", "422", "420"])
@pytest.mark.parametrize("write", [write_philips, write_bif])
def test_pixels_and_description_are_those_of_openslide(
    tmp_path: Path, subsampling: str, write: Callable[..., Path]
) -> None:
    path = write(tmp_path / "slide.tiff", SCAN if write is write_philips else GRID, subsampling=subsampling)
    with both(path) as (ours, theirs):
        assert ours.info.vendor == {write_philips: "philips", write_bif: "ventana"}[write]
        assert_same_description(ours, theirs)
        assert ours.info.objective_power == 40
        assert max(difference(ours, theirs, level) for level in range(3)) <= 2


@pytest.mark.parametrize("write", [write_philips, write_bif])
def test_the_contract(tmp_path: Path, write: Callable[..., Path]) -> None:
    check_reader(JpegTiffReader, write(tmp_path / "slide.tiff", SCAN if write is write_philips else GRID))


def test_philips_levels_have_their_true_size_and_scale(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "slide.tiff", SCAN, levels=5)
    with tifffile.TiffFile(path) as tiff:
        claimed = [(page.imagewidth, page.imagelength) for page in tiff.pages]
    assert claimed == [(1152, 768), (640, 384), (384, 256), (256, 128), (128, 128)]
    with both(path) as (ours, theirs):
        assert ours.info.level_sizes_px == tuple((1152 >> k, 768 >> k) for k in range(5))
        assert [ours.info.level_downsample(level) for level in range(5)] == [(1 << k, 1 << k) for k in range(5)]
        assert_same_description(ours, theirs)
        assert max(difference(ours, theirs, level) for level in range(5)) <= 2


def test_a_marker_lies_at_one_place_on_all_levels(tmp_path: Path) -> None:
    pixels, centre = np.full((700, 1100, 3), 220, np.uint8), (1048.0, 632.0)
    pixels[612:652, 1028:1068] = 40
    with closing(JpegTiffReader(write_philips(tmp_path / "slide.tiff", pixels, levels=4))) as slide:
        for level in range(4):
            corner = (960, 520)  # a whole pixel of every level
            part = slide.read_region(corner, level, (140 >> level, 180 >> level)).astype(float)
            dark = np.clip(150 - part.mean(axis=2), 0, None)
            y, x = (np.arange(side) + 0.5 for side in dark.shape)
            found = (x * dark.sum(axis=0)).sum() / dark.sum(), (y * dark.sum(axis=1)).sum() / dark.sum()
            place = [found[axis] * 2**level + corner[axis] for axis in (0, 1)]
            assert np.abs(np.subtract(place, centre)).max() < 0.25 * 2**level


def test_a_philips_level_with_fewer_tiles_than_its_size_ends_in_white(tmp_path: Path) -> None:
    """1025 px take nine tiles, half of them four: level 0 claims 1152 px, of which level 1 stores 512."""
    path = write_philips(tmp_path / "slide.tiff", smooth_pixels(1025, 300), levels=2)
    with both(path) as (ours, theirs):
        assert_same_description(ours, theirs)
        assert ours.info.level_sizes_px[1] == (576, 192)
        assert difference(ours, theirs, 1) <= 2
        assert (ours.read_region((1024, 0), 1, (64, 150)) == 255).all()
        assert ours.read_region((1008, 0), 1, (8, 150)).max() < 250


def test_philips_tiles_never_scanned_are_white_at_every_reduction(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "slide.tiff", SCAN, absent={0: [(0, 0), (4, 2), (8, 5)], 1: [(2, 1)], 2: [(0, 0)]})
    with both(path) as (ours, theirs):
        assert max(difference(ours, theirs, level) for level in range(3)) <= 2
        assert (ours.read_region((512, 256), 0, (128, 128)) == 255).all()
        for factor in ours.reductions(0):
            side = 128 // factor
            part = ours.read_reduced(0, factor, (4 * side - 2, 2 * side - 2), (side + 4, side + 4))
            assert (part[2:-2, 2:-2] == 255).all()
            assert part[0].max() < 250
            assert part[:, -1].max() < 250


def test_a_philips_tile_that_was_lost_is_not_white(tmp_path: Path) -> None:
    path = write_philips(tmp_path / "slide.tiff", SCAN, levels=1)
    with closing(JpegTiffReader(path)) as sound:
        expected = sound.read_region((256, 0), 0, (128, 128))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        offsets = list(page.dataoffsets)
        offsets[1] = path.stat().st_size + 5000
        page.tags[TILE_OFFSETS].overwrite(offsets)
    with closing(JpegTiffReader(path)) as slide:
        with pytest.raises(TileReadError, match=r"column 1, row 0.*missing"):
            slide.read_region((130, 10), 0, (20, 20))
        assert (slide.read_region((256, 0), 0, (128, 128)) == expected).all()
    damage_tile(path, 0, 2, 0)
    with closing(JpegTiffReader(path)) as slide, pytest.raises(TileReadError, match="column 2, row 0"):
        slide.read_region((256, 0), 0, (20, 20))


@pytest.mark.parametrize("write", [write_bif, "generic"])
def test_elsewhere_a_tile_without_bytes_is_missing(tmp_path: Path, write: Callable[..., Path] | str) -> None:
    path = tmp_path / "slide.tif"
    if callable(write):
        write(path, GRID, absent={0: [(3, 2)]})
    else:
        with tifffile.TiffWriter(path) as tiff:
            write_page(tiff, GRID, (128, 128), absent=[(3, 2)])
    with closing(JpegTiffReader(path)) as slide, pytest.raises(TileReadError, match=r"column 3, row 2.*missing"):
        slide.read_region((400, 300), 0, (10, 10))


def test_philips_scale_is_stated_row_first(tmp_path: Path) -> None:
    with both(write_philips(tmp_path / "slide.tiff", SCAN, spacing_mm=(0.000250, 0.000252))) as (ours, theirs):
        assert ours.info.require_mpp() == pytest.approx((0.250, 0.252))
        assert_same_description(ours, theirs)


def test_philips_label_and_macro_from_the_xml_and_from_a_page(tmp_path: Path) -> None:
    label, macro, other = smooth_pixels(90, 60, 1), smooth_pixels(120, 50, 2), smooth_pixels(130, 40, 3)
    inside = write_philips(tmp_path / "inside.tiff", SCAN, label=label, macro=macro)
    beside = write_philips(tmp_path / "beside.tiff", SCAN, label=label, macro=macro, macro_page=other)
    for path, expected in ((inside, macro), (beside, other)):
        with both(path) as (ours, theirs):
            assert set(ours.associated_images) == set(theirs.associated_images) == {"label", "macro"}
            for name in ("label", "macro"):
                found = ours.associated_images[name].astype(int)
                assert np.abs(found - theirs.associated_images[name]).max() <= 2
            assert ours.associated_images["macro"].shape == expected.shape


def test_a_philips_label_that_cannot_be_decoded_is_the_labels_error(tmp_path: Path) -> None:
    path = write_philips(
        tmp_path / "slide.tiff", SCAN, label=SCAN[:60, :90], change=lambda xml: xml.replace("/9j/", "AAAA")
    )
    with closing(JpegTiffReader(path)) as slide, pytest.raises(TileReadError, match="label"):
        slide.associated_images["label"]


def test_philips_software_of_another_version_is_no_generic_tiff(tmp_path: Path) -> None:
    """tifffile knows "Philips DP" only; as a generic TIFF the padded sizes would give a wrong scale."""
    with both(write_philips(tmp_path / "slide.tiff", SCAN, software="Philips IntelliSite")) as (ours, theirs):
        assert ours.info.vendor == "philips"
        assert_same_description(ours, theirs)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"spacings": 2}, "3 levels, pixel spacing stated for 2"),
        ({"change": lambda xml: xml.replace("0.001000000", "none")}, "3 levels, pixel spacing stated for 2"),
        ({"spacing_mm": (0.0, 0.00025)}, "3 levels, pixel spacing stated for 0"),
        ({"change": lambda xml: xml.replace("0.001000000", "0.000600000")}, "whole number"),
        ({"change": lambda xml: xml.replace("0.001000000", "0.000250000")}, "9 x 6 tiles of which 3 x 2 are stored"),
        ({"change": lambda xml: xml.replace(">WSI<", ">OTHER<")}, "0 whole-slide images"),
        ({"change": lambda xml: xml.replace("<Array>", "<Aray>", 1)}, "cannot be parsed"),
    ],
)
def test_philips_files_that_do_not_state_their_levels_are_declined(
    tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    path = write_philips(tmp_path / "slide.tiff", SCAN, **options)  # type: ignore[arg-type]
    with pytest.raises(UnreadableSlideError, match=reason):
        JpegTiffReader(path)


@pytest.mark.parametrize(
    "options",
    [
        {"stitched": False},
        {"wrapped": True},
        {"padded": True},
        {"mpp": "0.4650"},
        {"label": "Label_Image"},
        {"label": "Overview", "software": "Another scanner"},
        {"tile_px": (64, 160)},
    ],
)
def test_variants_of_ventana_files(tmp_path: Path, options: dict[str, object]) -> None:
    with both(write_bif(tmp_path / "slide.bif", GRID, **options)) as (ours, theirs):  # type: ignore[arg-type]
        assert_same_description(ours, theirs)
        assert max(difference(ours, theirs, level) for level in range(3)) <= 2
        assert set(ours.associated_images) == set(theirs.associated_images) >= {"thumbnail"}
        for name, image in ours.associated_images.items():
            assert np.array_equal(image, theirs.associated_images[name])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('Tile2="2" OverlapX="0"', 'Tile2="2" OverlapX="12"', r"1 of 58 tile joints overlap \(by 12, 0 px\)"),
        ('OverlapY="0"/></ImageInfo>', 'OverlapY="-3"/></ImageInfo>', r"1 of 58 tile joints overlap \(by 0, -3 px\)"),
        ('Pos-X="0"', 'Pos-X="128"', "Pos-X 128, expected 0"),
        ('OriginX="0"', 'OriginX="128"', "OriginX 128, expected 0"),
        ('OriginY="0"', 'OriginY="128"', "OriginY 128, expected 0"),
        ('NumCols="7"', 'NumCols="6"', "NumCols 6, expected 7"),
        ('NumRows="5"', 'NumRows="4"', "NumRows 4, expected 5"),
        (' Height="128"', ' Height="120"', "Height 120, expected 128"),
        ('AOIScanned="1"', 'AOIScanned="0"', "AOIScanned 0, expected 1"),
        ("<SlideStitchInfo>", '<SlideStitchInfo><ImageInfo AOIScanned="0"/>', "2 areas of interest"),
        ('"UP"', '"RIGHT"', "does not say whether its tiles overlap"),
        ("<AoiOrigin>", "<AoiOrigin", "cannot be parsed"),
    ],
)
def test_ventana_files_that_need_stitching_are_declined(tmp_path: Path, old: str, new: str, reason: str) -> None:
    def change(xml: str) -> str:
        assert old in xml
        return xml.replace(old, new)

    path = write_bif(tmp_path / "slide.bif", GRID, change=change)
    with pytest.raises(UnreadableSlideError, match=reason) as caught:
        JpegTiffReader(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"level=1 mag=20", b"level=1 mag=10", "no pyramid"),
        (b"level=1 mag=20", b"level=1 mag=40", "a level of 448 x 320 px that does not cover level 0 at 1/1"),
        (b"level=1 mag=20", b"level=1 mag=30", "whole number"),
        (b"level=1 mag=20", b"level=4 mag=20", "not numbered in order"),
        (b"level=2 mag=10", b"level=2 mag=no", "not numbered in order"),
    ],
)
def test_ventana_levels_that_contradict_themselves_are_declined(
    tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    path = write_bif(tmp_path / "slide.bif", GRID)
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(UnreadableSlideError, match=reason):
        JpegTiffReader(path)


def test_what_is_declined_is_taken_by_openslide(tmp_path: Path) -> None:
    def change(xml: str) -> str:
        return xml.replace('OverlapX="0"', 'OverlapX="8"')

    with closing(open_slide(write_bif(tmp_path / "slide.bif", GRID, change=change), content_hash="0")) as slide:
        assert (slide.info.reader, slide.info.vendor) == ("openslide", "ventana")
        assert slide.info.size_px0 == (7 * 128 - 6 * 8, 5 * 128)
