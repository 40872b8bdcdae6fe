"""HDF5 files of unknown origin: what they claim is compared with what is there before any of it is read.

HDF5 can point into other files (external links, external and virtual datasets), reads what was never written as zeros,
and allocates what a header claims. None of this is let through.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wsi.errors import MissingPackageError, NoTissueError, UnreadableFeaturesError, WsiError
from wsi.tiles import MAX_GRID

MAX_DIM = 1 << 16
"""Longest feature that is believed."""

MAX_CHUNK_BYTES = 1 << 28
"""Largest chunk that HDF5 may have to hold at once."""

MAX_EXPANSION = 64
"""So many times the size of its file may a dataset claim to be; features hardly compress."""

WHOLE_BYTES = 1 << 28
"""Features up to this size are read at once; of larger ones the rows that are asked for."""

MAX_TEXT = 200
"""Longest text that is taken over from an attribute."""


class H5File:
    """An open file; made by `open_h5`."""

    def __init__(self, path: Path, handle: Any):
        self.name = path.name
        self._handle = handle
        self._bytes = path.stat().st_size

    def dataset(self, name: str, kinds: str) -> Any:
        """A dataset of the file's root that is whole and lies in this file.

        Parameters
        ----------
        kinds : str
            Accepted kinds of numbers, as `numpy.dtype.kind` has them.

        Raises
        ------
        UnreadableFeaturesError
        """
        import h5py

        with self.told(name):
            links = self._handle.id.links
            if not links.exists(name.encode()):
                have = ", ".join(self.names()) or "nothing"
                raise self.wrong(f"there is no dataset {name!r} (there are: {have})")
            if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
                raise self.wrong(f"{name} is a link to somewhere else, which is not followed")
            found = self._handle[name]
            if not isinstance(found, h5py.Dataset) or found.shape is None:
                raise self.wrong(f"{name} is not an array")
            if found.is_virtual or found.external:
                raise self.wrong(f"the values of {name} lie in another file, which is not followed")
            if found.dtype.kind not in kinds or found.dtype.itemsize > 8:
                raise self.wrong(f"{name} holds {found.dtype}, expected plain numbers")
            self._check_claim(name, found)
        return found

    def attributes(self, name: str | None = None) -> dict[str, Any]:
        """Attributes of a dataset, or of the file: numbers, lists of a few and short texts; others are left out."""
        with self.told(name or "the file"):
            attributes = (self._handle[name] if name else self._handle).attrs
            found = {key: _plain(attributes[key]) for key in sorted(attributes)}
        return {key: value for key, value in found.items() if value is not None}

    def number(self, attributes: Mapping[str, Any], key: str, least: float = 0.0) -> float | None:
        """A number out of the attributes, None if it is not there.

        Raises
        ------
        UnreadableFeaturesError
            If what is there is not a number, or less than `least`.
        """
        value = attributes.get(key)
        if value is None or value == "None":
            return None
        if isinstance(value, bool | str | list) or not math.isfinite(value) or not least <= value < 1 << 31:
            raise self.wrong(f"{key} is {value!r}, expected a number of at least {least:g}")
        return float(value)

    def whole(self, attributes: Mapping[str, Any], key: str, least: int = 0) -> int | None:
        """The same for a whole number."""
        value = self.number(attributes, key, least)
        if value is not None and not value.is_integer():
            raise self.wrong(f"{key} is {value:g}, expected a whole number")
        return None if value is None else int(value)

    def wrong(self, what: str) -> UnreadableFeaturesError:
        """The error to raise for a fault of this file."""
        return UnreadableFeaturesError(f"{self.name}: {what}")

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Turn what HDF5 says of a damaged file into one line."""
        try:
            yield
        except WsiError:
            raise
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.wrong(f"{what} cannot be read ({_one_line(error)}); copy the file again") from error

    def names(self) -> list[str]:
        """Names in the root of the file, sorted; of many the first few."""
        return sorted(name.decode(errors="replace")[:40] for name in list(self._handle.id)[:8])

    def _check_claim(self, name: str, dataset: Any) -> None:
        claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
        if claimed > MAX_EXPANSION * self._bytes + (1 << 20):
            raise self.wrong(f"{name} claims {claimed:,} bytes in a file of {self._bytes:,}")
        if dataset.chunks is None:
            missing = dataset.id.get_storage_size() < claimed
        else:
            if math.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK_BYTES:
                raise self.wrong(f"{name} is stored in chunks of {dataset.chunks}, too large to be read")
            chunks = math.prod(-(-side // part) for side, part in zip(dataset.shape, dataset.chunks, strict=True))
            missing = dataset.id.get_num_chunks() < chunks
        if missing:
            raise self.wrong(f"{name} was never written to its end: what is missing would be read as zeros")


@contextmanager
def open_h5(path: Path) -> Iterator[H5File]:
    """Open a file to read.

    Raises
    ------
    UnreadableFeaturesError
        If it is not a whole HDF5 file.
    MissingPackageError
        If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingPackageError("HDF5 files need h5py; pip install 'histograde[import]'") from error
    try:
        handle = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise UnreadableFeaturesError(
            f"{path.name}: cannot be opened as HDF5 ({_one_line(error)}); copy the file again"
        ) from error
    with closing(handle):
        yield H5File(path, handle)


class FeatureRows:
    """Features of a file, (N, D); a leading axis of one is taken off.

    Parameters
    ----------
    file : H5File
    name : str
        Of the dataset.

    Raises
    ------
    UnreadableFeaturesError
        If there are none of such a shape.
    NoTissueError
        If they are of no tile.
    """

    def __init__(self, file: H5File, name: str):
        self._file, self._name = file, name
        self._dataset = file.dataset(name, "f")
        shape = self._dataset.shape
        self._leading = len(shape) == 3 and shape[0] == 1
        shape = shape[1:] if self._leading else shape
        if len(shape) != 2:
            raise file.wrong(f"{name} has the shape {shape}, expected (tiles, numbers): features of single tiles")
        if shape[0] == 0:
            raise NoTissueError(f"{file.name}: holds the features of no tile")
        if shape[0] > MAX_GRID or not 0 < shape[1] <= MAX_DIM:
            raise file.wrong(f"{name} claims {shape[0]:,} tiles of {shape[1]:,} numbers")
        self.tiles, self.dim = shape
        self.dtype = np.dtype(np.float16 if self._dataset.dtype.itemsize == 2 else np.float32)
        self._whole: np.ndarray | None = None

    def __len__(self) -> int:
        return self.tiles

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Some rows in the order asked for, (n, D) `dtype`; float64 is rounded to float32."""
        if self._whole is None and self.tiles * self.dim * self.dtype.itemsize <= WHOLE_BYTES:
            self._whole = self._slice(0, self.tiles)
        if self._whole is not None:
            return self._whole[rows]
        out = np.empty((len(rows), self.dim), self.dtype)
        starts = np.flatnonzero(np.diff(rows, prepend=-2) != 1)
        for start, stop in pairwise([*starts, len(rows)]):
            out[start:stop] = self._slice(rows[start], rows[start] + stop - start)
        return out

    def finite(self, block: int = 4096) -> np.ndarray:
        """Which rows hold nothing but finite numbers, (N,) bool."""
        parts = [np.arange(start, min(start + block, self.tiles)) for start in range(0, self.tiles, block)]
        return np.concatenate([np.isfinite(self.read(rows)).all(axis=1) for rows in parts])

    def _slice(self, start: int, stop: int) -> np.ndarray:
        with self._file.told(self._name), np.errstate(over="ignore"):
            values = self._dataset[0, start:stop] if self._leading else self._dataset[start:stop]
            return np.asarray(values, self.dtype)


def read_places(file: H5File, name: str, tiles: int) -> np.ndarray:
    """A place for each of so many tiles, (N, 2) float64; raises `UnreadableFeaturesError` if there is not."""
    dataset = file.dataset(name, "iuf")
    shape = dataset.shape[1:] if len(dataset.shape) == 3 and dataset.shape[0] == 1 else dataset.shape
    if shape != (tiles, 2):
        raise file.wrong(f"{name} has the shape {dataset.shape}, but there are features of {tiles} tiles")
    with file.told(name):
        places = np.asarray(dataset[...], np.float64).reshape(tiles, 2)
    if not np.isfinite(places).all():
        raise file.wrong(f"{name} holds places that are not numbers")
    return places


def _plain(value: Any) -> Any:
    """An attribute as JSON has it; None for what is no number, list of numbers or short text."""
    if isinstance(value, bytes | np.bytes_):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return str(value) if value.isprintable() and len(value) <= MAX_TEXT else None
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size <= 8:
        return [_plain(part) for part in value.ravel()] if value.ndim else _plain(value[()])
    if isinstance(value, np.bool_ | np.integer | np.floating):
        plain = value.item()
        return plain if isinstance(plain, bool | int) or math.isfinite(plain) else None
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
