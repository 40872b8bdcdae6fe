"""What stands of all that was decided on a case: its state as a function of its trail, and of nothing else.

A reader's decision replaces the reader's earlier one; an undo takes one away as if it had never been. Where one
reader is enough, the last decision that stands is the state. With double reading a case is open until two different
readers have decided. If they agree that is the state; if they differ the case needs a second look, and the
decision of a third reader settles it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

STATES = ("new", "open", "second_look", "accepted", "corrected", "rejected")
DECISIONS = {"accept": "accepted", "correct": "corrected", "reject": "rejected", "second_look": "second_look"}
"""What a reader may decide, and the state that it leads to."""

FINISHED = ("accepted", "corrected", "rejected")


@dataclass(frozen=True, slots=True)
class Act:
    """An entry of a case's trail, as far as it can change the state.

    Attributes
    ----------
    seq : int
    user_id : int
    action : str
        One of `DECISIONS`, `undo`, or one that changes nothing.
    grade : str or None
        The class that was accepted, or that is right instead.
    undoes : int or None
        Of an undo: the entry that it takes away.
    double : bool
        Whether two readers were wanted when this was decided.
    row : mapping
        The entry itself, for whoever needs its names and times.
    """

    seq: int
    user_id: int
    action: str
    grade: str | None = None
    undoes: int | None = None
    double: bool = False
    row: Any = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a case, whether two readers differ, each reader's decision that stands, and the one that counts."""

    state: str
    disagreement: bool
    readings: tuple[Act, ...]
    counts: Act | None


def standing_of(acts: Iterable[Act]) -> Standing:
    """What stands after some entries of one case, in the order of the trail."""
    acts = list(acts)
    undone = {act.undoes for act in acts if act.action == "undo"}
    latest: dict[int, Act] = {}
    for act in acts:
        if act.action in DECISIONS and act.seq not in undone:
            latest[act.user_id] = act  # a reader keeps the place of the first decision
    current = tuple(latest.values())
    if not current:
        return Standing("open", False, (), None)
    last = max(current, key=lambda act: act.seq)
    return _of_two(current) if last.double else Standing(DECISIONS[last.action], False, current, last)


def _of_two(current: Sequence[Act]) -> Standing:
    readings = tuple(current)
    if len(readings) == 1:
        return Standing("open", False, readings, None)
    if len(readings) > 2:
        return Standing(DECISIONS[readings[-1].action], False, readings, readings[-1])
    later = max(readings, key=lambda act: act.seq)
    if "second_look" in (readings[0].action, readings[1].action):
        return Standing("second_look", False, readings, None)
    if outcome(readings[0]) != outcome(readings[1]):
        return Standing("second_look", True, readings, None)
    return Standing(DECISIONS[later.action], False, readings, later)


def outcome(act: Act) -> str | None:
    """What two readers are held against each other by: the grade, None for a rejected slide."""
    return None if act.action == "reject" else act.grade


def may_undo(acts: Iterable[Act], seq: int) -> Act | None:
    """The decision of this number if it stands, else None: it is another's old one, undone, or no decision."""
    return next((act for act in standing_of(acts).readings if act.seq == seq), None)
