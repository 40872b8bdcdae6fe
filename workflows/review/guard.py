"""What stands before every route: no foreign page may use the desk, and its own pages may do no more than they need.

- A request for a name that is not the desk's is refused: after DNS rebinding a foreign page asks under its own name.
- A request that a foreign page set off is refused, whatever cookies came with it; a link to a page of the desk is not.
- Answers say what a page may load (nothing from elsewhere), and are kept in no cache unless their route says so.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflows.review.desk import Settings
from workflows.review.doors import SAFE, is_https

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
}


class Guard:
    """The desk's app behind these checks."""

    def __init__(self, app: ASGIApp, settings: Settings):
        self.app = app
        self.hosts = own_hosts(settings)
        self.headers = dict(SECURITY_HEADERS)
        if is_https(settings):
            self.headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        refusal = self.refusal(scope["method"], scope["path"], Headers(scope=scope))
        if refusal is None:
            await self.app(scope, receive, guarded)
        else:
            status, message = refusal
            await JSONResponse({"error": message}, status)(scope, receive, guarded)

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Status and line for a request that must not reach a route; None for one that may."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host(hosts[0]) not in self.hosts:
            return 400, "this desk is not called by that name; open the address that `histograde review` printed"
        if self._is_foreign(method, path, headers, hosts[0]):
            return 403, "this request comes from another page than the desk's own"
        return None

    def _is_foreign(self, method: str, path: str, headers: Headers, host: str) -> bool:
        site = headers.get("sec-fetch-site", "none")
        if site not in ("same-origin", "none"):
            follows_link = method in SAFE and headers.get("sec-fetch-mode") == "navigate"
            return not follows_link or path.startswith("/api/")
        origin = headers.get("origin")
        return origin is not None and method not in SAFE and urlsplit(origin).netloc.lower() != host.lower()


def own_hosts(settings: Settings) -> frozenset[str]:
    """Names under which the desk may be asked for, without ports."""
    own = {settings.host.lower()} | LOOPBACK
    if settings.url is not None:
        own.add((urlsplit(settings.url).hostname or "").lower())
    if settings.host in ANY_ADDRESS:
        import socket

        own |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return frozenset(own)


def _host(value: str) -> str:
    """The name in a Host header, without its port; empty if there is none to be read."""
    try:
        return (urlsplit(f"//{value}").hostname or "").lower()
    except ValueError:
        return ""
