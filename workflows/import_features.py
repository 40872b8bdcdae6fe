"""`histograde import`: features that another program made, into stores of this format."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast
from uuid import uuid4

import typer

from workflows.options import MAX_BAD, MaxBad, SlideMpp

if TYPE_CHECKING:
    from workflows.pipeline import Failure
    from workflows.sources import SlideSource
    from wsi.imports import Axes
    from wsi.imports.intake import FeatureFile, Imported
    from wsi.store_url import StorePath

SUFFIXES = (".h5", ".hdf5")


def command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="HDF5 files, or folders of them.", show_default=False)
    ],
    tool: Annotated[str, typer.Option("--from", metavar="PROGRAM", help="Who made them: trident, clam or stamp.")],
    store: Annotated[
        str, typer.Option(metavar="DIR", help="Folder of the stores, also as s3://...; made if it is not there.")
    ],
    encoder: Annotated[str, typer.Option(metavar="NAME", help="Name of the encoder in the stores, such as uni.")],
    slides: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SLIDES", help="The slides, as `extract` takes them; may be repeated.", show_default=False
        ),
    ] = None,
    patches: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The program's folder of tiles; CLAM's says how they were cut.")
    ] = None,
    slide_mpp: SlideMpp = None,
    tile_mpp: Annotated[
        float | None, typer.Option(min=0.05, max=20, help="Scale of the tiles in um/px (STAMP before 2.0 only).")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(metavar="xy|yx", help="Order of a place's numbers (STAMP before 2.0 only).")
    ] = None,
    max_bad: MaxBad = MAX_BAD,
) -> None:
    """Features that TRIDENT, CLAM or STAMP made, into stores that `train`, `verify` and `export` read.

    What a file does not state is unknown in the store. With --slides, hash, pixel size and size of each slide are
    those of the slide itself; without, STAMP's places, which are in um, need --slide-mpp. Features of others are
    never mixed with those made here, and slides cannot be graded by a model trained on them.

    Example: `histograde import job/20x_256px_0px_overlap/features_uni_v1/ --from trident --encoder uni --store uni/`
    """
    from wsi.store_url import store_location
    from wsi.units import parse_mpp

    place = store_location(store)
    mpp = None if slide_mpp is None else parse_mpp(slide_mpp)
    config = ImportConfig(
        tool, encoder, place, tuple(slides or ()), patches, mpp, tile_mpp, cast("Axes | None", axes), max_bad
    )
    summary = import_all(find_files(files), config)
    typer.echo(summary.text(place))
    if summary.quarantined:
        raise typer.Exit(3)


@dataclass(frozen=True, slots=True)
class ImportConfig:
    """Everything that decides an import; fields as the options.

    Raises
    ------
    UsageError
        If one cannot be.
    """

    tool: str
    encoder: str
    store: "StorePath"
    slides: tuple[str, ...] = ()
    patches: Path | None = None
    slide_mpp: tuple[float, float] | None = None
    tile_mpp: float | None = None
    axes: "Axes | None" = None
    max_bad: float = MAX_BAD

    def __post_init__(self) -> None:
        from wsi.errors import UsageError
        from wsi.imports import IMPORTS

        if self.tool not in IMPORTS:
            raise UsageError(f"--from is {self.tool!r}; it can be {', '.join(IMPORTS)}")
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", self.encoder, re.ASCII):
            raise UsageError(f"--encoder is {self.encoder!r}: use letters, digits, '-', '_' and '.'")
        if self.axes not in (None, "xy", "yx"):
            raise UsageError(f"--axes is {self.axes!r}; it can be xy, yx")
        if self.patches is not None and not self.patches.is_dir():
            raise UsageError(f"{self.patches}: no such folder; --patches is where the program keeps <slide>.h5")


@dataclass(slots=True)
class ImportSummary:
    """What an import came to."""

    done: "dict[str, Imported]" = field(default_factory=dict)
    quarantined: "list[Failure]" = field(default_factory=list)
    seconds: float = 0.0

    def counts(self) -> dict[str, int]:
        """For the run record."""
        return {
            "files": len(self.done) + len(self.quarantined),
            "quarantined": len(self.quarantined),
            "tiles": sum(one.tiles for one in self.done.values()),
            "bad_tiles": sum(one.bad for one in self.done.values()),
            "chunks_written": sum(one.chunks for one in self.done.values()),
        }

    def text(self, store: "StorePath") -> str:
        """A few lines for people."""
        from workflows.progress import clock

        counts = self.counts()
        there = sum(not one.chunks for one in self.done.values())
        head = (
            f"{len(self.done)} of {counts['files']} files in {store}: {counts['tiles']:,} tiles, "
            f"{counts['bad_tiles']} bad, {there} files were there already, {clock(self.seconds)}"
        )
        lines = [f"  {one.slide_id}: {one.message} [{one.error_class}] -> {one.remedy}" for one in self.quarantined]
        return "\n".join([head, *([f"{len(lines)} quarantined:", *lines] if lines else [])])


def find_files(arguments: Sequence[Path]) -> dict[str, Path]:
    """Files of features by slide_id, sorted: a file's name without suffix. Folders named patches are passed over.

    Raises
    ------
    UsageError
        If there is none, or two would be of one slide.
    """
    from wsi.errors import UsageError

    found: dict[str, Path] = {}
    for argument in arguments:
        paths = _in_folder(argument) if argument.is_dir() else [argument]
        if not paths:
            raise UsageError(f"{argument}: no file of features in this folder ({' or '.join(SUFFIXES)})")
        for path in paths:
            if not path.is_file():
                raise UsageError(f"{path}: no such file")
            slide_id = path.stem.removesuffix(".ome")
            if slide_id in found and found[slide_id].resolve() != path.resolve():
                raise UsageError(
                    f"two files are of {slide_id!r}: {found[slide_id]} and {path}; import one encoder's folder at a "
                    "time"
                )
            found.setdefault(slide_id, path)
    return dict(sorted(found.items()))


def _in_folder(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and "patches" not in path.relative_to(folder).parts[:-1]
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def import_all(files: Mapping[str, Path], config: ImportConfig) -> ImportSummary:
    """Import files one by one, and write `run.json` into the folder of the stores.

    Parameters
    ----------
    files : mapping of str to Path
        By slide_id, as `find_files` gives them.

    Raises
    ------
    WsiError
        If something is wrong that is not one file's fault. That is in the summary instead. A server of the stores that
        is away is such a thing: the same command goes on where it stopped.
    """
    from workflows.config import RunRecord
    from workflows.failures import failure_of
    from workflows.sources import find_slides
    from workflows.worker import quiet_readers
    from wsi.errors import MissingPackageError, UnreachableStoreError
    from wsi.imports.intake import import_features
    from wsi.imports.probe import Probe

    store = _ready(config.store)
    quiet_readers()
    sources = find_slides(config.slides, config.slide_mpp) if config.slides else None
    slides = None if sources is None else {source.slide_id: source for source in sources}
    summary, start, encoder = ImportSummary(), time.perf_counter(), None
    with Probe() as probe:
        for slide_id, path in files.items():
            try:
                one = feature_file(slide_id, path, config, slides)
                probe.check(one.path, one.patches, one.tool, one.hints)
                done = import_features(store, one, encoder)
            except (MissingPackageError, UnreachableStoreError):
                raise
            except Exception as error:  # whatever it is, it ends this file only
                summary.quarantined.append(failure_of(slide_id, "import", error))
                continue
            summary.done[slide_id] = done
            encoder = encoder or done.stated_encoder
    summary.seconds = time.perf_counter() - start
    RunRecord(
        "import",
        asdict(config),
        inputs={slide_id: one.file_sha256 for slide_id, one in summary.done.items()},
        counts=summary.counts(),
        timings_s={"wall": summary.seconds},
    ).write(store)
    return summary


def _ready(store: "StorePath") -> "StorePath":
    """The folder of the stores, made; a bucket that answers, with a name for this run by which its leases are held."""
    from wsi.errors import UsageError

    if not isinstance(store, Path):
        store.exists()
        return store.of_run(uuid4().hex)
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{store}: cannot be the folder of the stores ({error.strerror})") from error
    return store


def feature_file(
    slide_id: str, path: Path, config: ImportConfig, slides: "Mapping[str, SlideSource] | None"
) -> "FeatureFile":
    """A file with what belongs to it: its patches and its slide, which is opened for that.

    Raises
    ------
    UsageError
        If slides are given, and none is called so; or there is no file of its patches.
    UnreadableSlideError
        If the slide cannot be opened.
    """
    from wsi.errors import UsageError
    from wsi.imports import Hints
    from wsi.imports.intake import FeatureFile

    info = None
    if slides is not None:
        if slide_id not in slides:
            raise UsageError(
                f"no slide is called {slide_id!r} among --slides; a CSV with slide_id and path can name it, or import "
                "its file without --slides"
            )
        slide = slides[slide_id].open()
        info = slide.info
        slide.close()
    return FeatureFile(
        slide_id,
        path,
        config.tool,
        config.encoder,
        patches=None if config.patches is None else _patches(config.patches, slide_id),
        slide=info,
        mpp=config.slide_mpp,
        hints=Hints(config.tile_mpp, config.axes),
        max_bad=config.max_bad,
    )


def _patches(folder: Path, slide_id: str) -> Path:
    from wsi.errors import UsageError

    for path in (folder / f"{slide_id}.h5", folder / f"{slide_id}_patches.h5"):
        if path.is_file():
            return path
    raise UsageError(f"{folder}: has no {slide_id}.h5; give the folder of the patches, or leave --patches out")
