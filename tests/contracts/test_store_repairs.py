"""What repair promises of a store on a disk it promises of one in a bucket: the same words, the same bytes."""

import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import CARD
from mil.testing import toy_card, write_store
from tests.store_places import (
    CHUNK,
    GOOD,
    GRID,
    INFO,
    RECIPE,
    TISSUE,
    VALUES,
    Crash,
    contents,
    dying,
    flip,
    hidden,
    in_memory,
    leases_of_the_dead_end_at_once,
    run,
    write,
)
from wsi import lease, object_store, store_repair
from wsi.errors import UnreachableStoreError
from wsi.files import files_below
from wsi.lease import clock_of
from wsi.repair_look import Look
from wsi.store import CHUNK_TILES, FeatureStore, store_paths
from wsi.store_check import check_store
from wsi.store_lock import lock_of
from wsi.store_repair import LOCK_TAKEN_AWAY, Repair, repair_slide, slide_ids
from wsi.store_url import StorePath, StoreUrl
from wsi.store_writer import begin_features, publish_grid, slide_lock
from wsi.tiles import BadTile

pytest.importorskip("obstore")

NAME = "s 1"
FAR = StoreUrl("s3://stores/a b")


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> StoreUrl:
    """A place in a bucket that is not there yet; leases of runs that are gone end at once."""
    leases_of_the_dead_end_at_once(monkeypatch)
    in_memory(monkeypatch)
    return FAR


