"""Writing feature stores: stage, journal, publish, repair. FORMAT.md says what a crash can leave behind.

Nothing here knows an encoder: a card is a mapping, features are arrays. One process plans and publishes a slide
(it holds the slide's lock); any process may write any chunk in between.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from wsi.errors import CorruptStoreError, RecipeMismatchError, StoreBusyError
from wsi.files import file_record, folder_records, fsync_path, write_json
from wsi.slide import SlideInfo
from wsi.store import (
    CHUNK_TILES,
    FORMAT_NAME,
    FORMAT_VERSION,
    FeatureStore,
    create_array,
    slide_meta,
    store_path,
    verify_folder,
    write_array,
)
from wsi.tiles import BadTile, TileGrid
from wsi.tissue import TissueMask

IDENTITY_OF_CARD = ("name", "dim", "tile_px", "mpp", "mean", "std", "kernel", "dtype", "weights_sha256")
"""Fields of an encoder's card in which two sets of features must agree."""


@contextmanager
def slide_lock(root: Path, slide_id: str) -> Iterator[None]:
    """Hold the only right to plan, publish or repair a slide's store; the kernel frees it if the process dies.

    Raises
    ------
    StoreBusyError
        If another process holds it.
    """
    root.mkdir(parents=True, exist_ok=True)
    path = store_path(root, slide_id).with_name(f".{slide_id}.lock")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreBusyError(f"{slide_id}: another run is writing this store; wait for it to end") from None
        if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
            break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def publish_grid(
    root: Path, info: SlideInfo, tissue: TissueMask, grid: TileGrid, recipe: Mapping[str, Any]
) -> FeatureStore:
    """Write the grid of a slide and rename it into place. Call under `slide_lock`.

    Where a damaged store of the same slide lies already, its features are kept if they belong to this grid.
    """
    target = store_path(root, info.slide_id)
    stage = target.with_name(f".{target.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    meta = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "slide": slide_meta(info),
        "recipe": dict(recipe),
        "side_px0": list(grid.side_px0),
        "tiles": len(grid),
        "tissue": {
            "area_um2": tissue.area_um2,
            "downsample": list(tissue.downsample),
            "origin_px0": list(tissue.origin_px0),
        },
    }
    zarr.create_group(stage, attributes={"histograde": json.loads(json.dumps(meta))})
    write_array(stage, "coords", grid.coords)
    write_array(stage, "tissue_fraction", grid.tissue_fraction)
    write_array(stage, "tissue", tissue.mask.astype(np.uint8))
    _seal(stage)
    zarr.create_group(stage / "features")
    if target.exists():
        for old in sorted((target / "features").glob("*")):
            if old.is_dir():
                old.rename(stage / "features" / old.name)
        shutil.rmtree(target)
    stage.rename(target)
    fsync_path(root)
    return FeatureStore(target)


def _seal(folder: Path, **extra: Any) -> None:
    """Write the manifest of everything in a staged folder, and make it durable."""
    records = folder_records(folder)
    for name in records:
        fsync_path(folder / name)
    write_json(folder / "manifest.json", {"files": records, **extra})


