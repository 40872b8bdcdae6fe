"""`histograde report`: the report of a run again, from its stored results."""

from pathlib import Path
from typing import Annotated

import typer

EXIT_QUARANTINED = 3


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
) -> None:
    """The report of a run again, from its stored results. Neither the slides nor the model are needed.

    Writes RUN/report: a folder that works from any place, can be zipped and mailed, and asks nothing of a network.

    Example: `histograde report graded/`
    """
    from workflows.pages import write_report

    written = write_report(run)
    typer.echo(f"report in {written.index}")
    for failure in written.failures:
        typer.echo(f"  no page: {failure.slide_id}: {failure.message} [{failure.error_class}]", err=True)
    if written.failures:
        raise typer.Exit(EXIT_QUARANTINED)
