"""The features of a store whose grid is sound: published ones put right or reopened, finished ones published.

On a disk features that are begun lie in a folder of their own, and may lie beside published ones. In a bucket they lie
in the published ones' place: there they are the one or the other.
"""

import json
from pathlib import Path
from typing import Any

from wsi.checked_note import forget_checked
from wsi.files import file_record, files_below, remove_tree
from wsi.repair_look import Look, count
from wsi.sealing import attributes_of, partial_of
from wsi.store import FeatureStore, finished_and_begun, verify_folder
from wsi.store_lock import check_lock
from wsi.store_remains import foreign_in_features
from wsi.store_remake import SMALL_FILES, chunk_names, manifest_records, remade_features, salvage_manifest
from wsi.store_url import StorePath, StoreUrl
from wsi.store_writer import FeatureWriter, reopen_damaged


def mend_features(look: Look, store: FeatureStore) -> None:
    """Put right what is published, then what is begun: by now what was reopened is begun too."""
    for encoder in finished_and_begun(store.path / "features")[0]:
        _Published(look, store, encoder).mend()
    published, begun = finished_and_begun(store.path / "features")
    for encoder in begun:
        _Begun(look, store, encoder, published=encoder in published).mend()


class _Published:
    """Features that have their manifest, or have lost it."""

    def __init__(self, look: Look, store: FeatureStore, encoder: str) -> None:
        self._look, self._found, self._store, self._encoder = look, look.found, store, encoder
        self._folder = store.path / "features" / encoder
        self._partial = partial_of(self._folder)
        self._is_far = isinstance(self._folder, StoreUrl)
        self._leftover = self._partial if self._is_far else self._folder / ".journal"
        """What remains of the way to their publication."""

    def mend(self) -> None:
        """Put right what a manifest, or what is left of it, proves, and take damaged chunks out."""
        folder, encoder, found = self._folder, self._encoder, self._found
        if not (attributes_of(folder) or (folder / "values").exists() or (folder / "manifest.json").exists()):
            found.kept.append(f"features/{encoder}")
            return
        self._look.remove_temporary(folder)
        if manifest_records(folder) is None and not self._manifest_again():
            return
        damage = [one.where for one in verify_folder(folder)]
        small = [name for name in damage if not name.startswith("values/c/")]
        if small and (lost := self._look.make_again(folder, small, self._small_files)):
            found.left.append(f"{encoder} is damaged ({lost[0]}): {self._look.maker} computes it again")
            return
        if chunks := len(damage) - len(small):
            self._reopen(count(chunks, "damaged chunk"), count(chunks, "chunk"))
            return
        if small and self._look.dry:
            return
        if (attributes_of(folder) or {}).get("grid_sha256") != self._store.grid_sha256:
            found.left.append(f"{encoder} belongs to another grid; remove features/{encoder} to compute it again")
            return
        self._end_publication()

    def _small_files(self) -> dict[str, bytes]:
        return remade_features(self._folder, manifest_records(self._folder) or {})

    def _end_publication(self) -> None:
        self._found.kept += self._foreign()
        if self._leftover.exists() and not (self._is_far and foreign_in_features(self._partial)):
            self._look.do(f"ended the publication of {self._encoder}", lambda: remove_tree(self._leftover))

    def _foreign(self) -> list[str]:
        places = (self._folder, self._partial) if self._is_far else (self._folder,)
        return [f"features/{place.name}/{file}" for place in places for file in foreign_in_features(place)]

    def _manifest_again(self) -> bool:
        """Prove features whose manifest is damaged; False if there is nothing more to do about them here."""
        encoder, folder = self._encoder, self._folder
        if self._look.dry:
            self._found.done.append(f"looked what still proves {encoder}, whose manifest is damaged")
            return False
        journal = self._partial / ".journal" if self._is_far else self._leftover
        if _sealed(folder, journal) is not None and (self._is_far or not self._partial.exists()):
            self._look.do(f"took {encoder} back to its journal", self._take_back)
            return False
        tiles, chunk_tiles = self._store.meta["tiles"], (attributes_of(folder) or {}).get("chunk_tiles")
        names = chunk_names(tiles, chunk_tiles) if isinstance(chunk_tiles, int) and chunk_tiles > 0 else []
        check_lock(folder.parent.parent)
        if names and salvage_manifest(folder, SMALL_FILES, names):
            self._found.done.append(f"wrote the manifest of {encoder} again, from what is left of it")
            return True
        again = f"{self._look.maker} computes it again"
        self._found.left.append(f"nothing proves {encoder} any more (manifest.json): {again}")
        return False

    def _take_back(self) -> None:
        if isinstance(self._folder, Path):
            self._folder.rename(self._folder.with_name(self._partial.name))
        else:
            (self._folder / "manifest.json").unlink()

    def _reopen(self, lost: str, chunks: str) -> None:
        encoder, found = self._encoder, self._found
        if foreign := self._foreign():
            found.kept += foreign
            found.left.append(f"{encoder} has {lost}, and files that are not of a store; move those elsewhere first")
            return
        if not self._is_far and _finished(self._partial / ".journal") and not self._look.drop_unfinished:
            found.left.append(f"{encoder} has {lost}, and an unfinished stage; --drop-unfinished removes that")
            return
        card = dict((attributes_of(self._folder) or {})["card"])
        self._look.do(f"took {lost} out of {encoder}", lambda: self._take_out(card))
        if self._look.dry:
            found.left.append(f"{chunks} of {encoder} for {self._look.maker}")

    def _take_out(self, card: dict[str, Any]) -> None:
        forget_checked(self._folder)  # which would keep a chunk that went bad under its ETag from being read
        reopen_damaged(self._store, card)


