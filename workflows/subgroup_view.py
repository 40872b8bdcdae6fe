"""How the groups of a cohort did, laid out for the templates."""

from typing import Any

from mil.fairness import ColumnAudit
from workflows.drawings import Row, forest, p_text
from workflows.pages import METRIC_NAMES
from workflows.subgroups import LEVEL, SubgroupAudit


def subgroup_view(found: SubgroupAudit) -> dict[str, Any]:
    """What was found, what was not judged, and a section for each column."""
    items = [item for one in found.columns for item in _worse(one)]
    items += [{"tone": "bad", "title": "", "text": line} for line in found.uncovered()]
    compared = any(one.gaps for one in found.columns)
    if not items and not compared:
        items = [{"tone": "", "title": "", "text": "Nothing could be compared: the groups are too small, or too few."}]
    elif not items:
        items = [{"tone": "good", "title": "", "text": "No gap between groups that is more than chance would have it."}]
    return {
        "items": items,
        "not_judged": [*found.not_judged(), *found.notes],
        "level": LEVEL,
        "columns": [_column(one, found) for one in found.columns if one.groups],
    }


def _worse(one: ColumnAudit) -> list[dict[str, str]]:
    """An item for each group that is worst in something, with all that it is worst in."""
    said: dict[str, list[str]] = {}
    for metric, gap in one.gaps.items():
        if one.adjusted[metric] <= LEVEL:
            here, there = (
                next(group.metrics[metric] for group in one.groups if group.value == name)
                for name in (gap.worst, gap.best)
            )
            said.setdefault(gap.worst, []).append(
                f"{METRIC_NAMES.get(metric, metric)} {here}, {gap.best} {there}, p {p_text(one.adjusted[metric])}"
            )
    return [
        {"tone": "bad", "title": f"{one.column} {worst} is worse off.", "text": "; ".join(lines) + "."}
        for worst, lines in said.items()
    ]


def _column(one: ColumnAudit, found: SubgroupAudit) -> dict[str, Any]:
    names = [name for name in one.groups[0].metrics if all(name in group.metrics for group in one.groups)]
    leading = names[0] if names else None
    gap = one.gaps.get(leading) if leading else None
    sure = gap is not None and one.adjusted.get(str(leading), 1.0) <= LEVEL
    rows = [
        Row(group.value, group.metrics[leading], "worse" if sure and gap and group.value == gap.worst else "")
        for group in one.groups
        if leading
    ]
    covered = found.coverage.get(one.column, {})
    promised = [] if found.made_for is None else [(found.made_for, "zero")]
    return {
        "column": one.column,
        "groups": one.groups,
        "leading": leading,
        "forest": forest(rows) if rows else None,
        "worst": gap.worst if sure and gap else "",
        "table": [_line(one, name) for name in one.gaps],
        "coverage": forest([Row(name, each) for name, each in covered.items()], promised) if covered else None,
    }


def _line(one: ColumnAudit, name: str) -> dict[str, Any]:
    gap = one.gaps[name]
    return {
        "metric": name,
        "cells": [str(group.metrics[name]) if name in group.metrics else "not defined" for group in one.groups],
        "gap": f"{gap.size:.3f}",
        "worst": gap.worst,
        "p": p_text(gap.p_value),
        "adjusted": p_text(one.adjusted[name]),
        "found": one.adjusted[name] <= LEVEL,
    }
