"""Writing feature stores: stage, journal, publish, repair. FORMAT.md says what a crash can leave behind.

Nothing here knows an encoder: a card is a mapping, features are arrays. One process plans and publishes a slide
(it holds the slide's lock); any process may write any chunk in between.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from wsi.chunk_reader import stored_crc32c
from wsi.errors import CorruptStoreError, RecipeMismatchError, StoreBusyError
from wsi.files import file_record, folder_records, fsync_path, sweep_temporaries, to_json, write_json
from wsi.slide import SlideInfo
from wsi.store import (
    CHUNK_TILES,
    FORMAT_NAME,
    FORMAT_VERSION,
    FeatureStore,
    create_array,
    grid_digest,
    slide_meta,
    store_path,
    verify_folder,
    write_array,
)
from wsi.tiles import BadTile, Places
from wsi.tissue import TissueMask

IDENTITY_OF_CARD = ("name", "dim", "tile_px", "mpp", "mean", "std", "kernel", "dtype", "weights_sha256", "file_sha256")
"""Fields of an encoder's card in which two sets of features of one slide must agree; only imported features have the
last, the digest of the file that they came from."""


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
        if _same_file(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def publish_grid(
    root: Path,
    info: SlideInfo,
    tissue: TissueMask | None,
    grid: Places,
    recipe: Mapping[str, Any],
    qc: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Write the grid of a slide and rename it into place. Call under `slide_lock`.

    `qc` is kept for the report and takes no part in identity. `tissue` is None where it is unknown.

    Where a store of the same slide lies already (its grid is damaged, or it holds nothing but a grid), it gives way;
    its features are kept.

    Raises
    ------
    RecipeMismatchError
        If features lie there that belong to another grid, or what lies there is not a store. Nothing is removed.
    """
    target = store_path(root, info.slide_id)
    _check_gives_way(target, grid_digest(info.content_hash, grid))
    stage = target.with_name(f".{target.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    meta = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "slide": slide_meta(info),
        "recipe": dict(recipe),
        "side_px0": list(grid.side_px0),
        "tiles": len(grid.coords),
        "tissue": {
            "area_um2": tissue and tissue.area_um2,
            "downsample": tissue and list(tissue.downsample),
            "origin_px0": tissue and list(tissue.origin_px0),
        },
        "qc": dict(qc or {}),
    }
    zarr.create_group(stage, attributes={"histograde": json.loads(json.dumps(meta))})
    write_array(stage, "coords", grid.coords)
    write_array(stage, "tissue_fraction", grid.tissue_fraction)
    write_array(stage, "tissue", np.zeros((0, 0), np.uint8) if tissue is None else tissue.mask.astype(np.uint8))
    _seal(stage)
    zarr.create_group(stage / "features")
    if target.exists():
        target.rename(_set_aside(target))
    stage.rename(target)
    settle(target)
    fsync_path(root)
    return FeatureStore(target)


def settle(target: Path) -> None:
    """Finish the exchange of a damaged grid where it was cut short, so that no features are lost with it.

    Call under `slide_lock` before anything is read from the store.
    """
    old = _set_aside(target)
    if not old.exists():
        return
    if not target.exists():
        old.rename(target)
        return
    for part in feature_folders(old):
        if not (target / "features" / part.name).exists():
            part.rename(target / "features" / part.name)
    shutil.rmtree(old)


def feature_folders(store: Path) -> list[Path]:
    """Folders of features in a store, finished and unfinished, sorted."""
    folder = store / "features"
    return sorted(part for part in folder.iterdir() if part.is_dir()) if folder.is_dir() else []


def _set_aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _check_gives_way(target: Path, digest: str) -> None:
    if not target.exists():
        return
    if not (_attributes(target) or '"coords/zarr.json"' in _text(target / "manifest.json")):
        raise RecipeMismatchError(
            f"{target.name}: something lies there that is not a feature store; remove it, or use another --store folder"
        )
    for part in feature_folders(target):
        kept = _attributes(part)
        if kept and kept.get("grid_sha256") != digest:
            raise RecipeMismatchError(
                f"{target.name}: its grid is damaged, and its features in {part.name} belong to another slide or "
                "recipe; use the same settings, or remove the store"
            )


