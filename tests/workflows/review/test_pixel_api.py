"""The routes of pixels, asked as a page asks: a run over a real file, one case a slide."""

import io
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.hostile.makers import damage_tile
from tests.workflows.conftest import MODEL, graded_slide, save_run
from workflows.results import save_slide
from workflows.review.app import create_app
from workflows.review.desk import Reader, Settings
from workflows.review.doors import Doors
from workflows.run_sources import save_sources
from workflows.sources import SlideSource
from wsi.slide import open_slide


@pytest.fixture
def run(tmp_path: Path, small_svs: Path) -> Path:
    path = Path(shutil.copy(small_svs, tmp_path / "slide-1.svs"))
    slide = open_slide(path)
    slide.close()
    folder = save_run(tmp_path / "run", [graded_slide(info=slide.info)])
    save_sources(folder, [SlideSource("slide-1", path, "patient-1")])
    return folder


@contextmanager
def desk(run: Path, **settings: object) -> Iterator[TestClient]:
    app = create_app(Settings(run, no_auth=True, **settings))  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        yield client


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def test_a_slide_is_described_as_it_is(run: Path) -> None:
    with desk(run) as client:
        facts = client.get("/api/cases/1/slide").json()
    assert (facts["width"], facts["height"], facts["mpp"], facts["objective_power"]) == (1500, 1400, [0.5, 0.5], 20)
    assert facts["levels"] == [
        {"level": level, "width": w, "height": h}
        for level, (w, h) in enumerate([(188, 175), (375, 350), (750, 700), (1500, 1400)])
    ]
    assert (facts["tile_size"], facts["overlap"], facts["available"], facts["message"]) == (256, 0, True, None)


def test_tiles_are_the_slides_pixels(run: Path, small_svs: Path) -> None:
    with closing(open_slide(small_svs)) as slide, desk(run) as client:
        passed = client.get("/api/cases/1/tiles/3/2_1.jpg")
        edge = client.get("/api/cases/1/tiles/3/5_5.jpg")
        half = client.get("/api/cases/1/tiles/2/1_1.jpg")
        assert passed.headers["content-type"] == "image/jpeg"
        np.testing.assert_array_equal(pixels(passed.content), slide.read_region((512, 256), 0, (256, 256)))
        expected = slide.read_region((1280, 1280), 0, (220, 120))
        assert np.abs(pixels(edge.content).astype(int) - expected).mean() < 2
        whole = slide.read_region((512, 512), 0, (512, 512)).reshape(256, 2, 256, 2, 3).mean(axis=(1, 3))
        assert np.abs(pixels(half.content) - whole).mean() < 4


def test_tags_versions_and_heads(run: Path) -> None:
    with desk(run) as client:
        version = client.get("/api/cases/1/slide").json()["version"]
        maps = client.get("/api/cases/1/maps").json()["maps"]
        for path, known in (
            ("/api/cases/1/tiles/3/2_1.jpg", version),
            (f"/api/cases/1/maps/{maps[0]['name']}/3/0_0.png", maps[0]["version"]),
            ("/api/cases/1/thumbnail.jpg", None),
            ("/api/cases/1/top-tiles/1.png", None),
        ):
            first = client.get(path)
            tag = first.headers["etag"]
            assert tag.startswith('"')
            assert "immutable" not in first.headers["cache-control"]
            for said in (tag, f'"other", W/{tag}', "*"):
                same = client.get(path, headers={"If-None-Match": said})
                assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
            assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
            head = client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(first.content))
            if known is not None:
                kept = client.get(path, params={"v": known}).headers["cache-control"]
                assert kept == "private, max-age=31536000, immutable"
                assert "immutable" not in client.get(path, params={"v": "older"}).headers["cache-control"]


