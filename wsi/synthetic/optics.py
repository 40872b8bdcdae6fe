"""From stain to colour: the scanner and the laboratory of each site.

A pixel is an amount of haematoxylin and of eosin; its colour follows from Beer and Lambert's law, the white point and
the tone curve. Amounts are uint8, `UNIT` to one; so a table of 65,536 colours is the whole microscope.

References
----------
Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, Anal Quant Cytol Histol 2001.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from wsi.synthetic.noise import Pixels

UNIT = 96  # uint8 steps in a stain amount of one
_NOISE_MEAN = 4
_HAEMATOXYLIN = (0.62, 0.69, 0.33)
_EOSIN = (0.17, 0.80, 0.50)


@dataclass(frozen=True, slots=True)
class Optics:
    """Stain vectors (optical density per unit, RGB), white point (0-255), tone exponent, blur (um), JPEG quality."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    white: tuple[float, float, float]
    gamma: float
    blur_um: float
    quality: int


@dataclass(frozen=True, slots=True)
class _Site:
    """Shift of hue and strength of each stain, white point, tone curve exponent, blur (um), JPEG quality of a site."""

    h_hue: float
    e_hue: float
    h: float
    e: float
    white: tuple[float, float, float]
    gamma: float
    blur_um: float
    quality: int


_SITES = (
    _Site(0.0, 0.0, 1.0, 1.0, (244, 243, 246), 1.0, 0.22, 80),
    _Site(0.06, -0.13, 0.95, 1.28, (241, 234, 238), 1.08, 0.28, 72),
    _Site(-0.10, 0.12, 1.12, 0.74, (236, 241, 240), 0.88, 0.18, 88),
)


def _site(number: int) -> _Site:
    """The first three are far apart on purpose; any other is drawn."""
    if number < len(_SITES):
        return _SITES[number]
    rng = np.random.default_rng([7919, number])
    white = (rng.uniform(232, 247), rng.uniform(232, 247), rng.uniform(232, 247))
    hues = (rng.uniform(-0.12, 0.10), rng.uniform(-0.16, 0.14))
    strengths = (rng.uniform(0.85, 1.2), rng.uniform(0.72, 1.3))
    return _Site(*hues, *strengths, white, rng.uniform(0.87, 1.12), rng.uniform(0.17, 0.3), int(rng.integers(65, 92)))


def site_optics(site: int, slide_seed: int) -> Optics:
    """Optics of a site, with the smaller changes of one slide (batch of stain, thickness of the cut)."""
    look = _site(site)
    jitter = np.random.default_rng([slide_seed & 0xFFFFFFFF, 202])
    h = look.h * jitter.uniform(0.85, 1.15)
    e = look.e * jitter.uniform(0.85, 1.17)
    red, green, blue = (w + jitter.uniform(-1.5, 1.5) for w in look.white)
    return Optics(
        haematoxylin=_turned(_HAEMATOXYLIN, look.h_hue + jitter.uniform(-0.03, 0.03), h),
        eosin=_turned(_EOSIN, look.e_hue + jitter.uniform(-0.03, 0.03), e),
        white=(red, green, blue),
        gamma=look.gamma * jitter.uniform(0.97, 1.03),
        blur_um=look.blur_um,
        quality=look.quality,
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
def _sensor_noise() -> Pixels:
    """A large sheet of sensor noise (2560, 2560, 3) with mean `_NOISE_MEAN`."""
    rng = np.random.default_rng(303)
    sheet = rng.integers(0, 9, (2560, 2560, 3), dtype=np.uint8) + rng.integers(0, 9, (2560, 2560, 1), dtype=np.uint8)
    return np.clip(cv2.blur(sheet, (2, 2)), 8 - _NOISE_MEAN, 8 + _NOISE_MEAN) - np.uint8(8 - _NOISE_MEAN)


def photograph(
    haematoxylin: Pixels,
    eosin: Pixels,
    table: NDArray[np.uint32],
    blur_px: float,
    shift: tuple[int, int],
) -> Pixels:
    """Colours (H, W, 3) of two stain amounts (H, W), with defocus and sensor noise; `shift` moves the noise, 0-511."""
    pair = cv2.merge([haematoxylin, eosin]).view("<u2")[..., 0]
    shape = pair.shape
    colours = table[pair].view(np.uint8).reshape(*shape, 4)
    rgb = cv2.cvtColor(colours, cv2.COLOR_RGBA2RGB)
    rgb = cv2.GaussianBlur(rgb, (5, 5), blur_px)
    noise = _sensor_noise()[shift[1] : shift[1] + shape[0], shift[0] : shift[0] + shape[1]]
    return cv2.add(rgb, noise)
