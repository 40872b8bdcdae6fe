"""A dossier, laid out for its template."""

from itertools import groupby
from typing import Any

from workflows.drawings import Row, forest, number_text, p_text
from workflows.pages import METRIC_NAMES
from workflows.two_models import Dossier

TONE = {"non-inferior": "good", "not shown": "warn", "inferior": "warn"}


def dossier_view(done: Dossier) -> dict[str, Any]:
    """What the template `dossier.html` is given."""
    groups = done.groups
    gains = forest(
        [Row(one.name, one.gain, one.outcome, TONE[one.outcome]) for one in groups.groups],
        [(0.0, "zero"), (-groups.margin, "margin")],
    )
    verdict = groups.verdict(METRIC_NAMES.get(groups.metric, groups.metric))
    return {
        "done": done,
        "sections": [(name, list(part)) for name, part in groupby(done.changes, lambda one: one.section)],
        "items": [
            {
                "tone": "good" if groups.everywhere else "bad" if not groups.everywhere_judged else "",
                "title": "",
                "text": f"{verdict[:1].upper()}{verdict[1:]}.",
            }
        ],
        "gains": gains,
        "metrics": [
            {
                "name": name,
                "old": number_text(one.first.estimate),
                "new": number_text(one.second.estimate),
                "difference": _signed(one.difference.estimate),
                "reach": f"{_signed(one.difference.low)} – {_signed(one.difference.high)}",
                "p": p_text(one.p),
                "less": not one.higher,
            }
            for name, one in done.metrics.items()
        ],
    }


def _signed(value: float) -> str:
    text = number_text(value)
    return f"+{text}" if value > 0 else text
