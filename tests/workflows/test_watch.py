"""Slides that arrive in a folder: which are given, when, and how often."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from workflows import watch as module
from workflows.sources import SlideSource
from workflows.trial_opening import TrialOpening
from workflows.watch import FolderWatch, WatchConfig
from wsi.errors import UsageError

LATEST_S = 2 * module.SCAN_EVERY_S + module.WATCH_STABLE_S
"""A slide is whole after `WATCH_STABLE_S`, seen to be there within one interval and to be whole within another."""


class Trial(TrialOpening):
    """Says at once what opens: all but those named in `refused`; `asked` has every question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.refused: set[str] = set()
        self.on_ask: Callable[[SlideSource], None] = lambda source: None
        self._answers: list[tuple[int, bool]] = []

    @property
    def pending(self) -> int:
        return len(self._answers)

    def ask(self, number: int, source: SlideSource) -> None:
        self.asked.append(source.slide_id)
        self._answers.append((number, source.slide_id not in self.refused))
        self.on_ask(source)

    def answers(self) -> list[tuple[int, bool]]:
        found, self._answers = self._answers, []
        return found


class Desk:
    """A watch over `folder` with a clock that is turned by hand."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder, self.now_s, self.trial = folder, 0.0, Trial()
        self.said: list[str] = []
        config = WatchConfig(**{"folders": (folder,), **settings})
        self.watch = FolderWatch(config, trial=self.trial, say=self.said.append, clock=lambda: self.now_s)

    def wait(self, seconds: float) -> list[str]:
        """Slides that are given within so many seconds, asked for every half second."""
        given = []
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.5
            while (source := self.watch.take()) is not None:
                given.append(source.slide_id)
        return given


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "inbox").mkdir()
    return Desk(tmp_path / "inbox")


def put(path: Path, text: str = "pixels") -> Path:
    """Write a file; its ctime is later than that of every file written before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = time.time_ns()
    path.write_text(text)
    while path.stat().st_ctime_ns <= before:  # the kernel's clock goes in steps of milliseconds
        path.write_text(text)
    return path


def rewrite_quietly(path: Path, text: str) -> None:
    """Other bytes under the old modification time, as `cp -p` and rsync leave it."""
    kept = path.stat()
    put(path, text)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def test_a_slide_is_given_once_when_it_has_been_still_for_a_while(desk: Desk) -> None:
    put(desk.folder / "a.svs")
    desk.watch.take()
    assert desk.wait(module.WATCH_STABLE_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]
    assert desk.wait(300) == []
    assert desk.watch.found == 1
    assert desk.trial.asked == ["a"]


def test_what_is_given_is_described_as_in_any_folder(tmp_path: Path) -> None:
    path = put(tmp_path / "deep" / "a.ome.tiff")
    desk = Desk(tmp_path, fallback_mpp=(0.5, 0.5))
    source = None
    while source is None and desk.now_s < 60:
        desk.now_s += 1
        source = desk.watch.take()
    assert source == SlideSource("a", path, "a", fallback_mpp=(0.5, 0.5))


def test_a_slide_that_is_copied_slowly(desk: Desk) -> None:
    path = put(desk.folder / "a.svs", "")
    for part in range(20):
        path.write_text("x" * part)
        assert desk.wait(module.WATCH_STABLE_S - 1) == []
    assert desk.trial.asked == []
    assert desk.wait(LATEST_S) == ["a"]


def test_a_copy_that_keeps_an_old_time_and_has_its_size_from_the_start(desk: Desk) -> None:
    path = put(desk.folder / "a.svs", "0" * 9)
    os.utime(path, (0, 0))
    for part in range(9):
        rewrite_quietly(path, "1" * part + "0" * (9 - part))
        assert desk.wait(module.WATCH_STABLE_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]


def test_a_share_that_changes_ctimes_at_will_holds_no_slide_back_for_ever(desk: Desk) -> None:
    path = put(desk.folder / "a.svs")
    given: list[str] = []
    for second in range(round(module.GIVE_UP_S + LATEST_S)):
        path.chmod(0o600 + 0o44 * (second % 2))
        given += desk.wait(1)
        assert not given or desk.now_s >= module.GIVE_UP_S
    assert given == ["a"]


def test_a_share_that_changes_ctimes_at_will_brings_no_slide_back_again_and_again(desk: Desk) -> None:
    path = put(desk.folder / "a.svs", "broken")
    given = desk.wait(60)
    for second in range(600):
        desk.watch.done("a", quarantined=True)
        if second % 60 == 0:
            rewrite_quietly(path, "broken")
        given += desk.wait(1)
    assert given == ["a", "a"]
    put(path, "mended")
    assert desk.wait(60) == ["a"]


