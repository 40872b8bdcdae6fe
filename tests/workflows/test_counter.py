"""What is said of a long walk without a terminal, and on one."""

import sys

import pytest

from workflows import counter as module
from workflows.counter import Counter


def test_without_a_terminal_a_short_walk_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Counter("verify", 2) as counter:
        counter.add()
        counter.add(noted=True)
    assert capsys.readouterr() == ("", "")


def test_a_long_walk_says_where_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_EVERY_S", -1.0)
    with Counter("verify", 3000, "slides") as counter:
        counter.add()
        counter.add(noted=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == ["  verify: 1/3,000 slides", "  verify: 2/3,000 slides, 1 to report"]


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Counter("verify", 2) as counter:
        counter.add()
        counter.add(noted=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "2/2 stores, 1 to report" in said.err
