"""Small arrays from their bytes: the same numbers as Zarr gives, and what is unknown is left to it."""

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

from tests.hostile.makers import flip
from wsi.packed_array import PackedArray, packed_array
from wsi.sealing import write_array

ARRAYS = {
    "coords": np.random.default_rng(0).integers(-9, 1 << 20, (70, 2)).astype(np.int32),
    "share": np.random.default_rng(1).random(70).astype(np.float32),
    "mask": np.random.default_rng(2).integers(0, 2, (13, 9)).astype(np.uint8),
    "codes": np.arange(5, dtype=np.uint32),
    "one": np.array([7], np.int64),
}


def described(path) -> PackedArray:
    found = packed_array((path / "zarr.json").read_bytes())
    assert found is not None
    return found


def read(path):
    found = described(path)
    return found.decoded((path / found.chunk).read_bytes())


@pytest.mark.parametrize("name", ARRAYS)
def test_the_numbers_are_those_that_zarr_gives(tmp_path, name):
    write_array(tmp_path, name, ARRAYS[name])
    found, expected = read(tmp_path / name), np.asarray(zarr.open_array(tmp_path / name, mode="r")[...])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == expected.dtype
    assert found.flags.writeable


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [GzipCodec(), Crc32cCodec()]},
        {"compressors": [ZstdCodec()]},
        {"compressors": [Crc32cCodec(), ZstdCodec()]},
        {"compressors": []},
        {"serializer": BytesCodec(endian="big")},
        {"chunks": (35, 2)},
        {"chunks": (100, 2)},
        {"shards": (70, 2), "chunks": (35, 2)},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
        {"chunk_key_encoding": {"name": "default", "separator": "."}},
        {"chunk_key_encoding": {"name": "v2", "separator": "/"}},
    ],
    ids=["gzip", "no crc", "crc inside", "plain", "big endian", "two", "padded", "shard", "turned", "dot", "v2"],
)
def test_what_is_unknown_is_left_to_zarr(tmp_path, options):
    values = ARRAYS["coords"]
    settings = {"chunks": values.shape, "compressors": [ZstdCodec(), Crc32cCodec()]} | options
    zarr.create_array(tmp_path / "a", shape=values.shape, dtype=values.dtype, **settings)[...] = values
    assert packed_array((tmp_path / "a" / "zarr.json").read_bytes()) is None


@pytest.mark.parametrize("shape", [(0,), (0, 2), (3, 0)])
def test_an_array_without_a_chunk_is_left_to_zarr(tmp_path, shape):
    write_array(tmp_path, "none", np.zeros(shape, np.int32))
    assert packed_array((tmp_path / "none" / "zarr.json").read_bytes()) is None


def test_other_kinds_of_numbers_are_left_to_zarr(tmp_path):
    write_array(tmp_path, "complex", np.zeros(3, np.complex64))
    assert packed_array((tmp_path / "complex" / "zarr.json").read_bytes()) is None


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path):
    write_array(tmp_path, "codes", ARRAYS["codes"])
    codes, chunk = described(tmp_path / "codes"), (tmp_path / "codes/c/0").read_bytes()
    for place in range(len(chunk)):
        flip(tmp_path / "codes/c/0", place, bit=place % 8)
        with pytest.raises(ValueError, match="differs from its checksum"):
            read(tmp_path / "codes")
        flip(tmp_path / "codes/c/0", place, bit=place % 8)
        with pytest.raises(ValueError, match="differs from its checksum"):
            codes.decoded(chunk[:place])
    np.testing.assert_array_equal(read(tmp_path / "codes"), ARRAYS["codes"])


def test_a_sound_chunk_of_another_array_is_noticed(tmp_path):
    write_array(tmp_path, "codes", ARRAYS["codes"])
    write_array(tmp_path, "share", ARRAYS["share"])
    with pytest.raises(ValueError, match="cannot be decoded"):
        described(tmp_path / "codes").decoded((tmp_path / "share/c/0").read_bytes())
