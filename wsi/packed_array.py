"""Small arrays out of the bytes of their one chunk.

Zarr takes milliseconds to open an array, a hundred times what its few kilobytes need. What is decoded here is what
FORMAT.md has for small arrays, the codecs `bytes`, `zstd`, `crc32c`; everything else is left to Zarr.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastcrc import crc32
from numcodecs.zstd import Zstd

CRC_BYTES = 4
_KINDS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")


@dataclass(frozen=True, slots=True)
class PackedArray:
    """An array that is one chunk.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        Little endian.
    """

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def chunk(self) -> str:
        """Path of the chunk below the array."""
        return "/".join(["c", *("0" for _ in self.shape)])

    def decoded(self, chunk: bytes) -> np.ndarray:
        """The array, from the bytes of its chunk.

        Raises
        ------
        ValueError
            If the chunk differs from its own checksum, or is not that of such an array.
        """
        packed = memoryview(chunk)[:-CRC_BYTES]
        if len(chunk) < CRC_BYTES or crc32.iscsi(packed) != int.from_bytes(chunk[-CRC_BYTES:], "little"):
            raise ValueError("differs from its checksum")
        try:
            return np.frombuffer(Zstd().decode(packed), self.dtype).reshape(self.shape).copy()
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"cannot be decoded ({error})") from error


def packed_array(array_json: bytes) -> PackedArray | None:
    """The array that a `zarr.json` describes; None unless it is one that can be decoded here."""
    meta = json.loads(array_json)
    codecs = meta["codecs"]
    shape, grid = meta["shape"], meta["chunk_grid"]
    known = (
        [one["name"] for one in codecs] == ["bytes", "zstd", "crc32c"]
        and _endian(codecs[0]) in ("little", None)
        and meta["data_type"] in _KINDS
        and (_endian(codecs[0]) or np.dtype(meta["data_type"]).itemsize == 1)
        and grid["name"] == "regular"
        and grid["configuration"]["chunk_shape"] == shape
        and all(size > 0 for size in shape)
        and meta["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and not meta.get("storage_transformers")
    )
    if not known:
        return None
    return PackedArray(tuple(shape), np.dtype(meta["data_type"]).newbyteorder("<"))


def _endian(codec: dict[str, Any]) -> str | None:
    found = (codec.get("configuration") or {}).get("endian")
    return None if found is None else str(found)
