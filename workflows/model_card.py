"""What a model folder says of itself, gathered for a card: nothing is trained, and no slide is opened.

Mitchell et al.: Model Cards for Model Reporting, FAT* 2019. https://arxiv.org/abs/1810.03993
Collins et al.: TRIPOD+AI, BMJ 2024. https://doi.org/10.1136/bmj-2023-078378

What is measured here is measured on `out_of_fold.csv`: every training slide by the network that had not seen it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mil.bootstrap import SHARE, Interval, bootstrap
from mil.calibration_error import ece_debiased, grade_questions, top_label
from mil.intervals import detection_interval
from mil.metrics import confusion
from mil.model_folder import ModelCard, load_model
from mil.model_sets import held_out_cover
from mil.reliability import BrierParts, Reliability, brier_parts, reliability
from mil.shares import share_interval
from workflows.assurances import audit_texts
from workflows.prediction_table import Judged, judge, read_predictions
from workflows.subgroups import LEVEL, SubgroupAudit, audit_subgroups
from wsi.files import file_record

SLIDES_A_BIN = 20
"""Of a reliability diagram: fewer say little."""

INTENDED_USE = (
    "Research on digitised histology: to put slides in an order of reading, to study cohorts, and to compare methods.",
    "Beside a pathologist who looks at the slide. A grade comes with its probability, its set and a map; all three are "
    "to be read together.",
)
NOT_INTENDED = (
    "Diagnosis, treatment, or any decision about a patient: this is no medical device and was not tested as one.",
    "Slides of another stain, organ, scanner or way of preparation than those below, unless it was measured on such.",
    "Grading without a person who sees the slide.",
)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How a model did on the slides that each of its networks had not seen.

    Attributes
    ----------
    judged : Judged
    detections : mapping of str to Interval
        AUROC of each yes-or-no question.
    confusion : ndarray (C, C) int
    ece : Interval
        Debiased, of the predicted class.
    curves : mapping of str to Reliability
        By question: the predicted class, then for grades each "at least".
    brier : BrierParts
    coverage : mapping of str to Interval
        Share of slides whose set would hold the truth: "all", then by class and by site; {} without sets.
    subgroups : SubgroupAudit or None
        By site; None where sites are not known.
    """

    judged: Judged
    detections: Mapping[str, Interval]
    confusion: np.ndarray
    ece: Interval
    curves: Mapping[str, Reliability]
    brier: BrierParts
    coverage: Mapping[str, Interval]
    subgroups: SubgroupAudit | None