def _attributes(folder: Path) -> dict[str, Any] | None:
    """What a group says of itself, unchecked; None where that cannot be read."""
    try:
        kept = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        return dict(kept) if kept["format"] == FORMAT_NAME else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _seal(folder: Path) -> None:
    """Write the manifest of everything in a staged folder, and make it durable."""
    records = folder_records(folder)
    for name, record in records.items():
        fsync_path(folder / name)
        if name.startswith("values/c/"):
            record["crc32c"] = stored_crc32c(folder / name)
    write_json(folder / "manifest.json", {"files": records})


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

    @property
    def journal(self) -> Path:
        """The folder of the records; it says which files of the stage count."""
        return self.stage / ".journal"

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
        with np.errstate(over="ignore"):
            block[rows - expected[0]] = values
        if len(rows) and not np.isfinite(block[rows - expected[0]]).all():
            raise ValueError(f"chunk {chunk}: the encoder gave features that are not finite in {self.dtype}")
        self._file(chunk).unlink(missing_ok=True)
        array = zarr.open_array(self.stage / "values", mode="r+").with_config({"write_empty_chunks": True})
        array[expected[0] : expected[0] + self.chunk_tiles] = block[: len(expected)]
        fsync_path(self._file(chunk))
        write_record(self._record(chunk), file_record(self._file(chunk)), bad)

    def done_before(self, chunk: int) -> int | None:
        """How many bad tiles a chunk has that is finished; None if it is not."""
        return len(read_record(self._record(chunk))["bad"]) if self._is_done(chunk) else None

    def bad_tiles(self) -> list[BadTile]:
        """Bad tiles of the finished chunks, in order of their rows."""
        bad = []
        for chunk in range(self.chunks):
            if self._record(chunk).is_file():
                bad += [BadTile(row, reason) for row, reason in read_record(self._record(chunk))["bad"]]
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
        code = {reason: number for number, reason in enumerate(reasons, start=1)}
        codes = np.zeros(self.tiles, np.uint32)
        for one in bad:
            codes[one.row] = code[one.reason]
        self._sweep()
        write_array(self.stage, "bad", codes, {"reasons": reasons})
        _seal(self.stage)
        target = self.store / "features" / self.encoder
        self.stage.rename(target)
        fsync_path(target.parent)
        shutil.rmtree(target / self.journal.name)

    def _sweep(self) -> None:
        """Remove what interrupted writes and publications left in the stage."""
        shutil.rmtree(self.stage / "bad", ignore_errors=True)
        sweep_temporaries(self.stage)
        keep = {self._file(chunk) for chunk in range(self.chunks)}
        for path in (self.stage / "values" / "c").rglob("*"):
            if path.is_file() and path not in keep:
                path.unlink()

    def _file(self, chunk: int) -> Path:
        return self.stage / "values" / "c" / str(chunk) / "0"

    def _record(self, chunk: int) -> Path:
        return self.journal / f"{chunk:06d}.json"

    def _is_done(self, chunk: int) -> bool:
        try:
            record = read_record(self._record(chunk))
            return file_record(self._file(chunk))["sha256"] == record["sha256"]
        except (OSError, CorruptStoreError):
            return False


def write_record(path: Path, chunk_file: Mapping[str, Any], bad: Iterable[BadTile]) -> None:
    """Write the journal record of a chunk, with a checksum of the record itself."""
    record = {**chunk_file, "bad": [[one.row, one.reason] for one in bad]}
    write_json(path, record | {"check": sha256(to_json(record)).hexdigest()})


def read_record(path: Path) -> dict[str, Any]:
    """A journal record; raises `CorruptStoreError` if it is torn or altered."""
    try:
        record = dict(json.loads(path.read_bytes()))
        check = record.pop("check")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(f"{path.name}: not a journal record") from error
    if sha256(to_json(record)).hexdigest() != check:
        raise CorruptStoreError(f"{path.name}: the record differs from its checksum")
    return record


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
    writer = FeatureWriter(store.path, name, tiles, chunk_tiles, int(card["dim"]), str(card["dtype"]))
    kept = _begun(writer)
    if kept is None:
        _new_stage(writer, card, store.grid_sha256)
        return writer
    check_card(store.path.name, kept["card"], card)
    _check_grid(store, f".{name}.partial", kept)
    return FeatureWriter(store.path, name, tiles, kept["chunk_tiles"], writer.dim, writer.dtype)


