"""The HTTP server: listening, accepting connections and shutting down."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest

from gochat.golang.http import Server, hijacker
from gochat.golang.http.address import listen
from gochat.golang.http.admission import Admission
from gochat.golang.runtime import Thread

from .http_support import (
    LOCAL,
    REQUEST,
    Serving,
    answer,
    descriptors,
    hello,
    needs_ipv6,
    read_to_end,
    serving_threads,
    taking_over,
    works,
)
from .support import PATIENCE, Peer, finished, is_refused, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_listen_at_a_port() -> None:
    with Serving(hello) as serving:
        assert works(serving.port)
    with Serving(hello, f"127.0.0.1:{serving.port}") as again:
        assert again.port == serving.port
        assert works(again.port)


@needs_ipv6
def test_every_interface() -> None:
    """An empty host means all interfaces. IPv4 clients have IPv4 addresses."""
    seen: list[tuple[str, str, str]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name = threading.current_thread().name
        seen.append((environ["REMOTE_ADDR"], str(environ["REMOTE_PORT"]), name))
        return hello(environ, start_response)

    with Serving(app, ":0") as serving:
        assert serving.server.addr == f"[::]:{serving.port}"
        assert serving.server.url == f"http://localhost:{serving.port}/"
        for host in ("127.0.0.1", "::1"):
            with Peer(serving.port, host) as peer:
                assert peer.request().body == b"hello"
                port = str(peer.sock.getsockname()[1])
                assert seen.pop() == (host, port, f"serve {peer.addr}")


@pytest.mark.parametrize(
    "addr", ["127.0.0.1:0", "localhost:0", pytest.param("[::1]:0", marks=needs_ipv6)]
)
def test_addr_and_url(addr: str) -> None:
    """addr is where the server listens, and url is for a browser."""
    with Serving(hello, addr) as serving:
        server = serving.server
        host, _, port = server.addr.rpartition(":")
        assert host in ("127.0.0.1", "[::1]")
        assert int(port) == serving.port
        assert server.url == f"http://{host}:{port}/"
        with Peer(serving.port, host.strip("[]")) as peer:
            assert peer.request().body == b"hello"


def test_a_port_that_is_taken() -> None:
    """A port in use raises OSError, and nothing is left open."""
    with Serving(hello) as serving:
        with pytest.raises(OSError) as caught:
            Server(serving.server.addr, hello, read_header_timeout=PATIENCE)
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.strerror == (
            f"listen tcp {serving.server.addr}: {os.strerror(errno.EADDRINUSE)}"
        )
        assert works(serving.port)


def test_many_may_wait_to_be_accepted() -> None:
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    peers = [Peer(int(server.server_address[1])) for _ in range(300)]
    for peer in peers:
        peer.sock.close()
    server.server_close()
    server.shutdown()


def test_no_delay() -> None:
    """Every connection has TCP_NODELAY set."""
    options: list[int] = []

    def handler(sock: socket.socket, _: bytes) -> None:
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    # With a socket from systemd, a client can connect before the server starts.
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Peer(listener.getsockname()[1]) as early,
    ):
        server = Server(listener.dup(), taking_over(handler), read_header_timeout=PATIENCE)
        server.start()
        early.sock.sendall(REQUEST)
        assert read_to_end(early) == b""
        answer(server.port, REQUEST)
        server.shutdown()
    assert len(options) == 2
    assert all(options)


def test_names_of_threads() -> None:
    names: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        names.append(threading.current_thread().name)
        return hello(environ, start_response)

    with Serving(app) as serving:
        for _ in range(3):
            with Peer(serving.port) as peer:
                peer.request()
                assert names.pop() == f"serve {peer.addr}"


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Make every descriptor opened in the block larger than 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        while taken[-1] < 1024:
            taken.append(os.dup(taken[0]))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        MemoryError(),
    ],
    ids=["ENOBUFS", "ENOMEM", "MemoryError"],
)
@pytest.mark.parametrize("many", [False, True])
def test_no_more_memory_for_a_connection(
    error: Exception, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If memory is short, the server pauses, then accepts the connection.

    many: whether the descriptors are too large for select.select.
    """
    calls: list[float] = []
    accept = socket.socket.accept

    def fail(sock: socket.socket) -> tuple[socket.socket, Any]:
        calls.append(time.monotonic())
        if len(calls) < 4:
            raise error
        return accept(sock)

    with many_descriptors() if many else nullcontext(), Serving(hello) as serving:
        monkeypatch.setattr(socket.socket, "accept", fail)
        assert works(serving.port)
        assert len(calls) == 4
        assert calls[3] - calls[0] >= 0.3


