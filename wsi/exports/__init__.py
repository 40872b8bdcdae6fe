"""Files for other programs out of a slide's heatmaps: one format a module, found through `EXPORTS`."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from wsi.files import fsync_path
from wsi.heatmap import SlideMaps
from wsi.registry import Registry


@dataclass(frozen=True, slots=True)
class Export:
    """A format.

    Attributes
    ----------
    file_names : tuple of str
        What it writes into a slide's folder.
    write : callable
        `write(folder, maps)`: writes all of `file_names`, each atomically, the same bytes for equal maps; nothing of
        the clock or the machine is in them.
    """

    file_names: tuple[str, ...]
    write: Callable[[Path, SlideMaps], None]


EXPORTS = Registry(
    "export",
    {
        "png": "wsi.exports.png:EXPORT",
        "geojson": "wsi.exports.geojson:EXPORT",
        "ome_tiff": "wsi.exports.ome_tiff:EXPORT",
    },
)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A hidden file to write to; it takes the place of `path` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        fsync_path(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["EXPORTS", "Export", "staged"]
