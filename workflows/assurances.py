"""What a model's probabilities, sets and training slides are worth, in sentences: the same in every output."""

from collections.abc import Mapping
from typing import Any

NOT_CALIBRATED = "Probabilities are not calibrated: read them as an order, not as frequencies."
NO_MAPS = (
    "Which map shows what this model goes by was not measured (`histograde explain` does): read them as hints, no more."
)
NO_SETS = "The model has no sets: it was trained without them, so nothing says what else a slide may be."
NO_OUTLIERS = (
    "The model does not know slides unlike its training slides: it was trained without such a check, so nothing says "
    "whether a slide is of a kind that it has seen."
)


def calibration_text(calibration: Mapping[str, Any] | None) -> str:
    """How probabilities were calibrated, on what, and what it changed; `calibration` is that of a model folder."""
    if not calibration:
        return NOT_CALIBRATED
    method, figures = calibration["method"], ("ece_before", "ece_after", "nll_before", "nll_after")
    ece_before, ece_after, nll_before, nll_after = (f"{calibration[name]:.3f}" for name in figures)
    one = f" (T = {calibration['temperature']:.2f})" if method == "temperature" else ""
    judged = "judged by slides that it was not fitted on" if "note" in calibration else "on the same slides"
    return (
        f"Probabilities are calibrated by {method} scaling{one} on {calibration['n_slides']} held-out slides"
        f"{_of_patients(calibration)}: expected calibration error {ece_before} before, {ece_after} after, "
        f"log loss {nll_before} before, {nll_after} after, {judged}."
    )


def sets_text(sets: Mapping[str, Any] | None, task: str) -> str:
    """What the sets are made to hold, on what they were calibrated, and what is certain."""
    if not sets:
        return NO_SETS
    each = f", of each {task} alike" if sets["within"] == "class" else ""
    said = (
        f"Sets are made to hold the true {task} of {100 * sets['coverage']:g} % of slides like those of the training "
        f"sites{each}; calibrated on {sets['n_slides']} held-out slides{_of_patients(sets)}; from so "
        f"many theory promises no more than {100 * sets['promised']:.0f} %."
    )
    return " ".join([said, *(f"{note[:1].upper()}{note[1:]}." for note in sets["notes"])])


NOT_AUDITED = "Nothing is known of leaks among its training slides: it was trained without an audit."


def audit_texts(audit: Mapping[str, Any] | None) -> tuple[str, ...]:
    """What the audit before training found, a sentence each, what is worst first; `audit` is that of `model.json`."""
    if audit is None:
        return (NOT_AUDITED,)
    found = [f"Warning: {text}." for text in audit["warnings"]]
    found += [f"Audit of the training slides: {text}." for text in audit["findings"]]
    return tuple(found) or (f"Audit of the training slides: nothing found; {audit['looked_at']}.",)


def maps_text(faithfulness: Mapping[str, Any] | None) -> str:
    """Which map is shown and why; `faithfulness` is that of a model folder."""
    return str(faithfulness["reason"]) if faithfulness else NO_MAPS


def outliers_text(outliers: Mapping[str, Any] | None) -> str:
    """What slides are held against, how many are flagged by mistake, and what is not looked at."""
    if not outliers:
        return NO_OUTLIERS
    notes = [f"{note[:1].upper()}{note[1:]}." for note in outliers["notes"]]
    compared = f"Compared with {outliers['n_patients']} training patients are {', '.join(outliers['statistics'])}."
    if not outliers["likely_at_most"]:
        return " ".join([compared, *notes])
    said = (
        f"Slides unlike the training slides are flagged, with the reason. Of slides like them at most "
        f"{100 * outliers['false_alarms']:g} % are flagged, on average over training sets; of those of one training "
        f"set likely no more than {100 * outliers['likely_at_most']:.0f} %."
    )
    return " ".join([said, compared, *notes])


def _of_patients(section: Mapping[str, Any]) -> str:
    return f" of {section['n_patients']} patients" if "n_patients" in section else ""
