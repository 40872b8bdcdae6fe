"""Every model on one cohort: how well it grades, where it looks, how long an epoch takes.

    python -m benchmarks.models --store STORES --labels labels.csv --truth DIR --out DIR [--task grade] [--models all]

Trains each model with the defaults on the same folds (`histograde sweep`, so that cells that are done are kept) and
holds the maps of the held-out slides against GeoJSON. All figures are of slides that the network had not seen, with
95 % intervals by patient. A cohort of known grades comes from `histograde demo --out DIR` (features and
training-slides/ with labels and truth), one of real textures from `benchmarks/mosaic.py`.

    attention, evidence   mean over slides of the AUROC of tiles with a finding against the others
"""

import argparse
from pathlib import Path

from mil.models import MODELS
from workflows.localisation import localise_maps
from workflows.sweep import SweepConfig, sweep
from workflows.sweep_table import Cell
from workflows.tile_maps import kept_maps
from workflows.training_config import TrainConfig
from wsi.store_url import store_location

HEAD = ("model", "parameters", "s/epoch", "slides", "evidence", "attention")


def row(cell: Cell, folder: Path, truth: Path) -> tuple[str, ...]:
    """What came of one model, for people."""
    if cell.error:
        return (cell.model, "failed: " + cell.error)
    with (folder / "cells" / cell.name / "out_of_fold.csv").open(encoding="utf-8") as lines:
        slide_ids = sorted(line.split(",")[0] for line in list(lines)[1:])
    drawn = [slide_id for slide_id in slide_ids if (truth / f"{slide_id}.geojson").exists()]
    found = localise_maps(kept_maps(folder / "cells" / cell.name, drawn), truth)
    name, first = next(iter(cell.metrics.items()))
    return (
        cell.model,
        f"{cell.parameters:,}",
        f"{cell.seconds_per_epoch:.2f}",
        f"{name} {first}",
        str(found.evidence.auroc),
        str(found.attention.auroc),
    )


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True, help="folder of feature stores")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--truth", type=Path, required=True, help="folder of SLIDE.geojson")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", default="grade", choices=("grade", "class"))
    parser.add_argument("--encoder", default="lite0")
    parser.add_argument("--models", default="all")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    models = tuple(MODELS) if args.models == "all" else tuple(args.models.split(","))
    base = TrainConfig(store_location(args.store), args.labels, args.out, task=args.task)
    cells = sweep(SweepConfig(base, models, (args.encoder,), place=(args.workers, None, None, None)), print)
    rows = [HEAD, *(row(cell, args.out.absolute(), args.truth) for cell in cells)]
    widths = [max(len(one[place]) for one in rows if len(one) == len(HEAD)) for place in range(len(HEAD))]
    print()
    for one in rows:
        print("  ".join(word.ljust(width) for word, width in zip(one, widths, strict=False)).rstrip())


if __name__ == "__main__":
    main()
