"""`histograde select`: which slides of a run to label next, so that the model learns most from them."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

MOST_TOLD = 10


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
    count: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many slides to propose.")],
    out: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Where the list goes.", show_default="RUN/review/selection.csv")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder of the feature stores, or s3://...", show_default="RUN/features"),
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="The desk's database.", show_default="SQLite beside the run")
    ] = None,
) -> None:
    """Which slides of a run to label next: those that the model doubts, unlike each other.

    Slides with a decision are left out. They are compared by the mean features of their tiles where all have a feature
    store, else by what the run holds of them. The desk's worklist shows the order (sorted by "proposed").
    Nothing is random: the same run and decisions give the same list.

    Example: `histograde select graded/ --count 20`
    """
    from workflows.gradings import write_csv
    from workflows.review.opened import opened_cases
    from workflows.review.proposals import keep_proposals, propose
    from wsi.store_url import store_location

    with opened_cases(run, database) as engine:
        found = propose(engine, run, count, store_location(store or run / "features"))
        keep_proposals(engine, found)
    place = out or run / "review" / "selection.csv"
    rows = [{name: value for name, value in asdict(one).items() if name != "case_id"} for one in found.cases]
    write_csv(place, rows, list(rows[0]))
    told = f"{len(rows)} of {found.undecided} undecided slides in {place}, compared by {found.compared_by}"
    typer.echo("\n".join([told, *(f"  {one.place}. {one.slide_id}: {one.reason}" for one in found.cases[:MOST_TOLD])]))
    if len(rows) > MOST_TOLD:
        typer.echo(f"  and {len(rows) - MOST_TOLD} more")
