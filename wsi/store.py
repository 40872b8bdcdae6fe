"""The feature store: one Zarr v3 group per slide. FORMAT.md is its specification.

    ROOT/<slide_id>.zarr/           the grid: coords, tissue_fraction, tissue, manifest.json
        features/<encoder>/         values (N, D), bad (N,), manifest.json
        features/.<encoder>.partial/    the same while it is made, with one journal record per finished chunk

The grid and each encoder's features are staged in a hidden folder and renamed into place, so that a reader
sees all of them or nothing. In a bucket, where nothing can be renamed, they are made in their place and count once
their manifest is there. Chunks carry CRC-32C inside Zarr; the manifest has it too, and their SHA-256.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, overload

import numpy as np
import zarr

from wsi.chunk_reader import PlainChunks, plain_layout
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError
from wsi.far_chunks import FarChunks
from wsi.files import files_below, for_each, is_hidden, record_of
from wsi.packed_array import packed_array
from wsi.slide import SlideInfo
from wsi.store_arrays import array_of, last_crc32c
from wsi.store_url import StorePath, StoreUrl, store_location
from wsi.tiles import BadTile, Places, TileGrid, TileSpec
from wsi.tissue import TissueMask

FORMAT_NAME = "histograde-features"
FORMAT_VERSION = 1
CHUNK_TILES = 512
"""Tiles in a chunk, which is one task and one journal record: what a crash can cost."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong with a store: where (relative to it), and what."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class _Features:
    """What a store has read of one encoder's features; `stamp` tells one publication from another."""

    stamp: tuple[int | str, ...]
    meta: Mapping[str, Any]
    bad: tuple[BadTile, ...]
    chunks: PlainChunks | FarChunks | None


