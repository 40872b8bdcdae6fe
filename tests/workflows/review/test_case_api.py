"""The routes of cases, as the page calls them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from tests.workflows.review.at_the_desk import another, open_desk, sign_in, user
from workflows.gradings import save_predictions
from workflows.review.app import create_app
from workflows.review.arrivals import Arrivals
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


SQUARE = {"type": "Polygon", "coordinates": [[[110, 60], [150, 60], [150, 90], [110, 90], [110, 60]]]}


def test_a_region_over_http(page: TestClient) -> None:
    page.post("/api/cases/1/claim")
    body = {"request_id": str(uuid4()), "geometry": SQUARE, "kind": "polygon", "class": "tumour", "note": "edge"}
    made = page.post("/api/cases/1/regions", json=body).json()
    assert page.post("/api/cases/1/regions", json=body).json() == made
    (region,) = page.get("/api/cases/1").json()["regions"]
    assert (region["region_id"], region["class"], region["mine"]) == (made["region_id"], "tumour", True)
    assert region["geometry"] == SQUARE
    assert page.delete(f"/api/cases/1/regions/{made['region_id']}").status_code == 200
    assert page.get("/api/cases/1").json()["regions"] == []
    assert [one["action"] for one in page.get("/api/cases/1/trail").json()] == ["region", "remove_region"]


def test_the_same_request_again_is_the_same_entry(page: TestClient) -> None:
    page.post("/api/cases/1/claim")
    body = {"request_id": str(uuid4()), "action": "accept"}
    answers = [page.post("/api/cases/1/decisions", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_a_case_among_others(page: TestClient) -> None:
    found = page.get("/api/cases/2").json()
    assert found["position"] == {"previous": 1, "next": 3}
    assert [one["slide_id"] for one in found["siblings"]] == ["mild", "severe"]
    assert found["labels"][3] == "Grade group 3"
    for case_id in (1, 2, 3):
        page.post(f"/api/cases/{case_id}/claim")
        decide(page, case_id, "accept")
        assert page.delete(f"/api/cases/{case_id}/claim").status_code == 204
    assert page.get("/api/cases/next").status_code == 204


WRONG = [
    ("GET", "/api/cases/99", None, 404),
    ("GET", "/api/cases/99/trail", None, 404),
    ("POST", "/api/cases/99/claim", None, 404),
    ("GET", f"/api/cases/{10**30}", None, 422),
    ("GET", "/api/cases/..%2f1", None, 404),
    ("GET", "/api/cases?limit=201", None, 422),
    ("GET", "/api/cases?offset=-1", None, 422),
    ("GET", "/api/cases?sort=password_hash", None, 422),
    ("GET", "/api/cases?flag=%25", None, 422),
    ("GET", "/api/cases?q=%00", None, 422),
    ("GET", "/api/cases?predicted=%00", None, 422),
    ("POST", "/api/cases/1/decisions", {"request_id": None, "action": "accept"}, 422),
    ("POST", "/api/cases/1/decisions", {"request_id": "1", "action": "accept"}, 422),
    ("POST", "/api/cases/1/decisions", {"action": "comment", "comment": "\x00"}, 422),
    ("POST", "/api/cases/1/decisions", {"action": "comment", "comment": "x" * 10_001}, 422),
    ("POST", "/api/cases/1/decisions", {"action": "accept", "user_id": 7}, 422),
    ("POST", "/api/cases/1/decisions", {"action": "correct", "grade": "1", "gleason": {"primary": 9}}, 422),
    ("POST", "/api/cases/1/decisions", {"action": "accept", "shown": {"view": {"x": "far"}}}, 422),
    ("POST", "/api/cases/1/regions", {"geometry": SQUARE, "kind": "polygon", "class": " "}, 422),
    ("POST", "/api/cases/1/regions", {"geometry": SQUARE, "kind": "circle", "class": "a"}, 422),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRONG)
def test_what_is_no_request(page: TestClient, method: str, path: str, body: dict | None, status: int) -> None:
    page.post("/api/cases/1/claim")
    said = None if body is None else {"request_id": str(uuid4()), **body}
    answer = page.request(method, path, json=said)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]


def test_patients_are_for_who_may_see_them(make_run: Callable, make_slide: Callable, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [make_slide("one"), make_slide("two")])
    with open_desk(run) as client:
        sign_in(client, user(client, "outsider"))
        everything = client.get("/api/cases").text + client.get("/api/cases/1").text
        assert "patient-1" not in everything
        assert '"patient_id":null' in everything
        assert client.get("/api/cases?q=patient-1").json()["total"] == 0
        assert client.get("/api/cases?sort=patient_id").status_code == 403
        assert len(client.get("/api/cases/1").json()["siblings"]) == 1  # that it is one patient may be known
        assert client.get("/api/trail/check").status_code == 403
        insider = another(client)
        sign_in(insider, user(client, "insider", sees_patients=True))
        assert insider.get("/api/cases?q=patient-1").json()["cases"][0]["patient_id"] == "patient-1"


def test_the_second_reader_sees_nothing_of_the_first(make_run: Callable, make_slide: Callable, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [make_slide("one")])
    with open_desk(run, double_reading=True) as first:
        second = another(first)
        sign_in(first, user(first, "first"))
        sign_in(second, user(first, "second"))
        first.post("/api/cases/1/claim")
        body = {"request_id": str(uuid4()), "geometry": SQUARE, "kind": "polygon", "class": "tumour"}
        assert first.post("/api/cases/1/regions", json=body).status_code == 201
        assert decide(first, 1, "correct", grade="4", comment="cribriform")["state"] == "open"
        first.delete("/api/cases/1/claim")
        for path in ("/api/cases", "/api/cases/1", "/api/cases/1/trail"):
            said = second.get(path).text
            assert not any(word in said for word in ("cribriform", '"tumour"', '"correct"', '"first"')), path
        second.post("/api/cases/1/claim")
        assert decide(second, 1, "accept")["state"] == "second_look"
        seen = second.get("/api/cases/1").json()
        assert (len(seen["decisions"]), seen["disagreement"], len(seen["regions"])) == (2, True, 1)
        assert "cribriform" in second.get("/api/cases/1/trail").text


def test_slides_that_arrive_become_cases(page: TestClient, make_slide: Callable) -> None:
    run = page.app.state.desk.run  # type: ignore[attr-defined]
    arrivals = page.app.state.arrivals = Arrivals(page.app.state.desk.engine, run, 0)  # type: ignore[attr-defined]
    assert page.get("/api/cases").json()["total"] == 3
    save_predictions(run, [make_slide(name, predicted=5).grading for name in ("mild", "severe", "middle", "new")])
    arrivals.close()
    page.get("/api/cases")
    arrivals.close()
    assert page.get("/api/cases").json()["total"] == 4
    (run / "predictions.csv").write_text("slide_id\nbroken\n")
    page.get("/api/cases")
    arrivals.close()
    assert page.get("/api/cases").json()["total"] == 4
    arrivals.close()
