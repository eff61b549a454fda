"""Common rules of the servers for the metrics and for the view.

They ask for no password, so they are usually on a loopback address. Then the Host
must be a loopback name. A page of another site, in a browser on this machine,
has a different Host, wherever its name leads (DNS rebinding). A client without a Host is no
browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ..golang import http
from ..golang.http.address import unmapped

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["NO_STORE", "make_routes", "say"]

#: A header for every answer that must not be cached.
NO_STORE: Final = ("Cache-Control", "no-store")


def make_routes(
    get: Mapping[str, WSGIApplication], post: Mapping[str, WSGIApplication] | None = None
) -> WSGIApplication:
    """Return the application that calls one of these by its path, or refuses the request.

    get: the apps for GET by path; they also answer HEAD, whose body the server removes. post: the
    apps for POST, at other paths.
    """
    post = post or {}

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
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
    start_response: StartResponse, text: str, code: int, headers: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    """Answer with a line of text that no cache keeps."""
    return http.error(start_response, text, code, [NO_STORE, *headers])


def _is_for_here(environ: WSGIEnvironment) -> bool:
    """Return whether the Host is a name of this server, as far as its names are known."""
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
