"""What earlier starts of a run found out about slides that cannot be processed, so that it is not found out again.

`.quarantine.jsonl` in the run's folder (or the stores') has one line a slide: sizes and times of its files, a digest of
the settings, the failure. The last line of a slide counts. It is a cache: without it the slides are tried again.
"""

import json
import os
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from workflows.config import versions
from workflows.extraction import ExtractConfig
from workflows.failures import REMEMBERED, Failure
from workflows.source_hash import source_stamp
from workflows.sources import SlideSource
from wsi.errors import WsiError
from wsi.slide import slide_files
from wsi.slide_url import SlideUrl

LEDGER = ".quarantine.jsonl"


class Ledger:
    """Failures by slide, kept in a file.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LEDGER
        self._lines: dict[str, dict[str, Any]] = {}
        try:
            written = self._path.read_bytes().split(b"\n")
        except OSError:
            written = []
        for line in written:
            try:
                said = json.loads(line)
                self._lines[said["slide_id"]] = said
            except (ValueError, KeyError, TypeError):  # half a line of a start that was killed
                continue

    def known(self, source: SlideSource, config: ExtractConfig) -> Failure | None:
        """Why a slide was quarantined earlier, if nothing has changed since: its files, the settings, the program."""
        said = self._lines.get(source.slide_id)
        if said is None or said.get("identity") != _identity(source, config):
            return None
        try:
            return Failure(**said["failure"])
        except (KeyError, TypeError):
            return None

    def add(self, source: SlideSource, config: ExtractConfig, failure: Failure) -> None:
        """Remember a failure if it is one that lasts. Never fails: a line that cannot be written is left out."""
        identity = _identity(source, config)
        if failure.error_class not in REMEMBERED or identity is None:
            return
        said = {"slide_id": source.slide_id, "identity": identity, "failure": asdict(failure)}
        self._lines[source.slide_id] = said
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError:
            return
        try:
            os.write(file, b"\n" + json.dumps(said).encode() + b"\n")
        except OSError:
            pass
        finally:
            os.close(file)


def _identity(source: SlideSource, config: ExtractConfig) -> str | None:
    """A digest of everything on which a failure depends; None for a slide on a server, or one that is not there.

    A better copy may have the size and the modification time of the worse one, but not the time of its writing.
    """
    if isinstance(source.path, SlideUrl):
        return None
    try:
        stamp = [source_stamp(source), sorted(part.stat().st_ctime_ns for part in slide_files(source.path))]
    except (WsiError, OSError):
        return None
    settings = [source.mpp, source.fallback_mpp, config.recipe, config.reader, config.max_bad, config.encoder]
    settings.append(config.policy.task_limit_s)
    said = json.dumps([stamp, settings, versions()], sort_keys=True, default=str)
    return sha256(said.encode()).hexdigest()
