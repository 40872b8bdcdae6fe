"""What tests of the desk share: databases that are closed; for the browser tests one browser and one desk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.workflows.review.case_desks import OPENED


@pytest.fixture(autouse=True)
def databases_are_closed() -> Iterator[None]:
    """Close what a test has opened by `open_cases`."""
    yield
    while OPENED:
        OPENED.pop().dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; the test is skipped where there is none. It ends with its module: it keeps a loop running,
    beside which other tests could not start theirs."""
    from tests.workflows.review.browser_desk import CHROMIUM, FLAGS

    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visitor(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visitor(address)` is somebody new at a desk; at the end nothing may have gone wrong in their browser."""
    from tests.workflows.review.browser_desk import visit

    visitors = []

    def come(address: str, **options: Any) -> Any:
        visitors.append(visit(browser, address, **options))
        return visitors[-1]

    yield come
    complaints = [one for came in visitors for one in came.unexpected()]
    for came in visitors:
        came.page.context.close()
    assert complaints == []


CASES = {"alpha": 5, "beta": 4, "gamma": 4, "delta": 3, "epsilon": 3, "zeta": 2, "eta": 1}
"""Slides from the most urgent, with the grade group that the model gives. Alpha and beta are of one patient."""


@pytest.fixture(scope="module")
def desk_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `CASES`, all of one drawn picture."""
    from tests.workflows.review.browser_desk import draw_slide, grade, save_graded

    folder = tmp_path_factory.mktemp("desk")
    path = draw_slide(folder / "drawn.svs", (2000, 1600), 0.25, (600, 500, 448, 448))
    corners = [(600, 500), (1048, 500), (600, 948), (1048, 948)]
    patients = dict.fromkeys(("alpha", "beta"), "patient-1")
    slides = [
        grade(path, corners, slide_id=name, patient_id=patients.get(name, f"patient-{name}"), predicted=group)
        for name, group in CASES.items()
    ]
    return save_graded(folder / "run", [(path, one) for one in slides])


@pytest.fixture(scope="module")
def desk(desk_run: Path) -> Iterator[str]:
    """The address of a desk over `desk_run`; each test has cases of its own."""
    from tests.workflows.review.browser_desk import serve_desk

    with serve_desk(desk_run) as address:
        yield address
