"""How somebody comes to the desk: by a session's cookie, by a script's token, or by a door that stands open."""

from time import monotonic

from fastapi import Request
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from workflows.review.desk import PORT, Reader, Settings
from workflows.review.errors import DeskError
from workflows.review.secrets_kept import digest, same
from workflows.review.sessions import Visit, visit_by_session, visit_by_token
from workflows.review.users import open_door_reader

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

KNOWN_S = 2.0
"""How long an answer of the database is believed: a reader who pans asks a hundred times a second. A user who is locked
out from another process is out after this time; who signs out here is out at once."""

MOST_KNOWN = 4096


class Doors:
    """Says of each request who asks."""

    def __init__(self, engine: Engine, settings: Settings):
        self.engine = engine
        self.cookie = cookie_name(settings)
        self._anybody = Visit(open_door_reader(engine, settings.reader_name)) if settings.no_auth else None
        self._known: dict[tuple[str, str], tuple[float, Visit]] = {}
        self._forgotten = 0

    async def reader_of(self, request: Request) -> Reader:
        """The reader of a request, or 401 or 403."""
        return (await self.visit_of(request)).reader

    async def visit_of(self, request: Request) -> Visit:
        """Who asks, and what proves that a request of theirs comes from the desk's page."""
        if self._anybody is not None:
            return self._anybody
        key = self._shown(request)
        visit = self._remembered(key) or await self._look_up(key)
        sent_alone = key[0] == "session" and request.method not in SAFE  # the browser adds a cookie by itself
        if sent_alone and not same(request.headers.get("x-csrf-token", ""), visit.csrf_token):
            raise DeskError(403, "the X-CSRF-Token header is missing or of another session; load the page again")
        return visit

    def forget(self) -> None:
        """Ask the database again about everybody, since somebody signed out or was changed."""
        self._forgotten += 1
        self._known.clear()

    def _shown(self, request: Request) -> tuple[str, str]:
        """What a request shows at the door: which kind of secret, and its digest."""
        said = request.headers.get("authorization")
        if said is not None:
            scheme, _, token = said.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise _nobody("expected Authorization: Bearer TOKEN")
            return "token", digest(token.strip())
        cookie = request.cookies.get(self.cookie)
        if not cookie:
            raise _nobody("sign in first")
        return "session", digest(cookie)

    def _remembered(self, key: tuple[str, str]) -> Visit | None:
        until, visit = self._known.get(key, (0.0, None))
        return visit if until > monotonic() else None

    async def _look_up(self, key: tuple[str, str]) -> Visit:
        forgotten = self._forgotten
        look = visit_by_session if key[0] == "session" else visit_by_token
        visit = await run_in_threadpool(look, self.engine, key[1])
        if visit is None:
            raise _nobody(
                "this session has ended; sign in again" if key[0] == "session" else "this token opens nothing"
            )
        if forgotten == self._forgotten:  # else it may be of before somebody signed out
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = (monotonic() + KNOWN_S, visit)
        return visit


def cookie_name(settings: Settings) -> str:
    """The session cookie's name. Cookies know no ports, so that desks side by side need names of their own."""
    name = "histograde_session" if settings.port == PORT else f"histograde_session_{settings.port}"
    return f"__Host-{name}" if is_https(settings) else name


def is_https(settings: Settings) -> bool:
    """Whether readers come by an encrypted way."""
    return settings.url is not None and settings.url.startswith("https://")


def _nobody(message: str) -> DeskError:
    return DeskError(401, message, {"WWW-Authenticate": "Bearer"})