def test_a_listener_that_fails() -> None:
    """Other errors while accepting are raised."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    server.server_close()
    with pytest.raises(OSError) as caught:
        server.get_request()
    assert caught.value.errno == errno.EBADF
    server.shutdown()


def test_stop_from_another_thread() -> None:
    """stop ends serve_forever from any thread, and later connections are refused."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    assert works(int(server.server_address[1]))
    server.stop()
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(server.server_address)
    server.shutdown()


#: A server whose signal handler runs although another thread receives the signal.
STOPPED_BY_A_SIGNAL = """
import signal, sys, threading, time
from gochat.golang.http import Server

server = Server("127.0.0.1:0", lambda *_: [])
signal.signal(signal.SIGUSR1, lambda *_: server.stop())

def receive():
    while sys._current_frames()[main].f_code.co_name != "select":
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

main = threading.get_ident()
threading.Thread(target=receive).start()
server.serve_forever(1000.0)
server.shutdown()
"""


def test_a_signal_on_another_thread() -> None:
    """The handler of a signal runs even if a thread other than the accepting one receives it."""
    done = finished([sys.executable, "-c", STOPPED_BY_A_SIGNAL])
    assert (done.returncode, done.stderr) == (0, "")


def test_stop_when_its_socket_is_full() -> None:
    """stop works even if the socket that wakes the accepting thread is full."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    with suppress(BlockingIOError):
        while True:
            os.write(server._wake.fileno(), b"\0")
    server.stop()
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
    server.shutdown()


def test_stop_before_it_serves() -> None:
    """If stop is called first, serve_forever returns without accepting."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    server.stop()
    server.stop()
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
    server.shutdown()
    server.stop()


def test_start_and_shutdown() -> None:
    """start accepts connections on a thread of its own, which shutdown joins."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    server.start("door")
    assert "door" in [thread.name for thread in threading.enumerate()]
    assert works(server.port)
    server.shutdown(PATIENCE)
    assert "door" not in [thread.name for thread in threading.enumerate()]
    with socket.socket() as late, pytest.raises(ConnectionRefusedError):
        late.connect(server.server_address)


def test_shutdown_without_a_start() -> None:
    server = Server(LOCAL, hello)
    server.shutdown()
    listen(server.addr).close()


@pytest.mark.parametrize("started", [False, True])
def test_shutdown_twice(started: bool) -> None:
    server = Server(LOCAL, hello)
    if started:
        server.start()
        assert works(server.port)
    for _ in range(2):
        server.shutdown(PATIENCE)


def test_nothing_is_imported_after_listening() -> None:
    """A client can connect once the server listens, and Ctrl-C then interrupts no import.

    After an interrupt in code that an import executes from a string, Python exits with the signal,
    even if the program has caught the exception.
    """
    code = """
        import sys
        from gochat import Server

        events = []
        sys.addaudithook(lambda event, args: events.append((event, args[0])))
        Server("127.0.0.1:0", print)
        names = [event for event, _ in events]
        print([each for each in events[names.index("socket.bind"):] if each[0] == "import"])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == "[]\n"


def test_a_start_without_a_thread() -> None:
    """If no thread can be started, start raises RuntimeError, and shutdown still works."""
    server = Server(LOCAL, hello)
    threading.stack_size(1 << 46)  # more than any machine has
    try:
        with pytest.raises(RuntimeError):
            server.start()
    finally:
        threading.stack_size(0)
    server.shutdown()


