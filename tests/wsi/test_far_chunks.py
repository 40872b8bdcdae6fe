"""Rows of chunks in a bucket: fetched whole once, by range after that, and checked again when they are others."""

import numpy as np
import pytest

from wsi import far_chunks, object_store
from wsi.chunk_reader import PlainLayout
from wsi.far_chunks import FarChunks
from wsi.store_arrays import last_crc32c, plain_chunk
from wsi.store_url import StoreUrl

pytest.importorskip("obstore")

ROWS, DIM, CHUNK_ROWS = 700, 64, 256
VALUES = np.random.default_rng(4).normal(size=(3 * CHUNK_ROWS, DIM)).astype(np.float16)
LAYOUT = PlainLayout(ROWS, DIM, CHUNK_ROWS, np.dtype("<f2"))
ARRAY = StoreUrl("s3://stores/s.zarr/features/toy/values")


class Damage(Exception):
    """What the store would raise."""


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A bucket with the array; bytes of each answer."""
    from obstore.store import MemoryStore

    held = MemoryStore()
    monkeypatch.setattr(object_store, "_bucket", lambda name: held)
    monkeypatch.setattr(far_chunks, "MAX_GAP_BYTES", 1024)
    far_chunks._checked.clear()
    for chunk in range(3):
        put(chunk)
    sizes: list[int] = []
    whole, parts = object_store.read_stamped, object_store.read_ranges

    def count_whole(url: StoreUrl) -> object:
        found = whole(url)
        sizes.append(len(found[0]))
        return found

    def count_parts(*given: object) -> object:
        found = parts(*given)
        sizes.extend(map(len, found or ()))
        return found

    monkeypatch.setattr(object_store, "read_stamped", count_whole)
    monkeypatch.setattr(object_store, "read_ranges", count_parts)
    return sizes


def put(chunk: int, values: np.ndarray = VALUES) -> None:
    (ARRAY / f"c/{chunk}/0").write_bytes(plain_chunk(values[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS]))


def opened(**other: object) -> FarChunks:
    parts = [plain_chunk(VALUES[first : first + CHUNK_ROWS]) for first in range(0, ROWS, CHUNK_ROWS)]
    records = [{"crc32c": last_crc32c(part)} | other for part in parts]
    return FarChunks(ARRAY, LAYOUT, records, lambda url, what: Damage(f"{url.key} {what}"))


def test_rows_come_in_the_order_asked_for_and_cost_what_they_are(fetched: list[int]) -> None:
    chunks = opened()
    whole = CHUNK_ROWS * DIM * 2 + 4
    np.testing.assert_array_equal(chunks.read(np.array([300, 5, 699, 5])), VALUES[[300, 5, 699, 5]])
    assert fetched == [whole] * 3
    fetched.clear()
    rows = np.array([301, 300, 5, 40, 5, 6])
    np.testing.assert_array_equal(chunks.read(rows), VALUES[rows])
    assert sorted(fetched) == [128, 256, 256], "rows 5 and 6; 40; 300 and 301"
    fetched.clear()
    np.testing.assert_array_equal(chunks.read(np.arange(200)), VALUES[:200])
    assert fetched == [whole], "most of a chunk is asked for as a whole"


def test_an_object_that_has_changed_is_compared_again(fetched: list[int]) -> None:
    chunks = opened()
    chunks.read(np.arange(ROWS))
    put(1, VALUES + np.float16(1))
    np.testing.assert_array_equal(chunks.read(np.array([3])), VALUES[[3]])
    with pytest.raises(Damage, match="features/toy/values/c/1/0 differs from its checksum"):
        chunks.read(np.array([300]))
    put(1)
    np.testing.assert_array_equal(chunks.read(np.array([300])), VALUES[[300]])
    (ARRAY / "c/1/0").write_bytes(b"short")
    with pytest.raises(Damage, match="differs"):
        chunks.read(np.array([300]))
    (ARRAY / "c/1/0").unlink()
    with pytest.raises(Damage, match="is missing"):
        chunks.read(np.array([300]))


def test_a_chunk_that_agrees_with_itself_only_is_refused(fetched: list[int]) -> None:
    (ARRAY / "c/0/0").write_bytes((ARRAY / "c/1/0").read_bytes())
    with pytest.raises(Damage, match="c/0/0 differs"):
        opened().read(np.array([3]))
    chunks = FarChunks(ARRAY, LAYOUT, [None] * 3, lambda url, what: Damage(what))
    with pytest.raises(Damage, match="differs"):
        chunks.read(np.array([3]))
