"""What a worker keeps between tasks (encoders, open slides), and how it runs one."""

import logging
import os
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mil.encoders import Encoder, load_encoder
from workflows.extraction import ExtractConfig
from workflows.failures import failure_of
from workflows.orphans import end_with_parent
from workflows.sources import SlideSource
from wsi.errors import RecipeMismatchError
from wsi.slide import Slide
from wsi.store import FeatureStore
from wsi.store_url import StorePath

OPEN_SLIDES_A_THREAD = 2
SURELY_AFTER_S = 0.1
"""Time for word of a start to leave a worker process that may end at once."""

_encoders: dict[tuple[str, str, Any, str], Encoder] = {}
_encoder_lock = threading.Lock()
_kept = threading.local()
_kept_anywhere: "list[OrderedDict[Any, tuple[Slide, Any]]]" = []


def worker_encoder(config: ExtractConfig) -> Encoder:
    """The encoder, loaded once in a process and shared by its threads; anew if another file of weights lies there."""
    key = (config.encoder, str(config.weights), _file_stamp(config.weights), config.device)
    with _encoder_lock:
        if key not in _encoders:
            _encoders[key] = load_encoder(config.encoder, weights=config.weights, device=config.device)
        return _encoders[key]


def encoder_place(encoder: Encoder) -> str:
    """ "cpu", or which card of which machine it runs on: equal for workers that share one."""
    if encoder.device == "cpu":
        return "cpu"
    return f"{socket.gethostname()} {encoder.device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}".rstrip()


def _file_stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None or not path.is_file():
        return None
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def check_encoder_takes(config: ExtractConfig) -> None:
    """Refuse, before any slide is opened, tiles that the encoder does not take.

    Their scale and their kernel are the user's to choose: the card has what the authors used, the recipe what was used.

    Raises
    ------
    RecipeMismatchError
        If the encoder's input has another size.
    UsageError
        If there is no such encoder or it lacks its weights.
    """
    card = worker_encoder(config).card
    if card.tile_px != config.tiles.tile_px:
        raise RecipeMismatchError(
            f"the encoder {card.name} takes tile_px = {card.tile_px}, asked for is {config.tiles.tile_px}; "
            f"tiles are never resized to fit: use --tile-px {card.tile_px}"
        )


def encoder_name(config: ExtractConfig) -> str:
    """The name under which the features are published."""
    return worker_encoder(config).card.name


def slide_and_grid(
    source: SlideSource, store: StorePath, config: ExtractConfig, *, anew: bool = False
) -> tuple[Slide, Any]:
    """An open slide and its grid, the last few kept by each thread; `anew` opens it once more."""
    kept: OrderedDict[Any, tuple[Slide, Any]] = _kept.__dict__.setdefault("slides", OrderedDict())
    digest = FeatureStore(store).grid_sha256
    key = (source, config.reader, store, digest)
    if anew and key in kept:
        kept.pop(key)[0].close()
    if key not in kept:
        if not kept:
            _kept_anywhere.append(kept)
        published = FeatureStore(store)
        slide = source.open(reader=config.reader, content_hash=published.slide.content_hash)
        kept[key] = (slide, published.grid)
        while len(kept) > OPEN_SLIDES_A_THREAD:
            kept.popitem(last=False)[1][0].close()
    kept.move_to_end(key)
    return kept[key]


class _Tasks:
    """How many tasks run in this process; workers of an existing scheduler may serve several runs at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running = 0

    def begin(self) -> None:
        with self.lock:
            self.running += 1

    def end(self) -> None:
        with self.lock:
            self.running -= 1


_tasks = _Tasks()


def close_slides() -> None:
    """Close what the threads of this process have kept open, unless another run's task is at work here."""
    with _tasks.lock:
        while _kept_anywhere and not _tasks.running:
            kept = _kept_anywhere.pop()
            while kept:
                kept.popitem()[1][0].close()


def guarded(function: Callable[..., Any], slide_id: str, stage: str, said: "Start", *arguments: Any) -> Any:
    """Run a task; what goes wrong comes back as a value, so that no exception has to travel.

    What a worker loads once is loaded before the task counts as begun: it is not held against the slide.
    """
    quiet_readers()
    end_with_parent()
    _load_first(arguments)
    said.say()
    _tasks.begin()
    try:
        return function(*arguments)
    except Exception as error:  # whatever it is, it ends this slide only
        return failure_of(slide_id, stage, error)
    finally:
        _tasks.end()


def _load_first(arguments: tuple[Any, ...]) -> None:
    """Load the encoder, or what a callable says that it needs; what goes wrong the task will meet again, and say."""
    for one in arguments:
        load = partial(worker_encoder, one) if isinstance(one, ExtractConfig) else getattr(one, "load", None)
        if load is not None:
            try:
                load()
            except Exception:
                return


@dataclass(frozen=True, slots=True)
class Start:
    """How a task says that it has begun, so that it can be told which tasks ran where a worker ended or hangs.

    Attributes
    ----------
    topic : str
        Under which the run listens.
    surely : bool
        Whether the task waits until the word is out: it is suspected of ending its worker.
    """

    topic: str
    surely: bool = False

    def say(self) -> None:
        """Tell the run, by way of the scheduler, the key of the task and the worker's address."""
        from distributed import get_worker

        worker = get_worker()
        worker.log_event(self.topic, {"key": str(worker.get_current_task()), "worker": worker.address})
        if self.surely and not worker.address.startswith("inproc"):
            time.sleep(SURELY_AFTER_S)


def quiet_readers() -> None:
    """Keep tifffile from writing to the terminal what it finds odd in a file, with the file's name and texts in it."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
