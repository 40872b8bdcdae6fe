"""`histograde render`: the heatmaps of a run again, from its stored scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.gradings import Quarantined
    from wsi.heatmap import SlideMaps

FOLDER = "heatmaps"


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of a `histograde grade`.")],
    formats: Annotated[
        str, typer.Option(metavar="NAMES", help="What to write, separated by commas: png, geojson, ome_tiff.")
    ] = "png,geojson,ome_tiff",
    slide: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this slide; may be given again.", show_default=False)
    ] = None,
) -> None:
    """The heatmaps of a run again, from its stored scores. Neither the slides nor the model are needed.

    Example: `histograde render graded/ --formats geojson`
    """
    names = [name.strip() for name in formats.split(",") if name.strip()]
    failures = render_run(run, formats=names, slide_ids=slide)
    typer.echo(f"heatmaps in {run / FOLDER}" + (f"; {len(failures)} slides failed:" if failures else ""))
    for failure in failures:
        typer.echo(f"  {failure.slide_id}: {failure.message} [{failure.error_class}]")
    if failures:
        raise typer.Exit(3)


def render_run(
    run: str | Path, *, formats: Sequence[str] | None = None, slide_ids: Sequence[str] | None = None
) -> "list[Quarantined]":
    """Draw the heatmaps of every slide of a run, and say which slides could not be drawn.

    Parameters
    ----------
    formats : sequence of str, optional
        Names in `wsi.exports.EXPORTS`; all of them by default.
    slide_ids : sequence of str, optional
        Only these slides.

    Raises
    ------
    UsageError
        If the run, a format or a slide that is asked for does not exist.
    """
    from workflows.gradings import Quarantined
    from workflows.results import load_run, load_slide
    from wsi.errors import UsageError, WsiError
    from wsi.exports import EXPORTS

    found = load_run(run)
    for name in formats or ():
        EXPORTS[name]
    known = [grading.slide_id for grading in found.gradings]
    for slide_id in slide_ids or ():
        if slide_id not in known:
            raise UsageError(f"slide {slide_id!r} was not graded in {run}; see its predictions.csv")
    failures = []
    for slide_id in slide_ids or known:
        try:
            render_slide(run, load_slide(run, slide_id).maps(found.model), formats=formats)
        except WsiError as error:
            failures.append(Quarantined.of(slide_id, "render", error))
    return failures


def render_slide(run: str | Path, maps: "SlideMaps", *, formats: Sequence[str] | None = None) -> Path:
    """Write one slide's heatmaps into `RUN/heatmaps/<slide_id>/`; returns that folder."""
    from workflows.results import slide_folder
    from wsi.exports import EXPORTS

    folder = slide_folder(Path(run), maps.info.slide_id, FOLDER)
    exports = [EXPORTS[name] for name in (EXPORTS if formats is None else formats)]
    folder.mkdir(parents=True, exist_ok=True)
    for export in exports:
        export.write(folder, maps)
    return folder
