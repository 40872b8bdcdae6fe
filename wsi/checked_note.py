"""Which objects of published features were compared with their manifest, so that a bucket is not read again for that.

`features/.<encoder>.checked.json` has the ETag that each object had then. It is a cache key, as `.source.json` is: an
object in another state is read and compared. `FeatureStore.verify` and `histograde verify` read everything.
"""

import json
from collections.abc import Mapping

from wsi.files import write_json
from wsi.store_url import StorePath, StoreUrl


def unchanged(folder: StorePath, etags: Mapping[str, str]) -> frozenset[str]:
    """Names of the files below a folder of features that are as they were when they were compared; none on a disk.

    Parameters
    ----------
    etags : mapping
        ETags of the objects now, by their way from the folder.
    """
    if not isinstance(folder, StoreUrl):
        return frozenset()
    try:
        noted = dict(json.loads(_place(folder).read_bytes())["etags"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return frozenset()
    return frozenset(name for name, etag in etags.items() if noted.get(name) == etag)


def note_checked(folder: StorePath, etags: Mapping[str, str]) -> None:
    """Note which files were found to agree with the manifest, with the ETags that they had before they were read."""
    if isinstance(folder, StoreUrl):
        write_json(_place(folder), {"etags": dict(etags)})


def forget_checked(folder: StorePath) -> None:
    """Let everything be read and compared again."""
    if isinstance(folder, StoreUrl):
        _place(folder).unlink()


def _place(folder: StoreUrl) -> StoreUrl:
    return folder.with_name(f".{folder.name}.checked.json")
