"""Everything that can be put right about a store without its slide. FORMAT.md says what a crash can leave behind.

Nothing unproved is made to look sound: what is kept agrees with a SHA-256 of a manifest or of a journal, and what
cannot be proved is left to `extract`, which computes it. A chunk that agrees with its own CRC-32C alone proves
nothing, because a chunk of other features does so too. Files that are not of a store stay where they are.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zarr

from wsi.errors import StoreBusyError, WsiError
from wsi.files import file_record, fsync_path
from wsi.store import FORMAT_NAME, FORMAT_VERSION, FeatureStore, verify_folder
from wsi.store_remains import foreign_in_features, foreign_in_grid, temporary_files
from wsi.store_remake import (
    GRID_FILES,
    SMALL_FILES,
    chunk_names,
    manifest_records,
    proved,
    put,
    remade_features,
    remade_grid,
    salvage_manifest,
)
from wsi.store_writer import FeatureWriter, feature_folders, reopen_damaged, settle, slide_lock

LOCK_TAKEN_AWAY = "took away the lock of a run that is gone"

_OF_SLIDE = re.compile(r"\.(.+)\.(zarr\.partial|zarr\.old|lock)|([^.].*)\.zarr")


@dataclass(slots=True)
class Repair:
    """What became of one slide's store.

    Attributes
    ----------
    name : str
        `<slide_id>.zarr`.
    done : list of str
        What was put right, or would be.
    left : list of str
        What only `extract` can do, or a person.
    kept : list of str
        Files of somebody else that were found and not touched.
    """

    name: str
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def line(self) -> str:
        """All of it in one line."""
        parts = [*self.done]
        parts += [f"left: {'; '.join(self.left)}"] if self.left else []
        parts += [f"kept: {', '.join(self.kept)}"] if self.kept else []
        return f"{self.name}: {'; '.join(parts) if parts else 'sound'}"


def slide_ids(root: Path) -> list[str]:
    """Slides of which anything lies in a folder of stores, sorted."""
    found = (_OF_SLIDE.fullmatch(name) for name in os.listdir(root))
    return sorted({one[1] or one[3] for one in found if one})


def repair_slide(
    root: Path, slide_id: str, *, dry_run: bool = False, drop_unfinished: bool = False, max_bad: float = 0.2
) -> Repair:
    """Put right what can be put right about a slide's store without the slide.

    A sound store is read and not locked, so that a run can take it up meanwhile.

    Parameters
    ----------
    dry_run : bool
        Write nothing, take no lock; `done` is what would be done first. What shows only after that is not in it.
    drop_unfinished : bool
        Remove stages although chunks in them are finished.
    max_bad : float
        Largest share of bad tiles with which features are published, 0 to 1: `extract` refuses a slide with more.
    """
    seen = _look(_Repairer(root, slide_id, drop_unfinished, max_bad, dry=True))
    if dry_run or not (seen.done or seen.left):
        return seen
    try:
        with slide_lock(root, slide_id):
            found = _look(_Repairer(root, slide_id, drop_unfinished, max_bad, dry=False))
        found.done = [*(one for one in seen.done if one == LOCK_TAKEN_AWAY), *found.done]
        return found
    except StoreBusyError:
        return Repair(seen.name, left=["another run is at work on it"])
    except WsiError as error:
        return Repair(seen.name, left=[str(error)])


def _look(repairer: "_Repairer") -> Repair:
    try:
        repairer.run()
    except OSError as error:
        repairer.found.left.append(f"cannot be repaired: {error.strerror}")
    except WsiError as error:
        repairer.found.left.append(str(error).removeprefix(f"{repairer.found.name}: "))
    except Exception as error:  # whatever it is, it ends the repair of this store only
        repairer.found.left.append(f"cannot be understood ({type(error).__name__}: {error})")
    return repairer.found


class _Repairer:
    """One look at one store; `dry` notes what would be done and does not do it."""

    def __init__(self, root: Path, slide_id: str, drop: bool, max_bad: float, *, dry: bool):
        self.target = root / f"{slide_id}.zarr"
        self.found = Repair(self.target.name)
        self._grid_stage = root / f".{slide_id}.zarr.partial"
        self._aside = root / f".{slide_id}.zarr.old"
        self._lock = root / f".{slide_id}.lock"
        self._drop, self._max_bad, self._dry = drop, max_bad, dry

    def run(self) -> None:
        """All steps, in the order in which a writer would have gone on."""
        if self._dry and self._lock.exists():
            self.found.done.append(LOCK_TAKEN_AWAY)
        if not self._finish_exchange() or not self._finish_grid_stage() or not self.target.exists():
            return
        if not _is_store(self.target):
            self.found.left.append("is not a feature store; remove it, or keep it elsewhere")
            return
        if (_description(self.target) or {}).get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            FeatureStore(self.target)  # refuses another version of the format by name
        self._remove_temporary(self.target)
        if not self._grid_is_sound():
            return
        for folder in feature_folders(self.target):
            if not folder.name.startswith("."):
                self._features(folder)
        for folder in feature_folders(self.target):
            if folder.name.startswith(".") and folder.name.endswith(".partial"):
                self._stage(folder)

    def _do(self, what: str, action: Callable[[], object]) -> None:
        """Note what is done, once it is."""
        if not self._dry:
            action()
        self.found.done.append(what)

    # --- beside the store ---------------------------------------------------------------------------------------

    def _finish_exchange(self) -> bool:
        """Finish the exchange of a damaged grid; False if nothing more can be said before that is done."""
        if not self._aside.exists():
            return True
        if not _is_store(self._aside):
            self.found.kept.append(self._aside.name)
            return True
        for part in feature_folders(self._aside):
            place = self.target / "features" / part.name
            if place.exists() and (part.name.startswith(".") or verify_folder(place) or foreign_in_features(part)):
                self.found.left.append(f"{part.name} lies in it and in {self._aside.name}; remove one of them")
                return False
        foreign = foreign_in_grid(self._aside) if self.target.exists() else []
        if twice := [file for file in foreign if (self.target / file).exists()]:
            self.found.left.append(f"{twice[0]} lies in it and in {self._aside.name}; remove one of them")
            return False
        self._do("finished the exchange of its grid", self._exchange)
        return not self._dry

    def _exchange(self) -> None:
        """What `settle` does, with the files of others carried over, since it removes what it leaves behind."""
        if self.target.exists():
            for file in foreign_in_grid(self._aside):
                (self.target / file).parent.mkdir(parents=True, exist_ok=True)
                (self._aside / file).rename(self.target / file)
        settle(self.target)

    def _finish_grid_stage(self) -> bool:
        """Publish a grid that was finished, or remove what was not; False if no more can be said before that."""
        stage = self._grid_stage
        if not stage.exists():
            return True
        if foreign := [*(part.name for part in feature_folders(stage)), *map(str, foreign_in_grid(stage))]:
            self.found.kept.append(f"{stage.name} (holds {', '.join(foreign)})")
            return True
        if self._is_finished_grid(stage) and self._gives_way(stage):
            self._do("published its finished grid", self._publish_grid)
            return not self._dry
        self._do("removed an unfinished grid", lambda: shutil.rmtree(stage))
        return True

    def _is_finished_grid(self, stage: Path) -> bool:
        records = manifest_records(stage)
        if records is None or set(records) != set(GRID_FILES) or verify_folder(stage):
            return False
        return FeatureStore(stage).slide.slide_id == self.target.name.removesuffix(".zarr")

    def _gives_way(self, stage: Path) -> bool:
        """Whether there is no store, or one with a damaged grid whose features all belong to the finished one."""
        if not self.target.exists():
            return True
        if not _is_store(self.target) or not verify_folder(self.target):
            return False
        digest = FeatureStore(stage).grid_sha256
        described = [(_description(part) or {}).get("grid_sha256") for part in feature_folders(self.target)]
        return bool(described) and set(described) == {digest}

    def _publish_grid(self) -> None:
        shutil.rmtree(self._grid_stage / "features", ignore_errors=True)
        zarr.create_group(self._grid_stage / "features")
        if self.target.exists():
            self.target.rename(self._aside)
        self._grid_stage.rename(self.target)
        if self._aside.exists():
            self._exchange()
        fsync_path(self.target.parent)

    # --- the grid -----------------------------------------------------------------------------------------------

    def _remove_temporary(self, folder: Path) -> None:
        left = list(temporary_files(folder))
        if left:
            where = "" if folder == self.target else f" of {folder.name}"
            self._do(f"removed {_count(len(left), 'temporary file')}{where}", lambda: _unlink(left))

    def _grid_is_sound(self) -> bool:
        """Whether the grid is sound, now that it has been put right; says what is left if it is not."""
        if manifest_records(self.target) is None:
            if self._dry:
                self.found.done.append("looked whether its damaged manifest proves its grid")
                return False
            if salvage_manifest(self.target, GRID_FILES, []):
                self.found.done.append("wrote its manifest again, from what is left of it")
        damage = [one.where for one in verify_folder(self.target)]
        records = manifest_records(self.target)
        if records is not None and damage:
            damage = self._restored(self.target, damage, lambda: remade_grid(self.target))
        if damage:
            self.found.left.append(f"its grid is damaged ({damage[0]}): extract makes it again and keeps the features")
            return False
        self.found.kept += map(str, foreign_in_grid(self.target))
        group = self.target / "features"
        if not _is_group(group):
            self._do("described the group of features again", lambda: _describe_group(group))
        return True

    def _restored(self, folder: Path, damage: list[str], make: Callable[[], dict[str, bytes]]) -> list[str]:
        """Damaged files less those that could be made again."""
        records = manifest_records(folder) or {}
        made = proved(make(), records)
        where = "" if folder == self.target else f" of {folder.name}"
        for name in damage:
            if name in made:
                self._do(f"made {name}{where} again", lambda name=name: put(folder, name, made[name]))  # type: ignore[misc]
        return [name for name in damage if name not in made]

    # --- features -----------------------------------------------------------------------------------------------

    def _features(self, folder: Path) -> None:
        encoder = folder.name
        if not (_description(folder) or (folder / "values").exists() or (folder / "manifest.json").exists()):
            self.found.kept.append(f"features/{encoder}")
            return
        self._remove_temporary(folder)
        if manifest_records(folder) is None and not self._manifest_again(folder):
            return
        damage = [one.where for one in verify_folder(folder)]
        small = [name for name in damage if not name.startswith("values/c/")]
        if small:
            made = self._restored(folder, small, lambda: remade_features(folder, manifest_records(folder) or {}))
            if made:
                self.found.left.append(f"{encoder} is damaged ({made[0]}): extract computes it again")
                return
        if chunks := [name for name in damage if name.startswith("values/c/")]:
            self._reopen(folder, len(chunks))
            return
        if small and self._dry:
            return
        kept = _description(folder) or {}
        if kept.get("grid_sha256") != FeatureStore(self.target).grid_sha256:
            self.found.left.append(f"{encoder} belongs to another grid; remove features/{encoder} to compute it again")
            return
        self.found.kept += [f"features/{encoder}/{file}" for file in foreign_in_features(folder)]
        if (folder / ".journal").exists():
            self._do(f"ended the publication of {encoder}", lambda: shutil.rmtree(folder / ".journal"))

    def _manifest_again(self, folder: Path) -> bool:
        """Prove features whose manifest is damaged; False if there is nothing more to do about them here."""
        encoder, stage = folder.name, folder.with_name(f".{folder.name}.partial")
        if self._dry:
            self.found.done.append(f"looked what still proves {encoder}, whose manifest is damaged")
            return False
        if _sealed(folder) is not None and not stage.exists():
            self._do(f"took {encoder} back to its journal", lambda: folder.rename(stage))
            return False
        kept = _description(folder) or {}
        tiles, chunk_tiles = FeatureStore(self.target).meta["tiles"], kept.get("chunk_tiles")
        names = chunk_names(tiles, chunk_tiles) if isinstance(chunk_tiles, int) and chunk_tiles > 0 else []
        if names and salvage_manifest(folder, SMALL_FILES, names):
            self.found.done.append(f"wrote the manifest of {encoder} again, from what is left of it")
            return True
        self.found.left.append(f"nothing proves {encoder} any more (manifest.json): extract computes it again")
        return False

    def _reopen(self, folder: Path, chunks: int) -> None:
        encoder, stage = folder.name, folder.with_name(f".{folder.name}.partial")
        lost = _count(chunks, "damaged chunk")
        if foreign := foreign_in_features(folder):
            self.found.kept += [f"features/{encoder}/{file}" for file in foreign]
            self.found.left.append(
                f"{encoder} has {lost}, and files that are not of a store; move those elsewhere first"
            )
            return
        if stage.exists() and list(_records(stage)) and not self._drop:
            self.found.left.append(f"{encoder} has {lost}, and an unfinished stage; --drop-unfinished removes that")
            return
        store, card = FeatureStore(self.target), dict((_description(folder) or {})["card"])
        self._do(f"took {lost} out of {encoder}", lambda: reopen_damaged(store, card))
        if self._dry:
            self.found.left.append(f"{_count(chunks, 'chunk')} of {encoder} for extract")

    def _stage(self, stage: Path) -> None:
        """Publish features that are finished, remove a stage in which nothing is, and keep all others."""
        encoder = stage.name[1:].removesuffix(".partial")
        finished = list(_records(stage))
        kept = _sealed(stage)
        if foreign := foreign_in_features(stage):
            self.found.kept += [f"features/{stage.name}/{file}" for file in foreign]
            self.found.left.append(f"{stage.name} holds files that are not of a store; move those elsewhere first")
        elif not finished or (self._drop and (kept is None or not self._is_ready(encoder, kept))):
            what = f" with {_count(len(finished), 'finished chunk')}" if finished else ""
            self._do(f"removed the unfinished {encoder}{what}", lambda: shutil.rmtree(stage))
            if not (stage.parent / encoder).exists():
                self.found.left.append(f"{encoder} for extract")
        elif kept is None:
            self.found.left.append(f"{encoder} is unfinished and its description damaged: extract begins it again")
        elif kept.get("grid_sha256") != FeatureStore(self.target).grid_sha256:
            self.found.left.append(f"the unfinished {encoder} belongs to another grid; --drop-unfinished removes it")
        elif (stage.parent / encoder).exists():
            self.found.left.append(f"{encoder} is there, and an unfinished stage; --drop-unfinished removes that")
        elif todo := self._writer(encoder, kept).todo():
            self.found.left.append(f"{_count(len(todo), 'chunk')} of {encoder} for extract")
        elif not self._is_ready(encoder, kept):
            self.found.left.append(
                f"{encoder} has many bad tiles: publish it with a larger --max-bad, or extract again"
            )
        else:
            self._do(f"published the finished {encoder}", self._writer(encoder, kept).publish)

    def _is_ready(self, encoder: str, kept: dict[str, Any]) -> bool:
        """Whether a stage holds all of the features that the store lacks, with few enough bad tiles."""
        writer = self._writer(encoder, kept)
        mine = kept.get("grid_sha256") == FeatureStore(self.target).grid_sha256
        if not mine or (self.target / "features" / encoder).exists() or writer.todo():
            return False
        bad = len(writer.bad_tiles())
        return bad < writer.tiles and bad <= self._max_bad * writer.tiles

    def _writer(self, encoder: str, kept: dict[str, Any]) -> FeatureWriter:
        tiles = int(FeatureStore(self.target).meta["tiles"])
        return FeatureWriter(self.target, encoder, tiles, kept["chunk_tiles"], kept["dim"], kept["dtype"])


def _unlink(files: list[Path]) -> None:
    for file in files:
        file.unlink()


def _records(stage: Path) -> Iterator[Path]:
    """The journal's records of finished chunks."""
    return (one for one in (stage / ".journal").glob("*.json") if one.stem.isdigit())


