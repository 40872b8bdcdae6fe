"""An archive of small slides, sound and bad, and a model that grades them: what whole runs are tried on.

A few slides are drawn; each slide of the archive is a copy of one with two stored tiles exchanged, so that a thousand
of them cost seconds and no two have the same content.
"""

import csv
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile

from benchmarks.chaos_reader import write_chaos_slide
from benchmarks.watched_run import histograde
from tests.hostile.makers import damage_tile, tissue_pixels, write_svs

WIDTH_PX, HEIGHT_PX, STORED_PX = 700, 620, 128
MPP = "1.0"
"""A tile of 224 px at 0.5 um/px is 112 px here: many tiles of few pixels, so that a slide costs little to read."""

MOST_BASES = 20
GRADES = 3
TRAINING_SLIDES = 6


@dataclass(frozen=True, slots=True)
class Archive:
    """Slides in a folder, and one list of those that are not there.

    Attributes
    ----------
    folder : Path
    removed : Path
        CSV of slides that are listed and have been removed.
    good : tuple of str
        Their slide_ids.
    bad : dict of str to str
        slide_id to the class under which it belongs into quarantine.
    """

    folder: Path
    removed: Path
    good: tuple[str, ...]
    bad: dict[str, str]

    @property
    def arguments(self) -> list[str]:
        """As `histograde grade` takes them."""
        return [str(self.folder), *([str(self.removed)] if self.removed.exists() else [])]

    def list_good(self, path: Path) -> Path:
        """A CSV of the good slides alone."""
        return _write_list(path, [(slide_id, self.folder / f"{slide_id}.svs") for slide_id in self.good])


def write_small(path: Path, pixels: np.ndarray, mpp: str | None = MPP) -> Path:
    """A slide of stored tiles of 128 px."""
    return write_svs(path, pixels, mpp=mpp, tile_px=STORED_PX)


def stained(grade: int, seed: int) -> np.ndarray:
    """Pixels (H, W, 3) uint8 of tissue that is darker with its grade."""
    return (tissue_pixels(WIDTH_PX, HEIGHT_PX, seed) * (1 - 0.08 * grade)).astype(np.uint8)


