"""Writing stores: whatever is cut short or damaged, the next run ends in the same bytes, and nothing is lost."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import CARD
from tests.hostile.makers import flip
from wsi import grid_writer
from wsi import store_writer as module
from wsi.errors import CorruptStoreError, RecipeMismatchError, StoreBusyError
from wsi.slide import SlideInfo
from wsi.store import FeatureStore
from wsi.store_writer import begin_features, check_recipe, publish_grid, reopen_damaged, settle, slide_lock
from wsi.tiles import BadTile, TileSpec, tile_grid
from wsi.tissue import TissueMask

INFO = SlideInfo("s", "x", "x", ((1200, 900),), (1.0,), (0.5, 0.5), "x", None, (0, 0, 1200, 900), "ab" * 32)
SPEC = TileSpec(tile_px=64, mpp=0.5, stride_px=64)
TISSUE = TissueMask(np.ones((90, 120), bool), (10.0, 10.0), (0, 0), (0.5, 0.5))
GRID = tile_grid(INFO, TISSUE, SPEC)
RECIPE = {"tiles": SPEC.to_dict(), "tissue": {"method": "x"}}
VALUES = np.random.default_rng(1).random((len(GRID), CARD.dim)).astype(np.float32)
BAD = (BadTile(5, "level 0: torn"), BadTile(70, "level 0: burnt"))


def lay(root, info=INFO):
    return publish_grid(root, info, TISSUE, GRID, RECIPE)


def write(writer, chunks=None):
    for chunk in writer.todo() if chunks is None else chunks:
        rows = writer.rows(chunk)
        bad = tuple(one for one in BAD if one.row in rows)
        good = np.setdiff1d(rows, [one.row for one in bad])
        writer.write(chunk, good, VALUES[good], bad)


def make(root, card=None):
    writer = begin_features(lay(root), card or CARD.to_dict(), chunk_tiles=32)
    write(writer)
    writer.publish()
    return root / "s.zarr"


def contents(folder):
    return {
        part.relative_to(folder).as_posix(): part.read_bytes() for part in sorted(folder.rglob("*")) if part.is_file()
    }


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The bytes of an undisturbed run."""
    return contents(make(tmp_path_factory.mktemp("whole")))


def repair(root):
    """What a run does with a store that is there."""
    target = root / "s.zarr"
    settle(target)
    try:
        store = FeatureStore(target)
        whole = not module.verify_folder(target)
    except (CorruptStoreError, FileNotFoundError):
        whole = False
    store = FeatureStore(target) if whole else lay(root)
    if "toy" in store.encoders and not reopen_damaged(store, CARD.to_dict()):
        return 0
    writer = begin_features(store, CARD.to_dict(), chunk_tiles=32)
    todo = writer.todo()
    write(writer)
    writer.publish()
    return len(todo)


def test_two_runs_give_the_same_bytes_in_any_order_of_chunks(tmp_path, expected):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer, reversed(writer.todo()))
    writer.publish()
    assert contents(tmp_path / "s.zarr") == expected
    assert FeatureStore(tmp_path / "s.zarr").verify() == []


def test_bad_tiles_keep_their_reasons_and_have_no_features(tmp_path):
    store = FeatureStore(make(tmp_path))
    assert store.bad_tiles("toy") == list(BAD)
    np.testing.assert_array_equal(store.good_rows("toy"), np.setdiff1d(np.arange(len(GRID)), [5, 70]))
    assert np.isnan(store.features("toy", np.array([5, 70]))).all()
    np.testing.assert_array_equal(store.features("toy"), VALUES[store.good_rows("toy")].astype(np.float16))


def test_a_chunk_of_nothing_but_bad_tiles_is_a_chunk(tmp_path):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    bad = tuple(BadTile(int(row), "level 0: gone") for row in writer.rows(1))
    writer.write(1, np.array([], np.int64), np.empty((0, CARD.dim), np.float32), bad)
    write(writer)
    writer.publish()
    store = FeatureStore(tmp_path / "s.zarr")
    assert len(store.bad_tiles("toy")) == 32 + len(BAD)
    assert np.isnan(store.features("toy", writer.rows(1))).all()
    assert store.verify() == []


def test_unfinished_features_are_not_there(tmp_path):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer, [0, 2])
    assert FeatureStore(writer.store).encoders == []
    with pytest.raises(CorruptStoreError, match="chunks .1, 3, 4, 5, 6. of toy are not finished"):
        writer.publish()


