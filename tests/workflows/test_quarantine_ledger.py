"""What is remembered of slides that cannot be processed, and until when."""

import os
from pathlib import Path

from tests.workflows.test_watch import put, rewrite_quietly
from workflows.extraction import ExtractConfig
from workflows.failures import Failure
from workflows.quarantine_ledger import Ledger
from workflows.sources import SlideSource

FAILURE = Failure("a", "plan", "unreadable", "no reader can open it", "copy it again")


def test_a_failure_is_known_until_other_bytes_are_written_whatever_their_size_and_time(tmp_path: Path) -> None:
    config = ExtractConfig(store=tmp_path)
    source = SlideSource("a", put(tmp_path / "a.svs", "broken"), "a")
    Ledger(tmp_path).add(source, config, FAILURE)
    assert Ledger(tmp_path).known(source, config) == FAILURE
    before = os.stat(source.path)
    rewrite_quietly(tmp_path / "a.svs", "mended")
    after = os.stat(source.path)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert Ledger(tmp_path).known(source, config) is None


def test_nothing_is_known_of_a_slide_that_is_not_there(tmp_path: Path) -> None:
    config = ExtractConfig(store=tmp_path)
    source = SlideSource("a", put(tmp_path / "a.svs", "broken"), "a")
    ledger = Ledger(tmp_path)
    ledger.add(source, config, FAILURE)
    (tmp_path / "a.svs").unlink()
    assert ledger.known(source, config) is None
