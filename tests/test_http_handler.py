"""One HTTP connection: its request, its response, and applications that hijack it."""

from __future__ import annotations

import errno
import gc
import logging
import os
import re
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from gochat.golang.http import Hijacker, UnavailableError, helper, hijacker

from .http_support import (
    REQUEST,
    Serving,
    answer,
    descriptors,
    hello,
    read_to_end,
    serving_threads,
    taking_over,
    works,
)
from .support import PATIENCE, Peer, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize("size", [0, 1, 3000, 100_000])
def test_what_came_behind_the_request_is_handed_over(size: int) -> None:
    """Bytes after the request are passed to the application in order."""
    data = bytes(i % 251 for i in range(size))
    buffered_sizes: list[int] = []

    def echo(sock: socket.socket, buffered: bytes) -> None:
        buffered_sizes.append(len(buffered))
        sock.sendall(b"!" + buffered)
        while piece := sock.recv(4096):
            sock.sendall(piece)

    with Serving(taking_over(echo)) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST + data)
        assert peer.read(1 + size) == b"!" + data
        peer.sock.sendall(b"more")
        assert peer.read(4) == b"more"
        peer.sock.shutdown(socket.SHUT_WR)
        assert read_to_end(peer) == b""
    assert min(size, 1) <= buffered_sizes[0] <= size


def test_a_connection_taken_over_has_no_deadline() -> None:
    def echo(sock: socket.socket, _: bytes) -> None:
        assert sock.gettimeout() is None
        sock.sendall(sock.recv(100))

    with Serving(taking_over(echo), read_header_timeout=0.2) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        peer.sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.sock.recv(1)
        peer.sock.sendall(b"late")
        assert read_to_end(peer) == b"late"


def test_a_takeover_during_a_response() -> None:
    """The deadline of the response's writes no longer applies after a takeover."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield b"first"
        sock, _ = environ["gochat.hijacker"].hijack()
        assert sock.gettimeout() is None
        sock.sendall(b"raw")

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST).endswith(b"\r\n\r\n5\r\nfirst\r\nraw")


def test_nothing_is_written_behind_a_handler(logged: Callable[[], list[str]]) -> None:
    """After a takeover, no response is written when the application returns."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        sock, _ = environ["gochat.hijacker"].hijack()
        sock.sendall(b"raw")
        return [b"a body"]

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST) == b"raw"
    assert logged() == []


def test_a_generator_that_takes_over(logged: Callable[[], list[str]]) -> None:
    """A generator can take over the connection. Its response is not sent."""
    closed = []

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, _buffered = environ["gochat.hijacker"].hijack()
        environ["gochat.hijacker"].on_failure.append(
            lambda error: sock.sendall(str(error).encode())
        )
        sock.sendall(b"raw ")
        try:
            if environ["PATH_INFO"] != "/no-piece":
                yield b"a body"
            if environ["PATH_INFO"] == "/fails":
                yield b"never"
        finally:
            closed.append(environ["PATH_INFO"])
            if environ["PATH_INFO"] == "/fails":
                raise LookupError("sorry")

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST) == b"raw "
        assert answer(serving.port, REQUEST.replace(b"/", b"/no-piece", 1)) == b"raw "
        assert logged() == []
        assert answer(serving.port, REQUEST.replace(b"/", b"/fails", 1)) == b"raw sorry"
    assert closed == ["/", "/no-piece", "/fails"]
    assert len(logged()) == 1


