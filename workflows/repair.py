"""`histograde repair`: everything about an archive of feature stores that can be put right without the slides."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workflows.options import MAX_BAD, MaxBad

if TYPE_CHECKING:
    from wsi.store_repair import Repair
    from wsi.store_url import StorePath

EXIT_LEFT = 3
LEFT_ALONE_S = 3600.0
"""A temporary file beside the stores that is younger may still be written, by a machine that cannot be asked."""


def command(
    root: Annotated[
        str,
        typer.Argument(
            metavar="ROOT",
            help="A folder of stores, one <slide>.zarr (both also as s3://...), or the --out of `grade`.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    drop_unfinished: Annotated[
        bool, typer.Option("--drop-unfinished", help="Also remove begun features in which chunks are finished.")
    ] = False,
    max_bad: MaxBad = MAX_BAD,
    workers: Annotated[int, typer.Option(min=0, help="Stores at once; 0 is one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.", metavar="")] = False,
) -> None:
    """Put right what can be put right without the slides; says in a line what was done to a store and what is left.

    Finishes publications that were cut short, removes what killed runs left, makes small files again where their
    SHA-256 proves them, takes damaged chunks out of features, and brings the index up to date. What is left,
    `histograde extract` on the same slides computes, or `import` on the same files: of features with damaged chunks
    just those. Stores on which a run is at work, and files that are not of a store, are left alone. In a bucket a run
    counts as at work for a minute after it died.

    Exit code 0: every store is whole. 3: something is left for `extract`, or for you. With --dry-run 3 also if
    something would be done.

    Example: `histograde repair features/ --dry-run`
    """
    import json

    from wsi.store_url import store_location

    done = repair(
        store_location(root), dry_run=dry_run, drop_unfinished=drop_unfinished, max_bad=max_bad, workers=workers
    )
    typer.echo(json.dumps(done.to_dict(), indent=1) if as_json else "\n".join(done.lines()))
    if done.left or (dry_run and (done.beside or any(one.done for one in done.stores))):
        raise typer.Exit(EXIT_LEFT)


@dataclass(slots=True)
class Repairs:
    """What became of an archive.

    Attributes
    ----------
    looked_at : int
        Slides of which anything lies there.
    stores : list of Repair
        Those of which there is something to say, in the order of their names.
    beside : list of str
        What was done beside the stores.
    dry_run : bool
        Nothing was written.
    """

    looked_at: int = 0
    stores: "list[Repair]" = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    dry_run: bool = False

    @property
    def left(self) -> int:
        """Stores of which something is left to do."""
        return sum(bool(one.left) for one in self.stores)

    def lines(self) -> list[str]:
        """A line for each store of which there is something to say, and a last one that sums up."""
        repaired = sum(bool(one.done) for one in self.stores)
        would = "dry run, nothing was written: " if self.dry_run else ""
        last = f"{would}{self.looked_at} stores: {repaired} put right, {self.left} with something left to do"
        return [*(one.line() for one in self.stores), *self.beside, last]

    def to_dict(self) -> dict[str, Any]:
        """The same for programs."""
        from dataclasses import asdict

        return asdict(self)


def repair(
    root: "StorePath",
    *,
    dry_run: bool = False,
    drop_unfinished: bool = False,
    max_bad: float = MAX_BAD,
    workers: int = 0,
) -> Repairs:
    """Repair all stores of a folder, of a run's folder, or one store.

    Parameters
    ----------
    dry_run, drop_unfinished, max_bad
        As in `wsi.store_repair.repair_slide`.
    workers : int
        Threads, each at one store; 0 is one a core, in a bucket at least four.

    Raises
    ------
    UsageError
        If there is no store.
    UnreachableStoreError
        If the server of a bucket does not answer; what was put right by then stays so.
    """
    from workflows.counter import Counter
    from wsi.errors import UsageError
    from wsi.store_check import stores_at_once, stores_folder
    from wsi.store_repair import repair_slide, slide_ids
    from wsi.threads import in_order

    one_store = root.suffix == ".zarr"
    folder = (root.absolute() if isinstance(root, Path) else root).parent if one_store else stores_folder(root)
    ids = slide_ids(folder) if folder.is_dir() else []
    if one_store:
        ids = [name for name in ids if name == root.name.removesuffix(".zarr")]
    if not ids:
        raise UsageError(f"{root}: no feature store (*.zarr) in this folder")

    def one(slide_id: str) -> "Repair":
        return repair_slide(folder, slide_id, dry_run=dry_run, drop_unfinished=drop_unfinished, max_bad=max_bad)

    done = Repairs(len(ids), dry_run=dry_run)
    with Counter("repair", len(ids)) as counter:
        for found in in_order(one, ids, stores_at_once(root, workers)):
            if said := found.done or found.left or found.kept:
                done.stores.append(found)
            counter.add(noted=bool(said))
    if not one_store:
        done.beside += _remove_temporary(folder, dry_run)
    if not (dry_run or one_store):
        done.beside += _refresh_index(folder)
    return done


def _remove_temporary(folder: "StorePath", dry_run: bool) -> list[str]:
    """Remove what killed runs left beside the stores, unless it is so young that it may be written yet."""
    from wsi.store_remains import temporary_beside

    if not isinstance(folder, Path):  # where a file is whole or not there
        return []
    old = [one for one in temporary_beside(folder) if time.time() - one.stat().st_mtime > LEFT_ALONE_S]
    for one in [] if dry_run else old:
        one.unlink(missing_ok=True)
    return [f"{one.name}: removed" for one in old]


def _refresh_index(folder: "StorePath") -> list[str]:
    """Bring an index up to date where there is one; it is a cache, so that its absence is no fault."""
    from wsi.cohort_index import read_cohort
    from wsi.errors import MissingPackageError
    from wsi.index_file import INDEX, STAMPS, write_index
    from wsi.store_stamps import store_names

    if not store_names(folder) or not ((folder / INDEX).exists() or (folder / STAMPS).exists()):
        return []
    found = read_cohort(folder)
    try:
        return [f"{INDEX} brought up to date"] if write_index(folder, found.rows, found.stamps) else []
    except MissingPackageError as error:
        return [str(error)]