def _sealed(folder: Path) -> dict[str, Any] | None:
    """The description of features whose journal has it; None where there is no journal, or they differ."""
    try:
        sealed = json.loads((folder / ".journal" / "stage.json").read_bytes())
        whole = all(_same(folder / name, sealed[name]) for name in ("zarr.json", "values/zarr.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _description(folder) if whole else None


def _same(path: Path, record: dict[str, Any]) -> bool:
    found = file_record(path)
    return found["bytes"] == record["bytes"] and found["sha256"] == record["sha256"]


def _is_store(folder: Path) -> bool:
    """Whether a folder was written as a store, however damaged it is by now."""
    if _description(folder) is not None:
        return True
    try:
        return '"coords/zarr.json"' in (folder / "manifest.json").read_text(errors="replace")
    except OSError:
        return False


def _description(folder: Path) -> dict[str, Any] | None:
    """What a group says of itself, unchecked; None where that cannot be read."""
    try:
        kept = json.loads((folder / "zarr.json").read_bytes())["attributes"]["histograde"]
        return dict(kept) if kept["format"] == FORMAT_NAME else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_group(folder: Path) -> bool:
    """Whether a group without a manifest is described as one. Attributes may be anybody's."""
    try:
        said = json.loads((folder / "zarr.json").read_bytes())
        known = set(said) <= {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
        return bool(known and said["zarr_format"] == 3 and said["node_type"] == "group")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _describe_group(folder: Path) -> None:
    (folder / "zarr.json").unlink(missing_ok=True)
    zarr.create_group(folder)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
