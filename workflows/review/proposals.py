"""The next cases to label: those that nobody has decided on, described by what a run knows of each slide."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from sqlalchemy import Engine, bindparam, exists, select, update

from mil.diverse_choice import choose_diverse
from workflows.results import slide_folder
from workflows.review.database import writing
from workflows.review.rows import Row, all_rows
from workflows.review.tables import cases, gradings, readings
from workflows.review.trail_lock import lock_writers
from wsi.errors import UsageError, WsiError
from wsi.store import FeatureStore, store_path
from wsi.store_url import StorePath

MOST_CANDIDATES = 5000
"""Of more undecided slides only the most uncertain are compared with each other."""

TILES_READ = 256
"""Tiles of a slide whose mean stands for it, evenly spaced over the slide."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A case to label: its place from 1, the slide, and why."""

    place: int
    case_id: int
    slide_id: str
    predicted: str
    uncertainty: float
    like: str
    similarity: float
    reason: str


@dataclass(frozen=True, slots=True)
class Proposals:
    """Cases in the order in which to label them, how many were undecided, and what slides were compared by."""

    cases: tuple[Proposal, ...]
    undecided: int
    compared_by: str


def propose(engine: Engine, run: Path, count: int, stores: StorePath) -> Proposals:
    """Choose the next cases by uncertainty and diversity; raises `UsageError` if every case is decided."""
    undecided = _undecided(engine)
    if not undecided:
        raise UsageError(f"{run}: every slide has a decision; there is nothing to propose")
    rows = undecided[:MOST_CANDIDATES]
    features, compared_by = describe_slides(run, stores, rows)
    chosen = choose_diverse(features, np.array([row["uncertainty"] for row in rows]), count)
    found = []
    for place, one in enumerate(chosen, start=1):
        like = rows[one.nearest]["slide_id"] if one.nearest >= 0 else ""
        row, reason = rows[one.row], _reason(rows[one.row], like, one.similarity)
        facts = row["id"], row["slide_id"], row["predicted"], row["uncertainty"]
        found.append(Proposal(place, *facts, like, round(one.similarity, 4), reason))
    return Proposals(tuple(found), len(undecided), compared_by)


def keep_proposals(engine: Engine, proposals: Proposals) -> None:
    """Let the worklist show the order, instead of the one before."""
    with writing(engine) as connection:
        lock_writers(connection)
        connection.execute(update(cases).where(cases.c.proposed.is_not(None)).values(proposed=None))
        this = cases.c.id == bindparam("of_case")
        places = [{"of_case": one.case_id, "place": one.place} for one in proposals.cases]
        connection.execute(update(cases).where(this).values(proposed=bindparam("place")), places)


def _undecided(engine: Engine) -> list[Row]:
    """Cases without a standing decision, most uncertain first."""
    decided = exists().where(readings.c.case_id == cases.c.id)
    joined = select(cases, gradings.c.graded).join(gradings, gradings.c.case_id == cases.c.id)
    asked = joined.where(cases.c.present, cases.c.state.in_(("new", "open")), ~decided)
    with engine.connect() as connection:
        rows = all_rows(connection, asked.order_by(cases.c.uncertainty.desc(), cases.c.slide_id))
    return [{**row, "graded": json.loads(row["graded"])} for row in rows]


def describe_slides(run: Path, stores: StorePath, rows: Sequence[Row]) -> tuple[np.ndarray, str]:
    """A vector (n, D) for each slide, and what it is: mean features if all have a store, else what the run holds."""
    probabilities = np.array([row["graded"]["probabilities"] for row in rows])  # (n, C)
    features = [_mean_feature(stores, row["slide_id"]) for row in rows[:1]]
    if features[0] is not None:
        features += [_mean_feature(stores, row["slide_id"]) for row in rows[1:]]
        found = [one for one in features if one is not None]
        if len(found) == len(rows) and len({len(one) for one in found}) == 1:
            return np.stack(found), "mean tile features"
    maps = [_map_summary(run, row["slide_id"]) for row in rows]
    summaries = [one for one in maps if one is not None]
    if len(summaries) == len(rows) and len({len(one) for one in summaries}) == 1:
        return np.hstack([probabilities, np.stack(summaries)]), "probabilities and evidence maps"
    return probabilities, "probabilities"


def _mean_feature(stores: StorePath, slide_id: str) -> np.ndarray | None:
    """Mean feature (D,) of tiles evenly spaced over a slide; None without a store of one encoder that can be read."""
    try:
        store = FeatureStore(store_path(stores, slide_id))
        (encoder,) = store.encoders
        good = store.good_rows(encoder)
        taken = good[np.linspace(0, len(good) - 1, min(TILES_READ, len(good))).astype(np.int64)]
        mean = store.features(encoder, taken).astype(np.float64).mean(axis=0)
    except (WsiError, OSError, ValueError):
        return None
    return mean if len(good) and np.isfinite(mean).all() else None


def _map_summary(run: Path, slide_id: str) -> np.ndarray | None:
    """Mean and highest evidence of each class, and how even the attention is, (2C + 1,); None without maps."""
    try:
        data = (slide_folder(run, slide_id) / "scores.npz").read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as scores:
            evidence, attention = scores["evidence"], scores["attention"]
        share = attention[attention > 0]
        even = np.exp(-(share * np.log(share)).sum()) / max(1, len(attention))
        found = np.concatenate([evidence.mean(axis=0), evidence.max(axis=0), [even]])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, UsageError):
        return None
    return found if np.isfinite(found).all() else None


def _reason(row: Row, like: str, similarity: float) -> str:
    doubt: Any = row["graded"]["reason"]
    apart = f"most like {like} ({similarity:.2f}) of those before" if like else "nothing before it is like it"
    return f"uncertainty {row['uncertainty']:.2f}: {doubt}; {apart}"
