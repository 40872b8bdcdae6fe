"""What is shown of a run while it runs, without a terminal."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from workflows.listeners import ChunkDone, Listener, Listeners, Plan, SlideResult
from workflows.progress import clock, dashboard_address, listening
from workflows.sources import SlideSource

CLIENT = SimpleNamespace(dashboard_link="http://127.0.0.1:8787/status")
DASHBOARD = "distributed.dashboard.scheduler"


class Ear(Listener):
    """Notes what it hears."""

    def __init__(self, heard: list[tuple[str, str]], name: str) -> None:
        self._heard, self._name = heard, name

    def begin(self, slides: int) -> None:
        self._heard.append((self._name, "begin"))

    def found(self, slides: int) -> None:
        self._heard.append((self._name, f"found {slides}"))

    def note(self, message: str) -> None:
        self._heard.append((self._name, message))

    def planned(self, plan: Plan) -> None:
        self._heard.append((self._name, "planned"))

    def chunk(self, done: ChunkDone) -> None:
        self._heard.append((self._name, "chunk"))

    def slide(self, result: SlideResult) -> None:
        self._heard.append((self._name, "slide"))


def tell_all(listener: Listener) -> None:
    listener.begin(1)
    listener.found(2)
    listener.note("a word")
    listener.planned(Plan("s", "00", 5, None, (0,), {}, []))
    listener.chunk(ChunkDone("s", 0, 5, 0, {}))
    listener.slide(SlideResult(SlideSource("s", "s.svs", "s")))


EVENTS = ("begin", "found 2", "a word", "planned", "chunk", "slide")


def test_several_listeners_hear_everything_in_their_order() -> None:
    heard: list[tuple[str, str]] = []
    tell_all(Listeners(Ear(heard, "a"), Ear(heard, "b")))
    assert heard == [(name, event) for event in EVENTS for name in ("a", "b")]


def test_the_log_hears_it_with_the_display_and_without(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, DASHBOARD, ModuleType(DASHBOARD))
    for shown, said in ((None, f"Dask's dashboard: {CLIENT.dashboard_link}\n"), (Listener(), "")):
        heard: list[tuple[str, str]] = []
        with listening("extract", CLIENT, Ear(heard, "log"), shown) as ears:
            tell_all(ears)
        assert heard == [("log", event) for event in EVENTS]
        err = capsys.readouterr().err
        assert (said in err) if said else not err
        assert err.count("dashboard") == bool(said)


def test_without_bokeh_nothing_is_said_of_a_dashboard(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, DASHBOARD, None)
    assert dashboard_address(CLIENT) is None
    with listening("extract", CLIENT, Listener()) as ears:
        tell_all(ears)
    err = capsys.readouterr().err
    assert "extract: 1 slides" in err
    assert "dashboard" not in err


def test_durations_are_for_people() -> None:
    assert [clock(seconds) for seconds in (45, 200, 7500)] == ["45 s", "3 min 20 s", "2 h 05 min"]


def test_a_watched_folder_has_more_slides_as_time_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("grade", CLIENT, Listener()) as ears:
        ears.begin(0)
        ears.found(2)
        ears.note("a word")
        ears.slide(SlideResult(SlideSource("s", "s.svs", "s")))
        ears.slide(SlideResult(SlideSource("t", "t.svs", "t")))
    said = capsys.readouterr().err
    assert "0 slides" not in said
    assert "  a word\n" in said
    assert "  2/2 slides" in said
