"""Slides through the loop: what is damaged is repaired, what differs is refused, and a fault ends its slide only."""

import json
import os
import shutil
import socket
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mil.encoders.toy import ToyEncoder
from tests.hostile.makers import damage_tile, flip, tissue_pixels, write_svs
from workflows import pipeline, source_hash, tasks, worker
from workflows.cluster import connect
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.pipeline import run_pipeline
from workflows.policy import Policy
from workflows.sources import SlideSource, find_slides
from workflows.worker import Start, encoder_place
from wsi.errors import UsageError
from wsi.slide_url import SlideUrl
from wsi.store import FeatureStore, store_path
from wsi.store_writer import slide_lock
from wsi.tiles import TileSpec

HASTY = Policy(retry_s=0.01, keep_free=0)


@pytest.fixture
def slide(small_svs, tmp_path):
    return Path(shutil.copy(small_svs, tmp_path / "small.svs"))


@pytest.fixture
def root(small_store, tmp_path):
    """A folder with a finished store of the slide."""
    shutil.copytree(small_store, tmp_path / "stores" / small_store.name)
    return tmp_path / "stores"


@pytest.fixture
def run(cluster):
    def run(slides, root, finish=None, listener=None, **changes):
        config = ExtractConfig(**{"store": root, "encoder": "toy", "chunk_tiles": 4, "policy": HASTY, **changes})
        sources = slides if isinstance(slides, list) else find_slides([slides])
        return list(run_pipeline(cluster, sources, config, listener or Listener(), finish))

    return run


def contents(store):
    files = (part for part in sorted(store.rglob("*")) if part.is_file() and part.name != ".source.json")
    return {part.relative_to(store).as_posix(): part.read_bytes() for part in files}


def test_each_damaged_file_is_repaired_and_only_damaged_chunks_are_computed(run, slide, root, small_store):
    expected = contents(small_store)
    for name in expected:
        if name == "features/zarr.json" or ("values/c/" in name and not name.endswith(("/1/0", "/2/0"))):
            continue
        flip(root / "small.zarr" / name, len(expected[name]) // 3)
        (result,) = run(slide, root)
        assert result.failure is None
        assert contents(root / "small.zarr") == expected, name
        if "values/c/" in name:
            assert result.chunks == 1
        elif not name.startswith("features"):
            assert result.chunks == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tiles": TileSpec(stride_px=112)}, "tiles.stride_px = 224, asked for is 112"),
        ({"tiles": TileSpec(mpp=0.6)}, "tiles.mpp = 0.5, asked for is 0.6"),
        ({"tiles": TileSpec(min_tissue=0.9)}, "tiles.min_tissue = 0.5, asked for is 0.9"),
        ({"tiles": TileSpec(kernel="bicubic")}, "tiles.kernel = 'area', asked for is 'bicubic'"),
        ({"reader": "tiffslide"}, "now it is tiffslide"),
    ],
)
def test_another_recipe_is_refused_and_nothing_is_lost(run, slide, root, small_store, changes, reason):
    (result,) = run(slide, root, **changes)
    assert result.failure.error_class == "recipe_mismatch"
    assert reason in result.failure.message
    assert contents(root / "small.zarr") == contents(small_store)


def test_another_slide_of_the_same_name_is_refused(run, tmp_path, root, small_store):
    other = write_svs(tmp_path / "small.svs", tissue_pixels(1500, 1400, seed=9))
    (result,) = run(other, root)
    assert "made from a slide with hash" in result.failure.message
    assert contents(root / "small.zarr") == contents(small_store)


