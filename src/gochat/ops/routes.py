"""The part that the metrics server and the view server have in common.

Neither server has a password, so both usually listen on a loopback address. In that case, they
accept only loopback names in the Host header. This keeps out other sites' pages in a browser on
this machine: even if a site's name resolves to this machine (DNS rebinding), the browser sends that
name in the Host header. A request without a Host header does not come from a browser.

Such pages cannot use a `switch` either: browsers send an Origin with each POST, and the Origin must
be this server's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from ..golang import http
from ..golang.http.address import unmapped
from ..golang.http.request import RequestError

__all__ = ["NO_STORE", "make_routes", "new_server", "query", "say", "switch"]

#: Forbids caching an answer.
NO_STORE: Final = ("Cache-Control", "no-store")

# How long a client may take to send its request, in seconds.
_REQUEST_WAIT: Final = 3.0
# How many requests are answered at the same time.
_MAX_REQUESTS: Final = 16


def new_server(addr: str, routes: Mapping[str, http.Application]) -> http.Server:
    """Return a server for the routes of `make_routes`. Raises what `http.Server` raises."""
    return http.Server(
        addr, make_routes(routes), read_header_timeout=_REQUEST_WAIT, max_connections=_MAX_REQUESTS
    )


def make_routes(routes: Mapping[str, http.Application]) -> http.Application:
    """Return an application that passes each request to its app, or refuses the request.

    routes: the app for each pattern, such as `GET /state` (Go: http.ServeMux). An app for GET also
    answers HEAD; the server then removes the body.
    """

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        if not _is_for_here(environ):
            return say(start_response, "This is not a name of this server", 403)
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        method = "GET" if method == "HEAD" else method
        if found := routes.get(f"{method} {path}"):
            return found(environ | {"REQUEST_METHOD": method}, start_response)
        for pattern, allowed in ((f"GET {path}", "GET, HEAD"), (f"POST {path}", "POST")):
            if pattern in routes:
                return say(start_response, "Method not allowed", 405, [("Allow", allowed)])
        return say(start_response, "Not found", 404)

    return app


def switch(function: Callable[[dict[str, str]], None]) -> http.Application:
    """Return an app for POST that calls a function with the query.

    The function raises RequestError to refuse the request.
    """

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")  # None if the client is not a browser
        try:
            if origin is not None and origin.partition("://")[2] != environ.get("HTTP_HOST", ""):
                raise RequestError(403, "Pages of other sites may not use the switches")
            function(query(environ))
        except RequestError as error:
            return say(start_response, str(error), error.status)
        return say(start_response, "ok", 200)

    return app


def query(environ: http.Environ) -> dict[str, str]:
    """Return the parameters in the query of a request."""
    return dict(parse_qsl(environ["QUERY_STRING"][:300]))


def say(
    start_response: http.StartResponse,
    text: str,
    code: int,
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    """Answer with a line of text that must not be cached."""
    return http.error(start_response, text, code, [NO_STORE, *headers])


def _is_for_here(environ: http.Environ) -> bool:
    """Return whether the Host header is acceptable. On loopback, only loopback names are."""
    host = environ.get("HTTP_HOST")
    if host is None or not _is_loopback(environ["SERVER_NAME"]):
        return True
    with suppress(ValueError):
        name = urlsplit(f"//{host[:300]}").hostname or ""
        return name == "localhost" or _is_loopback(name)
    return False


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(unmapped(host)).is_loopback
    return False
