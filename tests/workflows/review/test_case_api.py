"""The routes of cases, as the page calls them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from workflows.review.app import create_app
from workflows.review.desk import Settings

OURS = "http://127.0.0.1:8765"


@pytest.fixture
def page(make_run: Callable, make_slide: Callable, tmp_path: Path) -> Iterator[TestClient]:
    """A desk where nobody signs in, over a run of three slides."""
    slides = [make_slide("mild", predicted=1), make_slide("severe", predicted=5), make_slide("middle", predicted=3)]
    run = make_run(tmp_path / "run", slides)
    with TestClient(create_app(Settings(run, no_auth=True)), base_url=OURS) as client:
        yield client


def decide(page: TestClient, case_id: int, action: str, **said: object) -> dict:
    answer = page.post(f"/api/cases/{case_id}/decisions", json={"request_id": str(uuid4()), "action": action, **said})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_worklist_is_by_urgency(page: TestClient) -> None:
    found = page.get("/api/cases").json()
    assert found["total"] == 3
    assert found["counts"] == {"new": 3, "open": 0, "second_look": 0, "accepted": 0, "corrected": 0, "rejected": 0}
    assert [case["slide_id"] for case in found["cases"]] == ["severe", "middle", "mild"]
    first = found["cases"][0]
    assert (first["rank"], first["predicted"], first["state"], first["decisions"]) == (1, "5", "new", [])
    assert first["patient_id"] == "patient-1"


def test_a_reading_from_claim_to_trail(page: TestClient) -> None:
    case_id = page.get("/api/cases/next").json()["case_id"]
    assert page.get(f"/api/cases/{case_id}").json()["slide_id"] == "severe"
    assert page.post(f"/api/cases/{case_id}/claim").status_code == 200
    shown = {"map": "attention", "threshold": 1.5, "opacity": 0.4, "view": {"x": 10.0, "y": 20.0, "zoom": 4.0}}
    signed = decide(
        page, case_id, "correct", grade="4", gleason={"primary": 4, "secondary": 4}, comment="4+4", shown=shown
    )
    assert signed["state"] == "corrected"
    (entry,) = page.get(f"/api/cases/{case_id}/trail").json()
    assert entry["shown"] == shown
    assert entry["payload"]["grade"] == "4"
    assert entry["payload"]["predicted"] == "5"
    assert entry["payload"]["slide_sha256"] == "f" * 64
    assert entry["payload"]["model_id"] == "abc123def456"
    assert len(entry["payload"]["heatmap"]) == 64
    assert page.get("/api/trail/check").json() == {"entries": 1, "sound": True, "broken": None, "problem": ""}
    assert decide(page, case_id, "undo")["state"] == "open"
    assert page.get("/api/run").json()["states"]["open"] == 1
