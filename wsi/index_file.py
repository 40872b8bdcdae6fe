"""`index.parquet`: the rows of a cohort's index as a file, and the stamps by which it is known to be fresh.

    ROOT/index.parquet          the rows; format and version in the Parquet metadata. Depends on the stores alone
    ROOT/.index-stamps.json     its SHA-256, and what each store's manifests looked like when they were read

Both are a cache. Whatever is wrong with either of them, there simply is no index, and the stores are read. Each is
written whole, the stamps last: two of different runs do not belong together, and are no index.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from typing import Any

from wsi.errors import MissingPackageError
from wsi.files import to_json, write_atomic
from wsi.store_stamps import Stamp
from wsi.store_url import StorePath

INDEX = "index.parquet"
STAMPS = ".index-stamps.json"
INDEX_FORMAT = "histograde-index"
INDEX_VERSION = 1
ROWS_A_GROUP = 1 << 16


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A slide's features by one encoder, or what there is instead of them. None is what is not known.

    Attributes
    ----------
    store : str
        Where the store lies, relative to the root.
    slide_id, content_hash, reader, vendor : str
    mpp_x, mpp_y : float
        Pixel size of level 0 as it was used, um/px.
    tiles : int
        Tiles of the grid, good and bad.
    encoder : str
        None where the store has no features, finished or begun.
    complete : bool
        Whether the features are published.
    bad_tiles : int
        Tiles without features.
    dim : int
    dtype, weights_sha256 : str
    tile_px, stride_px : int
    mpp : float
        Of the tiles, um/px.
    min_tissue : float
    kernel : str
    grid_sha256 : str
    feature_bytes : int
        Of the chunks of values.
    problem : str
        Why the store cannot be read.
    """

    store: str
    slide_id: str
    content_hash: str | None = None
    mpp_x: float | None = None
    mpp_y: float | None = None
    reader: str | None = None
    vendor: str | None = None
    tiles: int | None = None
    encoder: str | None = None
    complete: bool = False
    bad_tiles: int | None = None
    dim: int | None = None
    dtype: str | None = None
    weights_sha256: str | None = None
    tile_px: int | None = None
    mpp: float | None = None
    stride_px: int | None = None
    min_tissue: float | None = None
    kernel: str | None = None
    grid_sha256: str | None = None
    feature_bytes: int | None = None
    problem: str | None = None

    def __post_init__(self) -> None:
        for name, kind in COLUMNS.items():
            value = getattr(self, name)
            if (known := _as(kind, value, name)) is not value:
                object.__setattr__(self, name, known)


def _as(kind: type, value: Any, name: str) -> Any:
    """A value as its column holds it; a store may state anything."""
    if kind is float and type(value) is int:
        value = float(value)
    if value is not None and type(value) is not kind:
        raise TypeError(f"{name} is {value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} is {value}")
    if isinstance(value, str):
        value.encode()
    return value


_KINDS: dict[Any, type] = {str | None: str, float | None: float, int | None: int, str: str, bool: bool}
COLUMNS: dict[str, type] = {one.name: _KINDS[one.type] for one in fields(IndexRow)}
"""Column to Python type, in order."""


def to_parquet(rows: Sequence[IndexRow]) -> bytes:
    """The file's bytes; equal for equal rows.

    Raises
    ------
    MissingPackageError
        If pyarrow is not there.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingPackageError(f'{INDEX} needs pyarrow: pip install "histograde[report]"') from error
    schema = _schema()
    values = list(zip(*map(astuple, rows), strict=True)) if rows else [()] * len(COLUMNS)
    columns = [pyarrow.array(column, kind) for column, kind in zip(values, schema.types, strict=True)]
    buffer = io.BytesIO()
    parquet.write_table(
        pyarrow.Table.from_arrays(columns, schema=schema), buffer, row_group_size=ROWS_A_GROUP, compression="zstd"
    )
    return buffer.getvalue()


def from_parquet(data: bytes) -> list[IndexRow]:
    """The rows of a file.

    Raises
    ------
    ValueError, OSError
        If it is not an index of this version.
    ImportError
        If pyarrow is not there.
    """
    return [IndexRow(*values) for values in zip(*_columns(data, list(COLUMNS)), strict=True)]


def _columns(data: bytes, names: list[str]) -> list[list[Any]]:
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(pyarrow.BufferReader(data))
    if not file.schema_arrow.equals(_schema(), check_metadata=True):
        raise ValueError(f"not a {INDEX_FORMAT} of version {INDEX_VERSION}")
    table = file.read(columns=names)
    return [table.column(name).to_pylist() for name in names]


def _schema() -> Any:
    import pyarrow

    kinds = {str: pyarrow.string(), float: pyarrow.float64(), int: pyarrow.int64(), bool: pyarrow.bool_()}
    metadata = {"format": INDEX_FORMAT, "format_version": str(INDEX_VERSION)}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()], metadata=metadata)


def read_index(root: StorePath) -> dict[str, tuple[Stamp, list[IndexRow]]]:
    """What is known of each store, with the stamp it had; nothing where there is no sound index, or no pyarrow."""
    try:
        data, stamps = _sound_files(root)
        rows = from_parquet(data)
    except UNUSABLE:
        return {}
    known: dict[str, tuple[Stamp, list[IndexRow]]] = {}
    for row in rows:
        if row.store in stamps:
            known.setdefault(row.store, (stamps[row.store], []))[1].append(row)
    return known


def read_slide_ids(root: StorePath) -> dict[str, tuple[Stamp, str]]:
    """The slide of each store, as `read_index` knows it: a tenth of the work."""
    try:
        data, stamps = _sound_files(root)
        stores, slide_ids = _columns(data, ["store", "slide_id"])
    except UNUSABLE:
        return {}
    return {store: (stamps[store], name) for store, name in zip(stores, slide_ids, strict=True) if store in stamps}


UNUSABLE = (ImportError, OSError, ValueError, KeyError, TypeError)


def _sound_files(root: StorePath) -> tuple[bytes, dict[str, Stamp]]:
    """The index and its stamps, if they belong together."""
    kept = json.loads((root / STAMPS).read_bytes())
    data = (root / INDEX).read_bytes()
    if kept["format_version"] != INDEX_VERSION or kept["index_sha256"] != sha256(data).hexdigest():
        raise ValueError("the stamps are of another index")
    return data, dict(kept["stores"])


def write_index(root: StorePath, rows: Sequence[IndexRow], stamps: Mapping[str, Stamp]) -> bool:
    """Write both files, each atomically and only if it changes.

    Returns
    -------
    bool
        Whether `index.parquet` changed.

    Raises
    ------
    MissingPackageError
        If pyarrow is not there.
    """
    data = to_parquet(rows)
    changed = _write_changed(root / INDEX, data)
    kept = {"format_version": INDEX_VERSION, "index_sha256": sha256(data).hexdigest(), "stores": dict(stamps)}
    _write_changed(root / STAMPS, to_json(kept))
    return changed


def _write_changed(path: StorePath, data: bytes) -> bool:
    try:
        if path.read_bytes() == data:
            return False
    except OSError:
        pass
    write_atomic(path, data)
    return True
