"""Which map a run shows, out of what was measured for its model (`histograde explain`)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mil.map_names import MAP_TITLES, MAPS, SIGNED, MapName
from workflows.assurances import maps_text
from workflows.gradings import MapLine, Metric, ModelSummary


def with_map(summary: ModelSummary, faithfulness: Mapping[str, Any] | None) -> ModelSummary:
    """A summary that says which map is shown and why; `faithfulness` is that of a model folder."""
    if faithfulness is None:
        return summary
    chosen = faithfulness["chosen"]
    signed = chosen in SIGNED
    return replace(
        summary,
        shown_map=chosen or "",
        maps=maps_text(faithfulness),
        map_table=tuple(_line(name, faithfulness["maps"][name]) for name in MAPS if _known(faithfulness, name)),
        evidence="signed" if signed else "probability",
        evidence_limit=faithfulness["maps"][chosen]["limit"] if signed else 1.0,
    )


def own_map(summary: ModelSummary) -> MapName | None:
    """The map that a run keeps for each slide beside attention and evidence, if it shows such a one."""
    return next((name for name in SIGNED if name == summary.shown_map), None)


COLUMNS = ("deletion", "gain", "control_gain")


def _known(faithfulness: Mapping[str, Any], name: str) -> bool:
    """Whether all figures of a map are numbers: of one patient there is no interval."""
    one = faithfulness["maps"].get(name)
    return one is not None and all(
        None not in (one[part][end] for end in ("estimate", "low", "high")) for part in COLUMNS
    )


def _line(name: MapName, one: Mapping[str, Any]) -> MapLine:
    deletion, gain, control = (
        Metric(part, one[part]["estimate"], one[part]["low"], one[part]["high"]) for part in COLUMNS
    )
    return MapLine(name, MAP_TITLES[name], deletion, gain, control, one["control_failed"], one["stability"]["estimate"])
