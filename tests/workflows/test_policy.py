"""Durations and amounts as people write them, and how long a run waits between tries."""

import pytest

from workflows.policy import Policy, parse_bytes, parse_duration, policy_of
from wsi.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5 min", 90), ("15min", 900), ("2h", 7200), (" 0 s ", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("250MB", 250_000_000), ("2 GB", 2 * 10**9), ("1TB", 10**12), ("7", 7)])
def test_amounts(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "h", "-3s", "5 parsecs", "1e3", "3 s s"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="such as 90s, 15min or 2h, found"):
        parse_duration(text)
    with pytest.raises(UsageError, match="such as 250MB or 2GB, found"):
        parse_bytes(text)


def test_a_task_needs_time() -> None:
    with pytest.raises(UsageError, match="check --task-limit"):
        policy_of("0", "12h", "250MB", retry_quarantined=False)


def test_tries_follow_each_other_more_slowly() -> None:
    assert [Policy(retry_s=2).backoff_s(failed) for failed in (1, 2, 3)] == [2, 8, 32]
