"""`histograde desk-users`: who may sign in at the desk of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out folder of `histograde grade`.")],
    add: Annotated[str | None, typer.Option(metavar="NAME", help="Make a user; the password is asked for.")] = None,
    change: Annotated[
        str | None, typer.Option(metavar="NAME", help="Change --role or --sees-patients of a user.")
    ] = None,
    reset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Give a user a new password; their sessions end.")
    ] = None,
    disable: Annotated[
        str | None, typer.Option(metavar="NAME", help="Lock a user out at once, with sessions and tokens.")
    ] = None,
    enable: Annotated[str | None, typer.Option(metavar="NAME", help="Let a user in again.")] = None,
    token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Make a token for scripts with a user's rights, shown once.")
    ] = None,
    revoke: Annotated[int | None, typer.Option(metavar="NUMBER", help="Make a token worthless.")] = None,
    role: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="reader decides; reviewer also checks the trail; admin may do everything."),
    ] = None,
    full_name: Annotated[str, typer.Option(metavar="NAME", help="With --add: the name as it is signed.")] = "",
    sees_patients: Annotated[
        bool | None,
        typer.Option("--sees-patients/--no-patients", help="Whether patient identifiers and labels are shown."),
    ] = None,
    label: Annotated[str, typer.Option(metavar="TEXT", help="With --token: what it is for.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.", metavar="")
    ] = False,
    database: Annotated[
        str | None, typer.Option(metavar="URL", help="As for `review`; RUN/review/review.sqlite if not given.")
    ] = None,
) -> None:
    """Who may sign in at the desk: without an option it lists users and tokens.

    A password is asked for, or read from standard input; never an argument, which other users of a machine can see.

    Example: `histograde desk-users graded/ --add grey --full-name "Dr. Ann Grey" --role admin`
    """
    from workflows.review import tokens, users
    from wsi.errors import UsageError

    asked = [one for one in (add, change, reset, disable, enable, token, revoke) if one is not None]
    if len(asked) > 1:
        raise UsageError("one thing at a time: --add, --change, --reset, --disable, --enable, --token or --revoke")
    with _database(run, database) as engine:
        if add is not None:
            given, patients = users.check_role(role or "reader"), bool(sees_patients)
            users.add_user(engine, add, given, _password(password_stdin), full_name, patients)
            typer.echo(f"{users.sign_in_name(add)} may sign in as {given}{_patients(patients)}")
        elif change is not None:
            if role is None and sees_patients is None:
                raise UsageError("--change needs --role, --sees-patients or --no-patients")
            users.set_rights(engine, change, None if role is None else users.check_role(role), sees_patients)
            typer.echo(f"{change}: changed")
        elif reset is not None:
            users.set_password(engine, reset, _password(password_stdin))
            typer.echo(f"{reset} has a new password, and no session")
        elif disable is not None or enable is not None:
            name = disable or enable or ""
            users.set_disabled(engine, name, disable is not None)
            typer.echo(f"{name} is locked out" if disable is not None else f"{name} may sign in again")
        elif token is not None:
            typer.echo(tokens.new_token(engine, token, label))
            typer.echo("shown this once: send it as Authorization: Bearer TOKEN", err=True)
        elif revoke is not None:
            tokens.revoke_token(engine, revoke)
            typer.echo(f"token {revoke} opens nothing any more")
        else:
            _list(engine)


@contextmanager
def _database(run: Path, database: str | None) -> "Iterator[Engine]":
    from workflows.review.database import open_engine
    from workflows.review.desk import Settings
    from workflows.review.migrate import migrate
    from wsi.errors import UsageError

    if not (run / "run.json").is_file():
        raise UsageError(f"{run}: no run.json in it; give the --out folder of `histograde grade`")
    engine = open_engine(Settings(run.absolute(), database).database_url)
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


def _password(from_stdin: bool) -> str:
    """A password that is typed twice, or the first line of standard input."""
    import sys

    from wsi.errors import UsageError

    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("a password is typed on a terminal; in a script give it with --password-stdin")
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _patients(sees: bool) -> str:
    return ", and sees patient identifiers" if sees else ""


def _list(engine: "Engine") -> None:
    from workflows.review import tokens, users

    found = users.all_users(engine)
    if not found:
        typer.echo("no users yet; make the first with --add NAME --role admin")
    for user in found:
        state = " (locked out)" if user.disabled else ""
        typer.echo(f"{user.name:<20} {user.role:<9} {user.full_name}{_patients(user.sees_patients)}{state}")
    for one in tokens.standing_tokens(engine):
        typer.echo(f"token {one.token_id:<14} {one.name:<9} {one.label} (made {one.created_at[:10]})")
