"""What a killed writer leaves is told from what is somebody's."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wsi.store_remains import (
    foreign_in_features,
    foreign_in_grid,
    is_temporary,
    temporary_beside,
    temporary_files,
)

HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("name", "left_by_a_writer"),
    [
        (".manifest.json.4711.tmp", True),
        ("..source.json.4711.tmp", True),
        (f"zarr.{HEX}.partial", True),
        (f"coords/c/0/0.{HEX}.partial", True),
        (f"tissue_fraction/c/0.{HEX}.partial", True),
        (f"tissue/zarr.{HEX}.partial", True),
        (f"values/c/12/0.{HEX}.partial", True),
        (f"features/zarr.{HEX}.partial", True),
        (".manifest.json.tmp", False),
        (".notes.json.4711.tmp", False),
        ("sub/.manifest.json.4711.tmp", False),
        (".manifest.json.node-7.4711.tmp", True),
        (".zarr.json.node-7.4711.tmp", True),
        ("coords/c/0/.0.node-7.4711.tmp", True),
        ("values/c/12/.0.4711.tmp", True),
        ("values/c/12/.1.node-7.4711.tmp", False),
        (".notes.node-7.4711.tmp", False),
        (".4711.tmp", False),
        (f"zarr.{HEX[1:]}.partial", False),
        (f"mine.{HEX}.partial", False),
        (f"values/notes/0.{HEX}.partial", False),
        ("0.partial", False),
        ("manifest.json", False),
    ],
)
def test_what_a_killed_writer_left(name: str, left_by_a_writer: bool) -> None:
    assert is_temporary(name) is left_by_a_writer


def lay(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_files_of_a_sound_store_are_of_a_store(small_store: Path) -> None:
    assert foreign_in_grid(small_store) == []
    assert foreign_in_features(small_store / "features" / "toy") == []
    assert list(temporary_files(small_store)) == list(temporary_files(small_store / "features" / "toy")) == []


def test_files_of_others_are_named(tmp_path: Path) -> None:
    mine = ["Thumbs.db", ".DS_Store", "features/notes.txt", "coords/c/0/1", "values/c/0/0", "labels/a.csv"]
    lay(tmp_path, *mine, "zarr.json", "coords/c/0/0", f"coords/c/0/0.{HEX}.partial", "features/toy/anything")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert foreign_in_grid(tmp_path) == sorted([*mine, "link"])
    assert list(temporary_files(tmp_path)) == [tmp_path / f"coords/c/0/0.{HEX}.partial"]


def test_files_of_others_in_features_are_named(tmp_path: Path) -> None:
    ours = ["values/c/3/0", "bad/c/0", ".journal/000003.json", ".journal/.000003.json.7.tmp", ".manifest.json.7.tmp"]
    lay(tmp_path, *ours, "values/c/3/1", "values/c/notes.txt", "Thumbs.db")
    assert foreign_in_features(tmp_path) == ["Thumbs.db", "values/c/3/1", "values/c/notes.txt"]


def kill_before_the_rename(folder: Path, file: str) -> None:
    """What a process leaves that is killed while it writes a file."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    code = (
        "import os, sys, signal, pathlib; from wsi.files import write_atomic; "
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
        "write_atomic(pathlib.Path(sys.argv[1]), b'x')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder / file)], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL


def test_what_a_process_leaves_that_is_killed_is_known_for_that(tmp_path: Path) -> None:
    kill_before_the_rename(tmp_path / "s.zarr", "manifest.json")
    kill_before_the_rename(tmp_path / "s.zarr/features/toy", "values/c/12/0")
    kill_before_the_rename(tmp_path, "run.json")
    assert len(list(temporary_files(tmp_path / "s.zarr"))) == 1
    assert len(list(temporary_files(tmp_path / "s.zarr/features/toy"))) == 1
    assert foreign_in_grid(tmp_path / "s.zarr") == foreign_in_features(tmp_path / "s.zarr/features/toy") == []
    assert len(temporary_beside(tmp_path)) == 1
