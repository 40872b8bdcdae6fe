"""The report is parsed as HTML: what is on each page, where links lead, what a hostile name can do."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from mil.outliers import OutlierCheck
from workflows import pages
from workflows.gradings import ModelSummary
from workflows.pages import TEMPLATES, share_text, write_report
from workflows.results import GradedSlide

HOSTILE = '<script>alert("1")<b>&#x27; %2e?#'


class Page(HTMLParser):
    """Tags, the addresses that are asked for, and the text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.scripts = 0
        self._text: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._text).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src", "data-src") and value]
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            continue

    def handle_data(self, data: str) -> None:
        if data.strip() and "h1" in self._inside:
            self.headings.append(data.strip())
        self._text.append(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_index_lists_slides_most_urgent_first(run: Path) -> None:
    report = write_report(run)
    assert report.failures == ()
    text = Page(report.index).text
    assert 0 < text.index("severe") < text.index("mild")
    for said in (
        "Research use only. Not a medical device.",
        "Grade group 4 0.80",
        "grade group 4 (0.80); 17 % of tiles unreadable",
        "1 of 6",
        "dark tissue not_brightfield is fluorescence leave it out",
        "Quadratic weighted kappa 0.910 0.860 – 0.950",
        "5-fold cross-validation by patient",
        "calibrated Temperature scaling on 60 held-out slides.",
        "A, B",
        "Most urgent first: expected severity",
    ):
        assert said in text, said


def test_a_slide_page_says_everything(run: Path) -> None:
    write_report(run)
    text = Page(run / "report" / "slides" / "severe.html").text
    for said in (
        "place 1 of 2",
        "Grade group 4 probability 0.80 calibrated",
        "Grade group 0 0.04",
        "Attention, times the mean tile",
        "Evidence for Grade group 3, probability of the tile alone",
        "1 3.0 × the mean attention evidence 0.00 for Grade group 4 x 70 µm, y 25 µm",  # (140, 50) px0 at 0.5 um
        "Tissue 2.50 mm²",
        "Unreadable tiles 1 (17 %); left out of the grade",
        "x 90 µm, y 45 µm cannot be decoded",
        "Out of focus 0.02",
        "sha256 ffffffffffffffff",
        "0.5 µm, from aperio.MPP",
        "openslide as aperio",
        "40 px at 0.5 µm/px, every 40 px",
        "abc123def456",
        "Never saw <another> stain.",
    ):
        assert said in text, said


def test_a_slide_unlike_training_is_marked_with_its_reasons(
    tmp_path: Path, make_run: Callable, make_slide: Callable, model: ModelSummary
) -> None:
    scanner = "other scanner (colour of the empty glass)"
    odd = make_slide("odd", outlier=OutlierCheck(0.016, 0.05, 60, ("other stain", scanner), {"stain": 9.5}))
    like = make_slide("like", outlier=OutlierCheck(0.5, 0.05, 60))
    checks = replace(model, false_alarms=0.05, outliers="Slides unlike the training slides are flagged.")
    folder = write_report(make_run(tmp_path / "run", [odd, like], checks)).index.parent
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert "<dt>Unlike training</dt><dd>1</dd>" in index
    assert index.count('<span class="tag warn">unlike training</span>') == 1
    assert "unlike training: other stain, other scanner" in index
    assert "false alarms at most 5 %" in index
    said = {name: (folder / "slides" / f"{name}.html").read_text(encoding="utf-8") for name in ("odd", "like")}
    assert f"unlike the training slides</span> other stain; {scanner}" in said["odd"]
    assert "1.6 % of slides like those are as odd" in said["odd"]
    assert ">like the training slides</span>" in said["like"]
    assert all(checks.outliers in text for text in said.values())
    older = write_report(make_run(tmp_path / "older", [make_slide("s")])).index.parent
    assert "not checked" in (older / "index.html").read_text(encoding="utf-8")
    assert "not held against the training slides" in (older / "slides" / "s.html").read_text(encoding="utf-8")


def test_links_lead_to_files_within_the_folder(tmp_path: Path, make_run: Callable, make_slide: Callable) -> None:
    run = make_run(tmp_path / "run", [make_slide(HOSTILE, predicted=5), make_slide("plain", predicted=0)])
    report = write_report(run).index.parent.resolve()
    asked = set()
    for path in report.rglob("*.html"):
        for address in Page(path).addresses:
            if address.startswith("data:,"):
                continue
            assert not re.match(r"[a-z]+:|//|/", address), address
            target = (path.parent / unquote(address.split("#")[0])).resolve() if not address.startswith("#") else path
            assert target.is_file(), address
            assert target.is_relative_to(report)
            asked.add(target)
    assert {path for path in report.rglob("*") if path.is_file()} == asked | {report / "index.html"}
    assert "url(" not in (report / "style.css").read_text()


def test_a_hostile_name_is_text(tmp_path: Path, make_run: Callable, make_slide: Callable) -> None:
    slide = make_slide(HOSTILE, patient_id='"><img src=x onerror=alert(2)>')
    run = make_run(tmp_path / "run", [slide])
    report = write_report(run)
    for path in (report.index, run / "report" / "slides" / f"{HOSTILE}.html"):
        page = Page(path)
        assert page.tags.count("script") == 1  # its own
        assert "onerror" in page.text
        assert HOSTILE in page.text
        assert all("x onerror" not in address for address in page.addresses)


def test_the_same_run_gives_the_same_bytes_anywhere(run: Path) -> None:
    first = contents(write_report(run).index.parent)
    moved = run.with_name("moved")
    shutil.copytree(run, moved)
    (moved / "report" / "slides" / "old.html").touch()
    assert contents(write_report(moved).index.parent) == first
    assert not (moved / ".report.partial").exists()


def test_a_damaged_slide_keeps_its_line_and_the_others_their_pages(run: Path) -> None:
    (run / "slides" / "severe" / "scores.npz").write_bytes(b"x")
    report = write_report(run)
    assert [one.slide_id for one in report.failures] == ["severe"]
    index = Page(report.index)
    assert "severe" in index.text
    assert not any("severe" in address for address in index.addresses)
    assert (run / "report" / "slides" / "mild.html").is_file()


def test_uncalibrated_and_unordered(
    tmp_path: Path, make_run: Callable, make_slide: Callable, model: ModelSummary
) -> None:
    classes = ("benign", "tumour")
    slide: GradedSlide = make_slide("s", predicted=1)
    slide = replace(
        slide, task="class", classes=classes, probabilities=slide.probabilities[:2] / slide.probabilities[:2].sum(),
        predicted="tumour", calibrated=False, evidence=slide.evidence[:, :2],
    )  # fmt: skip
    changed = replace(
        model, task="class", classes=classes, calibrated=False, calibration="Nothing was done.", metrics=()
    )
    report = write_report(make_run(tmp_path / "run", [slide], changed))
    text = Page(report.index).text
    assert "tumour 0.95 not calibrated" in text
    assert "Probabilities not calibrated" in text
    assert "No held-out metrics were recorded" in text
    assert "Grade" not in Page(report.index).headings[0].split()
    assert "tumour probability 0.95 not calibrated Nothing was done." in Page(run_page(report.index, "s")).text


def run_page(index: Path, slide_id: str) -> Path:
    return index.parent / "slides" / f"{slide_id}.html"


def test_an_empty_run_has_a_page(tmp_path: Path, make_run: Callable) -> None:
    assert "No slide was graded in this run." in Page(write_report(make_run(tmp_path / "run", [])).index).text


def test_a_long_worklist_is_cut_into_pages(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "SLIDES_PER_PAGE", 1)
    folder = write_report(run).index.parent
    assert "severe" in Page(folder / "index.html").text
    assert "mild" not in Page(folder / "index.html").text
    assert "mild" in Page(folder / "page-2.html").text
    assert "page-2.html" in Page(folder / "index.html").addresses


def test_previews_are_small_and_load_late(run: Path) -> None:
    report = write_report(run)
    assert max(path.stat().st_size for path in (run / "report" / "previews").iterdir()) < 20_000
    images = re.findall(r"<img [^>]*>", report.index.read_text())
    assert len(images) == 2
    assert all('loading="lazy"' in image and "width=" in image and "height=" in image for image in images)


def test_shares() -> None:
    assert [share_text(value) for value in (0, 0.004, 0.052, 0.124, 1)] == ["0 %", "0.4 %", "5.2 %", "12 %", "100 %"]


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, WCAG 2.2."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[0 if theme == "light" else 1]))
    pairs = [(ink, back) for ink in ("ink", "soft", "link", "warn") for back in ("page", "card", "faint")]
    pairs += [("good", "good-back"), ("warn", "warn-back"), ("page", "accent")]
    for ink, back in pairs:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, back)


