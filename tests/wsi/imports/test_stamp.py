"""What STAMP's files state, version by version."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.wsi.imports.makers import column_order, features_of, write_stamp, write_stamp_1
from wsi.errors import UnreadableFeaturesError, UsageError
from wsi.imports import Hints
from wsi.imports.h5_file import open_h5
from wsi.imports.stamp import read

UM = column_order(step=256)
FEATURES = features_of(12)


def test_since_2_1(tmp_path: Path) -> None:
    with open_h5(write_stamp(tmp_path / "s.h5", FEATURES, UM)) as file:
        found = read(file, None, Hints())
    assert (found.unit, found.side_um, found.tile_px, found.stride_px) == ("um", 256.0, 224, 224)
    assert found.tile_mpp == 256 / 224
    assert found.encoder == "mahmood-uni"
    assert np.array_equal(found.coords, UM)


def test_2_0(tmp_path: Path) -> None:
    with open_h5(write_stamp(tmp_path / "s.h5", FEATURES, UM, "2.0.0")) as file:
        found = read(file, None, Hints())
    assert (found.unit, found.side_um, found.tile_px, found.tile_mpp) == ("um", 256.0, None, None)


@pytest.mark.parametrize("hints", [Hints(), Hints(tile_mpp=1.0), Hints(axes="xy")])
def test_before_2_0_nothing_is_guessed(tmp_path: Path, hints: Hints) -> None:
    path = write_stamp_1(tmp_path / "s.h5", FEATURES, UM, np.zeros(12, bool))
    with open_h5(path) as file, pytest.raises(UsageError, match="STAMP before 2.0"):
        read(file, None, hints)


@pytest.mark.parametrize(("axes", "first"), [("xy", [0, 384]), ("yx", [384, 0])])
def test_before_2_0_as_the_user_says(tmp_path: Path, axes: str, first: list[int]) -> None:
    path = write_stamp_1(tmp_path / "s.h5", FEATURES, UM, np.zeros(12, bool))
    with open_h5(path) as file:
        found = read(file, None, Hints(1.5, axes))  # type: ignore[arg-type]
    assert found.coords[1].tolist() == first  # (0, 256) px of 1.5 um
    assert (found.tile_mpp, found.tile_px, found.side_um) == (1.5, None, None)


def test_another_unit_is_refused(tmp_path: Path) -> None:
    path = write_stamp(tmp_path / "s.h5", FEATURES, UM)
    with h5py.File(path, "a") as file:
        file.attrs["unit"] = "px"
    with open_h5(path) as file, pytest.raises(UnreadableFeaturesError, match="in 'px', expected um"):
        read(file, None, Hints())
