"""`histograde demo`: the whole way on slides that it makes itself. The one verb that joins the others."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.train import TrainResult

NEW_SLIDES = 9
NEW_SEED = 1_000
"""Added to the seed for the slides that are graded: other patients than those trained on."""


def command(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for everything; again resumes.")] = Path("demo-run"),
    seed: Annotated[int, typer.Option(min=0, help="Other slides, the same job.")] = 0,
    slides: Annotated[int, typer.Option(min=12, help="Slides to train on, from three sites.")] = 60,
    encoder: Annotated[str, typer.Option(help="lite0, or toy for a quick look.")] = "lite0",
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Also show that colour alone does not give the grade.")
    ] = True,
) -> None:
    """The whole way on slides that it makes itself: start here.

    Draws prostate-like slides whose grade is in the architecture, extracts features, trains with held-out patients,
    then grades new slides, one of them damaged, and writes the report. Nothing is downloaded.

    Example: `histograde demo --out demo-run`
    """
    start = time.perf_counter()
    demo = Demo(out, seed, slides, encoder)
    demo.check()
    demo.make_slides()
    lines = demo.train(encoder, "model")
    if control and encoder != "toy":
        lines += demo.train_control()
    graded = demo.grade()
    _say("What came of it")
    typer.echo("\n".join([*lines, *graded]))
    _say(f"Done in {_clock(time.perf_counter() - start)}. Open {out / 'graded' / 'report' / 'index.html'}")


class Demo:
    """The folders of a demo and its steps; each step skips what is done."""

    def __init__(self, out: Path, seed: int, slides: int, encoder: str) -> None:
        self._out, self._seed, self._slides, self._encoder = out, seed, slides, encoder
        self._train, self._new = out / "training-slides", out / "new-slides"

    def check(self) -> None:
        """Refuse, before anything is drawn, what could not be carried through.

        Raises
        ------
        UsageError
            If the folder holds another demo or other files.
        MissingPackageError
            If an extra is not installed.
        """
        import json
        from importlib.util import find_spec

        from mil.encoders import load_encoder
        from wsi.errors import MissingPackageError, UsageError
        from wsi.files import write_json

        if missing := [name for name in ("torch", "lightning", "matplotlib", "pyarrow") if find_spec(name) is None]:
            raise MissingPackageError(f"the demo needs {', '.join(missing)}; pip install 'histograde[demo]'")
        load_encoder(self._encoder)
        asked = {"seed": self._seed, "slides": self._slides, "encoder": self._encoder}
        note = self._out / "demo.json"
        self._out.mkdir(parents=True, exist_ok=True)
        if note.exists() and json.loads(note.read_bytes()) != asked:
            raise UsageError(f"{self._out}: holds a demo with other options; choose another --out, or remove it")
        if not note.exists() and any(self._out.iterdir()):
            raise UsageError(f"{self._out}: is not empty and holds no demo; choose another --out")
        write_json(note, asked)

    def make_slides(self) -> None:
        """Draw the slides to train on and the new ones, and damage a copy of one."""
        from wsi.synthetic import make_cohort
        from wsi.threads import usable_cores

        _say(f"1. Drawing {self._slides} slides to train on and {NEW_SLIDES} new ones (40x, three sites)")
        for folder, count, seed in (
            (self._train, self._slides, self._seed),
            (self._new, NEW_SLIDES, self._seed + NEW_SEED),
        ):
            if not (folder / "labels.csv").exists():
                make_cohort(folder, slides=count, seed=seed, workers=usable_cores())
        self._list_new_slides()

    def _list_new_slides(self) -> None:
        """Damage a copy of a slide, and write the list that `grade` takes, with patients and sites."""
        import csv

        with (self._new / "labels.csv").open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        folder = self._new / "slides"
        whole = (folder / f"{rows[0]['slide_id']}.svs").read_bytes()
        (folder / "damaged-copy.svs").write_bytes(whole[: len(whole) // 3])
        with (self._new / "slides.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["slide_id", "path", "patient_id", "site"])
            for row in rows:
                path = f"slides/{row['slide_id']}.svs"
                writer.writerow([row["slide_id"], path, f"N{row['patient_id'][1:]}", row["site"]])
            writer.writerow(
                ["damaged-copy", "slides/damaged-copy.svs", f"N{rows[0]['patient_id'][1:]}", rows[0]["site"]]
            )

    def train(self, encoder: str, name: str) -> list[str]:
        """Extract, train, evaluate and localise; returns lines for the summary."""
        from workflows.evaluate import EvaluateConfig, evaluate
        from workflows.localisation import held_out_scores, localise
        from wsi.store import open_stores

        result = self._fit(encoder, name)
        held_out = self._out / name / "out_of_fold.csv"
        evaluate(EvaluateConfig(held_out, self._train / "labels.csv", self._out / "evaluation"), report=_quiet)
        stores = open_stores(self._out / "features")
        found = localise(stores, held_out_scores(self._out / name), self._train / "truth")
        return [
            f"Held-out slides, {encoder} + gated attention MIL ({self._slides} slides, 5 folds by patient, 95 % CI):",
            f"  QWK        {result.metrics['qwk']}",
            f"Tiles in tumour against other tiles, AUROC a slide ({found.slides} slides, drawn truth):",
            *found.lines(),
        ]

    def train_control(self) -> list[str]:
        """The same with colour statistics instead of an encoder."""
        result = self._fit("toy", "control-model")
        return [
            "Control, colour statistics only: the grade must not be in the colour:",
            f"  QWK        {result.metrics['qwk']}",
        ]

    def grade(self) -> list[str]:
        """Grade the new slides; returns lines for the summary."""
        from workflows.grade import GradeConfig, grade
        from workflows.sources import find_slides

        _say("3. Grading new slides, one of them damaged")
        config = GradeConfig(self._out / "model", self._out / "graded", self._out / "graded" / "features")
        return grade(find_slides([self._new / "slides.csv"]), config).text(self._out / "graded").splitlines()

    def _fit(self, encoder: str, name: str) -> "TrainResult":
        from workflows.extract import extract
        from workflows.extraction import ExtractConfig
        from workflows.sources import find_slides
        from workflows.train import TrainConfig, train

        _say(f"2. Tissue, tiles and features by {encoder}, then training with held-out patients")
        extract(find_slides([self._train / "slides"]), ExtractConfig(store=self._out / "features", encoder=encoder))
        return train(
            TrainConfig(
                store=self._out / "features",
                labels=self._train / "labels.csv",
                out=self._out / name,
                encoder=encoder,
                seed=self._seed,
            ),
            report=lambda line: typer.echo(f"  {line}") if line.startswith("fold") else None,
        )


def _say(line: str) -> None:
    typer.echo(f"\n{line}")


def _quiet(line: str) -> None:
    pass


def _clock(seconds: float) -> str:
    from workflows.progress import clock

    return clock(seconds)
