"""Serves each page as one file with a strict policy and puts the message limit into home.html."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from werkzeug.wrappers import Response

from ..golang import http

__all__ = ["SCRIPT", "home_page", "policy", "read_file", "read_page", "send_page", "serve_page"]

#: The environ's key for a script that home.html runs before its own.
SCRIPT: Final = "gochat.script"

# The place in home.html for the limit. A page that is opened from a file has no limit there.
_LIMIT: Final = b'<meta name="max-message-size" content="%b">'

_STATIC: Final = Path(__file__).parents[1] / "static"

# The files that a page names, one on each line. The browser loads them if it opens a page from a
# file.
_FILE: Final = re.compile(
    rb'^<(?:link rel="(style)sheet" href|(script) src)="([a-z]+\.(?:css|js))">(?:</script>)?$', re.M
)


def read_page(name: str) -> bytes:
    """Return a page of static/, with its style sheets and scripts inlined.

    Raises FileNotFoundError.
    """

    def put_in(named: re.Match[bytes]) -> bytes:
        element = named[1] or named[2]
        return b"<%b>\n%b</%b>" % (element, read_file(named[3].decode()), element)

    return _FILE.sub(put_in, read_file(name))


def read_file(name: str) -> bytes:
    """Return a file of static/. Raises FileNotFoundError."""
    return (_STATIC / name).read_bytes()


# Read at import, because later there may be no free descriptor.
_HOME: Final = read_page("home.html")


@cache
def home_page(max_message_size: int | None = None, script: bytes = b"") -> tuple[bytes, str]:
    """Return home.html, and a policy that lets it run only its own script and style.

    The policy lets the page connect to any chat, because the chat may be on a different server.

    max_message_size: the server's limit, in bytes; None if it is unknown. script: runs before the
    page's own script; may be empty.
    """
    page = _HOME
    if max_message_size is not None:
        page = page.replace(_LIMIT % b"", _LIMIT % str(max_message_size).encode())
    if script:
        before, tag, own = page.rpartition(b"<script>")
        page = b"%b<script>\n%b</script>\n%b%b" % (before, script, tag, own)
    return page, policy(page, "'self' ws: wss:")


def policy(page: bytes, connect: str) -> str:
    """Return a Content-Security-Policy that lets a page run only its own script and style.

    connect: where the page may connect, as a `connect-src` list.
    """
    sources = {
        element: " ".join(
            f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
            for text in re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        )
        for element in (b"script", b"style")
    }
    return (
        "default-src 'none'; "
        f"script-src {sources[b'script']}; style-src {sources[b'style']}; "
        f"connect-src {connect}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def serve_page(
    environ: http.Environ, start_response: http.StartResponse, max_message_size: int | None
) -> Iterable[bytes]:
    """Answer with the page, or with 304 if the browser has it (Go: http.ServeFile). Thread: any."""
    page, policy = home_page(max_message_size, environ.get(SCRIPT, b""))
    return send_page(environ, start_response, page, policy)


def send_page(
    environ: http.Environ, start_response: http.StartResponse, page: bytes, policy: str
) -> Iterable[bytes]:
    """Answer with a page and its policy, or with 304 if the browser has it. Thread: any."""
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    # Only this header of the request matters. Werkzeug would parse others too, and it parses a long
    # list of tags slowly, while it holds the GIL.
    known = environ.get("HTTP_IF_NONE_MATCH", "")[:1000]
    response.make_conditional({"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": known})
    response.headers.remove("Date")  # Werkzeug's: the server sends its own
    return response(environ, start_response)
