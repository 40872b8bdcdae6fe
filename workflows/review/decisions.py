"""Decisions on a case: accept, correct, reject, ask for a second look, comment, undo. Each is checked and signed.

Who decides has the case in hand; a comment needs no claim, since it changes no state. An undo takes away one's own
standing decision, or with the role of a reviewer another's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from workflows.review.cases import slide_of
from workflows.review.claims import need_claim
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.gleason import GRADE_GROUPS, grade_group
from workflows.review.provenance import evidence_of
from workflows.review.rows import Row
from workflows.review.signing import Request, Signed, sign
from workflows.review.standing import Act, may_undo, standing_of

Action = Literal["accept", "correct", "reject", "second_look", "comment", "undo"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reader wants to have signed.

    Attributes
    ----------
    action : str
    grade : str, optional
        The right class, for `correct`. With `accept` it may say which grade was looked at.
    gleason : tuple of int, optional
        Primary, secondary and perhaps tertiary pattern.
    reason, comment : str
        A slide is rejected for a reason.
    undoes : int, optional
        Entry that an undo takes away; None: one's own decision that stands.
    """

    action: Action
    grade: str | None = None
    gleason: tuple[int, ...] | None = None
    reason: str = ""
    comment: str = ""
    undoes: int | None = None

    def plain(self) -> dict[str, Any]:
        """What was said, without what was left out."""
        gleason = dict(zip(("primary", "secondary", "tertiary"), self.gleason or (), strict=False))
        said = {"grade": self.grade, "gleason": gleason, "reason": self.reason, "comment": self.comment}
        return {name: value for name, value in said.items() if value} | (
            {"undoes": self.undoes} if self.undoes is not None else {}
        )


def decide(
    engine: Engine,
    run: Path,
    case_id: int,
    reader: Reader,
    request_id: str,
    decision: Decision,
    shown: dict[str, Any],
    double_reading: bool = False,
) -> Signed:
    """Sign a decision.

    Raises
    ------
    DeskError
        404 for no such case; 409 where the case is not in the reader's hand, was graded again meanwhile, or there is
        nothing to undo; 422 for a decision that says too little or contradicts itself.
    """
    evidence = evidence_of(run, slide_of(engine, case_id, run).slide_id)

    def settle(connection: Connection, case: Row, acts: list[Act]) -> dict[str, Any]:
        if decision.action != "comment":
            need_claim(connection, case_id, reader)
        said = {"undo": _undo, "comment": _comment}.get(decision.action, _decide)(decision, case, acts, reader)
        model = {"model_id": case["model_id"], "predicted": case["predicted"]}
        return {**said, **model, **evidence, "double_reading": double_reading, "signed_by": reader.auth}

    return sign(engine, run, Request(case_id, reader, decision.action, request_id, decision.plain(), shown), settle)


def _decide(decision: Decision, case: Row, acts: list[Act], reader: Reader) -> dict[str, Any]:
    said = decision.plain()
    if decision.undoes is not None:
        raise DeskError(422, f"{decision.action} undoes nothing; that is for the action undo")
    if decision.action == "accept":
        if decision.grade not in (None, case["predicted"]):
            raise DeskError(409, f"the slide has grade {case['predicted']} now, not {decision.grade}: look again")
        said["grade"] = case["predicted"]
    elif decision.action == "correct":
        _check_grade(decision, case)
    elif decision.grade or decision.gleason:
        raise DeskError(422, f"{decision.action} takes no grade; that is for the action correct")
    if decision.action == "reject" and not decision.reason.strip():
        raise DeskError(422, "say in `reason` why the slide is rejected")
    _check_gleason(decision, case, said.get("grade"))
    return said


def _check_grade(decision: Decision, case: Row) -> None:
    classes = case["graded"]["classes"]
    if decision.grade not in classes:
        raise DeskError(422, f"grade {decision.grade!r} is not one of {', '.join(classes)}")
    if decision.grade == case["predicted"]:
        raise DeskError(422, f"{decision.grade} is what the model says: accept it")


def _check_gleason(decision: Decision, case: Row, grade: str | None) -> None:
    if decision.gleason is None:
        return
    if case["graded"]["task"] != "grade" or not set(case["graded"]["classes"]) <= GRADE_GROUPS:
        raise DeskError(422, "Gleason patterns go with grade groups, and this run has other classes")
    made = grade_group(*decision.gleason[:2])
    if made != grade:
        patterns = "+".join(map(str, decision.gleason[:2]))
        raise DeskError(422, f"Gleason {patterns} is grade group {made}, not {grade}")


def _comment(decision: Decision, case: Row, acts: list[Act], reader: Reader) -> dict[str, Any]:
    if not decision.comment.strip() or set(decision.plain()) != {"comment"}:
        raise DeskError(422, "a comment has a text in `comment`, and nothing else")
    return decision.plain()


def _undo(decision: Decision, case: Row, acts: list[Act], reader: Reader) -> dict[str, Any]:
    if set(decision.plain()) - {"undoes", "reason", "comment"}:
        raise DeskError(422, "an undo takes no grade")
    mine = [act.seq for act in standing_of(acts).readings if act.user_id == reader.user_id]
    wanted = decision.undoes if decision.undoes is not None else max(mine, default=0)
    found = may_undo(acts, wanted)
    if found is None:
        raise DeskError(409, "there is no standing decision to undo")
    if found.user_id != reader.user_id and not reader.may("reviewer"):
        raise DeskError(403, "only a reviewer undoes what another reader decided")
    return {**decision.plain(), "undoes": wanted}
