r"""Whether slides of another kind are flagged, and slides of the same kind are not, over many splits of a cohort.

    python -m benchmarks.outliers --cohort demo-run/training-slides --store demo-run/features \
        --unlike fluorescence=test3-DAPI.ndpi --unlike blank=kidney-blank.tif --unlike organ=mosaic/slides --out scratch

The cohort is a folder with slides/ and labels.csv (slide_id, patient_id). Of some of its slides, copies are made: out
of focus by 2, 4 and 8 um, and with another stain (eosin's part of the density takes the colour of another dye). In each
of 200 splits a fifth of the patients is held out. The reference knows the others only, one slide of each. Judged are
the held-out slides as they are, the copies of held-out slides, and all slides of other kinds. What is refused before it
is graded (fluorescence, no tissue) counts as flagged. Ends with exit code 1 if a kind is flagged in less than 95 % or
false alarms are above their rate by more than two standard errors.

Views of slides are kept in --out, so that a second run is quick. A view needs up to 128 tiles by `lite0`, some 10 s.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from mil.bag import Bag
from mil.encoders import Encoder, load_encoder
from mil.outliers import FALSE_ALARMS, OutlierReference, one_of_each
from mil.slide_view import TRAITS, SlideView, choice, traits_of
from workflows.extraction import ExtractConfig
from wsi.errors import NoTissueError, WsiError
from wsi.glass import check_brightfield
from wsi.overview import read_overview
from wsi.qc import find_tissue_with_qc
from wsi.resample import read_scaled
from wsi.slide import Slide, open_slide
from wsi.store import FeatureStore
from wsi.tiles import TileReader, tile_grid

LEAST_FOUND = 0.95
COPY_MPP = 0.5
"""Copies are made at the scale of the tiles."""

HEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
DYES = {"DAB": (0.27, 0.57, 0.78), "aniline blue": (0.85, 0.51, 0.10), "Congo red": (0.30, 0.90, 0.60)}
"""Directions of optical density, the first and the counterstains by Ruifrok and Johnston (2001)."""


def blurred(sigma_um: float) -> Callable[[np.ndarray], np.ndarray]:
    """Pixels as they are out of focus."""
    sigma_px = sigma_um / COPY_MPP
    return lambda pixels: np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma_px))


def restained(dye: str) -> Callable[[np.ndarray], np.ndarray]:
    """Pixels as they are with another dye in eosin's place."""
    before, after = np.array([HEMATOXYLIN, EOSIN]), np.array([HEMATOXYLIN, DYES[dye]])

    def stain(pixels: np.ndarray) -> np.ndarray:
        found = np.empty_like(pixels)
        for row in range(0, len(pixels), 256):
            density = -np.log10((pixels[row : row + 256].astype(np.float32) + 1) / 256)  # (h, W, 3)
            amounts = density @ np.linalg.pinv(before).astype(np.float32)  # (h, W, 2)
            changed = density + np.maximum(amounts, 0) @ (after - before).astype(np.float32)
            found[row : row + 256] = np.clip(np.rint(256 * 10**-changed - 1), 0, 255)
        return found

    return stain


CHANGES = {f"blur {um} um": blurred(um) for um in (2, 4, 8)} | {f"stain {dye}": restained(dye) for dye in DYES}


