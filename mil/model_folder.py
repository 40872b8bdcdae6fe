"""A model folder: everything that is needed to use a model, and how it did on slides it had not seen.

    model.json                      what it is (see `ModelCard`)
    weights/fold-<k>.safetensors    one network for each fold; the model is their ensemble
    training/fold-<k>.csv           the log of its training: a line an epoch
    out_of_fold.csv                 predictions for the training slides by the networks that had not seen them
    out_of_fold/<slide_id>.npz      rows, attention and tile_evidence of the same
    faithfulness.json               which map to show and why, once it was measured (`mil.map_choice`)
    outliers.npz                    what new slides are held against (`mil.outliers.OutlierReference`)
    manifest.json                   size and SHA-256 of every file but `run.json`, the record of the run that made it

It is made beside its place and renamed, so that it is whole or not there.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from mil.bag import Bag, check_same_making
from mil.calibration_choice import Calibrator, load_calibrator
from mil.cohort import Cohort, Task
from mil.explanations import Link, tile_map
from mil.map_names import MapName
from mil.model_sets import find_set
from mil.network import Network, NetworkSpec, predict
from mil.outliers import OutlierCheck, OutlierReference
from mil.prediction import Prediction, score_columns
from mil.slide_view import SlideView, traits_of
from wsi.errors import CorruptStoreError, RecipeMismatchError, UsageError
from wsi.files import folder_records, to_json, write_json
from wsi.store import FeatureStore

FORMAT_NAME = "histograde-model"
FAITHFULNESS = "faithfulness.json"
FORMAT_VERSION = 1
OWN_NETWORKS_VERSION = 2
"""Of a folder whose networks are not built alike, which programs that know version 1 only cannot read."""
OWN_CALIBRATION_VERSION = 3
"""Of a folder that is not calibrated by temperature, which programs that know version 2 only would fail on."""
OUTLIERS = "outliers.npz"
VERSIONS = (FORMAT_VERSION, OWN_NETWORKS_VERSION, OWN_CALIBRATION_VERSION)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What `model.json` holds beside its format.

    Attributes
    ----------
    task : "grade" or "class"
    classes : tuple of str
        In order.
    network : NetworkSpec
        Model and loss with every option written out, as they were asked for.
    encoder_card, recipe : dict
        How the features were made, as the stores state it.
    calibration : dict or None
        method and its parameters, why it was chosen, number of held-out slides, log loss and ECE before and after;
        None: not calibrated.
    training : dict
        Slides, patients, sites, folds, seed, fit settings, held-out metrics with intervals, cohort digest, notes.
    versions : dict
        Packages used; they do not enter the model's identity.
    fold_networks : tuple of NetworkSpec, optional
        The model of each fold, where inner cross-validation chose options of its own for it.
    sets : dict, optional
        As `mil.model_sets.fit_sets` gives them; None: the model has no sets.
    outliers : dict, optional
        As `OutlierReference.describe` gives it; None: new slides are not held against the training slides.
    """

    task: Task
    classes: tuple[str, ...]
    network: NetworkSpec
    encoder_card: dict[str, Any]
    recipe: dict[str, Any]
    calibration: dict[str, Any] | None
    training: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    fold_networks: tuple[NetworkSpec, ...] | None = None
    sets: dict[str, Any] | None = None
    outliers: dict[str, Any] | None = None

    @property
    def format_version(self) -> int:
        """The lowest version whose programs read all of it."""
        if self.calibration and self.calibration["method"] != "temperature":
            return OWN_CALIBRATION_VERSION
        return FORMAT_VERSION if self.fold_networks is None else OWN_NETWORKS_VERSION

    def identity(self, weights_sha256: Sequence[str]) -> str:
        """Twelve hex digits over the weights and all of the card but the package versions."""
        known = {name: value for name, value in asdict(self).items() if name != "versions"}
        return sha256(to_json([known, list(weights_sha256)])).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class GradingModel:
    """A trained model, ready for bags.

    Attributes
    ----------
    model_id : str
    card : ModelCard
    networks : tuple of Network
        One a fold, in evaluation mode.
    faithfulness : dict, optional
        What `faithfulness.json` says; None: the maps of this model were not measured.
    reference : OutlierReference, optional
        None where the model was trained without it.
    """

    model_id: str
    card: ModelCard
    networks: tuple[Network, ...]
    faithfulness: dict[str, Any] | None = None
    reference: OutlierReference | None = None

    @property
    def encoder(self) -> str:
        """Name of the encoder whose features it takes."""
        return str(self.card.encoder_card["name"])

    @property
    def calibrated(self) -> bool:
        """Whether its probabilities were scaled on held-out slides."""
        return self.card.calibration is not None

    def calibrator(self) -> Calibrator | None:
        """What turns logits into calibrated probabilities; None where nothing was fitted."""
        if self.card.calibration is None:
            return None
        return load_calibrator(self.card.calibration, self.card.network.build_class_loss().probabilities)

    def check_store(self, store: FeatureStore) -> None:
        """Raise `RecipeMismatchError`, naming the field, unless the store was made as the training slides were."""
        if self.encoder not in store.encoders:
            have = ", ".join(store.encoders) or "none"
            raise RecipeMismatchError(
                f"slide {store.slide.slide_id}: the model takes features by {self.encoder!r}, the store holds: {have}; "
                f"run `histograde extract --encoder {self.encoder}`"
            )
        check_same_making(store, self.encoder, self.card.encoder_card, self.card.recipe, "the model")

    @property
    def link(self) -> Link:
        """Logits (..., L) to probabilities (..., C) as the loss has them, before calibration."""
        return self.card.network.build_class_loss().probabilities

    def spec_of(self, fold: int) -> NetworkSpec:
        """How the network of a fold is built."""
        return self.card.fold_networks[fold] if self.card.fold_networks else self.card.network

    def tile_map(self, bag: Bag, name: MapName) -> np.ndarray:
        """One of the maps of `mil.explanations` for each class, (N, C) float32: the mean over the fold networks."""
        parts = [tile_map(network, self.link, bag, name) for network in self.networks]
        return np.mean(parts, axis=0).astype(np.float32)

    def check_outlier(self, bag: Bag, store: FeatureStore) -> OutlierCheck | None:
        """Whether a slide is unlike the training slides; None where the model cannot tell."""
        if self.reference is None:
            return None
        return self.reference.check(SlideView.of(bag, traits_of(store), self.reference.seed))

    def predict(self, bag: Bag, folds: Sequence[int] | None = None) -> Prediction:
        """Grade a bag: probabilities, attention and evidence are means over the fold networks.

        The set asks each of them, so there is none where only some networks are asked.

        Parameters
        ----------
        folds : sequence of int, optional
            Networks to ask; all of them if left out.
        """
        if bag.features.shape[1] != self.card.network.dim:
            raise RecipeMismatchError(
                f"slide {bag.slide_id}: its features have {bag.features.shape[1]} numbers, the model takes "
                f"{self.card.network.dim}"
            )
        link = self.link
        calibrator = self.calibrator()
        scaled = calibrator.transform if calibrator else link
        asked = [self.networks[fold] for fold in folds] if folds is not None else self.networks
        parts = [predict(network, bag) for network in asked]
        each = np.stack([scaled(logits) for logits, _, _ in parts])  # (folds, C)
        probabilities = each.mean(axis=0)  # (C,)
        found = None
        if self.card.sets is not None and folds is None:
            raw = np.stack([link(logits) for logits, _, _ in parts])  # (folds, C)
            found = find_set(self.card.sets, self.card.classes, raw, bag.slide_id, int(probabilities.argmax()))
        return Prediction(
            slide_id=bag.slide_id,
            task=self.card.task,
            classes=self.card.classes,
            probabilities=probabilities,
            attention=np.mean([attention for _, attention, _ in parts], axis=0).astype(np.float32),
            tile_evidence=np.mean([scaled(tiles) for _, _, tiles in parts], axis=0).astype(np.float32),
            rows=bag.rows,
            model_id=self.model_id,
            calibrated=self.calibrated,
            fold_spread=float(each.std(axis=0).max()),
            class_set=found,
        )