@pytest.fixture(params=["disk", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StorePath:
    """A place for stores that is not there yet. `tests/workflows/test_bucket_archive.py` repairs on a real server."""
    if request.param == "disk":
        return tmp_path / "a b"
    in_memory(monkeypatch)
    return FAR


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of an undisturbed run on a disk."""
    root = tmp_path_factory.mktemp("whole")
    run(root)
    return contents(root / f"{NAME}.zarr")


def everything(root: StorePath) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in files_below(root)}


def repaired(root: StorePath, **options: bool) -> Repair:
    """Repair after a dry run that must write nothing; afterwards a second repair finds nothing to do."""
    before = everything(root)
    seen = repair_slide(root, NAME, dry_run=True, **options)
    assert everything(root) == before, "a dry run writes"
    found = repair_slide(root, NAME, **options)
    assert bool(seen.done) >= bool(found.done), "a dry run announces what is done"
    assert repair_slide(root, NAME, **options).done == []
    return found


def harm(file: StorePath, how: str) -> None:
    if how == "delete":
        file.unlink()
    else:
        flip(file, len(file.read_bytes()) // 2)


def test_a_sound_store_is_neither_written_nor_locked(root: StorePath) -> None:
    run(root)
    before = everything(root)
    found = repair_slide(root, NAME)
    assert (found.done, found.left, found.kept) == ([], [], [])
    assert everything(root) == before
    assert slide_ids(root) == [NAME]


@pytest.mark.parametrize("how", ["flip", "delete"])
def test_every_damage_is_mended_as_on_a_disk(
    far: StoreUrl, tmp_path: Path, expected: dict[str, bytes], how: str
) -> None:
    near = tmp_path / "near"
    for place in (near, far):
        run(place)
    for name in expected:
        said = []
        for place in (near, far):
            store = place / f"{NAME}.zarr"
            harm(store / name, how)
            found = repaired(place)
            said.append((found.done, found.left, found.kept))
            if not found.left:
                assert contents(store) == expected, (place, name)
                assert not check_store(store).findings
            assert run(place) <= 1 or not name.startswith("features/toy/values/c/")
            assert contents(store) == expected, (place, name)
            assert hidden(place) == [], name
        assert said[0] == said[1], name
        assert said[0][0] or said[0][1], f"nothing was said of {name}"


def test_bad_tiles_are_listed_again_where_all_have_one_reason(root: StorePath) -> None:
    bad = (BadTile(5, "level 0: torn"), BadTile(40, "level 0: torn"))
    with slide_lock(root, NAME):
        writer = begin_features(publish_grid(root, INFO, TISSUE, GRID, RECIPE), CARD.to_dict(), chunk_tiles=CHUNK)
        for chunk in writer.todo():
            rows = writer.rows(chunk)
            here = tuple(one for one in bad if one.row in rows)
            good = np.setdiff1d(rows, [one.row for one in here])
            writer.write(chunk, good, VALUES[good], here)
        writer.publish()
    before = contents(root / f"{NAME}.zarr")
    (root / f"{NAME}.zarr/features/toy/bad/c/0").unlink()
    (root / f"{NAME}.zarr/features/toy/values/zarr.json").unlink()
    assert repaired(root).done == ["made bad/c/0 of toy again", "made values/zarr.json of toy again"]
    assert contents(root / f"{NAME}.zarr") == before


def test_a_torn_manifest_is_written_again(root: StorePath, expected: dict[str, bytes]) -> None:
    run(root)
    for name in ("manifest.json", "features/toy/manifest.json"):
        file = root / f"{NAME}.zarr" / name
        file.write_bytes(file.read_bytes()[:-4])
        assert repaired(root).left == []
        assert contents(root / f"{NAME}.zarr") == expected


def test_finished_features_are_published(root: StorePath, expected: dict[str, bytes]) -> None:
    run(root, only=[0, 1, 2, 3, 4])
    assert repaired(root).done == ["published the finished toy"]
    assert contents(root / f"{NAME}.zarr") == expected
    assert hidden(root) == []


def test_unfinished_features_keep_their_chunks_unless_they_are_to_go(root: StorePath) -> None:
    run(root, only=[0, 2])
    before = everything(root)
    found = repaired(root)
    assert (found.done, found.left) == ([], ["3 chunks of toy for extract"])
    assert everything(root) == before
    found = repaired(root, drop_unfinished=True)
    assert found.done == ["removed the unfinished toy with 2 finished chunks"]
    assert hidden(root) == []
    assert run(root) == 5


def test_features_in_which_nothing_is_finished_go(root: StorePath) -> None:
    run(root, only=[])
    found = repaired(root)
    assert (found.done, found.left) == (["removed the unfinished toy"], ["toy for extract"])
    assert hidden(root) == []


def test_files_of_others_are_kept(root: StorePath, expected: dict[str, bytes]) -> None:
    run(root)
    store = root / f"{NAME}.zarr"
    (store / "features/toy/Thumbs.db").write_bytes(b"x")
    (store / "notes.txt").write_bytes(b"x")
    found = repaired(root)
    assert (found.done, found.left, found.kept) == ([], [], ["notes.txt", "features/toy/Thumbs.db"])
    flip(store / "features/toy/values/c/1/0", 9)
    before = everything(root)
    found = repaired(root)
    assert found.done == []
    assert "files that are not of a store; move those elsewhere first" in found.left[0]
    assert everything(root) == before


def test_what_is_no_store_is_left_alone(root: StorePath) -> None:
    if isinstance(root, Path):
        (root / f"{NAME}.zarr").mkdir(parents=True)
    (root / f"{NAME}.zarr/notes.txt").write_bytes(b"x")
    assert repaired(root).left == ["is not a feature store; remove it, or keep it elsewhere"]
    assert everything(root) == {f"{NAME}.zarr/notes.txt": b"x"}


def test_a_store_on_which_a_run_is_at_work_is_left_alone(root: StorePath) -> None:
    run(root)
    flip(root / f"{NAME}.zarr/features/toy/values/c/1/0", 9)
    with slide_lock(root, NAME):
        before = contents(root)
        found = repair_slide(root, NAME)
        assert (found.done, found.left) == ([], ["another run is at work on it"])
        assert contents(root) == before


# --- of a bucket alone ----------------------------------------------------------------------------------------------


def test_the_lease_of_a_dead_run_is_taken_away(far: StoreUrl, expected: dict[str, bytes]) -> None:
    run(far)
    lease._Lease(lock_of(far / f"{NAME}.zarr"), "s").acquire()
    clock_of(lock_of(far / f"{NAME}.zarr")).write_bytes(b"")
    found = repaired(far)
    assert found.done[0] == LOCK_TAKEN_AWAY
    assert found.left == []
    assert hidden(far) == []
    assert contents(far / f"{NAME}.zarr") == expected


def test_what_the_clock_was_read_off_goes_without_a_store_too(far: StoreUrl) -> None:
    clock_of(lock_of(far / f"{NAME}.zarr")).write_bytes(b"")
    assert slide_ids(far) == [NAME]
    assert repaired(far).done == ["took away what a run that is gone read the server's clock off"]
    assert files_below(far) == []


def test_a_chunk_that_went_bad_under_its_etag_is_taken_out(far: StoreUrl, expected: dict[str, bytes]) -> None:
    """An extraction believes the note of what was compared; a repair reads."""
    run(far)
    chunk = far / f"{NAME}.zarr/features/toy/values/c/1/0"
    flip(chunk, 9)
    note = far / f"{NAME}.zarr/features/.toy.checked.json"
    etags = json.loads(note.read_bytes())["etags"]
    note.write_bytes(json.dumps({"etags": etags | {"values/c/1/0": chunk.stamp().etag}}).encode())
    assert run(far) == 0
    assert repaired(far).done == ["took 1 damaged chunk out of toy"]
    assert run(far) == 1
    assert contents(far / f"{NAME}.zarr") == expected


@pytest.mark.parametrize("name", ["features/toy/values/c/2/0", "coords/c/0/0", "manifest.json", "features/zarr.json"])
def test_a_repair_that_lost_its_lease_changes_nothing_any_more(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Another run takes the store over while this one is still, between its look and its first change."""
    in_memory(monkeypatch)
    run(FAR)
    store, mend = FAR / f"{NAME}.zarr", store_repair._mend
    file = store / name
    file.write_bytes(file.read_bytes()[1:])
    before = contents(FAR)

    def taken_over(look: Look) -> None:
        if not look.dry:
            lock_of(store).write_bytes(json.dumps({"run": "another"}).encode())
        mend(look)

    monkeypatch.setattr(store_repair, "_mend", taken_over)
    found = repair_slide(FAR, NAME)
    assert (found.done, len(found.left)) == ([], 1)
    assert found.left[0].startswith("s 1: another run has taken this store over")
    assert contents(FAR) == before
    assert json.loads(lock_of(store).read_bytes()) == {"run": "another"}


def test_stages_that_were_copied_from_a_disk_are_named(far: StoreUrl, tmp_path: Path) -> None:
    run(far)
    (far / f".{NAME}.zarr.old/zarr.json").write_bytes(b"{}")
    before = everything(far)
    assert repaired(far).left == [
        ".s 1.zarr.old was copied from a disk; repair it there and copy it again, or remove it"
    ]
    assert everything(far) == before


def test_a_grid_that_was_only_begun_goes_and_one_with_features_stays(
    far: StoreUrl, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    with monkeypatch.context() as patch:
        dying(patch, 8)
        with pytest.raises(Crash):
            run(far)
    lock_of(far / f"{NAME}.zarr").unlink()
    assert store_paths(far) == []
    assert repaired(far).done == ["removed an unfinished grid"]
    assert files_below(far) == []
    run(far)
    (far / f"{NAME}.zarr/manifest.json").unlink()
    (far / f".{NAME}.zarr.partial").write_bytes(b"{}")
    before = everything(far)
    assert repaired(far).left == ["its grid is unfinished: extract makes it again and keeps the features"]
    assert everything(far) == before
    assert run(far) == 0
    assert contents(far / f"{NAME}.zarr") == expected


def test_a_run_that_died_at_any_change_is_put_right(
    far: StoreUrl, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes]
) -> None:
    """What repair leaves is sound or for `extract`, and that goes on with the chunks that were finished."""
    for changes in range(1000):
        in_memory(monkeypatch)
        died = False
        with monkeypatch.context() as patch:
            dying(patch, changes)
            try:
                run(far)
            except Crash:
                died = True
        records = sum("/.journal/0" in name for name in files_below(far))
        found = repaired(far)
        for store in map(FeatureStore, store_paths(far)):
            assert store.verify() == []
            if "toy" in store.encoders:
                np.testing.assert_array_equal(store.features("toy"), VALUES[GOOD])
        done = run(far)
        assert done <= 5 - records, changes
        assert contents(far / f"{NAME}.zarr") == expected, changes
        assert hidden(far) == [], changes
        if not died:
            assert found.done == found.left == []
            assert changes > 20
            return
    raise AssertionError("it never ended")


DAMAGED = [
    ["features/toy/values/c/2/0"],
    ["coords/c/0/0", "features/toy/values/zarr.json", "features/zarr.json"],
    ["features/toy/manifest.json"],
    ["manifest.json"],
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_repair_that_dies_at_any_change_is_finished_by_the_next(
    far: StoreUrl, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], damaged: list[str]
) -> None:
    for changes in range(1000):
        in_memory(monkeypatch)
        run(far)
        for name in damaged:
            file = far / f"{NAME}.zarr" / name
            file.write_bytes(file.read_bytes()[1:])
        died = False
        with monkeypatch.context() as patch:
            dying(patch, changes)
            try:
                repair_slide(far, NAME)
            except Crash:
                died = True
        left = repair_slide(far, NAME).left
        assert repair_slide(far, NAME).done == []
        assert hidden(far) == [] or left
        assert run(far) <= 1
        assert contents(far / f"{NAME}.zarr") == expected, changes
        assert hidden(far) == []
        if not died:
            assert changes > 1
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_server_that_goes_away_is_no_damage(
    far: StoreUrl, monkeypatch: pytest.MonkeyPatch, expected: dict[str, bytes], damaged: list[str]
) -> None:
    """Whichever question is the first without an answer: it ends the repair, and what is left can be put right."""
    for questions in range(0, 1000, 7):
        in_memory(monkeypatch)
        run(far)
        for name in damaged:
            file = far / f"{NAME}.zarr" / name
            file.write_bytes(file.read_bytes()[1:])
        with monkeypatch.context() as patch:
            answers_end(patch, questions)
            try:
                repair_slide(far, NAME)
                away = False
            except UnreachableStoreError:
                away = True
        repair_slide(far, NAME)
        run(far)
        assert contents(far / f"{NAME}.zarr") == expected, questions
        if not away:
            assert questions > 10
            return
    raise AssertionError("it never ended")


def answers_end(monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    """Let only so many questions through to the server."""
    for name in ("read", "read_stamped", "stamp", "below", "children", "is_folder", "_put"):
        ask = getattr(object_store, name)

        def asked(*given: object, ask: object = ask) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise UnreachableStoreError("s3://stores: no sound answer from the server")
            return ask(*given)  # type: ignore[operator]

        monkeypatch.setattr(object_store, name, asked)


MANIFESTS = {"manifest.json", "features/toy/manifest.json"}
"""One in which a key was hit that may be missing says the same in other bytes."""


@pytest.mark.parametrize("seed", range(15))
def test_no_damage_is_blessed(far: StoreUrl, expected: dict[str, bytes], seed: int) -> None:
    """After any damage and a repair, what the store calls sound is what was written."""
    chance = random.Random(seed)
    store = far / f"{NAME}.zarr"
    run(far)
    for _ in range(1 + seed % 3):
        name = chance.choice(sorted(contents(store)))
        data = bytearray((store / name).read_bytes())
        place, how = chance.randrange(len(data)), chance.choice(("flip", "cut", "zero", "delete", "grow"))
        if how == "flip":
            data[place] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del data[place:]
        elif how == "zero":
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        elif how == "grow":
            data[place:place] = b"7"
        (store / name).unlink()
        if how != "delete":
            (store / name).write_bytes(bytes(data))
    found, checked = repair_slide(far, NAME), check_store(store)
    assert bool(checked.damaged) <= bool(found.left), (checked, found)
    if not (checked.damaged or checked.complete):
        run(far)
        checked = check_store(store)
    if not checked.damaged:
        read = FeatureStore(store)
        np.testing.assert_array_equal(read.coords, GRID.coords)
        np.testing.assert_array_equal(read.features("toy"), VALUES[GOOD])
        assert {name for name, data in contents(store).items() if data != expected[name]} <= MANIFESTS, found


def test_the_writer_of_the_tests_is_that_of_an_extraction(root: StorePath) -> None:
    run(root, only=[1])
    writer = begin_features(FeatureStore(root / f"{NAME}.zarr"), CARD.to_dict(), chunk_tiles=CHUNK)
    assert writer.todo() == [0, 2, 3, 4]
    write(writer)
    assert writer.todo() == []


# --- how much at once -----------------------------------------------------------------------------------------------


def test_chunks_are_read_some_at_once_and_not_all_held(far: StoreUrl) -> None:
    """48 chunks of 1 MiB: a check and a repair hold a few of them."""
    values = np.random.default_rng(0).random((48 * CHUNK_TILES, 1024), np.float32).astype(np.float16)
    write_store(far, "large", values, toy_card(dim=1024))
    flip(far / "large.zarr/features/made-up/values/c/7/0", 9)
    (far / "large.zarr/features/made-up/bad/c/0").unlink()
    del values
    for look in (lambda: check_store(far / "large.zarr"), lambda: repair_slide(far, "large")):
        tracemalloc.start()
        look()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert 2 << 20 < peak < 3 * object_store.REQUESTS << 20, "at least two, at most eight and what copies they need"