@dataclass(frozen=True, slots=True)
class Described:
    """A model folder, read and checked.

    Attributes
    ----------
    path : path
    model_id : str
    card : ModelCard
    held_out : HeldOut
    faithfulness, outliers : mapping or None
        What the folder says of its maps, and of what new slides are held against; None where nothing was measured.
    hashes : mapping of str to str
        SHA-256 of everything: the folder's files, the encoder's weights, the cohort.
    run : mapping
        `run.json`; {} where there is none.
    """

    path: Path
    model_id: str
    card: ModelCard
    held_out: HeldOut
    faithfulness: Mapping[str, Any] | None
    outliers: Mapping[str, Any] | None
    hashes: Mapping[str, str]
    run: Mapping[str, Any]

    def limits(self) -> list[str]:
        """Where it ends, worst first."""
        training = self.card.training
        sites = training["sites"]
        return [
            *audit_texts(training.get("audit")),
            *([] if self.card.calibration else ["Its probabilities are not calibrated."]),
            *([] if self.card.sets else ["It has no sets."]),
            f"Trained on {training['slides']} slides of {training['patients']} patients from "
            f"{_sites(sites)}; whatever these do not show it has not seen.",
            *(["No site was held out: figures at a new site are not known."] if training["fold_by"] != "site" else []),
            *([] if self.outliers else ["It does not notice slides that are unlike its training slides."]),
            *([] if self.faithfulness else ["Whether its maps show what it goes by was not measured."]),
            *(f"{note[:1].upper()}{note[1:]}." for note in training["notes"]),
            "Attention shows what the model weighed, not where a tumour is.",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        held, card = self.held_out, self.card
        return {
            "model_id": self.model_id,
            "intended_use": list(INTENDED_USE),
            "not_intended": list(NOT_INTENDED),
            "task": card.task,
            "classes": list(card.classes),
            "network": {"model": card.network.model, "options": dict(card.network.model_options)},
            "loss": {"loss": card.network.loss, "options": dict(card.network.loss_options)},
            "encoder": card.encoder_card,
            "recipe": card.recipe,
            "training": card.training,
            "calibration": card.calibration,
            "held_out": {
                "detection_auroc": {name: one.to_dict() for name, one in held.detections.items()},
                "confusion": held.confusion.tolist(),
                "ece_debiased": held.ece.to_dict(),
                "brier": {name: getattr(held.brier, name) for name in BrierParts.__dataclass_fields__},
                "reliability": {name: _curve(one) for name, one in held.curves.items()},
                "coverage_of_sets": {name: one.to_dict() for name, one in held.coverage.items()},
                "by_site": None if held.subgroups is None else held.subgroups.to_dict(),
            },
            "sets": None if card.sets is None else {k: v for k, v in card.sets.items() if k != "slides"},
            "faithfulness": self.faithfulness,
            "outliers": self.outliers,
            "limits": self.limits(),
            "versions": card.versions,
            "sha256": dict(self.hashes),
        }


def describe(path: str | Path, n: int = 1000, seed: int = 0) -> Described:
    """Read a model folder, check every file, and measure what its held-out predictions show.

    Parameters
    ----------
    n : int
        Resamples, and permutations.

    Raises
    ------
    UsageError
        If it is not a model folder.
    CorruptStoreError
        If a file is missing or differs from its checksum.
    """
    path = Path(path)
    model = load_model(path)
    said = json.loads((path / "model.json").read_bytes())
    run = json.loads((path / "run.json").read_bytes()) if (path / "run.json").is_file() else {}
    faithful = path / "faithfulness.json"
    return Described(
        path,
        model.model_id,
        model.card,
        _held_out(path, model.card, n, seed),
        json.loads(faithful.read_bytes()) if faithful.is_file() else None,
        said.get("outliers"),
        _hashes(path, model.card, run),
        run,
    )


def _held_out(path: Path, card: ModelCard, n: int, seed: int) -> HeldOut:
    table = read_predictions(path / "out_of_fold.csv")
    judged = judge(table, table.own_cohort())
    y, p, who, sites = judged.targets, judged.probabilities, judged.patients, judged.cohort.site
    bins = max(1, min(10, len(y) // SLIDES_A_BIN))
    questions = {"the predicted class": top_label(y, p)}
    if card.task == "grade":
        questions |= {f"grade {name} or above": one for name, one in zip(card.classes[1:], grade_questions(y, p))}
    known = len({site for site in sites if site}) > 1
    return HeldOut(
        judged,
        {name: detection_interval(*pair, who, n, seed) for name, pair in judged.questions().items()},
        confusion(y, judged.predicted, len(card.classes)),
        bootstrap(lambda y, p: max(ece_debiased(y, p), 0.0), y, p, groups=who, n=n, seed=seed, bounds=SHARE),
        {name: reliability(*one, who, bins) for name, one in questions.items()},
        brier_parts(y, p),
        _coverage(judged, card),
        audit_subgroups(judged, {"site": sites}, None, n=n, seed=seed) if known else None,
    )


def _coverage(judged: Judged, card: ModelCard) -> dict[str, Interval]:
    """Of the sets that each training slide would get, were its own patient not among the calibration slides."""
    if card.sets is None:
        return {}
    held, who = held_out_cover(card.sets, judged.patients), np.asarray(judged.patients)
    groups = {f"{card.task} {name}": judged.targets == k for k, name in enumerate(card.classes)}
    site = np.asarray(judged.cohort.site)
    groups |= {f"site {name}": site == name for name in np.unique(site) if name}
    everything = {"all slides": np.ones(len(held), dtype=bool)} | groups
    known = {name: rows for name, rows in everything.items() if rows.any()}
    level = 1 - LEVEL / len(known)  # Bonferroni: the intervals hold together
    return {name: share_interval(held[rows], who[rows], level) for name, rows in known.items()}


def _hashes(path: Path, card: ModelCard, run: Mapping[str, Any]) -> dict[str, str]:
    files = json.loads((path / "manifest.json").read_bytes())["files"]
    slides = {name: one["sha256"] for name, one in files.items() if name.startswith("out_of_fold/")}
    named = {name: one["sha256"] for name, one in files.items() if name not in slides}
    named["manifest.json"] = file_record(path / "manifest.json")["sha256"]
    if slides:
        # One digest for all of them: a line a slide would fill the page, and the manifest has them one by one.
        joined = "".join(f"{slides[name]}  {name}\n" for name in sorted(slides))
        named[f"out_of_fold/ ({len(slides)} files, as sha256sum lists them)"] = sha256(joined.encode()).hexdigest()
    named["encoder weights"] = str(card.encoder_card.get("weights_sha256", "not known"))
    named["cohort (slides, patients, sites, labels, folds)"] = str(card.training["cohort_sha256"])
    inputs = run.get("inputs", {})
    if inputs:
        joined = "".join(f"{inputs[name]}  {name}\n" for name in sorted(inputs))
        named[f"slides ({len(inputs)}, as sha256sum lists them)"] = sha256(joined.encode()).hexdigest()
    return named


def _curve(one: Reliability) -> dict[str, Any]:
    parts = ("predicted", "observed", "low", "high", "slides", "patients")
    return {name: getattr(one, name).tolist() for name in parts} | {"level": one.level}


def _sites(sites: list[str]) -> str:
    return f"{len(sites)} sites ({', '.join(sites)})" if len(sites) > 1 else sites[0] if sites else "unknown sites"
