"""Bytes of local files by position."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from wsi import byte_source
from wsi.byte_source import LocalBytes, runs_of
from wsi.errors import TileReadError

DATA = np.random.default_rng(3).bytes(300_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


def test_runs_join_what_is_close_and_in_order() -> None:
    assert runs_of([(0, 10), (10, 10), (25, 5)], 100, 5) == [[(0, 10), (10, 10), (25, 5)]]
    assert runs_of([(0, 10), (16, 5)], 100, 5) == [[(0, 10)], [(16, 5)]]
    assert runs_of([(0, 10), (10, 10), (20, 10)], 20, 5) == [[(0, 10), (10, 10)], [(20, 10)]]
    assert runs_of([(50, 10), (0, 10), (5, 10)], 100, 5) == [[(50, 10)], [(0, 10)], [(5, 10)]]
    assert runs_of([], 100, 5) == []


def test_ranges_are_read_in_the_order_asked_for(path: Path) -> None:
    ranges = [(0, 100), (100, 50), (90_000, 7), (40, 20), (299_990, 100), (400_000, 10), (5, 0)]
    with path.open("rb") as file:
        source = LocalBytes(file)
        assert source.size == len(DATA)
        assert not source.far
        assert source.read_many(ranges) == [DATA[at : at + count] for at, count in ranges]
        source.expect(ranges)


def test_neighbours_are_one_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def counted(descriptor: int, count: int, start: int) -> bytes:
        reads.append((start, count))
        return DATA[start : start + count]

    monkeypatch.setattr(byte_source.os, "pread", counted)
    with path.open("rb") as file:
        LocalBytes(file).read_many([(0, 1000), (1000, 1000), (2500, 500), (200_000, 10)])
    assert reads == [(0, 3000), (200_000, 10)]


def test_many_threads_share_one_handle(path: Path) -> None:
    ranges = [(at * 977 % 290_000, 4000) for at in range(400)]
    with path.open("rb") as file, ThreadPoolExecutor(8) as pool:
        source = LocalBytes(file)
        found = list(pool.map(lambda one: source.read_many([one])[0], ranges))
    assert found == [DATA[at : at + count] for at, count in ranges]


def test_closed_file_and_failing_disk_are_tile_errors(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    with path.open("rb") as file:
        source = LocalBytes(file)
        with monkeypatch.context() as patch:
            patch.setattr(byte_source.os, "pread", failing)
            with pytest.raises(TileReadError, match="cannot be read .Input/output error"):
                source.read_many([(0, 5)])
    with pytest.raises(TileReadError, match="closed"):
        source.read_many([(0, 5)])
