"""Maps are had as files: the ones that the exports write, under names that name nobody."""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fastapi.testclient import TestClient

from tests.workflows.conftest import graded_slide, save_run
from workflows.review.app import create_app
from workflows.review.desk import Settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return save_run(tmp_path / "run", [graded_slide()])


def test_both_files_come_and_nothing_is_left_behind(run: Path) -> None:
    app = create_app(Settings(run, no_auth=True))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        drawn = client.get("/api/cases/1/heatmap.geojson")
        raster = client.get("/api/cases/1/heatmap.ome.tiff")
        assert client.get("/api/cases/9/heatmap.geojson").status_code == 404
    assert drawn.headers["content-type"] == "application/geo+json"
    features = json.loads(drawn.content)["features"]
    assert [one["properties"]["objectType"] for one in features] == ["annotation", *["detection"] * 6]
    with tifffile.TiffFile(io.BytesIO(raster.content)) as tiff:
        channels = tiff.series[0].asarray()
    assert np.nanmax(channels[0]) == pytest.approx(3.0)
    for answer in (drawn, raster):
        assert "case-1-" in answer.headers["content-disposition"]
        assert "slide-1" not in answer.headers["content-disposition"]
    assert not list((run.parent / "temporary").iterdir())


def test_nobody_gets_them_without_signing_in(run: Path) -> None:
    app = create_app(Settings(run))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        for name in ("heatmap.geojson", "heatmap.ome.tiff", "regions.geojson"):
            assert client.get(f"/api/cases/1/{name}").status_code == 401


def test_regions_as_they_stand(run: Path) -> None:
    square = {"type": "Polygon", "coordinates": [[[110, 60], [150, 60], [150, 90], [110, 90], [110, 60]]]}
    app = create_app(Settings(run, no_auth=True, reader_name="Dr. Ann Grey"))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        client.post("/api/cases/1/claim")
        numbers = []
        for number in range(2):
            said = {"request_id": f"6a1f0c62-1d1b-4c0e-9a55-0d7a8a1f1a{number:02d}", "geometry": square}
            answer = client.post("/api/cases/1/regions", json={**said, "kind": "polygon", "class": "tumour"})
            assert answer.status_code == 201, answer.text
            numbers.append(answer.json()["region_id"])
        assert client.delete(f"/api/cases/1/regions/{numbers[0]}").status_code == 200
        answer = client.get("/api/cases/1/regions.geojson")
    assert answer.headers["content-type"] == "application/geo+json"
    assert "case-1-regions.geojson" in answer.headers["content-disposition"]
    (one,) = answer.json()["features"]
    assert (one["geometry"], one["properties"]["classification"]) == (square, {"name": "tumour"})
    assert one["properties"]["metadata"]["reader"] == "Dr. Ann Grey"
