"""The page as it is sent: home.html, its limit filled in, with a strict policy."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["home_page", "serve_page"]

# Where home.html has room for the limit. A page that is opened from a file knows none.
_LIMIT: Final = b'<meta name="max-message-size" content="%b">'


@cache
def home_page(max_message_size: int | None = None) -> tuple[bytes, str]:
    """The page, and a policy that lets it run its own script and style, and nothing else.

    The policy lets it connect anywhere, because the chat can be on another machine than the page.

    max_message_size: what the page says of the server, in bytes; None if that is not known.
    """
    page = (files("gochat") / "static" / "home.html").read_bytes()
    if max_message_size is not None:
        page = page.replace(_LIMIT % b"", _LIMIT % str(max_message_size).encode())
    hashes = {}
    for element in (b"script", b"style"):
        (text,) = re.findall(b"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
        hashes[element] = base64.b64encode(hashlib.sha256(text).digest()).decode()
    policy = (
        "default-src 'none'; "
        f"script-src 'sha256-{hashes[b'script']}'; style-src 'sha256-{hashes[b'style']}'; "
        "connect-src 'self' ws: wss:; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def serve_page(
    environ: WSGIEnvironment, start_response: StartResponse, max_message_size: int | None
) -> Iterable[bytes]:
    """Answer with the page, or with 304 if the browser has it (Go: http.ServeFile). Any thread."""
    page, policy = home_page(max_message_size)
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    # Of the request only this header matters. Werkzeug would parse others too, and a long list of
    # tags slowly, while it has the GIL.
    known = environ.get("HTTP_IF_NONE_MATCH", "")[:1000]
    response.make_conditional({"REQUEST_METHOD": "GET", "HTTP_IF_NONE_MATCH": known})
    return response(environ, start_response)
