"""Options that several commands share, said once."""

from pathlib import Path
from typing import Annotated

import typer

MAX_BAD = 0.2
"""Share of a slide that may be unreadable before it is quarantined, unless the user says otherwise."""

_SLIDES = typer.Argument(
    metavar="SLIDES...",
    help="Slide files, URLs, folders (a DICOM folder is one slide), globs, or a CSV with the columns slide_id, "
    "path and optional patient_id, site, mpp.",
    show_default=False,
)
Slides = Annotated[list[str], _SLIDES]
SlidesOrNone = Annotated[list[str] | None, _SLIDES]
SlideMpp = Annotated[
    str | None,
    typer.Option(
        metavar="UM",
        help="Pixel size of level 0 in um/px (or x,y) for slides that state none or one that cannot be; recorded. A "
        "plausible value in a file is overruled only by the mpp column of a CSV.",
    ),
]
Workers = Annotated[
    int, typer.Option(metavar="N", min=0, help="Worker processes; 0 works in this process with a thread on each core.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A Dask scheduler that runs already, with its workers: tcp://HOST:PORT."),
]
Cluster = Annotated[
    str | None, typer.Option(metavar="NAME", help="slurm: --workers is how many jobs; see --cluster-options.")
]
ClusterOptions = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file of the jobs: cores, memory, queue, account, walltime, interface ..."),
]
Device = Annotated[str, typer.Option(metavar="DEV", help="Where the encoder runs: auto, cpu, cuda or cuda:N.")]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Local file of the encoder's weights, where it needs one.")
]
ReaderName = Annotated[
    str | None, typer.Option("--reader", metavar="NAME", help="Only this reader: openslide, tiffslide or array.")
]
MaxBad = Annotated[float, typer.Option(min=0, max=1, help="Largest share of unreadable tiles that a slide may have.")]
ChunkTiles = Annotated[int, typer.Option(min=1, help="Tiles in one task: the most that a crash can cost.")]
CHUNK_TILES = 512
RetryQuarantined = Annotated[
    bool,
    typer.Option("--retry-quarantined", help="Try slides again that an earlier start of this run put into quarantine."),
]
TaskLimit = Annotated[
    str, typer.Option(metavar="TIME", help="How long a task (a plan, a chunk of tiles, a grading) may run: 90s, 15min.")
]
Patience = Annotated[
    str, typer.Option(metavar="TIME", help="How long to wait for a full disk or an archive that is away: 30min, 12h.")
]
KeepFree = Annotated[str, typer.Option(metavar="SIZE", help="Room that is left free on the disk: 250MB, 2GB.")]
TASK_LIMIT, PATIENCE, KEEP_FREE = "1h", "12h", "250MB"
WATCH_STABLE_S = 10.0
