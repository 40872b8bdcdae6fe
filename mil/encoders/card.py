"""The card of an encoder: everything that must be the same for its features to be comparable."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What an encoder is and what it expects.

    Attributes
    ----------
    name : str
        Its name in the registry; features are stored under it.
    dim : int
        Length D of a feature.
    tile_px : int
        Side of its input in pixels.
    mpp : float
        Scale it was made for, um/px.
    mean, std : (r, g, b)
        Normalisation of RGB in 0..1.
    licence : str
        Of the weights.
    weights_sha256 : str
        Digest of the weights' bytes; "none" where there are none.
    kernel : str
        Resampling kernel of its tiles (`wsi.resample`).
    dtype : str
        In which its features are stored.
    source : str
        Paper or package of the weights.
    """

    name: str
    dim: int
    tile_px: int
    mpp: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    weights_sha256: str
    kernel: str = "area"
    dtype: str = "float16"
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
