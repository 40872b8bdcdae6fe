"""The card of an encoder: everything that must be the same for its features to be comparable."""

from dataclasses import asdict, dataclass
from typing import Any

from wsi.kernels import Kernel


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What an encoder is and what it expects.

    A card says another kernel than `area` only where the encoder's authors resampled slides to its scale, and with that
    kernel (Prov-GigaPath: `lanczos`, libvips' own). Where they cut tiles out of a stored level, the scanner did the
    averaging, and `area` comes closest to it; how a transform brings a photograph to the input size says nothing about
    it, since tiles are cut at that size here.

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
        Resampling kernel of its tiles, one of `wsi.kernels.KERNELS`: what `extract` uses unless told otherwise. The
        recipe of a store says what was used.
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
    kernel: Kernel = "area"
    dtype: str = "float16"
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
