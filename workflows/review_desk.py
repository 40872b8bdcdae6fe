"""`histograde review`: the pathologist's desk in a browser."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from workflows.review.desk import Settings

EXIT_BROKEN = 1

DATABASE = typer.Option(
    metavar="URL",
    help="Where decisions are kept: a SQLAlchemy URL, postgresql+psycopg://... for example. "
    "RUN/review/review.sqlite if not given.",
)


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; by default this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 takes a free port.")] = 8765,
    slides: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the slides lie now, if they moved since the run.")
    ] = None,
    database: Annotated[str | None, DATABASE] = None,
    no_auth: Annotated[
        bool,
        typer.Option(
            "--no-auth",
            help="Nobody signs in: whoever uses this machine is --reader, and the trail says so. Loopback only.",
            metavar="",
        ),
    ] = False,
    reader: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With --no-auth: who reads. Your name on this machine if not given."),
    ] = None,
    double_reading: Annotated[
        bool,
        typer.Option("--double-reading", help="A case is finished when two readers have decided it.", metavar=""),
    ] = False,
    sign_with_password: Annotated[
        bool, typer.Option("--sign-with-password", help="Ask for the password with every decision.", metavar="")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where readers find the desk behind a proxy: https://desk.example"),
    ] = None,
    check_trail: Annotated[
        bool,
        typer.Option("--check-trail", help="Open nothing: say whether the audit trail is whole.", metavar=""),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the desk in this machine's browser.")
    ] = False,
) -> None:
    """A page on which readers work through the graded slides: worklist, slide under its heatmap, decision.

    Decisions are kept in RUN/review with an audit trail. `histograde desk-users RUN` says who may sign in.

    Example: `histograde review graded/`
    """
    from workflows.review.desk import Settings

    if check_trail:
        _check_trail(run, database)
        return
    asked = Settings(
        run=run.absolute(),
        database=database,
        host=host,
        port=port,
        slides=None if slides is None else slides.absolute(),
        no_auth=no_auth,
        reader_name=_reader_name(reader, no_auth),
        double_reading=double_reading,
        sign_with_password=sign_with_password,
        url=url,
    )
    _check(asked)
    _open_desk(asked, open_browser)


def _check_trail(run: Path, database: str | None) -> None:
    """Walk the chain of entries; exit code 1 and the first bad one if something was changed behind the desk."""
    from workflows.review.opened import opened_decided
    from workflows.review.trail import check
    from workflows.review.trail_head import head_file

    with opened_decided(run, database) as engine:
        found = check(engine, head_file(run))
    if found.sound:
        typer.echo(f"the trail is whole: {found.entries:,} entries, each after the one before")
        return
    typer.echo(f"the trail is broken at entry {found.first_broken}: {found.problem}", err=True)
    raise typer.Exit(EXIT_BROKEN)


def _reader_name(reader: str | None, no_auth: bool) -> str:
    import getpass

    from wsi.errors import UsageError

    if reader is not None and not no_auth:
        raise UsageError("--reader says who reads where nobody signs in; leave it out, or add --no-auth")
    try:
        return reader or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return "reader"


def _check(asked: "Settings") -> None:
    """Refuse what cannot be served, or must not."""
    from urllib.parse import urlsplit

    from workflows.review.guard import LOOPBACK
    from wsi.errors import UsageError

    if not (asked.run / "run.json").is_file():
        raise UsageError(f"{asked.run}: no run.json in it; give the --out folder of `histograde grade`")
    if asked.slides is not None and not asked.slides.is_dir():
        raise UsageError(f"--slides {asked.slides}: no such folder")
    if asked.url is not None and (
        urlsplit(asked.url).scheme not in ("http", "https") or not urlsplit(asked.url).hostname
    ):
        raise UsageError(f"--url is {asked.url!r}; expected https://NAME, as readers type it")
    if asked.no_auth and (asked.host not in LOOPBACK or asked.url is not None):
        raise UsageError(
            f"--no-auth lets everybody in who reaches the desk, so it listens on this machine only, not on "
            f"{asked.url or asked.host}; leave --host and --url out, or let readers sign in"
        )
    if asked.no_auth and asked.sign_with_password:
        raise UsageError("--sign-with-password needs readers with passwords; leave --no-auth out")


def _open_desk(asked: "Settings", open_browser: bool) -> None:
    from dataclasses import replace

    from workflows.review.app import create_app
    from workflows.review.request_log import log_to
    from workflows.review.serving import listen, serve

    with listen(asked.host, asked.port) as listening:
        settings = replace(asked, port=listening.getsockname()[1])
        app = create_app(settings)
        try:
            _need_somebody(settings, app.state.desk.engine)
            (settings.run / "review").mkdir(exist_ok=True)
            log_to(settings.run / "review" / "desk.log")
            serve(app, listening, lambda: _greet(settings, open_browser))
        finally:
            app.state.desk.engine.dispose()


def _greet(settings: "Settings", open_browser: bool) -> None:
    typer.echo(greeting(settings))
    if warning := plain_warning(settings):
        typer.echo(warning, err=True)
    if open_browser:
        import webbrowser

        webbrowser.open(address(settings))


def _need_somebody(settings: "Settings", engine: object) -> None:
    from workflows.review.users import all_users
    from wsi.errors import UsageError

    if not settings.no_auth and not any(not user.disabled for user in all_users(engine)):  # type: ignore[arg-type]
        raise UsageError(
            "nobody may sign in at this desk yet; make the first user with "
            f"`histograde desk-users {settings.run} --add NAME --role admin`, or read alone with --no-auth"
        )


def address(settings: "Settings") -> str:
    """What to open in a browser."""
    from workflows.review.guard import ANY_ADDRESS

    if settings.url is not None:
        return settings.url
    host = "localhost" if settings.host in ANY_ADDRESS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def greeting(settings: "Settings") -> str:
    """The line that says where the desk is and what to do first."""
    first = f"you read as {settings.reader_name}" if settings.no_auth else "sign in"
    return f"the desk is open at {address(settings)} - {first}, then open the first case; Ctrl-C closes the desk"


def plain_warning(settings: "Settings") -> str:
    """What to say where passwords would travel in clear; empty where they do not."""
    from workflows.review.guard import LOOPBACK

    if settings.host in LOOPBACK or (settings.url or "").startswith("https://"):
        return ""
    return (
        "passwords and patient data reach this desk unencrypted: put a proxy with HTTPS before it and name it with "
        "--url https://NAME"
    )
