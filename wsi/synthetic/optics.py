"""From stain to colour: the scanner and the laboratory of each site.

A pixel is an amount of haematoxylin and of eosin; its colour follows from Beer and Lambert's law, the white point and the
tone curve. Amounts are uint8, `UNIT` to one; so a table of 65,536 colours is the whole microscope.

References
----------
Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, Anal Quant Cytol Histol 2001.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

UNIT = 96  # uint8 steps in a stain amount of one
_NOISE_MEAN = 4
_HAEMATOXYLIN = (0.62, 0.69, 0.33)
_EOSIN = (0.17, 0.80, 0.50)


@dataclass(frozen=True, slots=True)
class Optics:
    """Stain vectors (optical density per unit, RGB), white point (0-255), tone curve exponent, blur (um), JPEG quality."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    white: tuple[float, float, float]
    gamma: float
    blur_um: float
    quality: int


# What tells the first three sites apart at a glance: hue of each stain, strength of each, white point, gamma, blur, quality.
_SITES = (
    dict(h_hue=0.0, e_hue=0.0, h=1.0, e=1.0, white=(244, 243, 246), gamma=1.0, blur=0.22, quality=80),
    dict(h_hue=0.06, e_hue=-0.13, h=0.95, e=1.28, white=(241, 234, 238), gamma=1.08, blur=0.28, quality=72),
    dict(h_hue=-0.10, e_hue=0.12, h=1.12, e=0.74, white=(236, 241, 240), gamma=0.88, blur=0.18, quality=88),
)


def site_optics(site: int, slide_seed: int) -> Optics:
    """Optics of a site, with the smaller changes of one slide (batch of stain, thickness of the cut)."""
    rng = np.random.default_rng([7919, site])
    if site < len(_SITES):
        look = _SITES[site]
    else:
        look = dict(
            h_hue=rng.uniform(-0.14, 0.14), e_hue=rng.uniform(-0.16, 0.16), h=rng.uniform(0.75, 1.25), e=rng.uniform(0.7, 1.4),
            white=tuple(rng.uniform(232, 247, 3)), gamma=rng.uniform(0.85, 1.15), blur=rng.uniform(0.17, 0.32),
            quality=int(rng.integers(65, 92)),
        )  # fmt: skip
    jitter = np.random.default_rng([slide_seed & 0xFFFFFFFF, 202])
    h = look["h"] * jitter.uniform(0.85, 1.15)
    e = look["e"] * jitter.uniform(0.85, 1.17)
    return Optics(
        haematoxylin=_turned(_HAEMATOXYLIN, look["h_hue"] + jitter.uniform(-0.03, 0.03), h),
        eosin=_turned(_EOSIN, look["e_hue"] + jitter.uniform(-0.03, 0.03), e),
        white=tuple(w + d for w, d in zip(look["white"], jitter.uniform(-1.5, 1.5, 3), strict=True)),
        gamma=look["gamma"] * jitter.uniform(0.97, 1.03),
        blur_um=look["blur"],
        quality=look["quality"],
    )


def _turned(vector: tuple[float, float, float], hue: float, strength: float) -> tuple[float, float, float]:
    """The stain vector shifted from red towards blue absorption by `hue`, green kept, and scaled."""
    red, green, blue = vector
    return (strength * (red - hue * 0.8), strength * green, strength * (blue + hue))


def colour_table(optics: Optics, pale: float = 1.0) -> NDArray[np.uint32]:
    """Colour (bytes R, G, B, 0) of each pair of amounts; index is haematoxylin + 256 * eosin.

    Chromatin keeps eosin out: where there is much haematoxylin, less of the eosin shows.
    """
    h = np.arange(256, dtype=np.float64)[None, :, None] / UNIT * pale
    e = np.arange(256, dtype=np.float64)[:, None, None] / UNIT * pale
    density = h * np.asarray(optics.haematoxylin) + e * np.clip(1 - 0.55 * h, 0.3, 1) * np.asarray(optics.eosin)
    rgb = np.asarray(optics.white) * np.exp(-density) ** optics.gamma - _NOISE_MEAN
    bytes_ = np.zeros((256, 256, 4), np.uint8)
    bytes_[..., :3] = np.clip(np.rint(rgb), 0, 255)
    return bytes_.reshape(-1, 4).view("<u4")[:, 0].astype(np.uint32)


@lru_cache(maxsize=1)
def _sensor_noise() -> NDArray[np.uint8]:
    """A large sheet of sensor noise (2560, 2560, 3) with mean `_NOISE_MEAN`."""
    rng = np.random.default_rng(303)
    sheet = rng.integers(0, 9, (2560, 2560, 3), dtype=np.uint8) + rng.integers(0, 9, (2560, 2560, 1), dtype=np.uint8)
    return np.clip(cv2.blur(sheet, (2, 2)), 8 - _NOISE_MEAN, 8 + _NOISE_MEAN) - np.uint8(8 - _NOISE_MEAN)


def photograph(
    haematoxylin: NDArray[np.uint8],
    eosin: NDArray[np.uint8],
    table: NDArray[np.uint32],
    blur_px: float,
    shift: tuple[int, int],
) -> NDArray[np.uint8]:
    """Colours (H, W, 3) of two stain amounts (H, W), with defocus and sensor noise; `shift` moves the noise, 0-511."""
    pair = cv2.merge([haematoxylin, eosin]).view("<u2")[..., 0]
    shape = pair.shape
    colours = table[pair].view(np.uint8).reshape(*shape, 4)
    rgb = cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB)
    rgb = cv2.GaussianBlur(rgb, (5, 5), blur_px)
    noise = _sensor_noise()[shift[1] : shift[1] + shape[0], shift[0] : shift[0] + shape[1]]
    return cv2.add(rgb, noise)
