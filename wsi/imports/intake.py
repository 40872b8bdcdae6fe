"""Features of another program into a store: what its file states, and what of the slide itself is known.

A file is looked through to its end before anything is written. FORMAT.md, "Imported features", says how the unknown is
written; nothing is filled in.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsi.errors import (
    CorruptStoreError,
    NoTissueError,
    RecipeMismatchError,
    TooManyBadTilesError,
    UnreachableStoreError,
    UnreadableFeaturesError,
    UnreadableSlideError,
    WsiError,
)
from wsi.imports import IMPORTS, ForeignFeatures, Hints
from wsi.imports.h5_file import FeatureRows, open_h5
from wsi.slide import MAX_SIDE_PX, SlideInfo, believable, hash_files
from wsi.store import FeatureStore, grid_digest, store_path, verify_folder
from wsi.store_url import StorePath, StoreUrl
from wsi.store_writer import (
    FeatureWriter,
    begin_features,
    check_recipe,
    feature_folders,
    publish_grid,
    reopen_damaged,
    settle,
    slide_lock,
)
from wsi.threads import in_order
from wsi.tiles import BadTile

IDENTITY = "imported-1:"
"""Begins the content hash of a slide of which only a file of features is known; the SHA-256 of that file follows."""

FAR_WRITES = 4
"""Chunks on their way to a bucket at once; some times as many wait for it in memory."""

UNKNOWN = "unknown"
NO_HINTS = Hints()
NOT_FINITE = "its features in the imported file are not finite numbers"


@dataclass(frozen=True, slots=True)
class ImportedPlaces:
    """Tiles that another program laid; as `wsi.tiles.Places`."""

    coords: np.ndarray
    tissue_fraction: np.ndarray
    side_px0: tuple[float, float]


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """A file to be taken over.

    Attributes
    ----------
    slide_id : str
    path : path
    tool : str
        Name in `IMPORTS`.
    encoder : str
        Name under which the features are kept.
    patches : path, optional
        The program's file of the same slide's tiles.
    slide : SlideInfo, optional
        The slide, where it is there.
    mpp : (x, y), optional
        Its pixel size by the user where it is not there, um/px.
    hints : Hints
    max_bad : float
        Largest share of tiles without usable features, 0 to 1.
    """

    slide_id: str
    path: Path
    tool: str
    encoder: str
    patches: Path | None = None
    slide: SlideInfo | None = None
    mpp: tuple[float, float] | None = None
    hints: Hints = NO_HINTS
    max_bad: float = 0.2


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of a file.

    Attributes
    ----------
    file_sha256 : str
    stated_encoder : str or None
        What the file calls the encoder.
    tiles, bad : int
    chunks : int
        Chunks written in this run; 0 where the store held all of it already.
    """

    file_sha256: str
    stated_encoder: str | None
    tiles: int
    bad: int
    chunks: int


@dataclass(frozen=True, slots=True, eq=False)
class _Intake:
    """All that is written of one file; row k of the grid is row `order[k]` of the file."""

    info: SlideInfo
    places: ImportedPlaces
    recipe: Mapping[str, Any]
    card: Mapping[str, Any]
    values: FeatureRows
    order: np.ndarray
    bad: tuple[BadTile, ...]


def import_features(root: StorePath, one: FeatureFile, stated_encoder: str | None = None) -> Imported:
    """Take a file's features over into the slide's store; goes on where an earlier run stopped.

    Parameters
    ----------
    stated_encoder : str, optional
        What the files before called the encoder: this one must not call it otherwise.

    Raises
    ------
    UnreadableFeaturesError, NoTissueError, TooManyBadTilesError
        If the file cannot be taken over. Nothing has been written then.
    MissingMppError
        If its places are in um, and the slide's pixel size is unknown.
    RecipeMismatchError
        If the store holds something else of this slide or under this encoder's name.
    StoreBusyError
        If another process writes the store.
    """
    try:
        digest = hash_files([one.path])
    except UnreadableSlideError as error:
        raise UnreadableFeaturesError(str(error)) from error
    with ExitStack() as opened:
        file = opened.enter_context(open_h5(one.path))
        patches = opened.enter_context(open_h5(one.patches)) if one.patches else None
        found: ForeignFeatures = IMPORTS[one.tool](file, patches, one.hints)
        if stated_encoder and found.encoder and found.encoder != stated_encoder:
            raise RecipeMismatchError(
                f"{one.path.name}: its encoder is {found.encoder!r}, that of the files before is {stated_encoder!r}; "
                "import each encoder's files by themselves, with an --encoder name of their own"
            )
        intake = _take(one, found, digest)
        with slide_lock(root, one.slide_id, outlast=True):
            chunks = _write(root, intake)
        return Imported(digest, found.encoder, len(intake.order), len(intake.bad), chunks)


def _take(one: FeatureFile, found: ForeignFeatures, digest: str) -> _Intake:
    info = _slide_info(one, digest)
    kept = np.arange(len(found.values)) if found.left_out is None else np.flatnonzero(~found.left_out)
    if not len(kept):
        raise NoTissueError(f"{one.path.name}: holds the features of no tile")
    coords, side_px0 = _level0(one, found, info)
    order = kept[np.lexsort((coords[kept, 0], coords[kept, 1]))]
    bad = tuple(BadTile(int(row), NOT_FINITE) for row in np.flatnonzero(~found.values.finite()[order]))
    if len(bad) > one.max_bad * len(order):
        raise TooManyBadTilesError(
            f"{one.path.name}: the features of {len(bad)} of {len(order)} tiles are not finite numbers, more than "
            f"{one.max_bad:.0%}; make them again, or allow it with --max-bad"
        )
    places = ImportedPlaces(
        np.ascontiguousarray(coords[order], np.int32),
        np.full(len(order), np.nan, np.float32),
        (side_px0 or 0.0, side_px0 or 0.0),
    )
    left_out = len(found.values) - len(kept)
    return _Intake(info, places, _recipe(found), _card(one, found, digest, left_out), found.values, order, bad)


