"""Where the slides of a run were when it graded them: `sources.csv`, a list that every command takes as SLIDES."""

import csv
import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from workflows.sources import SlideSource, read_slide_list
from wsi.errors import UsageError
from wsi.files import write_atomic
from wsi.slide_url import SlideUrl

SOURCES = "sources.csv"
COLUMNS = ("slide_id", "path", "patient_id", "site", "mpp")


def save_sources(run: Path, sources: Iterable[SlideSource]) -> None:
    """Write the list, sorted; slides that earlier starts have listed stay. A list that was damaged is begun anew."""
    try:
        known = load_sources(run)
    except UsageError:  # no grade is worth losing over it
        known = {}
    known |= {source.slide_id: source for source in sources}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for slide_id in sorted(known):
        one = known[slide_id]
        place = one.path if isinstance(one.path, SlideUrl) else one.path.absolute()  # a URL without what it may sign
        mpp = "" if one.mpp is None else ",".join(f"{side:.10g}" for side in one.mpp)
        writer.writerow((slide_id, place, one.patient_id, one.site, mpp))
    write_atomic(run / SOURCES, text.getvalue().encode())


def load_sources(run: Path) -> dict[str, SlideSource]:
    """Sources by slide_id; empty for a run of a version that kept no list.

    Raises
    ------
    UsageError
        If the list cannot be read.
    """
    path = run / SOURCES
    return {one.slide_id: replace(one, fallback_mpp=None) for one in read_slide_list(path)} if path.exists() else {}


__all__ = ["SOURCES", "load_sources", "save_sources"]
