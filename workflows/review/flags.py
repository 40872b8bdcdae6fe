"""Words that a case is flagged with, so that the worklist can be narrowed to it."""

from collections.abc import Iterable, Iterator
from typing import Literal

from workflows.gradings import Grading
from workflows.worklist import LITTLE_TISSUE_MM2, RIVAL_SHARE, is_unlike, set_width

Flag = Literal[
    "uncertain", "wide_set", "unlike_training", "unreadable_tiles", "little_tissue", "graded_again", "disagreement",
    "proposed",
]  # fmt: skip
"""`graded_again`: a decision stands that was made under another model than the case shows now. `disagreement` and
`proposed` have columns of their own."""

AGAIN = "graded_again"


def flags_of(one: Grading) -> Iterator[str]:
    """Those that follow from the grading alone, by the rules of the worklist's reasons."""
    likely = sorted(one.probabilities, reverse=True)
    if len(likely) > 1 and likely[1] >= RIVAL_SHARE * likely[0]:
        yield "uncertain"
    if set_width(one):
        yield "wide_set"
    if is_unlike(one):
        yield "unlike_training"
    if one.bad_tiles:
        yield "unreadable_tiles"
    if one.tissue_mm2 < LITTLE_TISSUE_MM2:
        yield "little_tissue"


def flag_text(flags: Iterable[str]) -> str:
    """Flags as the table holds them: a space before and after each."""
    words = " ".join(flags)
    return f" {words} " if words else ""


def mark_graded_again(flags: str, again: bool) -> str:
    """The same flags with or without `graded_again`."""
    return flag_text([*(word for word in flags.split() if word != AGAIN), *([AGAIN] if again else [])])
