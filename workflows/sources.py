"""Which slides a command is about: files, DICOM folders, folders of slides, globs, or a CSV."""

import csv
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi.errors import UsageError
from wsi.slide import Slide, open_slide, path_slide_id
from wsi.store import store_path
from wsi.units import parse_mpp

SUFFIXES = frozenset(
    (".svs", ".svslide", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".tif", ".tiff", ".czi", ".zvi", ".dcm")
    + (".png", ".jpg", ".jpeg", ".npy", ".isyntax", ".vsi")
)
"""What counts as a slide in a folder; a file named by the user is taken whatever its suffix."""


@dataclass(frozen=True, slots=True)
class SlideSource:
    """One slide that is asked for.

    Attributes
    ----------
    slide_id : str
    path : Path
    patient_id : str
        The slide's own id where the user gave none.
    site : str
        Empty where unknown.
    mpp : (x, y) or None
        Pixel size by the user for this slide, um/px; holds whatever the file says.
    fallback_mpp : (x, y) or None
        Pixel size by the user for slides that state none, or one that cannot be.
    """

    slide_id: str
    path: Path
    patient_id: str
    site: str = ""
    mpp: tuple[float, float] | None = None
    fallback_mpp: tuple[float, float] | None = None

    def open(self, *, reader: str | None = None, content_hash: str | None = None) -> Slide:
        """Open the slide as the user described it; errors as of `open_slide`."""
        return open_slide(
            self.path,
            reader=reader,
            mpp=self.mpp,
            fallback_mpp=self.fallback_mpp,
            slide_id=self.slide_id,
            content_hash=content_hash,
        )


def find_slides(arguments: Sequence[str | Path], fallback_mpp: tuple[float, float] | None = None) -> list[SlideSource]:
    """Resolve what the user named into slides, sorted by slide_id.

    Parameters
    ----------
    arguments : sequence of str or path
        Files, folders, globs, or CSV files with slide_id, path and optional patient_id, site, mpp.
    fallback_mpp : (x, y), optional
        Pixel size for slides that state none, or one that cannot be, um/px.

    Raises
    ------
    UsageError
        If nothing is found, a CSV is wrong, or two slides would have one name.
    """
    found: dict[Path, SlideSource] = {}
    for argument in arguments:
        for source in _resolve(str(argument), fallback_mpp):
            found.setdefault(source.path.resolve(), source)
    by_id: dict[str, SlideSource] = {}
    for source in found.values():
        store_path(".", source.slide_id)
        if source.slide_id in by_id:
            raise UsageError(
                f"two slides are called {source.slide_id!r}: {by_id[source.slide_id].path} and {source.path}; "
                "name them in a CSV with the columns slide_id and path"
            )
        by_id[source.slide_id] = source
    if not by_id:
        raise UsageError(f"no slide found in {', '.join(map(str, arguments)) or 'nothing'}")
    return [by_id[slide_id] for slide_id in sorted(by_id)]


def _resolve(argument: str, mpp: tuple[float, float] | None) -> Iterator[SlideSource]:
    path = Path(argument)
    if path.suffix.lower() == ".csv":
        yield from (replace(source, fallback_mpp=mpp) for source in read_slide_list(path))
    elif path.is_dir():
        paths = list(_in_folder(path))
        if not paths:
            raise UsageError(f"{path}: no slide in this folder (known are {' '.join(sorted(SUFFIXES))})")
        yield from (_source(part, mpp) for part in paths)
    elif path.exists() or not glob.has_magic(argument):
        yield _source(path, mpp)
    else:
        matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))
        if not matches:
            raise UsageError(f"{argument}: matches no file")
        for match in matches:
            yield from _resolve(str(match), mpp)


def _source(path: Path, mpp: tuple[float, float] | None) -> SlideSource:
    slide_id = path_slide_id(path)
    return SlideSource(slide_id, path, patient_id=slide_id, fallback_mpp=mpp)


def _in_folder(folder: Path) -> Iterable[Path]:
    """Slides below a folder. A folder of DICOM instances is one slide; side folders of MIRAX hold none."""
    parts = sorted(part for part in folder.iterdir() if not part.name.startswith("."))
    if any(part.suffix.lower() == ".dcm" for part in parts):
        return [folder]
    sides = {part.with_suffix("") for part in parts if part.suffix.lower() == ".mrxs"}
    slides = [part for part in parts if part.is_file() and part.suffix.lower() in SUFFIXES]
    for part in parts:
        if part.is_dir() and part not in sides and part.suffix != ".zarr":
            slides += _in_folder(part)
    return slides


def read_slide_list(path: Path) -> list[SlideSource]:
    """Read a CSV of slides; relative paths are relative to the CSV.

    Raises
    ------
    UsageError
        If the file cannot be read or a line is wrong; the message has the line's number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if missing := {"slide_id", "path"} - set(reader.fieldnames or ()):
                raise UsageError(
                    f"{path}: column {', '.join(sorted(missing))} is missing; needed are slide_id and path"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a CSV ({error})") from error
    sources = []
    for number, row in enumerate(rows, start=2):
        if not row["slide_id"] or not row["path"]:
            raise UsageError(f"{path}, line {number}: slide_id or path is empty")
        own = parse_mpp(row["mpp"]) if row.get("mpp") else None
        sources.append(
            SlideSource(
                row["slide_id"],
                path.parent / row["path"],
                row.get("patient_id") or row["slide_id"],
                row.get("site") or "",
                own,
            )
        )
    return sources
