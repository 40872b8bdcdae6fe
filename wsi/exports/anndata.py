"""A slide's features as AnnData (https://anndata.readthedocs.io), for scanpy, squidpy and what else reads `.h5ad`.

    X                       (n, D) float32, one row for each tile that has features; bad tiles are left out
    obs                     slide_id, row (in the store's grid), x_px0, y_px0 (top-left corner), tissue_fraction
    obsm["spatial"]         (n, 2) centre (x, y) of each tile in level-0 px, squidpy's full-resolution pixels
    obsm["spatial_um"]      the same in um, where the pixel size is known
    uns["spatial"]          squidpy's: {slide_id: {"images": {}, "scalefactors": {...}}}; the spot is as wide as a tile
    uns["histograde"]       slide, recipe and card as JSON texts, in which what is unknown is null

Where the size of tiles is unknown, places are their corners, and there is no scale factor of the spot. It is not one of
`EXPORTS`: those draw a graded slide's heatmaps, and each grading makes all of them; this is of a store, graded or not.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wsi.errors import MissingPackageError
from wsi.exports import staged
from wsi.store import FeatureStore, slide_meta, store_path

if TYPE_CHECKING:
    from anndata import AnnData


def write_anndata(path: Path, store: FeatureStore, encoder: str) -> int:
    """Write a slide's features as `.h5ad`, whole or not at all; the same store gives the same bytes.

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    CorruptStoreError
        If the store is damaged or has no features of this encoder.
    MissingPackageError
        If anndata is not installed.
    """
    table = slide_anndata(store, encoder)
    with staged(path) as temporary:
        table.write_h5ad(temporary)
    return int(table.n_obs)


def slide_anndata(store: FeatureStore, encoder: str) -> "AnnData":
    """The same in memory; errors as of `write_anndata`."""
    try:
        import pandas as pd
        from anndata import AnnData
    except ImportError as error:
        raise MissingPackageError("AnnData needs its package; pip install 'histograde[anndata]'") from error
    slide = store.slide
    store_path(".", slide.slide_id)  # it becomes a key in the file, where a slash would open a group
    rows = store.good_rows(encoder)
    corners = store.coords[rows]
    features = store.features(encoder, rows).astype(np.float32)
    obs = pd.DataFrame(
        {
            "slide_id": pd.Categorical([slide.slide_id] * len(rows), categories=[slide.slide_id]),
            "row": rows,
            "x_px0": corners[:, 0],
            "y_px0": corners[:, 1],
            "tissue_fraction": store.tissue_fraction[rows],
        },
        index=pd.Index([f"{slide.slide_id}-{row}" for row in rows], dtype=object),
    )
    var = pd.DataFrame(index=pd.Index([f"{encoder}-{number}" for number in range(features.shape[1])], dtype=object))
    centres = corners + np.asarray(store.side_px0) / 2
    places = {"spatial": centres}
    if slide.mpp is not None:
        places["spatial_um"] = centres * np.asarray(slide.mpp)
    return AnnData(features, obs=obs, var=var, obsm=places, uns=_about(store, encoder))


def _about(store: FeatureStore, encoder: str) -> dict[str, Any]:
    slide, side = store.slide, max(store.side_px0)
    factors = {"tissue_hires_scalef": 1.0} | ({"spot_diameter_fullres": float(side)} if side else {})
    return {
        "spatial": {slide.slide_id: {"images": {}, "scalefactors": factors}},
        "histograde": {
            "format_version": int(store.meta["format_version"]),
            "encoder": encoder,
            "spatial_unit": "level-0 px, " + ("centre" if side else "top-left corner") + " of the tile",
            "bad_tiles": len(store.bad_tiles(encoder)),
            "slide": _text(slide_meta(slide)),
            "recipe": _text(store.recipe),
            "card": _text(store.card(encoder)),
        },
    }


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


__all__ = ["slide_anndata", "write_anndata"]
