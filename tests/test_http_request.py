"""Parsing of HTTP requests: what the application gets, what is refused, and what it costs."""

from __future__ import annotations

import logging
import re
import socket
import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from gochat.golang.http import url
from gochat.golang.http.reader import MAX_HEADER_BYTES

from .http_support import Serving, answer, hello, read_to_end, serving_threads, works
from .support import Peer, effort, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


def get(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> bytes:
    """Return a request with Host and these header lines."""
    return b"\r\n".join([start, b"Host: x", *lines, b"", b""])


class Seen:
    """An application that records the environ of each request."""

    def __init__(self) -> None:
        self.environs: list[WSGIEnvironment] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.environs.append(environ)
        return hello(environ, start_response)


def seen(request: bytes) -> WSGIEnvironment:
    """Send a request that must get 200; return its environ."""
    app = Seen()
    with Serving(app) as serving:
        assert re.match(rb"HTTP/1\.[01] 200 OK\r\n", answer(serving.port, request))
    (environ,) = app.environs
    return environ


# What the application gets.


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Type: multipart/form-data; boundary=x",
        b"Content-Type: multipart/mixed",
        b"Content-Type: message/rfc822",
        b"Content-Type: message/partial",
        b"Content-Type: text/plain; charset=unknown",
        b'Content-Type: ;;;="',
        b"Content-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"MIME-Version: 7",
    ],
)
def test_headers_that_mean_something_to_a_mail(line: bytes) -> None:
    """Headers that would describe an email's body have no effect."""
    seen(get(line))


@pytest.mark.parametrize("before", [b"", b" ", b"\t", b" \t  "])
@pytest.mark.parametrize("behind", [b"", b" ", b"\t", b" \t  "])
def test_white_space_around_a_value(before: bytes, behind: bytes) -> None:
    """White space around a header's value is removed (RFC 9110, section 5.5)."""
    headers = {
        b"Host": b"a",
        b"Content-Length": b"0",
        b"Content-Type": b"text/plain",
        b"Origin": b"http://a",
        b"X-Inside": b"a \t b",
        b"X-Empty": b"",
    }
    lines = [name + b":" + before + value + behind for name, value in headers.items()]
    environ = seen(b"\r\n".join([b"GET / HTTP/1.1", *lines, b"", b""]))
    for name, value in headers.items():
        key = name.decode().upper().replace("-", "_")
        key = key if key.startswith("CONTENT") else f"HTTP_{key}"
        assert environ[key] == value.decode()


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1", b"HTTP/1.2", b"HTTP/1.9"])
def test_versions(version: bytes) -> None:
    """All minor versions of HTTP/1 are accepted (RFC 9110, section 2.5)."""
    environ = seen(get(start=b"GET / " + version))
    assert environ["SERVER_PROTOCOL"] == version.decode()


def test_only_1_0_needs_no_host() -> None:
    assert "HTTP_HOST" not in seen(b"GET / HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_ends_of_lines(end: bytes) -> None:
    assert seen(b"GET / HTTP/1.1\nHost: x" + end + b"X: a\r\n" + end)["HTTP_X"] == "a"


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"X: a\r\n b", "a b"),
        (b"X: a  \r\n \t b\r\n\tc: d", "a b c: d"),
        (b"X: a\r\n  ", "a"),
        (b"X:\r\n a", "a"),
        (b"X: a\n b\r\n  \n c", "a b  c"),
    ],
)
def test_folded_lines(lines: bytes, value: str) -> None:
    """A line that starts with white space continues the line before it, as in net/http."""
    environ = seen(get(lines, b"Y: z"))
    assert environ["HTTP_X"] == value
    assert environ["HTTP_Y"] == "z"


def test_headers_of_one_name() -> None:
    """Headers with the same name, in any case, are joined by commas."""
    environ = seen(get(b"X-a: 1", b"Y: 2", b"x-A: 3,4", b"X-A:", b"X-A: 5"))
    assert environ["HTTP_X_A"] == "1,3,4,,5"