def make_archive(folder: Path, slides: int, bad: int, seed: int) -> Archive:
    """Draw an archive; the bad slides are spread over it at random, and take turns in how they are bad."""
    slide_folder = folder / "archive"
    slide_folder.mkdir(parents=True)
    ids = [f"case-{number:05d}" for number in range(slides)]
    chosen = sorted(np.random.default_rng(seed).choice(slides, bad, replace=False).tolist())
    kinds = itertools.cycle(BAD_SLIDES.items())
    classes: dict[str, str] = {}
    gone = []
    for number in chosen:
        path = slide_folder / f"{ids[number]}.svs"
        kind, (error_class, make) = next(kinds)
        classes[ids[number]] = error_class
        make(path, seed + number)
        if kind == "removed":
            path.unlink()
            gone.append((ids[number], path))
    removed = folder / "removed.csv"
    if gone:
        _write_list(removed, gone)
    good = [slide_id for slide_id in ids if slide_id not in classes]
    bases = [
        write_small(folder / f"base-{number}.svs", stained(number % GRADES, seed + number))
        for number in range(min(MOST_BASES, 2 + len(good) // 10))
    ]
    for number, slide_id in enumerate(good):
        vary(bases[number % len(bases)], slide_folder / f"{slide_id}.svs", number // len(bases))
    for base in bases:
        base.unlink()
    return Archive(slide_folder, removed, tuple(good), classes)


def vary(base: Path, path: Path, number: int) -> None:
    """A copy of a slide in which the pair `number` of stored tiles of level 0 has changed places."""
    path.write_bytes(base.read_bytes())
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[0]
        one, other = list(itertools.combinations(range(len(page.dataoffsets)), 2))[number]
        for tag in ("TileOffsets", "TileByteCounts"):
            values = list(page.tags[tag].value)
            values[one], values[other] = values[other], values[one]
            page.tags[tag].overwrite(values)


def train_model(folder: Path, seed: int) -> Path:
    """A model of toy features, trained by the command line on some slides that are drawn for it."""
    slides = folder / "training"
    slides.mkdir(parents=True)
    rows = []
    for number in range(TRAINING_SLIDES):
        grade = number % GRADES
        write_small(slides / f"t{number}.svs", stained(grade, seed + 1000 + number))
        rows.append((f"t{number}", grade, f"P{number}", f"S{number % 2}"))
    labels = folder / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("slide_id", "label", "patient_id", "site"), *rows])
    stores, model = folder / "training-stores", folder / "model"
    histograde("extract", slides, "--store", stores, "--encoder", "toy")
    histograde("train", "--store", stores, "--labels", labels, "--out", model, "--folds", 2, "--epochs", 2)
    return model


def _write_list(path: Path, rows: list[tuple[str, Path]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([("slide_id", "path"), *rows])
    return path


# --- what a slide can suffer from -------------------------------------------------------------------------------


def garbage(path: Path, seed: int) -> None:
    """No slide at all."""
    path.write_bytes(np.random.default_rng(seed).bytes(100_000))


def torn_header(path: Path, seed: int) -> None:
    """A slide of which only the first bytes arrived."""
    write_small(path, stained(0, seed))
    path.write_bytes(path.read_bytes()[:100])


def without_scale(path: Path, seed: int) -> None:
    """A slide that does not say how large a pixel is."""
    write_small(path, stained(0, seed), None)


def wrong_scale(path: Path, seed: int) -> None:
    """A slide that says what no scanner has: millimetres, perhaps."""
    write_small(path, stained(0, seed), "0.0005")


def blank_glass(path: Path, seed: int) -> None:
    """A slide without tissue."""
    noise = np.random.default_rng(seed).normal(243, 0.5, (HEIGHT_PX, WIDTH_PX, 1))
    write_small(path, np.repeat(noise.clip(0, 255).astype(np.uint8), 3, axis=2))


def damaged_tiles(path: Path, seed: int) -> None:
    """A slide of which most stored tiles are damaged; its coarse level is whole."""
    write_small(path, stained(0, seed))
    for row in range(-(-HEIGHT_PX // STORED_PX)):
        for column in range(row % 2, -(-WIDTH_PX // STORED_PX)):
            damage_tile(path, 0, column, row)


def fluorescence(path: Path, seed: int) -> None:
    """Light on black."""
    light = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 60, (HEIGHT_PX, WIDTH_PX, 3)), (0, 0), 6) * 6
    write_small(path, light.clip(0, 255).astype(np.uint8))


def harmful(deed: str, moment: str) -> Callable[[Path, int], None]:
    """A slide that hurts who reads it, by `benchmarks.chaos_reader`."""

    def make(path: Path, seed: int) -> None:
        write_chaos_slide(path, deed, moment, tissue_pixels(WIDTH_PX, HEIGHT_PX, seed))

    return make


BAD_SLIDES: dict[str, tuple[str, Callable[[Path, int], None]]] = {
    "garbage": ("unreadable", garbage),
    "torn_header": ("unreadable", torn_header),
    "without_scale": ("missing_mpp", without_scale),
    "wrong_scale": ("implausible_mpp", wrong_scale),
    "blank_glass": ("no_tissue", blank_glass),
    "damaged_tiles": ("too_many_bad_tiles", damaged_tiles),
    "removed": ("vanished", without_scale),
    "fluorescence": ("not_brightfield", fluorescence),
    "kills_when_opened": ("worker_killed", harmful("kill", "open")),
    "hangs": ("timeout", harmful("sleep", "tile")),
    "no_memory": ("out_of_memory", harmful("memory", "tile")),
    "kills_when_read": ("worker_killed", harmful("kill", "tile")),
    "freezes": ("timeout", harmful("freeze", "tile")),
}
"""How a slide is bad: the class of its quarantine, and its maker (path, seed)."""
