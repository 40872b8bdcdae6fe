"""A real desk on loopback and a real browser at it: runs of drawn slides, users, and what the browser complained of."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import Browser, Page
from shapely import MultiPolygon, box

from mil.prediction import ClassSet
from tests.hostile.makers import tissue_pixels
from tests.workflows.conftest import MODEL, save_run
from tests.workflows.review.at_the_desk import PASSWORD
from workflows.results import GradedSlide, TopTile
from workflows.review.app import create_app
from workflows.review.desk import Settings
from workflows.review.serving import listen
from workflows.review.users import add_user
from workflows.run_sources import save_sources
from workflows.sources import SlideSource
from wsi.slide import open_slide, thumbnail
from wsi.synthetic.svs import Jpeg, write_svs
from wsi.tiles import BadTile, TileGrid, TileSpec

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
GREEN = (0, 150, 0)
CALM_S = 0.25
TILE_PX, TILE_MPP = 224, 0.5


def draw_slide(path: Path, size_px0: tuple[int, int], mpp: float, cell: tuple[float, float, float, float]) -> Path:
    """A slide of drawn tissue with one green rectangle (x, y, w, h), level-0 px."""
    width, height = size_px0
    pixels = np.tile(tissue_pixels(512, 512), (height // 512 + 2, width // 512 + 2, 1))
    x, y, w, h = cell
    pixels[round(y) : round(y + h), round(x) : round(x + w)] = GREEN

    def block(x_px0: int, y_px0: int, w_px: int, h_px: int) -> np.ndarray:
        found = np.full((h_px, w_px, 3), 240, np.uint8)
        part = pixels[y_px0 : y_px0 + h_px, x_px0 : x_px0 + w_px]
        found[: part.shape[0], : part.shape[1]] = part
        return found

    write_svs(path, path.stem[:20], size_px0, mpp, Jpeg(95, "4:4:4"), block)
    return path


def grade(
    path: Path,
    corners: list[tuple[int, int]],
    *,
    slide_id: str = "",
    patient_id: str = "patient-1",
    predicted: int = 3,
    scored: list[int] | None = None,
    bounds_px0: tuple[int, int, int, int] | None = None,
) -> GradedSlide:
    """A slide as `grade` would have left it, with tiles at these corners; the first has most of the attention."""
    slide = open_slide(path)
    info = replace(slide.info, slide_id=slide_id or path.stem, bounds_px0=bounds_px0 or slide.info.bounds_px0)
    side = tuple(TILE_PX * TILE_MPP / mpp for mpp in info.require_mpp())
    rows = np.array(scored if scored is not None else range(len(corners) - 1))
    attention = 0.5 ** np.arange(1, len(rows) + 1)
    probabilities = np.full(6, 0.04)
    probabilities[predicted] = 0.8
    left, top, width, height = info.bounds_px0
    try:
        small = thumbnail(slide, 800)
    finally:
        slide.close()
    return GradedSlide(
        info=info,
        patient_id=patient_id,
        task="grade",
        classes=MODEL.classes,
        probabilities=probabilities,
        predicted=str(predicted),
        calibrated=True,
        model_id=MODEL.model_id,
        seconds=1.0,
        grid=TileGrid(
            TileSpec(TILE_PX, TILE_MPP, TILE_PX),
            np.array(corners, np.int32),
            np.ones(len(corners), np.float32),
            (side[0], side[1]),
        ),
        rows=rows,
        attention=attention / attention.sum(),
        evidence=np.linspace(0.1, 0.9, len(rows))[:, None] * np.ones(6),
        bad=tuple(BadTile(row, "cannot be decoded") for row in set(range(len(corners))) - set(rows.tolist())),
        tissue=MultiPolygon([box(left + 40, top + 40, left + width - 40, top + height - 40)]),
        tissue_area_um2=2_500_000.0,
        thumbnail=small,
        top_tiles=tuple(TopTile(int(row), np.full((224, 224, 3), 150, np.uint8)) for row in rows[:3]),
        class_set=ClassSet(tuple(sorted({str(predicted), "4"})), 0.9),
    )


def save_graded(run: Path, slides: list[tuple[Path, GradedSlide]]) -> Path:
    """A run folder of graded slides that knows where their files are."""
    save_run(run, [one for _, one in slides])
    save_sources(run, [SlideSource(one.info.slide_id, path, one.patient_id, "") for path, one in slides])
    return run


@contextmanager
def serve_desk(run: Path, **settings: Any) -> Iterator[str]:
    """The desk of a run on a free port of loopback; gives its address. The reader is `grey`, the reviewer `moss`."""
    app = create_app(Settings(run, **settings))
    engine = app.state.desk.engine
    add_user(engine, "grey", "reader", PASSWORD, full_name="Dr. Ann Grey", sees_patients=True)
    add_user(engine, "moss", "reviewer", PASSWORD, full_name="Dr. Ben Moss")
    listening = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


WINDOW: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}


@dataclass
class Visitor:
    """A page of the browser, and what it complained of. `expected` are parts of complaints that a test provokes."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list)
    waits_for: set[Any] = field(default_factory=set)

    def sign_in(self, name: str = "grey", way: str = "/") -> "Visitor":
        """Through the door, and on to a page of the desk."""
        self.page.goto(f"/login?next={way}")
        self.page.fill("#name", name)
        self.page.fill("#password", PASSWORD)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(f"**{way}")
        return self

    def open_case(self, slide_id: str) -> "Visitor":
        """From the worklist to a case whose slide is on the screen, and whose tiles have come."""
        self.page.locator("#rows").get_by_role("link", name=slide_id, exact=True).click()
        return self.wait_for_slide()

    def wait_for_slide(self) -> "Visitor":
        self.page.wait_for_selector(".heat")
        self.settle()
        return self

    def settle(self) -> None:
        """Until nothing has been fetched for a while; nothing glides where motion is reduced."""
        calm_since = time.monotonic()
        while time.monotonic() < calm_since + CALM_S:
            self.page.wait_for_timeout(50)
            if self.waits_for:
                calm_since = time.monotonic()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def unexpected(self) -> list[str]:
        return [one for one in self.complaints if not any(part in one for part in self.expected)]


def visit(browser: Browser, address: str, **options: Any) -> Visitor:
    """A fresh browser profile at the desk; every error, warning and foreign request is written down."""
    context = browser.new_context(base_url=address, **{**WINDOW, **options})
    context.set_default_timeout(15_000)
    visitor = Visitor(context.new_page(), address)
    say = visitor.complaints.append
    visitor.page.on("pageerror", lambda error: say(f"uncaught: {error}"))
    visitor.page.on(
        "console", lambda told: say(f"{told.type}: {told.text}") if told.type in ("error", "warning") else None
    )

    def note(request: Any) -> None:
        visitor.asked.append(request.url)
        visitor.waits_for.add(request)
        if not request.url.startswith((address, "data:", "blob:")):
            say(f"foreign: {request.url}")

    visitor.page.on("request", note)
    for end in ("requestfinished", "requestfailed"):
        visitor.page.on(end, lambda request: visitor.waits_for.discard(request))
    return visitor
