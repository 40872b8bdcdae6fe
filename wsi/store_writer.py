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

from wsi.checked_note import forget_checked, note_checked, unchanged
from wsi.errors import CorruptStoreError, RecipeMismatchError
from wsi.files import (
    file_record,
    files_below,
    fsync_path,
    read_each,
    record_of,
    remove_tree,
    sweep_temporaries,
    write_atomic,
    write_json,
)
from wsi.grid_writer import feature_folders, publish_grid, settle
from wsi.journal import parse_record, write_record
from wsi.sealing import attributes_of, partial_of, seal, write_array, write_files
from wsi.store import CHUNK_TILES, FORMAT_NAME, FORMAT_VERSION, FeatureStore, read_manifest, verify_folder
from wsi.store_arrays import group_files, last_crc32c, plain_array_files, plain_chunk
from wsi.store_identity import check_card, check_recipe
from wsi.store_lock import check_lock, slide_lock
from wsi.store_url import StorePath, StoreUrl
from wsi.tiles import BadTile

__all__ = [
    "FeatureWriter",
    "begin_features",
    "check_card",
    "check_recipe",
    "feature_folders",
    "publish_grid",
    "reopen_damaged",
    "settle",
    "slide_lock",
]


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
        return self.target if isinstance(self.store, StoreUrl) else partial_of(self.target)

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
        return partial_of(self.target) / ".journal"

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
        check_lock(self.store)
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
        done = self._records()
        records |= {self._name(chunk): self._listed(chunk, record) for chunk, record in done.items()}
        records |= write_array(self.stage, "bad", codes, {"reasons": reasons})
        check_lock(self.store)
        seal(self.stage, records)
        if isinstance(self.stage, Path) and isinstance(self.target, Path):
            self.stage.rename(self.target)
            fsync_path(self.target.parent)
            remove_tree(self.target / self.journal.name)
        else:
            note_checked(self.target, {self._name(chunk): one["etag"] for chunk, one in done.items()})
            remove_tree(self.journal.parent)

    def discard(self) -> None:
        """Remove what was begun, so that another recipe or slide may take its place. Call under `slide_lock`."""
        check_lock(self.store)
        remove_tree(self.stage)
        remove_tree(self.journal.parent)
        forget_checked(self.target)

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
    return attributes_of(writer.stage) if whole else None


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
    if (kept := attributes_of(folder)) is not None:
        check_card(store.path.name, kept.get("card", {}), card)
        _check_grid(store, encoder, kept)
    etags = writer.etags()
    known = unchanged(folder, etags)
    damage = {one.where for one in verify_folder(folder, known)}
    check_lock(store.path)
    far = isinstance(folder, StoreUrl)
    if not damage:
        listed = {name: etags[name] for name in read_manifest(folder)["files"] if name in etags}
        if known != listed.keys():
            note_checked(folder, listed)
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
    files = read_manifest(writer.target)["files"]
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