def test_a_grid_without_features_gives_way_to_a_better_copy_or_another_recipe(run, tmp_path):
    pixels = tissue_pixels(900, 900)
    slide = write_svs(tmp_path / "a.svs", pixels, factors=(4,))
    good = slide.read_bytes()
    for column in range(4):
        for row in range(4):
            damage_tile(slide, 0, column, row)
    (bad,) = run(slide, tmp_path / "stores", reader="openslide", max_bad=0.3)
    assert bad.failure.error_class == "too_many_bad_tiles"
    slide.write_bytes(good)
    (again,) = run(slide, tmp_path / "stores", reader="openslide")
    assert again.failure is None
    shutil.rmtree(tmp_path / "stores" / "a.zarr" / "features" / "toy")
    (other,) = run(slide, tmp_path / "stores", reader="openslide", tiles=TileSpec(stride_px=112))
    assert other.failure is None
    assert FeatureStore(tmp_path / "stores" / "a.zarr").recipe["tiles"]["stride_px"] == 112


def test_bad_tiles_are_recorded_and_the_share_is_judged_again_each_time(run, tmp_path):
    slide = write_svs(tmp_path / "a.svs", tissue_pixels(1500, 1400))
    damage_tile(slide, 0, 2, 2)
    (result,) = run(slide, tmp_path / "stores", max_bad=0.9)
    store = FeatureStore(tmp_path / "stores" / "a.zarr")
    x, y = store.grid.coords.T
    hit = np.flatnonzero((x + 224 > 512) & (x < 768) & (y + 224 > 512) & (y < 768))
    assert result.bad == len(hit) > 0
    assert [one.row for one in store.bad_tiles("toy")] == hit.tolist()
    assert len(store.features("toy")) == len(store.grid) - len(hit)
    assert np.isfinite(store.features("toy")).all()
    (strict,) = run(slide, tmp_path / "stores", max_bad=0.01)
    assert strict.failure.error_class == "too_many_bad_tiles"
    assert FeatureStore(tmp_path / "stores" / "a.zarr").encoders == ["toy"], "what was made for a laxer limit stays"


def test_a_busy_store_is_waited_for_and_other_slides_go_on_meanwhile(run, slide, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "BUSY_EVERY_S", 0.01)
    other = write_svs(tmp_path / "b.svs", tissue_pixels(800, 800))
    held = ExitStack()
    held.enter_context(slide_lock(tmp_path / "stores", "small"))
    told, order = [], []

    class FreesWhenTheOtherIsThrough(Listener):
        def retried(self, failure, after_s):
            told.append((failure.slide_id, failure.error_class))

        def slide(self, result):
            order.append(result.source.slide_id)
            held.close()

    results = run(find_slides([slide, other]), tmp_path / "stores", listener=FreesWhenTheOtherIsThrough())
    assert [result.failure for result in results] == [None, None]
    assert order == ["b", "small"]
    assert told == [("small", "store_busy")]
    assert not list((tmp_path / "stores").glob(".*.lock"))


def test_a_second_start_does_not_read_the_slide_again(run, slide, root, monkeypatch):
    run(slide, root)

    def never(files):
        raise AssertionError("hashed again")

    monkeypatch.setattr(source_hash, "hash_slide", never)
    (result,) = run(slide, root)
    assert result.failure is None
    os.utime(slide, ns=(5, 5))
    (result,) = run(slide, root)
    assert "hashed again" in result.failure.message


def test_a_damaged_note_of_the_hash_is_no_reason_to_refuse_a_slide(run, slide, root):
    run(slide, root)
    note = root / "small.zarr" / ".source.json"
    right = json.loads(note.read_bytes())
    for wrong in ({**right, "content_hash": "00" * 32}, {}, []):
        note.write_text(json.dumps(wrong))
        (result,) = run(slide, root)
        assert (result.failure, result.chunks) == (None, 0)
        assert json.loads(note.read_bytes()) == right