@pytest.mark.parametrize("error", [SystemExit(), KeyboardInterrupt(), MemoryError()])
def test_whatever_ends_an_application_that_has_taken_over(
    error: BaseException, logged: Callable[[], list[str]]
) -> None:
    """The on_failure callbacks are called for any exception."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, _buffered = environ["gochat.hijacker"].hijack()
        environ["gochat.hijacker"].on_failure.append(lambda _: sock.sendall(b"told"))
        raise error

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST) == b"told"
    assert len(logged()) == 1


def test_one_that_cannot_be_told(logged: Callable[[], list[str]]) -> None:
    """If an on_failure callback raises, the error is logged, and the others are still called."""

    def fail(_: BaseException) -> None:
        raise LookupError("a mistake")

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, _buffered = environ["gochat.hijacker"].hijack()
        environ["gochat.hijacker"].on_failure += [fail, lambda _: sock.sendall(b"told")]
        raise UnavailableError("no room")

    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b"told"
        assert logged() == [f"http: serve {peer.addr}: no room", f"http: serve {peer.addr} failed"]


def test_nothing_is_read_behind_a_handler(logged: Callable[[], list[str]]) -> None:
    """After a takeover, unread input is not treated as a further request."""
    with Serving(taking_over(lambda sock, _: sock.sendall(b"raw"))) as serving:
        for rest in (REQUEST, b"\x81\x80junk\r\n\r\n", b"\r\n" * 5000):
            assert answer(serving.port, REQUEST + rest) == b"raw"
    assert logged() == []


def going(
    function: Callable[[socket.socket], object],
    beside: Callable[[socket.socket], object] = lambda _: None,
) -> WSGIApplication:
    """Return an application that takes over the connection, and calls `go_on` and `go`."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, _ = environ["gochat.hijacker"].hijack()
        thread = threading.current_thread()

        def go() -> None:
            assert threading.current_thread() is thread
            function(sock)

        environ["gochat.hijacker"].go_on(go, "go on")
        sock.sendall(b"first ")
        environ["gochat.hijacker"].go(lambda: beside(sock), "beside")
        return []

    return app


def test_going_on_after_the_request(logged: Callable[[], list[str]]) -> None:
    """go_on runs a function on the request's thread. Then the connection is closed."""
    names = []

    def then(sock: socket.socket) -> None:
        names.append(threading.current_thread().name)
        sock.sendall(b"then")

    with Serving(going(then)) as serving:
        assert answer(serving.port, REQUEST) == b"first then"
    assert names == ["go on"]
    assert logged() == []


def test_going_on_beside(logged: Callable[[], list[str]]) -> None:
    """go runs a function that can use the connection after the request's thread has finished."""
    through = threading.Event()
    names = []

    def beside(sock: socket.socket) -> None:
        names.append(threading.current_thread().name)
        assert through.wait(PATIENCE)
        sock.sendall(b"beside")

    with Serving(going(lambda _: through.set(), beside)) as serving:
        assert answer(serving.port, REQUEST) == b"first beside"
    assert names == ["beside"]
    assert logged() == []


def test_a_connection_is_taken_over_once() -> None:
    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        taken = hijacker(environ)
        assert taken is not None
        assert not taken.hijacked
        sock, buffered = taken.hijack()
        assert buffered == b""
        assert taken.hijacked
        with pytest.raises(RuntimeError, match="already taken over"):
            taken.hijack()
        sock.sendall(b"once")
        return []

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST) == b"once"


def test_a_thread_that_was_reserved(logged: Callable[[], list[str]]) -> None:
    names: list[str] = []

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        connection = hijacker(environ)
        assert connection is not None
        connection.reserve()
        connection.reserve()  # does nothing, because a thread is already reserved
        names.extend(serving_threads())
        sock, _buffered = connection.hijack()
        threading.stack_size(1 << 46)  # more than any machine has, so no thread can start
        try:
            connection.go(lambda: sock.sendall(b"beside"), "beside")
        finally:
            threading.stack_size(0)
        return []

    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b"beside"
        assert sorted(names) == [f"serve {peer.addr}", f"serve {peer.addr} too"]
    assert logged() == []


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_a_reserved_thread_that_gets_no_function(fails: bool, taken: bool) -> None:
    """A reserved thread that is not used ends with the request."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        connection = hijacker(environ)
        assert connection is not None
        connection.reserve()
        if taken:
            connection.hijack()
        if fails:
            raise LookupError("a mistake")
        return hello(environ, start_response)

    with Serving(app) as serving:
        answer(serving.port, REQUEST)
        wait_until(lambda: not serving_threads())


def test_no_thread_to_reserve(logged: Callable[[], list[str]]) -> None:
    """If no thread can be reserved, the request gets 503."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        connection = hijacker(environ)
        assert connection is not None
        threading.stack_size(1 << 46)  # more than any machine has
        try:
            connection.reserve()
        finally:
            threading.stack_size(0)
        raise AssertionError("there was a thread")

    with Serving(app) as serving:
        for _ in range(3):
            with Peer(serving.port) as peer:
                refused = peer.request()
                assert (refused.status, refused.body) == (503, b"Service Unavailable\n")
            # Otherwise this connection's thread could be reserved for the next connection.
            wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("serve")])
        assert serving.server.statistics().refused["threads"] == 3
    assert logged()[0] == "http: refused a connection (503): can't start new thread"


