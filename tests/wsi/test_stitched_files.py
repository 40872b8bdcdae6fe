"""Files as one array: their bytes, nothing written back, and errors instead of signals."""

import gc
import mmap
import os
import sys

import numpy as np
import pytest

from wsi import stitched_files
from wsi.stitched_files import StitchedFiles

PAGE = mmap.PAGESIZE
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="maps are made on Linux only")


@pytest.fixture(autouse=True)
def local(monkeypatch):
    """The kernel of a test machine may be old, and its temporary folder anywhere."""
    if not stitched_files._is_possible():
        pytest.skip("this kernel does not say when a map cannot be filled")
    monkeypatch.setattr(stitched_files, "_is_local", lambda descriptor: True)


@pytest.fixture
def files(tmp_path):
    """Three files of two pages and some bytes, each of one number."""
    paths = [tmp_path / str(number) for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number + 1]) * (2 * PAGE) + b"tail")
    return paths


def stitched(paths, size=2 * PAGE):
    found = StitchedFiles.reserve(len(paths), size)
    assert found is not None
    for place, path in enumerate(paths):
        with path.open("rb") as handle:
            assert found.put(place, handle.fileno())
    return found


def test_the_bytes_lie_behind_each_other(files):
    found = stitched(files)
    found.load(0, 3)
    expected = np.repeat([1, 2, 3], 2 * PAGE)
    np.testing.assert_array_equal(found.piece(1), expected[2 * PAGE : 4 * PAGE])
    np.testing.assert_array_equal(found.values(), expected)


def test_a_file_may_stand_in_two_places_and_be_replaced_in_one(files):
    found = stitched([files[0], files[0], files[1]])
    with files[2].open("rb") as handle:
        found.put(1, handle.fileno())
    np.testing.assert_array_equal(found.values()[:: 2 * PAGE], [1, 3, 2])


def test_writing_changes_no_file_and_no_other_map(files):
    values, other = stitched(files).values(), stitched(files).values()
    values[:] = 77
    assert other.max() == 3
    assert files[0].read_bytes()[:PAGE] == bytes([1]) * PAGE


def test_the_array_keeps_the_memory_and_nothing_else_does(files):
    before = stitched_files._LIVE.count
    part = stitched(files).values().view(np.uint16)[PAGE : PAGE + 4].reshape(2, 2)
    gc.collect()
    assert stitched_files._LIVE.count == before + 3
    assert part.tolist() == [[0x0202, 0x0202]] * 2
    for path in files:
        path.unlink()
    assert part.tolist() == [[0x0202, 0x0202]] * 2
    del part
    gc.collect()
    assert stitched_files._LIVE.count == before


def test_a_file_that_is_too_short_is_an_error(files):
    os.truncate(files[1], PAGE)
    found = stitched(files)
    found.load(0)
    found.load(2)
    for place, count in ((1, 1), (0, 3)):
        with pytest.raises(OSError, match="cannot be had"):
            found.load(place, count)


def test_what_cannot_be_mapped_is_left_to_reading(files, monkeypatch):
    for count, size in ((1, PAGE + 1), (1, 0), (0, PAGE), (stitched_files.MOST_MAPS + 1, PAGE)):
        assert StitchedFiles.reserve(count, size) is None, (count, size)
    before = stitched_files._LIVE.count
    assert StitchedFiles.reserve(1 << 10, PAGE << 40) is None  # more than there are addresses
    assert stitched_files._LIVE.count == before
    monkeypatch.setattr(stitched_files, "_is_possible", lambda: False)
    assert StitchedFiles.reserve(3, PAGE) is None


def test_a_file_system_is_local_by_its_kind(monkeypatch, tmp_path):
    monkeypatch.undo()
    with open("/proc/self/status", "rb") as handle:
        assert not stitched_files._is_local(handle.fileno())
        found = StitchedFiles.reserve(1, PAGE)
        assert found is not None
        assert not found.put(0, handle.fileno())
    with open("/proc/self/mounts") as mounts:
        kinds = {line.split()[1]: line.split()[2] for line in mounts}
    if kinds.get("/dev/shm") == "tmpfs" and os.access("/dev/shm", os.W_OK):
        descriptor = os.open("/dev/shm", os.O_RDONLY)
        assert stitched_files._is_local(descriptor)
        os.close(descriptor)