@pytest.mark.browser
def test_sorting_finding_and_choosing_a_map_work_in_a_browser(run: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    folder = write_report(run).index.parent
    drive = {
        "index.html": """
            const rows = () => [...document.querySelectorAll('#slides tbody tr')];
            const names = () => rows().filter(row => !row.hidden).map(row => row.dataset.slide);
            const said = [names()];
            document.querySelector('[data-sort=grade]').click(); document.querySelector('[data-sort=grade]').click();
            said.push(names());
            const find = document.getElementById('find');
            find.value = 'GROUP 4';
            find.dispatchEvent(new Event('input'));
            said.push(names());""",
        "slides/mild.html": """
            const said = [document.getElementById('layer').getAttribute('src')];
            document.querySelectorAll('input[name=map]')[2].click();
            said.push(document.getElementById('layer').getAttribute('src'));
            said.push([...document.querySelectorAll('.legend')].filter(l => !l.hidden).map(l => l.dataset.layer));""",
    }
    said = []
    for name, script in drive.items():
        page = folder / name
        page.write_text(page.read_text() + f"<script>{script} document.title = JSON.stringify(said);</script>")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
        dump = subprocess.run(
            [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        title = re.search(r"<title>(.*?)</title>", dump)
        assert title is not None
        said.append(title.group(1))
    assert said == [
        '[["severe","mild"],["mild","severe"],["severe"]]',
        '["mild/attention.png","mild/evidence_1.png",["2"]]',
    ]
