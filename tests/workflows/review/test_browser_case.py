"""One case in a real browser: looked at, marked, decided, signed, undone; by two readers; with the desk away."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import shape

from workflows import labels

pytestmark = pytest.mark.browser

AWAY = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED")


def expect_trail(reader: Any, *expected: str) -> None:
    from playwright.sync_api import expect

    expect(reader.page.locator(".trail-list li b")).to_have_text(list(expected))


def expect_times(reader: Any, *expected: str) -> None:
    from playwright.sync_api import expect

    expect(reader.page.locator(".times")).to_have_text(list(expected))


def pixels(reader: Any) -> bytes:
    """The slide with its map, without what lies over it."""
    drawn = "document.querySelector('.openseadragon-canvas canvas').toDataURL()"
    reader.page.wait_for_timeout(100)
    return str(reader.page.evaluate(drawn)).encode()


def test_from_the_first_look_to_a_signed_correction(
    visitor: Callable[..., Any], desk: str, desk_run: Path, tmp_path: Path
) -> None:
    reader = visitor(desk).sign_in().open_case("gamma")
    page = reader.page
    assert page.inner_text(".verdict .big").replace("\xa0", " ") == "Grade group 4"
    reader.asked.clear()
    reader.press("5")
    expect_times(reader, "40×")
    reader.settle()
    assert any("/tiles/3/" in url for url in reader.asked), "2000 px halved three times are one tile of 256"
    reader.press("0")
    reader.settle()
    reader.asked.clear()
    before = pixels(reader)
    reader.press("]")
    opaque = pixels(reader)
    page.locator("#heat-threshold").fill("60")
    cut = pixels(reader)
    assert len({before, opaque, cut}) == 3
    assert not [url for url in reader.asked if "/maps/" in url], "colours change without a request"

    place = page.locator(".picture").bounding_box()
    reader.press("p")
    for x, y in ((300, 200), (420, 210), (400, 330), (290, 300)):
        page.mouse.click(place["x"] + x, place["y"] + y)
        page.wait_for_timeout(350)
    reader.press("f")
    page.locator(".region-form .choice", has_text="Gleason 4").click()
    page.click("text=Save region")
    page.wait_for_selector(".region-list li")

    page.locator("h1").click()
    reader.press("c", "3")
    page.locator("input[name=primary][value='4']").check(force=True)
    page.locator("input[name=secondary][value='3']").check(force=True)
    assert "Gleason 4 + 3 = 7: grade group 3" in page.inner_text(".patterns")
    page.fill("textarea", "cribriform")
    page.click("text=Sign: Grade group 3")
    page.wait_for_selector(".crumbs .state.corrected")
    expect_trail(reader, "Corrected to Grade group 3 (4 + 3)", "Drew a region: Gleason 4")
    address = f"/api/cases/{page.url.rsplit('/', 1)[1]}/trail"
    signed = page.evaluate("(address) => fetch(address).then((answer) => answer.json())", address)[-1]
    assert signed["payload"]["comment"] == "cribriform"
    assert signed["shown"]["map"] == "attention"
    assert signed["shown"]["threshold"] == pytest.approx(0.1 * 10**1.2, rel=1e-3), "0.6 of the way from 0.1 to 10"

    labels.command(desk_run, tmp_path / "labels.csv", tmp_path / "drawn", None)
    (row,) = [
        one for one in csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())) if one["slide_id"] == "gamma"
    ]
    assert (row["label"], row["patient_id"]) == ("3", "patient-gamma")
    (drawn,) = json.loads((tmp_path / "drawn" / "gamma.geojson").read_text())["features"]
    assert shape(drawn["geometry"]).area > 100 * 100

    page.reload()
    reader.wait_for_slide()
    expect_trail(reader, "Corrected to Grade group 3 (4 + 3)", "Drew a region: Gleason 4")
    page.locator(".trail").get_by_role("button", name="Undo").click()
    page.wait_for_selector(".crumbs .state.open")
    expect_trail(
        reader, f"Took back entry {signed['entry']}", "Corrected to Grade group 3 (4 + 3)", "Drew a region: Gleason 4"
    )
    page.goto(page.url + "/print")
    page.wait_for_selector("#sheet[aria-busy=false]")
    assert page.inner_text("#last-hash") != signed["hash"], "the undo is the last entry"


def test_keys_alone_sign_and_go_on(visitor: Callable[..., Any], desk: str) -> None:
    from playwright.sync_api import expect

    reader = visitor(desk).sign_in().open_case("delta")
    reader.press("a", "Enter")
    reader.page.wait_for_selector(".crumbs .state.accepted")
    reader.press("n")
    expect(reader.page.locator("h1")).to_have_text("epsilon")
    reader.wait_for_slide()
    reader.press("x", "Enter")
    expect(reader.page.locator(".toast")).to_contain_text("Say why")
    reader.page.locator(".decision .choice", has_text="Out of focus").click()
    reader.press("Shift+Enter")
    expect(reader.page.locator("h1")).to_have_text("zeta")


def test_two_readers_do_not_take_one_case(visitor: Callable[..., Any], desk: str) -> None:
    from playwright.sync_api import expect

    first = visitor(desk).sign_in().open_case("eta")
    second = visitor(desk).sign_in("moss").open_case("eta")
    second.expected = ("status of 409",)
    notice = second.page.locator(".notice")
    expect(notice).to_contain_text("Dr. Ann Grey has this case until")
    second.press("a")
    expect(second.page.locator(".toast")).to_contain_text("Dr. Ann Grey")
    first.press("w")
    first.page.wait_for_selector("#rows tr")
    second.page.reload()
    second.wait_for_slide()
    expect(notice).to_be_hidden()


def test_what_was_signed_while_the_desk_is_away_arrives_once(visitor: Callable[..., Any], desk: str) -> None:
    reader = visitor(desk).sign_in().open_case("zeta")
    reader.expected = AWAY
    reader.page.context.set_offline(True)
    reader.press("a", "Enter")
    reader.page.wait_for_selector(".pending:not([hidden])")
    waiting = json.loads(reader.page.evaluate("sessionStorage.getItem('histograde.draft.outbox')"))
    assert [letter["body"]["action"] for letter in waiting] == ["accept"]
    reader.page.context.set_offline(False)
    reader.page.wait_for_selector(".crumbs .state.accepted")
    expect_trail(reader, "Accepted: Grade group 2")
    assert reader.page.evaluate("sessionStorage.getItem('histograde.draft.outbox')") is None


def test_two_slides_of_a_patient_move_in_step(visitor: Callable[..., Any], desk: str) -> None:
    reader = visitor(desk).sign_in().open_case("alpha")
    reader.press("b")
    reader.page.wait_for_selector(".lock[aria-pressed=true]")
    reader.press("4")
    expect_times(reader, "20×", "20×")
    reader.press("k", "3")
    expect_times(reader, "10×", "20×")


def test_what_was_typed_outlives_a_reload_but_no_password_does(visitor: Callable[..., Any], tmp_path: Path) -> None:
    from tests.workflows.review.browser_desk import draw_slide, grade, save_graded, serve_desk

    path = draw_slide(tmp_path / "drawn.svs", (1200, 1000), 0.25, (200, 200, 448, 448))
    run = save_graded(tmp_path / "run", [(path, grade(path, [(200, 200), (648, 200)]))])
    with serve_desk(run, sign_with_password=True) as address:
        reader = visitor(address).sign_in().open_case("drawn")
        page = reader.page
        reader.press("r")
        place = page.locator(".picture").bounding_box()
        page.mouse.move(place["x"] + 300, place["y"] + 200)
        page.mouse.down()
        page.mouse.move(place["x"] + 420, place["y"] + 300, steps=5)
        page.mouse.up()
        page.wait_for_selector(".region-form:not([hidden])")
        page.locator("h1").click()
        reader.press("s")
        page.fill("textarea", "half a sentence")
        page.fill("input[type=password]", "not to be kept")
        page.reload()
        reader.wait_for_slide()
        assert page.input_value("textarea") == "half a sentence"
        assert page.get_attribute("[data-action=second_look]", "aria-pressed") == "true"
        assert page.input_value("input[type=password]") == ""
        assert page.locator(".region-form").is_visible()
        assert "not to be kept" not in page.evaluate("JSON.stringify({...sessionStorage, ...localStorage})")


@pytest.mark.parametrize("name", ["CMU-1-Small-Region", "TCGA-DU-6399-01A-01-TS1"])
def test_real_slides_are_seen_at_full_resolution(
    visitor: Callable[..., Any], shared_data: Path, tmp_path: Path, name: str
) -> None:
    from tests.workflows.review.browser_desk import grade, save_graded, serve_desk

    path = shared_data / "slides" / f"{name}.svs"
    corners = {"CMU-1-Small-Region": (900, 1200), "TCGA-DU-6399-01A-01-TS1": (6000, 8500)}[name]
    graded = grade(path, [corners, (corners[0] + 500, corners[1])])
    with serve_desk(save_graded(tmp_path / "run", [(path, graded)])) as address:
        reader = visitor(address).sign_in().open_case(name)
        seen: list[int] = []
        reader.page.on("response", lambda answer: seen.append(answer.status) if "/tiles/" in answer.url else None)
        reader.page.locator(".tile").first.click()
        reader.press("5", "h")
        expect_times(reader, "40×")
        reader.settle()
        assert set(seen) == {200}
        colours = reader.page.evaluate(
            "(() => { const c = document.querySelector('.openseadragon-canvas canvas'); const d ="
            " c.getContext('2d').getImageData(0, 0, c.width, c.height).data; const s = new Set();"
            " for (let i = 0; i < d.length; i += 4004) s.add(`${d[i]},${d[i + 1]},${d[i + 2]}`); return s.size; })()"
        )
        assert colours > 50, "tissue, not one flat colour"