def test_a_slide_of_another_folder_under_its_name_is_not_taken_for_it(run, small_svs, tmp_path):
    """Its tiles come from its own file, also where a thread still has the first one open."""
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        slide = write_svs(folder / "a.svs", tissue_pixels(800, 800, seed=number))
        run(slide, tmp_path / "stores" / str(number))
    one, other = (FeatureStore(store_path(tmp_path / "stores" / str(number), "a")) for number in (1, 2))
    assert not np.array_equal(one.features("toy"), other.features("toy"))


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(5, "Input/output error"), "io_error"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("strange"), "unexpected"),
        (UsageError("said so"), "usage"),
    ],
)
@pytest.mark.parametrize("stage", ["plan", "extract", "publish", "grade"])
def test_a_fault_at_any_stage_ends_its_slide_only_and_the_next_run_goes_on(
    run, slide, tmp_path, monkeypatch, error, name, stage
):
    other = write_svs(tmp_path / "b.svs", tissue_pixels(700, 700))

    def fail(*_: object) -> None:
        raise error

    def only_small(original):
        return lambda *arguments, **named: (
            fail() if "small" in str(arguments) else original(*arguments, **named)
        )  # the slide's name is in what each stage is handed

    target = {"extract": (tasks, "slide_and_grid"), "publish": (pipeline, "check_bad_of")}
    finish = fail if stage == "grade" else None
    slides = find_slides([slide, other])
    with monkeypatch.context() as patch:
        if stage == "plan":
            patch.setattr(
                tasks, "read_overview", lambda slide: fail() if slide.info.slide_id == "small" else READ(slide)
            )
        elif stage in target:
            where, function = target[stage]
            patch.setattr(where, function, only_small(getattr(where, function)))
        results = {result.source.slide_id: result for result in run(slides, tmp_path / "stores", finish)}
    assert results["small"].failure.stage == stage
    assert results["small"].failure.error_class == name
    if stage != "grade":
        assert results["b"].failure is None
    assert not list((tmp_path / "stores").glob(".*.lock"))
    assert all(result.failure is None for result in run(slides, tmp_path / "stores"))


READ = tasks.read_overview


def test_what_follows_extraction_gets_the_published_store(run, slide, root):
    def finish(source, store, spent_s):
        return source.slide_id, len(store.features("toy")), spent_s > 0

    (result,) = run(slide, root, finish)
    assert result.value == ("small", result.tiles, True)
    assert "grade" in result.seconds


def test_the_listener_hears_everything(run, slide, tmp_path):
    heard = []

    class Ear(Listener):
        def planned(self, plan):
            heard.append(("planned", len(plan.chunks)))

        def chunk(self, done):
            heard.append(("chunk", done.tiles))

        def slide(self, result):
            heard.append(("slide", result.tiles))

    (result,) = run(slide, tmp_path / "stores", listener=Ear())
    assert heard[0] == ("planned", result.chunks)
    assert [kind for kind, _ in heard[1:]] == ["chunk"] * result.chunks + ["slide"]
    assert sum(count for kind, count in heard if kind == "chunk") == result.tiles


def test_a_lost_slide_is_missed_by_name(run, tmp_path):
    source = SlideSource("gone", tmp_path / "gone.svs", "gone")
    (result,) = run([source], tmp_path / "stores")
    assert result.failure.error_class == "vanished"
    assert "gone.svs: no such file" in result.failure.message


def test_more_slides_than_are_in_flight_all_come_through(run, tmp_path):
    first = write_svs(tmp_path / "s0.svs", tissue_pixels(700, 700))
    for number in range(1, 12):
        shutil.copy(first, tmp_path / f"s{number}.svs")
    results = run(find_slides([tmp_path]), tmp_path / "stores")
    assert sorted(result.source.slide_id for result in results) == sorted(f"s{number}" for number in range(12))
    assert all(result.failure is None for result in results)


def test_slides_are_admitted_as_others_end(cluster, tmp_path):
    threads = sum(cluster.nthreads().values())
    taken = 0

    def feed():
        nonlocal taken
        for number in range(40):
            taken += 1
            path = tmp_path / f"{number:02d}.svs"
            path.write_text("no slide")
            yield SlideSource(path.stem, path, "")

    config = ExtractConfig(store=tmp_path / "stores", encoder="toy")
    results = run_pipeline(cluster, feed(), config, Listener())
    for ended, _result in enumerate(results, start=1):
        assert taken <= ended + 2 * threads + 1
    assert taken == 40


