"""Model folders that nothing was trained for: networks as they are drawn, predictions made up, all files as `train`
writes them."""

from dataclasses import asdict

import numpy as np

from mil.calibration_choice import calibration_methods, choose_calibration, nested_probabilities
from mil.cohort import Cohort
from mil.fit_config import FitConfig
from mil.intervals import score
from mil.metrics import ece, log_loss
from mil.model_folder import ModelCard, save_model
from mil.model_sets import fit_sets
from mil.network import Network, NetworkSpec
from mil.prediction import Prediction
from mil.testing import toy_card
from wsi.tiles import TileSpec

CLASSES = ("0", "1", "2")
RECIPE = {"tiles": TileSpec().to_dict(), "tissue": {"mpp": 8.0}}


def made_up_folder(path, seed=0, slides=120, noise=1.0, worse=(), sites=("A", "B"), **changes):
    """Slides of two a patient, patients in turn at the sites; at those in `worse` the model guesses.

    `changes` are to the training section of the card.
    """
    truth = np.random.default_rng(slides)
    ids = tuple(f"s{row:03d}" for row in range(slides))
    patients = tuple(f"P{row // 2:03d}" for row in range(slides))
    site = tuple(sites[row // 2 % len(sites)] for row in range(slides))
    y = truth.integers(0, 3, slides)
    fold = np.arange(slides) // 2 % 3
    rng = np.random.default_rng(seed)
    aim = np.where(np.isin(site, worse), rng.integers(0, 3, slides), y)
    # Logits of CORN: whether it is above 0, and above 1 where it is above 0.
    logits = 3.0 * np.stack([aim > 0, aim > 1], axis=1) - 1.5 + noise * rng.normal(size=(slides, 2))
    spec = NetworkSpec("abmil", "corn", 12, 3).complete()
    link = spec.build_class_loss().probabilities
    methods = calibration_methods("grade", link)
    choice = choose_calibration(methods, logits, y, fold, patients)
    p = nested_probabilities(methods, logits, y, fold, patients)
    figures = {"ece_before": ece(y, link(logits)), "ece_after": ece(y, p)}
    figures |= {"nll_before": log_loss(y, link(logits)), "nll_after": log_loss(y, p)}
    calibration = {"n_slides": slides, "n_patients": slides // 2, **figures, **choice.to_dict()}
    sets = fit_sets("grade", CLASSES, link(logits), y, fold, ids, patients, 0.9)
    cohort = Cohort(ids, patients, site, tuple(CLASSES[k] for k in y), fold)
    metrics = score("grade", y, p.argmax(axis=1), p, patients, 50)
    training = {
        "slides": slides, "patients": slides // 2, "sites": sorted({one for one in site if one}),
        "labels": {name: int((y == k).sum()) for k, name in enumerate(CLASSES)},
        "folds": 3, "fold_by": "patient", "stratify": None, "seed": 0, "fold_seed": 0, "fit": asdict(FitConfig()),
        "tuning": {"values": {}, "folds": 3}, "held_out": {name: one.to_dict() for name, one in metrics.items()},
        "cohort_sha256": cohort.digest(), "notes": [], "parameters": 1000,
    } | changes  # fmt: skip
    card = ModelCard(
        "grade", CLASSES, spec, toy_card().to_dict(), RECIPE, calibration, training, {"histograde": "0.1.0"}, sets=sets
    )
    tile, tiles = np.ones(1, np.float32), np.ones((1, 3), np.float32)
    held_out = [
        Prediction(name, "grade", CLASSES, one, tile, tiles, np.arange(1), "", True, 0.0)
        for name, one in zip(ids, p, strict=True)
    ]
    save_model(path, card, [Network(spec).eval() for _ in range(3)], cohort, held_out)
    return path