def _slide_info(one: FeatureFile, digest: str) -> SlideInfo:
    """The slide as far as it is known; without the slide that is its name, and its pixel size by the user."""
    if one.slide is not None:
        info = one.slide
        return info if believable(info) else replace(info, mpp=None, mpp_source=UNKNOWN)
    return SlideInfo(
        slide_id=one.slide_id,
        reader=UNKNOWN,
        vendor=UNKNOWN,
        level_sizes_px=(),
        downsamples=(),
        mpp=one.mpp,
        mpp_source=UNKNOWN if one.mpp is None else "user",
        objective_power=None,
        bounds_px0=(0, 0, 0, 0),
        content_hash=IDENTITY + digest,
    )


def _level0(one: FeatureFile, found: ForeignFeatures, info: SlideInfo) -> tuple[np.ndarray, float | None]:
    """Places in whole level-0 pixels within the slide, (N, 2) float64, and the side of a tile."""
    name, size = one.path.name, info.level_sizes_px[0] if info.level_sizes_px else found.size_px0
    if size and found.size_px0 and size != found.size_px0:
        raise UnreadableFeaturesError(
            f"{name}: is of a slide of {found.size_px0[0]} x {found.size_px0[1]} px, the slide that is called "
            f"{one.slide_id} has {size[0]} x {size[1]} px"
        )
    coords, side = found.coords, found.side_px0
    if found.unit == "um":
        mpp = info.require_mpp()[0]
        coords = np.rint(coords / mpp)
        side = None if found.side_um is None else found.side_um / mpp
    elif not np.array_equal(coords, np.rint(coords)):
        raise UnreadableFeaturesError(f"{name}: places are not whole level-0 pixels; is --from right?")
    most = np.asarray(size or (MAX_SIDE_PX, MAX_SIDE_PX))
    outside = np.flatnonzero(((coords < 0) | (coords >= most)).any(axis=1))
    if len(outside):
        x, y = coords[outside[0]]
        raise UnreadableFeaturesError(
            f"{name}: {len(outside)} of {len(coords)} tiles lie outside of the slide ({most[0]} x {most[1]} px), the "
            f"first at ({x:.0f}, {y:.0f}); the file is of another slide, or damaged"
        )
    return coords, side


def _recipe(found: ForeignFeatures) -> dict[str, Any]:
    return {
        "tiles": {
            "tile_px": found.tile_px,
            "mpp": found.tile_mpp,
            "stride_px": found.stride_px,
            "min_tissue": None,
            "kernel": None,
        },
        "tissue": {"method": None, "mpp": None},
        "imported": dict(found.recipe),
    }


def _card(one: FeatureFile, found: ForeignFeatures, digest: str, left_out: int) -> dict[str, Any]:
    unknown = ("tile_px", "mpp", "mean", "std", "licence", "weights_sha256", "kernel", "source")
    return {
        "name": one.encoder,
        "dim": found.values.dim,
        "dtype": str(found.values.dtype),
        **dict.fromkeys(unknown),
        "stated_encoder": found.encoder,
        "file_sha256": digest,
        "imported": {"tool": one.tool, "stated": dict(found.stated or {}), "rows_left_out": left_out},
    }


def _write(root: StorePath, intake: _Intake) -> int:
    """Write what is missing; gives the number of chunks that were."""
    path = store_path(root, intake.info.slide_id)
    settle(path)
    store = _fitting(path, intake)
    if store is None or verify_folder(path):
        store = publish_grid(root, intake.info, None, intake.places, intake.recipe)
    if intake.card["name"] in store.encoders and not reopen_damaged(store, intake.card):
        return 0
    writer = begin_features(store, intake.card)
    todo = writer.todo()
    threads = FAR_WRITES if isinstance(path, StoreUrl) else 1
    for _ in in_order(lambda read: writer.write(*read), _chunks(writer, intake, todo), threads):
        pass
    writer.publish()
    return len(todo)


def _chunks(
    writer: FeatureWriter, intake: _Intake, todo: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray, tuple[BadTile, ...]]]:
    """What is to be written of each chunk, read from the file one after the other."""
    bad_rows = np.array([one.row for one in intake.bad], np.int64)
    for chunk in todo:
        rows = writer.rows(chunk)
        good = np.setdiff1d(rows, bad_rows)
        bad = tuple(one for one in intake.bad if rows[0] <= one.row <= rows[-1])
        yield chunk, good, intake.values.read(intake.order[good]), bad


def _fitting(path: StorePath, intake: _Intake) -> FeatureStore | None:
    """The store that is there, if these features belong into it; None where there is none, or no features to lose.

    Raises
    ------
    RecipeMismatchError
        If it is of something else, and holds features.
    """
    if not path.exists():
        return None
    try:
        store = FeatureStore(path)
        check_recipe(store, intake.info, intake.recipe)
        _check_same_places(store, intake)
    except RecipeMismatchError:
        if feature_folders(path):
            raise
        return None
    except UnreachableStoreError:
        raise
    except WsiError:
        return None
    return store


def _check_same_places(store: FeatureStore, intake: _Intake) -> None:
    try:
        kept = store.grid_sha256
    except CorruptStoreError:
        return  # a grid that is damaged is made again, by which features of another are refused
    if kept != grid_digest(intake.info.content_hash, intake.places):
        raise RecipeMismatchError(
            f"{store.path.name}: its tiles lie elsewhere than those of the file; import it into another --store folder"
        )


__all__ = ["FeatureFile", "Imported", "import_features"]
