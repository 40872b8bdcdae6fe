"""What must agree before a store is gone on with: slide, recipe, encoder. What differs is named."""

from collections.abc import Mapping
from typing import Any

from wsi.errors import RecipeMismatchError
from wsi.slide import SlideInfo
from wsi.store import FeatureStore

IDENTITY_OF_CARD = ("name", "dim", "tile_px", "mpp", "mean", "std", "kernel", "dtype", "weights_sha256", "file_sha256")
"""Fields of an encoder's card in which two sets of features of one slide must agree; only imported features have the
last, the digest of the file that they came from."""


def check_card(store_name: str, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse features of another encoder, by the name of what differs.

    Raises
    ------
    RecipeMismatchError
    """
    for field in IDENTITY_OF_CARD:
        if kept.get(field) != asked.get(field):
            raise RecipeMismatchError(
                f"{store_name}: its {kept.get('name')} features were made with {field} = {kept.get(field)!r}, "
                f"asked for is {asked.get(field)!r}; use the same encoder, or another --store folder"
            )


def check_recipe(store: FeatureStore, info: SlideInfo, recipe: Mapping[str, Any]) -> None:
    """Refuse a store of another slide or another recipe, by the name of what differs.

    Raises
    ------
    RecipeMismatchError
    """
    kept = store.slide
    if kept.content_hash != info.content_hash:
        raise RecipeMismatchError(
            f"{store.path.name}: made from a slide with hash {kept.content_hash[:12]}, this one has "
            f"{info.content_hash[:12]}; give the slides different names, or use another --store folder"
        )
    if kept.reader != info.reader:
        raise RecipeMismatchError(
            f"{store.path.name}: made with the reader {kept.reader}, now it is {info.reader}, whose pixels may "
            f"differ; use --reader {kept.reader}, or another --store folder"
        )
    if kept.mpp != info.mpp:
        raise RecipeMismatchError(
            f"{store.path.name}: made with mpp {kept.mpp} ({kept.mpp_source}), now it is {info.mpp} "
            f"({info.mpp_source}); use another --store folder"
        )
    for part, values in recipe.items():
        for field, value in values.items():
            old = store.recipe.get(part, {}).get(field)
            if old != value:
                raise RecipeMismatchError(
                    f"{store.path.name}: made with {part}.{field} = {old!r}, asked for is {value!r}; "
                    "use the same settings, or another --store folder"
                )
