"""The identity of remote slides, against the rule of FORMAT.md written out once more with plain file reads."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from wsi.byte_source import LocalBytes
from wsi.sampled_hash import remote_hash, sample_places

MIB = 1 << 20
RNG = np.random.default_rng(6)


def identity(path: Path) -> str:
    with path.open("rb") as file:
        return remote_hash(LocalBytes(file))


@pytest.fixture(scope="module")
def data() -> bytes:
    return RNG.bytes(40 * MIB + 12_345)


def test_a_large_file_is_sampled_as_the_format_says(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    parts = [data[:MIB], *(data[(at := (len(data) - 65_536) * k // 65) : at + 65_536] for k in range(1, 65))]
    parts.append(data[-MIB:])
    expected = sha256(b"41955385\n" + b"".join(parts)).hexdigest()
    assert identity(tmp_path / "file") == f"sampled-1:{expected}"


def test_a_small_file_is_hashed_whole_and_so_has_the_local_identity(tmp_path: Path, data: bytes) -> None:
    for size in (0, 5, 8 * MIB):
        (tmp_path / "file").write_bytes(data[:size])
        assert identity(tmp_path / "file") == sha256(data[:size]).hexdigest()
    (tmp_path / "file").write_bytes(data[: 8 * MIB + 1])
    assert identity(tmp_path / "file").startswith("sampled-1:")


def test_samples_lie_inside_and_take_little() -> None:
    for size in (8 * MIB + 1, 3 << 30, 1 << 50):
        places = sample_places(size)
        assert min(start for start, _ in places) == 0
        assert max(start + count for start, count in places) == size
        assert sum(count for _, count in places) == 6 * MIB


def test_another_size_or_another_stretch_is_another_slide(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    first = identity(path)
    path.write_bytes(data[: 20 * MIB] + b"\0" * 700_000 + data[20 * MIB + 700_000 :])
    second = identity(path)
    path.write_bytes(data + b"\0")
    assert len({first, second, identity(path)}) == 3