@pytest.mark.parametrize(
    "name",
    ["a.svs.part", "a.svs.filepart", "a.svs.crdownload", "a.svs.tmp", "a.part", "A.SVS.PART", ".a.svs.Xy3Zq9"],
)
def test_a_file_transfer_beside_it(desk: Desk, name: str) -> None:
    put(desk.folder / ("A.SVS" if name.startswith("A") else "a.svs"))
    put(desk.folder / name)
    put(desk.folder / "other.svs")
    assert desk.wait(60) == ["other"]
    (desk.folder / name).unlink()
    assert [slide_id.lower() for slide_id in desk.wait(LATEST_S)] == ["a"]


def test_what_a_dead_transfer_left_behind_does_not_hold_a_slide_back_for_ever(desk: Desk) -> None:
    put(desk.folder / "a.svs")
    stale = put(desk.folder / ".a.svs.Xy3Zq9")
    desk.wait(60)
    stale.write_text("goes on")
    assert desk.wait(module.GIVE_UP_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]


def test_unfinished_files_are_no_slides(desk: Desk) -> None:
    for name in ("a.svs.part", "a.svs.tmp", ".a.svs.Xy3Zq9", ".hidden.svs", "a.txt", "case.filepart/b.svs"):
        put(desk.folder / name)
    assert desk.wait(500) == []
    (desk.folder / "a.svs.part").rename(desk.folder / "a.svs")
    (desk.folder / "case.filepart").rename(desk.folder / "case")
    for name in ("a.svs.tmp", ".a.svs.Xy3Zq9"):
        (desk.folder / name).unlink()
    assert sorted(desk.wait(LATEST_S)) == ["a", "b"]


def test_a_slide_that_does_not_open_is_tried_again_when_it_changes(desk: Desk) -> None:
    desk.trial.refused.add("a")
    path = put(desk.folder / "a.svs", "header")
    assert desk.wait(100) == []
    assert desk.trial.asked == ["a"]
    desk.trial.refused.clear()
    path.write_text("header and pixels")
    assert desk.wait(LATEST_S) == ["a"]
    assert desk.trial.asked == ["a", "a"]


def test_a_slide_that_never_opens_is_given_in_the_end(desk: Desk) -> None:
    desk.trial.refused.add("a")
    put(desk.folder / "a.svs", "garbage")
    assert desk.wait(module.GIVE_UP_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]
    assert desk.wait(500) == []


def test_a_link_that_leads_nowhere_is_given_in_the_end(desk: Desk) -> None:
    desk.trial.refused.add("a")
    (desk.folder / "a.svs").symlink_to(desk.folder / "absent")
    assert desk.wait(module.GIVE_UP_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]


def test_a_slide_that_changes_while_it_is_tried(desk: Desk) -> None:
    path = put(desk.folder / "a.svs")
    desk.trial.on_ask = lambda source: None if len(desk.trial.asked) > 1 else rewrite_quietly(path, "others")
    assert desk.wait(LATEST_S) == []
    assert desk.wait(LATEST_S) == ["a"]
    assert desk.trial.asked == ["a", "a"]


@pytest.mark.parametrize("rewrite", [rewrite_quietly, put])
def test_a_slide_in_quarantine_is_given_again_when_it_is_replaced(
    desk: Desk, rewrite: Callable[[Path, str], object]
) -> None:
    path = put(desk.folder / "a.svs", "broken")
    assert desk.wait(60) == ["a"]
    desk.watch.done("a", quarantined=True)
    assert desk.wait(300) == []
    rewrite(path, "mended")
    assert desk.wait(module.WATCH_STABLE_S - 1) == []
    assert desk.wait(LATEST_S) == ["a"]
    assert desk.watch.found == 2
    assert desk.said == []


def test_a_slide_that_is_replaced_while_in_work_is_given_again_if_it_is_quarantined(desk: Desk) -> None:
    path = put(desk.folder / "a.svs", "broken")
    assert desk.wait(60) == ["a"]
    put(path, "mended")
    assert desk.wait(60) == []
    desk.watch.done("a", quarantined=True)
    assert desk.wait(60) == ["a"]


def test_a_slide_in_quarantine_that_was_gone_and_is_back(desk: Desk) -> None:
    path = put(desk.folder / "a.svs")
    assert desk.wait(60) == ["a"]
    desk.watch.done("a", quarantined=True)
    path.rename(desk.folder / "elsewhere")
    assert desk.wait(60) == []
    (desk.folder / "elsewhere").rename(path)
    assert desk.wait(60) == ["a"]


