"""Which slides a command is about: files, URLs, DICOM folders, folders of slides, globs, or a CSV."""

import csv
import glob
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi.errors import UsageError
from wsi.slide import Slide, open_slide, path_slide_id
from wsi.slide_url import SlideLocation, SlideUrl, slide_location
from wsi.store import store_path
from wsi.units import parse_mpp

SUFFIXES = frozenset(
    (".svs", ".svslide", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".tif", ".tiff", ".czi", ".zvi", ".dcm")
    + (".png", ".jpg", ".jpeg", ".npy", ".isyntax", ".vsi")
)
"""What counts as a slide in a folder; a file named by the user is taken whatever its suffix."""

SINGLE = SUFFIXES - {".dcm"}
"""Those of which each file is a slide."""


@dataclass(frozen=True, slots=True)
class SlideSource:
    """One slide that is asked for.

    Attributes
    ----------
    slide_id : str
    path : Path or SlideUrl
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
    path: SlideLocation
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
        Files, URLs, folders, globs, or CSV files with slide_id, path and optional patient_id, site, mpp.
    fallback_mpp : (x, y), optional
        Pixel size for slides that state none, or one that cannot be, um/px.

    Raises
    ------
    UsageError
        If nothing is found, a CSV is wrong, or two slides would have one name.
    """
    found: dict[str, SlideSource] = {}
    for argument in arguments:
        for source in _resolve(str(argument), fallback_mpp):
            place = source.path.url if isinstance(source.path, SlideUrl) else os.path.realpath(source.path)
            found[place] = _of_two(found[place], source) if place in found else source
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


def _of_two(one: SlideSource, other: SlideSource) -> SlideSource:
    """What is known of a slide that is named twice: what a CSV says goes before the bare path.

    Raises
    ------
    UsageError
        If two lines of CSVs say different things of it.
    """
    for bare, described in ((other, one), (one, other)):
        if bare == path_source(bare.path, bare.fallback_mpp):
            return described
    if replace(one, path=other.path) != other:
        raise UsageError(
            f"{one.path} is named twice, as {one.slide_id!r} and as {other.slide_id!r}, or with different patient_id, "
            "site or mpp; give each slide one line"
        )
    return one


def _resolve(argument: str, mpp: tuple[float, float] | None) -> Iterator[SlideSource]:
    path = slide_location(argument)
    if isinstance(path, SlideUrl):
        if path.suffix.lower() == ".csv":
            raise UsageError(f"{path}: a list of slides is read from a local file; fetch it first")
        yield path_source(path, mpp)
    elif path.suffix.lower() == ".csv":
        yield from (replace(source, fallback_mpp=mpp) for source in read_slide_list(path))
    elif _is_side_folder(path):
        return
    elif path.is_dir():
        paths = list(_in_folder(path))
        if not paths and path.suffix.lower() in SUFFIXES:
            paths = [path]
        if not paths:
            raise UsageError(f"{path}: no slide in this folder (known are {' '.join(sorted(SUFFIXES))})")
        yield from (path_source(part, mpp) for part in paths)
    elif path.exists() or not glob.has_magic(argument):
        yield path_source(path, mpp)
    else:
        matches = sorted(Path(match) for match in glob.glob(argument, recursive=True))
        if not matches:
            raise UsageError(f"{argument}: matches no file")
        for match in matches:
            if match.is_dir() and match.suffix.lower() not in SUFFIXES:
                yield from () if _is_side_folder(match) else (path_source(part, mpp) for part in _in_folder(match))
            else:
                yield from _resolve(str(match), mpp)


def path_source(path: SlideLocation, mpp: tuple[float, float] | None) -> SlideSource:
    """A slide of which nothing is known but where it is, and maybe a fallback for its pixel size (um/px)."""
    slide_id = path_slide_id(path)
    return SlideSource(slide_id, path, patient_id=slide_id, fallback_mpp=mpp)


