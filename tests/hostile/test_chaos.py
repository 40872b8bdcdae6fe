"""A short run of `benchmarks/chaos.py`, and that its checks fail where they must."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from benchmarks import chaos, chaos_checks
from benchmarks.chaos_checks import ChunkWatch
from benchmarks.small_archive import BAD_SLIDES, STORED_PX, make_archive, stained, vary, write_small
from benchmarks.small_disk import fill, small_disk
from wsi.slide import hash_slide

SETTINGS = chaos.Settings(slides=24, kills=3, restarts=1, task_limit_s=20.0, hold_s=(3.0, 6.0), limit_s=900.0)


@pytest.mark.slow
def test_short_chaos_run(tmp_path: Path) -> None:
    report = chaos.run_chaos(tmp_path, SETTINGS)
    print("\n".join(report.lines()))
    assert report.failed == []


def test_every_moment_comes_from_the_seed_and_the_damage_is_found_by_a_restart() -> None:
    settings = chaos.Settings()
    events = chaos.draw_events(settings, random.Random(1))
    assert events == chaos.draw_events(settings, random.Random(1)) != chaos.draw_events(settings, random.Random(2))
    counted = Counter(event.what for event in events)
    assert counted == {"kill_worker": 20, "kill_run": 5, "fill_disk": 1, "move_archive": 1, "damage_chunk": 1}
    for seed in range(50):
        what = [event.what for event in chaos.draw_events(SETTINGS, random.Random(seed))]
        assert "kill_run" in what[what.index("damage_chunk") :]


def test_archive_has_a_bad_slide_of_every_kind_and_no_two_of_one_content(tmp_path: Path) -> None:
    archive = make_archive(tmp_path, 40, len(BAD_SLIDES), seed=3)
    assert len(archive.good) == 40 - len(BAD_SLIDES)
    assert Counter(archive.bad.values()) == Counter(error_class for error_class, _ in BAD_SLIDES.values())
    there = sorted(archive.folder.iterdir())
    assert len(there) == 39  # one is listed and was removed
    assert len({hash_slide(path) for path in there}) == 39


def test_varied_slide_has_two_stored_tiles_exchanged(tmp_path: Path) -> None:
    base = write_small(tmp_path / "base.svs", stained(0, 5))
    vary(base, tmp_path / "other.svs", 7)  # pairs (0, 1), (0, 2) ...: number 7 is (0, 8), in rows of 6
    one, other = tifffile.imread(base), tifffile.imread(tmp_path / "other.svs")
    first, eighth = np.s_[:STORED_PX, :STORED_PX], np.s_[STORED_PX : 2 * STORED_PX, 2 * STORED_PX : 3 * STORED_PX]
    assert not np.array_equal(one[first], one[eighth])
    assert np.array_equal(other[first], one[eighth])
    assert np.array_equal(other[eighth], one[first])
    other[first], other[eighth] = one[first], one[eighth]
    assert np.array_equal(one, other)


@pytest.fixture
def runs(tmp_path: Path, small_store: Path) -> Iterator[tuple[Path, Path]]:
    """Two run folders of one slide "a", alike."""
    for name in ("run", "undisturbed"):
        folder = tmp_path / name
        (folder / "features").mkdir(parents=True)
        shutil.copytree(small_store, folder / "features" / "a.zarr")
        (folder / "predictions.csv").write_text(f"slide_id,predicted,seconds\na,2,{len(name)}\n")
        (folder / "quarantine.csv").write_text("slide_id,error_class\nb,no_tissue\n")
    return tmp_path / "run", tmp_path / "undisturbed"


def test_checks_pass_for_equal_runs_and_name_what_differs(runs: tuple[Path, Path]) -> None:
    run, undisturbed = runs

    def failed() -> list[str]:
        found = [
            chaos_checks.all_graded(run, ["a"]),
            chaos_checks.same_predictions(run, undisturbed, ["a"]),
            chaos_checks.same_features(run, undisturbed, ["a"]),
            chaos_checks.right_classes(run, {"b": "no_tissue"}),
            chaos_checks.nothing_temporary(run),
        ]
        return [f"{check.name}: {check.found}" for check in found if not check.passed]

    assert failed() == []
    (run / "features" / "a.zarr" / ".source.json").write_text("{}")
    begun = run / "features" / "b.zarr" / "features" / ".toy.partial"
    begun.mkdir(parents=True)
    assert failed() == []
    chunk = next((run / "features" / "a.zarr").glob("features/toy/values/c/*/0"))
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    (run / "predictions.csv").write_text("slide_id,predicted,seconds\na,1,3\nb,1,3\n")
    (run / "quarantine.csv").write_text("slide_id,error_class\nb,unreadable\nc,timeout\n")
    (begun / "x.tmp").touch()
    named = "\n".join(failed())
    assert len(failed()) == 5
    for part in ("graded though bad: b", "others: a", str(chunk.relative_to(run / "features" / "a.zarr"))):
        assert part in named
    for part in ("b is unreadable, not no_tissue", "c is timeout though good", ".toy.partial/x.tmp"):
        assert part in named


def test_chunk_that_is_written_again_is_counted(runs: tuple[Path, Path]) -> None:
    run, _ = runs
    store = run / "features" / "a.zarr"
    (store / "features" / "toy").rename(store / "features" / ".toy.partial")
    watch = ChunkWatch(run / "features")
    watch.look()
    watch.look()
    chunks = sorted(store.glob("features/.toy.partial/values/c/*/0"))
    assert watch.check(set(), []).found.startswith(f"0 of {len(chunks)} ")
    chunk = chunks[1]
    data = chunk.read_bytes()
    chunk.unlink()
    chunk.write_bytes(data)
    watch.look()
    again = watch.check(set(), [])
    assert again.found.startswith(f"1 of {len(chunks)} ")
    assert again.passed == (1 / len(chunks) < 0.05)
    assert watch.check({("a", 1)}, []).found.startswith(f"0 of {len(chunks) - 1} ")
    assert not watch.check(set(), ["a"]).passed  # nothing was seen at all


def test_log_counts_a_chunk_of_one_content_over_all_starts() -> None:
    lines = [
        {"event": "planned", "run": "1", "slide": 1, "content": "aa"},
        {"event": "chunk", "run": "1", "slide": 1, "chunk": 0},
        {"event": "chunk", "run": "1", "slide": 1, "chunk": 1},
        {"event": "planned", "run": "2", "slide": 9, "content": "aa"},
        {"event": "chunk", "run": "2", "slide": 9, "chunk": 1},
        {"event": "planned", "run": "2", "slide": 1, "content": "bb"},
        {"event": "chunk", "run": "2", "slide": 1, "chunk": 0},
    ]
    assert chaos_checks.heard_twice(lines, set()).found.startswith("1 of 3 ")
    assert chaos_checks.heard_twice(lines, {("aa", 1)}).found.startswith("0 of 2 ")


def test_small_disk_is_full_to_the_last_byte_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    with small_disk(folder, 2 << 20) as refused:
        if refused:
            pytest.skip(f"no small disk here: {refused}")
        fill(folder / "filler")
        with pytest.raises(OSError, match="No space left"):
            (folder / "more").write_bytes(b"x" * 8192)
        (folder / "filler").unlink()
        (folder / "more").write_bytes(b"x" * 8192)
    assert list(folder.iterdir()) == []