def test_a_graded_slide_that_changes_is_said_once_and_left(desk: Desk) -> None:
    path = put(desk.folder / "a.svs")
    assert desk.wait(60) == ["a"]
    desk.watch.done("a", quarantined=False)
    path.chmod(0o600)
    assert desk.wait(60) == []
    assert desk.said == []
    for text in ("other pixels", "and others again"):
        put(path, text)
        assert desk.wait(60) == []
    assert len(desk.said) == 1
    assert "a.svs" in desk.said[0]
    assert "changed" in desk.said[0]


def test_of_two_slides_with_one_name_the_first_that_came_stays(desk: Desk) -> None:
    first = put(desk.folder / "z" / "a.svs")
    second = put(desk.folder / "b" / "a.tif")
    put(desk.folder / "c.svs")
    assert desk.wait(200) == ["a", "c"]
    assert len(desk.said) == 1
    assert str(first) in desk.said[0]
    assert str(second) in desk.said[0]
    desk.watch.done("a", quarantined=False)
    second.rename(desk.folder / "b" / "other.tif")
    assert desk.wait(60) == ["other"]


def test_a_name_that_cannot_be_a_slide_id_is_said_once(desk: Desk) -> None:
    put(desk.folder / "a\n.svs")
    assert desk.wait(200) == []
    assert len(desk.said) == 1
    assert "cannot be a file name" in desk.said[0]


def test_a_graded_slide_may_be_moved_within_the_folder(desk: Desk) -> None:
    path = put(desk.folder / "a.svs")
    assert desk.wait(60) == ["a"]
    desk.watch.done("a", quarantined=False)
    for folder in ("done", "kept"):
        (desk.folder / folder).mkdir()
        path = path.rename(desk.folder / folder / "a.svs")
        assert desk.wait(200) == []
    assert desk.said == []
    put(desk.folder / "a.svs", "other bytes")
    assert desk.wait(60) == []
    assert len(desk.said) == 1


def test_a_slide_counts_once_however_many_ways_lead_to_it(tmp_path: Path) -> None:
    put(tmp_path / "inbox" / "day" / "a.svs")
    (tmp_path / "inbox" / "link.svs").symlink_to(tmp_path / "inbox" / "day" / "a.svs")
    (tmp_path / "inbox" / "day" / "up").symlink_to(tmp_path / "inbox", target_is_directory=True)
    (tmp_path / "way").symlink_to(tmp_path / "inbox", target_is_directory=True)
    desk = Desk(tmp_path / "inbox", folders=(tmp_path / "inbox", tmp_path / "inbox" / "day", tmp_path / "way"))
    assert desk.wait(200) in (["a"], ["link"])
    assert desk.said == []


def test_slides_come_in_the_order_of_their_arrival(desk: Desk) -> None:
    for name in ("c", "a", "d", "b"):
        put(desk.folder / f"{name}.svs")
    assert desk.wait(60) == ["c", "a", "d", "b"]


def test_a_dicom_folder_is_whole_when_no_instance_comes_any_more(desk: Desk) -> None:
    for number in range(5):
        put(desk.folder / "case" / f"{number}.dcm")
        assert desk.wait(module.WATCH_STABLE_S - 1) == []
    (desk.folder / "case" / "6.dcm.part").write_text("half")
    assert desk.wait(60) == []
    (desk.folder / "case" / "6.dcm.part").rename(desk.folder / "case" / "6.dcm")
    assert desk.wait(LATEST_S) == ["case"]


def test_a_mirax_slide_is_whole_with_its_side_folder(desk: Desk) -> None:
    put(desk.folder / "m" / "Data0000.dat")
    assert desk.wait(60) == []
    put(desk.folder / "m.mrxs")
    for number in range(5):
        put(desk.folder / "m" / f"Data000{number}.dat", "x" * number)
        put(desk.folder / "m" / "preview.jpg")
        assert desk.wait(module.WATCH_STABLE_S - 1) == []
    (desk.folder / "m" / ".Data0009.dat.Xy3Zq9").write_text("half")
    assert desk.wait(60) == []
    (desk.folder / "m" / ".Data0009.dat.Xy3Zq9").rename(desk.folder / "m" / "Data0009.dat")
    assert desk.wait(LATEST_S) == ["m"]


def test_what_the_run_writes_is_not_taken_for_slides(tmp_path: Path) -> None:
    out = tmp_path / "inbox" / "run"
    put(out / "heatmaps" / "a" / "attention.png")
    put(tmp_path / "inbox" / "a.svs")
    assert Desk(tmp_path / "inbox", leave_out=(out,)).wait(60) == ["a"]
    with pytest.raises(UsageError, match="what this run writes"):
        Desk(tmp_path / "inbox", leave_out=(tmp_path / "inbox",))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        Desk(tmp_path / "absent")


