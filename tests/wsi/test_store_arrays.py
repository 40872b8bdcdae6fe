"""Files of arrays made in memory: the same bytes as Zarr writes to a disk, and checksums by the standard."""

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from wsi.store_arrays import array_of, group_files, last_crc32c, plain_array_files, plain_chunk, small_array_files

VALUES = np.random.default_rng(4).normal(size=(11, 3))


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_last_four_bytes_are_the_standard_checksum(tmp_path):
    """CRC-32C of "123456789" is e3069283 (RFC 3720 gives the polynomial, the value is the usual check)."""
    text = np.frombuffer(b"123456789", np.uint8)
    zarr.create_array(tmp_path / "text", shape=(9,), dtype="u1", chunks=(9,), compressors=[Crc32cCodec()])[:] = text
    assert last_crc32c((tmp_path / "text" / "c" / "0").read_bytes()) == 0xE3069283
    assert plain_chunk(text) == b"123456789" + (0xE3069283).to_bytes(4, "little")
    assert last_crc32c(b"123") == -1


def test_features_are_the_bytes_that_zarr_writes(tmp_path):
    """The last chunk is padded, and a row of a bad tile is NaN."""
    for dtype in ("float16", "float32"):
        values = VALUES.astype(dtype)
        values[5] = np.nan
        array = zarr.create_array(
            tmp_path / dtype,
            shape=values.shape,
            dtype=dtype,
            chunks=(4, 3),
            serializer=BytesCodec(),
            compressors=[Crc32cCodec()],
            fill_value=float("nan"),
        )
        array[...] = values
        padded = np.full((12, 3), np.nan, dtype)
        padded[:11] = values
        made = plain_array_files("x", (11, 3), dtype, 4)
        made |= {f"x/c/{chunk}/0": plain_chunk(padded[chunk * 4 : chunk * 4 + 4]) for chunk in range(3)}
        assert {name.removeprefix("x/"): data for name, data in made.items()} == files_of(tmp_path / dtype)


def test_small_arrays_and_groups_are_read_by_any_zarr(tmp_path):
    files = group_files({"a": 1}) | small_array_files("x", VALUES, {"b": [2]})
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    group = zarr.open_group(tmp_path, mode="r")
    assert dict(group.attrs) == {"a": 1}
    np.testing.assert_array_equal(np.asarray(group["x"]), VALUES)
    np.testing.assert_array_equal(array_of(files, "x")[...], VALUES)
    assert array_of(files, "x").attrs["b"] == [2]
