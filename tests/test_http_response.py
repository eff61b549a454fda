"""http.error: a short response in plain text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from gochat.golang import http

from .http_support import REQUEST, Serving
from .support import Peer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error(method: str) -> None:
    """An error response has a status, one line of text, and extra headers."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return http.error(start_response, "Gone \u2014 sorry", 410, [("X-Why", "because")])

    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST.replace(b"GET", method.encode()))
        response = peer.response(method)
    assert response.status == 410
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-length"] == "15"
    assert response.headers["x-why"] == "because"
    assert response.body == (b"" if method == "HEAD" else "Gone \u2014 sorry\n".encode())


def test_a_status_that_is_none() -> None:
    with pytest.raises(ValueError, match="999"):
        http.error(lambda *_: lambda _: None, "what?", 999)
