"""The `heatmaps/` of a run, drawn from what the run folder holds. Neither the slides nor the model are needed."""

from collections.abc import Sequence
from pathlib import Path

from workflows.gradings import Quarantined
from workflows.results import load_run, load_slide, slide_folder
from wsi.errors import UsageError, WsiError
from wsi.exports import EXPORTS
from wsi.heatmap import SlideMaps

FOLDER = "heatmaps"


def render_run(
    run: str | Path,
    *,
    formats: Sequence[str] | None = None,
    slide_ids: Sequence[str] | None = None,
    wanted: str | None = None,
) -> list[Quarantined]:
    """Draw the heatmaps of every slide of a run, and say which slides could not be drawn.

    Parameters
    ----------
    formats : sequence of str, optional
        Names in `wsi.exports.EXPORTS`; all of them by default.
    slide_ids : sequence of str, optional
        Only these slides.
    wanted : str, optional
        The map to draw, as for `GradedSlide.maps`.

    Raises
    ------
    UsageError
        If the run, a format or a slide that is asked for does not exist.
    """
    found = load_run(run)
    check_formats(formats)
    known = [grading.slide_id for grading in found.gradings]
    for slide_id in slide_ids or ():
        if slide_id not in known:
            raise UsageError(f"slide {slide_id!r} was not graded in {run}; see its predictions.csv")
    failures = []
    for slide_id in slide_ids or known:
        try:
            render_slide(run, load_slide(run, slide_id).maps(found.model, wanted), formats=formats)
        except WsiError as error:
            failures.append(Quarantined.of(slide_id, "render", error))
    return failures


def render_slide(run: str | Path, maps: SlideMaps, *, formats: Sequence[str] | None = None) -> Path:
    """Write one slide's heatmaps into `RUN/heatmaps/<slide_id>/`; gives that folder."""
    folder = slide_folder(Path(run), maps.info.slide_id, FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXPORTS if formats is None else formats:
        EXPORTS[name].write(folder, maps)
    return folder


def check_formats(formats: Sequence[str] | None) -> None:
    """Raise `UsageError`, naming those that exist, unless all formats do."""
    for name in formats or ():
        if name not in EXPORTS:
            raise UsageError(f"no export is called {name!r}; there are: {', '.join(EXPORTS)}")
