"""Writing feature stores: stage, journal, publish, repair. FORMAT.md says what a crash can leave behind.

Nothing here knows an encoder: a card is a mapping, features are arrays. One process plans and publishes a slide
(it holds the slide's lock); any process may write any chunk in between.

On a disk everything is staged in a hidden folder and renamed into place. In a bucket it is written to its place and
counts once its manifest, the last object, is there; a hidden mark beside it says that it is in the making.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsi.errors import CorruptStoreError, RecipeMismatchError, StoreBusyError
from wsi.files import (
    file_record,
    files_below,
    fsync_path,
    read_each,
    record_of,
    remove_tree,
    sweep_temporaries,
    to_json,
    write_atomic,
    write_json,
)
from wsi.journal import parse_record, write_record
from wsi.slide import SlideInfo
from wsi.store import (
    CHUNK_TILES,
    FORMAT_NAME,
    FORMAT_VERSION,
    FeatureStore,
    grid_digest,
    slide_meta,
    store_path,
    verify_folder,
)
from wsi.store_arrays import group_files, last_crc32c, plain_array_files, plain_chunk, small_array_files
from wsi.store_identity import check_card as check_card
from wsi.store_identity import check_recipe as check_recipe
from wsi.store_lock import check_lock
from wsi.store_lock import slide_lock as slide_lock
from wsi.store_url import StorePath, StoreUrl
from wsi.tiles import BadTile, TileGrid
from wsi.tissue import TissueMask

Records = dict[str, dict[str, Any]]
"""Size and SHA-256 of files by their way from a folder, as its manifest has them."""


def publish_grid(
    root: StorePath,
    info: SlideInfo,
    tissue: TissueMask,
    grid: TileGrid,
    recipe: Mapping[str, Any],
    qc: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Write the grid of a slide and publish it. Call under `slide_lock`.

    `qc` is kept for the report and takes no part in identity.

    Where a store of the same slide lies already (its grid is damaged, or it holds nothing but a grid), it gives way;
    its features are kept.

    Raises
    ------
    RecipeMismatchError
        If features lie there that belong to another grid, or what lies there is not a store. Nothing is removed.
    """
    target = store_path(root, info.slide_id)
    _check_gives_way(target, grid_digest(info.content_hash, grid))
    check_lock(target)
    stage = _begin_grid(target)
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
        "qc": dict(qc or {}),
    }
    records = write_files(stage, group_files({"histograde": json.loads(json.dumps(meta))}))
    records |= write_array(stage, "coords", grid.coords)
    records |= write_array(stage, "tissue_fraction", grid.tissue_fraction)
    records |= write_array(stage, "tissue", tissue.mask.astype(np.uint8))
    write_files(stage / "features", group_files())
    check_lock(target)
    _seal(stage, records)
    _end_grid(stage, target)
    return FeatureStore(target)


def _begin_grid(target: StorePath) -> StorePath:
    """Where the grid is to be made: an empty hidden folder; in a bucket its place, which no longer counts."""
    mark = _partial(target)
    if isinstance(target, StoreUrl):
        write_json(mark, {"making": target.name})
        (target / "manifest.json").unlink(missing_ok=True)
        return target
    remove_tree(mark, ignore_errors=True)
    assert isinstance(mark, Path)
    mark.mkdir(parents=True)
    return mark


def _end_grid(stage: StorePath, target: StorePath) -> None:
    """Let a sealed grid count."""
    if not isinstance(stage, Path) or not isinstance(target, Path):
        _partial(target).unlink(missing_ok=True)
        return
    if target.exists():
        target.rename(_set_aside(target))
    stage.rename(target)
    settle(target)
    fsync_path(target.parent)


def _partial(target: StorePath) -> StorePath:
    """The hidden folder in which something grows; in a bucket the mark that it does."""
    return target.with_name(f".{target.name}.partial")


