"""Arrays and groups of a store as the bytes of their files, made by Zarr in memory: the same for disk and bucket."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import zarr
from fastcrc import crc32
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

CRC_BYTES = 4


def group_files(attributes: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """The file of a group by its name."""
    held: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(held), attributes=dict(attributes or {}))
    return _bytes_of(held, "")


def small_array_files(name: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """The files of an array in one compressed chunk, by their way from the group that it is in."""
    held: dict[str, Buffer] = {}
    chunks = tuple(max(1, n) for n in values.shape)
    packed: list[BytesBytesCodec] = [ZstdCodec(level=3), Crc32cCodec()]
    _create(held, values.shape, values.dtype, chunks, packed, attributes)[...] = values
    return _bytes_of(held, f"{name}/")


def plain_array_files(name: str, shape: tuple[int, int], dtype: str, chunk_rows: int) -> dict[str, bytes]:
    """The description of an array of features, whose chunks `plain_chunk` makes.

    They are not compressed: float16 gains 6 % with zstd.
    """
    held: dict[str, Buffer] = {}
    _create(held, shape, dtype, (chunk_rows, shape[1]), [Crc32cCodec()], None)
    return _bytes_of(held, f"{name}/")


def plain_chunk(block: np.ndarray) -> bytes:
    """The file of a chunk: its values, little endian, in C order, and the CRC-32C of them."""
    data = np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).tobytes()
    return data + crc32.iscsi(data).to_bytes(CRC_BYTES, "little")


def last_crc32c(chunk: bytes) -> int:
    """The checksum that a chunk ends in, unchecked; -1 if it is too short to have one."""
    return int.from_bytes(chunk[-CRC_BYTES:], "little") if len(chunk) >= CRC_BYTES else -1


def array_of(files: Mapping[str, bytes], name: str) -> zarr.Array:
    """An array of the bytes of its files; Zarr checks their CRC."""
    held: dict[str, Buffer] = {file: cpu.Buffer.from_bytes(data) for file, data in files.items()}
    return zarr.open_array(MemoryStore(held), path=name, mode="r")


def _create(
    held: dict[str, Buffer],
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    compressors: list[BytesBytesCodec],
    attributes: Mapping[str, Any] | None,
) -> zarr.Array:
    return zarr.create_array(
        MemoryStore(held),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        serializer=BytesCodec(),
        compressors=compressors,
        fill_value=float("nan") if np.dtype(dtype).kind == "f" else 0,
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )


def _bytes_of(held: Mapping[str, Buffer], folder: str) -> dict[str, bytes]:
    return {folder + name: data.to_bytes() for name, data in sorted(held.items())}