class _Begun:
    """Features that are in the making; `published` if others of this name are published."""

    def __init__(self, look: Look, store: FeatureStore, encoder: str, *, published: bool) -> None:
        self._look, self._found, self._store, self._encoder = look, look.found, store, encoder
        self._published = published
        bare = FeatureWriter(store.path, encoder, 0, 0, 0, "")
        self._discard, self._stage, self._journal = bare.discard, bare.stage, bare.journal

    def mend(self) -> None:
        """Publish features that are finished, remove a stage in which nothing is, and keep all others."""
        encoder, left, maker = self._encoder, self._found.left, self._look.maker
        finished, kept = _finished(self._journal), _sealed(self._stage, self._journal)
        if foreign := self._foreign():
            self._found.kept += foreign
            where = partial_of(self._stage).name if isinstance(self._stage, StoreUrl) else self._stage.name
            left.append(f"{where} holds files that are not of a store; move those elsewhere first")
        elif not finished or (self._look.drop_unfinished and (kept is None or not self._is_ready(kept))):
            what = f" with {count(finished, 'finished chunk')}" if finished else ""
            self._look.do(f"removed the unfinished {encoder}{what}", self._discard)
            if not self._published:
                left.append(f"{encoder} for {maker}")
        elif kept is None:
            left.append(f"{encoder} is unfinished and its description damaged: {maker} begins it again")
        elif kept.get("grid_sha256") != self._store.grid_sha256:
            left.append(f"the unfinished {encoder} belongs to another grid; --drop-unfinished removes it")
        elif self._published:
            left.append(f"{encoder} is there, and an unfinished stage; --drop-unfinished removes that")
        elif todo := self._writer(kept).todo():
            left.append(f"{count(len(todo), 'chunk')} of {encoder} for {maker}")
        elif not self._is_ready(kept):
            left.append(f"{encoder} has many bad tiles: publish it with a larger --max-bad, or {maker} again")
        else:
            self._look.do(f"published the finished {encoder}", self._writer(kept).publish)

    def _foreign(self) -> list[str]:
        places = dict.fromkeys((self._stage, self._journal.parent))
        return [f"features/{place.name}/{file}" for place in places for file in foreign_in_features(place)]

    def _is_ready(self, kept: dict[str, Any]) -> bool:
        """Whether the stage holds all of the features that the store lacks, with few enough bad tiles."""
        writer = self._writer(kept)
        mine = kept.get("grid_sha256") == self._store.grid_sha256
        if not mine or self._published or writer.todo():
            return False
        bad = len(writer.bad_tiles())
        return bad < writer.tiles and bad <= self._look.max_bad * writer.tiles

    def _writer(self, kept: dict[str, Any]) -> FeatureWriter:
        tiles, chunk_tiles = int(self._store.meta["tiles"]), kept["chunk_tiles"]
        return FeatureWriter(self._store.path, self._encoder, tiles, chunk_tiles, kept["dim"], kept["dtype"])


def _finished(journal: StorePath) -> int:
    """How many chunks a journal has a record of, sound or not."""
    return sum(name.removesuffix(".json").isdigit() for name in files_below(journal))


def _sealed(folder: StorePath, journal: StorePath) -> dict[str, Any] | None:
    """The description of features whose journal has it; None where there is no journal, or they differ."""
    try:
        sealed = json.loads((journal / "stage.json").read_bytes())
        for name in ("zarr.json", "values/zarr.json"):
            found = file_record(folder / name)
            if (found["bytes"], found["sha256"]) != (sealed[name]["bytes"], sealed[name]["sha256"]):
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return attributes_of(folder)
