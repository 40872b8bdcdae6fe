"""Decisions at a desk: what is refused, what stands, and what ten readers at once make of it."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from tests.workflows.review.case_desks import ANNA, BEN, CLARA, grading, open_cases, save_gradings
from workflows.review.case_query import Query, count_states, find_cases, next_case
from workflows.review.cases import case_row, describe, seen_by
from workflows.review.claims import claim, release
from workflows.review.decisions import Decision, decide
from workflows.review.desk import Reader
from workflows.review.errors import DeskError
from workflows.review.signing import Signed
from workflows.review.tables import cases, claims, entries
from workflows.review.trail import check
from workflows.review.trail_head import head_file, read_head


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_gradings(tmp_path / "run", grading("a", 5), grading("b", 3), grading("c", 1))


@pytest.fixture
def engine(run: Path) -> Engine:
    return open_cases(run)


@pytest.fixture
def sign(engine: Engine, run: Path) -> Callable[..., Signed]:
    """Sign as a reader who has the case in hand; each request has an id of its own unless it is told one."""
    numbers = iter(range(10**6))

    def signed(reader: Reader, case_id: int, action: Any, request: int | None = None, **said: Any) -> Signed:
        double, claimed = said.pop("double", False), said.pop("claimed", True)
        if claimed:
            claim(engine, case_id, reader)
        request_id = str(UUID(int=next(numbers) if request is None else request))
        try:
            return decide(engine, run, case_id, reader, request_id, Decision(action, **said), {}, double)
        finally:
            release(engine, case_id, reader)

    return signed


def state(engine: Engine, case_id: int) -> str:
    with engine.connect() as connection:
        return str(case_row(connection, case_id)["state"])


REFUSED = [
    (422, {"action": "correct"}),
    (422, {"action": "correct", "grade": "9"}),
    (422, {"action": "correct", "grade": "5"}),
    (409, {"action": "accept", "grade": "4"}),
    (422, {"action": "reject"}),
    (422, {"action": "reject", "reason": "  "}),
    (422, {"action": "reject", "reason": "pen", "grade": "2"}),
    (422, {"action": "second_look", "grade": "2"}),
    (422, {"action": "comment"}),
    (422, {"action": "comment", "comment": "x", "grade": "2"}),
    (409, {"action": "undo"}),
    (409, {"action": "undo", "undoes": 77}),
    (422, {"action": "undo", "grade": "2"}),
    (422, {"action": "accept", "undoes": 1}),
    (422, {"action": "correct", "grade": "4", "gleason": (3, 4)}),
    (422, {"action": "accept", "gleason": (4, 4)}),
]


@pytest.mark.parametrize(("status", "said"), REFUSED)
def test_what_is_refused_leaves_no_entry(sign: Callable, engine: Engine, run: Path, status: int, said: dict) -> None:
    with pytest.raises(DeskError) as refused:
        sign(ANNA, 1, **said)
    assert refused.value.status == status
    assert check(engine).entries == 0
    assert read_head(head_file(run)) is None
    assert state(engine, 1) == "open"


def test_gleason_patterns_that_make_the_grade(sign: Callable) -> None:
    said = sign(ANNA, 1, "correct", grade="2", gleason=(3, 4, 5)).entry
    assert '"gleason":{"primary":3,"secondary":4,"tertiary":5}' in said["payload"]


def test_only_who_has_the_case_in_hand_decides(sign: Callable, engine: Engine) -> None:
    with pytest.raises(DeskError, match="claim the case first"):
        sign(ANNA, 1, "accept", claimed=False)
    claim(engine, 1, BEN)
    with pytest.raises(DeskError, match="Dr. Ben Moss has this case in hand") as refused:
        sign(ANNA, 1, "accept", claimed=False)
    assert refused.value.facts["claimed_by"] == "Dr. Ben Moss"
    with pytest.raises(DeskError, match="Dr. Ben Moss"):
        claim(engine, 1, ANNA)
    release(engine, 1, ANNA)  # not hers to put back
    assert sign(ANNA, 1, "comment", comment="ink on the left", claimed=False).state == "open"


def test_a_lapsed_claim_is_nobodys(sign: Callable, engine: Engine) -> None:
    claim(engine, 1, BEN)
    with engine.begin() as connection:
        connection.execute(claims.update().values(until="2026-01-01T00:00:00.000000Z"))
    with pytest.raises(DeskError, match="claim the case first"):
        sign(BEN, 1, "accept", claimed=False)
    claim(engine, 1, ANNA)


def test_a_request_that_comes_again_is_signed_once(sign: Callable, engine: Engine) -> None:
    first = sign(ANNA, 1, "accept", request=7)
    again = sign(ANNA, 1, "accept", request=7, claimed=False)  # also when the claim is gone
    assert (first.entry["hash"], first.state) == (again.entry["hash"], again.state)
    for other in ({"action": "reject", "reason": "pen"}, {"action": "accept", "comment": "x"}):
        with pytest.raises(DeskError, match="request_id"):
            sign(ANNA, 1, request=7, **other)
    with pytest.raises(DeskError, match="request_id"):
        sign(BEN, 1, "accept", request=7)
    with pytest.raises(DeskError, match="request_id"):
        sign(ANNA, 2, "accept", request=7)
    assert check(engine).entries == 1


def test_an_undo_gives_the_state_before(sign: Callable, engine: Engine) -> None:
    sign(ANNA, 1, "accept")
    sign(ANNA, 1, "correct", grade="4")
    assert sign(ANNA, 1, "undo").state == "accepted"
    assert sign(ANNA, 1, "undo").state == "open"
    with pytest.raises(DeskError, match="no standing decision"):
        sign(ANNA, 1, "undo")
    assert check(engine).entries == 4


def test_only_a_reviewer_undoes_what_another_decided(sign: Callable) -> None:
    entry = sign(ANNA, 1, "accept").entry["seq"]
    with pytest.raises(DeskError, match="only a reviewer"):
        sign(BEN, 1, "undo", undoes=entry)
    assert sign(CLARA, 1, "undo", undoes=entry).state == "open"


def test_double_reading_is_blind_until_one_has_signed(sign: Callable, engine: Engine) -> None:
    def sees(reader: Reader) -> list[str]:
        with engine.connect() as connection:
            (case,) = describe(connection, [case_row(connection, 1)], reader, blind=True)
            assert seen_by(connection, 1, reader, blind=True) == (len(case["decisions"]) > 0)
        return [one["reader"] for one in case["decisions"]]

    assert sign(ANNA, 1, "accept", double=True).state == "open"
    assert (sees(ANNA), sees(BEN), sees(CLARA)) == (["Dr. Anna Grey"], [], [])
    with engine.connect() as connection:
        assert (next_case(connection, ANNA), next_case(connection, BEN)) == (2, 1)
    assert sign(BEN, 1, "correct", grade="4", double=True).state == "second_look"
    assert len(sees(BEN)) == len(sees(ANNA)) == len(sees(CLARA)) == 2
    with engine.connect() as connection:
        assert find_cases(connection, Query(flag="disagreement"), BEN).total == 1
        assert next_case(connection, CLARA) == 1
    assert sign(CLARA, 1, "correct", grade="4", double=True).state == "corrected"


class Model:
    """What a desk of one reading should do, as little code as can be: a stack of decisions a case."""

    def __init__(self) -> None:
        self.stacks: dict[int, list[tuple[int, int, str]]] = {}
        self.opened: set[int] = set()

    def state(self, case_id: int) -> str:
        latest: dict[int, tuple[int, int, str]] = {}
        for one in self.stacks.get(case_id, []):
            latest[one[1]] = one
        if latest:
            return max(latest.values())[2]
        return "open" if case_id in self.opened else "new"


@pytest.mark.parametrize("seed", range(4))
def test_random_walks_against_a_small_model(sign: Callable, engine: Engine, seed: int) -> None:
    rng, model = random.Random(seed), Model()
    for _ in range(60):
        reader, case_id = rng.choice((ANNA, BEN, CLARA)), rng.randrange(1, 4)
        action = rng.choice(("accept", "correct", "reject", "second_look", "comment", "undo", "undo"))
        said = {"correct": {"grade": "2"}, "reject": {"reason": "blur"}, "comment": {"comment": "so"}}.get(action, {})
        stack = model.stacks.setdefault(case_id, [])
        mine = [one for one in stack if one[1] == reader.user_id]
        model.opened.add(case_id)
        if action == "undo" and not mine:
            with pytest.raises(DeskError):
                sign(reader, case_id, action)
            continue
        signed = sign(reader, case_id, action, **said)
        if action == "undo":
            stack.remove(mine[-1])
        elif action != "comment":
            kept = {"accept": "accepted", "correct": "corrected", "reject": "rejected", "second_look": "second_look"}
            stack.append((signed.entry["seq"], reader.user_id, kept[action]))
        assert signed.state == model.state(case_id) == state(engine, case_id)
    with engine.connect() as connection:
        counts = count_states(connection)
    expected = [model.state(case_id) for case_id in (1, 2, 3)]
    assert {name: number for name, number in counts.items() if number} == {
        name: expected.count(name) for name in expected
    }
    assert check(engine).sound


def test_ten_readers_at_once_make_one_chain(engine: Engine, run: Path) -> None:
    readers = [Reader(number, f"r{number}", f"Dr. {number}", "reader", False) for number in range(10)]

    def work(reader: Reader) -> list[int]:
        made = []
        for turn in range(8):
            request_id = str(UUID(int=1000 * reader.user_id + turn))
            said = Decision("comment", comment=f"{reader.name} {turn}")
            signed = [decide(engine, run, 1 + turn % 3, reader, request_id, said, {}) for _ in range(2)]
            assert signed[0].entry["hash"] == signed[1].entry["hash"]
            made.append(signed[0].entry["seq"])
        return made

    with ThreadPoolExecutor(10) as pool:
        made = [seq for seqs in pool.map(work, readers) for seq in seqs]
    assert sorted(made) == list(range(1, 81))
    assert check(engine, head_file(run)).entries == 80
    head = read_head(head_file(run))
    assert head is not None
    assert head.seq == 80


def test_one_of_two_gets_the_case(engine: Engine) -> None:
    outcome: list[str] = []

    def take(reader: Reader) -> None:
        try:
            claim(engine, 1, reader)
            outcome.append("taken")
        except DeskError as refused:
            outcome.append(str(refused.status))

    threads = [Thread(target=take, args=(reader,)) for reader in (ANNA, BEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome) == ["409", "taken"]


def test_next_passes_over_what_others_have_and_what_was_skipped(sign: Callable, engine: Engine) -> None:
    def following(reader: Reader, after: int | None = None) -> int | None:
        with engine.connect() as connection:
            return next_case(connection, reader, after)

    assert following(ANNA) == 1
    assert [following(ANNA, 1), following(ANNA, 2), following(ANNA, 3)] == [2, 3, 1]
    claim(engine, 1, BEN)
    assert (following(ANNA), following(BEN)) == (2, 1)
    sign(ANNA, 2, "accept")
    sign(ANNA, 3, "accept")
    assert following(ANNA) is None


def test_an_entry_says_what_was_decided_on(sign: Callable, engine: Engine) -> None:
    sign(ANNA, 1, "accept")
    with engine.connect() as connection:
        entry = connection.execute(select(entries)).one()
        model = connection.execute(select(cases.c.model_id).where(cases.c.id == 1)).scalar()
    assert (entry.slide_id, entry.name, entry.full_name) == ("a", "anna", "Dr. Anna Grey")
    for part in (f'"model_id":"{model}"', '"grade":"5"', '"predicted":"5"', '"program":', '"signed_by":"password"'):
        assert part in entry.payload