class Views:
    """Views of slides, kept as files; None for a slide that would be refused, with the reason in its file."""

    def __init__(self, folder: Path, encoder: str):
        self._folder = folder
        self._config = ExtractConfig(store=folder, encoder=encoder)
        self._name = encoder
        self._encoder: Encoder | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def of(self, slide_id: str, make: Callable[[], SlideView]) -> SlideView | None:
        """The kept view, or the one that `make` makes."""
        path = self._folder / f"{slide_id}.npz"
        if not path.exists():
            try:
                view = make()
                np.savez(path, tiles=view.tiles, mean=view.mean, traits=view.traits)
            except WsiError as error:
                print(f"  {slide_id} is refused: {error}", flush=True)
                np.savez(path, refused=str(error))
        with np.load(path) as kept:
            return None if "refused" in kept.files else SlideView(kept["tiles"], kept["mean"], kept["traits"])

    def stored(self, store: FeatureStore, slide: Path) -> SlideView:
        """From features that were extracted before, with traits measured by this version."""
        bag = Bag.from_store(store, self._name)
        traits = traits_of(store)
        if np.isnan(traits).any():
            with closing(open_slide(slide)) as opened:
                traits = _traits(opened)
        return SlideView.of(bag, traits)

    def read(self, path: Path, slide_id: str, mpp: tuple[float, float] | None = None) -> SlideView:
        """From the slide, as extraction would see it; only the tiles that are drawn are encoded."""
        with closing(open_slide(path, mpp=mpp)) as slide:
            overview = read_overview(slide)
            check_brightfield(overview)
            tissue, quality = find_tissue_with_qc(slide, overview)
            grid = tile_grid(slide.info, tissue, self._config.tiles)
            if not len(grid):
                raise NoTissueError(f"{slide_id}: no tile of tissue")
            drawn = choice(0)(slide_id, len(grid))
            assert drawn is not None
            reader = TileReader(slide, grid)
            features: dict[int, np.ndarray] = {}
            self._encoder = self._encoder or load_encoder(self._name, device="cpu")
            for batch in reader.batches(np.sort(drawn), 32):
                features |= dict(zip(batch.rows.tolist(), self._encoder.encode(batch.pixels), strict=True))
        rows = np.array([row for row in drawn.tolist() if row in features])
        bag = Bag(slide_id, np.stack([features[row] for row in rows]), np.zeros((len(rows), 2), np.float32), rows)
        return SlideView.of_drawn(bag, _traits_of_quality(quality.to_dict(), tissue.area_um2))


def _traits(slide: Slide) -> np.ndarray:
    tissue, quality = find_tissue_with_qc(slide)
    return _traits_of_quality(quality.to_dict(), tissue.area_um2)


def _traits_of_quality(said: dict[str, float | int | str], area_um2: float) -> np.ndarray:
    glass = [float(part) for part in str(said["glass_rgb"]).split(",")]
    known = {**said, "tissue_mm2": area_um2 / 1e6, **dict(zip(("glass_r", "glass_g", "glass_b"), glass, strict=True))}
    return np.array([float(known.get(name, np.nan)) for name in TRAITS])


def copy_of(path: Path, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> Path:
    """A changed copy of a slide, as an array of one level."""
    with closing(open_slide(path)) as slide:
        mpp = slide.info.require_mpp()
        x, y, w, h = slide.info.bounds_px0
        size = round(w * mpp[0] / COPY_MPP), round(h * mpp[1] / COPY_MPP)
        pixels = read_scaled(slide, (x, y, w, h), size)
    place = folder / "copy.npy"
    np.save(place, change(pixels))
    return place


def slides_in(place: Path) -> list[Path]:
    """The slides of a folder, or the one slide."""
    if not place.is_dir():
        return [place]
    return sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))


def gather(
    args: argparse.Namespace, views: Views, patient: dict[str, str]
) -> Iterator[tuple[str, str, SlideView | None]]:
    """Kind, slide_id of the cohort ("" for others) and view of every slide that is judged."""
    paths = {path.stem: path for path in slides_in(args.cohort / "slides")}
    for slide_id in patient:
        store = args.store / f"{slide_id}.zarr" if args.store else None
        if store is not None and store.exists():
            made = views.of(slide_id, lambda: views.stored(FeatureStore(store), paths[slide_id]))  # noqa: B023
        else:
            made = views.of(slide_id, lambda: views.read(paths[slide_id], slide_id))  # noqa: B023
        yield "alike", slide_id, made
    for said in args.unlike:
        kind, _, place = said.partition("=")
        for path in slides_in(Path(place)):
            mpp = (args.unlike_mpp, args.unlike_mpp) if path.suffix in (".tif", ".npy") else None
            yield kind, "", views.of(f"{kind}-{path.stem}", lambda: views.read(path, path.stem, mpp))  # noqa: B023
    first = one_of_each(list(patient), list(patient.values()))[: args.copies]
    for kind, change in CHANGES.items():
        for slide_id in (list(patient)[row] for row in first):
            yield kind, slide_id, views.of(f"{slide_id}-{kind}", lambda: _changed(views, args, paths, slide_id, change))  # noqa: B023