def test_ctrl_c_while_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C comes just after a connection's thread has started, the thread serves it."""
    begun, gate = threading.Event(), threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun.set()
        assert gate.wait(PATIENCE)
        return hello(environ, start_response)

    class Interrupted(Thread):
        def start(self) -> None:
            super().start()
            assert begun.wait(PATIENCE)
            raise KeyboardInterrupt

    monkeypatch.setattr("gochat.golang.http.server.Thread", Interrupted)
    server = Server(LOCAL, app)
    with Peer(server.port) as peer:
        peer.sock.sendall(REQUEST)
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        gate.set()
        assert peer.response().body == b"hello"
        server.shutdown(PATIENCE)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make the next start of a connection's thread raise this error."""
    errors = [error]

    class Failing(Thread):
        def start(self) -> None:
            if errors:
                raise errors.pop()
            super().start()

    monkeypatch.setattr("gochat.golang.http.server.Thread", Failing)


def test_ctrl_c_before_a_thread_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C comes before a connection's thread has started, the connection is closed.

    The connection no longer counts toward the limit.
    """
    failing(monkeypatch, KeyboardInterrupt())
    closed: list[socket.socket] = []
    server = Server(LOCAL, hello, max_connections=1, on_close=closed.append)
    with Peer(server.port) as peer:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert peer.read_to_end() == []
    assert len(closed) == 1
    server.start()
    assert works(server.port)
    server.shutdown(PATIENCE)
    assert len(closed) == 2


@pytest.mark.parametrize("error", [RuntimeError("no thread"), MemoryError(), MemoryError("none")])
def test_a_thread_that_never_starts(
    error: Exception, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    """If a connection's thread cannot be started, the client gets 503.

    The connection no longer counts toward the limit.
    """
    failing(monkeypatch, error)
    with Serving(hello, max_connections=1) as serving:
        assert answer(serving.port, REQUEST).startswith(b"HTTP/1.1 503 ")
        wait_until(lambda: works(serving.port), "a place for a connection")
    text = str(error) or "out of memory"
    assert logged() == [f"http: refused a connection (503): {text}"]


def test_ctrl_c_when_the_connection_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C comes after a connection has ended, the connection is not closed again."""

    class Interrupted(Thread):
        def start(self) -> None:
            super().start()
            self.join(PATIENCE)
            raise KeyboardInterrupt

    monkeypatch.setattr("gochat.golang.http.server.Thread", Interrupted)
    closed: list[int] = []
    server = Server(LOCAL, hello, on_close=lambda sock: closed.append(sock.fileno()))
    with Peer(server.port) as peer:
        peer.sock.sendall(REQUEST)
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        server.shutdown(PATIENCE)
        assert peer.response().body == b"hello"
    assert len(closed) == 1
    assert closed[0] > 0


def test_a_thread_that_begins_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that begins after its connection was closed does not use it."""
    gate = threading.Event()

    class Late(Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

        def run(self) -> None:
            assert gate.wait(PATIENCE)
            super().run()

    monkeypatch.setattr("gochat.golang.http.server.Thread", Late)
    closed: list[socket.socket] = []
    server = Server(LOCAL, hello, on_close=closed.append)
    with Peer(server.port) as peer:
        peer.sock.sendall(REQUEST)
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert read_to_end(peer) == b""
        gate.set()
        server.shutdown(PATIENCE)
    assert len(closed) == 1


def test_a_thread_that_has_not_begun_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """shutdown closes a connection whose thread has not begun to serve it."""
    gate, started = threading.Event(), threading.Event()

    class Late(Thread):
        def run(self) -> None:
            started.set()
            assert gate.wait(PATIENCE)
            super().run()

    monkeypatch.setattr("gochat.golang.http.server.Thread", Late)
    monkeypatch.setattr("gochat.golang.http.server._CUT_WAIT", 0.1)
    server = Server(LOCAL, hello)
    server.start()
    with Peer(server.port) as peer:
        peer.sock.sendall(REQUEST)
        assert started.wait(PATIENCE)
        server.shutdown()
        assert read_to_end(peer) == b""
        gate.set()
        wait_until(lambda: not serving_threads())


@pytest.mark.parametrize("error", [ValueError("a mistake"), SystemExit("a mistake")])
def test_on_close_that_fails(error: BaseException, logged: Callable[[], list[str]]) -> None:
    """If on_close raises, the connection is closed and no longer counts toward the limit."""
    closed: list[socket.socket] = []

    def on_close(sock: socket.socket) -> None:
        closed.append(sock)
        raise error

    server = Server(LOCAL, hello, max_connections=1, on_close=on_close)
    server.start()
    for count in range(1, 4):
        wait_until(lambda: works(server.port), "a place for a connection")
        wait_until(lambda: len(closed) >= count)  # noqa: B023 - called at once
    wait_until(lambda: not serving_threads(), "the place, which is given back after on_close")
    with Peer(server.port):
        wait_until(lambda: len(serving_threads()) == 1)
        # The accepting thread refuses this one, and must survive.
        assert answer(server.port, REQUEST).startswith(b"HTTP/1.1 503 ")
    wait_until(lambda: works(server.port), "a place for a connection")
    server.shutdown(PATIENCE)
    assert len(set(map(id, closed))) == len(closed)
    assert "http: on_close failed" in logged()


def test_ctrl_c_in_on_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during on_close on the accepting thread leaves nothing open."""
    failing(monkeypatch, RuntimeError("no thread"))
    closed: list[socket.socket] = []

    def on_close(sock: socket.socket) -> None:
        closed.append(sock)
        raise KeyboardInterrupt

    server = Server(LOCAL, hello, on_close=on_close)
    with Peer(server.port) as peer:
        with pytest.raises(KeyboardInterrupt):
            server.serve_forever()
        assert read_to_end(peer).startswith(b"HTTP/1.1 503 ")
    server.shutdown(PATIENCE)
    assert len(closed) == 1


