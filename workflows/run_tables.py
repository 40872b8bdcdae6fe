"""What a grading run has come to, and the tables in its folder that say so: during the run as well as at its end."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows.gradings import Grading, ModelSummary, Quarantined
    from workflows.listeners import SlideResult

MOST_TOLD = 10
"""The most urgent slides are told on the terminal; the worklist has them all."""


@dataclass(slots=True)
class GradeSummary:
    """What a run came to, by which model; `remembered` of the quarantined slides were so by an earlier start."""

    gradings: "list[Grading]"
    quarantined: "list[Quarantined]"
    seconds: float
    remembered: int = 0
    model: "ModelSummary | None" = None

    def text(self, out: Path) -> str:
        """A few lines for people."""
        from workflows.progress import clock
        from workflows.worklist import rank_slides

        total = len(self.gradings) + len(self.quarantined)
        lines = [f"{len(self.gradings)} of {total} slides graded in {clock(self.seconds)}: {out}/report/index.html"]
        lines += [f"  {place.rank}. {_told(place.grading)}" for place in rank_slides(self.gradings)[:MOST_TOLD]]
        if (rest := len(self.gradings) - MOST_TOLD) > 0:
            lines.append(f"  and {rest} less urgent (worklist.csv)")
        if self.model and self.gradings:
            lines += [self.model.calibration, self.model.sets, self.model.outliers]
        if self.quarantined:
            before = f", {self.remembered} of them known from an earlier start" if self.remembered else ""
            lines.append(f"{len(self.quarantined)} in quarantine (quarantine.csv){before}:")
            lines += [
                f"  {one.slide_id}: {one.message} [{one.error_class}] -> {one.remedy}" for one in self.quarantined
            ]
        return "\n".join(lines)


def _told(grading: "Grading") -> str:
    """A slide's grade and set on one line: `s01: Grade group 3 (0.83), set 3-4 at 90 %`."""
    doubt = "" if grading.calibrated else ", not calibrated"
    unlike = f"; {grading.unlike_text}" if grading.unlike_text else ""
    return f"{grading.slide_id}: {grading.label} ({grading.confidence:.2f}{doubt}), set {grading.set_text}{unlike}"


class RunTables:
    """predictions.csv and .parquet, quarantine.csv, worklist.csv and run.json, out of the results so far.

    Of a slide that came twice the last result counts. `save` may be called by another thread than `add`.

    Parameters
    ----------
    run : Path
        The run's folder.
    config : mapping
        Every option as it was resolved.
    begun_s : float
        What `time.perf_counter` showed when the run began.
    earlier : iterable of Grading
        Slides that earlier starts have graded and that stay unless there is a new result.
    """

    def __init__(self, run: Path, config: Mapping[str, Any], begun_s: float, earlier: "Iterable[Grading]" = ()) -> None:
        self._run, self._config, self._begun_s = run, config, begun_s
        self._earlier = {one.slide_id: one for one in earlier}
        self._results: dict[str, SlideResult] = {}

    def add(self, result: "SlideResult") -> None:
        """One more slide is through."""
        self._results[result.source.slide_id] = result

    def save(self) -> GradeSummary:
        """Write all tables."""
        from workflows.gradings import Quarantined, save_predictions, save_quarantine
        from workflows.run_sources import save_sources
        from workflows.worklist import rank_slides, save_worklist

        found = list(self._results.values())  # in one step, as `add` may be called meanwhile
        results = sorted(found, key=lambda result: result.source.slide_id)
        failures = [result.failure for result in results if result.failure is not None]
        quarantined = [
            Quarantined(one.slide_id, one.stage, one.error_class, one.message, one.remedy) for one in failures
        ]
        by_id = {**self._earlier, **{result.source.slide_id: result.value for result in results}}
        failed = {one.slide_id for one in failures}
        gradings = [by_id[slide_id] for slide_id in sorted(by_id.keys() - failed)]
        save_predictions(self._run, gradings)
        save_quarantine(self._run, quarantined)
        save_worklist(self._run, rank_slides(gradings))
        save_sources(self._run, [result.source for result in results])
        remembered = sum(result.remembered for result in results)
        done = GradeSummary(gradings, quarantined, time.perf_counter() - self._begun_s, remembered)
        self._write_record(results, done)
        return done

    def _write_record(self, results: "list[SlideResult]", done: GradeSummary) -> None:
        from workflows.config import RunRecord, throughput
        from workflows.listeners import total_seconds
        from wsi.files import file_record

        record = RunRecord("grade", self._config)
        record.inputs = {one.source.slide_id: one.content_hash for one in results if one.content_hash}
        record.inputs["model"] = str(done.gradings[0].model_id) if done.gradings else ""
        for name in ("predictions.csv", "worklist.csv", "quarantine.csv"):
            record.outputs[name] = file_record(self._run / name)["sha256"]
        record.counts = {
            "slides": len(done.gradings) + len(done.quarantined),
            "graded": len(done.gradings),
            "quarantined": len(done.quarantined),
            "flagged": sum(one.flag_text == "yes" for one in done.gradings),
            "tiles": sum(one.tiles for one in done.gradings),
            "bad_tiles": sum(one.bad_tiles for one in done.gradings),
            "chunks_computed": sum(one.chunks for one in results),
        }
        record.timings_s = total_seconds(results) | {"wall": done.seconds}
        record.throughput = throughput(sum(one.failure is None for one in results), record.timings_s)
        record.write(self._run)