@dataclass(frozen=True, slots=True)
class FeatureWriter:
    """Features of one slide by one encoder while they are made. Plain values: it travels to workers.

    Attributes
    ----------
    store : Path
        The slide's store.
    encoder : str
        Name under which the features are published.
    tiles, chunk_tiles, dim : int
        N, tiles a chunk, D.
    dtype : str
        Stored dtype.
    """

    store: Path
    encoder: str
    tiles: int
    chunk_tiles: int
    dim: int
    dtype: str

    @property
    def stage(self) -> Path:
        """The hidden folder in which the features grow."""
        return self.store / "features" / f".{self.encoder}.partial"

    @property
    def chunks(self) -> int:
        """How many chunks there are in all."""
        return -(-self.tiles // self.chunk_tiles)

    def rows(self, chunk: int) -> np.ndarray:
        """Rows of the grid in a chunk, ascending."""
        return np.arange(chunk * self.chunk_tiles, min((chunk + 1) * self.chunk_tiles, self.tiles))

    def todo(self) -> list[int]:
        """Chunks without a journal record, or whose bytes differ from it."""
        return [chunk for chunk in range(self.chunks) if not self._is_done(chunk)]

    def write(self, chunk: int, rows: np.ndarray, values: np.ndarray, bad: tuple[BadTile, ...]) -> None:
        """Store one chunk and then its journal record; until the record is there, the chunk does not count.

        Parameters
        ----------
        rows : ndarray (n,) int
            Rows of the grid in this chunk that have features.
        values : ndarray (n, D)
            Their features. Rows of bad tiles, and those past the last tile, are stored as NaN.
        bad : tuple of BadTile
            The other rows of the chunk.

        Raises
        ------
        ValueError
            If `rows` and `bad` are not together exactly the rows of the chunk, or a feature is not finite.
        """
        expected = self.rows(chunk)
        if sorted([*rows.tolist(), *(one.row for one in bad)]) != expected.tolist():
            raise ValueError(f"chunk {chunk}: rows and bad tiles are not the rows of the chunk")
        block = np.full((self.chunk_tiles, self.dim), np.nan, self.dtype)
        block[rows - expected[0]] = values
        if len(rows) and not np.isfinite(block[rows - expected[0]]).all():
            raise ValueError(f"chunk {chunk}: the encoder gave features that are not finite in {self.dtype}")
        array = zarr.open_array(self.stage / "values", mode="r+")
        array[expected[0] : expected[0] + self.chunk_tiles] = block[: len(expected)]
        fsync_path(self._file(chunk))
        record = file_record(self._file(chunk)) | {"bad": [[one.row, one.reason] for one in bad]}
        write_json(self._record(chunk), record)

    def bad_tiles(self) -> list[BadTile]:
        """Bad tiles of the finished chunks, in order of their rows."""
        bad = []
        for chunk in range(self.chunks):
            if self._record(chunk).is_file():
                bad += [BadTile(row, reason) for row, reason in self._read_record(chunk)["bad"]]
        return bad

    def publish(self) -> None:
        """Check that every chunk is there, seal the folder and rename it into place. Call under `slide_lock`.

        Raises
        ------
        CorruptStoreError
            If a chunk is missing or differs from its record.
        """
        if missing := self.todo():
            raise CorruptStoreError(f"{self.store.name}: chunks {missing[:5]} of {self.encoder} are not finished")
        bad = self.bad_tiles()
        reasons = sorted({one.reason for one in bad})
        codes = np.zeros(self.tiles, np.uint16)
        for one in bad:
            codes[one.row] = 1 + reasons.index(one.reason)
        group = zarr.open_group(self.stage, mode="r+")
        group.attrs["histograde"] = {**group.attrs["histograde"], "bad_reasons": reasons}  # type: ignore[dict-item]
        shutil.rmtree(self.stage / "bad", ignore_errors=True)
        write_array(self.stage, "bad", codes)
        shutil.rmtree(self.stage / ".journal")
        _seal(self.stage, grid_sha256=FeatureStore(self.store).grid_sha256)
        self.stage.rename(self.store / "features" / self.encoder)
        fsync_path(self.store / "features")

    def _file(self, chunk: int) -> Path:
        return self.stage / "values" / "c" / str(chunk) / "0"

    def _record(self, chunk: int) -> Path:
        return self.stage / ".journal" / f"{chunk:06d}.json"

    def _read_record(self, chunk: int) -> dict[str, Any]:
        return dict(json.loads(self._record(chunk).read_bytes()))

    def _is_done(self, chunk: int) -> bool:
        try:
            record = self._read_record(chunk)
            found = file_record(self._file(chunk))
        except (OSError, ValueError):
            return False
        return found["sha256"] == record["sha256"]


def begin_features(store: FeatureStore, card: Mapping[str, Any], *, chunk_tiles: int = CHUNK_TILES) -> FeatureWriter:
    """Open the stage for an encoder's features, going on where an earlier run stopped. Call under `slide_lock`.

    Raises
    ------
    RecipeMismatchError
        If features begun earlier under this name came from another encoder; the message names the field.
    """
    tiles = int(store.meta["tiles"])
    name = str(card["name"])
    chunk_tiles = max(1, min(chunk_tiles, tiles))
    stage = store.path / "features" / f".{name}.partial"
    writer = FeatureWriter(store.path, name, tiles, chunk_tiles, int(card["dim"]), str(card["dtype"]))
    try:
        kept = json.loads((stage / "zarr.json").read_bytes())["attributes"]["histograde"]
        zarr.open_array(stage / "values", mode="r")
        (stage / ".journal").stat()
    except (OSError, ValueError, KeyError):
        _new_stage(writer, card)
        return writer
    check_card(store.path.name, kept["card"], card)
    return FeatureWriter(store.path, name, tiles, kept["chunk_tiles"], writer.dim, writer.dtype)


def _new_stage(writer: FeatureWriter, card: Mapping[str, Any]) -> None:
    shutil.rmtree(writer.stage, ignore_errors=True)
    (writer.stage / ".journal").mkdir(parents=True)
    meta = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "card": dict(card),
        "chunk_tiles": writer.chunk_tiles,
        "dim": writer.dim,
        "dtype": writer.dtype,
        "bad_reasons": [],
    }
    zarr.create_group(writer.stage, attributes={"histograde": json.loads(json.dumps(meta))})
    shape, chunks = (writer.tiles, writer.dim), (writer.chunk_tiles, writer.dim)
    create_array(writer.stage, "values", shape, writer.dtype, chunks, packed=False)


