"""A model in the making: the folder beside its place that a killed training goes on from."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mil.checkpoints import FitFolder
from wsi.errors import StoreBusyError
from wsi.files import write_json


@contextmanager
def unfinished(out: Path, key: str, report: Callable[[str], None]) -> Iterator[FitFolder]:
    """The folder of a training's checkpoints, `.NAME.training` beside the model's place; removed when all is done.

    What another training left there (other slides, folds, options or versions) is removed first.

    Parameters
    ----------
    out : Path
        The model folder to be.
    key : str
        Equal for trainings that come to the same model.

    Raises
    ------
    StoreBusyError
        If another process trains this model.
    """
    place = out.absolute().with_name(f".{out.absolute().name}.training")
    place.mkdir(parents=True, exist_ok=True)
    with _alone(place / "lock", out):
        if _key_of(place) != key:
            _clear(place)
            write_json(place / "key.json", {"key": key})
        elif done := sorted(path.parent.name for path in place.glob("fold-*/fit.json")):
            report(f"goes on with a training that was cut off; done: {', '.join(done)}")
        elif any(place.rglob("checkpoint")):
            report("goes on with a training that was cut off")
        try:
            yield FitFolder(place)
        except Exception:
            if not any(path.is_dir() for path in place.iterdir()):
                shutil.rmtree(place)
            raise
        shutil.rmtree(place)


def _clear(place: Path) -> None:
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _key_of(place: Path) -> str | None:
    try:
        return str(json.loads((place / "key.json").read_bytes())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _alone(path: Path, out: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusyError(f"{out}: another process is training this model; wait for it to end") from None
        if os.fstat(descriptor).st_nlink == 0:
            raise StoreBusyError(f"{out}: another process has just trained this model; run the command again")
        yield
    finally:
        os.close(descriptor)