def settle(target: StorePath) -> None:
    """Finish the exchange of a damaged grid where it was cut short, so that no features are lost with it.

    Call under `slide_lock` before anything is read from the store. In a bucket a published grid may still be marked.
    """
    if isinstance(target, StoreUrl):
        if (mark := _partial(target)).is_file() and (target / "manifest.json").is_file():
            mark.unlink()
        return
    old = _set_aside(target)
    if not old.exists():
        return
    if not target.exists():
        old.rename(target)
        return
    for part in feature_folders(old):
        if isinstance(part, Path) and not (target / "features" / part.name).exists():
            part.rename(target / "features" / part.name)
    remove_tree(old)


def feature_folders(store: StorePath) -> list[StorePath]:
    """Folders of features in a store, finished and unfinished, sorted."""
    folder = store / "features"
    if isinstance(folder, StoreUrl):
        from wsi.object_store import children

        return [folder / name for name in children(folder)[0]]
    return sorted(part for part in folder.iterdir() if part.is_dir()) if folder.is_dir() else []


def _set_aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _check_gives_way(target: StorePath, digest: str) -> None:
    if not target.exists():
        return
    ours = isinstance(target, StoreUrl) and _partial(target).is_file()
    if not (ours or _attributes(target) or '"coords/zarr.json"' in _text(target / "manifest.json")):
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


def _attributes(folder: StorePath) -> dict[str, Any] | None:
    """What a group says of itself, unchecked; None where that cannot be read."""
    try:
        kept = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        return dict(kept) if kept["format"] == FORMAT_NAME else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(file: StorePath) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def write_files(folder: StorePath, files: Mapping[str, bytes]) -> Records:
    """Write files into a folder; gives their records. On a disk they are not durable before `_seal`."""
    if isinstance(folder, StoreUrl):
        from wsi.object_store import each

        each(lambda name: (folder / name).write_bytes(files[name]), list(files))
    else:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    return {name: record_of(data) for name, data in files.items()}


def write_array(
    group: StorePath, name: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None
) -> Records:
    """Write a small array in one compressed chunk; gives the records of its files by their way from the group."""
    return write_files(group, small_array_files(name, values, attributes))


def _seal(folder: StorePath, records: Records) -> None:
    """Make all files durable that the records name, and write the manifest of them.

    In a bucket that publishes them; a manifest of somebody else that is there by then is not replaced.
    """
    if isinstance(folder, Path):
        for name in records:
            fsync_path(folder / name)
        write_json(folder / "manifest.json", {"files": records})
        return
    from wsi.object_store import write_if

    manifest, data = folder / "manifest.json", to_json({"files": records})
    if write_if(manifest, data, None) is None and manifest.read_bytes() != data:
        raise StoreBusyError(f"{folder.name}: another run has published it just now; run again to see what is left")