def test_what_werkzeug_adds() -> None:
    """Equal Content-Length headers count as one. Of Content-Type, the last counts.

    Headers with an underscore in the name are ignored.
    """
    environ = seen(
        get(
            b"Content-Length: 0",
            b"Content-Length: 0",
            b"Content-Type: a/b",
            b"Content-Type: c/d",
            b"Content_Type: e/f",
            b"X_A: 1",
            b"X-\xe4: 2".replace(b"\xe4", b"!"),
            b"Y: \xe4\xff",
        )
    )
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("0", "c/d")
    assert "HTTP_X_A" not in environ
    assert environ["HTTP_X_!"] == "2"
    assert environ["HTTP_Y"] == "\xe4\xff"


@pytest.mark.parametrize(
    ("target", "host", "path", "query"),
    [
        (b"/", "x", "/", ""),
        (b"/a?b=c?d", "x", "/a", "b=c?d"),
        (b"/a#b%20c", "x", "/a#b c", ""),
        (b"/a?b#c", "x", "/a", "b#c"),
        (b"//a//b", "x", "/a//b", ""),
        (b"/%41%2f%25%34%31?%41%zz", "x", "/A/%41", "%41%zz"),
        (b"/a=b==%3d_%3D=%0a%0D=0a", "x", "/a=b===_==\n\r=0a", ""),
        (b"/%C3%A4\xe4", "x", "/\xc3\xa4\xe4", ""),
        (b"/?\xe4", "x", "/", "\xe4"),
        (b"http://y", "y", "/", ""),
        (b"http://http/http?a", "http", "/http", "a"),
        (b"HTTPS://y:80?a/b", "y:80", "/", "a/b"),
        (b"http://[::1]:80/a", "[::1]:80", "/a", ""),
        (b"http://y#a", "y", "#a", ""),
    ],
)
def test_targets(target: bytes, host: str, path: str, query: str) -> None:
    """A target is a path or an absolute URL, whose host replaces the Host header.

    "#" has no special meaning, as in net/http.
    """
    environ = seen(get(start=b"GET %b HTTP/1.1" % target))
    assert environ["HTTP_HOST"] == host
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)


def test_the_target_as_it_came() -> None:
    """RAW_URI is the target as it was sent, decoded as Latin-1, as WSGI requires."""
    assert seen(get(start=b"GET /%41?b HTTP/1.1"))["RAW_URI"] == "/%41?b"
    assert seen(get(start=b"GET /\xe4 HTTP/1.1"))["RAW_URI"] == "/\xe4"


@pytest.mark.parametrize("shift", range(3))
def test_a_long_path_with_escapes(shift: int) -> None:
    path = b"/" + b"a" * shift + b"%41%2541b=" * 8000
    environ = seen(get(start=b"GET %b HTTP/1.1" % path))
    assert environ["PATH_INFO"] == "/" + "a" * shift + "A%41b=" * 8000


