"""`histograde export`: the features of a slide for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wsi.store import FeatureStore
    from wsi.store_url import StorePath

SUFFIX = ".h5ad"


def command(
    store: Annotated[
        str, typer.Argument(metavar="STORE", help="A folder of stores, or one <slide>.zarr; both also as s3://...")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.h5ad", help="The file to write; an older one is replaced.")],
    slide: Annotated[
        str | None, typer.Option(metavar="ID", help="The slide, where the folder holds several.", show_default=False)
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose features, where there are several.", show_default=False)
    ] = None,
    to: Annotated[str, typer.Option(metavar="FORMAT", help="anndata.")] = "anndata",
) -> None:
    """The features of a slide to AnnData: one row a tile, with its place, for scanpy and squidpy.

    Tiles without features are left out. What is unknown of imported features is unknown in the file.

    Example: `histograde export features/ --slide s01 --encoder lite0 --to anndata --out s01.h5ad`
    """
    from wsi.errors import UsageError
    from wsi.store_url import store_location

    if to != "anndata":
        raise UsageError(f"--to is {to!r}; it can be anndata")
    if out.suffix != SUFFIX:
        raise UsageError(f"{out}: AnnData files end in {SUFFIX}; check --out")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder; check --out")
    found = one_store(store_location(store), slide)
    name = one_encoder(found, encoder)
    from wsi.exports.anndata import write_anndata

    tiles = write_anndata(out, found, name)
    bad = len(found.bad_tiles(name))
    typer.echo(f"{out}: {tiles:,} tiles of {found.slide.slide_id} by {name}, {bad} bad ones left out")


def one_store(root: "StorePath", slide_id: str | None) -> "FeatureStore":
    """The slide's store; raises `UsageError` if there is none, or several and none is named."""
    from wsi.cohort_index import open_cohort
    from wsi.errors import UsageError
    from wsi.store import FeatureStore, store_path

    if root.suffix != ".zarr" and slide_id is not None:
        path = store_path(root, slide_id)
        if path.is_dir():
            return FeatureStore(path)
    stores = open_cohort(root)
    if slide_id is None and len(stores) == 1:
        return next(iter(stores.values()))
    if slide_id in stores:
        return stores[str(slide_id)]
    some = ", ".join(list(stores)[:5])
    raise UsageError(f"{root}: holds {len(stores)} slides ({some} ...), found no {slide_id!r}; say which with --slide")


def one_encoder(store: "FeatureStore", name: str | None) -> str:
    """The encoder that is named, or the only one; raises `UsageError` if there is no such."""
    from wsi.errors import UsageError

    have = store.encoders
    if name in have or (name is None and len(have) == 1):
        return name or have[0]
    raise UsageError(f"{store.path.name}: holds features by {', '.join(have) or 'nobody'}; say whose with --encoder")
