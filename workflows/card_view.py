"""A model card, laid out for its template."""

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

from mil.bootstrap import Interval
from mil.intervals import measures
from workflows.assurances import calibration_text, sets_text
from workflows.drawings import Row, forest, reliability_curve
from workflows.gradings import class_labels
from workflows.model_card import INTENDED_USE, NOT_INTENDED, Described
from workflows.subgroup_view import subgroup_view

MOST_ROWS = 60
"""Of figures that are shown as they stand."""


def card_view(one: Described) -> dict[str, Any]:
    """What the template `card.html` is given."""
    card, held, training = one.card, one.held_out, one.card.training
    said = training["held_out"]
    order = [name for name in measures(card.task, len(card.classes)) if name in said]
    metrics = {name: interval_of(said[name]) for name in order}
    first = next(iter(metrics))
    return {
        "one": one,
        "card": card,
        "training": training,
        "use": INTENDED_USE,
        "not_use": NOT_INTENDED,
        "labels": class_labels(card.task, card.classes),
        "leading": (first, metrics[first]),
        "metrics": metrics,
        "detections": forest([Row(name, interval) for name, interval in held.detections.items()], [(0.5, "zero")]),
        "confusion": _confusion(one),
        "curves": _curves(one),
        "calibration": calibration_text(card.calibration),
        "sets": sets_text(card.sets, card.task),
        "coverage": _coverage(one),
        "audit": _audit(training.get("audit")),
        "groups": None if held.subgroups is None else subgroup_view(held.subgroups),
        "open_tables": False,
        "faithfulness": _measured(one.faithfulness),
        "outliers": _measured(one.outliers),
        "limits": one.limits(),
        "fit": dict(rows_of(training["fit"])),
        "recipe": dict(rows_of(card.recipe)),
    }


def interval_of(said: Mapping[str, Any]) -> Interval:
    """An interval out of plain values."""
    numbers = {name: float("nan") if said[name] is None else said[name] for name in ("estimate", "low", "high")}
    return Interval(**{name: said[name] for name in ("level", "n_groups", "method")} | numbers)


def rows_of(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Plain values as names and texts, whatever is in them; numbers with their intervals where they have such."""
    for name, part in value.items():
        way = f"{before}{name}".replace("_", " ")
        if isinstance(part, Mapping) and {"estimate", "low", "high"} <= part.keys():
            known = all(part[end] is not None and isfinite(part[end]) for end in ("estimate", "low", "high"))
            yield way, str(interval_of({"level": 0.95, "n_groups": 0, "method": ""} | dict(part))) if known else "-"
        elif isinstance(part, Mapping):
            yield from rows_of(part, f"{way}: ")
        elif isinstance(part, (list, tuple)):
            plain = [one for one in part if not isinstance(one, (list, tuple, Mapping))]
            if plain or not part:
                yield way, ", ".join(map(_text, plain)) or "none"
        else:
            yield way, _text(part)


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _confusion(one: Described) -> list[dict[str, Any]]:
    table, names = one.held_out.confusion, one.card.classes
    return [
        {
            "name": name,
            "count": int(row.sum()),
            "cells": [(int(cell), round(float(cell / max(row.sum(), 1)), 3)) for cell in row],
        }
        for name, row in zip(names, table, strict=True)
    ]


def _curves(one: Described) -> list[dict[str, Any]]:
    """Of the predicted class, and of the middle grade where there are grades: two that fit beside each other."""
    known = list(one.held_out.curves.items())
    chosen = known[:1] + ([known[(len(known) + 1) // 2]] if len(known) > 1 else [])
    return [
        {"title": name, "curve": reliability_curve(curve, "probability said", "share seen")} for name, curve in chosen
    ]


def _coverage(one: Described) -> dict[str, Any] | None:
    found = one.held_out.coverage
    if not found or one.card.sets is None:
        return None
    promised = one.card.sets["coverage"]
    rows = [Row(name, each, "less" if each.high < promised else "") for name, each in found.items()]
    return forest(rows, [(promised, "zero")])


def _audit(audit: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if audit is None:
        return None
    items = [{"tone": "bad", "title": "", "text": text} for text in audit["warnings"]]
    items += [{"tone": "", "title": "", "text": text} for text in audit["findings"]]
    return {
        "items": items or [{"tone": "good", "title": "", "text": "Nothing found."}],
        "looked_at": audit["looked_at"],
        "label_from": [one | {"share": _percent(one["explained"])} for one in audit["label_from"]],
    }


def _measured(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Figures of another part of the program, as they stand."""
    if section is None:
        return None
    rows = list(rows_of({k: v for k, v in section.items() if k not in ("reason", "notes")}))
    said = [str(section["reason"])] if section.get("reason") else [str(note) for note in section.get("notes", ())]
    return {"said": said, "rows": rows[:MOST_ROWS], "more": max(0, len(rows) - MOST_ROWS)}


def _percent(value: float | None) -> str:
    return "not tested" if value is None else f"{100 * max(value, 0.0):.0f} %"