class FeatureStore:
    """A published store, read only.

    Parameters
    ----------
    path : path or StoreUrl
        `<slide_id>.zarr`, on a disk or in a bucket; as text "s3://bucket/prefix/<slide_id>.zarr".

    Raises
    ------
    CorruptStoreError
        If it is not a store, or its description cannot be read.
    RecipeMismatchError
        If a newer version of the format wrote it.
    UnreachableStoreError
        Of a store in a bucket, here and wherever it is read: if the server does not answer.
    """

    def __init__(self, path: str | StorePath):
        self.path = store_location(path)
        self.meta = _group_meta(self.path)
        found = self.meta.get("format_version")
        if found != FORMAT_VERSION:
            raise RecipeMismatchError(
                f"{self.path.name}: format version {found}, this program reads {FORMAT_VERSION}; use a newer histograde"
            )
        self._checked: set[StorePath] = set()
        self._known: dict[str, _Features] = {}
        self._manifests: dict[StorePath, tuple[tuple[int | str, ...], Mapping[str, Any]]] = {}
        self._checked_bytes(self.path, "zarr.json")

    @property
    def slide(self) -> SlideInfo:
        """The slide as it was when the grid was laid, with the pixel size that was used."""
        kept = dict(self.meta["slide"])
        for key in ("level_sizes_px", "downsamples", "mpp", "bounds_px0"):
            kept[key] = _tuples(kept[key])
        return SlideInfo(**kept)

    @property
    def recipe(self) -> dict[str, Any]:
        """How tissue was found and tiles were laid."""
        return dict(self.meta["recipe"])

    @property
    def encoders(self) -> list[str]:
        """Names of the encoders whose features are published here, sorted."""
        return finished_and_begun(self.path / "features")[0]

    @property
    def coords(self) -> np.ndarray:
        """Top-left (x, y) of all tiles, good and bad, level-0 px, (N, 2) int32."""
        return self._array("coords")

    @property
    def tissue_fraction(self) -> np.ndarray:
        """Share of each tile that is tissue, (N,) float32; NaN where it is unknown."""
        return self._array("tissue_fraction")

    @property
    def side_px0(self) -> tuple[float, float]:
        """Size (w, h) of a tile in level-0 pixels; (0, 0) where it is unknown."""
        w, h = self.meta["side_px0"]
        return w, h

    @property
    def imported_from(self) -> str | None:
        """The program whose features these are, where they were taken over from files of another; else None."""
        imported = self.meta["recipe"].get("imported")
        return None if imported is None else str(imported["tool"])

    @property
    def grid(self) -> TileGrid:
        """All tiles, good and bad; raises `RecipeMismatchError` where it is unknown how they were cut."""
        self._require_own("how its tiles were cut")
        return TileGrid(TileSpec(**self.recipe["tiles"]), self.coords, self.tissue_fraction, self.side_px0)

    @property
    def tissue(self) -> TissueMask:
        """The tissue mask from which the grid was laid; raises `RecipeMismatchError` where it is unknown."""
        self._require_own("its tissue")
        kept = self.meta["tissue"]
        return TissueMask(
            self._array("tissue").astype(bool),
            _tuples(kept["downsample"]),
            _tuples(kept["origin_px0"]),
            self.slide.require_mpp(),
        )

    @property
    def tissue_area_um2(self) -> float:
        """Area of the tissue in square micrometres; raises `RecipeMismatchError` where it is unknown."""
        self._require_own("its area of tissue")
        return float(self.meta["tissue"]["area_um2"])

    def encoder_meta(self, encoder: str) -> dict[str, Any]:
        """Description of an encoder's features: card, chunk size, the grid they belong to."""
        return dict(self._features(encoder).meta)

    def card(self, encoder: str) -> dict[str, Any]:
        """The encoder's card as it was when the features were made."""
        return dict(self.encoder_meta(encoder)["card"])

    def bad_tiles(self, encoder: str) -> list[BadTile]:
        """Tiles without features, with the reason of each."""
        return list(self._features(encoder).bad)

    def good_rows(self, encoder: str) -> np.ndarray:
        """Rows of the grid that have features, ascending, (n,) int64."""
        rows, bad = np.arange(self.meta["tiles"]), self._features(encoder).bad
        return np.delete(rows, [one.row for one in bad]) if bad else rows

    def features(self, encoder: str, rows: np.ndarray | None = None, *, keep: bool = True) -> np.ndarray:
        """Features of some tiles.

        Each chunk is compared with the manifest's checksum when this process first reads it, and again if its file
        has changed since.

        Parameters
        ----------
        rows : ndarray (n,) int, optional
            Rows of the grid; default are those that have features.
        keep : bool
            Whether the array is kept while others may write into the store's files. If not, rows that follow each other
            are mapped instead of copied where that can be done, which is several times as fast.

        Returns
        -------
        ndarray (n, D)
            In the stored dtype. Rows of bad tiles are NaN.

        Raises
        ------
        CorruptStoreError
            If a chunk is missing or differs from its checksum.
        IndexError
            If there is no such row.
        """
        known = self._features(encoder)
        rows = self.good_rows(encoder) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.meta["tiles"]:
            raise IndexError(f"{self.path.name} has the rows 0 to {self.meta['tiles'] - 1}, asked for was another")
        if known.chunks is not None:
            return known.chunks.read(rows) if keep else known.chunks.map(rows)
        return np.asarray(self._open(f"features/{encoder}/values").oindex[rows])

    def verify(self) -> list[Damage]:
        """Compare every file with the manifests; an empty list means that nothing is wrong."""
        damage = verify_folder(self.path) + strays(self.path, skip=("features",))
        for encoder in self.encoders:
            folder = self.path / "features" / encoder
            found = verify_folder(folder) + strays(folder)
            damage += [Damage(f"features/{encoder}/{one.where}", one.what) for one in found]
            if not damage and self.encoder_meta(encoder).get("grid_sha256") != self.grid_sha256:
                damage.append(Damage(f"features/{encoder}", "was made from another grid than the store's"))
        return damage

    @property
    def grid_sha256(self) -> str:
        """Digest of the slide's content and its tiles' places and size: what features belong to."""
        return grid_digest(self.slide.content_hash, self)

    def _require_own(self, what: str) -> None:
        if self.imported_from is not None:
            raise RecipeMismatchError(
                f"{self.path.name}: {what} is unknown, because its features were imported from {self.imported_from}; "
                "extract the slide into another --store folder with `histograde extract`"
            )

    def _features(self, encoder: str) -> _Features:
        """What is known of an encoder's features, read again when they have been published anew."""
        folder = self.path / "features" / encoder
        stamp = _manifest_stamp(folder)
        known = self._known.get(encoder)
        if known is None or known.stamp != stamp or not stamp:
            known = self._known[encoder] = self._read_features(encoder, stamp)
        return known

    def _read_features(self, encoder: str, stamp: tuple[int | str, ...]) -> _Features:
        if encoder not in self.encoders:
            have = ", ".join(self.encoders) or "none"
            verb = "extract" if self.imported_from is None else "import"
            raise CorruptStoreError(
                f"{self.path.name}: no complete features by {encoder!r} (there are: {have}); run `histograde {verb}`"
            )
        folder = self.path / "features" / encoder
        self._checked = {path for path in self._checked if not str(path).startswith(f"{folder}/")}
        self._checked_bytes(folder, "zarr.json")
        codes = self._array(f"features/{encoder}/bad")
        bad: tuple[BadTile, ...] = ()
        if codes.any():
            reasons = json.loads(self._checked_bytes(folder, "bad/zarr.json"))["attributes"]["reasons"]
            bad = tuple(BadTile(int(row), reasons[codes[row] - 1]) for row in np.flatnonzero(codes))
        return _Features(stamp, _group_meta(folder), bad, self._plain_chunks(folder))

    def _plain_chunks(self, folder: StorePath) -> PlainChunks | FarChunks | None:
        """The features as chunks that can be read by position; None if only Zarr can read them."""
        layout = plain_layout(self._checked_bytes(folder, "values/zarr.json"))
        if layout is None:
            return None
        files = self._files(folder)
        records = [files.get(f"values/c/{chunk}/0") for chunk in range(-(-layout.rows // layout.chunk_rows))]
        values = folder / "values"
        if isinstance(values, StoreUrl):
            return FarChunks(values, layout, records, self._damaged)
        return PlainChunks(values, layout, records, self._damaged)

    def _array(self, name: str) -> np.ndarray:
        """A small array as a whole, compared with the manifest and with its own CRC."""
        base, leaf = self._parted(name)
        array = packed_array(self._checked_bytes(base, f"{leaf}/zarr.json"))
        if array is None:
            return np.asarray(self._open(name)[...])
        data = self._checked_bytes(base, f"{leaf}/{array.chunk}")
        try:
            return array.decoded(data)
        except ValueError as error:
            raise self._damaged(base / leaf / array.chunk, str(error)) from error

    def _open(self, name: str) -> zarr.Array:
        """An array through Zarr, after a comparison of all its files with the manifest."""
        base, leaf = self._parted(name)
        names = [file for file in self._files(base) if file.startswith(f"{leaf}/")]
        if isinstance(self.path, StoreUrl):
            return array_of({file: self._checked_bytes(base, file) for file in names}, leaf)
        for file in names:
            self._checked_bytes(base, file)
        return zarr.open_array(self.path / name, mode="r")

    def _parted(self, name: str) -> tuple[StorePath, str]:
        """The folder whose manifest lists an array, and the array's name there."""
        folder, _, leaf = name.rpartition("/")
        return (self.path / folder if folder else self.path), leaf

    def _files(self, base: StorePath) -> Mapping[str, Any]:
        """What the manifest of a folder lists, read again when it has changed."""
        stamp = _manifest_stamp(base)
        known = self._manifests.get(base)
        if known is None or known[0] != stamp or not stamp:
            known = self._manifests[base] = stamp, read_manifest(base, cure_of(self.meta))["files"]
        return known[1]

    def _checked_bytes(self, base: StorePath, file: str) -> bytes:
        path = base / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise self._damaged(path, "is missing") from error
        if path not in self._checked:
            expected = self._files(base).get(file)
            if expected is None or sha256(data).hexdigest() != expected["sha256"]:
                raise self._damaged(path, "differs from its checksum")
            self._checked.add(path)
        return data

    def _damaged(self, path: StorePath, what: str) -> CorruptStoreError:
        where = str(path).removeprefix(f"{self.path}/")
        return CorruptStoreError(f"{self.path.name}: {where} {what}; {cure_of(self.meta)}")


REPAIR = "run `histograde extract` on the slide again to repair it"
REIMPORT = "run `histograde import` on its file again to repair it"


def cure_of(meta: Mapping[str, Any]) -> str:
    """What cures a store that is described like this: features of another program are imported again."""
    recipe = meta.get("recipe")
    return REIMPORT if isinstance(recipe, Mapping) and recipe.get("imported") else REPAIR


def grid_digest(content_hash: str, grid: Places) -> str:
    """SHA-256 over the slide's content hash, the tiles' size and their places."""
    digest = sha256(f"{content_hash}\n{json.dumps(list(grid.side_px0))}\n".encode())
    digest.update(np.ascontiguousarray(grid.coords, dtype="<i4").tobytes())
    return digest.hexdigest()


def verify_folder(folder: StorePath, known: Collection[str] = ()) -> list[Damage]:
    """Compare the files that the manifest of a published folder lists with it; those `known` to agree are left out."""
    try:
        files = read_manifest(folder)["files"]
    except CorruptStoreError:
        return [Damage("manifest.json", "is missing or damaged")]

    names = [name for name in files if name not in known]
    found = for_each(folder, lambda name: _compare(folder / name, name, files[name]), names)
    return [one for one in found if one is not None]


def _compare(path: StorePath, name: str, expected: Mapping[str, Any]) -> Damage | None:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Damage(name, "is missing")
    found = record_of(data)
    if found["bytes"] != expected["bytes"]:
        return Damage(name, f"has {found['bytes']} bytes, expected {expected['bytes']}")
    if found["sha256"] != expected["sha256"] or ("crc32c" in expected and expected["crc32c"] != last_crc32c(data)):
        return Damage(name, "differs from its checksum")
    return None


def strays(folder: StorePath, *, skip: Sequence[str] = ()) -> list[Damage]:
    """Files of a published folder that its manifest does not list. Nothing reads them, and nothing removes them."""
    try:
        files = read_manifest(folder)["files"]
    except CorruptStoreError:
        return []
    known = {*files, "manifest.json"}
    return [
        Damage(name, "is not in the manifest; remove it if it is not yours")
        for name in files_below(folder)
        if name not in known and name.split("/")[0] not in skip and not is_hidden(name)
    ]


def store_paths(root: StorePath) -> list[StorePath]:
    """Where stores are published below a folder, sorted; a store itself is the only one."""
    if root.suffix == ".zarr":
        return [root]
    if isinstance(root, StoreUrl):
        return [root / name for name in finished_and_begun(root)[0] if name.endswith(".zarr")]
    return sorted(root.glob("[!.]*.zarr")) if root.is_dir() else []


def unfinished(root: StorePath) -> list[str]:
    """Names of hidden folders in a root or a store that hold work begun and not published."""
    if isinstance(root, StoreUrl):
        return [f".{name}.partial" for name in finished_and_begun(root)[1]]
    patterns = (".*.partial", ".*.old") if root.is_dir() else ()
    return [part.name for pattern in patterns for part in sorted(root.glob(pattern))]


def finished_and_begun(place: StorePath) -> tuple[list[str], list[str]]:
    """Names of what is published in a place, and of what is in the making there, sorted.

    What is in the making in a bucket is marked as such and has no manifest. What has neither lost its manifest, and is
    damaged. On a disk a name can be among both.
    """
    if isinstance(place, Path):
        names = [part.name for part in place.iterdir() if part.is_dir()] if place.is_dir() else []
        return sorted(name for name in names if name[0] != "."), sorted(_marked(names))
    from wsi.object_store import children

    folders, objects = children(place)
    marks = sorted(_marked((*folders, *objects)))
    begun = [name for name in marks if not (place / name / "manifest.json").is_file()]
    return [name for name in folders if name[0] != "." and name not in begun], begun


def _marked(names: Iterable[str]) -> set[str]:
    return {name[1 : -len(".partial")] for name in names if name[0] == "." and name.endswith(".partial")}


def open_stores(root: str | StorePath) -> dict[str, FeatureStore]:
    """All published stores below a folder by slide_id, sorted.

    Raises
    ------
    UsageError
        If the folder holds none.
    """
    root = store_location(root)
    if not (paths := store_paths(root)):
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder; make some with `histograde extract`")
    stores: dict[str, FeatureStore] = {}
    for store in for_each(root, FeatureStore, paths):
        slide_id = store.slide.slide_id
        if slide_id in stores:
            raise UsageError(f"{root}: {stores[slide_id].path.name} and {store.path.name} are both of {slide_id}")
        stores[slide_id] = store
    return stores


@overload
def store_path(root: Path, slide_id: str) -> Path: ...
@overload
def store_path(root: str | StorePath, slide_id: str) -> StorePath: ...
def store_path(root: str | StorePath, slide_id: str) -> StorePath:
    """Where a slide's store lies; refuses names that are not one plain file name."""
    if slide_id != Path(slide_id).name or slide_id.startswith(".") or not slide_id.isprintable() or not slide_id:
        raise UsageError(f"slide_id {slide_id!r} cannot be a file name: use letters, digits, '-', '_' and '.'")
    return store_location(root) / f"{slide_id}.zarr"


def slide_meta(info: SlideInfo) -> dict[str, Any]:
    """What the store keeps of a slide."""
    return asdict(info)


def _group_meta(path: StorePath) -> dict[str, Any]:
    file = path / "zarr.json"
    try:
        meta = json.loads(file.read_bytes())["attributes"]["histograde"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(
            f"{path.name}: not a histograde store, or its zarr.json is damaged; {REPAIR}"
        ) from error
    if meta.get("format") != FORMAT_NAME:
        raise CorruptStoreError(f"{path.name}: not a {FORMAT_NAME} store; {REPAIR}")
    return dict(meta)


def read_manifest(folder: StorePath, cure: str = REPAIR) -> dict[str, Any]:
    """What the manifest of a published folder says; raises `CorruptStoreError` where it is missing or damaged."""
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if not isinstance(manifest["files"], Mapping):
            raise TypeError("files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(f"{folder.name}: manifest.json is missing or damaged; {cure}") from error
    return dict(manifest)


def _manifest_stamp(folder: StorePath) -> tuple[int | str, ...]:
    """What tells one state of a folder's manifest from another; empty if there is none."""
    if isinstance(folder, StoreUrl):
        found = (folder / "manifest.json").stamp()
        return (found.size, found.etag) if found is not None else ()
    try:
        status = os.stat(f"{folder}/manifest.json")
    except OSError:
        return ()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
