"""What CLAM's files state, alone and with those of its patches."""

from pathlib import Path

import pytest

from tests.wsi.imports.makers import column_order, features_of, write_clam, write_clam_patches
from wsi.imports import ForeignFeatures, Hints
from wsi.imports.clam import level_side_px0, read
from wsi.imports.h5_file import open_h5

COORDS = column_order()


def read_with(tmp_path: Path, level: int) -> ForeignFeatures:
    features = write_clam(tmp_path / "h5_files" / "s.h5", features_of(12), COORDS)
    patches = write_clam_patches(tmp_path / "patches" / "s.h5", COORDS, level=level)
    with open_h5(features) as file, open_h5(patches) as other:
        return read(file, other, Hints())


def test_alone_it_states_nothing(tmp_path: Path) -> None:
    with open_h5(write_clam(tmp_path / "s.h5", features_of(12), COORDS)) as file:
        found = read(file, None, Hints())
    assert found.recipe == {"tool": "clam", "patch_level": None, "custom_downsample": None}
    assert (found.side_px0, found.tile_px, found.size_px0, found.stated) == (None, None, None, {})


def test_the_size_of_level_0_is_known_if_tiles_came_from_it(tmp_path: Path) -> None:
    assert read_with(tmp_path, 0).size_px0 == (40000, 30000)
    assert read_with(tmp_path, 2).size_px0 is None


@pytest.mark.parametrize(
    ("said", "side_px0"),
    [
        ({"patch_size": 256, "patch_level": 0}, 256),
        ({"patch_size": 256, "patch_level": 1, "downsample": [4.0, 4.0]}, 1024),
        ({"patch_size": 256, "patch_level": 1, "downsample": 4.0}, 1024),
        ({"patch_size": 256, "patch_level": 1}, None),  # how large that level is, nobody says
        ({"patch_size": 256}, None),
        ({"patch_level": 0}, None),
        ({"patch_size": 256, "patch_level": 0, "custom_downsample": 2}, 512),
    ],
)
def test_side_of_a_tile(tmp_path: Path, said: dict[str, object], side_px0: float | None) -> None:
    with open_h5(write_clam(tmp_path / "s.h5", features_of(12), COORDS)) as file:
        assert level_side_px0(file, said) == side_px0


def test_names_and_paths_are_not_stated(tmp_path: Path) -> None:
    assert not {"name", "save_path"} & set(read_with(tmp_path, 1).stated or {})