def _changed(
    views: Views,
    args: argparse.Namespace,
    paths: dict[str, Path],
    slide_id: str,
    change: Callable[[np.ndarray], np.ndarray],
) -> SlideView:
    copy = copy_of(paths[slide_id], change, args.out)
    try:
        return views.read(copy, slide_id, (COPY_MPP, COPY_MPP))
    finally:
        copy.unlink()


def main() -> None:
    """Make views, split, count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--store", type=Path, help="features of the cohort's slides that are there already")
    parser.add_argument("--unlike", action="append", default=[], metavar="KIND=SLIDES")
    parser.add_argument("--unlike-mpp", type=float, default=0.5, help="of TIFFs and arrays that do not say it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", default="lite0")
    parser.add_argument("--copies", type=int, default=12)
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--false-alarms", type=float, default=FALSE_ALARMS)
    args = parser.parse_args()
    with (args.cohort / "labels.csv").open(newline="", encoding="utf-8") as handle:
        patient = {row["slide_id"]: row["patient_id"] for row in csv.DictReader(handle)}
    found = list(gather(args, Views(args.out / "views", args.encoder), patient))
    sys.exit(0 if judged(found, patient, args.splits, args.false_alarms) else 1)


def judged(
    found: list[tuple[str, str, SlideView | None]], patient: dict[str, str], splits: int, false_alarms: float
) -> bool:
    """Count over splits, print, and say whether both promises hold."""
    flags: dict[str, list[list[bool]]] = defaultdict(list)
    reasons: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    cohort = {slide_id: view for kind, slide_id, view in found if kind == "alike" and view is not None}
    people = sorted(set(patient.values()))
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(people))
        held_out = {people[k] for k in order[: max(1, len(people) // 5)]}
        rest = [slide_id for slide_id in cohort if patient[slide_id] not in held_out]
        kept = one_of_each(rest, [patient[slide_id] for slide_id in rest], split)
        reference = OutlierReference.of([cohort[rest[row]] for row in kept], false_alarms)
        now: dict[str, list[bool]] = defaultdict(list)
        for kind, slide_id, view in found:
            if slide_id and patient[slide_id] not in held_out:
                continue
            check = None if view is None else reference.check(view)
            now[kind].append(check is None or check.flagged)
            for reason in check.reasons if check is not None else ():
                reasons[kind][reason] += 1
        for kind, those in now.items():
            flags[kind].append(those)
        if split == 0:
            print(f"{len(reference)} training patients, {len(held_out)} held out", flush=True)
    return _told(flags, reasons, false_alarms)


def _told(flags: dict[str, list[list[bool]]], reasons: dict[str, dict[str, int]], false_alarms: float) -> bool:
    holds = True
    for kind, splits in flags.items():
        shares = np.array([np.mean(those) for those in splits])
        share, error = shares.mean(), shares.std() / len(shares) ** 0.5
        good = share <= false_alarms + 2 * error if kind == "alike" else share >= LEAST_FOUND
        holds &= bool(good)
        most = sorted(reasons[kind].items(), key=lambda pair: -pair[1])[:3]
        why = "; ".join(f"{reason.split(' (')[0]} {count}" for reason, count in most)
        print(
            f"{kind:<20} flagged {100 * share:6.2f} % (standard error {100 * error:.2f}) {'' if good else 'NO'}  {why}"
        )
    return holds


if __name__ == "__main__":
    main()
