"""The command line: `histograde COMMAND`. Each command is one module, imported when it is called.

A module of a command has a function `command` with typer's annotations. To add one: a file, a line in `COMMANDS`
with its one-line help, and a test. `--config FILE` gives defaults for the options of every command.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from wsi.errors import UsageError, WsiError

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("workflows.demo", "The whole way on slides that it makes itself: start here."),
    "info": ("workflows.info", "What a slide file holds, and whether it would be accepted."),
    "encoders": ("workflows.encoders", "Which encoders there are, whose, and whether their weights are here."),
    "extract": ("workflows.extract", "Slides to tissue, tiles and features, in one store per slide."),
    "train": ("workflows.train", "Features and labels to a model that grades, with held-out figures."),
    "sweep": ("workflows.sweep", "Models x encoders x seeds on the same folds, and one table of them."),
    "grade": ("workflows.grade", "Slides to grades, heatmaps, a worklist and a report: the main job."),
    "status": ("workflows.status", "How far a run is, from another terminal or machine: slides, rates, time left."),
    "evaluate": ("workflows.evaluate", "Predictions against labels: metrics with intervals, and plots."),
    "compare": ("workflows.compare", "Two models on the same slides: the difference, its interval, and a paired test."),
    "audit": (
        "workflows.audit",
        "Predictions by site, scanner, age ...: where a model is worse, and how sure that is.",
    ),
    "card": ("workflows.card", "What a model is, what it was trained on, how it did and where it ends: one page."),
    "dossier": ("workflows.dossier", "Two models: what changed, what is better, and whether any group is worse off."),
    "explain": ("workflows.explain", "Which heatmap of a model shows what it goes by: one table, on held-out slides."),
    "monitor": ("workflows.monitor", "Later runs against a reference run: drift of grades and inputs, with charts."),
    "review": ("workflows.review_desk", "The desk in a browser: readers go through a run's slides and decide."),
    "desk-users": ("workflows.desk_users", "Who may sign in at the desk of a run: list, add, lock out, tokens."),
    "labels": ("workflows.labels", "What readers decided at the desk, as labels for train."),
    "select": ("workflows.select", "Which slides to label next: uncertain ones, unlike each other."),
    "render": ("workflows.render", "The heatmaps of a run again, from its stored scores."),
    "report": ("workflows.report", "The report of a run again, from its stored scores."),
    "index": ("workflows.index", "What lies in a folder of stores: a table, and one Parquet file for all of them."),
    "verify": ("workflows.verify", "Every chunk of stores, and all that a run left, against checksums."),
    "repair": ("workflows.repair", "Put stores right as far as it goes without the slides; the rest is for extract."),
    "import": ("workflows.import_features", "Features that TRIDENT, CLAM or STAMP made, into stores of this format."),
    "export": ("workflows.export", "The features of a slide to AnnData, for scanpy and squidpy."),
}
"""Name to module and one-line help, in the order in which `--help` lists them."""

EXIT_FAILED, EXIT_USAGE, EXIT_QUARANTINED = 1, 2, 3
EXIT_INTERRUPTED = 130

ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""Typer carries a click of its own in newer versions and uses the package in older ones: take what it raises."""


class LazyGroup(TyperGroup):
    """Lists commands from `COMMANDS` and imports only the one that runs, so that `--help` is quick."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name and stub else stub, rest


def load_command(name: str) -> Any:
    """Import a command's module and build its click command."""
    module, summary = COMMANDS[name]
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    function = import_module(module).command
    app.command(name, help=function.__doc__ or summary)(function)
    command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="New here? `histograde demo` runs everything once and opens no network connection. "
    "Exit codes: 0 all done, 3 some slides in quarantine, 2 wrong usage, 1 failed. Research use only.",
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"histograde {version('histograde')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with defaults for options: one table a command.", metavar="FILE")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks instead of one line.", metavar="")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.", metavar="")
    ] = False,
) -> None:
    """Whole-slide images to graded, explained slides.

    The way of a slide: **extract** finds tissue and turns tiles into features, **train** learns a grade from them,
    **grade** puts new slides into a worklist with heatmaps and a report.
    """
    if config is not None:
        from workflows.config import read_defaults

        defaults = read_defaults(config)
        if unknown := sorted(set(defaults) - set(COMMANDS)):
            raise UsageError(f"{config}: no command is called {unknown[0]!r}; there are: {', '.join(COMMANDS)}")
        name = ctx.invoked_subcommand
        if name in defaults:
            ctx.default_map = {name: _by_parameter(load_command(name), defaults[name], f"{config}, [{name}]")}


def _by_parameter(command: Any, table: dict[str, Any], where: str) -> dict[str, Any]:
    """Defaults by the names of the function's parameters, out of those by the names on the command line."""
    names = {
        spelling.lstrip("-").replace("-", "_"): parameter.name
        for parameter in command.params
        for spelling in parameter.opts
    }
    if unknown := sorted(set(table) - set(names)):
        raise UsageError(f"{where}: no option is called {unknown[0]!r}; there are: {', '.join(sorted(names))}")
    return {names[key]: value for key, value in table.items()}


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: an error is one line on standard error and an exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in argv
    argv = [part for part in argv if part != "--debug"]
    command: Any = typer.main.get_command(app)
    try:
        code = command.main(argv, prog_name="histograde", standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # what newer versions of typer make of Ctrl-C
            raise KeyboardInterrupt
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("interrupted; the same command goes on where it stopped", err=True)
        code = EXIT_INTERRUPTED
    except ClickException as error:
        _show_usage(error)
        code = EXIT_USAGE
    except WsiError as error:
        if debug:
            raise
        typer.echo(f"histograde: {_one_line(str(error))}", err=True)
        code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    except Exception as error:
        if debug:
            raise
        what = _one_line(f"{type(error).__name__}: {error}")
        typer.echo(f"histograde: unexpected {what} (--debug shows where)", err=True)
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)


def _show_usage(error: Any) -> None:
    """What click has to say of wrong arguments, in one line; the help where no argument was given at all."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return
    where = error.ctx.command_path if getattr(error, "ctx", None) else "histograde"
    typer.echo(f"{where}: {_one_line(error.format_message())} (see {where} --help)", err=True)


if __name__ == "__main__":
    main()
