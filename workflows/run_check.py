"""Whether the folder that `grade` left is whole: tables against `run.json`, slides and heatmaps there and readable."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from workflows.gradings import PREDICTIONS, Grading, load_model, load_predictions
from workflows.heatmaps import FOLDER
from workflows.results import load_slide, slide_folder
from wsi.errors import UsageError, WsiError
from wsi.exports import EXPORTS
from wsi.store_check import Finding
from wsi.threads import in_order

SLIDES, FEATURES, RECORD = "slides", "features", "run.json"
AGAIN = "run `histograde grade` again into this folder"


def is_run(folder: Path) -> bool:
    """Whether a folder looks like one of `grade`; the folder of stores that `extract` makes does not."""
    return (folder / SLIDES).is_dir() or (folder / PREDICTIONS).is_file()


def stores_of_run(folder: Path) -> Path | None:
    """The feature stores inside of a run's folder; None where they lie elsewhere."""
    stores = folder / FEATURES
    return stores if any(stores.glob("*.zarr")) else None


def check_tables(run: Path) -> list[Finding]:
    """The files of a run that are not of one slide."""
    if not (run / RECORD).is_file():
        return [Finding(run.name, "unfinished", RECORD, f"is not there yet; to end the run, {AGAIN}")]
    try:
        outputs = dict(json.loads((run / RECORD).read_bytes())["outputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return [Finding(run.name, "damaged", RECORD, f"cannot be read; {AGAIN}")]
    found = list(_differing(run, outputs))
    try:
        load_model(run)
    except WsiError as error:
        found.append(Finding(run.name, "damaged", "", str(error)))
    return found


def _differing(run: Path, outputs: Mapping[str, Any]) -> Iterator[Finding]:
    for name, expected in sorted(outputs.items()):
        if name != Path(name).name:
            yield Finding(run.name, "damaged", RECORD, f"lists {name!r}, which is not a file of the run")
            continue
        try:
            same = sha256((run / name).read_bytes()).hexdigest() == expected
        except OSError:
            yield Finding(run.name, "damaged", name, f"is missing; {AGAIN}")
            continue
        if not same:
            yield Finding(run.name, "damaged", name, f"differs from its hash in {RECORD}; {AGAIN}")


def graded_slides(run: Path) -> tuple[dict[str, Grading | None], list[Finding]]:
    """The slides that a run's table or its folders name, with their line in the table, and what is wrong with it."""
    gradings: dict[str, Grading | None] = {}
    found = []
    if (run / PREDICTIONS).exists():
        try:
            gradings = {one.slide_id: one for one in load_predictions(run)}
        except UsageError as error:
            found.append(Finding(run.name, "damaged", "", str(error)))
    folders = [part.name for part in (run / SLIDES).iterdir() if part.is_dir()] if (run / SLIDES).is_dir() else []
    listed = gradings | {name: None for name in folders if name not in gradings and not name.startswith(".")}
    return dict(sorted(listed.items())), found


def check_slides(run: Path, slides: Mapping[str, Grading | None], threads: int) -> Iterator[list[Finding]]:
    """What is wrong with each slide's folder, one after the other in the order of the mapping."""

    def check(pair: tuple[str, Grading | None]) -> list[Finding]:
        try:
            return _check_slide(run, *pair)
        except Exception as error:  # whatever it is, it ends the check of this slide only
            return [Finding(pair[0], "damaged", "", f"cannot be understood ({type(error).__name__}: {error}); {AGAIN}")]

    return in_order(check, slides.items(), threads)


def _check_slide(run: Path, slide_id: str, grading: Grading | None) -> list[Finding]:
    if grading is None and not (slide_folder(run, slide_id) / "slide.json").exists():
        return [Finding(f"{SLIDES}/{slide_id}", "unfinished", "", f"has no slide.json yet; {AGAIN}")]
    try:
        graded = load_slide(run, slide_id).grading
    except UsageError as error:
        return [Finding(f"{SLIDES}/{slide_id}", "damaged", "", str(error))]
    found = []
    if grading is not None and _said(graded) != _said(grading):
        found.append(
            Finding(f"{SLIDES}/{slide_id}", "damaged", "slide.json", f"says other than {PREDICTIONS}; {AGAIN}")
        )
    folder = slide_folder(run, slide_id, FOLDER)
    for name in sorted(name for export in EXPORTS.values() for name in export.file_names):
        if not (folder / name).is_file():
            where = f"{FOLDER}/{slide_id}"
            found.append(Finding(where, "damaged", name, "is missing; `histograde render` draws it again"))
    return found


def _said(grading: Grading) -> tuple[object, ...]:
    return grading.slide_id, grading.patient_id, grading.predicted, grading.model_id, grading.probabilities
