from collections.abc import Iterator

import pytest

from tests.workflows.review.case_desks import OPENED


@pytest.fixture(autouse=True)
def databases_are_closed() -> Iterator[None]:
    """Close what a test has opened by `open_cases`."""
    yield
    while OPENED:
        OPENED.pop().dispose()
