"""What TRIDENT's files state, version by version."""

from pathlib import Path

from tests.wsi.imports.makers import column_order, features_of, trident_attributes, write_trident
from wsi.imports import Hints
from wsi.imports.h5_file import open_h5
from wsi.imports.trident import read

COORDS = column_order()
FEATURES = features_of(12)


def test_a_newer_file(tmp_path: Path) -> None:
    with open_h5(write_trident(tmp_path / "s.h5", FEATURES, COORDS, overlap=64)) as file:
        found = read(file, None, Hints())
    assert (found.tile_px, found.stride_px, found.side_px0) == (256, 192, 512.0)
    assert (found.size_px0, found.encoder, found.tile_mpp) == ((40000, 30000), "uni_v1", None)
    assert found.recipe == {
        "tool": "trident", "target_magnification": 20.0, "patch_level": None, "custom_downsample": None
    }  # fmt: skip
    assert "name" not in found.stated
    assert "savetodir" not in found.stated


def test_an_older_file_has_no_size_and_no_encoder(tmp_path: Path) -> None:
    """A `None` is stored as the text "None"."""
    path = write_trident(tmp_path / "s.h5", FEATURES, COORDS, encoder="None", level0_width=None, level0_height=None)
    with open_h5(path) as file:
        found = read(file, None, Hints())
    assert (found.size_px0, found.encoder) == (None, None)


def test_a_file_made_of_clams_patches(tmp_path: Path) -> None:
    nothing = dict.fromkeys(trident_attributes(), None) | {"patch_size": 224, "patch_level": 0}
    path = write_trident(tmp_path / "s.h5", FEATURES, COORDS, **{"overlap": None, **nothing})
    with open_h5(path) as file:
        found = read(file, None, Hints())
    assert (found.tile_px, found.side_px0, found.stride_px) == (224, 224.0, None)
    assert found.recipe["patch_level"] == 0
    assert found.recipe["target_magnification"] is None