def test_a_connection_that_cannot_be_admitted(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    """An error on the accepting thread closes only one connection, and the server continues."""
    mistakes = [LookupError("a mistake")]
    admit = Admission.admit

    def fail(*args: Any) -> Any:
        if mistakes:
            raise mistakes.pop()
        return admit(*args)

    monkeypatch.setattr(Admission, "admit", fail)
    with Serving(hello) as serving:
        assert answer(serving.port, REQUEST) == b""
        assert works(serving.port)
    assert logged() == ["http: accept failed"]


def test_an_application_that_exits(logged: Callable[[], list[str]]) -> None:
    def app(*_: object) -> Iterable[bytes]:
        raise SystemExit(3)

    with Serving(app) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert read_to_end(peer) == b""
        wait_until(lambda: logged() == [f"http: serve {peer.addr} failed"])


def test_the_accepting_thread_fails(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    """If the accepting thread fails, the error is logged and clients are refused."""
    server = Server(LOCAL, hello)

    def fail() -> None:
        raise LookupError("a mistake")

    monkeypatch.setattr(server, "get_request", fail)
    server.start("door")
    with suppress(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port)).close()
    wait_until(lambda: logged() == ["http: door failed"])
    wait_until(lambda: is_refused(server.port))
    server.shutdown(PATIENCE)


def test_shutdown_on_a_thread_of_a_connection() -> None:
    """On a connection's thread, shutdown raises RuntimeError: it would wait for itself."""
    said: list[str] = []

    def end() -> None:
        with pytest.raises(RuntimeError) as caught:
            serving.server.shutdown(PATIENCE)
        said.append(str(caught.value))

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        connection = hijacker(environ)
        assert connection is not None
        end()
        connection.hijack()
        connection.go_on(end, "on")
        connection.go(end, "beside")
        return []

    with Serving(app) as serving:
        for _ in range(2):
            assert answer(serving.port, REQUEST) == b""
        assert said == ["shutdown would wait for its own thread: call stop instead"] * 6


def test_shutdown_on_the_thread_that_accepts() -> None:
    """On the accepting thread, shutdown raises RuntimeError, but stop works."""
    server = Server(LOCAL, hello)
    said: list[str] = []

    def end() -> None:
        with pytest.raises(RuntimeError) as caught:
            server.shutdown(PATIENCE)
        said.append(str(caught.value))
        server.stop()

    server.serve_forever(0.01, end)
    server.shutdown(PATIENCE)
    assert said == ["shutdown would wait for its own thread: call stop instead"]


def test_an_accepting_thread_that_does_not_return(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    """shutdown gives up on an accepting thread that is stuck, and can be called again."""
    monkeypatch.setattr("gochat.golang.http.server._CUT_WAIT", 0.1)
    busy, gate = threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        gate.wait(PATIENCE)

    server = Server(LOCAL, hello)
    accepting = threading.Thread(target=server.serve_forever, args=(0.01, wait))
    accepting.start()
    assert busy.wait(PATIENCE)
    server.shutdown()
    assert logged() == ["http: the thread that accepts does not end"]
    gate.set()
    accepting.join(PATIENCE)
    server.shutdown(PATIENCE)


def test_shutdown_waits_for_who_ends_in_time() -> None:
    """shutdown waits for applications that return within the timeout."""
    heard: list[bytes] = []

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"go on")
        heard.append(sock.recv(100))
        sock.sendall(b"done")

    serving = Serving(taking_over(handler))
    with Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert peer.read(5) == b"go on"
        closing = threading.Thread(target=serving.server.shutdown, args=(10 * PATIENCE,))
        closing.start()
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # the client is still connected
            peer.sock.recv(1)
        assert closing.is_alive()
        peer.sock.settimeout(PATIENCE)
        peer.sock.sendall(b"the rest")
        assert read_to_end(peer) == b"done"
        closing.join(PATIENCE)
    assert not closing.is_alive()
    assert heard == [b"the rest"]
    assert serving_threads() == []


def test_shutdown_cuts_the_others() -> None:
    """At the timeout, shutdown cuts the connections that remain."""
    heard: list[bytes] = []
    cleared_up = threading.Event()

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"ready")
        heard.append(sock.recv(100))
        cleared_up.wait(0.1)  # shutdown also waits for this
        heard.append(b"cleared up")

    serving = Serving(taking_over(handler))
    with Peer(serving.port) as taken, Peer(serving.port) as silent, Peer(serving.port) as half:
        half.sock.sendall(b"GET / HT")
        taken.sock.sendall(REQUEST)
        assert taken.read(5) == b"ready"
        wait_until(lambda: len(serving_threads()) == 3)
        begin = time.monotonic()
        serving.server.shutdown(0.3)
        assert time.monotonic() - begin >= 0.3
        assert heard == [b"", b"cleared up"]
        for peer in (taken, silent, half):
            assert read_to_end(peer) == b""
    wait_until(lambda: serving_threads() == [])


