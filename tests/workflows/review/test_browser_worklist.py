"""The worklist in a real browser: through the door, found, filtered, sorted, opened by keys; names stay text."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

NOT_SIGNED_IN = "status of 401"
CASES = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"]


def names(reader: Any) -> list[str]:
    return list(reader.page.locator("#rows th a").all_inner_texts())


def expect_names(reader: Any, expected: list[str]) -> None:
    from playwright.sync_api import expect

    expect(reader.page.locator("#rows th a")).to_have_text(expected)


def test_a_reader_finds_and_opens_a_case_by_keys(visitor: Callable[..., Any], desk: str) -> None:
    reader = visitor(desk)
    reader.expected = (NOT_SIGNED_IN,)
    reader.page.goto("/?predicted=3")
    reader.page.wait_for_url("**/login?next=*")
    reader.sign_in()
    expect_names(reader, CASES)
    assert reader.page.inner_text("#done") == "0 of 7 decided (0 %)"

    reader.press("/")
    reader.page.keyboard.type("PATIENT-1")
    expect_names(reader, ["alpha", "beta"])
    assert "q=PATIENT-1" in reader.page.url
    reader.page.fill("#search", "nothing like it")
    reader.page.wait_for_selector("#nothing:not([hidden])")
    assert "No case matches." in reader.page.inner_text("#nothing")
    reader.page.click("text=Show all cases")
    expect_names(reader, CASES)

    reader.page.select_option("#predicted", "3")
    expect_names(reader, ["delta", "epsilon"])
    reader.page.go_back()
    expect_names(reader, CASES)
    reader.page.click("th[data-sort=slide_id] button")
    expect_names(reader, sorted(CASES))
    reader.page.click("th[data-sort=slide_id] button")
    expect_names(reader, sorted(CASES, reverse=True))
    assert reader.page.get_attribute("th[data-sort=slide_id]", "aria-sort") == "descending"

    reader.page.locator("h1").click()
    reader.press("j", "j", "k", "j", "Enter")
    reader.page.wait_for_url("**/case/*")
    reader.wait_for_slide()
    assert reader.page.inner_text("h1") == sorted(CASES, reverse=True)[1]


def test_who_may_not_see_patients_sees_none(visitor: Callable[..., Any], desk: str) -> None:
    reader = visitor(desk).sign_in("moss")
    expect_names(reader, CASES)
    assert "patient-" not in reader.page.content()
    reader.open_case("eta")
    assert "patient-" not in reader.page.content()
    assert reader.page.locator("[aria-label^='Label of the slide']").count() == 0


def test_names_that_are_markup_stay_text(visitor: Callable[..., Any], tmp_path: Path) -> None:
    from tests.workflows.review.browser_desk import draw_slide, grade, save_graded, serve_desk

    name = '"><img src=x onerror="window.hacked=1"><script>window.hacked=2<'
    path = draw_slide(tmp_path / "plain.svs", (1200, 1000), 0.25, (200, 200, 448, 448))
    graded = grade(path, [(200, 200), (648, 200)], slide_id=name, patient_id="<b>patient</b>")
    with serve_desk(save_graded(tmp_path / "run", [(path, graded)])) as address:
        reader = visitor(address).sign_in()
        expect_names(reader, [name])
        reader.open_case(name)
        reader.page.fill("textarea", name)
        reader.page.click("text=Only comment")
        reader.page.wait_for_selector(".trail-list li")
        assert reader.page.inner_text("h1") == name
        assert reader.page.inner_text(".trail-list blockquote") == name
        assert "<b>patient</b>" in reader.page.inner_text(".crumbs")
        reader.page.goto(reader.page.url + "/print")
        reader.page.wait_for_selector("#sheet[aria-busy=false]")
        assert reader.page.inner_text("h1") == name
        assert reader.page.evaluate("window.hacked") is None


def test_a_long_worklist_comes_in_pages(visitor: Callable[..., Any], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    from tests.workflows.conftest import graded_slide, save_run
    from tests.workflows.review.browser_desk import serve_desk

    slides = [graded_slide(f"slide-{number:03d}", predicted=number % 6) for number in range(120)]
    with serve_desk(save_run(tmp_path / "run", slides)) as address:
        reader = visitor(address).sign_in()
        shown = reader.page.locator("#range")
        expect(shown).to_have_text("1–50 of 120")
        first = names(reader)
        assert len(first) == 50
        reader.page.click("#forth")
        expect(shown).to_have_text("51–100 of 120")
        assert not set(first) & set(names(reader))
        reader.page.click("#forth")
        expect(shown).to_have_text("101–120 of 120")
        assert reader.page.locator("#forth").is_disabled()
        reader.page.go_back()
        expect(shown).to_have_text(re.compile("^51"))
