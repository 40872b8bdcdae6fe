"""The pages without a browser: nothing in them that the policy forbids, contrast of text, groups of patterns."""

import re
from itertools import product
from pathlib import Path

import pytest

from workflows.review import page
from workflows.review.gleason import grade_group

REVIEW = Path(page.__file__).parent
STYLE = (REVIEW / "static" / "style.css").read_text(encoding="utf-8")
SCRIPTS = sorted(REVIEW.glob("static/*.js"))
SHELLS = sorted(REVIEW.glob("pages/*.html"))

TEXT = [(ink, back) for ink in ("ink", "soft", "link") for back in ("page", "card", "faint")]
TEXT += [(state, f"{state}-back") for state in ("good", "warn", "bad", "look")]
TEXT += [("on-accent", "accent"), ("warn", "card"), ("page", "ink")]
SHAPES = [("edge", "card"), ("edge", "page"), ("accent", "card")]
"""Borders of fields and what shows a choice: 3 to 1 (WCAG 1.4.11)."""


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, WCAG 2.2."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[theme == "dark"]))
    for pairs, least in ((TEXT, 4.5), (SHAPES, 3.0)):
        for first, second in pairs:
            assert contrast(colours[first], colours[second]) >= least, (first, second)


@pytest.mark.parametrize("path", SHELLS, ids=lambda path: path.stem)
def test_a_page_has_nothing_inline_and_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)
    assert not re.search(r"(?:src|href)=\"(?:\w+:)?//", text)
    for address in re.findall(r"/static/([\w./-]+)\?v=\{version\}", text):
        assert (REVIEW / "static" / address).is_file(), address


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_make_no_markup_out_of_text(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?!www\.w3\.org)", text
    )
    for name in re.findall(r'from "\./([\w.]+)"', text):
        assert (REVIEW / "static" / name).is_file(), name


def test_the_pages_groups_are_the_desks(tmp_path: Path) -> None:
    """The page shows the group before the desk has checked it; both follow the ISUP table."""
    shown = {
        (3, 3): "1",
        (3, 4): "2",
        (4, 3): "3",
        (4, 4): "4",
        (3, 5): "4",
        (5, 3): "4",
        (4, 5): "5",
        (5, 4): "5",
        (5, 5): "5",
    }
    assert {pair: grade_group(*pair) for pair in product((3, 4, 5), repeat=2)} == shown
