"""What a run does about trouble: tries again, waits, sets aside, remembers. Faults in `workflows.pipeline`."""

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.hostile.makers import damage_tile, tissue_pixels, write_svs
from workflows import pipeline, tasks, waiting
from workflows.cluster import connect
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener, SlideResult
from workflows.pipeline import run_pipeline
from workflows.policy import Policy
from workflows.sources import SlideSource, find_slides
from workflows.worker import Start, guarded
from wsi.errors import TaskLimitError, UnreachableSlideError
from wsi.store import FeatureStore, store_path
from wsi.store_writer import FeatureWriter
from wsi.threads import usable_cores

REPOSITORY = Path(__file__).resolve().parents[2]
Run = Callable[..., list[SlideResult]]


class Heard(Listener):
    """Keeps what was said of trouble."""

    def __init__(self) -> None:
        self.retries: list[tuple[str, str, float | None]] = []
        self.pauses: list[str] = []
        self.messages: list[str] = []

    def retried(self, failure: Any, after_s: float | None) -> None:
        self.retries.append((failure.slide_id, failure.error_class, after_s))

    def paused(self, reason: str, message: str) -> None:
        self.pauses.append(f"paused {reason}")
        self.messages.append(message)

    def resumed(self, reason: str) -> None:
        self.pauses.append(f"resumed {reason}")