def test_workers_that_share_a_card_name_the_same_place_and_others_do_not(monkeypatch):
    card = type("OnCard", (), {"device": "cuda:0"})()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    shared = encoder_place(card)
    assert shared == encoder_place(card) == f"{socket.gethostname()} cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert encoder_place(card) != shared
    assert encoder_place(ToyEncoder()) == "cpu"


def test_the_config_is_plain_and_travels():
    import pickle

    config = ExtractConfig(Path("x"))
    assert pickle.loads(pickle.dumps(config)) == config
    assert replace(config, workers=2).recipe == config.recipe


def test_where_tasks_run_is_no_part_of_the_recipe():
    config = ExtractConfig(Path("x"))
    elsewhere = replace(config, scheduler="tcp://a:1", cluster="slurm", cluster_options=Path("jobs.toml"))
    assert elsewhere.recipe == config.recipe
    assert elsewhere.place == (0, "tcp://a:1", "slurm", Path("jobs.toml"))


def test_paths_are_absolute_before_they_travel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = ExtractConfig(Path("stores"), weights=Path("w.pth")).absolute()
    assert (config.store, config.weights) == (tmp_path / "stores", tmp_path / "w.pth")
    assert pipeline.absolute_source(SlideSource("a", Path("a.svs"), "")).path == tmp_path / "a.svs"
    url = SlideUrl("https://host/a.svs")
    assert pipeline.absolute_source(SlideSource("a", url, "")).path == url


def test_another_file_of_weights_under_the_same_name_is_loaded_anew(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(worker, "_encoders", {})
    monkeypatch.setattr(worker, "load_encoder", lambda name, weights, device: loaded.append(weights.read_text()))
    config = ExtractConfig(tmp_path, weights=tmp_path / "weights")
    for text in ("one", "one", "other"):
        if not config.weights.exists() or config.weights.read_text() != text:
            config.weights.write_text(text)
        worker.worker_encoder(config)
    assert loaded == ["one", "other"]


def test_open_slides_are_not_closed_under_the_task_of_another_run(monkeypatch):
    closed = []

    class Open:
        def close(self):
            closed.append(self)

    slide = Open()
    monkeypatch.setattr(worker, "_kept_anywhere", [OrderedDict({"key": (slide, None)})])
    monkeypatch.setattr(Start, "say", lambda self: None)
    worker.guarded(worker.close_slides, "another", "extract", Start("topic"))
    assert closed == []
    worker.close_slides()
    assert closed == [slide]


def end_worker(source, store, seconds):
    os._exit(1)


@pytest.mark.slow
def test_a_slide_that_ends_its_workers_is_quarantined(slide, tmp_path):
    config = ExtractConfig(tmp_path / "stores", encoder="toy")
    with connect(1) as client:
        (result,) = run_pipeline(client, find_slides([slide]), config, Listener(), end_worker)
    assert (result.failure.stage, result.failure.error_class) == ("grade", "worker_killed")


def test_a_slide_that_an_intake_gives_again_waits_for_its_first_round(cluster, slide, tmp_path):
    class Twice:
        over = False

        def __init__(self):
            self.sources = 2 * find_slides([slide])

        def take(self):
            self.over = len(self.sources) < 2
            return self.sources.pop() if self.sources else None

    busy = []

    class Ear(Listener):
        def retried(self, failure, after_s):
            busy.append(failure)

    config = ExtractConfig(store=tmp_path / "stores", encoder="toy", chunk_tiles=4, policy=HASTY)
    first, second = run_pipeline(cluster, Twice(), config, Ear())
    assert first.failure is second.failure is None
    assert (first.chunks > 0, second.chunks) == (True, 0)
    assert busy == []