_STAGE_FILES = ("zarr.json", "values/zarr.json")


def _new_stage(writer: FeatureWriter, card: Mapping[str, Any], grid_sha256: str) -> None:
    shutil.rmtree(writer.stage, ignore_errors=True)
    writer.journal.mkdir(parents=True)
    meta = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "card": dict(card),
        "chunk_tiles": writer.chunk_tiles,
        "dim": writer.dim,
        "dtype": writer.dtype,
        "grid_sha256": grid_sha256,
    }
    zarr.create_group(writer.stage, attributes={"histograde": json.loads(json.dumps(meta))})
    shape, chunks = (writer.tiles, writer.dim), (writer.chunk_tiles, writer.dim)
    create_array(writer.stage, "values", shape, writer.dtype, chunks, packed=False)
    write_json(writer.journal / "stage.json", {name: file_record(writer.stage / name) for name in _STAGE_FILES})


def _begun(writer: FeatureWriter) -> dict[str, Any] | None:
    """The description of a stage that an earlier run began; None if there is none, or it is torn or damaged."""
    try:
        sealed = json.loads((writer.journal / "stage.json").read_bytes())
        whole = all(file_record(writer.stage / name) == sealed[name] for name in _STAGE_FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _attributes(writer.stage) if whole else None


def reopen_damaged(store: FeatureStore, card: Mapping[str, Any]) -> bool:
    """Turn published features with damaged chunks back into a stage that lacks only those. Call under `slide_lock`.

    Where their description is damaged they are removed, to be made again as a whole.

    Returns
    -------
    bool
        Whether anything was damaged.

    Raises
    ------
    RecipeMismatchError
        If the features came from another encoder or belong to another grid, damaged or not.
    """
    encoder = str(card["name"])
    folder = store.path / "features" / encoder
    writer = FeatureWriter(store.path, encoder, 0, 0, 0, "")
    if (kept := _attributes(folder)) is not None:
        check_card(store.path.name, kept.get("card", {}), card)
        _check_grid(store, encoder, kept)
    damage = {one.where for one in verify_folder(folder)}
    if not damage:
        for leftover in (folder / writer.journal.name, writer.stage):
            shutil.rmtree(leftover, ignore_errors=True)
        return False
    if any(not name.startswith("values/c/") for name in damage):
        shutil.rmtree(folder)
        return True
    files = json.loads((folder / "manifest.json").read_bytes())["files"]
    bad: dict[int, list[BadTile]] = {}
    chunk_tiles = store.encoder_meta(encoder)["chunk_tiles"]
    for one in store.bad_tiles(encoder):
        bad.setdefault(one.row // chunk_tiles, []).append(one)
    journal = folder / writer.journal.name
    shutil.rmtree(journal, ignore_errors=True)
    journal.mkdir()
    for name, record in files.items():
        if name.startswith("values/c/") and name not in damage:
            chunk = int(name.split("/")[2])
            digest = {key: record[key] for key in ("bytes", "sha256")}
            write_record(journal / f"{chunk:06d}.json", digest, bad.get(chunk, []))
    write_json(journal / "stage.json", {name: files[name] for name in _STAGE_FILES})
    shutil.rmtree(writer.stage, ignore_errors=True)
    folder.rename(writer.stage)
    return True


def _check_grid(store: FeatureStore, folder: str, kept: Mapping[str, Any]) -> None:
    if kept.get("grid_sha256") != store.grid_sha256:
        raise RecipeMismatchError(
            f"{store.path.name}: the features in {folder} belong to another grid; remove that folder to make them anew"
        )


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
    if kept.reader != info.reader:
        raise RecipeMismatchError(
            f"{store.path.name}: made with the reader {kept.reader}, now it is {info.reader}, whose pixels may "
            f"differ; use --reader {kept.reader}, or another --store folder"
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
