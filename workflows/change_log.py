"""What differs between two models: data, folds, features, model, training, calibration, program."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.card_view import rows_of
from workflows.model_card import Described
from workflows.prediction_table import named

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs; `old` or `new` is "-" where only the other has it."""

    section: str
    name: str
    old: str
    new: str

    def to_dict(self) -> dict[str, str]:
        """Plain values, for JSON."""
        return {"section": self.section, "name": self.name, "old": self.old, "new": self.new}


def change_log(old: Described, new: Described) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """All that differs, and the sections in which nothing does."""
    first, second = _sections(old), _sections(new)
    changes: list[Change] = []
    for section in first:
        before, after = (dict(rows_of(part[section])) for part in (first, second))
        changes += [
            Change(section, name, before.get(name, NOTHING), after.get(name, NOTHING))
            for name in dict.fromkeys([*before, *after])
            if before.get(name) != after.get(name)
        ]
    changes += _slides(old, new)
    touched = {one.section for one in changes}
    return tuple(changes), tuple(section for section in first if section not in touched)


def _sections(one: Described) -> dict[str, Mapping[str, Any]]:
    card, training = one.card, one.card.training
    chosen = {name: part for name, part in (card.calibration or {}).items() if name in ("method", "n_slides")}
    sets = {
        name: part for name, part in (card.sets or {}).items() if name in ("score", "coverage", "within", "n_slides")
    }
    return {
        "Data": {name: training[name] for name in ("slides", "patients", "sites", "labels", "cohort_sha256")},
        "Folds": {name: training[name] for name in ("folds", "fold_by", "stratify", "fold_seed")},
        "Classes": {"task": card.task, "classes": list(card.classes)},
        "Encoder": card.encoder_card,
        "Recipe": card.recipe,
        "Model": {"model": card.network.model, **card.network.model_options},
        "Loss": {"loss": card.network.loss, **card.network.loss_options},
        "Training": {**training["fit"], "seed": training["seed"], "tuning": training["tuning"]},
        "Calibration": chosen or {"method": "none"},
        "Sets": sets or {"score": "none"},
        "Program": card.versions,
    }


def _slides(old: Described, new: Described) -> list[Change]:
    """Training slides that came, went, or have another label, patient or fold now."""
    before, after = (_by_slide(one) for one in (old, new))
    gone, come = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    changes = []
    if gone:
        changes.append(Change("Data", "slides left out", named(gone), NOTHING))
    if come:
        changes.append(Change("Data", "slides added", NOTHING, named(come)))
    for place, name in enumerate(("label", "patient")):
        other = [one for one in sorted(set(before) & set(after)) if before[one][place] != after[one][place]]
        if other:
            changes.append(Change("Data", f"slides with another {name}", named(other), named(other)))
    moved = [one for one in sorted(set(before) & set(after)) if before[one][2] != after[one][2]]
    return [*changes, Change("Folds", "slides in another fold", NOTHING, named(moved))] if moved else changes


def _by_slide(one: Described) -> dict[str, tuple[str, str, str]]:
    judged = one.held_out.judged
    folds = judged.fold or ("",) * len(judged.slide_id)
    return dict(zip(judged.slide_id, zip(judged.cohort.label, judged.patients, folds, strict=True), strict=True))
