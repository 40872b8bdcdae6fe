"""The cache holds what was used last, and no more bytes than it may."""

from workflows.review.byte_cache import ENTRY_BYTES, ByteCache


def test_what_was_used_last_stays() -> None:
    cache = ByteCache(10 * (100 + ENTRY_BYTES))
    for number in range(10):
        cache.put(number, bytes(100))
    assert cache.get(0) is not None
    cache.put("new", bytes(100))
    assert (cache.get(1), cache.get(0), cache.get("new")) == (None, bytes(100), bytes(100))
    assert len(cache) == 10


def test_bytes_are_bounded_whatever_their_sizes() -> None:
    cache = ByteCache(100_000)
    for number in range(2000):
        cache.put(number % 300, bytes(number % 977 * 13))
        assert cache.size_bytes <= 100_000
    kept = [data for data in map(cache.get, range(300)) if data is not None]
    assert cache.size_bytes == sum(map(len, kept)) + len(kept) * ENTRY_BYTES


def test_one_huge_answer_does_not_push_out_all_others() -> None:
    cache = ByteCache(8000)
    cache.put("a", b"a")
    cache.put("huge", bytes(1001))
    assert cache.get("a") == b"a"
    assert cache.get("huge") is None
