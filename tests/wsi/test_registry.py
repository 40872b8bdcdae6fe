"""Plug points: looked up when asked for, and extended from outside through entry points."""

import sys
from importlib.metadata import EntryPoint

import pytest

from wsi import registry as module
from wsi.errors import UsageError
from wsi.registry import Registry


def test_nothing_is_imported_until_it_is_looked_up():
    names = Registry("part", {"a": "no.such.module:thing", "b": "math:pi"})
    assert list(names) == ["a", "b"]
    assert "a" in names
    assert len(names) == 2
    assert names["b"] == sys.modules["math"].pi
    with pytest.raises(ModuleNotFoundError):
        names["a"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"no part is called 'c'; there are: a, b"):
        Registry("part", {"a": "m:x", "b": "m:y"})["c"]


def test_entry_points_add_names_but_do_not_replace_ours(monkeypatch):
    points = [EntryPoint("b", "math:e", "histograde.parts"), EntryPoint("a", "math:tau", "histograde.parts")]
    monkeypatch.setattr(module, "entry_points", lambda group: points if group == "histograde.parts" else [])
    names = Registry("part", {"b": "math:pi"})
    assert dict(names) == {"b": sys.modules["math"].pi, "a": sys.modules["math"].tau}
    assert list(names) == ["b", "a"]