def save_model(
    path: str | Path,
    card: ModelCard,
    networks: Sequence[Network],
    cohort: Cohort,
    held_out: Sequence[Prediction],
    logs: Sequence[str] = (),
    reference: OutlierReference | None = None,
) -> str:
    """Write a model folder, replacing an older one at the same place; gives the model id.

    Parameters
    ----------
    cohort : Cohort
        The slides it was trained on, with folds.
    held_out : sequence of Prediction
        For the slides of `cohort` in its order; their `model_id` is not used.
    logs : sequence of str
        Of the trainings, as CSV, one a fold.
    reference : OutlierReference, optional
        That `card.outliers` describes.

    Raises
    ------
    UsageError
        If `path` exists and is not a model folder.
    """
    path = Path(path)
    check_writable(path)
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    (staged / "weights").mkdir(parents=True)
    (staged / "out_of_fold").mkdir()
    digests = []
    for fold, network in enumerate(networks):
        data = safetensors.torch.save({name: value.contiguous() for name, value in network.state_dict().items()})
        (staged / "weights" / f"fold-{fold}.safetensors").write_bytes(data)
        digests.append(sha256(data).hexdigest())
    if logs:
        (staged / "training").mkdir()
    for fold, log in enumerate(logs):
        (staged / "training" / f"fold-{fold}.csv").write_text(log, encoding="utf-8")
    if reference is not None:
        (staged / OUTLIERS).write_bytes(reference.to_bytes())
    model_id = card.identity(digests)
    head = {"format": FORMAT_NAME, "format_version": card.format_version, "model_id": model_id, "folds": len(networks)}
    write_json(staged / "model.json", head | asdict(card))
    (staged / "out_of_fold.csv").write_text(_held_out_table(cohort, held_out), encoding="utf-8")
    for one in held_out:
        np.savez(
            staged / "out_of_fold" / f"{one.slide_id}.npz",
            rows=one.rows,
            attention=one.attention,
            tile_evidence=one.tile_evidence,
        )
    write_json(staged / "manifest.json", {"files": folder_records(staged)})
    _publish(staged, path)
    return model_id


