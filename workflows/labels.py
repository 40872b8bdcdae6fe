"""`histograde labels`: what readers decided at the desk, as labels for training."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workflows.review.label_table import LabelTable


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
    out: Annotated[Path, typer.Option(metavar="CSV", help="Where the labels go.")],
    regions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for marked regions, <slide_id>.geojson.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="The desk's database.", show_default="SQLite beside the run")
    ] = None,
) -> None:
    """What readers decided at the desk, as labels that `histograde train` takes.

    Accepted and corrected slides have a label, by the last decision that stands, with reader, time and trail entry.
    Rejected slides, those on which readers differ and undecided ones are left out.

    Example: `histograde labels graded/ --out labels.csv --regions drawn/`
    """
    from workflows.gradings import write_csv
    from workflows.review.label_table import COLUMNS, label_table, region_files
    from workflows.review.opened import opened_decided
    from wsi.errors import UsageError

    with opened_decided(run, database) as engine:
        table = label_table(engine, run)
    if not table.rows:
        raise UsageError(f"{run}: no decision stands that gives a label ({_left_out(table)}); decide on some slides")
    drawn = region_files(table) if regions is not None else {}
    if regions is not None:
        _write_regions(regions, drawn)
    write_csv(out, table.rows, COLUMNS)
    decisions = Counter(row["decision"] for row in table.rows)
    told = ", ".join(f"{number} {decision}" for decision, number in sorted(decisions.items()))
    typer.echo(f"{len(table.rows)} labels in {out}: {told}; left out: {_left_out(table)}")
    if regions is not None:
        typer.echo(f"regions of {len(drawn)} slides in {regions}")


def _left_out(table: "LabelTable") -> str:
    return ", ".join(f"{number} {why}" for why, number in sorted(table.left_out.items())) or "none"


def _write_regions(folder: Path, drawn: dict[str, dict[str, Any]]) -> None:
    """One file a slide; a file that would stay behind from elsewhere would pass for what was drawn here."""
    from wsi.errors import UsageError
    from wsi.files import write_json

    if strange := sorted({path.stem for path in folder.glob("*.geojson")} - set(drawn)):
        raise UsageError(f"{folder}: holds {strange[0]}.geojson, of which the desk has no region; name an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    for slide_id, content in drawn.items():
        write_json(folder / f"{slide_id}.geojson", content)
