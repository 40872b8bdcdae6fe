"""Slides on a server through the fast reader: the same pixels as from the disk, for few bytes."""

import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import damage_tile, write_svs
from tests.range_server import RangeServer
from wsi import remote_bytes
from wsi.errors import MissingPackageError, TileReadError, UnreachableSlideError, UnreadableSlideError
from wsi.readers.jpeg_tiff import JpegTiffReader
from wsi.slide import hash_slide, open_slide
from wsi.slide_url import SlideUrl, slide_location
from wsi.testing import check_reader
from wsi.tiles import TileGrid, TileReader, TileSpec

pytest.importorskip("aiohttp")

SIDE_PX = 3072


@pytest.fixture(scope="session")
def noisy_svs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SVS of 3072 px and levels at 1/4 and 1/16, of noise, so that it is over 8 MiB. Do not write to it."""
    pixels = np.random.default_rng(7).integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
    path = write_svs(tmp_path_factory.mktemp("noisy") / "noisy.svs", pixels, factors=(4, 16))
    assert path.stat().st_size > 9 << 20
    return path


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], RangeServer]]:
    """Serves a folder; retries are quick."""
    monkeypatch.setattr(remote_bytes, "BACKOFF_S", (0.01, 0.01))
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(RangeServer(folder))


Serve = Callable[[Path], RangeServer]


def test_pixels_of_every_level_and_reduction_are_the_local_ones(noisy_svs: Path, serve: Serve) -> None:
    url = SlideUrl(f"{serve(noisy_svs.parent).root}/noisy.svs")
    with closing(JpegTiffReader(url)) as far, closing(JpegTiffReader(noisy_svs)) as near:
        assert far.info == near.info
        assert far.far
        assert not near.far
        for level in range(3):
            for reduce in far.reductions(level):
                side = SIDE_PX // 4**level // reduce
                window = (level, reduce, (side // 3 - 7, -5), (side // 2, side + 9))
                np.testing.assert_array_equal(far.read_reduced(*window), near.read_reduced(*window))
        assert sorted(far.associated_images) == sorted(near.associated_images) == ["thumbnail"]
        np.testing.assert_array_equal(far.associated_images["thumbnail"], near.associated_images["thumbnail"])


def test_it_keeps_the_contract_of_readers(
    tmp_path: Path, small_svs: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "small.svs").write_bytes(small_svs.read_bytes())
    server = serve(tmp_path)

    def reader(path: Path) -> JpegTiffReader:
        return JpegTiffReader(SlideUrl(f"{server.root}/{path.relative_to(tmp_path).as_posix()}"))

    check_reader(reader, tmp_path / "small.svs")


def test_a_level_costs_little_more_than_its_bytes(noisy_svs: Path, serve: Serve) -> None:
    server = serve(noisy_svs.parent)
    with closing(JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))) as slide:
        slide.read_region((0, 0), 1, slide.info.level_sizes_px[1])
        stored = int(slide.levels[1].counts.sum())
    assert stored < server.sent_bytes < noisy_svs.stat().st_size / 5


def test_a_region_over_many_stored_rows_is_asked_for_at_once(noisy_svs: Path, serve: Serve) -> None:
    server = serve(noisy_svs.parent)
    with closing(JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))) as slide:
        before = len(server.requests)
        slide.read_region((0, 0), 0, (256, 2048))
        rows = server.requests[before:]
        assert len(rows) == 8
        with slide._lock:
            slide._cache.clear()
            slide._cached_bytes = 0
        slide.read_region((0, 0), 0, (256, 2048))
        assert len(server.requests) == before + 8


def test_tile_reader_says_beforehand_what_it_will_read(noisy_svs: Path, serve: Serve) -> None:
    """All that four batches need is under way before the first is decoded, and nothing is fetched twice."""
    server = serve(noisy_svs.parent)
    places = np.stack(np.meshgrid(np.arange(0, 2560, 256), np.arange(0, 1024, 256)), -1).reshape(-1, 2)
    grid = TileGrid(TileSpec(256, 0.5, 256), places.astype(np.int32), np.ones(40, np.float32), (256.0, 256.0))
    with (
        closing(JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))) as far,
        closing(JpegTiffReader(noisy_svs)) as near,
    ):
        before = server.sent_bytes
        needed = sum(int(far.levels[0].counts[row * 12 + column]) for row in range(4) for column in range(10))
        batches = TileReader(far, grid).batches(np.arange(40), 10)
        first = next(batches)
        under_way = sum(run.size for run in far._source._runs.values())
        assert under_way >= needed
        found = [first, *batches]
        expected = list(TileReader(near, grid).batches(np.arange(40), 10))
        sent = server.sent_bytes - before
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert needed <= sent < 1.3 * needed


def test_opening_takes_name_and_identity_from_the_file_and_not_the_server(noisy_svs: Path, serve: Serve) -> None:
    server, other = serve(noisy_svs.parent), serve(noisy_svs.parent)
    other.etag = ""
    with closing(open_slide(f"{server.root}/noisy.svs?token=secret")) as slide:
        assert slide.info.slide_id == "noisy"
        assert slide.info.reader == "jpeg_tiff"
        assert slide.info.content_hash.startswith("sampled-1:")
        assert "secret" not in repr(slide.info)
        assert hash_slide(slide_location(f"{other.root}/noisy.svs")) == slide.info.content_hash
    assert not hash_slide(noisy_svs).startswith("sampled")


def test_a_damaged_stored_tile_is_a_bad_tile_as_on_the_disk(tmp_path: Path, noisy_svs: Path, serve: Serve) -> None:
    path = tmp_path / "damaged.svs"
    path.write_bytes(noisy_svs.read_bytes())
    damage_tile(path, 0, 2, 1)
    with closing(JpegTiffReader(SlideUrl(f"{serve(tmp_path).root}/damaged.svs"))) as slide:
        with pytest.raises(TileReadError, match="column 2, row 1"):
            slide.read_region((600, 300), 0, (10, 10))
        slide.read_region((0, 0), 0, (10, 10))


def test_a_server_that_goes_away_is_no_bad_tile(noisy_svs: Path, serve: Serve) -> None:
    server = serve(noisy_svs.parent)
    with closing(JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))) as slide:
        server.stop()
        for _ in range(50):
            with pytest.raises(UnreachableSlideError) as caught:
                slide.read_region((0, 0), 0, (10, 10))
            assert not isinstance(caught.value, TileReadError)


def test_a_server_that_goes_away_while_the_structure_is_read_gives_no_half_a_slide(
    noisy_svs: Path, serve: Serve
) -> None:
    server = serve(noisy_svs.parent)
    with closing(JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))):
        whole = len(server.requests)
    assert whole > 3
    for answered in range(1, whole):
        server.statuses = [0] * answered + [500] * 3
        with pytest.raises(UnreachableSlideError):
            JpegTiffReader(SlideUrl(f"{server.root}/noisy.svs"))
        assert not server.statuses


def test_missing_package_is_said_and_other_readers_are_not_asked(
    noisy_svs: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{serve(noisy_svs.parent).root}/noisy.svs"
    with pytest.raises(UnreadableSlideError, match=r"no reader can open it \(openslide: cannot read remote slides\)"):
        open_slide(url, reader="openslide")
    monkeypatch.setitem(sys.modules, "wsi.ranged_http", None)
    with pytest.raises(MissingPackageError, match=r"http:// is missing; pip install 'histograde\[remote\]'"):
        open_slide(url)


def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, serve: Serve) -> None:
    server = serve(tmp_path)
    (tmp_path / "letter.svs").write_text("Dear pathologist")
    said = r"letter.svs: no reader can open it \(jpeg_tiff: not a TIFF .*; openslide: cannot read remote slides; "
    with pytest.raises(UnreadableSlideError, match=said):
        open_slide(f"{server.root}/letter.svs?token=secret")
    with pytest.raises(UnreadableSlideError, match="^absent.svs: no such file on the server; check the URL$"):
        open_slide(f"{server.root}/absent.svs?token=secret")
    server.ranges = False
    with pytest.raises(UnreadableSlideError, match="^letter.svs: the server ignores range requests"):
        open_slide(f"{server.root}/letter.svs")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(UnreachableSlideError, match="x.svs: no sound answer"):
            open_slide(f"http://user:pass@127.0.0.1:{port}/x.svs")


def test_real_slide(shared_data: Path, serve: Serve) -> None:
    """JPEG 2000 in tiles of 240 px: a level of 1.7 megapixels out of 22 MB."""
    path = shared_data / "slides" / "TCGA-DU-6399-01A-01-TS1.svs"
    server = serve(path.parent)
    url = SlideUrl(f"{server.root}/{path.name}")
    with closing(JpegTiffReader(url)) as far, closing(JpegTiffReader(path)) as near:
        assert far.info == near.info
        size = far.info.level_sizes_px[2]
        np.testing.assert_array_equal(far.read_region((0, 0), 2, size), near.read_region((0, 0), 2, size))
        assert server.sent_bytes < path.stat().st_size / 10
        np.testing.assert_array_equal(
            far.read_region((16_000, 7000), 0, (700, 500)), near.read_region((16_000, 7000), 0, (700, 500))
        )
