"""`histograde verify`: every chunk of an archive of feature stores, or the folder of a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from wsi.store_check import Finding
    from wsi.store_url import StorePath


def command(
    store: Annotated[
        str,
        typer.Argument(
            metavar="ROOT",
            help="A folder of stores, one <slide>.zarr (both also as s3://...), or the --out of `grade`.",
        ),
    ],
    workers: Annotated[int, typer.Option(min=0, help="Stores checked at once; 0 is one a core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.", metavar="")] = False,
) -> None:
    """Every chunk against its checksum and the manifest; says what is damaged, missing or unfinished.

    Of a run's folder also its tables against run.json, every slide's files, and the features that lie in it.

    Exit code 0: all is well, though work may be unfinished. 1: something is damaged; `histograde repair` does what can
    be done without the slides, `histograde extract` on the same slides, or `import` on the same files, the rest.

    The keys of `--json`: stores, features (complete sets), slides (graded ones, of a run), damaged (stores and slides
    with damage), findings (each with store, kind, where, what). Later versions may add some and change none.

    Example: `histograde verify features/ --workers 8`
    """
    import json

    from wsi.store_url import store_location

    found = check(store_location(store), workers)
    typer.echo(json.dumps(found.to_dict(), indent=1) if as_json else "\n".join(found.lines()))
    if found.damaged:
        raise typer.Exit(1)


@dataclass(slots=True)
class Verdict:
    """What was found in a folder.

    Attributes
    ----------
    stores, features, slides : int
        Stores, complete sets of features, and graded slides that were looked at.
    damaged : int
        Stores and slides with damage, and tables of a run. Unfinished work is none.
    findings : list of Finding
        In the order of the stores; what is sound leaves nothing.
    """

    stores: int = 0
    features: int = 0
    slides: int = 0
    damaged: int = 0
    findings: "list[Finding]" = field(default_factory=list)

    def add(self, findings: "list[Finding]") -> bool:
        """Note what was found of one thing; returns whether that is damage."""
        self.findings += findings
        damaged = any(one.kind == "damaged" for one in findings)
        self.damaged += damaged
        return damaged

    def lines(self) -> list[str]:
        """A line for each thing that is to be said, and a last one that sums up."""
        sound = "all chunks agree with their checksums" if self.stores else "nothing is damaged"
        verdict = f"{self.damaged} damaged" if self.damaged else sound
        graded = f"{self.slides} graded slides, " if self.slides else ""
        last = f"{graded}{self.stores} stores, {self.features} complete sets of features: {verdict}"
        return [*(_line(one) for one in self.findings), last]

    def to_dict(self) -> dict[str, Any]:
        """The same for programs."""
        from dataclasses import asdict

        return asdict(self)


def _line(one: "Finding") -> str:
    beside = one.kind == "unfinished" and not one.where and one.store.startswith(".")
    return f"{one.store} {one.what}" if beside else one.line()


def verify(root: "StorePath") -> tuple[list[str], int]:
    """Check a folder of stores or of a run: the lines of the report, and how many stores and slides are damaged.

    Raises
    ------
    UsageError
        If there is nothing to check.
    """
    found = check(root)
    return found.lines(), found.damaged


def check(root: "StorePath", workers: int = 0) -> Verdict:
    """Check all stores below a folder, or all that a run left.

    Parameters
    ----------
    workers : int
        Threads, each at one store; 0 is one a core, in a bucket at least four. Memory is about two chunks each, in a
        bucket eight.

    Raises
    ------
    UsageError
        If there is nothing to check.
    UnreachableStoreError
        If the server of a bucket does not answer: that says nothing of the stores.
    """
    from workflows.run_check import is_run, stores_of_run

    verdict = Verdict()
    stores: StorePath | None = root
    if isinstance(root, Path) and is_run(root):
        _check_run(root, verdict, workers)
        stores = stores_of_run(root)
    if stores is not None:
        _check_stores(stores, verdict, workers)
    return verdict


def _check_run(run: Path, verdict: Verdict, workers: int) -> None:
    from workflows.counter import Counter
    from workflows.run_check import check_slides, check_tables, graded_slides

    slides, wrong = graded_slides(run)
    verdict.add([*check_tables(run), *wrong])
    verdict.slides = len(slides)
    with Counter("verify", len(slides), "slides") as counter:
        for findings in check_slides(run, slides, workers):
            counter.add(noted=verdict.add(findings))


def _check_stores(root: "StorePath", verdict: Verdict, workers: int) -> None:
    from workflows.counter import Counter
    from wsi.store_check import check_store, store_paths, stores_at_once, unfinished_beside
    from wsi.threads import in_order

    paths = store_paths(root)
    verdict.stores = len(paths)
    with Counter("verify", len(paths)) as counter:
        for done in in_order(check_store, paths, stores_at_once(root, workers)):
            verdict.features += done.complete
            counter.add(noted=verdict.add(list(done.findings)))
    verdict.findings += unfinished_beside(root)
