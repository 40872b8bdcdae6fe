"""A labelled cohort of synthetic slides: patients, sites, grades."""

import csv
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from wsi.synthetic.noise import key_of
from wsi.synthetic.slides import write_slide
from wsi.synthetic.truth import SlideTruth

_GRADES = 6


@dataclass(frozen=True, slots=True)
class CohortSlide:
    """One slide of a cohort and where its file is."""

    slide_id: str
    patient_id: str
    site: str
    grade: int
    path: Path
    truth: SlideTruth


@dataclass(frozen=True, slots=True)
class _Order:
    """What to make for one slide number."""

    number: int
    patient: int
    site: int
    grade: int
    seed: int
    stain_seed: int


def make_cohort(
    out: str | os.PathLike[str],
    *,
    slides: int = 60,
    sites: int = 3,
    seed: int = 0,
    size_px0: tuple[int, int] = (6144, 6144),
    mpp: float = 0.25,
    workers: int = 1,
) -> list[CohortSlide]:
    """Write a cohort: slides, truth and `labels.csv` (slide_id, patient_id, site, label; label is the ISUP grade).

    Every second patient has two slides of one grade and stain. In each run of six such patients every grade occurs
    once, and over `sites` runs every grade occurs once at every site: the site says nothing about the grade. Slide k is
    the same whatever `slides` and `workers` are.

    Raises
    ------
    ValueError
        If `slides`, `sites` or `workers` is less than 1.
    """
    for name, value in (("slides", slides), ("sites", sites), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} {value}: at least 1")
    root = Path(out)
    for folder in ("slides", "truth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    jobs = [(root, _order(seed, sites, number), seed, size_px0, mpp) for number in range(slides)]
    if workers == 1:
        made = [_make(*job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            made = list(pool.map(_make, *zip(*jobs, strict=True)))
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["slide_id", "patient_id", "site", "label"])
        writer.writerows([s.slide_id, s.patient_id, s.site, s.grade] for s in sorted(made, key=lambda s: s.slide_id))
    return made


def _order(seed: int, sites: int, number: int) -> _Order:
    """Patient, site and grade of a slide number: of every three slides two are one patient's."""
    triple, place = divmod(number, 3)
    single = int(place == 2)
    patient = 2 * triple + single
    run, turn = divmod(triple, _GRADES)
    cycle = run // sites
    grades = np.random.default_rng([key_of(seed, "grades", single, run)]).permutation(_GRADES)
    shifts = np.random.default_rng([key_of(seed, "sites", single, cycle)]).permutation(_GRADES)
    grade = int(grades[turn])
    site = int((shifts[grade] + run) % sites)
    return _Order(number, patient, site, grade, key_of(seed, "slide", number), key_of(seed, "patient", patient))


def _make(root: Path, order: _Order, seed: int, size_px0: tuple[int, int], mpp: float) -> CohortSlide:
    slide_id = f"synth-{seed:03d}-{order.number:04d}"
    path = root / "slides" / f"{slide_id}.svs"
    truth = write_slide(
        path,
        seed=order.seed,
        size_px0=size_px0,
        grade=order.grade,
        site=order.site,
        mpp=mpp,
        quality=None,
        stain_seed=order.stain_seed,
    )
    (root / "truth" / f"{slide_id}.geojson").write_text(json.dumps(truth.to_geojson()), encoding="utf-8")
    _, png = cv2.imencode(".png", truth.tissue_mask.astype(np.uint8) * 255)
    (root / "truth" / f"{slide_id}_tissue.png").write_bytes(png.tobytes())
    return CohortSlide(slide_id, f"P{order.patient + 1:04d}", f"site-{order.site}", order.grade, path, truth)
