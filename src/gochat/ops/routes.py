"""What the metrics server and the view server have in common.

Neither has a password, so they usually listen on a loopback address. Then they accept only loopback
names as the Host. This stops pages of other sites in a browser on this machine: even if a site's
name resolves to this machine (DNS rebinding), the browser sends that name as the Host. A request
without a Host does not come from a browser.
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


def new_server(
    addr: str,
    get: Mapping[str, http.Application],
    post: Mapping[str, http.Application] | None = None,
) -> http.Server:
    """Return a server for the routes of `make_routes`. Raises the exceptions of `http.Server`."""
    return http.Server(
        addr,
        make_routes(get, post),
        read_header_timeout=_REQUEST_WAIT,
        max_connections=_MAX_REQUESTS,
    )


def make_routes(
    get: Mapping[str, http.Application], post: Mapping[str, http.Application] | None = None
) -> http.Application:
    """Return an application that passes a request to the app for its path, or refuses it.

    get: apps for GET, by path. They also answer HEAD; the server then removes the body. post: apps
    for POST, by path, with paths that are not in `get`.
    """
    post = post or {}

    def app(environ: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        methods: tuple[str, ...]
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if not _is_for_here(environ):
            return say(start_response, "This is not a name of this server", 403)
        if path in get:
            route, methods = get[path], ("GET", "HEAD")
        elif path in post:
            route, methods = post[path], ("POST",)
        else:
            return say(start_response, "Not found", 404)
        if method not in methods:
            allow = ("Allow", ", ".join(methods))
            return say(start_response, "Method not allowed", 405, [allow])
        return route(environ | {"REQUEST_METHOD": methods[0]}, start_response)

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
    """Return whether the Host is acceptable: a server on loopback accepts only loopback names."""
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