def reopen_damaged(store: FeatureStore, encoder: str) -> bool:
    """Turn published features with damaged chunks back into a stage that lacks only those. Call under `slide_lock`.

    Returns
    -------
    bool
        Whether anything was damaged.
    """
    folder = store.path / "features" / encoder
    damage = {one.where for one in verify_folder(folder)}
    if not damage:
        return False
    stage = folder.with_name(f".{encoder}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    if any(not name.startswith("values/c/") for name in damage):
        shutil.rmtree(folder)
        return True
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    bad: dict[int, list[list[Any]]] = {}
    meta = store.encoder_meta(encoder)
    for one in store.bad_tiles(encoder):
        bad.setdefault(one.row // meta["chunk_tiles"], []).append([one.row, one.reason])
    folder.rename(stage)
    (stage / ".journal").mkdir()
    for name, record in files.items():
        if name.startswith("values/c/") and name not in damage:
            chunk = int(name.split("/")[2])
            write_json(stage / ".journal" / f"{chunk:06d}.json", record | {"bad": bad.get(chunk, [])})
    (stage / "manifest.json").unlink()
    shutil.rmtree(stage / "bad")
    return True


def check_card(store_name: str, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse features of another encoder, by the name of what differs.

    Raises
    ------
    RecipeMismatchError
    """
    for field in IDENTITY_OF_CARD:
        if kept.get(field) != asked.get(field):
            raise RecipeMismatchError(
                f"{store_name}: its {kept.get('name')} features were made with {field} = {kept.get(field)!r}, "
                f"asked for is {asked.get(field)!r}; use the same encoder, or another --store folder"
            )


def check_recipe(store: FeatureStore, info: SlideInfo, recipe: Mapping[str, Any]) -> None:
    """Refuse a store of another slide or another recipe, by the name of what differs.

    Raises
    ------
    RecipeMismatchError
    """
    kept = store.slide
    if kept.content_hash != info.content_hash:
        raise RecipeMismatchError(
            f"{store.path.name}: made from a slide with hash {kept.content_hash[:12]}, this one has "
            f"{info.content_hash[:12]}; give the slides different names, or use another --store folder"
        )
    if kept.mpp != info.mpp:
        raise RecipeMismatchError(
            f"{store.path.name}: made with mpp {kept.mpp} ({kept.mpp_source}), now it is {info.mpp} "
            f"({info.mpp_source}); use another --store folder"
        )
    for part, values in recipe.items():
        for field, value in values.items():
            old = store.recipe.get(part, {}).get(field)
            if old != value:
                raise RecipeMismatchError(
                    f"{store.path.name}: made with {part}.{field} = {old!r}, asked for is {value!r}; "
                    "use the same settings, or another --store folder"
                )
