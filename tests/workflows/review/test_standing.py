"""The state of a case by table: who decided what, and what stands."""

import pytest

from workflows.review.standing import Act, standing_of

ANNA, BEN, CLARA = 1, 2, 3


def acts(*said: tuple) -> list[Act]:
    """(reader, action, grade or undone entry) from entry 1 on."""
    found = []
    for seq, (reader, action, *rest) in enumerate(said, start=1):
        value = rest[0] if rest else None
        grade, undoes = (None, value) if action == "undo" else (value, None)
        found.append(Act(seq, reader, action, grade, undoes))
    return found


ONE_READER = [
    ([], "open"),
    ([(ANNA, "accept", "3")], "accepted"),
    ([(ANNA, "correct", "4")], "corrected"),
    ([(ANNA, "reject")], "rejected"),
    ([(ANNA, "second_look")], "second_look"),
    ([(ANNA, "comment")], "open"),
    ([(ANNA, "accept", "3"), (BEN, "comment")], "accepted"),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4")], "corrected"),
    ([(ANNA, "second_look"), (BEN, "accept", "3")], "accepted"),
    ([(ANNA, "accept", "3"), (ANNA, "undo", 1)], "open"),
    ([(ANNA, "accept", "3"), (ANNA, "reject"), (ANNA, "undo", 2)], "accepted"),
    ([(ANNA, "accept", "3"), (BEN, "reject"), (BEN, "undo", 2)], "accepted"),
    ([(ANNA, "accept", "3"), (BEN, "reject"), (BEN, "undo", 1)], "rejected"),
    ([(ANNA, "accept", "3"), (ANNA, "region"), (ANNA, "remove_region")], "accepted"),
]


@pytest.mark.parametrize(("said", "state"), ONE_READER)
def test_one_reader_is_enough(said: list, state: str) -> None:
    found = standing_of(acts(*said))
    assert found.state == state
    assert not found.disagreement


TWO_READERS = [
    ([(ANNA, "accept", "3")], "open", False),
    ([(ANNA, "accept", "3"), (ANNA, "correct", "4")], "open", False),
    ([(ANNA, "accept", "3"), (BEN, "accept", "3")], "accepted", False),
    ([(ANNA, "correct", "4"), (BEN, "correct", "4")], "corrected", False),
    ([(ANNA, "reject"), (BEN, "reject")], "rejected", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4")], "second_look", True),
    ([(ANNA, "correct", "5"), (BEN, "correct", "4")], "second_look", True),
    ([(ANNA, "accept", "3"), (BEN, "reject")], "second_look", True),
    ([(ANNA, "accept", "3"), (BEN, "second_look")], "second_look", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4"), (CLARA, "correct", "4")], "corrected", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4"), (CLARA, "second_look")], "second_look", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4"), (ANNA, "correct", "4")], "corrected", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4"), (BEN, "undo", 2)], "open", False),
    ([(ANNA, "accept", "3"), (BEN, "accept", "3"), (ANNA, "undo", 1)], "open", False),
    ([(ANNA, "accept", "3"), (BEN, "correct", "4"), (CLARA, "reject"), (CLARA, "undo", 3)], "second_look", True),
]


@pytest.mark.parametrize(("said", "state", "disagreement"), TWO_READERS)
def test_two_readers(said: list, state: str, disagreement: bool) -> None:
    twice = [Act(one.seq, one.user_id, one.action, one.grade, one.undoes, double=True) for one in acts(*said)]
    found = standing_of(twice)
    assert (found.state, found.disagreement) == (state, disagreement)


def test_what_counts_names_who_settled_it() -> None:
    found = standing_of(acts((ANNA, "accept", "3"), (BEN, "correct", "4")))
    assert found.counts is not None
    assert (found.counts.user_id, found.counts.grade) == (BEN, "4")
    assert [act.user_id for act in found.readings] == [ANNA, BEN]
