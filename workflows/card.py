"""`histograde card`: what a model is, what it was trained on, how it did and where it ends, on one page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.model_card import Described


def command(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, as `histograde train` makes it.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for card.html and card.json.", show_default="MODEL-card, beside it"),
    ] = None,
    resamples: Annotated[
        int, typer.Option(metavar="N", min=100, help="Resamples of the patients, and permutations.")
    ] = 1000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of resamples and permutations.")] = 0,
) -> None:
    """What a model is, on one page: use, data, folds, figures with intervals, calibration, sets, audit, limits, hashes.

    Every file of the folder is checked on the way. The page is one file without links to outside; the same model gives
    the same bytes.

    Example: `histograde card model/ --out card/`
    """
    write_card(model, out, resamples, seed, typer.echo)


def write_card(
    model: Path, out: Path | None = None, n: int = 1000, seed: int = 0, report: Callable[[str], None] = print
) -> "Described":
    """Write card.html and card.json.

    Raises
    ------
    UsageError
        If `model` is not a model folder.
    CorruptStoreError
        If a file of it is missing or differs from its checksum.
    """
    from workflows.card_view import card_view
    from workflows.documents import write_document
    from workflows.model_card import describe

    described = describe(model, n, seed)
    # Not inside of the model folder, which holds what its manifest names and nothing else.
    folder = out if out is not None else model.resolve().with_name(f"{model.resolve().name}-card")
    page = write_document(folder, "card", card_view(described), described.to_dict())
    report(f"card of model {described.model_id} in {page}")
    return described
