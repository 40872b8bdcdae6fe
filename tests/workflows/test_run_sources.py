"""The list of a run's slides comes back, and is one that every command takes."""

from pathlib import Path

from workflows.run_sources import SOURCES, load_sources, save_sources
from workflows.sources import SlideSource, find_slides
from wsi.slide_url import SlideUrl


def test_sources_come_back_and_stay(tmp_path: Path) -> None:
    one = SlideSource("a, b", tmp_path / "odd, name.svs", "patient", "site", (0.25, 0.2501))
    two = SlideSource("z", SlideUrl("s3://bucket/folder/z.svs"), "z")
    save_sources(tmp_path, [two, one])
    assert load_sources(tmp_path) == {"a, b": one, "z": two}
    moved = SlideSource("z", tmp_path / "z.svs", "z", fallback_mpp=(0.5, 0.5))
    save_sources(tmp_path, [moved])
    assert load_sources(tmp_path) == {"a, b": one, "z": SlideSource("z", tmp_path / "z.svs", "z")}
    assert [source.slide_id for source in find_slides([tmp_path / SOURCES])] == ["a, b", "z"]


def test_what_a_url_signs_with_is_not_kept(tmp_path: Path) -> None:
    save_sources(tmp_path, [SlideSource("a", SlideUrl("https://host/a.svs?signature=secret"), "a")])
    assert "secret" not in (tmp_path / SOURCES).read_text()


def test_a_run_without_a_list_has_no_sources(tmp_path: Path) -> None:
    assert load_sources(tmp_path) == {}


def test_a_damaged_list_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / SOURCES).write_bytes(b"\xff\xfe no list")
    one = SlideSource("a", tmp_path / "a.svs", "a")
    save_sources(tmp_path, [one])
    assert load_sources(tmp_path) == {"a": one}
