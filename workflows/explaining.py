"""Which map of a model is to be believed: its maps on held-out slides, and the table of them in the model folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mil.map_choice import MapReport, SlideTrial, report_maps
from mil.metrics import auroc
from workflows.localisation import FINDING_SHARE, slide_regions
from workflows.prediction_table import Predictions, named, read_predictions
from workflows.tile_maps import trained_on
from wsi.annotations import tile_coverage
from wsi.cohort_index import open_cohort
from wsi.errors import UsageError
from wsi.store import FeatureStore
from wsi.store_url import StorePath

if TYPE_CHECKING:
    from mil.map_trial import Agreement
    from mil.model_folder import GradingModel

MOST_SLIDES = 200
SAID_EVERY = 20
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExplainConfig:
    """How maps are judged.

    Attributes
    ----------
    model : path
        Model folder; the table is written into it.
    store : path, optional
        Feature stores of the slides it was trained on; where it says it was trained from if left out.
    annotations : path, optional
        Folder of `<slide_id>.geojson`; a slide of the first class needs no file.
    findings : tuple of str, optional
        Classes of regions that count; all but benign ones if left out.
    most_slides, most_tiles : int
        Slides that are drawn, and tiles of each, where there are more.
    repeats : int
        Random orders of a slide's tiles.
    seed : int
    """

    model: Path
    store: StorePath | None = None
    annotations: Path | None = None
    findings: tuple[str, ...] | None = None
    most_slides: int = MOST_SLIDES
    most_tiles: int = 1024
    repeats: int = 10
    seed: int = 0


def explain_model(config: ExplainConfig, report: Report = print) -> MapReport:
    """Judge every map on slides that the asked network has not seen, and keep the table in the model folder.

    Raises
    ------
    UsageError
        If it is no model folder, or a slide has no store, no fold or, where annotations are given, no file.
    """
    from mil.model_folder import add_faithfulness, load_model

    model = load_model(config.model)
    table = read_predictions(config.model / "out_of_fold.csv")
    rows = chosen_rows(table, config.most_slides, config.seed)
    stores = _stores(config, table, rows)
    report(f"maps of model {model.model_id} on {len(rows)} of {len(table.slide_id)} held-out slides")
    trials = []
    for number, row in enumerate(rows, start=1):
        trials.append(try_slide(model, table, row, stores[table.slide_id[row]], config))
        if number % SAID_EVERY == 0 or number == len(rows):
            report(f"{number} of {len(rows)} slides")
    found = report_maps(trials, config.seed)
    add_faithfulness(config.model, _record(model, config, found, len(rows)))
    for line in found.lines():
        report(line)
    return found


def chosen_rows(table: Predictions, most: int, seed: int) -> list[int]:
    """Rows of the slides that are judged, in the order of their names; a draw of them where there are more.

    Raises
    ------
    UsageError
        If the table does not say in which fold each slide was held out.
    """
    if table.fold is None:
        raise UsageError(f"{table.path}: does not say in which fold each slide was held out; train anew")
    order = sorted(range(len(table.slide_id)), key=lambda row: table.slide_id[row])
    if len(order) <= most:
        return order
    return [order[place] for place in np.sort(np.random.default_rng(seed).choice(len(order), most, replace=False))]


def try_slide(
    model: "GradingModel", table: Predictions, row: int, store: FeatureStore, config: ExplainConfig
) -> SlideTrial:
    """All maps of one slide by the network of the fold in which it was held out."""
    from mil.bag import Bag
    from mil.map_trial import try_maps

    model.check_store(store)
    fold = int((table.fold or ())[row])
    return try_maps(
        model.networks[fold],
        model.spec_of(fold),
        Bag.from_store(store, model.encoder),
        patient_id=table.patient_id[row],
        fold=fold,
        repeats=config.repeats,
        most_tiles=config.most_tiles,
        seed=config.seed,
        agreement=_agreement(config, table, row, store),
    )


def _agreement(config: ExplainConfig, table: Predictions, row: int, store: FeatureStore) -> "Agreement | None":
    if config.annotations is None:
        return None
    harmless = table.label is not None and table.label[row] == table.classes[0]
    bare = (table.slide_id[row],) if harmless else ()
    regions = slide_regions(config.annotations, table.slide_id[row], bare, config.findings)
    cover = tile_coverage(store.grid, regions)

    def agreement(rows: np.ndarray, scores: np.ndarray) -> float:
        positive, clear = cover[rows] >= FINDING_SHARE, cover[rows] == 0
        return auroc(positive[positive | clear], scores[positive | clear])

    return agreement


def _stores(config: ExplainConfig, table: Predictions, rows: list[int]) -> Mapping[str, FeatureStore]:
    stores: Mapping[str, FeatureStore] = open_cohort(config.store or trained_on(config.model))
    if missing := [table.slide_id[row] for row in rows if table.slide_id[row] not in stores]:
        raise UsageError(f"without feature store: {named(missing)}; say where the stores are with --store")
    return stores


def _record(model: "GradingModel", config: ExplainConfig, found: MapReport, slides: int) -> dict[str, Any]:
    asked = {"slides": slides, "most_tiles": config.most_tiles, "repeats": config.repeats, "seed": config.seed}
    return {"model_id": model.model_id, "asked": asked, **found.to_dict()}
