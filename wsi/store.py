"""The feature store: one Zarr v3 group per slide. FORMAT.md is its specification.

    ROOT/<slide_id>.zarr/           the grid: coords, tissue_fraction, tissue, manifest.json
        features/<encoder>/         values (N, D), bad (N,), manifest.json
        features/.<encoder>.partial/    the same while it is made, with one journal record per finished chunk

The grid and each encoder's features are staged in a hidden folder and renamed into place, so that a reader
sees all of them or nothing. Chunks carry CRC-32C inside Zarr and SHA-256 in the manifest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError
from wsi.files import file_record
from wsi.slide import SlideInfo
from wsi.tiles import BadTile, TileGrid, TileSpec
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


class FeatureStore:
    """A published store, read only.

    Parameters
    ----------
    path : path
        `<slide_id>.zarr`.

    Raises
    ------
    CorruptStoreError
        If it is not a store, or its description cannot be read.
    RecipeMismatchError
        If a newer version of the format wrote it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.meta = _group_meta(self.path)
        found = self.meta.get("format_version")
        if found != FORMAT_VERSION:
            raise RecipeMismatchError(
                f"{self.path.name}: format version {found}, this program reads {FORMAT_VERSION}; use a newer histograde"
            )
        self._checked: set[Path] = set()
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
        folder = self.path / "features"
        names = folder.iterdir() if folder.is_dir() else ()
        return sorted(part.name for part in names if part.is_dir() and not part.name.startswith("."))

    @property
    def grid(self) -> TileGrid:
        """All tiles, good and bad."""
        return TileGrid(
            TileSpec(**self.recipe["tiles"]),
            self._array("coords"),
            self._array("tissue_fraction"),
            _tuples(self.meta["side_px0"]),
        )

    @property
    def tissue(self) -> TissueMask:
        """The tissue mask from which the grid was laid."""
        kept = self.meta["tissue"]
        return TissueMask(
            self._array("tissue").astype(bool),
            _tuples(kept["downsample"]),
            _tuples(kept["origin_px0"]),
            self.slide.require_mpp(),
        )

    @property
    def tissue_area_um2(self) -> float:
        """Area of the tissue in square micrometres."""
        return float(self.meta["tissue"]["area_um2"])

    def encoder_meta(self, encoder: str) -> dict[str, Any]:
        """Description of an encoder's features: card, chunk size, the grid they belong to."""
        folder = self._features(encoder)
        self._checked_bytes(folder, "zarr.json")
        return _group_meta(folder)

    def card(self, encoder: str) -> dict[str, Any]:
        """The encoder's card as it was when the features were made."""
        return dict(self.encoder_meta(encoder)["card"])

    def bad_tiles(self, encoder: str) -> list[BadTile]:
        """Tiles without features, with the reason of each."""
        codes = self._array(f"features/{encoder}/bad")
        reasons = json.loads((self._features(encoder) / "bad" / "zarr.json").read_bytes())["attributes"]["reasons"]
        return [BadTile(int(row), reasons[codes[row] - 1]) for row in np.flatnonzero(codes)]

    def good_rows(self, encoder: str) -> np.ndarray:
        """Rows of the grid that have features, ascending, (n,) int64."""
        return np.flatnonzero(self._array(f"features/{encoder}/bad") == 0)

    def features(self, encoder: str, rows: np.ndarray | None = None) -> np.ndarray:
        """Features of some tiles.

        Each chunk is checked against the manifest's SHA-256 when it is first read through this object.

        Parameters
        ----------
        rows : ndarray (n,) int, optional
            Rows of the grid; default are those that have features.

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
        folder = self._features(encoder)
        meta = self.encoder_meta(encoder)
        rows = self.good_rows(encoder) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self.meta["tiles"]:
            raise IndexError(f"{self.path.name} has the rows 0 to {self.meta['tiles'] - 1}, asked for was another")
        chunk_tiles, dim, dtype = meta["chunk_tiles"], meta["dim"], np.dtype(meta["dtype"])
        values = np.empty((len(rows), dim), dtype)
        chunk_of = rows // chunk_tiles
        for chunk in np.unique(chunk_of):
            here = chunk_of == chunk
            data = np.frombuffer(self._checked_bytes(folder, f"values/c/{chunk}/0"), dtype, chunk_tiles * dim)
            values[here] = data.reshape(chunk_tiles, dim)[rows[here] - chunk * chunk_tiles]
        return values

    def verify(self) -> list[Damage]:
        """Compare every file with the manifests; an empty list means that nothing is wrong."""
        damage = verify_folder(self.path) + strays(self.path, skip=("features",))
        for encoder in self.encoders:
            folder = self._features(encoder)
            found = verify_folder(folder) + strays(folder)
            damage += [Damage(f"features/{encoder}/{one.where}", one.what) for one in found]
            if not damage and self.encoder_meta(encoder).get("grid_sha256") != self.grid_sha256:
                damage.append(Damage(f"features/{encoder}", "was made from another grid than the store's"))
        return damage

    @property
    def grid_sha256(self) -> str:
        """Digest of the slide's content and its tiles' places and size: what features belong to."""
        return grid_digest(self.slide.content_hash, self.grid)

    def _features(self, encoder: str) -> Path:
        if encoder not in self.encoders:
            have = ", ".join(self.encoders) or "none"
            raise CorruptStoreError(
                f"{self.path.name}: no complete features by {encoder!r} (there are: {have}); run `histograde extract`"
            )
        return self.path / "features" / encoder

    def _array(self, name: str) -> np.ndarray:
        """A small array as a whole; Zarr checks its CRC, the manifest that all of it is there."""
        folder, _, leaf = name.rpartition("/")
        base = self.path / folder if folder else self.path
        for file in _manifest(base)["files"]:
            if file.startswith(f"{leaf}/"):
                self._checked_bytes(base, file)
        return np.asarray(zarr.open_array(self.path / name, mode="r")[...])

    def _checked_bytes(self, base: Path, file: str) -> bytes:
        path = base / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CorruptStoreError(f"{self.path.name}: {path.relative_to(self.path)} is missing; {REPAIR}") from error
        if path not in self._checked:
            expected = _manifest(base)["files"].get(file)
            if expected is None or sha256(data).hexdigest() != expected["sha256"]:
                raise CorruptStoreError(
                    f"{self.path.name}: {path.relative_to(self.path)} differs from its checksum; {REPAIR}"
                )
            self._checked.add(path)
        return data


REPAIR = "run `histograde extract` on the slide again to repair it"


def grid_digest(content_hash: str, grid: TileGrid) -> str:
    """SHA-256 over the slide's content hash, the tiles' size and their places."""
    digest = sha256(f"{content_hash}\n{json.dumps(list(grid.side_px0))}\n".encode())
    digest.update(np.ascontiguousarray(grid.coords, dtype="<i4").tobytes())
    return digest.hexdigest()


def verify_folder(folder: Path) -> list[Damage]:
    """Compare the files that the manifest of a published folder lists with it."""
    try:
        files = _manifest(folder)["files"]
    except CorruptStoreError as error:
        return [Damage("manifest.json", str(error))]
    damage = []
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            damage.append(Damage(name, "is missing"))
            continue
        found = file_record(path)
        if found["bytes"] != expected["bytes"]:
            damage.append(Damage(name, f"has {found['bytes']} bytes, expected {expected['bytes']}"))
        elif found["sha256"] != expected["sha256"]:
            damage.append(Damage(name, "differs from its checksum"))
    return damage


def strays(folder: Path, *, skip: Sequence[str] = ()) -> list[Damage]:
    """Files of a published folder that its manifest does not list. Nothing reads them, and nothing removes them."""
    try:
        files = _manifest(folder)["files"]
    except CorruptStoreError:
        return []
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        known = relative.as_posix() in files or relative.as_posix() == "manifest.json" or relative.parts[0] in skip
        if path.is_file() and not known and not any(part.startswith(".") for part in relative.parts):
            found.append(Damage(relative.as_posix(), "is not in the manifest; remove it if it is not yours"))
    return found


def open_stores(root: str | Path) -> dict[str, FeatureStore]:
    """All published stores below a folder by slide_id, sorted.

    Raises
    ------
    UsageError
        If the folder holds none.
    """
    root = Path(root)
    paths = [root] if root.suffix == ".zarr" else sorted(root.glob("*.zarr")) if root.is_dir() else []
    if not paths:
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder; make some with `histograde extract`")
    stores: dict[str, FeatureStore] = {}
    for store in map(FeatureStore, paths):
        slide_id = store.slide.slide_id
        if slide_id in stores:
            raise UsageError(f"{root}: {stores[slide_id].path.name} and {store.path.name} are both of {slide_id}")
        stores[slide_id] = store
    return stores


def store_path(root: str | Path, slide_id: str) -> Path:
    """Where a slide's store lies; refuses names that are not one plain file name."""
    if slide_id != Path(slide_id).name or slide_id.startswith(".") or not slide_id.isprintable() or not slide_id:
        raise UsageError(f"slide_id {slide_id!r} cannot be a file name: use letters, digits, '-', '_' and '.'")
    return Path(root) / f"{slide_id}.zarr"


def slide_meta(info: SlideInfo) -> dict[str, Any]:
    """What the store keeps of a slide."""
    return asdict(info)


def write_array(group: Path, name: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None) -> None:
    """A small array in one compressed chunk."""
    chunks = tuple(max(1, n) for n in values.shape)
    array = create_array(group, name, values.shape, values.dtype, chunks, packed=True, attributes=attributes)
    array[...] = values


def create_array(
    group: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    *,
    packed: bool,
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array:
    """An array whose chunks end in their CRC-32C; features are not compressed (float16 gains 6 % with zstd)."""
    fill = float("nan") if np.dtype(dtype).kind == "f" else 0
    return zarr.create_array(
        group / name,
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        serializer=BytesCodec(),
        compressors=[ZstdCodec(level=3), Crc32cCodec()] if packed else [Crc32cCodec()],
        fill_value=fill,
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
    )


def _group_meta(path: Path) -> dict[str, Any]:
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


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if not isinstance(manifest["files"], Mapping):
            raise TypeError("files")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(f"{folder.name}: manifest.json is missing or damaged; {REPAIR}") from error
    return dict(manifest)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