@dataclass(frozen=True, slots=True)
class FeatureWriter:
    """Features of one slide by one encoder while they are made. Plain values: it travels to workers.

    Attributes
    ----------
    store : Path or StoreUrl
        The slide's store.
    encoder : str
        Name under which the features are published.
    tiles, chunk_tiles, dim : int
        N, tiles a chunk, D.
    dtype : str
        Stored dtype.
    """

    store: StorePath
    encoder: str
    tiles: int
    chunk_tiles: int
    dim: int
    dtype: str

    @property
    def stage(self) -> StorePath:
        """Where the features grow: a hidden folder; in a bucket their place, which counts once it has a manifest."""
        return self.target if isinstance(self.store, StoreUrl) else _partial(self.target)

    @property
    def target(self) -> StorePath:
        """Where they are published."""
        return self.store / "features" / self.encoder

    @property
    def chunks(self) -> int:
        """How many chunks there are in all."""
        return -(-self.tiles // self.chunk_tiles)

    def rows(self, chunk: int) -> np.ndarray:
        """Rows of the grid in a chunk, ascending."""
        return np.arange(chunk * self.chunk_tiles, min((chunk + 1) * self.chunk_tiles, self.tiles))

    @property
    def journal(self) -> StorePath:
        """The folder of the records; it says which files of the stage count."""
        return _partial(self.target) / ".journal"

    def todo(self) -> list[int]:
        """Chunks without a journal record, or whose bytes differ from it."""
        records = self._records()
        etags = self.etags()
        return [chunk for chunk in range(self.chunks) if not self._is_done(chunk, records.get(chunk), etags)]

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
        check_lock(self.store)
        data = plain_chunk(block)
        write_record(self._record(chunk), self._put(chunk, data) | {"crc32c": last_crc32c(data)}, bad)

    def done_before(self, chunk: int) -> int | None:
        """How many bad tiles a chunk has that is finished; None if it is not."""
        record = self._records([chunk]).get(chunk)
        if record is None:
            return None
        path = self.stage / self._name(chunk)
        found = path.stamp() if isinstance(path, StoreUrl) else None
        etags = {} if found is None else {self._name(chunk): found.etag}
        return len(record["bad"]) if self._is_done(chunk, record, etags) else None

    def bad_tiles(self) -> list[BadTile]:
        """Bad tiles of the finished chunks, in order of their rows."""
        records = self._records()
        return [BadTile(row, reason) for chunk in sorted(records) for row, reason in records[chunk]["bad"]]

    def publish(self) -> None:
        """Check that every chunk is there, seal the folder and let it count. Call under `slide_lock`.

        Raises
        ------
        CorruptStoreError
            If a chunk is missing or differs from its record.
        """
        if isinstance(self.target, StoreUrl) and (self.target / "manifest.json").is_file():
            remove_tree(self.journal.parent)  # it was published, but the answer was lost
            return
        if missing := self.todo():
            raise CorruptStoreError(f"{self.store.name}: chunks {missing[:5]} of {self.encoder} are not finished")
        bad = self.bad_tiles()
        reasons = sorted({one.reason for one in bad})
        code = {reason: number for number, reason in enumerate(reasons, start=1)}
        codes = np.zeros(self.tiles, np.uint32)
        for one in bad:
            codes[one.row] = code[one.reason]
        self._sweep()
        records = {name: file_record(self.stage / name) for name in _STAGE_FILES}
        records |= {self._name(chunk): self._listed(chunk, record) for chunk, record in self._records().items()}
        records |= write_array(self.stage, "bad", codes, {"reasons": reasons})
        check_lock(self.store)
        _seal(self.stage, records)
        if isinstance(self.stage, Path) and isinstance(self.target, Path):
            self.stage.rename(self.target)
            fsync_path(self.target.parent)
            remove_tree(self.target / self.journal.name)
        else:
            remove_tree(self.journal.parent)

    def discard(self) -> None:
        """Remove what was begun, so that another recipe or slide may take its place. Call under `slide_lock`."""
        check_lock(self.store)
        remove_tree(self.stage)
        remove_tree(self.journal.parent)

    def _sweep(self) -> None:
        """Remove what interrupted writes and publications left in the stage."""
        remove_tree(self.stage / "bad", ignore_errors=True)
        sweep_temporaries(self.stage)
        keep = {self._name(chunk) for chunk in range(self.chunks)}
        for name in files_below(self.stage / "values" / "c"):
            if f"values/c/{name}" not in keep:
                (self.stage / "values" / "c" / name).unlink(missing_ok=True)

    def _name(self, chunk: int) -> str:
        return f"values/c/{chunk}/0"

    def _record(self, chunk: int) -> StorePath:
        return self.journal / f"{chunk:06d}.json"

    def _put(self, chunk: int, data: bytes) -> dict[str, Any]:
        """Write a chunk; gives what its record has of it. A bucket's ETag tells later that nobody has changed it."""
        path = self.stage / self._name(chunk)
        if isinstance(path, StoreUrl):
            return record_of(data) | {"etag": path.write_bytes(data)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        return record_of(data)

    def _records(self, chunks: Sequence[int] | None = None) -> dict[int, dict[str, Any]]:
        """The journal's records that are whole, by chunk."""
        found = {}
        chunks = range(self.chunks) if chunks is None else chunks
        for chunk, data in zip(chunks, read_each(self._record(chunk) for chunk in chunks), strict=True):
            try:
                if data is not None:
                    found[chunk] = parse_record(data, self._record(chunk).name)
            except CorruptStoreError:
                continue
        return found

    def _listed(self, chunk: int, record: Mapping[str, Any]) -> dict[str, Any]:
        """What the manifest says of a chunk; older records lack the checksum that it ends in."""
        crc32c = record.get("crc32c")
        if crc32c is None:
            crc32c = last_crc32c((self.stage / self._name(chunk)).read_bytes())
        return {"bytes": record["bytes"], "sha256": record["sha256"], "crc32c": crc32c}

    def etags(self) -> dict[str, str]:
        """ETags of the chunks in a bucket; on a disk none."""
        if not isinstance(self.stage, StoreUrl):
            return {}
        from wsi.object_store import below

        return {name: stamp.etag for name, stamp in below(self.stage).items()}

    def _is_done(self, chunk: int, record: Mapping[str, Any] | None, etags: Mapping[str, str]) -> bool:
        if record is None:
            return False
        if isinstance(self.stage, StoreUrl):
            return "etag" in record and etags.get(self._name(chunk)) == record["etag"]
        try:
            return file_record(self.stage / self._name(chunk))["sha256"] == record["sha256"]
        except OSError:
            return False


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
    meta = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "card": dict(card),
        "chunk_tiles": writer.chunk_tiles,
        "dim": writer.dim,
        "dtype": writer.dtype,
        "grid_sha256": grid_sha256,
    }
    files = group_files({"histograde": json.loads(json.dumps(meta))})
    files |= plain_array_files("values", (writer.tiles, writer.dim), writer.dtype, writer.chunk_tiles)
    check_lock(writer.store)
    if isinstance(writer.journal, Path):
        remove_tree(writer.stage, ignore_errors=True)
        writer.journal.mkdir(parents=True)
    _write_seal(writer.journal, {name: record_of(data) for name, data in files.items()})
    if isinstance(writer.stage, StoreUrl):  # where it is the mark too, and has to be there before anything is not
        _forget_records(writer.journal)
        remove_tree(writer.stage)
    write_files(writer.stage, files)


def _write_seal(journal: StorePath, records: Mapping[str, Any]) -> None:
    """Say which description a stage has to have for its records to count."""
    write_json(journal / "stage.json", {name: records[name] for name in _STAGE_FILES})


def _forget_records(journal: StorePath) -> None:
    for name in files_below(journal):
        if name != "stage.json":
            (journal / name).unlink(missing_ok=True)


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
    check_lock(store.path)
    far = isinstance(folder, StoreUrl)
    if not damage:
        for leftover in (folder / writer.journal.name, writer.journal.parent):
            remove_tree(leftover, ignore_errors=True)
        return False
    if any(not name.startswith("values/c/") for name in damage):
        remove_tree(folder)
        return True
    journal = writer.journal if far else folder / writer.journal.name
    remove_tree(journal, ignore_errors=True)
    if isinstance(journal, Path):
        journal.mkdir()
    _write_records(store, writer, journal, damage)
    if isinstance(folder, Path) and isinstance(writer.stage, Path):
        remove_tree(writer.stage, ignore_errors=True)
        folder.rename(writer.stage)
    else:
        (folder / "manifest.json").unlink(missing_ok=True)
    return True


def _write_records(store: FeatureStore, writer: FeatureWriter, journal: StorePath, damage: set[str]) -> None:
    """Journal records of the chunks that agree with the manifest, as if they had just been written."""
    bad: dict[int, list[BadTile]] = {}
    chunk_tiles = store.encoder_meta(writer.encoder)["chunk_tiles"]
    for one in store.bad_tiles(writer.encoder):
        bad.setdefault(one.row // chunk_tiles, []).append(one)
    files = json.loads((writer.target / "manifest.json").read_bytes())["files"]
    etags = writer.etags()
    for name, record in files.items():
        if name.startswith("values/c/") and name not in damage:
            chunk = int(name.split("/")[2])
            kept = {key: record[key] for key in ("bytes", "sha256", "crc32c") if key in record}
            kept |= {"etag": etags[name]} if name in etags else {}
            write_record(journal / f"{chunk:06d}.json", kept, bad.get(chunk, []))
    _write_seal(journal, files)


def _check_grid(store: FeatureStore, folder: str, kept: Mapping[str, Any]) -> None:
    if kept.get("grid_sha256") != store.grid_sha256:
        raise RecipeMismatchError(
            f"{store.path.name}: the features in {folder} belong to another grid; remove that folder to make them anew"
        )
