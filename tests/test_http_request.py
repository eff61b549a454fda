"""Parsing a request: what is refused, and what the application gets."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest

from .http_support import Serving, answer, hello, works

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"NONSENSE\r\n\r\n", 400, id="one word"),
        pytest.param(b"GET / and / HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="five words"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\xfc\r\n\r\n", 400, id="TLS"),
        pytest.param(b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="no word"),
        pytest.param(b"x" * 60_000 + b"\r\n\r\n", 400, id="one long word"),
        pytest.param(b"GET / " + b"x" * 60_000 + b"\r\n\r\n", 400, id="a long version"),
        pytest.param(b"GET / FTP/1.1\r\nHost: x\r\n\r\n", 400, id="another protocol"),
        pytest.param(b"GET / HTTP/one\r\nHost: x\r\n\r\n", 400, id="version in letters"),
        pytest.param(b"GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505, id="version 0.9, as said"),
        pytest.param(b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, id="version 3"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="version 2"),
        pytest.param(b"GET /\r\n\r\n", 400, id="version 0.9"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two Hosts"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400, id="no colon"),
        *(
            pytest.param(
                b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % header,
                400,
                id=header.decode("latin-1"),
            )
            for header in (
                b"Content-Length: abc",
                b"Content-Length: -5",
                b"Content-Length: 5\r\nContent-Length: 6",
                b"X: a\0b",
                b"X: a\rOrigin: http://x",
                b"X: a\r\r\nY: b",
                b"X: a\rY: b\nZ: c",
                b"X: \x1b[31m",
            )
        ),
        *(
            pytest.param(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host, 400, id=f"Host {host!r}")
            for host in (b"a b", b"\xe4", b"a/b", b"a\tb")
        ),
        *(
            pytest.param(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path, 400, id=f"path {path!r}")
            for path in (b"/%zz", b"/%4", b"/%", b"/\x1b[31m", b"/\x07\x7f\0")
        ),
        pytest.param(b"GET / HTTP/1.10\r\nHost: x\r\n\r\n", 505, id="version 1.10"),
        pytest.param(b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="half an address"),
        *(
            pytest.param(
                b"GET http://[%b]/ HTTP/1.1\r\nHost: x\r\n\r\n" % host, 400, id=f"[{host!r}]"
            )
            for host in (b"x", b"::::1", b"1.2", b":", b"::1%")
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431, id="header"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 1000 + b"\r\n", 431, id="headers"
        ),
        pytest.param(
            b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, id="request line"
        ),
    ],
)
def test_a_malformed_request(
    request_: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A request that is none gets a status line and a short text, and harms nobody."""
    served: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        served.append(environ["RAW_URI"])
        return hello(environ, start_response)

    with Serving(app, read_header_timeout=2) as serving:
        got = answer(serving.port, request_)
        assert not served
        head, _, text = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert len(head) < 500
        assert head.isascii()
        assert b"\r\nContent-Type: text/plain" in head
        assert b"\r\nConnection: close" in head
        assert text.startswith(b"%d " % status)
        assert len(text) < 500
        assert b"<" not in text
        assert works(serving.port)
    assert [r for r in caplog.records if r.levelno > logging.DEBUG] == []


def test_a_long_target_takes_little_memory() -> None:
    """A target as long as may be takes a few times its size while it is looked at."""
    with Serving(hello) as serving:
        tracemalloc.start()
        try:
            got = answer(serving.port, b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 65_000))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert most < 4_000_000


def test_a_number_sign_is_part_of_the_path() -> None:
    """No client sends a fragment, so "#" is a character like the others, as in net/http."""
    paths = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        paths.append(environ["PATH_INFO"])
        return hello(environ, start_response)

    with Serving(app) as serving:
        for path in (b"/a#b%20c", b"/a?b#c"):
            answer(serving.port, b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
    assert paths == ["/a#b c", "/a"]