@pytest.fixture
def archive(small_svs: Path, tmp_path: Path) -> Path:
    """A folder of two slides."""
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(small_svs, folder / "small.svs")
    write_svs(folder / "b.svs", tissue_pixels(700, 700))
    return folder


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def run(cluster: Any, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(waiting, "LOOK_EVERY_S", 0.02)

    def run(
        slides: Path | list[SlideSource], finish: Any = None, *, policy: dict[str, Any] | None = None, **changes: Any
    ) -> list[Any]:
        calm = Policy(**{"retry_s": 0.01, "keep_free": 0, **(policy or {})})
        settings = {"store": tmp_path / "stores", "encoder": "toy", "chunk_tiles": 4, "policy": calm, **changes}
        sources = slides if isinstance(slides, list) else find_slides([slides])
        return list(run_pipeline(cluster, sources, ExtractConfig(**settings), heard, finish))

    return run


def failing(original: Callable[..., Any], times: int, error: Exception, on: str = "") -> Callable[..., Any]:
    """A function that fails the first so many times that something named `on` is in its arguments."""
    left = [times]

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if left[0] and on in str(arguments):
            left[0] -= 1
            raise error
        return original(*arguments, **named)

    return wrapped


def failures(results: list[SlideResult]) -> dict[str, str | None]:
    return {one.source.slide_id: one.failure and one.failure.error_class for one in results}


def test_what_can_pass_is_tried_again_after_longer_and_longer(
    run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = UnreachableSlideError("the server is away")
    monkeypatch.setattr(tasks, "slide_and_grid", failing(tasks.slide_and_grid, 2, fault, "b.svs"))
    assert failures(run(archive, chunk_tiles=64)) == {"small": None, "b": None}
    assert heard.retries == [("b", "unreachable", 0.01), ("b", "unreachable", 0.04)]


def test_tries_come_to_an_end(run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = UnreachableSlideError("the server is away")
    monkeypatch.setattr(tasks, "read_overview", failing(tasks.read_overview, 99, fault))
    assert failures(run(archive)) == {"small": "unreachable", "b": "unreachable"}
    assert len(heard.retries) == 4
    monkeypatch.undo()
    assert failures(run(archive)) == {"small": None, "b": None}, "it is not remembered"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_pauses_the_run_until_there_is_room(
    run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    room = [10**12]
    write = FeatureWriter.write

    def fill(self: FeatureWriter, chunk: int, *rest: Any) -> None:
        if room[0] and not heard.pauses:
            room[0] = 0
        if not room[0]:
            raise OSError(number, "full")
        write(self, chunk, *rest)

    def make_room(reason: str, message: str) -> None:
        Heard.paused(heard, reason, message)
        threading.Timer(0.1, lambda: room.__setitem__(0, 10**12)).start()

    monkeypatch.setattr(FeatureWriter, "write", fill)
    monkeypatch.setattr(waiting, "free_bytes", lambda folder: room[0])
    monkeypatch.setattr(heard, "paused", make_room)
    assert failures(run(archive, policy={"keep_free": 1000})) == {"small": None, "b": None}
    assert heard.pauses == ["paused disk_full", "resumed disk_full"]
    assert "0 MB free in" in heard.messages[0]
    assert "make room and it goes on by itself" in heard.messages[0]


def test_a_run_without_trouble_does_not_try_the_disk(
    run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at figures costs nothing; writing a megabyte for each slide would."""
    tried = []
    monkeypatch.setattr(waiting, "_takes_bytes", lambda folder: bool(tried.append(folder)))
    assert failures(run(archive)) == {"small": None, "b": None}
    assert (tried, heard.pauses) == ([], [])


def test_a_slide_for_which_there_is_no_room_is_not_begun(
    run: Run, archive: Path, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for what is to be left free, and not for the features beside it."""
    written = []
    write = FeatureWriter.write
    monkeypatch.setattr(FeatureWriter, "write", lambda self, *rest: (written.append(rest[0]), write(self, *rest)))
    monkeypatch.setattr(waiting, "free_bytes", lambda folder: 10**9 + 10**6)
    results = run(archive, policy={"keep_free": 10**9, "patience_s": 0.2})
    assert written, "patience ends, and it is tried all the same"
    assert heard.pauses == ["paused disk_full", "resumed disk_full"]
    assert failures(results) == {"small": None, "b": None}


def test_patience_with_a_full_disk_ends(run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FeatureWriter, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FeatureWriter, "write", full)
    monkeypatch.setattr(waiting, "free_bytes", lambda folder: 0)
    results = run(archive, policy={"keep_free": 1, "patience_s": 0.1})
    assert failures(results) == {"small": "disk_full", "b": "disk_full"}


def test_an_archive_that_is_away_for_a_while_is_waited_for(
    run: Run, archive: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = archive.with_name("elsewhere")
    read = tasks.read_overview

    def goes_away(slide: Any) -> Any:
        if not heard.pauses and archive.exists():
            archive.rename(elsewhere)
            raise UnreachableReading
        return read(slide)

    class UnreachableReading(OSError):
        pass

    def bring_back(reason: str, message: str) -> None:
        Heard.paused(heard, reason, message)
        threading.Timer(0.2, lambda: elsewhere.rename(archive)).start()

    monkeypatch.setattr(tasks, "read_overview", goes_away)
    monkeypatch.setattr(heard, "paused", bring_back)
    assert failures(run(archive)) == {"small": None, "b": None}
    assert heard.pauses == ["paused vanished", "resumed vanished"]
    assert f"{archive} is away" in heard.messages[0]


def test_a_mount_point_without_its_mount_is_away(tmp_path: Path) -> None:
    device = waiting.device_of(tmp_path)
    assert waiting.is_away(tmp_path / "absent", device)
    assert waiting.is_away(tmp_path, device), "empty, as a mount point is when nothing is mounted"
    (tmp_path / "slide.svs").touch()
    assert not waiting.is_away(tmp_path, device)
    assert waiting.is_away(tmp_path, device + 1), "another file system lies there"
    assert not waiting.is_away(tmp_path, 0)


def test_a_slide_that_was_removed_is_not_waited_for(run: Run, archive: Path, heard: Heard) -> None:
    sources = find_slides([archive])
    (archive / "b.svs").unlink()
    results = run(sources)
    assert failures(results) == {"small": None, "b": "vanished"}
    assert heard.pauses == []


def test_a_slide_that_was_replaced_while_it_was_read_is_planned_anew(
    run: Run, archive: Path, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Touched only: its bytes are the same, so the work counts. Other bytes are refused by name, never published."""
    write = FeatureWriter.write
    touched = []

    def touch(self: FeatureWriter, *rest: Any) -> None:
        write(self, *rest)
        if not touched:
            touched.append(os.utime(archive / "b.svs", ns=(7, 7)))

    (archive / "small.svs").unlink()
    monkeypatch.setattr(FeatureWriter, "write", touch)
    (result,) = run(archive)
    assert (result.failure, [name for _, name, _ in heard.retries]) == (None, ["changed"])
    shutil.rmtree(tmp_path / "stores")

    def replace(self: FeatureWriter, *rest: Any) -> None:
        write(self, *rest)
        write_svs(archive / "b.svs", tissue_pixels(700, 700, seed=5))

    monkeypatch.setattr(FeatureWriter, "write", replace)
    (result,) = run(archive)
    assert result.failure is not None
    assert "made from a slide with hash" in result.failure.message
    assert FeatureStore(store_path(tmp_path / "stores", "b")).encoders == []


def test_a_tile_is_bad_when_it_cannot_be_read_twice(
    run: Run, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that passes, as of a share that hiccups, leaves nothing in the store."""
    from wsi.readers import jpeg_tiff

    (archive / "small.svs").unlink()
    (result,) = run(archive)
    expected = FeatureStore(store_path(tmp_path / "stores", "b")).features("toy")
    shutil.rmtree(tmp_path / "stores")
    fault = jpeg_tiff.CodecError("a hiccup")

    class Overview:
        seen = False

    decode = failing(jpeg_tiff.decode_tile, 3, fault)

    def decode_after_planning(*arguments: Any) -> Any:
        return decode(*arguments) if Overview.seen else jpeg_tiff_decode(*arguments)

    jpeg_tiff_decode = jpeg_tiff.decode_tile
    features = tasks._features

    def note(*arguments: Any) -> Any:
        Overview.seen = True
        return features(*arguments)

    monkeypatch.setattr(jpeg_tiff, "decode_tile", decode_after_planning)
    monkeypatch.setattr(tasks, "_features", note)
    (result,) = run(archive)
    assert (result.failure, result.bad) == (None, 0)
    assert (FeatureStore(store_path(tmp_path / "stores", "b")).features("toy") == expected).all()


def test_a_chunk_that_lies_there_is_not_computed_again(
    run: Run, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker ended after the journal record and before it could say so; Dask hands the task to another."""
    (archive / "small.svs").unlink()
    work = tasks._features
    computed = []
    monkeypatch.setattr(tasks, "_features", lambda *all: (computed.append(all[2]), work(*all))[1])
    extract = pipeline.extract_chunk

    def twice(*arguments: Any) -> Any:
        extract(*arguments)
        return extract(*arguments)

    monkeypatch.setattr(pipeline, "extract_chunk", twice)
    (result,) = run(archive)
    assert result.failure is None
    assert result.chunks == 0, "the second time it was found"
    assert len(computed) == len(set(computed)) > 0


def test_what_a_slide_is_is_remembered_until_it_changes(run: Run, archive: Path) -> None:
    (archive / "b.svs").write_text("not a slide")
    first = {one.source.slide_id: one for one in run(archive)}
    assert (first["b"].failure.error_class, first["b"].remembered) == ("unreadable", False)
    again = {one.source.slide_id: one for one in run(archive)}
    assert (again["b"].failure, again["b"].remembered) == (first["b"].failure, True)
    asked = {one.source.slide_id: one for one in run(archive, policy={"retry_quarantined": True})}
    assert (asked["b"].failure.error_class, asked["b"].remembered) == ("unreadable", False)
    assert not {one.source.slide_id: one for one in run(archive, max_bad=0.5)}["b"].remembered, "other settings"
    write_svs(archive / "b.svs", tissue_pixels(700, 700))
    assert failures(run(archive)) == {"small": None, "b": None}
    assert not list(archive.parent.glob("stores/.*.lock"))


def test_too_many_bad_tiles_are_borne_by_a_laxer_second_start(run: Run, archive: Path) -> None:
    for column in range(3):
        damage_tile(archive / "b.svs", 0, column, 0)
    assert failures(run(archive, max_bad=0.01))["b"] == "too_many_bad_tiles"
    assert failures(run(archive, max_bad=0.9))["b"] is None


FREE = threading.Event()


def hang_on_b_until_free(source: Any, *_: Any) -> str:
    return "hung" if source.slide_id == "b" and FREE.wait(30) else "done"


def hang_until_free(*_: Any) -> None:
    FREE.wait(30)


def test_a_task_that_hangs_ends_its_slide_and_the_run_goes_on(archive: Path, tmp_path: Path) -> None:
    config = ExtractConfig(tmp_path / "stores", encoder="toy", policy=Policy(keep_free=0, task_limit_s=3.0))
    with connect(0) as client:
        try:
            results = list(run_pipeline(client, find_slides([archive]), config, Listener(), hang_on_b_until_free))
        finally:
            FREE.set()
            FREE.clear()
    assert failures(results) == {"small": None, "b": "timeout"}


def test_when_every_thread_hangs_the_run_says_so(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workflows.cluster.usable_cores", lambda: 1)
    config = ExtractConfig(tmp_path / "stores", encoder="toy", policy=Policy(keep_free=0, task_limit_s=2.0))
    with connect(0) as client:
        try:
            with pytest.raises(TaskLimitError, match="start again with --workers N"):
                list(run_pipeline(client, find_slides([archive]), config, Listener(), hang_until_free))
        finally:
            FREE.set()
            FREE.clear()


class Ends:
    """Ends its worker for a slide; for another as often as it finds marks to remove, as if somebody had killed it."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks

    def __call__(self, source: Any, store: Any, seconds: float) -> str:
        if source.slide_id == "b":
            os._exit(1)
        for mark in sorted(self.marks.iterdir()):
            mark.unlink()
            time.sleep(0.2)
            os._exit(1)
        return "graded"


@pytest.mark.slow
def test_a_slide_that_ends_workers_is_tried_by_itself_and_one_that_was_only_near_is_graded(
    archive: Path, tmp_path: Path, heard: Heard
) -> None:
    """`small` is hit twice, as a worker may be from outside, and then set aside; by itself it goes through."""
    marks = tmp_path / "marks"
    marks.mkdir()
    for number in range(2):
        (marks / str(number)).touch()
    config = ExtractConfig(tmp_path / "stores", encoder="toy", policy=Policy(keep_free=0))
    with connect(2) as client:
        results = list(run_pipeline(client, find_slides([archive]), config, heard, Ends(marks)))
    assert failures(results) == {"small": None, "b": "worker_killed"}
    assert [one.value for one in results if one.failure is None] == ["graded"]
    assert {name for name, _, after_s in heard.retries if after_s is None} == {"small", "b"}
    again = ExtractConfig(tmp_path / "stores", encoder="toy", policy=Policy(keep_free=0))
    with connect(0) as client:  # it would end this process
        results = list(run_pipeline(client, find_slides([archive]), again, heard, lambda *_: None))
    assert {one.source.slide_id: one.remembered for one in results} == {"small": False, "b": True}


@pytest.mark.slow
def test_a_worker_process_whose_task_hangs_is_replaced(archive: Path, tmp_path: Path) -> None:
    config = ExtractConfig(tmp_path / "stores", encoder="toy", policy=Policy(keep_free=0, task_limit_s=4.0))
    with connect(1) as client:
        results = list(run_pipeline(client, find_slides([archive]), config, Listener(), hang_on_b))
    assert failures(results) == {"small": None, "b": "timeout"}


def hang_on_b(source: Any, *_: Any) -> None:
    if source.slide_id == "b":
        time.sleep(600)


def test_slides_that_wait_are_bounded(run: Run, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that is away does not draw all its slides into memory."""
    monkeypatch.setattr(pipeline, "MOST_HELD", 3)
    most = [0]
    admit = pipeline._Loop._admit

    def watch(self: Any, intake: Any) -> None:
        admit(self, intake)
        most[0] = max(most[0], len(self._ways))

    monkeypatch.setattr(pipeline._Loop, "_admit", watch)
    for number in range(30):
        (archive / f"s{number:02d}.svs").write_text("garbage")
    sources = find_slides([archive])
    archive.rename(archive.with_name("gone"))
    results = run(sources, policy={"patience_s": 0.3})
    assert set(failures(results).values()) == {"vanished"}
    assert len(results) == 32
    assert 3 <= most[0] <= 3 + 2 * usable_cores() + 1


DIES = """
import os, sys
from pathlib import Path
from workflows.cluster import connect
from workflows.extraction import ExtractConfig
from workflows.listeners import Listener
from workflows.pipeline import run_pipeline
from workflows.policy import Policy
from workflows.sources import find_slides

def end_process_for_b(source, store, seconds):
    if source.slide_id == "b":
        os._exit(9)

archive, stores = map(Path, sys.argv[1:])
config = ExtractConfig(stores, encoder="toy", policy=Policy(keep_free=0))
with connect(0) as client:
    for one in run_pipeline(client, find_slides([archive]), config, Listener(), end_process_for_b):
        print(one.source.slide_id, one.failure and one.failure.error_class, flush=True)
"""


@pytest.mark.slow
def test_a_slide_that_ends_the_whole_process_does_not_end_every_start(archive: Path, tmp_path: Path) -> None:
    """Without worker processes nothing outlives a crash; the same command, started again, gets past the slide."""
    codes, said = [], ""
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", DIES, str(archive), str(tmp_path / "stores")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        codes.append(done.returncode)
        said = done.stdout
        if done.returncode != 9:
            break
    assert codes == [9, 9, 9, 0], "twice among others, once by itself"
    assert sorted(said.split("\n")) == ["", "b worker_killed", "small None"]
    assert sorted(part.name for part in (tmp_path / "stores").iterdir()) == [
        ".quarantine.jsonl",
        "b.zarr",
        "small.zarr",
    ]


def test_a_run_without_workers_says_so_and_when_one_is_back(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    loop = pipeline._Loop.__new__(pipeline._Loop)
    loop._listener, loop._threads = heard, 2
    loop._without_workers_s, loop._had_workers_s = 0.0, now[0]
    for threads, passed_s in ((2, 5), (0, 30), (0, 29), (0, 5), (0, 500), (2, 5), (0, 30), (2, 5)):
        loop._threads = threads
        now[0] += passed_s
        loop._look_for_workers()
    assert heard.pauses == ["paused no_workers", "resumed no_workers"]


def test_what_a_worker_loads_once_is_loaded_before_its_task_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    class Finish:
        def load(self) -> None:
            order.append("load")

    class Broken:
        def load(self) -> None:
            raise OSError("no such model")

    monkeypatch.setattr(Start, "say", lambda self: order.append("begin"))
    guarded(lambda *_: order.append("work"), "a", "grade", Start("topic"), Finish())
    assert order == ["load", "begin", "work"]
    guarded(lambda *_: order.append("work"), "a", "grade", Start("topic"), Broken())
    assert order[3:] == ["begin", "work"], "the task will meet it again, and say so"
