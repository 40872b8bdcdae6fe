"""`histograde status`: how far a run is, from another terminal or machine."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from workflows.run_state import RunLogReader, RunStatus

WATCH_EVERY_S = 2.0


def command(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="The --out folder of `grade`, or the --store folder of `extract`.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.", metavar="")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 s until the run ends.")] = False,
) -> None:
    """How far a run is: slides, rates, time left, seconds by stage, GPU, bad tiles, quarantine by class.

    Reads the run's log.jsonl and nothing else, so it works for a run on another machine where the folder is shared.
    A run that has not ended and has written nothing for 3 minutes seems dead: the same command again goes on.

    The fields of `--json` are those of `workflows.run_state.RunStatus`; later versions may add some and change none.

    Example: `histograde status graded/ --watch`
    """
    import json
    import sys
    from dataclasses import asdict

    from workflows.run_state import RunLogReader
    from wsi.errors import UsageError

    if watch and (as_json or not sys.stdout.isatty()):
        raise UsageError("--watch is for a terminal; in a script call `histograde status RUN --json` again and again")
    reader = RunLogReader(run)
    if watch:
        show_until_the_end(reader)
        return
    status = reader.status(time.time())
    if as_json:
        typer.echo(json.dumps(asdict(status), indent=1, allow_nan=False))
        return
    from rich.console import Console

    Console(highlight=False).print(table(status))


def show_until_the_end(reader: "RunLogReader") -> None:
    """Show the table on a terminal until the run has ended, or Ctrl-C, which ends the display only."""
    from rich.console import Console
    from rich.live import Live

    status = reader.status(time.time())
    try:
        with Live(table(status), console=Console(highlight=False), auto_refresh=False) as live:
            while status.state == "running":
                time.sleep(WATCH_EVERY_S)
                status = reader.status(time.time())
                live.update(table(status), refresh=True)
    except KeyboardInterrupt:
        return


def table(status: "RunStatus") -> "Table":
    """The status for people."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 3))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, said in rows(status):
        grid.add_row(Text(name, "dim"), Text(said, STYLES.get(status.state, "") if name == status.command else ""))
    return grid


STYLES = {"running": "bold", "finished": "bold green", "dead": "bold red", "failed": "bold red"}


def rows(status: "RunStatus") -> list[tuple[str, str]]:
    """The table's lines: a name, and what is said of it."""
    from workflows.progress import clock

    through = status.slides_done + status.slides_quarantined
    share = f" ({through / status.slides_total:.0%})" if status.slides_total else ""
    work = f", {status.slides_in_work} in work" if status.slides_in_work and status.state == "running" else ""
    found = [
        (status.command, _state(status)),
        ("slides", f"{through:,} of {status.slides_total:,} through{share}{work}"),
        ("elapsed", clock(status.elapsed_s)),
    ]
    if status.state == "running":
        if status.watching:
            found.append(("watching", ", ".join(status.watching)))
        found.append(("left", _left(status)))
        found.append(("now", f"{_rate(status, recent=True)}, over the last {clock(status.recent.seconds)}"))
    found.append(("whole run", _rate(status, recent=False)))
    found.append(("bad tiles", f"{status.bad_tiles:,}"))
    by_class = ", ".join(f"{count:,} {name}" for name, count in status.quarantined.items())
    found.append(("quarantine", f"{status.slides_quarantined:,}" + (f": {by_class}" if by_class else "")))
    stages = [f"{stage:<8}{one['seconds']:>12,.1f} s {one['share']:>5.0%}" for stage, one in status.stages.items()]
    found.append(("stages", "\n".join(stages) or "nothing yet"))
    found.append(("GPU", _gpu(status)))
    return found + [("note", note) for note in _notes(status)]


def _state(status: "RunStatus") -> str:
    from workflows.progress import clock

    if status.state == "dead":
        return f"seems dead: no line for {clock(status.silent_s)}; the same command again goes on where it stopped"
    if status.state == "failed":
        return f"failed [{status.error_class}]"
    if status.state == "interrupted":
        return "interrupted; the same command goes on where it stopped"
    if status.paused:
        return f"paused on {status.host}: {', '.join(WAITS_FOR.get(reason, reason) for reason in status.paused)}"
    return f"{status.state} on {status.host}"


WAITS_FOR = {
    "disk_full": "the disk is full; make room and it goes on",
    "unreachable": "the server of the stores does not answer; it goes on when it does",
    "vanished": "the archive is away; bring it back and it goes on",
    "no_workers": "no worker is there; it goes on when one is back",
}


def _left(status: "RunStatus") -> str:
    from workflows.progress import clock

    if _waits_for_slides(status):
        return "nothing, until a slide comes"
    return "not known yet" if status.left_s is None else f"about {clock(status.left_s)}"


def _waits_for_slides(status: "RunStatus") -> bool:
    return bool(status.watching) and status.slides_done + status.slides_quarantined >= status.slides_total


def _gpu(status: "RunStatus") -> str:
    if status.gpu_busy is not None:
        return f"busy at most {status.gpu_busy:.0%}"
    return "not known yet" if status.state == "running" and not status.tiles else "no GPU used"


def _rate(status: "RunStatus", *, recent: bool) -> str:
    rate = status.recent if recent else status.whole
    return f"{rate.slides_per_hour:,.1f} slides/h, {rate.tiles_per_s:,.1f} tiles/s"


def _notes(status: "RunStatus") -> list[str]:
    from workflows.progress import clock
    from workflows.run_state import RECENT_S

    notes = []
    if status.state == "running" and status.idle_s > RECENT_S and not _waits_for_slides(status):
        notes.append(f"alive, but no slide has moved for {clock(status.idle_s)}")
    if status.starts > 1:
        notes.append(f"started {status.starts} times in this folder; these are the figures of the last start")
    if status.also_running:
        notes.append(f"{status.also_running} more running in this folder")
    if status.newer:
        notes.append("the log is of a newer version of histograde; figures may be incomplete")
    if status.unreadable_lines:
        notes.append(f"{status.unreadable_lines} lines of the log cannot be read and are left out")
    return notes
