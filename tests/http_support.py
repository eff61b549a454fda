"""Helpers for tests of the HTTP server: a running server, small applications and fixtures."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from gochat.golang.http import Server

from .support import PATIENCE, Peer, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOCAL = "127.0.0.1:0"

REQUEST = b"GET / HTTP/1.1\r\nHost: gochat\r\n\r\n"


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return socket.has_dualstack_ipv6()
    return False


#: Skips a test if the machine has no IPv6.
needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def serving_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("serve ")]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Check that the test leaves no thread, descriptor or open socket."""
    gc.collect()
    gc.freeze()  # the final collection then looks only at objects from the test
    threads, files = threading.enumerate(), descriptors()
    yield
    wait_until(lambda: threading.enumerate() == threads, "the threads from before")
    wait_until(lambda: descriptors() <= files, "no more descriptors than before")
    gc.collect()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the messages logged so far, except debug messages."""
    caplog.set_level(logging.DEBUG, "gochat")

    def lines() -> list[str]:
        assert "code 4" not in caplog.text
        return [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG]

    return lines


class Serving:
    """A server that runs until the end of its `with` block."""

    def __init__(
        self,
        application: WSGIApplication,
        addr: str = LOCAL,
        *,
        read_header_timeout: float = PATIENCE,
        max_connections: int | None = None,
        max_connections_per_address: int | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self.server = Server(
            addr,
            application,
            read_header_timeout=read_header_timeout,
            max_connections=max_connections,
            max_connections_per_address=max_connections_per_address,
            trusted_proxies=[ipaddress.ip_network(network) for network in trusted_proxies],
        )
        self.port = self.server.port
        self.server.start()

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown(0 if any(error) else PATIENCE)


def hello(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def works(port: int) -> bool:
    """Return whether the server on this port responds like `hello`."""
    with Peer(port) as peer:
        return peer.request().body == b"hello"


def taking_over(handler: Callable[[socket.socket, bytes], object]) -> WSGIApplication:
    """Return an application that passes each hijacked connection to the handler."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, buffered = environ["gochat.hijacker"].hijack()
        handler(sock, buffered)
        return []

    return app


def read_to_end(peer: Peer) -> bytes:
    """Return all data until the server closes or resets the connection."""
    data = bytes(peer.buffer)
    with suppress(ConnectionError):
        while piece := peer.sock.recv(65536):
            data += piece
    return data


def answer(port: int, request: bytes) -> bytes:
    """Send a request; return all data until the server closes or resets the connection."""
    with Peer(port) as peer:
        with suppress(ConnectionError):
            peer.sock.sendall(request)
        return read_to_end(peer)
