"""Bytes of files on a server: against the file itself, on a server on loopback that counts, fails and falls silent."""

import asyncio
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests.range_server import RangeServer
from wsi import remote_bytes
from wsi.errors import MissingPackageError, TileReadError, UnreachableSlideError, UnreadableSlideError
from wsi.remote_bytes import RemoteBytes, RemoteFile
from wsi.slide_url import SlideUrl

pytest.importorskip("aiohttp")

DATA = np.random.default_rng(4).bytes(3_000_000)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Serves `file.svs`, of `DATA`; retries are quick."""
    monkeypatch.setattr(remote_bytes, "BACKOFF_S", (0.01, 0.01))
    (tmp_path / "file.svs").write_bytes(DATA)
    with RangeServer(tmp_path) as running:
        yield running


def at(server: RangeServer, rest: str = "/file.svs") -> SlideUrl:
    return SlideUrl(server.root + rest)


def expected(ranges: list[tuple[int, int]]) -> list[bytes]:
    return [DATA[start : start + count] for start, count in ranges]


def test_size_and_version_cost_one_request(server: RangeServer) -> None:
    with closing(RemoteBytes(at(server))) as source:
        assert source.size == len(DATA)
        assert source.version == '"v1"'
        assert source.far
    assert [asked for _, asked in server.requests] == ["bytes=0-0"]


def test_ranges_come_back_in_the_order_asked_for(server: RangeServer) -> None:
    ranges = [(1_000_000, 5000), (0, 100), (100, 50), (40, 20), (2_999_990, 100), (4_000_000, 10), (5, 0), (0, 100)]
    with closing(RemoteBytes(at(server))) as source:
        assert source.read_many(ranges) == expected(ranges)


def test_close_ranges_are_one_request_and_far_ones_are_not(server: RangeServer) -> None:
    near = [(start, 1000) for start in range(0, 200_000, 20_000)]
    with closing(RemoteBytes(at(server))) as source:
        source.read_many([*near, (2_000_000, 10)])
    asked = sorted(one for _, one in server.requests[1:])
    assert asked == ["bytes=0-180999", "bytes=2000000-2000009"]


def test_what_is_expected_is_fetched_once_and_beforehand(server: RangeServer) -> None:
    ranges = [(start, 500) for start in range(0, 2_500_000, 250_000)]
    with closing(RemoteBytes(at(server))) as source:
        source.expect(ranges)
        for one in ranges:
            assert source.read_many([one]) == expected([one])
        assert source.read_many(ranges) == expected(ranges)
    assert len(server.requests) == 1 + len(ranges)


def test_memory_is_bounded_and_what_was_let_go_is_fetched_again(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_bytes, "MEMORY_BYTES", 1_000_000)
    monkeypatch.setattr(remote_bytes, "MAX_READ_BYTES", 100_000)
    ranges = [(start, 100_000) for start in range(0, 3_000_000, 100_000)]
    with closing(RemoteBytes(at(server))) as source:
        source.expect(ranges)
        assert source._held_bytes <= 1_000_000
        assert source.read_many(ranges) == expected(ranges)
        assert source._held_bytes <= 1_000_000
        before = len(server.requests)
        assert source.read_many(ranges[:1]) == expected(ranges[:1])
        assert len(server.requests) == before + 1


def test_a_range_larger_than_memory_is_read_all_the_same(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_bytes, "MEMORY_BYTES", 1000)
    with closing(RemoteBytes(at(server))) as source:
        assert source.read_many([(0, 2_000_000), (5, 900)]) == expected([(0, 2_000_000), (5, 900)])


def test_many_threads_read_at_once(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_bytes, "MEMORY_BYTES", 200_000)
    groups = [[(start + step * 30_011, 7000) for step in range(5)] for start in range(0, 2_400_000, 60_000)]
    with closing(RemoteBytes(at(server))) as source, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(source.read_many, groups))
    assert found == [expected(group) for group in groups]


def test_a_server_that_stumbles_is_asked_again(server: RangeServer) -> None:
    server.statuses = [503, 429]
    with closing(RemoteBytes(at(server))) as source:
        server.cut = 2
        assert source.read_many([(0, 400_000)]) == expected([(0, 400_000)])
    assert len(server.requests) == 6


def test_a_server_that_goes_on_failing_is_given_up_for_good(server: RangeServer) -> None:
    with closing(RemoteBytes(at(server))) as source:
        server.statuses = [500] * 3
        with pytest.raises(UnreachableSlideError, match=r"file.svs: no sound answer from the server in 3 tries"):
            source.read_many([(0, 10)])
        before = len(server.requests)
        for again in (lambda: source.read_many([(50, 10)]), lambda: source.expect([(9, 1)])):
            with pytest.raises(UnreachableSlideError, match="3 tries"):
                again()
        assert len(server.requests) == before


def test_a_server_that_has_gone_is_an_error(server: RangeServer) -> None:
    with closing(RemoteBytes(at(server, "/file.svs?k=secret"))) as source:
        server.stop()
        with pytest.raises(UnreachableSlideError) as caught:
            source.read_many([(0, 10)])
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_silent_server_does_not_hang(server: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from wsi import ranged_http

    monkeypatch.setattr(ranged_http, "STALL_S", 0.1)
    with closing(RemoteBytes(at(server))) as source:
        server.silent = True
        with pytest.raises(UnreachableSlideError, match="Timeout"):
            source.read_many([(0, 10)])


def test_closing_ends_what_is_under_way(server: RangeServer) -> None:
    source = RemoteBytes(at(server))
    server.silent = True
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.read_many, [(0, 10)])
        for _ in range(500):
            if len(server.requests) == 2:
                break
            time.sleep(0.01)
        source.close()
        with pytest.raises(TileReadError, match="closed"):
            waiting.result(timeout=10)
    with pytest.raises(TileReadError, match="closed"):
        source.read_many([(0, 10)])


def test_a_server_without_ranges_is_refused_and_not_downloaded(server: RangeServer) -> None:
    server.ranges = False
    with pytest.raises(UnreadableSlideError, match="ignores range requests") as caught:
        RemoteBytes(at(server))
    assert not isinstance(caught.value, UnreachableSlideError)
    assert len(server.requests) == 1


def test_a_proxy_that_forgets_ranges_on_the_way_is_refused(server: RangeServer) -> None:
    with closing(RemoteBytes(at(server))) as source:
        server.ranges = False
        with pytest.raises(UnreadableSlideError, match="ignores range requests"):
            source.read_many([(0, 10)])


def test_a_file_that_changes_is_noticed(server: RangeServer, tmp_path: Path) -> None:
    with closing(RemoteBytes(at(server))) as source:
        server.etag = '"v2"'
        with pytest.raises(UnreachableSlideError, match="changed while it was read"):
            source.read_many([(0, 10)])
    server.etag = ""
    with closing(RemoteBytes(at(server))) as source:
        assert source.version == ""
        (tmp_path / "file.svs").write_bytes(DATA + b"more")
        with pytest.raises(UnreachableSlideError, match="changed while it was read"):
            source.read_many([(0, 10)])


def test_servers_behind_one_name_may_differ_in_what_they_say(server: RangeServer) -> None:
    server.date = "Sat, 21 Nov 2026 10:00:00 GMT"
    with closing(RemoteBytes(at(server))) as source:
        server.etag = '"of another server"'
        assert source.read_many([(0, 10)]) == expected([(0, 10)])
        server.date = "Sat, 21 Nov 2026 11:00:00 GMT"
        with pytest.raises(UnreachableSlideError, match="changed while it was read"):
            source.read_many([(2_000_000, 10)])


@pytest.mark.parametrize(
    ("rest", "error", "said"),
    [
        ("/absent.svs?query=secret", UnreadableSlideError, "absent.svs: no such file"),
        ("/file.svs?query=secret", UnreachableSlideError, "file.svs: access denied"),
    ],
)
def test_refusals_are_not_tried_again_and_show_no_query(
    server: RangeServer, rest: str, error: type[Exception], said: str
) -> None:
    server.query = "query=other" if "file" in rest else ""
    with pytest.raises(error, match=said) as caught:
        RemoteBytes(at(server, rest))
    assert "secret" not in str(caught.value)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert len(server.requests) == 1


def test_query_and_escapes_travel_as_they_are(server: RangeServer, tmp_path: Path) -> None:
    server.query = "X=a%2Fb%3D"
    with closing(RemoteBytes(at(server, "/file.svs?X=a%2Fb%3D"))) as source:
        assert source.size == len(DATA)


def test_an_empty_file_is_refused(server: RangeServer, tmp_path: Path) -> None:
    (tmp_path / "empty.svs").write_bytes(b"")
    with pytest.raises(UnreadableSlideError, match="empty"):
        RemoteBytes(at(server, "/empty.svs"))


def test_other_filesystems_of_fsspec_are_read_as_well() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/file.svs", DATA)
    try:
        with closing(RemoteBytes(SlideUrl("memory://bucket/file.svs"))) as source:
            assert source.size == len(DATA)
            assert source.version
            assert source.read_many([(7, 900), (2_000_000, 30)]) == expected([(7, 900), (2_000_000, 30)])
        with pytest.raises(UnreadableSlideError, match="no such file"):
            RemoteBytes(SlideUrl("memory://bucket/absent.svs"))
    finally:
        memory.rm("/bucket", recursive=True)


def test_unknown_protocol_and_missing_package_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableSlideError, match="gopher:// cannot be read .*; http, https and s3 can"):
        RemoteBytes(SlideUrl("gopher://host/file.svs"))

    def missing(*_: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(remote_bytes, "url_to_fs", missing)
    with pytest.raises(MissingPackageError, match=r"reads s3:// is missing; pip install 'histograde\[remote\]'"):
        RemoteBytes(SlideUrl("s3://bucket/file.svs"))


def test_as_a_file_it_is_read_in_blocks(server: RangeServer) -> None:
    with closing(RemoteBytes(at(server))) as source:
        file = RemoteFile(source, "file.svs")
        assert file.seek(0, 2) == len(DATA)
        assert file.read(10) == b""
        for start, count in ((0, 8), (131_070, 5), (131_072, 10), (2_999_999, 10), (700_000, 300_000)):
            file.seek(start)
            assert file.read(count) == DATA[start : start + count]
            assert file.tell() == min(start + count, len(DATA))
        before = len(server.requests)
        file.seek(4)
        assert file.read(1000) == DATA[4:1004]
        assert len(server.requests) == before


def test_the_loop_of_fsspec_is_not_left_with_tasks(server: RangeServer) -> None:
    source = RemoteBytes(at(server))
    server.silent = True
    source.expect([(0, 10), (2_000_000, 10)])
    source.close()

    async def others() -> int:
        await asyncio.sleep(0.05)
        return sum("_fetch" in str(task.get_coro()) for task in asyncio.all_tasks())

    assert asyncio.run_coroutine_threadsafe(others(), source._fs.loop).result(10) == 0