def test_maps_say_all_that_is_drawn(run: Path) -> None:
    with desk(run) as client:
        facts = client.get("/api/cases/1/maps").json()
        picture = client.get(facts["top_tiles"][0]["url"])
        png = client.get("/api/cases/1/maps/attention/3/0_0.png")
    names = [one["name"] for one in facts["maps"]]
    assert names == ["attention", *(f"evidence-{number}" for number in range(len(MODEL.classes)))]
    assert facts["predicted"] == "evidence-3"
    legend = facts["maps"][0]["legend"]
    assert (legend["low"], legend["high"], legend["diverging"], len(legend["stops"])) == (0.1, 10.0, False, 256)
    assert [legend["stops"][place][0] for place in (0, 255)] == [0.1, 10.0]
    assert legend["stops"][0][1] == "#440154"  # viridis begins so
    assert facts["bad_tiles"] == [{"x": 180, "y": 90, "w": 40.0, "h": 40.0, "reason": "cannot be decoded"}]
    assert [(top["row"], top["x"], top["y"], top["attention"]) for top in facts["top_tiles"]] == [
        (1, 140, 50, pytest.approx(3.0)), (0, 100, 50, pytest.approx(0.5)),
    ]  # fmt: skip
    assert facts["tissue"]["type"] == "MultiPolygon"
    assert pixels(picture.content).shape == (40, 40, 3)
    with Image.open(io.BytesIO(png.content)) as image:
        grey, alpha = np.moveaxis(np.asarray(image), 2, 0)
    shown = np.zeros((256, 256), bool)
    shown[50:90, 100:220] = shown[90:130, 100:180] = True
    np.testing.assert_array_equal(alpha > 0, shown)
    assert grey[60, 150] == round(255 * (np.log10(3.0) + 1) / 2)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/cases/7/slide", 404),
        ("/api/cases/7/tiles/0/0_0.jpg", 404),
        ("/api/cases/1/tiles/9/0_0.jpg", 404),
        ("/api/cases/1/tiles/3/6_0.jpg", 404),
        ("/api/cases/1/tiles/3/-1_0.jpg", 422),
        ("/api/cases/1/tiles/3/99999999999999999999_0.jpg", 422),
        ("/api/cases/0/tiles/3/0_0.jpg", 422),
        ("/api/cases/1/maps/none/3/0_0.png", 404),
        ("/api/cases/1/maps/attention/9/0_0.png", 404),
        ("/api/cases/1/maps/..%2f..%2fx/3/0_0.png", 404),
        ("/api/cases/1/top-tiles/0.png", 404),
        ("/api/cases/1/top-tiles/3.png", 404),
        ("/api/cases/1/label.jpg", 404),
    ],
)
def test_what_is_not_there_is_an_error_of_one_line(run: Path, path: str, status: int) -> None:
    with desk(run) as client:
        answer = client.get(path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert str(run.parent) not in answer.text


def test_a_tile_that_cannot_be_decoded_is_an_error_with_its_reason(run: Path) -> None:
    path = run.parent / "slide-1.svs"
    damage_tile(path, 0, 2, 1)
    slide = open_slide(path)
    slide.close()
    save_slide(run, graded_slide(info=slide.info))
    with desk(run) as client:
        bad = client.get("/api/cases/1/tiles/3/2_1.jpg")
        assert client.get("/api/cases/1/tiles/3/1_1.jpg").status_code == 200
    assert bad.status_code == 422
    assert "column 2, row 1" in bad.json()["error"]


def test_a_slide_whose_file_is_away_still_has_maps_and_thumbnail(run: Path) -> None:
    (run.parent / "slide-1.svs").rename(run.parent / "elsewhere.svs")
    with desk(run) as client:
        facts = client.get("/api/cases/1/slide").json()
        assert facts["available"] is False
        assert "--slides" in facts["message"]
        assert (facts["width"], facts["height"]) == (1500, 1400)
        assert client.get("/api/cases/1/tiles/3/0_0.jpg").status_code == 404
        assert client.get("/api/cases/1/maps/attention/3/0_0.png").status_code == 200
        assert client.get("/api/cases/1/thumbnail.jpg").status_code == 200
        (run.parent / "elsewhere.svs").rename(run.parent / "slide-1.svs")
        assert client.get("/api/cases/1/slide").json()["available"] is True
        assert client.get("/api/cases/1/tiles/3/0_0.jpg").status_code == 200


def test_a_slide_graded_anew_has_new_maps(run: Path, small_svs: Path) -> None:
    with desk(run) as client:
        before = client.get("/api/cases/1/maps").json()["maps"][0]["version"]
        slide = open_slide(small_svs, slide_id="slide-1")
        slide.close()
        save_slide(run, graded_slide(info=slide.info, attention=np.full(5, 0.2)))
        after = client.get("/api/cases/1/maps").json()["maps"][0]["version"]
    assert before != after


@pytest.mark.parametrize("sees", [True, False])
def test_the_label_is_for_those_who_may_see_patients(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sees: bool
) -> None:
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    slide = open_slide(path, slide_id="slide-1")
    label = slide.associated_images["label"]
    slide.close()
    run = save_run(tmp_path / "run", [graded_slide(info=slide.info)])
    save_sources(run, [SlideSource("slide-1", path, "patient-1")])
    with desk(run) as client:
        known = client.app.state.desk.doors  # type: ignore[attr-defined]
        visit = known._anybody
        monkeypatch.setattr(known, "_anybody", replace(visit, reader=replace(visit.reader, sees_patients=sees)))
        answer = client.get("/api/cases/1/label.jpg")
    if sees:
        assert pixels(answer.content).shape == label.shape
        assert np.abs(pixels(answer.content).astype(int) - label).mean() < 4
    else:
        assert answer.status_code == 403
        assert list(answer.json()) == ["error"]


def test_nobody_gets_pixels_without_signing_in(run: Path) -> None:
    app = create_app(Settings(run))
    with TestClient(app, base_url="http://127.0.0.1:8765") as client:
        for path in ("slide", "tiles/3/0_0.jpg", "maps", "maps/attention/3/0_0.png", "thumbnail.jpg", "label.jpg"):
            for ask in (client.get, client.head):
                answer = ask(f"/api/cases/1/{path}")
                assert answer.status_code == 401, path
                assert "etag" not in answer.headers


def test_the_short_way_asks_who_it_is_each_time(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    reader_of = Doors.reader_of

    async def spy(self: Doors, request: object) -> Reader:
        asked.append(request.url.path)  # type: ignore[attr-defined]
        return await reader_of(self, request)  # type: ignore[arg-type]

    monkeypatch.setattr(Doors, "reader_of", spy)
    paths = ["/api/cases/1/tiles/3/0_0.jpg"] * 2 + ["/api/cases/1/maps/attention/3/0_0.png"] * 2
    with desk(run) as client:
        for path in paths:
            assert client.get(path).status_code == 200
    assert asked == paths


def test_tiles_are_documented(run: Path) -> None:
    with desk(run) as client:
        paths = client.get("/api/openapi.json").json()["paths"]
    assert set(paths["/api/cases/{case_id}/tiles/{level}/{column}_{row}.jpg"]) == {"get"}
    assert set(paths["/api/cases/{case_id}/maps/{name}/{level}/{column}_{row}.png"]) == {"get"}
