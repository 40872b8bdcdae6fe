"""Opening slides: who reads them, what they are called, how large a pixel is, and who they are."""

import hashlib
import shutil

import numpy as np
import pytest

from tests.hostile.makers import tissue_pixels, write_svs, write_tiff
from wsi.errors import ImplausibleMppError, MissingMppError, UnreadableSlideError, UsageError
from wsi.slide import SlideInfo, hash_files, open_slide, path_slide_id, slide_files, thumbnail


def info(path, **arguments):
    slide = open_slide(path, **arguments)
    slide.close()
    return slide.info


def info_of(sizes):
    downsamples = tuple((sizes[0][0] / w + sizes[0][1] / h) / 2 for w, h in sizes)
    return SlideInfo("a", "x", "x", sizes, downsamples, (0.25, 0.25), "x", None, (0, 0, *sizes[0]), "")


def test_when_all_decline_every_attempt_is_reported(tmp_path):
    (tmp_path / "a.svs").write_text("no slide")
    with pytest.raises(
        UnreadableSlideError, match=r"a\.svs: no reader can open it \(.*openslide: .+; tiffslide: .+; array: .+\)"
    ):
        open_slide(tmp_path / "a.svs")
    with pytest.raises(UnreadableSlideError, match="no such file"):
        open_slide(tmp_path / "b.svs")
    with pytest.raises(UsageError, match="there are: .*openslide"):
        open_slide(tmp_path / "a.svs", reader="nope")


def test_the_users_pixel_size_is_recorded_with_what_the_file_says(tmp_path, small_svs):
    assert info(small_svs, mpp=(0.3, 0.3)).mpp_source == "user (the file says 0.5)"
    wrong = write_tiff(tmp_path / "wrong.tiff", tissue_pixels(300, 300), (0.00499, 0.00499))
    with pytest.raises(ImplausibleMppError, match="0.00499 um/px by the TIFF resolution tags"):
        info(wrong).require_mpp()
    cured = info(wrong, fallback_mpp=(0.499, 0.499))
    assert cured.require_mpp() == (0.499, 0.499)
    assert cured.mpp_source == "user (the file says 0.00499)"
    anisotropic = write_tiff(tmp_path / "x.tiff", tissue_pixels(300, 300), (0.25, 0.5))
    with pytest.raises(ImplausibleMppError, match="0.25 x 0.5 .*not square"):
        info(anisotropic).require_mpp()
    assert info(anisotropic, fallback_mpp=(0.4, 0.4)).mpp_source == "user (the file says 0.25x0.5)"


def test_a_plausible_size_in_the_file_is_not_overruled_by_a_fallback(small_svs):
    found = info(small_svs, fallback_mpp=(0.3, 0.3))
    assert found.mpp == (0.5, 0.5)
    assert found.mpp_source == "aperio.MPP"


@pytest.mark.parametrize("text", [None, "0", "-0.5", "500", "nan", "half"])
def test_no_pixel_size_is_made_up(tmp_path, text):
    found = info(write_svs(tmp_path / "a.svs", tissue_pixels(300, 300), mpp=text))
    with pytest.raises(MissingMppError, match="--slide-mpp"):
        found.require_mpp()
    assert info(tmp_path / "a.svs", fallback_mpp=(0.5, 0.5)).require_mpp() == (0.5, 0.5)


def test_the_users_own_size_has_to_be_plausible(small_svs):
    with pytest.raises(ImplausibleMppError, match="by the user"):
        open_slide(small_svs, mpp=(250.0, 250.0))


def test_the_scale_of_a_level_is_whole_where_the_sizes_allow_it():
    cut_off = info_of(((31872, 13835), (7968, 3458), (1992, 864)))
    assert [cut_off.level_downsample(level) for level in range(3)] == [(1, 1), (4, 4), (16, 16)]
    rounded_up = info_of(((1001, 501), (501, 251)))
    assert rounded_up.level_downsample(1) == (2, 2)
    coarse = info_of(((100_000, 70_000), (195, 136)))  # the sizes allow all from 511 to 515
    assert coarse.level_downsample(1) == (512, 512)
    odd = info_of(((1000, 1000), (300, 300)))
    assert odd.level_downsample(1) == pytest.approx((10 / 3, 10 / 3))


@pytest.mark.parametrize("sizes", [((31872, 13835), (7968, 3458), (1992, 864)), ((1000, 1000), (300, 300))])
def test_a_levels_pixel_and_its_location_name_each_other(sizes):
    info = info_of(sizes)
    for level in range(len(sizes)):
        for place in [(0, 0), (17, 5), (sizes[level][0] - 1, sizes[level][1] - 1), (-3, 2)]:
            assert info.level_place(level, info.level_location(level, place)) == place


def test_the_best_level_is_the_coarsest_that_suffices():
    info = info_of(((8000, 8000), (4000, 4000), (1000, 1000)))
    assert [info.best_level(factor) for factor in (0.5, 1, 1.9, 2, 7.9, 8, 100)] == [0, 0, 0, 1, 1, 2, 2]
    nearly = info_of(((8003, 8003), (2000, 2000)))
    assert nearly.best_level(4.0) == 1


def test_names(tmp_path):
    (tmp_path / "study.1").mkdir()
    assert path_slide_id(tmp_path / "study.1") == "study.1"
    assert path_slide_id(tmp_path / "a.b.svs") == "a.b"
    assert path_slide_id(tmp_path / "a.ome.tif") == "a"


def test_the_hash_is_of_the_content_alone(tmp_path, small_svs):
    other = shutil.copy(small_svs, tmp_path / "other name.svs")
    expected = hashlib.sha256(small_svs.read_bytes()).hexdigest()
    assert info(small_svs).content_hash == info(other).content_hash == expected
    with other.open("ab") as handle:
        handle.write(b"x")
    assert hash_files([other]) != expected


def test_all_files_of_a_slide_enter_the_hash_whatever_they_are_called(tmp_path):
    for folder, names in (("one", ("a.dcm", "b.dcm")), ("two", ("y.dcm", "x.dcm"))):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, (b"1", b"2"), strict=True):
            (tmp_path / folder / name).write_bytes(content)
    (tmp_path / "two" / "notes.txt").write_text("a note is no part of the slide")
    (tmp_path / "two" / ".hidden.dcm").write_text("nor is this")
    hashes = [hash_files(slide_files(tmp_path / folder)) for folder in ("one", "two")]
    digests = sorted(hashlib.sha256(content).hexdigest() for content in (b"1", b"2"))
    assert hashes[0] == hashes[1] == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    (tmp_path / "s.mrxs").write_bytes(b"index")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "Data0000.dat").write_bytes(b"data")
    assert [part.name for part in slide_files(tmp_path / "s.mrxs")] == ["s.mrxs", "Data0000.dat"]


def test_the_thumbnail_is_of_the_bounds_at_their_shape(tmp_path):
    pixels = np.full((300, 600, 3), 255, np.uint8)
    pixels[:, :300] = (200, 0, 0)
    np.save(tmp_path / "a.npy", pixels)
    small = thumbnail(open_slide(tmp_path / "a.npy"), 100)
    assert small.shape == (50, 100, 3)
    assert small[25, 10].tolist() == [200, 0, 0]
    assert small[25, 90].tolist() == [255, 255, 255]
