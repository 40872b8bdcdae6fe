"""Rows by position: the same numbers as Zarr gives, and no damage that reads as a number."""

import mmap
import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from tests.hostile.makers import flip
from wsi import chunk_reader, shared_work, stitched_files
from wsi.chunk_reader import PlainChunks, plain_layout
from wsi.store_arrays import last_crc32c

ROWS, DIM, CHUNK_ROWS = 37, 5, 8
VALUES = np.random.default_rng(4).normal(size=(ROWS, DIM)).astype(np.float16)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is remembered from another test, and every file counts as old enough to be remembered."""
    chunk_reader._CHECKED.clear()
    chunk_reader._MAPS.clear()
    monkeypatch.setattr(chunk_reader, "SETTLED_NS", -(1 << 62))


def write(path: Path, values=VALUES, **options) -> Path:
    settings = {"chunks": (CHUNK_ROWS, DIM), "serializer": BytesCodec(), "compressors": [Crc32cCodec()]} | options
    array = zarr.create_array(path, shape=values.shape, dtype=values.dtype, fill_value=float("nan"), **settings)
    array[...] = values
    for chunk in path.rglob("c/*/0"):
        os.utime(chunk, (1e9, 1e9))  # so that a later change has another time stamp however quick the test is
    return path


@pytest.fixture
def array(tmp_path) -> Path:
    return write(tmp_path / "values")


def record(chunk: Path, *, crc: bool) -> dict:
    """What a manifest says of a chunk."""
    kept = {"sha256": sha256(chunk.read_bytes()).hexdigest()}
    return kept | {"crc32c": last_crc32c(chunk.read_bytes())} if crc else kept


def opened(array: Path, *, crc: bool = True) -> PlainChunks:
    layout = plain_layout((array / "zarr.json").read_bytes())
    records = [record(array / f"c/{chunk}/0", crc=crc) for chunk in range(-(-layout.rows // layout.chunk_rows))]
    return PlainChunks(array, layout, records, lambda path, what: ValueError(f"{path.relative_to(array)} {what}"))


@pytest.fixture
def checks(monkeypatch) -> list:
    """Grows by one with each chunk that is compared with its checksum."""
    done: list = []
    agrees = chunk_reader._agrees
    monkeypatch.setattr(chunk_reader, "_agrees", lambda *given: done.append(1) or agrees(*given))
    return done


CHOICES = {
    "all": np.arange(ROWS),
    "inside a chunk": np.arange(9, 14),
    "across chunks": np.arange(5, 30),
    "the padded end": np.arange(33, ROWS),
    "one": np.array([17]),
    "none": np.array([], np.int64),
    "gaps": np.delete(np.arange(ROWS), [0, 11, 12, 36]),
    "shuffled": np.random.default_rng(0).permutation(ROWS),
    "falling": np.arange(ROWS)[::-1],
    "twice": np.array([3, 3, 36, 0, 3, 20, 20]),
}


@pytest.mark.parametrize("crc", [True, False], ids=["crc32c", "sha256"])
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
@pytest.mark.parametrize("rows", CHOICES.values(), ids=CHOICES.keys())
def test_rows_are_those_of_the_array_on_each_reading(array, rows, crc, threads, monkeypatch):
    if threads:
        monkeypatch.setattr(shared_work, "THREAD_BYTES", 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    chunks = opened(array, crc=crc)
    for _ in range(3):
        found = chunks.read(rows)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, VALUES[rows])
        assert found.flags.writeable


def test_float32_is_read_too(tmp_path):
    values = VALUES.astype(np.float32) / 3
    np.testing.assert_array_equal(opened(write(tmp_path / "values", values)).read(np.arange(ROWS)), values)


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"compressors": []},
        {"serializer": BytesCodec(endian="big")},
        {"shards": (2 * CHUNK_ROWS, DIM)},
        {"chunks": (CHUNK_ROWS, DIM - 1)},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ],
    ids=["compressed", "no checksum", "big endian", "shards", "cut across", "other separator", "other keys"],
)
def test_what_cannot_be_read_by_position_is_left_to_zarr(tmp_path, options):
    assert plain_layout((write(tmp_path / "values", **options) / "zarr.json").read_bytes()) is None


def test_whole_numbers_are_left_to_zarr(tmp_path):
    path = tmp_path / "values"
    zarr.create_array(path, shape=(4, 2), dtype="u4", chunks=(2, 2), compressors=[Crc32cCodec()])
    assert plain_layout((path / "zarr.json").read_bytes()) is None


def cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-7])


def grow(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes() + b"7")


def other(chunk: Path) -> None:
    shutil.copyfile(chunk.parents[1] / "0" / "0", chunk)


DAMAGES = {
    "first byte": lambda chunk: flip(chunk, 0),
    "last row": lambda chunk: flip(chunk, CHUNK_ROWS * DIM * 2 - 1),
    "checksum": lambda chunk: flip(chunk, CHUNK_ROWS * DIM * 2 + 1),
    "cut": cut,
    "grown": grow,
    "another chunk": other,
}


@pytest.mark.parametrize("read_before", [True, False])
@pytest.mark.parametrize("crc", [True, False], ids=["crc32c", "sha256"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named_and_spoils_no_other_chunk(array, damage, crc, read_before):
    chunks = opened(array, crc=crc)
    if read_before:
        for _ in range(2):
            chunks.read(CHOICES["shuffled"])
    damage(array / "c/2/0")
    for name in ("all", "gaps", "shuffled", "across chunks"):
        with pytest.raises(ValueError, match=r"^c/2/0 differs from its checksum"):
            chunks.read(CHOICES[name])
    with pytest.raises(ValueError, match=r"^c/2/0 differs"):
        chunks.read(CHOICES["one"])
    np.testing.assert_array_equal(chunks.read(np.array([3, 30, 4])), VALUES[[3, 30, 4]])


def test_a_chunk_that_is_not_there_or_not_listed_is_damage(array):
    chunks = opened(array)
    chunks.read(CHOICES["shuffled"])
    (array / "c/4/0").unlink()
    for name in ("the padded end", "shuffled"):
        with pytest.raises(ValueError, match=r"^c/4/0 is missing"):
            chunks.read(CHOICES[name])
    (array / "c/4/0").mkdir()
    with pytest.raises(ValueError, match=r"^c/4/0 (differs|cannot be read)"):
        chunks.read(CHOICES["the padded end"])
    unlisted = PlainChunks(array, chunks.layout, [None] * 5, lambda path, what: ValueError(what))
    with pytest.raises(ValueError, match="differs from its checksum"):
        unlisted.read(np.array([0]))


def test_of_several_damaged_chunks_the_first_is_named(array, monkeypatch):
    monkeypatch.setattr(shared_work, "THREAD_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    chunks = opened(array)
    for chunk in (1, 2, 3, 4):
        flip(array / f"c/{chunk}/0", 3)
    for _ in range(20):
        with pytest.raises(ValueError, match=r"^c/1/0 differs"):
            chunks.read(CHOICES["all"])


def test_a_chunk_is_checked_once_and_again_when_its_file_is_another(array, checks):
    for _ in range(2):  # also through another object
        chunks = opened(array)
        for name in ("all", "one", "shuffled", "all"):
            chunks.read(CHOICES[name])
    assert len(checks) == 5
    shutil.copy2(array / "c/1/0", array / "copy")
    os.replace(array / "copy", array / "c/1/0")
    for name in ("all", "shuffled"):
        np.testing.assert_array_equal(chunks.read(CHOICES[name]), VALUES[CHOICES[name]])
    assert len(checks) == 6


def test_a_file_that_has_just_changed_is_checked_each_time(array, checks, monkeypatch):
    """A change within the same tick of the clock leaves the time stamp as it is."""
    monkeypatch.setattr(chunk_reader, "SETTLED_NS", 1 << 62)
    chunks = opened(array)
    for _ in range(3):
        chunks.read(np.array([0, 2]))
    assert len(checks) == 3


def test_what_is_remembered_is_bounded():
    recent = chunk_reader._Recent(2)
    for number in range(3):
        recent.keep((number,), number)
    assert [recent.get((number,)) for number in range(3)] == [None, 1, 2]
    recent.keep((1,), 1)
    recent.keep((3,), 3)
    assert [recent.get((number,)) for number in range(4)] == [None, 1, None, 3]


def test_a_range_longer_than_the_maps_is_read_right(array, monkeypatch):
    monkeypatch.setattr(chunk_reader, "_MAPS", chunk_reader._Recent(1))
    chunks = opened(array)
    for _ in range(4):
        np.testing.assert_array_equal(chunks.read(CHOICES["twice"]), VALUES[CHOICES["twice"]])


PAGE_ROWS = mmap.PAGESIZE // (2 * DIM - 2)
"""Rows of a chunk of one page, four numbers each."""
WHOLE = np.random.default_rng(5).normal(size=(4 * PAGE_ROWS - 7, DIM - 1)).astype(np.float16)


@pytest.fixture
def pages(tmp_path) -> Path:
    """Four chunks of whole pages, the last one padded."""
    return write(tmp_path / "pages", WHOLE, chunks=(PAGE_ROWS, DIM - 1))


@pytest.fixture
def live(monkeypatch):
    """How many files are mapped; skips where none can be."""
    if not stitched_files._is_possible():
        pytest.skip("this kernel does not say when a map cannot be filled")
    monkeypatch.setattr(stitched_files, "_is_local", lambda descriptor: True)
    before = stitched_files._LIVE.count
    return lambda: stitched_files._LIVE.count - before


STRETCHES = {
    "all": slice(0, len(WHOLE)),
    "a chunk": slice(PAGE_ROWS, 2 * PAGE_ROWS),
    "across chunks": slice(PAGE_ROWS - 3, 3 * PAGE_ROWS + 1),
    "the padded end": slice(2 * PAGE_ROWS, len(WHOLE)),
    "few": slice(4, 9),
    "none": slice(0, 0),
    "every other": slice(0, len(WHOLE), 2),
    "falling": slice(None, None, -1),
}


@pytest.mark.parametrize("crc", [True, False], ids=["crc32c", "sha256"])
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
@pytest.mark.parametrize("stretch", STRETCHES.values(), ids=STRETCHES.keys())
def test_mapped_rows_are_those_of_the_array_on_each_reading(pages, stretch, crc, threads, monkeypatch):
    if threads:
        monkeypatch.setattr(shared_work, "THREAD_BYTES", 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)))
    chunks = opened(pages, crc=crc)
    for _ in range(3):
        found = chunks.map(np.arange(len(WHOLE))[stretch])
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, WHOLE[stretch])
        found[:] = 0  # changes no file and no later reading


def test_only_whole_pages_in_a_row_on_this_machine_are_mapped(pages, array, live, monkeypatch):
    everything = np.arange(len(WHOLE))
    chunks = opened(pages)
    found = chunks.map(everything)
    assert live() == 4
    others = [chunks.map(rows) for rows in (everything[::-1], np.delete(everything, 5), everything[:3])]
    others.append(opened(array).map(np.arange(ROWS)))  # its chunks are not whole pages
    others.append(chunks.read(everything))
    monkeypatch.setattr(stitched_files, "_is_local", lambda descriptor: False)
    others.append(chunks.map(everything))
    assert live() == 4
    np.testing.assert_array_equal(found, others[-1])


@pytest.mark.parametrize("read_before", [True, False])
@pytest.mark.parametrize("crc", [True, False], ids=["crc32c", "sha256"])
@pytest.mark.parametrize("place", [0, mmap.PAGESIZE - 1, mmap.PAGESIZE + 1, "cut", "grow", "other"])
def test_damage_is_named_before_a_chunk_is_mapped(pages, live, place, crc, read_before):
    chunks = opened(pages, crc=crc)
    if read_before:
        chunks.map(np.arange(len(WHOLE)))
    damage = {"cut": cut, "grow": grow, "other": other}.get(place, lambda chunk: flip(chunk, place))
    damage(pages / "c/2/0")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^c/2/0 differs from its checksum"):
            chunks.map(np.arange(len(WHOLE)))
    np.testing.assert_array_equal(chunks.map(np.arange(2 * PAGE_ROWS)), WHOLE[: 2 * PAGE_ROWS])


def test_a_missing_chunk_is_named_when_it_is_mapped(pages, live):
    chunks = opened(pages)
    chunks.map(np.arange(len(WHOLE)))
    (pages / "c/1/0").unlink()
    with pytest.raises(ValueError, match=r"^c/1/0 is missing"):
        chunks.map(np.arange(len(WHOLE)))


@pytest.mark.parametrize("read_before", [True, False])
def test_a_chunk_that_the_disk_does_not_give_is_named(pages, live, read_before, monkeypatch):
    chunks = opened(pages)
    if read_before:
        chunks.map(np.arange(len(WHOLE)))
    load = stitched_files.StitchedFiles.load

    def broken(self, place):
        if place == 2:
            raise OSError(5, "the disk is broken")
        load(self, place)

    monkeypatch.setattr(stitched_files.StitchedFiles, "load", broken)
    with pytest.raises(ValueError, match=r"^c/2/0 cannot be read .*the disk is broken"):
        chunks.map(np.arange(len(WHOLE)))


def test_what_was_checked_by_reading_is_not_checked_again_by_mapping(pages, live, checks):
    chunks = opened(pages)
    chunks.read(np.arange(PAGE_ROWS))
    for _ in range(2):
        chunks.map(np.arange(len(WHOLE)))
    chunks.read(np.arange(len(WHOLE)))
    assert len(checks) == 4
