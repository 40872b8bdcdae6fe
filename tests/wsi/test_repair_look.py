"""A look at a store: what it notes, what it leaves alone when it is dry, and who is to make the store again."""

import json
from pathlib import Path

import pytest

from wsi.repair_look import Look, Repair, count


def look(target: Path, *, dry: bool = False) -> Look:
    return Look(target, dry, False, 0.2, Repair(target.name))


def describe(folder: Path, **said: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"format": "histograde-features", **said}
    (folder / "zarr.json").write_text(json.dumps({"attributes": {"histograde": meta}}))


def test_a_dry_look_notes_and_does_nothing(tmp_path: Path) -> None:
    done = []
    for dry in (True, False):
        one = look(tmp_path / "s.zarr", dry=dry)
        one.do("took it away", lambda: done.append(1))
        assert one.found.done == ["took it away"]
        assert len(done) == (not dry)


def test_what_fails_is_not_noted(tmp_path: Path) -> None:
    one = look(tmp_path / "s.zarr")
    with pytest.raises(ZeroDivisionError):
        one.do("divided", lambda: 1 / 0)
    assert one.found.done == []


def test_a_line_has_all_of_it() -> None:
    assert Repair("s.zarr").line() == "s.zarr: sound"
    assert Repair("s.zarr", ["a", "b"], ["c", "d"], ["e", "f"]).line() == "s.zarr: a; b; left: c; d; kept: e, f"
    assert (count(1, "chunk"), count(0, "chunk"), count(2, "chunk")) == ("1 chunk", "0 chunks", "2 chunks")


def test_who_makes_a_store_again(tmp_path: Path) -> None:
    """The grid says it, or where that cannot be read any of the features; who knows nothing extracts."""
    store = tmp_path / "s.zarr"
    assert look(store).maker == "extract"
    describe(store, recipe={"tiles": {}})
    describe(store / "features/toy", card={"name": "toy", "imported": None})
    assert look(store).maker == "extract"
    describe(store, recipe={"tiles": {}, "imported": {"tool": "clam"}})
    assert look(store).maker == "import"
    (store / "zarr.json").write_text("{")
    assert look(store).maker == "extract"
    describe(store / "features/.uni.partial", card={"name": "uni", "imported": {"tool": "clam"}})
    assert look(store).maker == "import"
    describe(store, recipe=None)
    describe(store / "features/.uni.partial", card=7)
    assert look(store).maker == "extract"


def test_temporary_files_and_remade_ones_are_named_by_their_folder(tmp_path: Path) -> None:
    features = tmp_path / "s.zarr/features/toy"
    features.mkdir(parents=True)
    (features / ".manifest.json.node.7.tmp").touch()
    one = look(tmp_path / "s.zarr")
    one.remove_temporary(features)
    one.remove_temporary(features)
    assert one.found.done == ["removed 1 temporary file of toy"]
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"
    (features / "manifest.json").write_text(json.dumps({"files": {"a": {"bytes": 1, "sha256": digest}}}))
    assert one.make_again(features, ["a", "b"], lambda: {"a": b"x", "b": b"y"}) == ["b"]
    assert one.make_again(features, ["a"], lambda: {"a": b"other"}) == ["a"]
    assert (features / "a").read_bytes() == b"x"
    assert one.found.done[1:] == ["made a of toy again"]
