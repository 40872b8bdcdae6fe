"""A folder in which slides arrive: each is given once, when it is whole.

A slide is whole when all of its files kept their sizes and times for a while, over at least two looks, no file transfer
has anything beside it, and it opens. Folders are listed again and again instead of asking the system for events,
which shares do not send.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workflows.arrival import UNSEEN, Arrival, Given, Sight, meant_by, sight_of, transfers_in
from workflows.options import WATCH_STABLE_S
from workflows.sources import SlideSource, path_source, walk_folder
from workflows.trial_opening import TrialOpening
from wsi.errors import UsageError
from wsi.store import store_path

SCAN_EVERY_S = 5.0
GIVE_UP_S = 120.0
LOOK_S, REST_S = 0.1, 0.2
"""How long one call may go on looking, and after that for how long none does, while slides are in work."""

IDLE_LOOK_S = 1.0
"""How long one call may go on looking while none is."""

AHEAD = 16
"""Slides that are tried or known to open before they are asked for."""

KNOWN_A_LOOK = 2000
"""Slides given earlier that one look compares with what they were; of more, every look takes another part."""


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """How a folder is watched.

    Attributes
    ----------
    folders : tuple of Path
    fallback_mpp : (x, y), optional
        Pixel size for slides that state none, or one that cannot be, um/px.
    leave_out : tuple of Path
        Folders that are not entered, such as the run's own.
    idle_s : float or None
        The watch is over when nothing has come or changed for so long; None for never.
    scan_every_s : float
        Time between two looks.
    stable_s : float
        How long the files of a slide must be as they are.
    give_up_s : float
        After so long without a change a slide is given though it does not open, or what a transfer left lies beside it.
    rewrite_every_s : float
        Shortest time after which the tables of a run are written anew.
    """

    folders: tuple[Path, ...]
    fallback_mpp: tuple[float, float] | None = None
    leave_out: tuple[Path, ...] = ()
    idle_s: float | None = None
    scan_every_s: float = SCAN_EVERY_S
    stable_s: float = WATCH_STABLE_S
    give_up_s: float = GIVE_UP_S
    rewrite_every_s: float = 20.0


class FolderWatch:
    """Gives the slides of folders as they become whole, those that came first first. Not for several threads.

    A slide counts once, however many ways lead to it. One that was quarantined is given again when its files have
    changed, or were gone and are back. One that was graded is not, and of two slides with one id the first stays: both
    are said, once each.

    Parameters
    ----------
    config : WatchConfig
    trial : TrialOpening, optional
        Says whether slides open.
    say : callable, optional
        Told what a person should know; standard error unless given.
    clock : callable
        Seconds that never run backwards.

    Attributes
    ----------
    config : WatchConfig
        As given.
    found : int
        Slides given so far; one that was given twice counts twice.
    say : callable
        As given; may be replaced.

    Raises
    ------
    UsageError
        If one of the folders is not there, or is left out.
    """

    def __init__(
        self,
        config: WatchConfig,
        *,
        trial: TrialOpening | None = None,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leave_out = frozenset(os.path.realpath(folder) for folder in config.leave_out)
        for folder in config.folders:
            if not folder.is_dir():
                raise UsageError(f"{folder}: no such folder; slides can be watched for in a folder that is there")
            if os.path.realpath(folder) in self._leave_out:
                raise UsageError(f"{folder}: holds what this run writes; watch another folder, or write to another")
        self.config, self._clock = config, clock
        self._trial = trial or TrialOpening()
        self.say = say or _to_standard_error
        self._arrivals: dict[str, Arrival] = {}
        self._given: dict[str, Given] = {}
        self._owners: dict[str, str] = {}
        self._ripe: deque[str] = deque()
        self._asked: dict[int, str] = {}
        self._opened: deque[str] = deque()
        self._told: set[str] = set()
        self._left: set[str] = set()
        self._believed: set[str] = set()
        self._unlisted: set[Path] = set()
        self._numbers = self._looks = 0
        self._look: Iterator[None] | None = None
        self._next_look_s = self._moved_s = clock()
        self._over = False
        self._in_work = 0
        self.found = 0

    @property
    def over(self) -> bool:
        """Whether no slide will be given any more."""
        return self._over

    @property
    def waiting(self) -> int:
        """Slides that were seen and are still to be given."""
        return len(self._arrivals) - len(self._left)

    def stop(self) -> None:
        """Give no more slides. Does so little that a signal handler may call it."""
        self._over = True

    def close(self) -> None:
        """Give no more slides, and end the process that tries them."""
        self._over = True
        self._trial.close()

    def done(self, slide_id: str, *, quarantined: bool) -> None:
        """Hear what came of a slide that was given."""
        given = self._given.get(self._owners.get(slide_id, ""))
        if given is not None and given.outcome == "in work":
            given.outcome = "quarantined" if quarantined else "graded"
            self._in_work -= 1

    def take(self) -> SlideSource | None:
        """The next slide that is whole, or None if there is none now; soon back."""
        if self._over:
            return None
        self._go_on_looking()
        self._try_out()
        while self._opened:
            if (source := self._give(self._opened.popleft())) is not None:
                return source
        self._stop_if_idle()
        return None

    def _go_on_looking(self) -> None:
        begun_s = self._clock()
        if begun_s < self._next_look_s:
            return
        if self._look is None:
            self._look = self._look_through()
        look_s, rest_s = (LOOK_S, REST_S) if self._in_work else (IDLE_LOOK_S, 0.0)
        for _ in self._look:
            if (now_s := self._clock()) - begun_s > look_s:
                self._next_look_s = now_s + rest_s
                return
        self._look = None
        self._next_look_s = self._clock() + self.config.scan_every_s

    def _look_through(self) -> Iterator[None]:
        """One look at everything; yields often, so that it can be left and taken up again."""
        self._looks += 1
        unlisted: dict[Path, str] = {}

        def failed(folder: Path, error: OSError) -> None:
            if folder in self.config.folders or not isinstance(error, FileNotFoundError):
                unlisted[folder] = error.strerror or str(error)

        for top in self.config.folders:
            for listing in walk_folder(top, failed, self._leave_out):
                yield
                if any(map(meant_by, listing.folder.relative_to(top).parts)):
                    continue
                transfers = transfers_in(listing.names)
                for name in listing.slides:
                    place = os.path.join(listing.real, name)
                    place = os.path.realpath(place) if name in listing.links else place
                    beside = not transfers.keys().isdisjoint((name, os.path.splitext(name)[0]))
                    self._see(place, listing.folder / name, transfers, beside=beside)
                    yield
                if listing.is_slide:
                    self._see(listing.real, listing.folder, transfers, beside=bool(transfers))
        self._tell_unlisted(unlisted)
        self._miss(tuple(os.path.join(os.path.realpath(folder), "") for folder in unlisted))
        self._ripen()

    def _see(self, place: str, path: Path, transfers: Mapping[str, list[str]], *, beside: bool) -> None:
        """Look at a slide; `beside` says that a transfer has something beside it."""
        if (given := self._given.get(place)) is not None:
            self._compare(place, given)
            return
        arrival = self._arrivals.get(place)
        if arrival is not None and (arrival.seen == self._looks or (arrival.is_whole and not beside)):
            arrival.seen = self._looks
            return
        sight = sight_of(path, transfers)
        if arrival is None:
            self._arrive(place, path_source(path, self.config.fallback_mpp), sight)
        elif arrival.sight != sight:
            self._arrive(place, arrival.source, sight, arrival)
        else:
            arrival.looks += 1
            arrival.seen = self._looks

    def _arrive(self, place: str, source: SlideSource, sight: Sight, before: Arrival | None = None) -> None:
        self._numbers += 1
        now_s = self._moved_s = self._clock()
        self._left.discard(place)
        same = before is not None and (sight.content, sight.transfers) == (before.sight.content, before.sight.transfers)
        content_since_s = before.content_since_s if before is not None and same else now_s
        self._arrivals[place] = Arrival(self._numbers, source, sight, now_s, content_since_s, self._looks)

    def _compare(self, place: str, given: Given) -> None:
        """See whether a slide that was given is still what it was."""
        given.seen = self._looks
        turns = -(-len(self._given) // KNOWN_A_LOOK)
        if given.outcome == "in work" or (not given.gone and (given.number - self._looks) % turns):
            return
        sight = sight_of(given.path)
        if sight == UNSEEN:
            return
        if given.outcome == "quarantined" and (given.gone or self._is_replaced(place, given.sight, sight)):
            del self._given[place]
            self._arrive(place, path_source(given.path, self.config.fallback_mpp), sight)
        elif given.outcome == "graded" and sight.content != given.sight.content and not given.told:
            given.told = True
            self.say(f"{given.path}: has changed since it was graded, and is not graded again in this run")
        given.gone = False

    def _is_replaced(self, place: str, before: Sight, now: Sight) -> bool:
        """Whether files were written again. By ctimes alone that is believed once: some shares change them at will."""
        if now.content != before.content:
            return True
        if now.files == before.files or place in self._believed:
            return False
        self._believed.add(place)
        return True

    def _tell_unlisted(self, unlisted: Mapping[Path, str]) -> None:
        for folder in unlisted.keys() - self._unlisted:
            self.say(f"{folder}: cannot be listed ({unlisted[folder]}); tried again every few seconds")
        for folder in filter(Path.is_dir, self._unlisted - unlisted.keys()):
            self.say(f"{folder}: can be listed again")
        self._unlisted = set(unlisted)

    def _miss(self, unlisted: tuple[str, ...]) -> None:
        """Forget slides that are not there any more, but none that may lie where nobody can look."""
        for place, arrival in list(self._arrivals.items()):
            if arrival.seen != self._looks and not place.startswith(unlisted):
                self._drop(place)
        for place, given in self._given.items():
            if given.seen != self._looks and not place.startswith(unlisted):
                given.gone = True

    def _ripen(self) -> None:
        """Choose what is to be tried, and give up on what has not opened for long, in the order of arrival."""
        now_s = self._clock()
        ripe = []
        for place, arrival in self._arrivals.items():
            still_s = self.config.give_up_s if arrival.sight.transfers else self.config.stable_s
            still = arrival.looks >= 2 and now_s - arrival.since_s >= still_s
            still = still or (arrival.seen == self._looks and self._is_old(arrival))
            if arrival.state == "coming" and still:
                arrival.state = "ripe"
            if arrival.state in ("ripe", "left"):
                ripe.append((arrival.sight.newest_ns, place))
            elif arrival.state == "refused" and now_s - arrival.since_s >= self.config.give_up_s:
                arrival.state = "opens"
                self._opened.append(place)
        self._ripe = deque(place for _, place in sorted(ripe))

    def _is_old(self, arrival: Arrival) -> bool:
        """Whether nothing but ctimes has changed for so long that they cannot come from a copy."""
        return self._clock() - arrival.content_since_s >= self.config.give_up_s

    def _try_out(self) -> None:
        for number, opens in self._trial.answers():
            place = self._asked.pop(number)
            arrival = self._arrivals.get(place)
            if arrival is not None and arrival.number == number:
                arrival.state = "opens" if opens else "refused"
                if opens:
                    self._opened.append(place)
        while self._ripe and self._trial.pending + len(self._opened) < AHEAD:
            place = self._ripe.popleft()
            arrival = self._arrivals.get(place)
            if arrival is not None and arrival.state in ("ripe", "left") and self._has_its_name(place, arrival):
                arrival.state = "asked"
                self._left.discard(place)
                self._asked[arrival.number] = place
                self._trial.ask(arrival.number, arrival.source)

    def _give(self, place: str) -> SlideSource | None:
        arrival = self._arrivals.get(place)
        if arrival is None or arrival.state != "opens" or not self._has_its_name(place, arrival):
            return None
        source, sight = arrival.source, sight_of(_path(arrival.source))
        if sight.content != arrival.sight.content or (sight.files != arrival.sight.files and not self._is_old(arrival)):
            self._arrive(place, source, sight)
            return None
        self._drop(place)
        self._in_work += 1
        self._given[place] = Given(arrival.number, _path(source), sight, arrival.seen)
        self._owners[source.slide_id] = place
        self._moved_s = self._clock()
        self.found += 1
        return source

    def _has_its_name(self, place: str, arrival: Arrival) -> bool:
        """Whether the slide can be called what it is called; else it is left lying, which is said once."""
        slide_id, path = arrival.source.slide_id, _path(arrival.source)
        try:
            store_path(".", slide_id)
        except UsageError as error:
            return self._leave(place, arrival, str(error))
        owner_place = self._owners.get(slide_id, place)
        owner = self._given.get(owner_place)
        if owner_place == place or (owner is None and owner_place not in self._arrivals):
            return True
        if owner is not None and owner.gone:
            if owner.outcome == "quarantined":
                del self._given[owner_place]
                return True
            if owner.outcome == "graded" and owner.sight.content == arrival.sight.content:  # it was moved here
                self._given[place] = self._given.pop(owner_place)
                owner.path, owner.sight, owner.seen, owner.gone = path, arrival.sight, self._looks, False
                self._owners[slide_id] = place
                self._drop(place)
                return False
        first = owner_place if owner is None else owner.path
        return self._leave(place, arrival, f"left out, since {first} has the same slide_id; rename one of the two")

    def _leave(self, place: str, arrival: Arrival, reason: str) -> bool:
        arrival.state = "left"
        self._left.add(place)
        if place not in self._told:
            self._told.add(place)
            self.say(f"{arrival.source.path}: {reason}")
        return False

    def _drop(self, place: str) -> None:
        del self._arrivals[place]
        self._left.discard(place)

    def _stop_if_idle(self) -> None:
        idle_s = self.config.idle_s
        if idle_s is None or self._look is not None or not self._looks:
            return
        if self._clock() - self._moved_s >= idle_s and not self.waiting:
            self._over = True


def _path(source: SlideSource) -> Path:
    assert isinstance(source.path, Path), "folders hold files"
    return source.path


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