def test_an_application_that_cannot_serve(logged: Callable[[], list[str]]) -> None:
    """UnavailableError is answered with 503, or only logged after a takeover."""
    taken = [False, True]

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        connection = hijacker(environ)
        assert connection is not None
        if taken.pop(0):
            sock, _buffered = connection.hijack()
            connection.on_failure.append(lambda error: sock.sendall(f"sorry, {error}".encode()))
        raise UnavailableError("no room")

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        with Peer(serving.port) as peer:
            peer.sock.sendall(REQUEST)
            assert read_to_end(peer) == b"sorry, no room"
            assert logged() == [f"http: serve {peer.addr}: no room"]


def test_a_response_that_is_unavailable_after_all(caplog: pytest.LogCaptureFixture) -> None:
    """UnavailableError replaces a response that has not begun, and cuts off one that has."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Length", "9")])
        if environ["PATH_INFO"] == "/late":
            yield b"one "
        raise UnavailableError("no room")

    with Serving(app) as serving:
        with Peer(serving.port) as peer:
            refused = peer.request()
            assert (refused.status, refused.body) == (503, b"Service Unavailable\n")
        assert answer(serving.port, b"HEAD" + REQUEST[3:]).endswith(b"\r\n\r\n")
        late = answer(serving.port, REQUEST.replace(b"/", b"/late", 1))
        assert late.startswith(b"HTTP/1.1 200 OK\r\n")
        assert late.endswith(b"\r\n\r\none ")
        assert caplog.text.count("UnavailableError: no room") == 1


def test_going_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """go raises RuntimeError if it cannot start a thread, and does not wait for one."""
    monkeypatch.setattr(helper, "_THREAD_WAIT", PATIENCE)
    begin = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Hijacker(ours, lambda: b"")
        connection.reserve()  # there is no server here, so go has to start the thread
        threading.stack_size(1 << 46)
        try:
            with pytest.raises(RuntimeError):
                connection.go(lambda: None, "beside")
        finally:
            threading.stack_size(0)
        connection.end()
    assert time.monotonic() - begin < PATIENCE  # no server could lend it a thread


def test_the_hijacker_of_another_server() -> None:
    """Under another server, `hijacker` returns None."""
    assert hijacker({"wsgi.version": (1, 0)}) is None


def test_a_body_that_was_begun_before_the_connection_is_taken_over() -> None:
    """A takeover returns the part of the body that has not been read."""
    got = []

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        got.append(environ["wsgi.input"].read(3))
        sock, buffered = environ["gochat.hijacker"].hijack()
        got.append(buffered)
        sock.sendall(b"done")
        return []

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST + b"one two") == b"done"
    assert got == [b"one", b" two"]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_failing_for_want_of_a_descriptor(
    code: int, logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Running out of descriptors is logged without a traceback, at most once a second."""

    def fail(*_: object) -> Iterable[bytes]:
        raise OSError(code, os.strerror(code))

    with Serving(fail) as serving:
        for _ in range(3):
            assert answer(serving.port, REQUEST).startswith(b"HTTP/1.1 500 ")
    with Serving(going(fail)) as serving:
        assert answer(serving.port, REQUEST) == b"first "
    assert re.fullmatch(rf"http: serve \S+: {os.strerror(code)}", logged()[0])
    assert logged()[-1] == f"http: go on: {os.strerror(code)}"
    assert "Traceback" not in caplog.text


def test_going_on_and_failing(logged: Callable[[], list[str]]) -> None:
    def fail(_: socket.socket) -> None:
        raise ValueError("no")

    with Serving(going(fail)) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b"first "
        assert logged() == ["http: go on failed"]


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError(), ConnectionResetError()])
def test_a_handler_that_fails_with_its_connection(
    error: OSError, logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """After a takeover, an OSError closes the connection and is logged on one line."""

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"raw")
        raise error

    with Serving(taking_over(handler)) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b"raw"
        assert logged() == [f"http: serve {peer.addr}: {error}"]
    assert "Traceback" not in caplog.text


def test_a_handler_that_fails(
    logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """After a takeover, any other exception closes the connection; its traceback is logged."""

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"raw")
        raise LookupError("a mistake")

    with Serving(taking_over(handler)) as serving:
        with Peer(serving.port) as peer:
            name = f"serve {peer.addr}"
            peer.sock.sendall(REQUEST)
            assert read_to_end(peer) == b"raw"
        assert logged() == [f"http: {name} failed"]
        assert caplog.text.count("LookupError: a mistake") == 1
        assert answer(serving.port, REQUEST) == b"raw"


