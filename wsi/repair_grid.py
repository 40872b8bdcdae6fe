"""The grid of a published store, put right where its manifest, or what is left of it, proves that it is."""

import json

from wsi.repair_look import Look
from wsi.store import verify_folder
from wsi.store_arrays import group_files
from wsi.store_lock import check_lock
from wsi.store_remains import foreign_in_grid
from wsi.store_remake import GRID_FILES, manifest_records, put, remade_grid, salvage_manifest
from wsi.store_url import StorePath


def mend_grid(look: Look) -> bool:
    """Put the grid right; whether it is sound then. What is left of it is said."""
    target = look.target
    if manifest_records(target) is None:
        if look.dry:
            look.found.done.append("looked whether its damaged manifest proves its grid")
            return False
        check_lock(target)
        if salvage_manifest(target, GRID_FILES, []):
            look.found.done.append("wrote its manifest again, from what is left of it")
    damage = [one.where for one in verify_folder(target)]
    if damage and manifest_records(target) is not None:
        damage = look.make_again(target, damage, lambda: remade_grid(target))
    if damage:
        again = f"{look.maker} makes it again and keeps the features"
        look.found.left.append(f"its grid is damaged ({damage[0]}): {again}")
        return False
    look.found.kept += foreign_in_grid(target)
    group = target / "features"
    if not _is_group(group):
        look.do("described the group of features again", lambda: _describe_group(group))
    return True


def _is_group(folder: StorePath) -> bool:
    """Whether a group without a manifest is described as one. Attributes may be anybody's."""
    try:
        said = json.loads((folder / "zarr.json").read_bytes())
        known = set(said) <= {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
        return bool(known and said["zarr_format"] == 3 and said["node_type"] == "group")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _describe_group(folder: StorePath) -> None:
    for name, data in group_files().items():
        put(folder, name, data)