def add_faithfulness(path: str | Path, found: Mapping[str, Any]) -> None:
    """Put `faithfulness.json` into a model folder, or another in its place; the model stays what it is.

    The folder is made anew beside its place and renamed, so that its manifest fits at every moment.
    """
    path = Path(path)
    _check_files(path)
    staged = path.with_name(f".{path.name}.partial")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(path, staged)
    (staged / "manifest.json").unlink()
    write_json(staged / FAITHFULNESS, dict(found))
    records = folder_records(staged)
    records.pop("run.json", None)
    write_json(staged / "manifest.json", {"files": records})
    _publish(staged, path)


def load_model(path: str | Path) -> GradingModel:
    """Read a model folder, checking every file.

    Raises
    ------
    UsageError
        If it is not a model folder.
    CorruptStoreError
        If a file is missing or differs from its checksum.
    RecipeMismatchError
        If a newer version of the format wrote it, or it is calibrated in a way that this program does not know.
    """
    path = Path(path)
    if not (path / "model.json").is_file():
        raise UsageError(f"{path}: is not a model folder (no model.json); make one with `histograde train`")
    _check_files(path)
    meta = json.loads((path / "model.json").read_bytes())
    if meta.get("format") != FORMAT_NAME or meta.get("format_version") not in VERSIONS:
        raise RecipeMismatchError(
            f"{path.name}: format {meta.get('format')} version {meta.get('format_version')}, this program reads "
            f"{FORMAT_NAME} up to version {max(VERSIONS)}; use a newer histograde"
        )
    spec = NetworkSpec(**meta["network"])
    own = tuple(NetworkSpec(**one) for one in meta.get("fold_networks") or ()) or None
    names = ("task", "encoder_card", "recipe", "calibration", "training", "versions")
    rest = {name: meta[name] for name in names}
    later = {name: meta.get(name) for name in ("sets", "outliers")}
    card = ModelCard(classes=tuple(meta["classes"]), network=spec, fold_networks=own, **later, **rest)
    networks = []
    for fold in range(meta["folds"]):
        network = Network(own[fold] if own else spec)
        network.load_state_dict(safetensors.torch.load_file(path / "weights" / f"fold-{fold}.safetensors"))
        networks.append(network.eval())
    reference = OutlierReference.from_bytes((path / OUTLIERS).read_bytes()) if card.outliers else None
    model = GradingModel(meta["model_id"], card, tuple(networks), _faithfulness(path), reference)
    model.calibrator()  # here, once, and not at every slide, if it is of an unknown method
    return model


def _faithfulness(path: Path) -> dict[str, Any] | None:
    file = path / FAITHFULNESS
    return dict(json.loads(file.read_bytes())) if file.is_file() else None


def check_writable(path: Path) -> None:
    """Raise `UsageError` if something other than a model folder is at `path`."""
    if path.exists() and not (path / "model.json").is_file() and (path.is_file() or any(path.iterdir())):
        raise UsageError(f"{path}: exists and is not a model folder; choose another --out")


def _held_out_table(cohort: Cohort, held_out: Sequence[Prediction]) -> str:
    first = held_out[0]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ["slide_id", "patient_id", "site", "fold", "label", first.task, *score_columns(first.classes)]
    writer.writerow([*columns, "calibrated"])
    folds = cohort.fold if cohort.fold is not None else [""] * len(cohort)
    rows = zip(cohort.slide_id, cohort.patient_id, cohort.site, folds, cohort.label, held_out, strict=True)
    for slide_id, patient, site, fold, label, one in rows:
        scores = [f"{p:.6f}" for p in one.probabilities]
        writer.writerow([slide_id, patient, site, fold, label, one.label, *scores, "yes" if one.calibrated else "no"])
    return text.getvalue()


def _publish(staged: Path, path: Path) -> None:
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(staged, path)
    shutil.rmtree(old, ignore_errors=True)


def _check_files(path: Path) -> None:
    cure = "copy the model folder again, or train anew"
    try:
        expected: Mapping[str, Any] = json.loads((path / "manifest.json").read_bytes())["files"]
        found = folder_records(path)
        found.pop("run.json", None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptStoreError(f"{path.name}: manifest.json is missing or damaged; {cure}") from error
    for name, record in expected.items():
        if name not in found:
            raise CorruptStoreError(f"{path.name}: {name} is missing; {cure}")
        if found[name] != record:
            raise CorruptStoreError(f"{path.name}: {name} differs from its checksum; {cure}")
    if extra := sorted(set(found) - set(expected)):
        raise CorruptStoreError(f"{path.name}: {extra[0]} does not belong to the model; {cure}")


__all__ = ["GradingModel", "ModelCard", "add_faithfulness", "check_writable", "load_model", "save_model"]
