"""The grid of a slide written, and exchanged where it is damaged, with its features kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from wsi.errors import RecipeMismatchError
from wsi.files import fsync_path, remove_tree, write_json
from wsi.sealing import attributes_of, is_store, partial_of, seal, write_array, write_files
from wsi.slide import SlideInfo
from wsi.store import FORMAT_NAME, FORMAT_VERSION, FeatureStore, grid_digest, slide_meta, store_path
from wsi.store_arrays import group_files
from wsi.store_lock import check_lock
from wsi.store_url import StorePath, StoreUrl
from wsi.tiles import Places
from wsi.tissue import TissueMask


def publish_grid(
    root: StorePath,
    info: SlideInfo,
    tissue: TissueMask | None,
    grid: Places,
    recipe: Mapping[str, Any],
    qc: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Write the grid of a slide and publish it. Call under `slide_lock`.

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
    check_lock(target)
    stage = _begin_grid(target)
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
    records = write_files(stage, group_files({"histograde": json.loads(json.dumps(meta))}))
    records |= write_array(stage, "coords", grid.coords)
    records |= write_array(stage, "tissue_fraction", grid.tissue_fraction)
    mask = np.zeros((0, 0), np.uint8) if tissue is None else tissue.mask.astype(np.uint8)
    records |= write_array(stage, "tissue", mask)
    write_files(stage / "features", group_files())
    check_lock(target)
    seal(stage, records)
    _end_grid(stage, target)
    return FeatureStore(target)


def _begin_grid(target: StorePath) -> StorePath:
    """Where the grid is to be made: an empty hidden folder; in a bucket its place, which no longer counts."""
    mark = partial_of(target)
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
        partial_of(target).unlink(missing_ok=True)
        return
    if target.exists():
        target.rename(set_aside(target))
    stage.rename(target)
    settle(target)
    fsync_path(target.parent)


def settle(target: StorePath) -> None:
    """Finish the exchange of a damaged grid where it was cut short, so that no features are lost with it.

    Call under `slide_lock` before anything is read from the store. In a bucket a published grid may still be marked.
    """
    if isinstance(target, StoreUrl):
        if (mark := partial_of(target)).is_file() and (target / "manifest.json").is_file():
            mark.unlink()
        return
    old = set_aside(target)
    if not old.exists():
        return
    if not target.exists():
        old.rename(target)
        return
    for part in feature_folders(old):
        if not (target / "features" / part.name).exists():
            part.rename(target / "features" / part.name)
    remove_tree(old)


@overload
def feature_folders(store: Path) -> Sequence[Path]: ...
@overload
def feature_folders(store: StorePath) -> Sequence[StorePath]: ...
def feature_folders(store: StorePath) -> Sequence[StorePath]:
    """Folders of features in a store, finished and unfinished, sorted."""
    folder = store / "features"
    if isinstance(folder, StoreUrl):
        from wsi.object_store import children

        return [folder / name for name in children(folder)[0]]
    return sorted(part for part in folder.iterdir() if part.is_dir()) if folder.is_dir() else []


@overload
def set_aside(target: Path) -> Path: ...
@overload
def set_aside(target: StoreUrl) -> StoreUrl: ...
def set_aside(target: StorePath) -> StorePath:
    """Where a store with a damaged grid lies on a disk while that is exchanged."""
    return target.with_name(f".{target.name}.old")


def _check_gives_way(target: StorePath, digest: str) -> None:
    if not target.exists():
        return
    ours = isinstance(target, StoreUrl) and partial_of(target).is_file()
    if not (ours or is_store(target)):
        raise RecipeMismatchError(
            f"{target.name}: something lies there that is not a feature store; remove it, or use another --store folder"
        )
    for part in feature_folders(target):
        kept = attributes_of(part)
        if kept and kept.get("grid_sha256") != digest:
            raise RecipeMismatchError(
                f"{target.name}: its grid is damaged, and its features in {part.name} belong to another slide or "
                "recipe; use the same settings, or remove the store"
            )
