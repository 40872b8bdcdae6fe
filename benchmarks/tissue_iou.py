"""IoU of `find_tissue` with the truth of synthetic slides, for each thing that may disturb it.

    python benchmarks/tissue_iou.py [--slides 6] [--overlays DIR]

Each synthetic slide (three sites, 4 x 4 mm at 0.25 um/px) is reduced to 2 um/px; the disturbance is then laid on it in
optical density, as light would meet it, and the picture is stored as JPEG before the tissue is sought at 8 um/px. What
lies under ink cannot be graded and is no tissue in the truth. The limit is what is lost by small holes, which are
filled on purpose, and by the raster: the row `none` shows it. Rows in square brackets are the artefacts that the
synthetic slides bring themselves, read from the whole pyramid.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from wsi.resample import read_scaled
from wsi.slide import open_slide
from wsi.synthetic import write_slide
from wsi.synthetic.artefacts import Artefact
from wsi.tissue import TissueMask, find_tissue

MPP = 2.0
SIDE_PX0 = 16384
INKS = {
    "black": (1.2, 1.2, 1.15),
    "blue": (1.1, 0.55, 0.12),
    "green": (0.95, 0.25, 0.6),
    "red": (0.04, 0.95, 0.85),
    "pale blue": (0.4, 0.2, 0.05),
    "pale green": (0.35, 0.1, 0.2),
}
Disturb = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""From density (H, W, 3) and truth (H, W) to density; tissue under a pen is taken out of the truth in place."""


