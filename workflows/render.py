"""`histograde render`: the heatmaps of a run again, from its stored scores."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.heatmaps import FOLDER, render_run

EXIT_QUARANTINED = 3


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
    formats: Annotated[
        str, typer.Option(metavar="NAMES", help="What to write, separated by commas: png, geojson, ome_tiff.")
    ] = "png,geojson,ome_tiff",
    slide: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this slide; may be given again.", show_default=False)
    ] = None,
    map_name: Annotated[
        str | None,
        typer.Option(
            "--map",
            metavar="NAME",
            help="attention, evidence, or the map that `histograde explain` chose for the model.",
            show_default="what was measured to be the best",
        ),
    ] = None,
) -> None:
    """The heatmaps of a run again, from its stored scores. Neither the slides nor the model are needed.

    Example: `histograde render graded/ --formats geojson`
    """
    names = [name.strip() for name in formats.split(",") if name.strip()]
    failures = render_run(run, formats=names, slide_ids=slide, wanted=map_name)
    typer.echo(f"heatmaps in {run / FOLDER}")
    for failure in failures:
        typer.echo(f"  not drawn: {failure.slide_id}: {failure.message} [{failure.error_class}]", err=True)
    if failures:
        raise typer.Exit(EXIT_QUARANTINED)
