"""Whether a TIFF ends before the tiles, strips and pages that its structure promises, as a copy that was cut short."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from wsi.readers.tiff_limits import TIFFFILE_OPTIONS, check_tiff


def missing_bytes(path: Path) -> int:
    """How far the stored tiles, strips and pages of a local TIFF reach beyond its end, bytes at least.

    Returns
    -------
    int
        0 if all of them are there, or the file is no TIFF.

    Raises
    ------
    UnreadableSlideError
        If it cannot be read, or its structure claims what no slide has.
    """
    if check_tiff(path) is None:
        return 0
    with tifffile.TiffFile(path, **TIFFFILE_OPTIONS) as tiff:
        return max(0, max(_ends(tiff), default=0) - tiff.filehandle.size)


def _ends(tiff: tifffile.TiffFile) -> Iterator[int]:
    """Where the file must at least end for each of its pages."""
    last = None
    for page in tiff.pages:
        assert isinstance(page, tifffile.TiffPage), "frames are only made where they are asked for"
        last = page
        yield _data_end(page)
        yield from (offset + 1 for offset in page.subifds or ())
        for below in page.pages or ():
            yield _data_end(below)
    yield tiff.filehandle.size + 1 if last is None else _next_page(tiff, last) + 1


def _data_end(page: tifffile.TiffPage | tifffile.TiffFrame) -> int:
    both = min(len(page.dataoffsets), len(page.databytecounts))
    offsets, lengths = (np.asarray(part[:both], np.uint64) for part in (page.dataoffsets, page.databytecounts))
    return int((offsets + lengths)[lengths > 0].max(initial=0))


def _next_page(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """The offset of the page after the last one that is there; 0 ends the chain."""
    form, file = tiff.tiff, tiff.filehandle
    file.seek(page.offset)
    (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(page.offset + form.tagnosize + tags * form.tagsize)
    (offset,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    return int(offset)
