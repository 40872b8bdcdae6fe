"""HDF5 files in the very layouts of the three programs, as their source code writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NAME_OF_PATIENT = "Jane Roe"


def growing(file: h5py.File, name: str, values: np.ndarray, attributes: Mapping[str, Any] | None = None) -> None:
    """A dataset as TRIDENT's `save_h5` and CLAM's `save_hdf5` make them: chunks of one row, first axis unlimited."""
    shape = values.shape
    made = file.create_dataset(name, shape, values.dtype, maxshape=(None, *shape[1:]), chunks=(1, *shape[1:]))
    made[:] = values
    for key, value in (attributes or {}).items():
        made.attrs[key] = value


def trident_attributes(patch_size: int = 256, overlap: int = 0, **changes: Any) -> dict[str, Any]:
    attributes = {
        "patch_size": patch_size,
        "patch_size_level0": patch_size * 40 // 20,
        "level0_magnification": 40,
        "target_magnification": 20,
        "overlap": overlap,
        "name": NAME_OF_PATIENT,
        "savetodir": f"/data/{NAME_OF_PATIENT}",
        "level0_width": 40000,
        "level0_height": 30000,
    } | changes
    return {key: value for key, value in attributes.items() if value is not None}


def write_trident(
    path: Path, features: np.ndarray, coords: np.ndarray, *, encoder: Any = "uni_v1", **attributes: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        about = {"name": NAME_OF_PATIENT, "savetodir": "/data", "encoder": encoder}
        growing(file, "features", features, about)
        growing(file, "coords", coords.astype(np.int64), trident_attributes(**attributes))
    return path


def write_clam(path: Path, features: np.ndarray, coords: np.ndarray, batch: int = 3) -> Path:
    """Batch after batch, each appended by a resize."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {"features": features.astype(np.float32), "coords": coords.astype(np.int32)}
    with h5py.File(path, "w") as file:
        for name, values in parts.items():
            growing(file, name, values[:batch])
            for start in range(batch, len(values), batch):
                some = values[start : start + batch]
                file[name].resize(len(file[name]) + len(some), axis=0)
                file[name][-len(some) :] = some
    return path


def write_clam_patches(path: Path, coords: np.ndarray, patch_size: int = 256, level: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    downsample = 4.0**level
    attributes = {
        "patch_size": patch_size,
        "patch_level": level,
        "downsample": (downsample, downsample),
        "downsampled_level_dim": (40000 // 4**level, 30000 // 4**level),
        "level_dim": (40000 // 4**level, 30000 // 4**level),
        "name": NAME_OF_PATIENT,
        "save_path": f"/data/{NAME_OF_PATIENT}",
    }
    with h5py.File(path, "w") as file:
        growing(file, "coords", coords.astype(np.int64), attributes)
    return path


def write_stamp(path: Path, features: np.ndarray, coords_um: np.ndarray, version: str = "2.3.0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = coords_um.astype(np.float32)
        file["feats"] = features.astype(np.float16)
        file.attrs["extractor"] = "mahmood-uni"
        file.attrs["unit"] = "um"
        if version == "2.0.0":
            file.attrs["tile_size"] = 256.0
            return path
        file.attrs["stamp_version"] = version
        file.attrs["tile_size_um"] = 256.0
        file.attrs["tile_size_px"] = 224
        file.attrs["code_hash"] = "0a1b2c3d"
        file.attrs["feat_type"] = "tile"
    return path


def write_stamp_1(path: Path, features: np.ndarray, coords: np.ndarray, augmented: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["coords"] = coords
        file["feats"] = features.astype(np.float16)
        file["augmented"] = augmented
        file.attrs["extractor"] = "STAMP-extract-v1.0.3_xiyuewang-ctranspath-7c998680"
    return path


def column_order(columns: int = 3, rows: int = 4, step: int = 512) -> np.ndarray:
    """Places as TRIDENT lists them: a column after the other, (N, 2)."""
    return np.array([(x * step, y * step) for x in range(columns) for y in range(rows)])


def features_of(tiles: int, dim: int = 5, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(tiles, dim)).astype(dtype)
