"""On a disk: renames beside a store that were cut short, finished without the slide."""

import shutil
from pathlib import Path

from wsi.files import fsync_path, remove_tree
from wsi.grid_writer import feature_folders, set_aside, settle
from wsi.repair_look import Look
from wsi.sealing import attributes_of, is_store, partial_of
from wsi.store import FeatureStore, verify_folder
from wsi.store_arrays import group_files
from wsi.store_remains import foreign_in_features, foreign_in_grid
from wsi.store_remake import GRID_FILES, manifest_records, put


def finish_moves(look: Look, target: Path) -> bool:
    """Finish the exchange of a damaged grid and the publication of a new one.

    Returns
    -------
    bool
        False if nothing more can be said of the store before that is done.
    """
    return _finish_exchange(look, target) and _finish_stage(look, target)


def _finish_exchange(look: Look, target: Path) -> bool:
    aside = set_aside(target)
    if not aside.exists():
        return True
    if not is_store(aside):
        look.found.kept.append(aside.name)
        return True
    for part in feature_folders(aside):
        place = target / "features" / part.name
        if place.exists() and (part.name.startswith(".") or verify_folder(place) or foreign_in_features(part)):
            look.found.left.append(f"{part.name} lies in it and in {aside.name}; remove one of them")
            return False
    foreign = foreign_in_grid(aside) if target.exists() else []
    if twice := [file for file in foreign if (target / file).exists()]:
        look.found.left.append(f"{twice[0]} lies in it and in {aside.name}; remove one of them")
        return False
    look.do("finished the exchange of its grid", lambda: _exchange(aside, target))
    return not look.dry


def _exchange(aside: Path, target: Path) -> None:
    """What `settle` does, with the files of others carried over, since it removes what it leaves behind."""
    if target.exists():
        for file in foreign_in_grid(aside):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (aside / file).rename(target / file)
    settle(target)


def _finish_stage(look: Look, target: Path) -> bool:
    """Publish a grid that was finished, or remove what was not."""
    stage = partial_of(target)
    if not stage.exists():
        return True
    if foreign := [*(part.name for part in feature_folders(stage)), *foreign_in_grid(stage)]:
        look.found.kept.append(f"{stage.name} (holds {', '.join(foreign)})")
        return True
    if _is_finished(stage, target) and _gives_way(target, stage):
        look.do("published its finished grid", lambda: _publish(stage, target))
        return not look.dry
    look.do("removed an unfinished grid", lambda: shutil.rmtree(stage))
    return True


def _is_finished(stage: Path, target: Path) -> bool:
    records = manifest_records(stage)
    if records is None or set(records) != set(GRID_FILES) or verify_folder(stage):
        return False
    return FeatureStore(stage).slide.slide_id == target.name.removesuffix(".zarr")


def _gives_way(target: Path, stage: Path) -> bool:
    """Whether there is no store, or one with a damaged grid whose features all belong to the finished one."""
    if not target.exists():
        return True
    if not is_store(target) or not verify_folder(target):
        return False
    digest = FeatureStore(stage).grid_sha256
    described = [(attributes_of(part) or {}).get("grid_sha256") for part in feature_folders(target)]
    return bool(described) and set(described) == {digest}


def _publish(stage: Path, target: Path) -> None:
    remove_tree(stage / "features", ignore_errors=True)
    for name, data in group_files().items():
        put(stage / "features", name, data)
    aside = set_aside(target)
    if target.exists():
        target.rename(aside)
    stage.rename(target)
    if aside.exists():
        _exchange(aside, target)
    fsync_path(target.parent)
