"""Tile encoders by name. Each is a function `(weights: Path | None, device: str) -> Encoder`."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from mil.encoders.card import EncoderCard
from mil.encoders.published import PUBLISHED, UNAVAILABLE
from wsi.errors import UsageError
from wsi.registry import Registry

if TYPE_CHECKING:
    import torch

ENCODERS = Registry(
    "encoder",
    {
        "toy": "mil.encoders.toy:load",
        "lite0": "mil.encoders.lite0:load",
    },
)
"""Those whose weights come with a package, and those that plug-ins bring; `mil.encoders.published` lists the others."""

TIMM_PREFIX = "timm:"


class Encoder(Protocol):
    """Turns tiles into features. Deterministic; may be called from several threads."""

    @property
    def card(self) -> EncoderCard: ...

    @property
    def device(self) -> str:
        """Where it runs: "cpu", "cuda:0"."""
        ...

    def encode(self, tiles: np.ndarray) -> np.ndarray:
        """Features of some tiles.

        Parameters
        ----------
        tiles : ndarray (n, tile_px, tile_px, 3) uint8
            RGB at the card's mpp; n of any size, also 0.

        Returns
        -------
        ndarray (n, D) float32
            A tile's feature does not depend on the others.
        """
        ...


@runtime_checkable
class TensorEncoder(Encoder, Protocol):
    """An encoder that takes tiles where it runs, and leaves their features there."""

    def encode_tensor(self, tiles: "torch.Tensor") -> "torch.Tensor":
        """Features (n, D) float32 of tiles (n, 3, tile_px, tile_px) uint8, both on the encoder's device.

        The same as `encode` of the same tiles.
        """
        ...


def asked_name(card_name: str) -> str:
    """What `load_encoder` must be asked for to get the encoder of a card again."""
    known = card_name in ENCODERS or card_name in PUBLISHED
    return card_name if known else TIMM_PREFIX + card_name


def load_encoder(name: str, *, weights: str | Path | None = None, device: str = "auto") -> Encoder:
    """An encoder by its name in `ENCODERS` or `PUBLISHED`, or `timm:NAME` with a local file of weights.

    Raises
    ------
    UsageError
        If there is no such encoder, or its weights are missing or do not fit.
    MissingPackageError
        If a package that it needs is not installed.
    """
    path = None if weights is None else Path(weights)
    if path is not None and not path.is_file():
        raise UsageError(f"{path}: no such file of weights; check --weights")
    if name.startswith(TIMM_PREFIX):
        from mil.encoders.timm import load_timm

        return load_timm(name, path, device)
    if name not in ENCODERS:
        if name in PUBLISHED or name in UNAVAILABLE:
            from mil.encoders.foundation import load_published

            return load_published(name, path, device)
        known = ", ".join([*ENCODERS, *PUBLISHED])
        raise UsageError(f"no encoder is called {name!r}; there are: {known}, and {TIMM_PREFIX}NAME")
    encoder: Encoder = ENCODERS[name](path, device)
    return encoder
