"""How the files of a slide look while they arrive."""

import os
from pathlib import Path

import pytest

from workflows.arrival import UNSEEN, sight_of, transfers_in


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.svs.part", "a.svs"),
        ("a.svs.Filepart", "a.svs"),
        ("a.svs.crdownload", "a.svs"),
        ("a.svs.tmp", "a.svs"),
        (".a.svs.aB3xY9", "a.svs"),
        ("a.part", "a"),
    ],
)
def test_what_transfers_call_their_files(name: str, meant: str) -> None:
    assert transfers_in(["other.svs", name]) == {meant: [name]}


@pytest.mark.parametrize("name", ["a.svs", "a.parted.svs", ".a.svs", "part", ".part", "a.svs.aB3xY9", ".a.aB3x-9"])
def test_other_names(name: str) -> None:
    assert transfers_in([name]) == {}


def test_what_changes_the_sight_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_text("one")
    os.utime(path, ns=(0, 1_000_000_001))
    first = sight_of(path)
    assert sight_of(path) == first
    assert first.newest_ns == path.stat().st_ctime_ns
    path.chmod(0o600 if path.stat().st_mode & 0o77 else 0o644)
    while sight_of(path).files == first.files:  # within one step of the kernel's clock
        path.chmod(0o640)
    assert sight_of(path).content == first.content
    os.utime(path, ns=(0, 1_000_000_002))
    assert sight_of(path).content != first.content
    path.write_text("three")
    os.utime(path, ns=(0, 1_000_000_001))
    assert sight_of(path).content != first.content


def test_the_sight_of_a_folder_is_of_all_its_instances(tmp_path: Path) -> None:
    for name in ("1.dcm", "2.dcm", "notes.txt"):
        (tmp_path / name).write_text(name)
    first = sight_of(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing of the slide")
    assert sight_of(tmp_path) == first
    (tmp_path / "2.dcm").write_text("changed")
    assert sight_of(tmp_path).content != first.content


def test_transfers_beside_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.svs"
    path.write_text("one")
    first = sight_of(path, transfers_in(os.listdir(tmp_path)))
    assert first.transfers == b""
    for size in (1, 2):
        (tmp_path / "a.svs.part").write_text("x" * size)
        (tmp_path / "b.svs.part").write_text("x" * size)
        now = sight_of(path, transfers_in(os.listdir(tmp_path)))
        assert now.transfers not in (b"", first.transfers)
        assert now.files == first.files
        first = now
    (tmp_path / "b.svs.part").write_text("of another slide")
    assert sight_of(path, transfers_in(os.listdir(tmp_path))) == first


def test_what_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.svs").symlink_to(tmp_path / "absent")
    assert sight_of(tmp_path / "a.svs") == UNSEEN
    assert sight_of(tmp_path / "b.svs") == UNSEEN
