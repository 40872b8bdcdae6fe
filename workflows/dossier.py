"""`histograde dossier`: a new model against the old one: what changed, what is better, and who is worse off."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.two_models import Dossier, DossierConfig

Report = Callable[[str], None]


def command(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Model folder of the model in use.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Model folder of the one that is to take its place.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for dossier.html, dossier.json and the new card.")],
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TABLE",
            help="Predictions or run of OLD, and again of NEW, on the same slides.",
            show_default="held-out slides",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="slide_id, label and the columns.", show_default="those of the tables"),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Column of subgroups; may be repeated.", show_default="all of them"),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="LOSS", help="By how much NEW may be worse, in the metric; fix it before.")
    ] = 0.05,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="By which it is judged.", show_default="qwk or auroc")
    ] = None,
    least_patients: Annotated[
        int, typer.Option(metavar="N", min=2, help="Groups with fewer are named and not judged.")
    ] = 20,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=100, help="Resamples of the patients, and permutations.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of resamples and permutations.")] = 0,
) -> None:
    """A new model against the old one: the change log, a paired comparison, and whether any group is worse off.

    NEW is non-inferior in a group where the 95 % interval of its gain lies above minus the margin. That it is so in
    every group is claimed only where each group shows it (an intersection-union test, which needs no correction).

    Example: `histograde dossier model-2025/ model-2026/ --margin 0.05 --by site --labels cohort.csv --out dossier/`
    """
    from workflows.two_models import DossierConfig

    config = DossierConfig(
        old,
        new,
        out,
        tuple(predictions or ()),
        labels,
        tuple(by or ()),
        margin,
        metric,
        least_patients,
        resamples,
        seed,
    )
    write_dossier(config, typer.echo)


def write_dossier(config: "DossierConfig", report: Report = print) -> "Dossier":
    """Compare two model folders, and write dossier.html, dossier.json, and the card of the new model.

    Raises
    ------
    UsageError
        If the two cannot be compared on the same slides, classes and labels, or there is no such metric or column.
    CorruptStoreError
        If a model folder is damaged.
    """
    from workflows.card_view import card_view
    from workflows.documents import write_document
    from workflows.dossier_view import dossier_view
    from workflows.two_models import compare_folders

    done = compare_folders(config)
    write_document(config.out, "card", card_view(done.new), done.new.to_dict())
    page = write_document(config.out, "dossier", dossier_view(done), done.to_dict())
    _record(config, done)
    for line in [*done.lines(), f"dossier in {page}"]:
        report(line)
    return done


def _record(config: "DossierConfig", done: "Dossier") -> None:
    from workflows.config import RunRecord

    counts = {"slides": done.slides, "patients": done.patients, "changes": len(done.changes)}
    RunRecord("dossier", asdict(config), counts=counts).write(config.out)