def test_a_share_that_goes_away_for_a_while(desk: Desk) -> None:
    put(desk.folder / "a.svs")
    put(desk.folder / "bad.svs")
    assert sorted(desk.wait(60)) == ["a", "bad"]
    desk.watch.done("a", quarantined=False)
    desk.watch.done("bad", quarantined=True)
    put(desk.folder / "b.svs")
    desk.wait(6)
    away = desk.folder.rename(desk.folder.with_name("away"))
    assert desk.wait(300) == []
    assert len(desk.said) == 1
    assert "cannot be listed" in desk.said[0]
    away.rename(desk.folder)
    assert desk.wait(60) == ["b"]
    assert len(desk.said) == 2
    assert "listed again" in desk.said[1]


def test_a_sub_folder_that_is_removed_is_nothing_to_talk_of(desk: Desk) -> None:
    path = put(desk.folder / "day" / "a.svs")
    desk.wait(6)
    path.unlink()
    path.parent.rmdir()
    assert desk.wait(60) == []
    assert desk.watch.waiting == 0
    assert desk.said == []


def test_stopping(desk: Desk) -> None:
    put(desk.folder / "a.svs")
    put(desk.folder / "b.svs")
    desk.now_s += 100
    source = None
    while source is None:
        desk.now_s += 1
        source = desk.watch.take()
    assert not desk.watch.over
    desk.watch.stop()
    assert desk.watch.over
    assert desk.wait(60) == []
    assert desk.watch.found == 1


def test_the_end_after_a_time_without_anything_new(tmp_path: Path) -> None:
    path = put(tmp_path / "a.svs", "")
    desk = Desk(tmp_path, idle_s=60.0)
    for part in range(10):
        path.write_text("x" * part)
        desk.wait(9)
    assert desk.wait(LATEST_S) == ["a"]
    desk.wait(60 - LATEST_S)
    assert not desk.watch.over
    desk.wait(LATEST_S)
    assert desk.watch.over


def test_an_end_without_waiting_gives_all_that_is_there(tmp_path: Path) -> None:
    put(tmp_path / "a.svs")
    put(tmp_path / "bad.svs")
    desk = Desk(tmp_path, idle_s=0.0)
    desk.trial.refused.add("bad")
    assert desk.wait(module.GIVE_UP_S + LATEST_S) == ["a", "bad"]
    assert desk.watch.over
    (tmp_path / "empty").mkdir()
    empty = Desk(tmp_path / "empty", idle_s=0.0)
    assert empty.wait(1) == []
    assert empty.watch.over


def test_how_many_are_still_to_be_given(desk: Desk) -> None:
    for number in range(40):
        put(desk.folder / f"{number}.svs")
    for _ in range(30):
        desk.now_s += 1
        desk.watch.take()
        if desk.watch.found:
            break
    assert desk.watch.waiting == 39
    put(desk.folder / "again" / "7.svs")
    assert len(desk.trial.asked) <= module.AHEAD
    assert len(desk.wait(60)) == 39
    assert desk.watch.waiting == 0  # the second of one name is not waited for
    put(desk.folder / "again" / "8.svs").rename(desk.folder / "again" / "other.svs")
    desk.wait(6)
    assert desk.watch.waiting == 1


def test_slides_that_were_given_are_looked_at_in_turns(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN_A_LOOK", 10)
    paths = [put(desk.folder / f"{number}.svs") for number in range(50)]
    assert len(desk.wait(60)) == 50
    for path in paths:
        desk.watch.done(path.stem, quarantined=True)
    looked_at: list[Path] = []
    real = module.sight_of
    monkeypatch.setattr(module, "sight_of", lambda path, *rest: looked_at.append(path) or real(path, *rest))
    desk.wait(5 * module.SCAN_EVERY_S)
    assert len(looked_at) == 50
    assert sorted(looked_at) == sorted(paths)
    put(paths[17], "mended")
    assert desk.wait(5 * module.SCAN_EVERY_S + LATEST_S) == ["17"]


def test_one_call_looks_for_a_short_time_only(tmp_path: Path) -> None:
    for number in range(60):
        put(tmp_path / f"{number}.svs")
    slow_s = module.LOOK_S / 10
    calls = []

    def clock() -> float:  # as if every file took a tenth of what a call may take
        calls.append(None)
        return len(calls) * slow_s

    watch = FolderWatch(WatchConfig((tmp_path,), scan_every_s=0, stable_s=0), trial=Trial(), clock=clock)
    longest = {False: 0, True: 0}
    given: set[str] = set()
    for _ in range(2000):
        before, busy = len(calls), len(given) > 0
        source = watch.take()
        given |= {source.slide_id} if source is not None else set()
        longest[busy] = max(longest[busy], len(calls) - before)
    assert longest[True] < 40
    assert longest[False] < 130
    assert len(given) == 60
