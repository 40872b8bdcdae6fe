"""A file that hangs or kills its reader costs that file, and not the run."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.wsi.imports.makers import column_order, features_of, write_trident
from wsi.errors import UnreadableFeaturesError
from wsi.imports import Hints
from wsi.imports.probe import Probe


def act(path: Path) -> None:
    """Do what the file's name says."""
    if path.name == "hangs":
        threading.Event().wait()
    if path.name == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path.name == "raises":
        raise RuntimeError("odd")
    path.with_suffix(".seen").touch()


def test_what_hangs_or_dies_is_named_and_the_next_is_looked_at(tmp_path: Path) -> None:
    with Probe(act, limit_s=15) as probe:
        probe.check(tmp_path / "sound")
        with pytest.raises(UnreadableFeaturesError, match="^dies: .*ends the process"):
            probe.check(tmp_path / "dies")
        probe.check(tmp_path / "raises")
        probe.check(tmp_path / "other")
    assert sorted(part.name for part in tmp_path.iterdir()) == ["other.seen", "sound.seen"]
    with Probe(act, limit_s=0.5) as probe, pytest.raises(UnreadableFeaturesError, match="^hangs: .*within 0.5 s"):
        probe.check(tmp_path / "hangs")


def test_a_sound_and_a_damaged_file_pass_silently(tmp_path: Path) -> None:
    sound = write_trident(tmp_path / "s.h5", features_of(12), column_order())
    (tmp_path / "t.h5").write_bytes(b"no HDF5")
    with Probe() as probe:
        probe.check(sound, None, "trident", Hints())
        probe.check(tmp_path / "t.h5", None, "trident", Hints())