def nothing(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return density


def pale(share: float) -> Disturb:
    return lambda density, truth, rng: density * np.where(truth, share, 1)[..., None]


def pens(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A ring and some lines in one ink each, 0.15 to 0.6 mm wide, mostly beside the tissue, partly over it."""
    height, width = truth.shape
    for name in rng.permutation(list(INKS))[:3]:
        stroke = np.zeros(truth.shape, np.uint8)
        thick = int(rng.integers(75, 300) / MPP)
        x, y = rng.integers(0, width, 4), int(rng.choice([0.03, 0.06, 0.94, 0.97]) * height)
        points = np.stack([np.sort(x), y + rng.integers(-40, 40, 4)], axis=1).astype(np.int32)
        cv2.polylines(stroke, [points], False, 1, thick)
        centre = (int(rng.choice([0.02, 0.98]) * width), int(rng.uniform(0.3, 0.7) * height))
        cv2.ellipse(stroke, centre, (int(0.09 * width), int(0.2 * height)), 0, 0, 360, 1, thick)
        streaks = 1 + 0.1 * cv2.resize(rng.normal(size=(height // 16, width // 16)), (width, height))
        soft = cv2.GaussianBlur(stroke.astype(np.float32), (0, 0), 2) * streaks
        density = density + soft[..., None] * np.array(INKS[str(name)])
        truth &= stroke == 0
    return density


def shadow(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft band across the slide, and the hard edge of a cover slip with a darker side."""
    y, x = np.mgrid[0 : 1 : truth.shape[0] * 1j, 0 : 1 : truth.shape[1] * 1j]
    band = 0.35 * np.exp(-(((x + 0.2 * y - rng.uniform(0.3, 0.9)) / 0.04) ** 2))
    edge = y + 0.02 * x - rng.uniform(0.05, 0.2)
    cover = 0.2 * (edge < 0) + 0.6 * (abs(edge) < 0.002)
    return density + (band + cover)[..., None] * np.array([1.0, 1.0, 1.05])


def surround(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black around the scanned area, over glass only."""
    rows, cols = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    black = np.ones(truth.shape, np.float32)
    black[max(0, rows[0] - 30) : rows[-1] + 30, max(0, cols[0] - 30) : cols[-1] + 30] = 0
    return density + 3 * cv2.GaussianBlur(black, (0, 0), 1.5)[..., None]


def uneven(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light that falls by a tenth to the corners, and a tint that grows to one side."""
    y, x = np.mgrid[-1 : 1 : truth.shape[0] * 1j, -1 : 1 : truth.shape[1] * 1j]
    fall = 0.023 * ((x - 0.2) ** 2 + (y + 0.3) ** 2)
    return density + fall[..., None] + (x[..., None] + 1) * np.array([0, 0.003, 0.008])


def dust(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """300 grey and slightly coloured specks of up to 50 um."""
    density = density.copy()
    for _ in range(300):
        x, y = rng.integers(16, np.array(truth.shape[::-1]) - 16)
        speck = cv2.circle(np.zeros((32, 32), np.float32), (16, 16), int(rng.integers(2, 13)), 1, -1)
        tint = rng.uniform(0.2, 1) * rng.uniform(0.8, 1.2, 3)
        density[y - 16 : y + 16, x - 16 : x + 16] += speck[..., None] * tint
    return density


def fatty(density: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the tissue is fat: cells of about 80 um, walls of 2 um, some of them broken."""
    height, width = truth.shape
    pitch = int(80 / MPP)
    seeds = np.ones(truth.shape, np.uint8)
    rows, cols = np.mgrid[0:height:pitch, 0:width:pitch]
    jitter = rng.uniform(-0.3, 0.3, (2, *rows.shape)) * pitch
    seeds[(rows + jitter[0]).astype(int).clip(0, height - 1), (cols + jitter[1]).astype(int).clip(0, width - 1)] = 0
    _, cell = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    wall = np.zeros(truth.shape, bool)
    wall[:-1] = cell[:-1] != cell[1:]
    wall[:, :-1] |= cell[:, :-1] != cell[:, 1:]
    whole = cv2.resize(rng.normal(size=(height // 20, width // 20)).astype(np.float32), (width, height)) < 1.2
    field = cv2.GaussianBlur(cv2.resize(rng.normal(size=(24, 24)).astype(np.float32), (width, height)), (0, 0), 30)
    fat = truth & (field > np.median(field[truth]))
    walls = cv2.GaussianBlur((wall & whole).astype(np.float32), (0, 0), 0.5)[..., None] * np.array([0.02, 0.2, 0.1])
    return np.where(fat[..., None], walls, density)


DISTURBANCES: dict[str, Disturb] = {
    "none": nothing,
    "pen": pens,
    "shadow": shadow,
    "pale x0.4": pale(0.4),
    "pale x0.2": pale(0.2),
    "fatty": fatty,
    "black surround": surround,
    "uneven light": uneven,
    "dust": dust,
    "pale, pen": lambda density, truth, rng: pens(pale(0.4)(density, truth, rng), truth, rng),
    "pale, shadow": lambda density, truth, rng: shadow(pale(0.4)(density, truth, rng), truth, rng),
}


OWN_ARTEFACTS: tuple[tuple[Artefact, ...], ...] = (
    ("pen-blue",),
    ("pen-green",),
    ("pen-black",),
    ("pen-red",),
    ("shadow",),
    ("glass-edge",),
    ("coverslip",),
    ("black-surround",),
    ("dust",),
    ("pale",),
    ("fat",),
    ("pale", "pen-blue", "shadow"),
)


def of_own_artefacts(folder: Path, seed: int, names: tuple[Artefact, ...]) -> float:
    """IoU on a synthetic slide (2 x 2 mm) with artefacts of its own."""
    path = folder / "own.svs"
    truth = write_slide(path, seed=seed, size_px0=(8192, 8192), site=seed % 3, artefacts=names)
    slide = open_slide(path, content_hash="0")
    tissue = find_tissue(slide)
    slide.close()
    return iou(tissue, truth.tissue_mask)


def base(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density (H, W, 3), glass (3,) and truth (H, W) bool of a synthetic slide at `MPP`."""
    path = folder / f"{seed}.svs"
    truth = write_slide(path, seed=seed, size_px0=(SIDE_PX0, SIDE_PX0), site=seed % 3)
    side = round(SIDE_PX0 * truth.mpp / MPP)
    slide = open_slide(path, content_hash="0")
    pixels = read_scaled(slide, slide.info.bounds_px0, (side, side)).astype(np.float32)
    slide.close()
    mask = cv2.resize(truth.tissue_mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
    glass = np.median(pixels[~mask], axis=0)
    return -np.log10((pixels + 1) / (glass + 1)), glass, mask


def find(folder: Path, density: np.ndarray, glass: np.ndarray, rng: np.random.Generator) -> TissueMask:
    pixels = (glass + 1) * 10**-density - 1 + 2 * rng.normal(size=density.shape)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    cv2.imwrite(str(folder / "slide.jpg"), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return find_tissue(open_slide(folder / "slide.jpg", mpp=(MPP, MPP), content_hash="0"))


def iou(tissue: TissueMask, truth: np.ndarray) -> float:
    share = cv2.resize(truth.astype(np.float32), tissue.mask.shape[::-1], interpolation=cv2.INTER_AREA)
    return float((tissue.mask & (share >= 0.5)).sum() / (tissue.mask | (share >= 0.5)).sum())


def save_overlay(path: Path, folder: Path, tissue: TissueMask) -> None:
    picture = np.asarray(Image.open(folder / "slide.jpg").reduce(2))[..., ::-1].copy()
    rings = [np.array(ring.coords) for p in tissue.polygons() for ring in (p.exterior, *p.interiors)]
    drawn = cv2.polylines(picture, [(r / 2).round().astype(np.int32) for r in rings], True, (0, 200, 0), 2)
    cv2.imwrite(str(path), drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description="IoU of find_tissue with the truth of synthetic slides")
    parser.add_argument("--slides", type=int, default=6)
    parser.add_argument("--overlays", type=Path, help="folder for pictures of the outlines")
    args = parser.parse_args()
    if args.overlays:
        args.overlays.mkdir(parents=True, exist_ok=True)
    scores: dict[str, list[float]] = {name: [] for name in DISTURBANCES}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for seed in range(args.slides):
            density, glass, truth = base(folder, seed)
            for name, disturb in DISTURBANCES.items():
                rng = np.random.default_rng(seed)
                visible = truth.copy()
                disturbed = disturb(density, visible, rng)
                tissue = find(folder, disturbed, glass, rng)
                scores[name].append(iou(tissue, visible))
                if args.overlays:
                    save_overlay(args.overlays / f"{name.replace(' ', '_')}_{seed}.png", folder, tissue)
            for names in OWN_ARTEFACTS:
                scores.setdefault(f"[{', '.join(names)}]", []).append(of_own_artefacts(folder, seed, names))
    print(f"{'disturbance':<28}{'mean IoU':>10}{'worst':>10}")
    for name, values in scores.items():
        print(f"{name:<28}{np.mean(values):>10.4f}{np.min(values):>10.4f}")
    print(f"{'all':<28}{np.mean(list(scores.values())):>10.4f}{np.min(list(scores.values())):>10.4f}")


if __name__ == "__main__":
    main()