@pytest.mark.parametrize(
    ("coding", "chunked"),
    [
        (b"chunked", True),
        (b"CHUNKED", True),
        (b"gzip, chunked", True),
        (b"chunked , gzip", True),
        (b"xchunked", False),
        (b"chunkedx", False),
        (b"identity", False),
    ],
)
def test_a_chunked_body(coding: bytes, chunked: bool) -> None:
    """The application reads a chunked body without its framing."""
    bodies = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert environ.get("wsgi.input_terminated", False) is chunked
        bodies.append(environ["wsgi.input"].read(5))
        return hello(environ, start_response)

    request = get(b"Transfer-Encoding: " + coding, start=b"POST / HTTP/1.1")
    with Serving(app) as serving:
        answer(serving.port, request + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")
    assert bodies == [b"hello" if chunked else b"2\r\nhe"]


# Refused requests.


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
        *(
            pytest.param(b"%b\r\nHost: x\r\n\r\n" % line, 400, id=f"line {line!r}")
            for line in (
                b"GET  / HTTP/1.1",
                b"GET /  HTTP/1.1",
                b"GET / HTTP/1.1 ",
                b" GET / HTTP/1.1",
                b"GET\t/\tHTTP/1.1",
                b"GET /\tHTTP/1.1",
                b"GET\x0b / HTTP/1.1",
                b"GET\xa0/ HTTP/1.1",
                b"G(T / HTTP/1.1",
                b" / HTTP/1.1",
                b"GET / HTTP/1.1\r",
                b"GET / http/1.1",
                b"GET / HTTP/1",
                b"GET / HTTP/1.",
                b"GET / HTTP/1.10",
                b"GET / HTTP/01.1",
                b"GET / HTTP/3",
                b"GET / HTTP/1.\xb2",
            )
        ),
        pytest.param(b"GET / HTTP/1.2\r\n\r\n", 400, id="no Host, version 1.2"),
        pytest.param(b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505, id="version 3"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="version 2"),
        pytest.param(b"GET /\r\n\r\n", 400, id="version 0.9"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400, id="two Hosts"),
        pytest.param(
            b"GET / HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n", 400, id="a folded line first"
        ),
        pytest.param(b"GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n", 400, id="white space first"),
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
                b"X: a\x7f",
                b"X:\x0ba",
                b"X : a",
                b" X: a\r\nY : b",
                b": a",
                b"X(: a",
                b"X\xe4: a",
                b"X\r\n : a",
                b"X: a\r\n b\0",
                b"Content-Length:",
                b"Content-Length: 5\r\nContent-Length: 05",
                b"Content-Length: 5\r\n 6",
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
        pytest.param(b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="half an address"),
        *(
            pytest.param(
                b"GET http://[%b]/ HTTP/1.1\r\nHost: x\r\n\r\n" % host, 400, id=f"[{host!r}]"
            )
            for host in (b"x", b"::::1", b"1.2", b":", b"::1%", b":" * 100)
        ),
    ],
)
def test_a_malformed_request(
    request_: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A malformed request is refused with a short message."""
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


@pytest.mark.parametrize(
    "begin",
    [
        b"NONSENSE\r\n",
        b"GET /\r\n",
        b"GET / HTTP/1.10\r\n",
        b"GET / HTTP/2.0\r\n",
        b"GET nowhere HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nnonsense\r\n",
        get(*[b"X: a"] * 500)[:-2],
    ],
)
def test_the_rest_is_not_waited_for(begin: bytes) -> None:
    with Serving(hello) as serving:
        assert re.match(rb"HTTP/1\.1 (400|431|505) ", answer(serving.port, begin))


@pytest.mark.parametrize(
    "begin", [b"GET / HT", b"GET / HTTP/1.1\r\n", get()[:-4], get()[:-2], get()[:-1]]
)
def test_a_request_that_ends_early(begin: bytes) -> None:
    with Serving(hello) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(begin)
        peer.sock.shutdown(socket.SHUT_WR)
        assert read_to_end(peer).startswith(b"HTTP/1.1 400 Bad Request")


def test_the_end_before_the_beginning() -> None:
    with Serving(hello) as serving, Peer(serving.port) as peer:
        peer.sock.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b""


def test_no_body_for_head() -> None:
    """The response to a malformed HEAD request has no body."""
    with Serving(hello) as serving:
        request = b"HEAD / HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n"
        head, _, body = answer(serving.port, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b""


# Size and cost.


def filled(prefix: bytes, size: int = MAX_HEADER_BYTES) -> bytes:
    """Return a request of `size` bytes that begins with the prefix."""
    end = b" HTTP/1.1\r\nHost: x\r\n\r\n" if prefix.startswith(b"GET /a") else b"\r\n\r\n"
    return prefix + b"a" * (size - len(prefix) - len(end)) + end


VALUE = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
TARGET = b"GET /a"


@pytest.mark.parametrize("prefix", [VALUE, TARGET])
def test_a_megabyte(prefix: bytes) -> None:
    """As in net/http, a request of up to 1 MiB and 4 KiB is accepted. A longer one gets 431."""
    with Serving(hello) as serving:
        assert answer(serving.port, filled(prefix)).startswith(b"HTTP/1.1 200 OK\r\n")
        for request in (filled(prefix, MAX_HEADER_BYTES + 1), filled(prefix, 5_000_000)):
            got = answer(serving.port, request)
            assert got.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
            assert got.endswith(b"\r\n\r\n431 Request Header Fields Too Large\n")


@pytest.mark.parametrize("line", [b"X: a", b"X-%d: a", b" folded"])
def test_many_lines(line: bytes) -> None:
    """A request with 500 header lines is accepted, as in net/http. One with 501 gets 431."""
    lines = [line % i if b"%" in line else line for i in range(500)]
    with Serving(hello) as serving:
        for count, status in ((499, b"200"), (500, b"431")):
            got = answer(serving.port, get(b"Y: a", *lines[: count - 1]))
            assert got.startswith(b"HTTP/1.1 " + status)


def test_all_of_it_has_come_before_a_431() -> None:
    """A client that sends everything before it reads gets the 431, not a reset."""
    with Serving(hello) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(filled(VALUE, 3_000_000))
        assert peer.response().status == 431
        assert peer.sock.recv(1) == b""


LINES = [b"X-%d: " % i + b"a" * 2000 for i in range(490)]


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(filled(VALUE), id="a value"),
        pytest.param(filled(VALUE)[:-4] + b"\0\r\n\r\n", id="a malformed value"),
        pytest.param(filled(TARGET), id="a target"),
        pytest.param(b"GET /" + b"%41bc" * 209_000 + filled(VALUE, 100)[5:], id="escapes"),
        pytest.param(b"GET http://[" + b":" * 1_000_000 + b"]/" + filled(VALUE, 100)[5:], id="IP"),
        pytest.param(get(*LINES), id="names"),
        pytest.param(get(*(b"X: " + b"a" * 2000 for _ in LINES)), id="a name"),
        pytest.param(get(b"X: a", *(b" " + b"a" * 2000 for _ in LINES)), id="folds"),
        pytest.param(get(*(b"X%x:" % i for i in range(130_000))), id="small names"),
        pytest.param(get(*[b"a:"] * 250_000), id="a small name"),
        pytest.param(get(b"Transfer-Encoding: " + b"ab," * 340_000), id="codings"),
    ],
)
def test_what_a_request_costs(request_: bytes) -> None:
    """A request takes little CPU time, and only a few times as much memory as it has bytes."""
    with Serving(hello) as serving:
        assert works(serving.port)
        wait_until(lambda: not serving_threads())
        with Peer(serving.port) as peer:
            tracemalloc.start()
            try:
                with suppress(ConnectionError):
                    peer.sock.sendall(request_)
                read_to_end(peer)
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert most < 6_000_000
        assert effort(lambda: answer(serving.port, request_)) < 80


def test_what_a_request_costs_that_never_ends() -> None:
    """An endless request in small pieces takes about 1 MB of memory."""
    app = Seen()
    with Serving(app) as serving, Peer(serving.port) as peer:
        tracemalloc.start()
        try:
            peer.sock.sendall(VALUE)
            for _ in range(5000):
                peer.sock.send(b"a" * 200)
            peer.sock.sendall(b"\r\n")
            with suppress(TimeoutError):
                peer.sock.settimeout(0.5)
                peer.sock.recv(1)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert 1_000_000 < most < 4_000_000
        peer.sock.close()
    assert app.environs == []


def test_no_target_is_kept() -> None:
    with Serving(hello) as serving:
        assert works(serving.port)
        wait_until(lambda: not serving_threads())
        tracemalloc.start()
        try:
            for i in range(5):
                answer(serving.port, filled(b"GET /a%d" % i))
            wait_until(lambda: not serving_threads())
            now, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert now < 1_000_000


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({"RAW_URI": "/a%20b?c=%41"}, "/a%20b?c=%41"),
        ({"REQUEST_URI": "/\x9b31m\n"}, "/%9B31m%0A"),
        ({"SCRIPT_NAME": "/x", "PATH_INFO": "/a b?%", "QUERY_STRING": ""}, "/x/a%20b%3F%25"),
        ({"PATH_INFO": "/\xe4", "QUERY_STRING": "a=%41\x9b"}, "/%E4?a=%41%9B"),
        ({"PATH_INFO": "/\u20ac"}, "/%3F"),
        ({"RAW_URI": "/" + "\xe4" * 2000}, "/" + "%E4" * 999),
        ({"PATH_INFO": "/" + "a" * 2000, "QUERY_STRING": "b"}, "/" + "a" * 999),
        ({}, ""),
    ],
)
def test_the_target_for_the_log(environ: dict[str, str], target: str) -> None:
    """The logged target is short, printable text, whatever the environ contains."""
    assert url(environ) == target
