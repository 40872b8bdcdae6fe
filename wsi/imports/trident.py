"""Features by TRIDENT (https://github.com/mahmoodlab/TRIDENT), HDF5.

`WSI.extract_patch_features` writes JOB/<mag>x_<px>px_<n>px_overlap/features_<encoder>/<slide>.h5 with `features`
(N, D), mostly float32, and `coords` (N, 2) int64, level-0 px, columns before rows. The attributes of `coords` are those
of patches/<slide>_patches.h5: patch_size (px at the target magnification), patch_size_level0, level0_magnification,
target_magnification, overlap, name, savetodir, and in newer versions level0_width, level0_height (`IO.coords_to_h5`).
Those of `features` are name, savetodir, and in newer versions encoder. Where TRIDENT was given patches by CLAM,
`coords` has the attributes of those instead. A leading axis of one, (1, N, D), is met in files that went through other
hands, and taken off.

A magnification is nominal: the scale of tiles is that of the slide times patch_size_level0 / patch_size, and differs
between slides. So it is known only with the slide, and is no part of the recipe.
"""

from collections.abc import Mapping
from typing import Any

from wsi.imports import ForeignFeatures, Hints
from wsi.imports.clam import level_recipe, level_side_px0, patches_attributes
from wsi.imports.h5_file import FeatureRows, H5File, read_places

STATED = (
    "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap", "level0_width",
    "level0_height", "patch_level", "downsample", "custom_downsample",
)  # fmt: skip


def read(file: H5File, patches: H5File | None, hints: Hints) -> ForeignFeatures:
    """What a file of features states; `patches` is not needed. Errors as of `FeatureRows`."""
    values = FeatureRows(file, "features")
    coords = read_places(file, "coords", len(values))
    said = (patches_attributes(patches, coords) if patches else {}) | file.attributes("coords")
    tile_px, overlap = file.whole(said, "patch_size", 1), file.whole(said, "overlap")
    encoder = file.attributes("features").get("encoder")
    magnification = file.number(said, "target_magnification", 0.1)
    return ForeignFeatures(
        values,
        coords,
        "px0",
        recipe={"tool": "trident", "target_magnification": magnification, **level_recipe(file, said)},
        side_px0=file.number(said, "patch_size_level0", 1) or level_side_px0(file, said),
        size_px0=_size_px0(file, said),
        tile_px=tile_px,
        stride_px=None if tile_px is None or overlap is None or overlap >= tile_px else tile_px - overlap,
        encoder=encoder if isinstance(encoder, str) and encoder != "None" else None,
        stated={key: said[key] for key in STATED if key in said},
    )


def _size_px0(file: H5File, said: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = file.whole(said, "level0_width", 1), file.whole(said, "level0_height", 1)
    return None if width is None or height is None else (width, height)
