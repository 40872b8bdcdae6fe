"""Repair without the slide: what is proved comes back to the same bytes, and nothing else is made to look sound."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import CARD
from tests.hostile.makers import flip
from wsi import store_writer
from wsi.errors import WsiError
from wsi.slide import SlideInfo
from wsi.store import FeatureStore
from wsi.store_check import check_store
from wsi.store_repair import LOCK_TAKEN_AWAY, Repair, repair_slide, slide_ids
from wsi.store_writer import FeatureWriter, begin_features, publish_grid, slide_lock
from wsi.tiles import BadTile, TileSpec, tile_grid
from wsi.tissue import TissueMask

INFO = SlideInfo("s", "x", "x", ((1200, 900),), (1.0,), (0.5, 0.5), "x", None, (0, 0, 1200, 900), "ab" * 32)
SPEC = TileSpec(tile_px=64, mpp=0.5, stride_px=64)
TISSUE = TissueMask(np.tri(90, 120, 40, bool), (10.0, 10.0), (0, 0), (0.5, 0.5))
GRID = tile_grid(INFO, TISSUE, SPEC)
RECIPE = {"tiles": SPEC.to_dict(), "tissue": {"method": "x"}}
VALUES = np.random.default_rng(1).random((len(GRID), CARD.dim)).astype(np.float32)
ONE_REASON = (BadTile(5, "level 0: torn"), BadTile(40, "level 0: torn"))
TWO_REASONS = (BadTile(5, "level 0: torn"), BadTile(40, "level 0: burnt"))
CHUNK = 32
TEMPORARY = "0." + "0123456789abcdef" * 2 + ".partial"


def lay(root: Path) -> FeatureStore:
    return publish_grid(root, INFO, TISSUE, GRID, RECIPE)


def write(writer: FeatureWriter, chunks: list[int] | None = None, bad: tuple[BadTile, ...] = ()) -> None:
    for chunk in writer.todo() if chunks is None else chunks:
        rows = writer.rows(chunk)
        here = tuple(one for one in bad if one.row in rows)
        good = np.setdiff1d(rows, [one.row for one in here])
        writer.write(chunk, good, VALUES[good], here)


def begin(root: Path, bad: tuple[BadTile, ...] = (), chunks: list[int] | None = None) -> FeatureWriter:
    """Features begun, and some or all chunks written."""
    writer = begin_features(lay(root), CARD.to_dict(), chunk_tiles=CHUNK)
    write(writer, chunks, bad)
    return writer


def make(root: Path, bad: tuple[BadTile, ...] = ()) -> Path:
    begin(root, bad).publish()
    return root / "s.zarr"


def contents(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}


def extract(root: Path, bad: tuple[BadTile, ...] = ()) -> list[int]:
    """What `extract` does with features that are begun; the chunks it computes."""
    writer = begin_features(FeatureStore(root / "s.zarr"), CARD.to_dict(), chunk_tiles=CHUNK)
    todo = writer.todo()
    write(writer, todo, bad)
    writer.publish()
    return todo


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound store's root. Do not write to it."""
    root = tmp_path_factory.mktemp("whole")
    make(root)
    return root


@pytest.fixture(scope="module")
def expected(whole: Path) -> dict[str, bytes]:
    return contents(whole / "s.zarr")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "root"))


def repaired(root: Path, **options: bool) -> Repair:
    """Repair after a dry run that must write nothing; afterwards a second repair finds nothing to do."""
    before = contents(root)
    seen = repair_slide(root, "s", dry_run=True, **options)
    assert contents(root) == before, "a dry run writes"
    found = repair_slide(root, "s", **options)
    assert bool(seen.done) >= bool(found.done), "a dry run announces what is done"
    assert repair_slide(root, "s", **options).done == []
    return found


def test_chunks_and_tissue_are_what_the_tests_take_them_for(whole: Path) -> None:
    store = FeatureStore(whole / "s.zarr")
    assert 3 * CHUNK < len(GRID) < 18 * 14, "several chunks, and not every place is a tile"
    assert store.verify() == []


def test_a_sound_store_is_neither_written_nor_locked(root: Path, expected: dict[str, bytes]) -> None:
    with slide_lock(root, "s"):
        stamp = os.stat(root).st_mtime_ns
        found = repair_slide(root, "other")
        assert (found.done, found.left) == ([], [])
        assert os.stat(root).st_mtime_ns == stamp
    found = repair_slide(root, "s")
    assert (found.done, found.left, found.kept) == ([], [], [])
    assert found.line() == "s.zarr: sound"
    assert contents(root / "s.zarr") == expected


