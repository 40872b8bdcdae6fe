"""`histograde index`: what lies in a folder of feature stores, as a table and as a Parquet file."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wsi.index_file import IndexRow

MAKING = ("weights_sha256", "dim", "dtype", "tile_px", "mpp", "stride_px", "min_tissue", "kernel")
"""What must agree, beside the encoder's name, for features to be of one kind."""

MOST_NAMES = 5


def command(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", help="A folder of stores, also as s3://..., or the --out of `grade`.")
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Read every store, also those that are unchanged.")
    ] = False,
) -> None:
    """Slides, tiles and bytes by encoder and recipe, and what is mixed; writes ROOT/index.parquet.

    One row for each slide and encoder. The index is a cache: it is read from the stores, only those that have changed
    are read again, and without it everything works, only slower. It does not verify: `histograde verify` does.

    Exit code 0: the index is written. 1: that needs pyarrow, which is not there; the table is shown all the same.

    Example: `histograde index features/`
    """
    from wsi.cohort_index import read_cohort
    from wsi.errors import UsageError
    from wsi.index_file import INDEX, write_index
    from wsi.store_check import stores_folder
    from wsi.store_url import store_location

    folder = stores_folder(store_location(root))
    found = read_cohort(folder, rebuild=rebuild)
    typer.echo("\n".join(summary(found.rows)))
    try:
        changed = write_index(folder, found.rows, found.stamps)
    except OSError as error:
        raise UsageError(f"{folder}: {INDEX} cannot be written ({error.strerror})") from error
    said = "written" if changed else "unchanged"
    typer.echo(f"{found.stores} stores, {found.opened} of them read; {folder / INDEX} {said}")


def summary(rows: "Sequence[IndexRow]") -> list[str]:
    """The table, and what is mixed, unfinished or cannot be read."""
    complete = [row for row in rows if row.complete]
    groups: dict[tuple[object, ...], list[IndexRow]] = defaultdict(list)
    for row in complete:
        groups[(row.encoder, *(getattr(row, name) for name in MAKING))].append(row)
    ordered = [groups[key] for key in sorted(groups, key=lambda key: [str(part) for part in key])]
    table: list[tuple[str, ...]] = [("encoder", "recipe", "slides", "tiles", "bad", "GB")]
    table += [_cells(group) for group in ordered]
    return [*_aligned(table), *_notes(rows, ordered)]


def _cells(group: "list[IndexRow]") -> tuple[str, ...]:
    one = group[0]
    return (
        str(one.encoder),
        _recipe(one),
        f"{len(group):,}",
        f"{sum(row.tiles or 0 for row in group):,}",
        f"{sum(row.bad_tiles or 0 for row in group):,}",
        f"{sum(row.feature_bytes or 0 for row in group) / 1e9:,.3f}",
    )


def _recipe(row: "IndexRow") -> str:
    stride = "" if row.stride_px == row.tile_px else f", every {_known(row.stride_px)} px"
    mpp = "?" if row.mpp is None else f"{row.mpp:g}"
    features = f"{_known(row.dim)} x {_known(row.dtype)}"
    return f"{_known(row.tile_px)} px at {mpp} um/px{stride}, {_known(row.kernel)}, {features}"


def _known(value: object) -> str:
    return "?" if value is None else str(value)


def _aligned(table: list[tuple[str, ...]]) -> list[str]:
    """Text columns to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _notes(rows: "Sequence[IndexRow]", groups: "list[list[IndexRow]]") -> Iterator[str]:
    by_encoder: dict[object, list[IndexRow]] = defaultdict(list)
    for group in groups:
        by_encoder[group[0].encoder].append(group[0])
    for encoder, kinds in by_encoder.items():
        if len(kinds) > 1:
            differ = [name for name in MAKING if len({getattr(one, name) for one in kinds}) > 1]
            values = (f"{name} {', '.join(sorted({_short(getattr(one, name)) for one in kinds}))}" for name in differ)
            ways = f"{len(kinds)} ways ({'; '.join(values)})"
            yield f"mixed: features by {encoder} were made in {ways}; they do not go together"
    for what, stores in _by_key((row.slide_id, row.store) for row in rows).items():
        if len(stores) > 1:
            yield f"mixed: {_listed(stores)} are all of the slide {what}"
    for stores in _by_key((row.content_hash, row.store) for row in rows if row.content_hash).values():
        if len(stores) > 1:
            yield f"mixed: {_listed(stores)} hold the same slide: their content_hash is one"
    if begun := [row.store for row in rows if not row.complete and row.encoder and not row.problem]:
        yield f"unfinished: {_listed(begun)}; `histograde extract` goes on with them"
    if bare := [row.store for row in rows if row.encoder is None and not row.problem]:
        yield f"without features: {_listed(bare)}"
    if wrong := [row.store for row in rows if row.problem]:
        yield f"cannot be read: {_listed(wrong)}; `histograde verify` says why"


def _by_key(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for key, store in pairs:
        found[key][store] = None
    return {key: list(stores) for key, stores in sorted(found.items())}


def _short(value: object) -> str:
    text = _known(value)
    return text[:12] if len(text) == 64 else text


def _listed(stores: Sequence[str]) -> str:
    names = list(dict.fromkeys(stores))
    rest = len(names) - MOST_NAMES
    shown = ", ".join(names[:MOST_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")
    return f"{len(names):,} stores ({shown})" if len(names) > 1 else shown