@dataclass(frozen=True, slots=True)
class Listing:
    """One folder, and what in it is a slide.

    Attributes
    ----------
    folder : Path
    real : str
        The same with all links resolved.
    names : tuple of str
        All that is in it, sorted; hidden names too.
    slides : tuple of str
        Names of slides that are a file.
    is_slide : bool
        Whether the folder itself is one: DICOM instances in one folder are.
    links : frozenset of str
        Which names are symbolic links.
    """

    folder: Path
    real: str
    names: tuple[str, ...]
    slides: tuple[str, ...]
    is_slide: bool
    links: frozenset[str]

    @property
    def paths(self) -> list[Path]:
        """The slides."""
        return [self.folder / name for name in self.slides] + ([self.folder] if self.is_slide else [])


def walk_folder(
    folder: Path, failed: Callable[[Path, OSError], None], leave_out: Collection[str] = ()
) -> Iterator[Listing]:
    """List a folder and those below it, one at a time; side folders of MIRAX and stores hold no slides.

    A link that leads nowhere counts: its slide is missed by name. One that leads back up is not followed.

    Parameters
    ----------
    failed : callable
        Called with a folder that cannot be listed, and the error.
    leave_out : collection of str
        Folders that are not entered, with all links resolved.
    """
    ahead: list[tuple[Path, frozenset[str]]] = [(folder, frozenset())]
    while ahead:
        folder, above = ahead.pop()
        real = os.path.realpath(folder)
        if real in above or real in leave_out:
            continue
        try:
            with os.scandir(folder) as entries:
                parts = {entry.name: (_is_folder(entry), entry.is_symlink()) for entry in entries}
        except OSError as error:
            failed(folder, error)
            continue
        names = sorted(parts)
        shown = [(name, os.path.splitext(name)[1].lower()) for name in names if name[0] != "."]
        slides = tuple(name for name, suffix in shown if suffix in SINGLE and not parts[name][0])
        is_slide = any(suffix == ".dcm" and not parts[name][0] for name, suffix in shown)
        links = frozenset(name for name, (_, is_link) in parts.items() if is_link)
        yield Listing(folder, real, tuple(names), slides, is_slide, links)
        below = [name for name, suffix in shown if parts[name][0] and suffix != ".zarr" and f"{name}.mrxs" not in parts]
        ahead += [(folder / name, above | {real}) for name in reversed(below)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _in_folder(folder: Path) -> list[Path]:
    """Slides below a folder."""

    def refuse(folder: Path, error: OSError) -> None:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror})") from error

    return [path for listing in walk_folder(folder, refuse) for path in listing.paths]


def _is_side_folder(folder: Path) -> bool:
    return folder.with_name(f"{folder.name}.mrxs").exists() and folder.is_dir()


def read_slide_list(path: Path) -> list[SlideSource]:
    """Read a CSV of slides; relative paths are relative to the CSV, and a path may be a URL.

    Raises
    ------
    UsageError
        If the file cannot be read or a line is wrong; the message has the line's number.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            if missing := {"slide_id", "path"} - set(columns):
                raise UsageError(
                    f"{path}: column {', '.join(sorted(missing))} is missing; needed are slide_id and path, separated "
                    f"by commas, found: {', '.join(columns) or 'nothing'}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a CSV ({error})") from error
    sources = []
    for number, row in rows:
        text = {name: (row.get(name) or "").strip() for name in ("slide_id", "path", "patient_id", "site", "mpp")}
        if not text["slide_id"] or not text["path"]:
            raise UsageError(f"{path}, line {number}: slide_id or path is empty")
        try:
            store_path(".", text["slide_id"])
            mpp = parse_mpp(text["mpp"]) if text["mpp"] else None
            place = slide_location(text["path"])
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
        patient_id = text["patient_id"] or text["slide_id"]
        place = path.parent / place if isinstance(place, Path) else place
        sources.append(SlideSource(text["slide_id"], place, patient_id, text["site"], mpp))
    return sources