def test_shutdown_of_who_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """shutdown gives up on an application that does not notice the end of its connection."""
    monkeypatch.setattr("gochat.golang.http.server._CUT_WAIT", 0.1)
    go_on = threading.Event()
    busy = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        busy.set()
        go_on.wait(PATIENCE)
        return hello(environ, start_response)

    serving = Serving(app)
    with Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert busy.wait(PATIENCE)
        serving.server.shutdown(0.1)
        assert len(serving_threads()) == 1
        assert read_to_end(peer) == b""
        go_on.set()
        wait_until(lambda: serving_threads() == [])


def test_shutdown_with_many() -> None:
    """shutdown releases the threads, descriptors and port of many connections."""
    ready = threading.Barrier(31)

    def handler(sock: socket.socket, _: bytes) -> None:
        ready.wait(PATIENCE)
        sock.recv(1)

    files = descriptors()
    serving = Serving(taking_over(handler))
    peers = [Peer(serving.port) for _ in range(30)]
    for peer in peers:
        peer.sock.sendall(REQUEST)
    ready.wait(PATIENCE)
    assert len(serving_threads()) == 30
    serving.server.shutdown()
    wait_until(lambda: serving_threads() == [])
    for peer in peers:
        peer.sock.close()
    wait_until(lambda: descriptors() == files)
    listen(serving.server.addr).close()


def test_one_thread_accepts() -> None:
    server = Server(LOCAL, hello)
    server.start()
    wait_until(lambda: works(server.port), "a server at work")
    with pytest.raises(RuntimeError, match="another thread accepts"):
        server.serve_forever()
    assert works(server.port)
    server.shutdown(PATIENCE)


@pytest.mark.parametrize("_", range(20))
def test_shutdown_waits_for_the_thread_that_accepts(_: int) -> None:
    """shutdown waits for the caller's own serve_forever before it closes the sockets."""
    server = Server(LOCAL, hello)
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    server.shutdown(PATIENCE)
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
