"""`histograde info`: facts of a slide, and the verdict."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests.hostile.makers import damage_tile, write_svs
from workflows.cli import main


def info(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["info", *map(str, arguments)])
    return int(stopped.value.code or 0), capsys.readouterr().out


def test_accepted(small_svs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = info(capsys, small_svs, "--json")
    facts = json.loads(out)
    tissue = np.pi * (0.45 * 1500 * 0.5e-3) * (0.45 * 1400 * 0.5e-3)
    assert code == 0
    assert facts.pop("tissue_mm2") == pytest.approx(tissue, rel=0.05)
    assert facts == {
        "slide_id": "small",
        "reader": "jpeg_tiff",
        "vendor": "aperio",
        "level_sizes_px": [[1500, 1400], [375, 350]],
        "downsamples": [1.0, 4.0],
        "mpp": [0.5, 0.5],
        "mpp_source": "aperio.MPP",
        "objective_power": 20.0,
        "bounds_px0": [0, 0, 1500, 1400],
        "content_hash": sha256(small_svs.read_bytes()).hexdigest(),
        "associated_images": ["thumbnail"],
        "accepted": True,
        "refusal": None,
        "error_class": None,
        "remedy": None,
        "unreadable_share": 0.0,
    }


def test_for_people(small_svs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = info(capsys, small_svs)
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    assert rows["size"] == "1,500 x 1,400 px, 0.75 x 0.70 mm"
    assert rows["mpp"] == "0.5 x 0.5 um/px, from aperio.MPP"
    assert rows["accepted"] == "yes"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The class of error for which a slide would be refused."""
    code, out = info(capsys, *arguments, "--json")
    facts = json.loads(out)
    assert code == 3
    assert facts["accepted"] is False
    assert facts["refusal"]
    assert facts["remedy"]
    return facts["error_class"]


def test_not_a_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "letter.svs"
    path.write_text("Dear pathologist")
    assert refused(capsys, path) == "unreadable"
    code, out = info(capsys, path)
    assert code == 3
    assert "no [unreadable]" in out


def test_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, tmp_path / "absent.svs") == "unreadable"


def test_without_pixel_size(tmp_path: Path, small_pixels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_svs(tmp_path / "no-mpp.svs", small_pixels, mpp=None)
    assert refused(capsys, path) == "missing_mpp"
    code, out = info(capsys, path, "--slide-mpp", "0.25", "--json")
    assert code == 0
    assert json.loads(out)["mpp"] == [0.25, 0.25]


def test_impossible_pixel_size(tmp_path: Path, small_pixels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, write_svs(tmp_path / "mm.svs", small_pixels, mpp="0.00025")) == "implausible_mpp"


def test_glass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_svs(tmp_path / "glass.svs", np.full((1200, 1200, 3), 243, np.uint8))
    assert refused(capsys, path) == "no_tissue"


def test_fluorescence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 12, (1200, 1200, 3)).astype(np.uint8)
    pixels[500:700, 500:700, 2] = 200
    assert refused(capsys, write_svs(tmp_path / "dark.svs", pixels)) == "not_brightfield"


def test_level_0_is_destroyed(tmp_path: Path, small_pixels: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_svs(tmp_path / "damaged.svs", small_pixels)
    for column in range(6):
        for row in range(6):
            damage_tile(path, 0, column, row)
    assert refused(capsys, path) == "tile_unreadable"


def test_only_the_reader_asked_for(small_svs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = info(capsys, small_svs, "--reader", "openslide", "--json")
    assert code == 0
    assert json.loads(out)["reader"] == "openslide"
    assert refused(capsys, small_svs, "--reader", "array") == "unreadable"
