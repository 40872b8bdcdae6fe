"""Features by STAMP (https://github.com/KatherLab/STAMP), HDF5.

`stamp.preprocessing.extract_` writes <extractor>/<slide>.h5 with `feats` (N, D) float16 and `coords` (N, 2) float32,
(x, y) in um from the corner of level 0, in the order in which tiles were done. Attributes of the file: extractor,
unit = "um", and since 2.1 stamp_version, tile_size_um, tile_size_px, code_hash, later feat_type = "tile"; 2.0 has
tile_size (um) instead. Places were multiplied by the x pixel size of the slide, for both axes.

Before 2.0 there are `augmented` (N,) bool and an attribute extractor ("STAMP-extract-v..."), and nothing else: `coords`
are pixels of the slide brought to 256 um on 224 px unless --mpp said otherwise, as (x, y) where tiles came from the
slide, as (row, column) where they came from its cached JPEG. A file does not say which, so the user must.
"""

import numpy as np

from wsi.errors import UsageError
from wsi.imports import ForeignFeatures, Hints
from wsi.imports.h5_file import FeatureRows, H5File, read_places

STATED = ("stamp_version", "unit", "tile_size", "tile_size_um", "tile_size_px", "code_hash", "feat_type")


def read(file: H5File, patches: H5File | None, hints: Hints) -> ForeignFeatures:
    """What a file of features states. Errors as of `FeatureRows`.

    Raises
    ------
    UsageError
        If the file is older than STAMP 2.0 and `hints` do not say what it leaves open.
    """
    said = file.attributes()
    if said.get("feat_type", "tile") != "tile":
        raise file.wrong(f"holds features of a whole {said['feat_type']}, expected those of tiles")
    values = FeatureRows(file, "feats")
    coords = read_places(file, "coords", len(values))
    encoder = said.get("extractor")
    encoder = encoder if isinstance(encoder, str) else None
    stated = {key: said[key] for key in STATED if key in said}
    if said.get("unit", "um") != "um":
        raise file.wrong(f"its places are in {said['unit']!r}, expected um")
    side_um = file.number(said, "tile_size_um", 0.1) or file.number(said, "tile_size", 0.1)
    if side_um is None and "unit" not in said:
        return _before_2(file, values, coords, encoder, hints)
    tile_px = file.whole(said, "tile_size_px", 1)
    mpp = None if side_um is None or tile_px is None else side_um / tile_px
    return ForeignFeatures(
        values,
        coords,
        "um",
        recipe={"tool": "stamp", "tile_size_um": side_um},
        side_um=side_um,
        tile_px=tile_px,
        stride_px=tile_px,
        tile_mpp=mpp,
        encoder=encoder,
        stated=stated,
    )


def _before_2(
    file: H5File, values: FeatureRows, coords: np.ndarray, encoder: str | None, hints: Hints
) -> ForeignFeatures:
    if hints.tile_mpp is None or hints.axes is None:
        raise UsageError(
            f"{file.name}: the file states neither unit nor order of its places (STAMP before 2.0): give --tile-mpp "
            "(1.142857 was its default) and --axes (xy, or yx where tiles came from cached JPEGs)"
        )
    left_out = None
    if "augmented" in file.names():
        left_out = _flags(file, len(values))
    return ForeignFeatures(
        values,
        (coords if hints.axes == "xy" else coords[:, ::-1]) * hints.tile_mpp,
        "um",
        recipe={"tool": "stamp", "tile_size_um": None},
        tile_mpp=hints.tile_mpp,
        encoder=encoder,
        left_out=left_out,
        stated={"tile_mpp_by_user": hints.tile_mpp, "axes_by_user": hints.axes},
    )


def _flags(file: H5File, tiles: int) -> np.ndarray:
    dataset = file.dataset("augmented", "b")
    if dataset.shape != (tiles,):
        raise file.wrong(f"augmented has the shape {dataset.shape}, but there are features of {tiles} tiles")
    with file.told("augmented"):
        return np.asarray(dataset[...], bool)
