"""Reading a request before its deadline."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest

from gochat.golang.http.reader import RequestReader

from .http_support import REQUEST, Serving, hello, read_to_end, serving_threads, works
from .support import PATIENCE, Peer, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


def drip(peer: Peer, data: bytes) -> None:
    """Send bytes one by one. The server must end the connection before it has read all of them."""
    peer.sock.settimeout(0.02)
    for byte in data:
        try:
            peer.sock.send(bytes([byte]))
            assert peer.sock.recv(100) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return
    raise AssertionError("all of it was taken")


def test_a_request_is_read_late() -> None:
    """Bytes that have already arrived are read even after the deadline, but only once.

    The server may have been too busy to read them in time.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"GET / HTTP/1.1\r\n")
        reader = RequestReader(ours, time.monotonic())
        assert reader.read_line() == b"GET / HTTP/1.1\r\n"
        theirs.sendall(b"Host: x\r\n")
        with pytest.raises(TimeoutError):
            reader.read_line()


def test_nothing_has_arrived_by_the_deadline() -> None:
    """At the deadline, reading raises TimeoutError, whatever the socket's own timeout."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(PATIENCE)
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            RequestReader(ours, begin).read_line()
        assert time.monotonic() - begin < PATIENCE


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: "])
def test_a_request_that_drips_is_cut(head: bytes, logged: Callable[[], list[str]]) -> None:
    """Sending more bytes does not extend the deadline for a request."""
    with Serving(hello, read_header_timeout=0.5) as serving:
        begin = time.monotonic()
        with Peer(serving.port) as peer:
            peer.sock.sendall(head)
            drip(peer, b"a" * 1000)
            assert time.monotonic() - begin >= 0.5
        wait_until(lambda: not serving_threads())
    assert logged() == []


def test_a_silent_connection_is_cut(logged: Callable[[], list[str]]) -> None:
    with Serving(hello, read_header_timeout=0.3) as serving:
        begin = time.monotonic()
        with Peer(serving.port) as peer:
            assert read_to_end(peer) == b""
            assert time.monotonic() - begin >= 0.3
        wait_until(lambda: not serving_threads())
    assert logged() == []


def test_a_body_is_under_the_deadline_too(logged: Callable[[], list[str]]) -> None:
    """Reading a body ends at the deadline."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(1000)
        return hello(environ, start_response)

    with Serving(app, read_header_timeout=0.3) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(b"POST / HTTP/1.1\r\nHost: gochat\r\nContent-Length: 1000\r\n\r\nbegin")
        drip(peer, b"a" * 900)
    assert logged() == []


def test_a_request_in_pieces_is_served() -> None:
    with Serving(hello) as serving, Peer(serving.port) as peer:
        for byte in REQUEST:
            peer.sock.send(bytes([byte]))
        assert peer.response().body == b"hello"


def test_a_response_that_nobody_takes() -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return [b"x" * 1_000_000] * 20  # more than the system can buffer

    with Serving(app, read_header_timeout=0.5) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        wait_until(lambda: bool(serving_threads()))
        wait_until(lambda: not serving_threads())


def test_no_deadline() -> None:
    with Serving(hello, read_header_timeout=math.inf) as serving:
        assert works(serving.port)


def test_the_others_are_served_meanwhile() -> None:
    with Serving(hello, read_header_timeout=2) as serving:
        slow = [Peer(serving.port) for _ in range(20)]
        for peer in slow:
            peer.sock.sendall(b"GET /")
        assert works(serving.port)
        for peer in slow:
            peer.sock.close()