def test_a_store_that_a_run_works_on_is_left_alone(root: Path) -> None:
    flip(root / "s.zarr" / "features" / "toy" / "values" / "c" / "1" / "0", 9)
    before = contents(root)
    with slide_lock(root, "s"):
        found = repair_slide(root, "s")
        assert found.left == ["another run is at work on it"]
        assert found.done == []
    assert contents(root) == before


def test_the_lock_of_a_dead_run_is_taken_away(root: Path) -> None:
    (root / ".s.lock").touch()
    assert slide_ids(root) == ["s"]
    assert repaired(root).done == [LOCK_TAKEN_AWAY]
    assert [part.name for part in root.iterdir()] == ["s.zarr"]


# --- publications that were cut short -------------------------------------------------------------------------------


def test_finished_features_are_published(tmp_path: Path, expected: dict[str, bytes]) -> None:
    begin(tmp_path)
    found = repaired(tmp_path)
    assert found.done == ["published the finished toy"]
    assert found.left == []
    assert contents(tmp_path / "s.zarr") == expected


@pytest.mark.parametrize("last", ["seal", "fsync_path", "write_array"])
def test_a_publication_that_was_killed_is_finished(
    tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    writer = begin(tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_writer, last, crash)
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
    assert repaired(tmp_path).left == []
    assert contents(tmp_path / "s.zarr") == expected


def test_features_with_many_bad_tiles_are_left_to_extract(tmp_path: Path) -> None:
    bad = tuple(BadTile(row, "level 0: torn") for row in range(len(GRID) // 4))
    begin(tmp_path, bad)
    found = repaired(tmp_path)
    assert found.done == []
    assert "many bad tiles" in found.left[0]
    assert repair_slide(tmp_path, "s", max_bad=0.3).done == ["published the finished toy"]


def test_unfinished_features_keep_their_chunks(tmp_path: Path, expected: dict[str, bytes]) -> None:
    writer = begin(tmp_path, chunks=[0, 2])
    before = contents(tmp_path)
    found = repaired(tmp_path)
    assert found.done == []
    assert found.left == [f"{writer.chunks - 2} chunks of toy for extract"]
    assert contents(tmp_path) == before
    assert len(extract(tmp_path)) == writer.chunks - 2
    assert contents(tmp_path / "s.zarr") == expected


def test_unfinished_features_go_if_that_is_asked_for(tmp_path: Path) -> None:
    begin(tmp_path, chunks=[0, 2])
    found = repaired(tmp_path, drop_unfinished=True)
    assert found.done == ["removed the unfinished toy with 2 finished chunks"]
    assert found.left == ["toy for extract"]
    assert [part.name for part in (tmp_path / "s.zarr" / "features").iterdir()] == ["zarr.json"]


def test_finished_features_are_published_even_if_unfinished_ones_go(tmp_path: Path, expected: dict[str, bytes]) -> None:
    begin(tmp_path)
    assert repaired(tmp_path, drop_unfinished=True).done == ["published the finished toy"]
    assert contents(tmp_path / "s.zarr") == expected


@pytest.mark.parametrize("kind", ["begun", "empty", "torn"])
def test_a_stage_in_which_nothing_is_finished_goes(root: Path, expected: dict[str, bytes], kind: str) -> None:
    stage = root / "s.zarr" / "features" / ".other.partial"
    if kind == "begun":
        card = {**CARD.to_dict(), "name": "other"}
        begin_features(FeatureStore(root / "s.zarr"), card, chunk_tiles=CHUNK)
        (stage / "values" / "c" / "0").mkdir(parents=True)
        (stage / "values" / "c" / "0" / TEMPORARY).write_bytes(b"half a chunk")
    else:
        (stage / ".journal").mkdir(parents=True)
        if kind == "torn":
            (stage / "zarr.json").write_text("{")
    found = repaired(root)
    assert found.done == ["removed the unfinished other"]
    assert found.left == ["other for extract"]
    assert contents(root / "s.zarr") == expected


def test_a_stage_whose_description_is_damaged_is_kept_and_named(tmp_path: Path) -> None:
    writer = begin(tmp_path, chunks=[0])
    flip(writer.stage / "zarr.json", 100)
    before = contents(tmp_path)
    assert "its description damaged: extract begins it again" in repaired(tmp_path).left[0]
    assert contents(tmp_path) == before
    assert repaired(tmp_path, drop_unfinished=True).done == ["removed the unfinished toy with 1 finished chunk"]


def test_a_stage_of_another_grid_is_never_published(tmp_path: Path) -> None:
    writer = begin(tmp_path)
    stage = Path(shutil.move(writer.stage, tmp_path / "stage"))
    shutil.rmtree(tmp_path / "s.zarr")
    other = tile_grid(INFO, TISSUE, TileSpec(tile_px=64, mpp=0.5, stride_px=64, min_tissue=0.9))
    publish_grid(tmp_path, INFO, TISSUE, other, RECIPE)
    shutil.move(stage, writer.stage)
    before = contents(tmp_path)
    assert "belongs to another grid" in repaired(tmp_path).left[0]
    assert contents(tmp_path) == before


def test_an_unfinished_stage_beside_published_features_is_kept(root: Path, expected: dict[str, bytes]) -> None:
    toy = root / "s.zarr" / "features" / "toy"
    shutil.copytree(toy, toy.with_name(".toy.partial"))
    (toy.with_name(".toy.partial") / ".journal").mkdir()
    assert repaired(root).done == ["removed the unfinished toy"], "nothing in it is journalled"
    assert contents(root / "s.zarr") == expected


# --- grids that were cut short --------------------------------------------------------------------------------------


def stop_at(root: Path, patch: pytest.MonkeyPatch, owner: object, name: str, step: int) -> None:
    """Lay the grid, and stop before the n-th call."""
    original, left = getattr(owner, name), step

    def count(*arguments: object, **named: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    with patch.context() as inside:
        inside.setattr(owner, name, count)
        with pytest.raises(KeyboardInterrupt):
            lay(root)


@pytest.mark.parametrize("step", range(4))
def test_a_repair_of_a_grid_that_was_killed_is_finished(
    root: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The renames are: the damaged store aside, the new one to its place, the features, and none."""
    flip(root / "s.zarr" / "tissue" / "c" / "0" / "0", 20)
    if step < 3:
        stop_at(root, monkeypatch, Path, "rename", step)
    else:
        stop_at(root, monkeypatch, shutil, "rmtree", 0)
    found = repaired(root)
    assert contents(root / "s.zarr") == expected
    assert [part.name for part in root.iterdir()] == ["s.zarr"]
    assert found.left == []


def test_a_finished_grid_is_published(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(tmp_path, monkeypatch, Path, "rename", 0)
    shutil.rmtree(tmp_path / ".s.zarr.partial" / "features")
    found = repaired(tmp_path)
    assert found.done == ["published its finished grid"]
    grid = {name: data for name, data in contents(whole / "s.zarr").items() if "toy" not in name}
    assert contents(tmp_path / "s.zarr") == grid


@pytest.mark.parametrize("damage", ["coords/c/0/0", "manifest.json", "zarr.json"])
def test_an_unfinished_grid_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    stop_at(tmp_path, monkeypatch, Path, "rename", 0)
    (tmp_path / ".s.zarr.partial" / damage).unlink()
    assert repaired(tmp_path).done == ["removed an unfinished grid"]
    assert list(tmp_path.iterdir()) == []


def test_a_finished_grid_of_another_slide_does_not_displace_features(root: Path, expected: dict[str, bytes]) -> None:
    from dataclasses import replace

    other = root / "other"
    publish_grid(other, replace(INFO, content_hash="cd" * 32), TISSUE, GRID, RECIPE)
    (other / "s.zarr").rename(root / ".s.zarr.partial")
    shutil.rmtree(other)
    flip(root / "s.zarr" / "tissue" / "c" / "0" / "0", 20)
    found = repaired(root)
    assert found.done == ["removed an unfinished grid"]
    assert "its grid is damaged (tissue/c/0/0)" in found.left[0]
    assert set(contents(root / "s.zarr")) == set(expected)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flip", "delete", "cut"])
@pytest.mark.parametrize(
    "name", ["coords/c/0/0", "coords/zarr.json", "tissue_fraction/c/0", "tissue_fraction/zarr.json"]
)
def test_coords_follow_from_tissue_and_recipe(root: Path, expected: dict[str, bytes], name: str, how: str) -> None:
    harm(root / "s.zarr" / name, how)
    found = repaired(root)
    assert found.done == [f"made {name} again"]
    assert found.left == []
    assert contents(root / "s.zarr") == expected


def harm(file: Path, how: str) -> None:
    if how == "flip":
        flip(file, file.stat().st_size // 2)
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-3])
    else:
        file.unlink()


@pytest.mark.parametrize("name", ["tissue/c/0/0", "tissue/zarr.json", "zarr.json"])
def test_what_only_the_slide_tells_is_left_as_it_is(root: Path, name: str) -> None:
    flip(root / "s.zarr" / name, 60)
    before = contents(root)
    found = repaired(root)
    assert found.done == []
    assert found.left == [f"its grid is damaged ({name}): extract makes it again and keeps the features"]
    assert contents(root) == before


def test_coords_that_follow_but_are_not_the_listed_ones_are_not_taken(root: Path) -> None:
    """The manifest is the judge: here it lists other coords than those that the tissue gives."""
    manifest = root / "s.zarr" / "manifest.json"
    kept = json.loads(manifest.read_bytes())
    kept["files"]["coords/c/0/0"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(kept))
    before = contents(root)
    assert "coords/c/0/0" in repaired(root).left[0]
    assert contents(root) == before


@pytest.mark.parametrize("how", ["flip", "delete", "cut"])
@pytest.mark.parametrize("name", ["values/zarr.json", "bad/zarr.json", "bad/c/0"])
def test_small_files_of_features_follow_from_the_others(
    root: Path, expected: dict[str, bytes], name: str, how: str
) -> None:
    harm(root / "s.zarr" / "features" / "toy" / name, how)
    found = repaired(root)
    assert found.done == [f"made {name} of toy again"]
    assert found.left == []
    assert contents(root / "s.zarr") == expected


@pytest.mark.parametrize(
    ("bad", "name", "can_be"),
    [
        (ONE_REASON, "bad/c/0", True),
        (ONE_REASON, "bad/zarr.json", False),
        (TWO_REASONS, "bad/c/0", False),
        (TWO_REASONS, "values/zarr.json", True),
        ((), "zarr.json", False),
    ],
)
def test_reasons_and_cards_are_not_guessed(tmp_path: Path, bad: tuple[BadTile, ...], name: str, can_be: bool) -> None:
    expected = contents(make(tmp_path, bad))
    (tmp_path / "s.zarr" / "features" / "toy" / name).unlink()
    found = repaired(tmp_path)
    assert bool(found.done) is can_be
    assert (contents(tmp_path / "s.zarr") == expected) is can_be
    assert found.left == ([] if can_be else [f"toy is damaged ({name}): extract computes it again"])


@pytest.mark.parametrize("how", ["flip", "delete", "cut"])
def test_damaged_chunks_are_computed_again_and_no_others(root: Path, expected: dict[str, bytes], how: str) -> None:
    for chunk in (1, 3):
        harm(root / "s.zarr" / "features" / "toy" / "values" / "c" / str(chunk) / "0", how)
    found = repaired(root)
    assert found.done == ["took 2 damaged chunks out of toy"]
    assert found.left == ["2 chunks of toy for extract"]
    assert FeatureStore(root / "s.zarr").encoders == []
    assert extract(root) == [1, 3]
    assert contents(root / "s.zarr") == expected


def test_a_swapped_chunk_is_damage_although_its_own_checksum_agrees(root: Path, expected: dict[str, bytes]) -> None:
    chunks = root / "s.zarr" / "features" / "toy" / "values" / "c"
    shutil.copyfile(chunks / "0" / "0", chunks / "1" / "0")
    assert repaired(root).left == ["1 chunk of toy for extract"]
    assert extract(root) == [1]
    assert contents(root / "s.zarr") == expected


def test_a_damaged_chunk_is_not_taken_out_over_begun_work_of_the_same_name(root: Path) -> None:
    toy = root / "s.zarr" / "features" / "toy"
    stage = toy.with_name(".toy.partial")
    shutil.copytree(toy, stage)
    (stage / ".journal").mkdir()
    (stage / ".journal" / "000000.json").write_text("{}")
    flip(toy / "values" / "c" / "1" / "0", 9)
    before = contents(root)
    found = repaired(root)
    assert "1 damaged chunk, and an unfinished stage" in found.left[0]
    assert contents(root) == before
    assert "took 1 damaged chunk out of toy" in repair_slide(root, "s", drop_unfinished=True).done


# --- manifests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "features/toy/"])
def test_a_manifest_of_which_the_records_are_whole_is_written_again(
    root: Path, expected: dict[str, bytes], folder: str
) -> None:
    file = root / "s.zarr" / f"{folder}manifest.json"
    data = file.read_bytes()
    for torn in (data[1:], data[:-4], data.replace(b'"files"', b'"fi\x80es"')):
        file.write_bytes(torn)
        found = repaired(root)
        assert "manifest" in found.done[0]
        assert found.left == []
        assert contents(root / "s.zarr") == expected


@pytest.mark.parametrize("folder", ["", "features/toy/"])
def test_a_manifest_that_is_lost_proves_nothing(root: Path, folder: str) -> None:
    (root / "s.zarr" / f"{folder}manifest.json").unlink()
    before = contents(root)
    found = repair_slide(root, "s")
    assert found.done == []
    assert "extract" in found.left[0]
    assert contents(root) == before, "chunks that agree with their own CRC-32C alone are not blessed"


def test_a_chunk_whose_record_was_hit_is_computed_again(root: Path, expected: dict[str, bytes]) -> None:
    file = root / "s.zarr" / "features" / "toy" / "manifest.json"
    data = file.read_bytes()
    place = data.index(b'"values/c/2/0"')
    file.write_bytes(data[:place] + b"\x00" * 30 + data[place + 30 :])
    found = repaired(root)
    assert found.left == ["1 chunk of toy for extract"]
    assert extract(root) == [2]
    assert contents(root / "s.zarr") == expected


def test_a_torn_manifest_saves_the_chunks_whose_records_are_there(tmp_path: Path) -> None:
    """Records are sorted by name: zarr.json is the last, so that a torn manifest proves no description."""
    root = tmp_path / "root"
    file = make(root) / "features" / "toy" / "manifest.json"
    file.write_bytes(file.read_bytes()[:-400])
    before = contents(root)
    assert "nothing proves toy any more" in repair_slide(root, "s").left[0]
    assert contents(root) == before


def test_a_journal_proves_features_whose_manifest_is_gone(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A publication that was killed after the rename, and lost its manifest: the journal is still there."""
    writer = begin(tmp_path)
    journal = contents(writer.journal)
    writer.publish()
    toy = tmp_path / "s.zarr" / "features" / "toy"
    (toy / ".journal").mkdir()
    for name, data in journal.items():
        (toy / ".journal" / name).write_bytes(data)
    (toy / "manifest.json").unlink()
    flip(toy / "values" / "c" / "2" / "0", 30)
    found = repaired(tmp_path)
    assert found.done == ["took toy back to its journal"]
    assert found.left == ["1 chunk of toy for extract"]
    assert extract(tmp_path) == [2]
    assert contents(tmp_path / "s.zarr") == expected


def test_the_journal_of_a_finished_publication_goes(root: Path, expected: dict[str, bytes]) -> None:
    (root / "s.zarr" / "features" / "toy" / ".journal").mkdir()
    assert repaired(root).done == ["ended the publication of toy"]
    assert contents(root / "s.zarr") == expected


def test_the_group_of_features_is_described_again(root: Path, expected: dict[str, bytes]) -> None:
    file = root / "s.zarr" / "features" / "zarr.json"
    for wrong in (b"{", file.read_bytes().replace(b"format", b"fotmat")):
        file.write_bytes(wrong)
        assert repaired(root).done == ["described the group of features again"]
        assert contents(root / "s.zarr") == expected


# --- what is of others ----------------------------------------------------------------------------------------------


def test_temporary_files_go_and_files_of_others_stay(root: Path, expected: dict[str, bytes]) -> None:
    store = root / "s.zarr"
    mine = [store / "Thumbs.db", store / "features" / "notes.txt", store / "features" / "toy" / "x.partial"]
    left = [store / ".manifest.json.77.tmp", store / "coords" / "c" / "0" / TEMPORARY]
    left += [store / "features" / "toy" / "values" / "c" / "1" / TEMPORARY]
    for file in (*mine, *left):
        file.write_bytes(b"x")
    (store / "features" / "drawings").mkdir()
    (store / "features" / "drawings" / "a.svg").write_text("<svg/>")
    found = repaired(root)
    assert found.done == ["removed 2 temporary files", "removed 1 temporary file of toy"]
    assert found.left == []
    assert found.kept == ["Thumbs.db", "features/notes.txt", "features/drawings", "features/toy/x.partial"]
    added = {file.relative_to(store).as_posix(): b"x" for file in mine} | {"features/drawings/a.svg": b"<svg/>"}
    assert contents(store) == expected | added


def test_a_file_of_others_in_damaged_features_stops_their_repair(root: Path) -> None:
    """When features are published again, what lies among their chunks would be swept or listed."""
    toy = root / "s.zarr" / "features" / "toy"
    flip(toy / "values" / "c" / "1" / "0", 9)
    (toy / "values" / "c" / "notes.txt").write_text("mine")
    before = contents(root)
    found = repaired(root)
    assert found.done == []
    assert found.kept == ["features/toy/values/c/notes.txt"]
    assert "move those elsewhere first" in found.left[0]
    assert contents(root) == before


def test_a_file_of_others_in_a_grid_that_is_exchanged_is_carried_over(
    root: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(root / "s.zarr" / "tissue" / "c" / "0" / "0", 20)
    (root / "s.zarr" / "notes.txt").write_text("mine")
    stop_at(root, monkeypatch, Path, "rename", 2)
    found = repaired(root)
    assert found.done == ["finished the exchange of its grid"]
    assert contents(root / "s.zarr") == expected | {"notes.txt": b"mine"}
    assert not (root / ".s.zarr.old").exists()


def test_a_file_of_others_in_a_stage_keeps_it(root: Path) -> None:
    for stage in (root / ".s.zarr.partial", root / "s.zarr" / "features" / ".other.partial"):
        stage.mkdir()
        (stage / "thesis.docx").write_text("mine")
    before = contents(root)
    found = repaired(root)
    assert found.done == []
    assert [one.split(" ")[0] for one in found.kept] == [
        ".s.zarr.partial",
        "features/.other.partial/thesis.docx",
    ]
    assert contents(root) == before


def test_a_folder_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    for name in ("s.zarr", ".s.zarr.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        (tmp_path / name / "data").write_text("mine")
    before = contents(tmp_path)
    found = repaired(tmp_path)
    assert found.done == []
    assert found.kept == [".s.zarr.old"]
    assert "is not a feature store" in found.left[0]
    assert contents(tmp_path) == before


def test_a_store_of_a_newer_version_is_left_alone(root: Path) -> None:
    file = root / "s.zarr" / "zarr.json"
    file.write_text(file.read_text().replace('"format_version": 1', '"format_version": 2'))
    (root / "s.zarr" / ".manifest.json.77.tmp").touch()
    before = contents(root)
    assert "format version 2" in repaired(root).left[0]
    assert contents(root) == before


def test_names_that_are_of_slides(tmp_path: Path) -> None:
    for name in ("b.zarr", "a.b.zarr", ".c.zarr.partial", ".d.zarr.old", ".e.lock", ".zarr", "x.txt", ".f.zarr", "log"):
        (tmp_path / name).mkdir()
    assert slide_ids(tmp_path) == ["a.b", "b", "c", "d", "e"]


def damage_somehow(chance: random.Random, store: Path) -> None:
    file = chance.choice(sorted(one for one in store.rglob("*") if one.is_file()))
    data = bytearray(file.read_bytes())
    place = chance.randrange(len(data))
    kind = chance.choice(("flip", "cut", "zero", "delete", "grow"))
    if kind == "flip":
        data[place] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del data[place:]
    elif kind == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == "grow":
        data[place:place] = b"7"
    file.unlink()
    if kind != "delete":
        file.write_bytes(data)


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_is_blessed(root: Path, expected: dict[str, bytes], seed: int) -> None:
    """After any damage and a repair, what the store calls sound is what was written."""
    chance = random.Random(seed)
    for _ in range(1 + seed % 3):
        damage_somehow(chance, root / "s.zarr")
    found = repair_slide(root, "s")
    checked = check_store(root / "s.zarr")
    after = contents(root / "s.zarr")
    if not checked.damaged and checked.complete:
        assert after == expected, found
    elif not checked.damaged:
        stage = root / "s.zarr" / "features" / ".toy.partial"
        if stage.exists():
            extract(root)
            assert contents(root / "s.zarr") == expected, found
    else:
        assert found.left, (checked, found)


def test_an_error_names_its_store_and_ends_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wsi.repair_grid as module

    def fail(error: Exception) -> Callable[[Path], object]:
        def raising(_: Path) -> object:
            raise error

        return raising

    for error, said in (
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (WsiError("s.zarr: odd"), "odd"),
        (ZeroDivisionError("x"), "ZeroDivisionError"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, "verify_folder", fail(error))
            assert said in repair_slide(root, "s").left[0]
