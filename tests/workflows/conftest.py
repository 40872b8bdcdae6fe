"""A small graded slide, the model that graded it, and a run folder of them: made up, with values easy to follow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely import MultiPolygon, box

from workflows.gradings import (
    Metric,
    ModelSummary,
    Quarantined,
    save_model,
    save_predictions,
    save_quarantine,
)
from workflows.results import GradedSlide, TopTile, save_slide
from wsi.files import write_json
from wsi.slide import SlideInfo
from wsi.tiles import BadTile, TileGrid, TileSpec

MODEL = ModelSummary(
    model_id="abc123def456",
    name="abmil",
    task="grade",
    classes=("0", "1", "2", "3", "4", "5"),
    encoder={
        "name": "lite0",
        "dim": 1280,
        "licence": "Apache-2.0",
        "weights_sha256": "ab" * 32,
        "tile_px": 224,
        "mpp": 0.5,
    },
    cohort={"slides": 60, "patients": 40, "sites": ["A", "B"]},
    metrics=(Metric("qwk", 0.91, 0.86, 0.95),),
    metrics_on="5-fold cross-validation by patient",
    calibrated=True,
    calibration="Temperature scaling on 60 held-out slides.",
    limits=("Research use only.", "Never saw <another> stain."),
)


def graded_slide(slide_id: str = "slide-1", *, predicted: int = 3, **changes: Any) -> GradedSlide:
    """Six tiles of 40 px0 in two rows within bounds that begin at (100, 50); the last is bad, the second leads."""
    coords = np.array([(x, y) for y in (50, 90) for x in (100, 140, 180)], np.int32)
    probabilities = np.full(6, 0.04)
    probabilities[predicted] = 0.8
    evidence = np.zeros((5, 6))
    evidence[:, 0] = 1
    evidence[1] = [0, 0, 0, 1, 0, 0]
    graded = GradedSlide(
        info=SlideInfo(
            slide_id,
            "openslide",
            "aperio",
            ((400, 300),),
            (1.0,),
            (0.5, 0.5),
            "aperio.MPP",
            20.0,
            (100, 50, 160, 120),
            "f" * 64,
        ),
        patient_id="patient-1",
        task="grade",
        classes=MODEL.classes,
        probabilities=probabilities,
        predicted=str(predicted),
        calibrated=True,
        model_id=MODEL.model_id,
        seconds=1.25,
        grid=TileGrid(TileSpec(40, 0.5, 40), coords, np.linspace(0.5, 1, 6, dtype=np.float32), (40.0, 40.0)),
        rows=np.arange(5),
        attention=np.array([0.1, 0.6, 0.1, 0.1, 0.1]),
        evidence=evidence,
        bad=(BadTile(5, "cannot be decoded"),),
        tissue=MultiPolygon([box(110, 60, 215, 125)]),
        tissue_area_um2=2_500_000.0,
        thumbnail=np.full((120, 160, 3), 220, np.uint8),
        top_tiles=(TopTile(1, np.full((40, 40, 3), 90, np.uint8)), TopTile(0, np.full((40, 40, 3), 120, np.uint8))),
        qc={"pen": "none", "out_of_focus": 0.02},
    )
    return replace(graded, **changes)


def save_run(folder: Path, slides: list[GradedSlide], model: ModelSummary = MODEL) -> Path:
    """A complete run folder of some slides, with one in quarantine."""
    folder.mkdir(parents=True, exist_ok=True)
    for graded in slides:
        save_slide(folder, graded)
    save_predictions(folder, [graded.grading for graded in slides])
    save_quarantine(folder, [Quarantined("dark", "tissue", "not_brightfield", "is fluorescence", "leave it out")])
    save_model(folder, model)
    write_json(folder / "run.json", {"command": "grade", "versions": {"histograde": "0.1.0"}})
    return folder


@pytest.fixture
def graded() -> GradedSlide:
    return graded_slide()


@pytest.fixture
def make_slide() -> Callable[..., GradedSlide]:
    return graded_slide


@pytest.fixture
def make_run() -> Callable[..., Path]:
    return save_run


@pytest.fixture
def model() -> ModelSummary:
    return MODEL


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two slides, of grade group 1 and 4."""
    return save_run(tmp_path / "run", [graded_slide("mild", predicted=1), graded_slide("severe", predicted=4)])
