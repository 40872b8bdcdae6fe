r"""Slide AUROC and tumour-tile AUROC on slides laid out of real H&E tiles, with intervals.

    python benchmarks/mosaic.py --tool ../shared/tools/mosaic_slides.py --tiles ../shared/data/tiles/lc25000 \
        --out scratch/mosaic

Makes 120 slides of folds 0-2 to train on and 60 of fold 3 to grade (other photographs, other patients, other seed),
extracts `lite0` features, trains each model with the defaults, and grades the 60. Nothing is tuned on those.
Steps that are done are skipped; removing --out begins anew.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from mil.bag import Bag
from mil.intervals import detection_interval
from mil.model_folder import load_model
from workflows.extract import extract
from workflows.extraction import ExtractConfig
from workflows.localisation import localise
from workflows.sources import find_slides
from workflows.train import TrainConfig, train
from wsi.store import open_stores

COHORTS = {"train": ("0,1,2", 120, 1), "test": ("3", 60, 2)}


def make(args: argparse.Namespace, part: str) -> Path:
    """Lay the slides of one part with the given tool; gives their folder."""
    folds, slides, seed = COHORTS[part]
    folder: Path = args.out / part
    if not (folder / "labels.csv").exists():
        options = {"--tiles": args.tiles, "--folds": folds, "--organ": args.organ, "--slides": slides, "--seed": seed}
        words = [str(word) for pair in options.items() for word in pair]
        subprocess.run([sys.executable, str(args.tool), *words, "--out", str(folder)], check=True)
    return folder


def measure(args: argparse.Namespace, model: str) -> list[str]:
    """Train one model, grade the test slides with it, and say how well it did."""
    folder = args.out / f"model-{model}"
    if not (folder / "model.json").exists():
        config = TrainConfig(args.out / "train-store", args.out / "train" / "labels.csv", folder, model, "class")
        train(config, report=lambda line: None)
    grading = load_model(folder)
    stores = open_stores(args.out / "test-store")
    predictions = {
        slide_id: grading.predict(Bag.from_store(store, grading.encoder)) for slide_id, store in stores.items()
    }
    with (args.out / "test" / "labels.csv").open(newline="") as handle:
        labels = {row["slide_id"]: row for row in csv.DictReader(handle)}
    ids = sorted(predictions)
    benign = grading.card.classes.index("benign")
    positive = np.array([labels[slide_id]["label"] != "benign" for slide_id in ids])
    score = np.array([1 - predictions[slide_id].probabilities[benign] for slide_id in ids])
    patients = [labels[slide_id]["patient_id"] for slide_id in ids]
    scores = {
        slide_id: {
            "rows": one.rows,
            "attention": one.attention,
            "tile_evidence": np.stack([one.tile_evidence[:, benign], 1 - one.tile_evidence[:, benign]], axis=1),
        }
        for slide_id, one in predictions.items()
    }
    found = localise(stores, scores, args.out / "test" / "truth")
    slide_auroc = detection_interval(positive, score, patients)
    return [f"{model}: slide AUROC {slide_auroc} ({len(ids)} slides)", *found.lines()]


def main() -> None:
    """Make, extract, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", type=Path, required=True, help="mosaic_slides.py")
    parser.add_argument("--tiles", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--organ", default="colon")
    parser.add_argument("--models", default="abmil,topk")
    args = parser.parse_args()
    for part in COHORTS:
        slides = find_slides([make(args, part) / "slides"])
        extract(slides, ExtractConfig(store=args.out / f"{part}-store"))
    for model in args.models.split(","):
        print("\n".join(measure(args, model)), flush=True)


if __name__ == "__main__":
    main()
