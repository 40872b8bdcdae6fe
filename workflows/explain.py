"""`histograde explain`: which heatmap of a model shows what it goes by, measured on held-out slides."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.explaining import MOST_SLIDES, ExplainConfig, explain_model
from workflows.training_options import names_of


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model folder made by `histograde train`.")],
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Feature stores of its slides, where they were moved.", show_default="as trained"
        ),
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Drawn findings, <slide_id>.geojson as QuPath writes them.")
    ] = None,
    findings: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Classes of regions that count.", show_default="all not benign"),
    ] = None,
    slides: Annotated[int, typer.Option(metavar="N", min=1, help="Most slides; of more so many are drawn.")] = (
        MOST_SLIDES
    ),
    tiles: Annotated[int, typer.Option(metavar="N", min=16, help="Most tiles of a slide.")] = 1024,
    repeats: Annotated[int, typer.Option(metavar="N", min=1, help="Random orders of a slide's tiles.")] = 10,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of all draws.")] = 0,
) -> None:
    """Which heatmap of a model shows what it goes by: one table, kept in the model folder.

    Takes the tiles of held-out slides away in the order of each map (deletion) or brings them back (insertion), and
    holds that against random orders and against the same map of random weights, which must fail. `grade`, `render` and
    `report` then show the map that came out best.

    Example: `histograde explain model/ --annotations truth/`
    """
    from wsi.store_url import store_location

    place = None if store is None else store_location(store)
    explain_model(
        ExplainConfig(model, place, annotations, names_of(findings), slides, tiles, repeats, seed), typer.echo
    )
