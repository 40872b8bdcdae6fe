"""OpenSlide behind the protocol: its pixels, its bounds, and what an error costs."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest

from tests.hostile.makers import damage_tile, tissue_pixels, write_svs
from wsi.errors import TileReadError, UnreadableSlideError
from wsi.readers.openslide import OpenSlideReader, over_white, properties_info
from wsi.slide import open_slide


def test_pixels_and_description_are_openslides(small_svs):
    slide = open_slide(small_svs, reader="openslide")
    with openslide.OpenSlide(str(small_svs)) as peer:
        expected = np.asarray(peer.read_region((300, 200), 0, (400, 300)).convert("RGB"))
        assert slide.info.level_sizes_px == peer.level_dimensions
        assert slide.info.vendor == peer.properties["openslide.vendor"] == "aperio"
    np.testing.assert_array_equal(slide.read_region((300, 200), 0, (400, 300)), expected)
    assert slide.info.mpp == (0.5, 0.5)
    assert slide.info.mpp_source == "aperio.MPP"
    assert slide.info.objective_power == 20
    assert slide.info.bounds_px0 == (0, 0, 1500, 1400)
    assert slide.associated_images["thumbnail"].shape == (186, 200, 3)
    slide.close()


def test_a_coarse_region_starts_at_the_levels_own_pixel(tmp_path):
    pixels = np.zeros((1535, 2050, 3), np.uint8)
    pixels[:, :, 0] = np.arange(2050) // 4 % 256
    slide = open_slide(write_svs(tmp_path / "a.svs", pixels, compression="deflate"), reader="openslide")
    for left in (0, 64, 100, 256, 400, 500):  # OpenSlide alone is at 499.77 for the location 2002
        row = slide.read_region((4 * left, 0), 1, (8, 4))[2, :, 0].astype(int)
        assert np.abs(row - (left + np.arange(8)) % 256).max() <= 1
    slide.close()


def test_after_an_error_the_slide_remains_usable_from_all_threads(tmp_path):
    path = write_svs(tmp_path / "a.svs", tissue_pixels(1024, 1024))
    slide = OpenSlideReader(path)
    places = [(x, y) for y in range(0, 1024, 256) for x in range(0, 1024, 256)]
    expected = {place: slide.read_region(place, 0, (256, 256)) for place in places}
    slide.close()
    damage_tile(path, 0, column=1, row=2)
    slide = OpenSlideReader(path)

    def read(place):
        try:
            return np.array_equal(slide.read_region(place, 0, (256, 256)), expected[place])
        except TileReadError:
            return "bad"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, places * 6))
    assert found == ["bad" if place == (256, 512) else True for place in places * 6]
    slide.close()


def test_a_file_that_vanishes_is_a_tile_error(tmp_path, small_svs):
    path = shutil.copy(small_svs, tmp_path / "a.svs")
    damage_tile(path, 0, 2, 2)
    slide = OpenSlideReader(path)
    path.unlink()
    with pytest.raises(TileReadError):
        slide.read_region((512, 512), 0, (256, 256))
    slide.close()


def test_what_is_transparent_is_laid_on_white():
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [100, 0, 0, 51]]], np.uint8)
    np.testing.assert_array_equal(over_white(rgba)[0], [[10, 20, 30], [255, 255, 255], [224, 204, 204]])


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, (0, 0, 900, 700)),
        ({"x": "100", "y": "50", "width": "300", "height": "200"}, (100, 50, 300, 200)),
        ({"x": "-20", "y": "0", "width": "300", "height": "9999"}, (0, 0, 280, 700)),
        ({"x": "nan", "y": "0", "width": "300", "height": "200"}, (0, 0, 900, 700)),
        ({"x": "5000", "y": "0", "width": "300", "height": "200"}, (0, 0, 900, 700)),
    ],
)
def test_bounds_are_kept_inside_the_level(bounds, expected):
    properties = {f"x.bounds-{key}": value for key, value in bounds.items()} | {"x.objective-power": "inf"}
    info = properties_info(properties, "x", [(900, 700)], "x")
    assert info.bounds_px0 == expected
    assert info.objective_power is None
    assert info.mpp is None


def test_two_dicom_slides_in_one_folder_are_refused(tmp_path, shared_data):
    instances = sorted((shared_data / "slides" / "cmu1_dicom").iterdir())
    for file in instances:
        shutil.copy(file, tmp_path / file.name)
    slide = open_slide(tmp_path, reader="openslide")
    assert slide.info.vendor == "dicom"
    slide.close()
    pydicom = pytest.importorskip("pydicom")
    for number, file in enumerate(instances):
        data = pydicom.dcmread(file)
        data.SeriesInstanceUID += ".7"
        data.SOPInstanceUID += f".{number + 7}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(tmp_path / f"other{number}.dcm")
    with pytest.raises(UnreadableSlideError, match="2 DICOM slides"):
        open_slide(tmp_path, reader="openslide")


def test_mirax_bounds_hold_and_absent_levels_raise(shared_data):
    slide = open_slide(shared_data / "slides" / "Mirax2-Fluorescence-2.mrxs", reader="openslide", content_hash="0")
    assert slide.info.bounds_px0 == (9153, 102664, 10439, 7641)
    assert (slide.read_region((0, 0), 2, (64, 64)) == 255).all()
    with pytest.raises(TileReadError):
        slide.read_region((14_000, 106_000), 0, (64, 64))
    assert slide.read_region((14_000, 106_000), 3, (64, 64)).shape == (64, 64, 3)
    slide.close()