def test_an_application_that_fails(
    logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the application is answered with 500 and logged."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/bad":
            raise LookupError("100 % a mistake")
        return hello(environ, start_response)

    with Serving(app) as serving:
        got = answer(serving.port, b"GET /bad HTTP/1.1\r\nHost: gochat\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 500 ")
        assert b"a mistake" not in got
        assert len(logged()) == 1
        assert "LookupError: 100 % a mistake" in caplog.text
        assert caplog.records[-1].levelno == logging.ERROR
        assert works(serving.port)


def test_an_application_that_fails_beside_another_function(
    logged: Callable[[], list[str]],
) -> None:
    """If the application fails after a takeover, the functions on its other threads also end."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, _buffered = environ["gochat.hijacker"].hijack()
        environ["gochat.hijacker"].go(lambda: sock.recv(1), "beside")
        raise LookupError("a mistake")

    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b""
        wait_until(lambda: not serving_threads())
        assert len(logged()) == 1


@pytest.mark.parametrize("error", [ConnectionResetError("the database"), TimeoutError("a query")])
def test_an_application_that_loses_its_own_connection(
    error: OSError, logged: Callable[[], list[str]]
) -> None:
    """A ConnectionError or TimeoutError from the application is logged like other errors."""

    def later(start_response: StartResponse, length: int) -> Iterable[bytes]:
        start_response("200 OK", [])
        yield from [b"begun"] * length
        raise error

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/":
            raise error
        return later(start_response, int(environ["PATH_INFO"][1:]))

    with Serving(app) as serving:
        for number, path in enumerate((b"/", b"/0", b"/1"), 1):
            got = answer(serving.port, REQUEST.replace(b"/", path, 1))
            assert got.startswith(b"HTTP/1.1 200 OK" if path == b"/1" else b"HTTP/1.1 500 ")
            wait_until(lambda number=number: len(logged()) == number)  # type: ignore[misc]
            assert f"{type(error).__name__}: {error}" in logged()[-1]


@pytest.mark.parametrize("writes", [False, True])
def test_a_client_that_leaves_an_application(writes: bool, logged: Callable[[], list[str]]) -> None:
    """A client that disconnects while the application reads or writes is not logged."""
    ended = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            write = start_response("200 OK", [])
            while writes:
                write(bytes(1 << 20))
            environ["wsgi.input"].read(1)
        finally:
            ended.set()
        return []

    request = REQUEST.replace(b"Host", b"Content-Length: 1\r\nHost")
    with Serving(app) as serving:
        with Peer(serving.port) as peer:
            peer.sock.sendall(request)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert ended.wait(PATIENCE)
    assert logged() == []


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("length", [False, True])
def test_a_client_of_http_1_0(version: int, length: bool) -> None:
    """An HTTP/1.0 request gets an HTTP/1.0 response, which is never chunked."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        headers = [("Content-Type", "text/plain")]
        start_response("200 OK", headers + [("Content-Length", "9")] * length)
        return [b"one ", b"", b"", b"three"]

    with Serving(app) as serving:
        got = answer(serving.port, b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n" % version)
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200 OK\r\n" if version == 0 else b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close" in head
    chunked = version > 0 and not length
    assert (b"Transfer-Encoding: chunked" in head) == chunked
    assert body == (b"4\r\none \r\n5\r\nthree\r\n0\r\n\r\n" if chunked else b"one three")


def test_a_refusal_in_http_1_0() -> None:
    with Serving(hello) as serving:
        got = answer(serving.port, b"GET / HTTP/1.0\r\nnonsense\r\n\r\n")
    assert got.startswith(b"HTTP/1.0 400 Bad Request")


def test_a_head_without_a_body() -> None:
    closed = []

    class Body(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return Body(hello(environ, start_response))

    with Serving(app) as serving:
        head, _, body = answer(serving.port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").partition(
            b"\r\n\r\n"
        )
    assert b"200" in head
    assert b"Content-Length: 5" in head
    assert body == b""
    assert closed == [True]


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
def test_a_response_is_closed_once(method: bytes) -> None:
    closed = []

    class Endless:
        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return bytes(1 << 16)

        def close(self) -> None:
            closed.append(True)

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return Endless()

    with Serving(app) as serving:
        with Peer(serving.port) as peer:
            peer.sock.sendall(method + REQUEST[3:])
            assert peer.sock.recv(1)
        wait_until(lambda: not serving_threads())
    assert closed == [True]


@pytest.mark.parametrize("pieces", [[], [b"one"], [b"one", b"two"]])
def test_a_response_is_sent_before_it_is_closed(
    pieces: list[bytes], logged: Callable[[], list[str]]
) -> None:
    """The client gets a whole response even if closing it takes long, or fails."""
    closing, go_on = threading.Event(), threading.Event()

    class Body(list[bytes]):
        def close(self) -> None:
            closing.set()
            assert go_on.wait(PATIENCE)
            raise LookupError("sorry")

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Body(pieces)

    whole = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert closing.wait(PATIENCE)
        try:
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                more = peer.sock.recv(4096)
                assert more
                got += more
        finally:
            go_on.set()
        assert got.startswith(b"HTTP/1.1 200 OK\r\n")
        assert got.partition(b"\r\n\r\n")[2] == whole
        assert peer.sock.recv(4096) == b""
    assert "LookupError: sorry" in "".join(logged())


def test_a_head_to_an_application_that_writes() -> None:
    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("Content-Length", "9")])
        write(b"one ")
        write(b"three")
        return []

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST).endswith(b"\r\n\r\none three")
        got = answer(serving.port, b"HEAD" + REQUEST[3:])
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 9" in got
    assert got.endswith(b"\r\n\r\n")