@pytest.mark.parametrize("damage", ["torn", "empty", "altered", "chunk", "gone"])
def test_a_record_counts_only_if_it_and_its_chunk_are_whole(tmp_path, expected, damage):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer, [0, 1, 2])
    record = writer.journal / "000002.json"
    if damage == "torn":
        record.write_bytes(record.read_bytes()[:40])
    elif damage == "empty":
        record.write_bytes(b"")
    elif damage == "altered":  # row 70 is bad; 71 would become so, and 70 a good one of nothing
        record.write_text(record.read_text().replace("70", "71"))
    elif damage == "chunk":
        flip(writer.stage / "values" / "c" / "2" / "0", 100)
    else:
        (writer.stage / "values" / "c" / "2" / "0").unlink()
    again = begin_features(FeatureStore(writer.store), CARD.to_dict(), chunk_tiles=8)
    assert again == writer, "the chunk size of the stage holds"
    assert again.todo() == [2, 3, 4, 5, 6, 7]
    write(again)
    again.publish()
    assert contents(tmp_path / "s.zarr") == expected


@pytest.mark.parametrize("name", ["zarr.json", "values/zarr.json", ".journal/stage.json"])
def test_a_stage_whose_description_is_damaged_is_begun_anew(tmp_path, expected, name):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer, [0])
    file = writer.stage / name
    text = file.read_text()
    file.write_text(text.replace("32", "16") if "32" in text else text.replace("a", "b"))
    again = begin_features(FeatureStore(writer.store), CARD.to_dict(), chunk_tiles=32)
    assert again.todo() == list(range(8))
    write(again)
    again.publish()
    assert contents(tmp_path / "s.zarr") == expected


def test_what_killed_writers_left_is_swept(tmp_path, expected):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer)
    for name in ("values/c/3/0.deadbeef.partial", ".journal/.000001.json.7.tmp", "bad/c/0"):
        (writer.stage / name).parent.mkdir(parents=True, exist_ok=True)
        (writer.stage / name).write_bytes(b"left")
    writer.publish()
    assert contents(tmp_path / "s.zarr") == expected


@pytest.mark.parametrize("last", ["seal", "fsync_path", "write_array"])
def test_a_crash_while_publishing_loses_no_chunk(tmp_path, expected, monkeypatch, last):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, last, crash)
        with pytest.raises(KeyboardInterrupt):
            writer.publish()
    assert repair(tmp_path) == 0
    assert contents(tmp_path / "s.zarr") == expected


def test_a_kill_while_planning_leaves_nothing_that_counts(tmp_path, expected, monkeypatch):
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("write_array", "seal"):
        with monkeypatch.context() as patch:
            patch.setattr(grid_writer, step, crash)
            with pytest.raises(KeyboardInterrupt):
                lay(tmp_path)
        assert [part.name for part in tmp_path.iterdir()] == [".s.zarr.partial"]
    assert contents(make(tmp_path)) == expected
    assert [part.name for part in tmp_path.iterdir()] == ["s.zarr"]


