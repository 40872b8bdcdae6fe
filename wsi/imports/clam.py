"""Features by CLAM (https://github.com/mahmoodlab/CLAM), HDF5.

`extract_features_fp.py` writes FEATURES/h5_files/<slide>.h5 with `features` (N, D) float32 and `coords` (N, 2) int32,
level-0 px, and no attributes. How tiles were cut stands in the file that they were read from,
RESULTS/patches/<slide>.h5 (`create_patches_fp.py`): `coords` with the attributes patch_size (px of the level),
patch_level, downsample (x, y) of that level, downsampled_level_dim, level_dim, name, save_path. Neither states the
distance of tiles, the encoder, the size to which tiles were resized for it (--target_patch_size), or the size of a
pixel.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsi.imports import ForeignFeatures, Hints
from wsi.imports.h5_file import FeatureRows, H5File, read_places

STATED = ("patch_size", "patch_level", "downsample", "custom_downsample", "level_dim", "downsampled_level_dim")


def read(file: H5File, patches: H5File | None, hints: Hints) -> ForeignFeatures:
    """What a file of features states, with that of its patches where it is there; errors as of `FeatureRows`."""
    values = FeatureRows(file, "features")
    coords = read_places(file, "coords", len(values))
    said = file.attributes("coords") | (patches_attributes(patches, coords) if patches else {})
    return ForeignFeatures(
        values,
        coords,
        "px0",
        recipe={"tool": "clam", **level_recipe(file, said)},
        side_px0=level_side_px0(file, said),
        size_px0=_size_px0(file, said),
        tile_px=file.whole(said, "patch_size", 1),
        stated={key: said[key] for key in STATED if key in said},
    )


def patches_attributes(patches: H5File, coords: np.ndarray) -> dict[str, Any]:
    """Attributes of the places that features were made of; raises `UnreadableFeaturesError` if they are others."""
    if not np.array_equal(read_places(patches, "coords", len(coords)), coords):
        raise patches.wrong("its coords are not those of the features; give the patches that these were made of")
    return patches.attributes("coords")


def level_recipe(file: H5File, said: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree between slides where tiles were cut out of a stored level."""
    return {
        "patch_level": file.whole(said, "patch_level"),
        "custom_downsample": file.number(said, "custom_downsample", 1),
    }


def level_side_px0(file: H5File, said: Mapping[str, Any]) -> float | None:
    """Side of a tile that was cut out of a stored level, level-0 px; None where the level's scale is not stated."""
    side, level = file.whole(said, "patch_size", 1), file.whole(said, "patch_level")
    factor = _first(said.get("downsample"))
    if side is None or level is None or (factor is None and level > 0):
        return None
    factor = file.number({"downsample": factor}, "downsample", 0.1) if factor is not None else 1.0
    return side * (factor or 1.0) * (file.number(said, "custom_downsample", 1) or 1.0)


def _size_px0(file: H5File, said: Mapping[str, Any]) -> tuple[int, int] | None:
    """Size of level 0: stated where that is the level that tiles were cut from."""
    sides = said.get("level_dim")
    if file.whole(said, "patch_level") != 0 or not isinstance(sides, list) or len(sides) != 2:
        return None
    return int(sides[0]), int(sides[1])


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value
