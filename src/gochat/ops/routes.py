"""The part that the metrics server and the view server have in common.

Neither server has a password, so both usually listen on a loopback address. In that case, they
accept only loopback names in the Host header. This keeps out other sites' pages in a browser on
this machine: even if a site's name resolves to this machine (DNS rebinding), the browser sends that
name in the Host header. A request without a Host header does not come from a browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from ..golang import http
from ..golang.http.address import unmapped

__all__ = ["NO_STORE", "make_routes", "new_server", "say"]

#: Forbids caching an answer.
NO_STORE: Final = ("Cache-Control", "no-store")

# How long a client may take to send its request, in seconds.
_REQUEST_WAIT: Final = 3.0
# How many requests are answered at the same time.
_MAX_REQUESTS: Final = 16


def new_server(addr: str, routes: Mapping[str, Mapping[str, http.Application]]) -> http.Server:
    """Return a server for the routes of `make_routes`. Raises what `http.Server` raises."""
    return http.Server(
        addr,
        make_routes(routes),
        read_header_timeout=_REQUEST_WAIT,
        max_connections=_MAX_REQUESTS,
    )


def make_routes(routes: Mapping[str, Mapping[str, http.Application]]) -> http.Application:
    """Return an application that passes each request to its app, or refuses the request.

    routes: maps each path to the apps for its methods. An app for GET also answers HEAD; the server
    then removes the body.
    """

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        if not _is_for_here(environ):
            return say(start_response, "This is not a name of this server", 403)
        apps = routes.get(environ.get("PATH_INFO", ""))
        if apps is None:
            return say(start_response, "Not found", 404)
        method = "GET" if environ["REQUEST_METHOD"] == "HEAD" else environ["REQUEST_METHOD"]
        if method not in apps:
            allow = ", ".join(apps).replace("GET", "GET, HEAD")
            return say(start_response, "Method not allowed", 405, [("Allow", allow)])
        return apps[method](environ | {"REQUEST_METHOD": method}, start_response)

    return app


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