def test_every_damaged_file_is_repaired_to_the_same_bytes(tmp_path, expected):
    root = tmp_path / "root"
    target = make(root)
    for name in expected:
        if name == "features/zarr.json":
            continue
        for kind in ("flip", "delete") if name.endswith("0") else ("flip",):
            if kind == "flip":
                flip(target / name, len(expected[name]) // 2, bit=2)
            else:
                (target / name).unlink()
            done = repair(root)
            assert contents(target) == expected, (name, kind)
            if name.startswith("features/toy/values/c/"):
                assert done == 1, "a damaged chunk costs that chunk"
            elif not name.startswith("features"):
                assert done == 0, "a damaged grid costs no features"


@pytest.mark.parametrize("step", range(6))
def test_a_crash_while_repairing_loses_no_feature(tmp_path, expected, monkeypatch, step):
    """Stop before the n-th rename or removal of a grid's repair, then before that of a chunk's."""
    root = tmp_path / "root"
    target = make(root)
    for name in ("coords/c/0/0", "features/toy/values/c/2/0"):
        flip(target / name, 20)
        left = step

        def count(*arguments, original, **named):
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return original(*arguments, **named)

        with monkeypatch.context() as patch:
            for owner, call in ((Path, "rename"), (shutil, "rmtree")):
                original = getattr(owner, call)
                patch.setattr(owner, call, lambda *a, original=original, **k: count(*a, original=original, **k))
            with suppress(KeyboardInterrupt):
                repair(root)
        assert repair(root) <= (0 if name.startswith("coords") else 1)
        assert contents(target) == expected
        assert not [part for part in root.iterdir() if part.name != "s.zarr"]


def test_files_of_others_survive_a_repair_or_stop_it(tmp_path):
    target = make(tmp_path)
    (target / "features" / "toy" / "Thumbs.db").write_bytes(b"x")
    assert repair(tmp_path) == 0
    assert (target / "features" / "toy" / "Thumbs.db").exists()
    foreign = tmp_path / "other" / "s.zarr"
    foreign.mkdir(parents=True)
    (foreign / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(RecipeMismatchError, match="not a feature store"):
        lay(tmp_path / "other")
    assert (foreign / "zarr.json").exists()


def test_features_are_not_given_to_another_grid(tmp_path):
    make(tmp_path)
    for other in (replace(INFO, content_hash="cd" * 32), replace(INFO, bounds_px0=(10, 0, 1190, 900))):
        grid = tile_grid(other, TISSUE, SPEC)
        with pytest.raises(RecipeMismatchError, match="features in toy belong to another slide or recipe"):
            publish_grid(tmp_path, other, TISSUE, grid, RECIPE)
    assert FeatureStore(tmp_path / "s.zarr").verify() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("dim", 7), ("tile_px", 256), ("mpp", 0.25), ("mean", [1, 1, 1]), ("kernel", "x"), ("weights_sha256", "ff")],
)
def test_another_encoder_of_the_same_name_is_refused_by_what_differs(tmp_path, field, value):
    other = {**CARD.to_dict(), field: value}
    store = lay(tmp_path / "begun")
    write(begin_features(store, CARD.to_dict(), chunk_tiles=32), [0])
    with pytest.raises(RecipeMismatchError, match=f"made with {field} = "):
        begin_features(store, other)
    store = FeatureStore(make(tmp_path / "done"))
    with pytest.raises(RecipeMismatchError, match=f"made with {field} = "):
        reopen_damaged(store, other)
    flip(store.path / "features" / "toy" / "values" / "c" / "1" / "0", 9)
    with pytest.raises(RecipeMismatchError, match=f"made with {field} = "):
        reopen_damaged(store, other)


@pytest.mark.parametrize(
    ("info", "recipe", "reason"),
    [
        (
            replace(INFO, content_hash="cd" * 32),
            RECIPE,
            "from a slide with hash abababababab, this one has cdcdcdcdcdcd",
        ),
        (replace(INFO, mpp=(0.4, 0.4)), RECIPE, "made with mpp"),
        (replace(INFO, reader="y"), RECIPE, "use --reader x"),
        (INFO, {**RECIPE, "tiles": {**SPEC.to_dict(), "stride_px": 32}}, "tiles.stride_px = 64, asked for is 32"),
        (INFO, {**RECIPE, "tissue": {"method": "y"}}, "tissue.method = 'x', asked for is 'y'"),
    ],
)
def test_another_slide_or_recipe_is_refused_by_what_differs(tmp_path, info, recipe, reason):
    store = lay(tmp_path)
    check_recipe(store, INFO, RECIPE)
    with pytest.raises(RecipeMismatchError, match=reason):
        check_recipe(store, info, recipe)


def test_features_that_are_no_numbers_are_not_written(tmp_path):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    for wrong in (np.nan, np.inf, 1e6):  # the last is too large for float16
        values = VALUES[writer.rows(3)].copy()
        values[3, 3] = wrong
        with pytest.raises(ValueError, match="not finite in float16"):
            writer.write(3, writer.rows(3), values, ())
    with pytest.raises(ValueError, match="not the rows of the chunk"):
        writer.write(3, writer.rows(3)[1:], VALUES[writer.rows(3)[1:]], ())
    assert writer.todo() == list(range(8))


def _hold(root: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with slide_lock(root, "s"):
        ready.set()
        time.sleep(60)


def test_one_process_writes_a_store_and_its_death_frees_it(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    other = spawn.Process(target=_hold, args=(tmp_path, ready))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(StoreBusyError, match="s: another run"), slide_lock(tmp_path, "s"):
            pass
        with slide_lock(tmp_path, "another"):
            pass
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    with slide_lock(tmp_path, "s"), pytest.raises(StoreBusyError), slide_lock(tmp_path, "s"):
        pass
    assert not list(tmp_path.iterdir())


def test_the_journal_is_readable_json(tmp_path):
    writer = begin_features(lay(tmp_path), CARD.to_dict(), chunk_tiles=32)
    write(writer, [2])
    record = json.loads((writer.journal / "000002.json").read_bytes())
    assert record["bad"] == [[70, "level 0: burnt"]]
    assert record["bytes"] == 32 * CARD.dim * 2 + 4