def test_a_head_to_a_generator() -> None:
    """For HEAD, a generator is closed after its first piece."""
    ended = []

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            while True:
                yield b"more"
        finally:
            ended.append(True)

    with Serving(app) as serving:
        got = answer(serving.port, b"HEAD" + REQUEST[3:])
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n\r\n")
    assert ended == [True]


@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_a_body_that_nobody_reads(size: int) -> None:
    """An unread body is discarded after the response, without waiting for missing parts."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with Serving(hello, read_header_timeout=PATIENCE * 10) as serving:
        assert works(serving.port)
        wait_until(lambda: not serving_threads())
        before = descriptors()
        for missing in (0, 1):
            assert answer(serving.port, request + bytes(size - missing)).endswith(b"hello")
        wait_until(lambda: descriptors() == before)


def test_an_unread_body_takes_little_memory() -> None:
    """An unread body is discarded in pieces of at most 1 MB."""
    size = 20_000_000
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
    with Serving(hello) as serving:
        tracemalloc.start()
        try:
            assert answer(serving.port, request).endswith(b"hello")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 3_000_000


def test_a_reset_behind_the_answer() -> None:
    """A reset while the body is discarded leaks no descriptor."""
    gone = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        yield from hello(environ, start_response)
        assert gone.wait(PATIENCE)

    with Serving(app) as serving:
        # The first request creates objects that are kept.
        gone.set()
        assert works(serving.port)
        wait_until(lambda: not serving_threads())
        gc.collect()
        gc.disable()
        try:
            before = descriptors()
            for _ in range(3):
                gone.clear()
                with Peer(serving.port) as peer:
                    peer.sock.sendall(REQUEST[:-2] + b"Content-Length: 10\r\n\r\n12345")
                    assert peer.response().body == b"hello"
                    linger_zero = struct.pack("ii", 1, 0)
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
                gone.set()
                wait_until(lambda: not serving_threads())
            assert descriptors() == before
        finally:
            gc.enable()


def test_a_body_without_end() -> None:
    """An endless body is discarded only until the deadline."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
    with Serving(hello, read_header_timeout=0.3) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(request)
        begin = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < begin + PATIENCE:
                peer.sock.send(bytes(65536))
        assert time.monotonic() < begin + PATIENCE


def test_nobody_is_told_to_continue() -> None:
    """A client that expects "100 Continue" gets the final response."""
    request = REQUEST[:-2] + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with Serving(hello) as serving:
        assert answer(serving.port, request).startswith(b"HTTP/1.1 200 OK\r\n")


def test_clients_that_leave(logged: Callable[[], list[str]]) -> None:
    with Serving(hello) as serving:
        for sent in (b"", b"GET /", REQUEST[:-2], REQUEST):
            for linger in (False, True):
                with Peer(serving.port) as peer:
                    peer.sock.sendall(sent)
                    if linger:  # makes closing reset the connection
                        linger_zero = b"\1\0\0\0\0\0\0\0"
                        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        wait_until(lambda: not serving_threads())
        assert works(serving.port)
    assert logged() == []
