"""Serves each page as a single file, with a strict security policy."""

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

#: The environ's key for a script to run before home.html's own.
SCRIPT: Final = "gochat.script"

# The element of home.html for the message limit. In the file itself, the limit is empty.
_LIMIT: Final = b'<meta name="max-message-size" content="%b">'

_STATIC: Final = Path(__file__).parents[1] / "static"

# A line of a page that names a style sheet or a script. Browsers see such a line only if the page
# was opened from disk.
_FILE: Final = re.compile(
    rb'^<(?:link rel="(style)sheet" href|(script) src)="([a-z]+\.(?:css|js))">(?:</script>)?$', re.M
)


def read_page(name: str) -> bytes:
    """Return a page of static/ with its style sheets and scripts. Raises FileNotFoundError."""

    def put_in(named: re.Match[bytes]) -> bytes:
        element = named[1] or named[2]
        return b"<%b>\n%b</%b>" % (element, read_file(named[3].decode()), element)

    return _FILE.sub(put_in, read_file(name))


def read_file(name: str) -> bytes:
    """Return a file of static/. Raises FileNotFoundError."""
    return (_STATIC / name).read_bytes()


# Read at import, because a full server may have no descriptor left.
_HOME: Final = read_page("home.html")


@cache
def home_page(max_message_size: int | None = None, script: bytes = b"") -> tuple[bytes, str]:
    """Return home.html, and a security policy for it: see `policy`.

    The page may connect to any chat, because the chat can be on another server. max_message_size:
    the limit that the page shows, in bytes; None to show no limit. script: a script to run before
    the page's own; may be empty.
    """
    page = _HOME
    if max_message_size is not None:
        page = page.replace(_LIMIT % b"", _LIMIT % str(max_message_size).encode())
    if script:
        before, tag, own = page.rpartition(b"<script>")
        page = b"%b<script>\n%b</script>\n%b%b" % (before, script, tag, own)
    return page, policy(page, "'self' ws: wss:")


def policy(page: bytes, connect: str) -> str:
    """Return a Content-Security-Policy that lets a page run only its own scripts and styles.

    connect: where the page may connect to, as a `connect-src` list.
    """
    return (
        "default-src 'none'; "
        f"script-src {_hashes(page, b'script')}; style-src {_hashes(page, b'style')}; "
        f"connect-src {connect}; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(page: bytes, element: bytes) -> str:
    """Return a list of the elements' hashes, as sources of a policy."""
    texts = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text).digest()).decode() for text in texts]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def serve_page(
    environ: http.Environ, start_response: http.StartResponse, max_message_size: int | None
) -> Iterable[bytes]:
    """Answer with home.html, or 304 if the browser has it (Go: http.ServeFile). Thread: any."""
    page, policy = home_page(max_message_size, environ.get(SCRIPT, b""))
    return send_page(environ, start_response, page, policy)


def send_page(
    environ: http.Environ, start_response: http.StartResponse, page: bytes, policy: str
) -> Iterable[bytes]:
    """Answer with a page, or 304 if the browser has it. Thread: any."""
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    # Pass on only this header, and truncate it. Werkzeug would also parse other headers, and it
    # parses a long list of tags slowly, while holding the GIL.
    known = environ.get("HTTP_IF_NONE_MATCH", "")[:1000]
    response.make_conditional({"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": known})
    response.headers.remove("Date")  # the server sends its own
    return response(environ, start_response)
