"""The HTTP server: addresses, deadlines, connections that are taken over, and its end."""

from __future__ import annotations

import errno
import gc
import ipaddress
import logging
import os
import re
import resource
import signal
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from gochat import Server
from gochat.golang.http.address import listen

from .support import PATIENCE, Gochat, Peer, join, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOCAL = "127.0.0.1:0"


def _has_ipv6() -> bool:
    with suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return socket.has_dualstack_ipv6()
    return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def serving_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("serve ")]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Each test leaves the threads and descriptors that it has found, and no socket to warn of."""
    gc.collect()
    threads, files = threading.enumerate(), descriptors()
    yield
    wait_until(lambda: threading.enumerate() == threads, "the threads from before")
    wait_until(lambda: descriptors() == files, "the descriptors from before")
    gc.collect()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """All that is logged, and what of it is more than for debugging."""
    caplog.set_level(logging.DEBUG, "gochat")

    def lines() -> list[str]:
        assert "code 4" not in caplog.text
        return [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG]

    return lines


class Serving:
    """A server at work, with its accepting thread. The end of the block is its end."""

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
        self.port = int(self.server.server_address[1])
        self.accepting = threading.Thread(target=self.server.serve_forever, name="accept")
        self.accepting.start()

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.stop()
        self.server.shutdown(PATIENCE if error is None else 0)

    def stop(self) -> None:
        self.server.stop()
        self.accepting.join(PATIENCE)
        assert not self.accepting.is_alive()


def hello(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def works(port: int) -> bool:
    """Whether `hello` is served there."""
    with Peer(port) as peer:
        return peer.request().body == b"hello"


def taking_over(handler: Callable[[socket.socket, bytes], object]) -> WSGIApplication:
    """An application that takes each connection over, and hands it to the handler."""

    def app(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        sock, buffered = environ["gochat.hijacker"].hijack()
        handler(sock, buffered)
        return []

    return app


REQUEST = b"GET / HTTP/1.1\r\nHost: gochat\r\n\r\n"


def read_to_end(peer: Peer) -> bytes:
    """All that comes until the server ends the connection, by FIN or reset."""
    data = peer.buffer
    with suppress(ConnectionError):
        while piece := peer.sock.recv(65536):
            data += piece
    return data


def answer(port: int, request: bytes) -> bytes:
    """All that the server has to say to a request."""
    with Peer(port) as peer:
        with suppress(ConnectionError):
            peer.sock.sendall(request)
        return read_to_end(peer)


# Addresses.


@pytest.mark.parametrize(
    ("addr", "host"),
    [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[127.0.0.1]:0", "127.0.0.1"),
        pytest.param("[::1]:0", "::1", marks=needs_ipv6),
    ],
)
def test_listen(addr: str, host: str) -> None:
    """An address is host:port, the port 0 is a free one, and brackets may stand around the host."""
    with listen(addr) as listener:
        got, port = listener.getsockname()[:2]
        assert got == host
        assert port > 0
        with Peer(port, host), listener.accept()[0]:
            pass


def test_listen_at_a_name() -> None:
    """A name is looked up, and IPv4 is preferred."""
    with listen("localhost:0") as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")
        families = {info[0] for info in socket.getaddrinfo("localhost", 0)}
        if socket.AF_INET in families:
            assert listener.family == socket.AF_INET


def test_listen_at_a_port() -> None:
    """The port that is asked for is the one that is used, also right after another one's use."""
    with Serving(hello) as serving:
        assert works(serving.port)
    with Serving(hello, f"127.0.0.1:{serving.port}") as again:
        assert again.port == serving.port
        assert works(again.port)


@needs_ipv6
def test_every_interface() -> None:
    """An empty host is every interface, and a client that comes by IPv4 is shown as such."""
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
    """A server says where it listens, and what to open there."""
    with Serving(hello, addr) as serving:
        server = serving.server
        host, _, port = server.addr.rpartition(":")
        assert host in ("127.0.0.1", "[::1]")
        assert int(port) == serving.port
        assert server.url == f"http://{host}:{port}/"
        with Peer(serving.port, host.strip("[]")) as peer:
            assert peer.request().body == b"hello"


def test_names_of_threads() -> None:
    """The thread that serves a connection is named after the client's address."""
    names: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        names.append(threading.current_thread().name)
        return hello(environ, start_response)

    with Serving(app) as serving:
        for _ in range(3):
            with Peer(serving.port) as peer:
                peer.request()
                assert names.pop() == f"serve {peer.addr}"


@pytest.mark.parametrize(
    "addr",
    [
        "",
        "8080",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "::1:0",
        "[::1:0",
        "[::1",
        "::1]:0",
        "127.0.0.1:0:0",
        ":-1",
        ":+1",
        ": 1",
        ":0x10",
        ":1.5",
        ":http",
        ":\u0661",
        ":65536",
        ":99999999999",
        "http://localhost:0",
        "localhost:0/",
        "a..b:0",
        "x" * 64 + ":0",
        "evil\nname.invalid:0",
        "127.0.0.1\n:0",
        ":\n1",
    ],
)
def test_what_is_no_address(addr: str) -> None:
    """What is no address is refused, in one line that names it."""
    with pytest.raises((ValueError, OSError)) as caught:
        listen(addr).close()
    text = str(caught.value)
    assert addr in text or repr(addr) in text or addr.encode("unicode_escape").decode() in text
    assert text.isprintable()


def test_a_port_of_very_many_digits() -> None:
    """A port that Python would not even convert is over 65535 all the same."""
    with pytest.raises(ValueError, match="65535"):
        listen(":" + "1" * 5000).close()


@pytest.mark.parametrize("addr", ["no-such-host.invalid:0", "192.0.2.1:0"])
def test_an_address_that_is_not_here(addr: str) -> None:
    """A host that is unknown, or another machine's, cannot be listened on."""
    with pytest.raises(OSError) as caught:
        listen(addr).close()
    assert f"listen tcp {addr}: " in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_port_that_is_taken() -> None:
    """Two servers cannot listen on one port: the second one says so, and leaves nothing behind."""
    with Serving(hello) as serving:
        with pytest.raises(OSError) as caught:
            Server(serving.server.addr, hello, read_header_timeout=PATIENCE)
        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.strerror == (
            f"listen tcp {serving.server.addr}: {os.strerror(errno.EADDRINUSE)}"
        )
        assert works(serving.port)


def test_many_may_wait_to_be_accepted() -> None:
    """Hundreds of clients can connect at the same moment, before the first is accepted."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    peers = [Peer(int(server.server_address[1])) for _ in range(300)]
    for peer in peers:
        peer.sock.close()
    server.server_close()
    server.shutdown()


def test_no_delay() -> None:
    """What is written to a client goes out at once: Nagle's algorithm is off."""
    options: list[int] = []

    def handler(sock: socket.socket, _: bytes) -> None:
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    with Serving(taking_over(handler)) as serving:
        answer(serving.port, REQUEST)
    assert options
    assert options[0] != 0


# The deadline of a request.


def drip(peer: Peer, data: bytes) -> float:
    """Send byte after byte, slowly, until the server ends the connection; return the time taken."""
    begin = time.monotonic()
    peer.sock.settimeout(0.02)
    for byte in data:
        try:
            peer.sock.send(bytes([byte]))
            assert peer.sock.recv(100) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            pass
        return time.monotonic() - begin
    raise AssertionError("all of it was taken")


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: "])
def test_a_request_that_drips_is_cut(head: bytes, logged: Callable[[], list[str]]) -> None:
    """A request must be there by a deadline from its accept on: single bytes do not move that."""
    with Serving(hello, read_header_timeout=0.5) as serving:
        begin = time.monotonic()
        with Peer(serving.port) as peer:
            peer.sock.sendall(head)
            drip(peer, b"a" * 1000)
            assert 0.5 <= time.monotonic() - begin < 5
        wait_until(lambda: not serving_threads())
    assert logged() == []


def test_a_silent_connection_is_cut(logged: Callable[[], list[str]]) -> None:
    """A client that connects and says nothing is cut at the same deadline."""
    with Serving(hello, read_header_timeout=0.3) as serving:
        begin = time.monotonic()
        with Peer(serving.port) as peer:
            assert read_to_end(peer) == b""
            assert 0.3 <= time.monotonic() - begin < 5
        wait_until(lambda: not serving_threads())
    assert logged() == []


def test_a_body_is_under_the_deadline_too(logged: Callable[[], list[str]]) -> None:
    """A handler that reads the request's body does not wait longer than the deadline for it."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["wsgi.input"].read(1000)
        return hello(environ, start_response)

    with Serving(app, read_header_timeout=0.3) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(b"POST / HTTP/1.1\r\nHost: gochat\r\nContent-Length: 1000\r\n\r\nbegin")
        assert drip(peer, b"a" * 900) < 5
    assert logged() == []


def test_a_request_in_pieces_is_served() -> None:
    """A request that comes in many pieces, but in time, is served."""
    with Serving(hello) as serving, Peer(serving.port) as peer:
        for byte in REQUEST:
            peer.sock.send(bytes([byte]))
        assert peer.response().body == b"hello"


def test_the_others_are_served_meanwhile() -> None:
    """Clients that keep the server waiting keep no other client waiting."""
    with Serving(hello, read_header_timeout=2) as serving:
        slow = [Peer(serving.port) for _ in range(20)]
        for peer in slow:
            peer.sock.sendall(b"GET /")
        assert works(serving.port)
        for peer in slow:
            peer.sock.close()


# Connections that are taken over.


@pytest.mark.parametrize("size", [0, 1, 3000, 100_000])
def test_what_came_behind_the_request_is_handed_over(size: int) -> None:
    """Bytes in the packet of the request, and those after it, reach the handler in their order."""
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
    """The deadline is for the request: who takes the connection over gets it without one."""

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


def test_nothing_is_written_behind_a_handler(logged: Callable[[], list[str]]) -> None:
    """When a handler that has taken its connection over returns, it is closed, and no more said."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        sock, _ = environ["gochat.hijacker"].hijack()
        sock.sendall(b"raw")
        return [b"a body"]

    with Serving(app) as serving:
        assert answer(serving.port, REQUEST) == b"raw"
    assert logged() == []


def test_nothing_is_read_behind_a_handler(logged: Callable[[], list[str]]) -> None:
    """What a handler that has its connection leaves unread is not taken for a request."""
    with Serving(taking_over(lambda sock, _: sock.sendall(b"raw"))) as serving:
        for rest in (REQUEST, b"\x81\x80junk\r\n\r\n", b"\r\n" * 5000):
            assert answer(serving.port, REQUEST + rest) == b"raw"
    assert logged() == []


def going(
    function: Callable[[socket.socket], object],
    beside: Callable[[socket.socket], object] = lambda _: None,
) -> WSGIApplication:
    """An application that takes each connection over, and has two threads go on with it."""

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
    """What is left to be done is done on the same thread, and then the connection is closed."""
    names = []

    def then(sock: socket.socket) -> None:
        names.append(threading.current_thread().name)
        sock.sendall(b"then")

    with Serving(going(then)) as serving:
        assert answer(serving.port, REQUEST) == b"first then"
    assert names == ["go on"]
    assert logged() == []


def test_going_on_beside(logged: Callable[[], list[str]]) -> None:
    """What goes on on another thread still has the connection when this one is through with it."""
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


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
def test_failing_for_want_of_a_descriptor(
    code: int, logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Who fails as there are no more descriptors is a line in the log, now and then."""

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
    """An exception out of what is left to be done closes the connection, and is logged once."""

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
    """An OSError out of a handler that has taken its connection over closes it: that is a line."""

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
    """Another exception out of such a handler closes the connection, and is logged once."""

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


# Errors.


def test_an_application_that_fails(
    logged: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in the application is a 500 and an entry in the log, and the server goes on."""

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


def test_a_head_without_a_body() -> None:
    """Who asks for the head alone gets no body, whatever the application answers."""
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


@pytest.mark.parametrize("size", [20_000, 3_000_000])
def test_a_body_that_nobody_reads(size: int) -> None:
    """A request's body is thrown away behind the answer, and nobody waits for more of it."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with Serving(hello, read_header_timeout=PATIENCE * 10) as serving:
        assert works(serving.port)
        wait_until(lambda: not serving_threads())
        before = descriptors()
        for missing in (0, 1):
            assert answer(serving.port, request + bytes(size - missing)).endswith(b"hello")
        wait_until(lambda: descriptors() == before)


def test_a_reset_behind_the_answer() -> None:
    """A client that is gone while its body is thrown away leaves no descriptor behind."""
    gone = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        yield from hello(environ, start_response)
        assert gone.wait(PATIENCE)

    with Serving(app) as serving:
        # Once with what is made once.
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
    """A body that goes on behind the answer is read until the deadline, and not for ever."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n"
    with Serving(hello, read_header_timeout=0.3) as serving, Peer(serving.port) as peer:
        peer.sock.sendall(request)
        begin = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() < begin + PATIENCE:
                peer.sock.send(bytes(65536))
        assert time.monotonic() < begin + PATIENCE


def test_nobody_is_told_to_continue() -> None:
    """A client that asks whether to send its body gets the answer, and no "100 Continue"."""
    request = REQUEST[:-2] + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with Serving(hello) as serving:
        assert answer(serving.port, request).startswith(b"HTTP/1.1 200 OK\r\n")


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


def test_no_port_is_any_port() -> None:
    """As in Go, an address may end with its colon."""
    with listen("127.0.0.1:") as listener:
        assert listener.getsockname()[1] > 0


def test_clients_that_leave(logged: Callable[[], list[str]]) -> None:
    """A client that goes away, politely or not, in the middle of a request, is not worth a word."""
    with Serving(hello) as serving:
        for sent in (b"", b"GET /", REQUEST[:-2], REQUEST):
            for linger in (False, True):
                with Peer(serving.port) as peer:
                    peer.sock.sendall(sent)
                    if linger:  # closed so, the connection is reset
                        linger_zero = b"\1\0\0\0\0\0\0\0"
                        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        wait_until(lambda: not serving_threads())
        assert works(serving.port)
    assert logged() == []


def test_connections_of_one_address(logged: Callable[[], list[str]]) -> None:
    """An address may have so many connections; others may have as many, and so may it later."""
    with Serving(hello, max_connections_per_address=2) as serving:
        with Peer(serving.port) as first, Peer(serving.port):
            wait_until(lambda: len(serving_threads()) == 2)
            with Peer(serving.port) as third:
                assert third.sock.recv(100).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            with Peer(serving.port, source="127.0.0.2") as other:
                assert other.request().body == b"hello"
            assert first.request().body == b"hello"
            wait_until(lambda: len(serving_threads()) == 1)
            assert works(serving.port)
        wait_until(lambda: not serving_threads())
        assert serving.server.admission._addresses == {}
        assert serving.server.admission._admitted == {}
    assert logged() == ["http: refused a connection (503): 2 of 127.0.0.1 are being served"]


# Behind a proxy.


PROXIES = ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48")


def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say who the client is: to the application, and in the name of the thread."""
    text = f"{environ['REMOTE_ADDR']} {threading.current_thread().name}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


def forwarded(*values: str) -> dict[str, str]:
    """A header for `Peer.request`, or several of the same name."""
    return {"X-Forwarded-For": "\r\nX-Forwarded-For: ".join(values)} if values else {}


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:DB8::0:7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        ([" \t192.0.2.7\t "], "192.0.2.7"),
        # What the client has sent stands before it.
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1,192.0.2.7"], "192.0.2.7"),
        (["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (["nonsense, , 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        # More proxies, one behind the other.
        (["198.51.100.1, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7, 2001:db8:1::2, 10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7, ::ffff:10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7, 11.1.2.3"], "11.1.2.3"),
        # A zone is of no use here, and could be any text.
        (["fe80::7%eth0"], "fe80::7"),
        (["fe80::7%\x9b31m"], "fe80::7"),
    ],
)
def test_the_address_behind_a_proxy(values: list[str], client: str) -> None:
    """The client is who the trusted proxies say it is, the last that is none of them."""
    with Serving(who, trusted_proxies=PROXIES) as serving, Peer(serving.port) as peer:
        name = f"[{client}]" if ":" in client else client
        name += peer.addr[peer.addr.rindex(":") :]
        assert peer.request(headers=forwarded(*values)).body == f"{client} serve {name}".encode()


@pytest.mark.parametrize(
    "values",
    [
        [],
        [""],
        [","],
        ["unknown"],
        ["_hidden"],
        ["192.0.2.7:5000"],
        ["[2001:db8::7]"],
        ["192.0.2.07"],
        ["192.0.2"],
        ["3221225991"],
        ["192.0.2.7;"],
        ['"192.0.2.7"'],
        ["192.0.2.7 198.51.100.1"],
        ["192.0.2.7/32"],
        ["chat.example"],
        ["%eth0"],
        ["\xb2.0.2.7"],
        ["192.0.2.7,"],
        ["192.0.2.7, unknown"],
        ["192.0.2.7, unknown, 10.1.2.3"],
        ["192.0.2.7", ""],
        ["127.0.0.1"],
        ["10.1.2.3, 127.0.0.1"],
    ],
)
def test_a_proxy_that_does_not_say_who(values: list[str]) -> None:
    """Where the header is malformed, or names nobody but proxies, the client is the proxy."""
    with Serving(who, trusted_proxies=PROXIES) as serving, Peer(serving.port) as peer:
        answer = peer.request(headers=forwarded(*values))
        assert answer.body == f"127.0.0.1 serve {peer.addr}".encode()


def test_no_other_header_names_the_client() -> None:
    """Of all that proxies say, X-Forwarded-For alone is believed."""
    names = ("Forwarded", "X-Real-IP", "X_Forwarded_For", "X-Forwarded-For-", "Client-IP")
    headers = dict.fromkeys(names, "192.0.2.7") | {"Forwarded": "for=192.0.2.7"}
    with Serving(who, trusted_proxies=PROXIES) as serving, Peer(serving.port) as peer:
        assert peer.request(headers=headers).body == f"127.0.0.1 serve {peer.addr}".encode()


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",), ("::1", "10.0.0.0/8", "::/0")])
def test_who_is_no_proxy_is_not_believed(proxies: tuple[str, ...]) -> None:
    """Any other client is who it is, whatever it says; and by default every one is."""
    with (
        Serving(who, trusted_proxies=proxies) as serving,
        Peer(serving.port, source="127.0.0.2") as peer,
    ):
        answer = peer.request(headers=forwarded("192.0.2.7"))
        assert answer.body == f"127.0.0.2 serve {peer.addr}".encode()


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_proxy_on_a_socket_for_both(host: str) -> None:
    """A proxy is known by IPv4 and by IPv6, on a socket that serves both."""
    proxies = ("127.0.0.1", "::1")
    with Serving(who, ":0", trusted_proxies=proxies) as serving, Peer(serving.port, host) as peer:
        answer = peer.request(headers=forwarded("192.0.2.7"))
        assert answer.body.startswith(b"192.0.2.7 serve 192.0.2.7:")


def test_connections_of_one_address_behind_a_proxy(logged: Callable[[], list[str]]) -> None:
    """Who comes through a proxy is counted with what comes from him directly; no proxy is."""
    client = forwarded("127.0.0.2")
    inside: list[str] = []
    release = threading.Event()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        inside.append(environ["REMOTE_ADDR"])
        assert release.wait(PATIENCE)
        return hello(environ, start_response)

    serving = Serving(app, max_connections_per_address=2, trusted_proxies=["127.0.0.1"])
    with serving, ExitStack() as peers:

        def ask(headers: dict[str, str], source: str = "127.0.0.1") -> Peer:
            peer = peers.enter_context(Peer(serving.port, source=source))
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = "\r\n".join(["GET / HTTP/1.1", "Host: gochat", *lines, "", ""])
            peer.sock.sendall(head.encode())
            return peer

        served = [ask({}) for _ in range(3)]
        served += [ask(client), ask({}, "127.0.0.2")]
        wait_until(lambda: len(inside) == 5)
        refused = ask(client).response()
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert ask({}, "127.0.0.2").response().status == 503
        served += [ask(forwarded("127.0.0.2, 192.0.2.7")) for _ in range(2)]
        wait_until(lambda: len(inside) == 7)
        assert serving.server.admission._addresses == {"127.0.0.2": 2, "192.0.2.7": 2}
        release.set()
        assert [peer.response().body for peer in served] == [b"hello"] * 7
        wait_until(lambda: not serving_threads())
        assert serving.server.admission._addresses == {}
        assert serving.server.admission._admitted == {}
        assert ask(client).response().body == b"hello"
    assert sorted(inside) == ["127.0.0.1"] * 3 + ["127.0.0.2"] * 3 + ["192.0.2.7"] * 2
    assert logged() == ["http: refused a connection (503): 2 of 127.0.0.2 are being served"]


# Limits.


def test_a_thread_that_cannot_be_started(
    logged: Callable[[], list[str]],
) -> None:
    """When the system gives no more threads, the client is told so, and the server goes on."""
    with Serving(hello) as serving:
        threading.stack_size(1 << 46)  # more than there is
        try:
            for _ in range(3):
                got = answer(serving.port, REQUEST)
                assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert got.endswith(b"\r\n\r\nService Unavailable\n")
        finally:
            threading.stack_size(0)
        assert logged() == ["http: refused a connection (503): can't start new thread"]
        assert works(serving.port)


def test_many_connections(logged: Callable[[], list[str]]) -> None:
    """Beyond max_connections clients are told to come again later, and in the log it is a line."""
    serving = Serving(taking_over(lambda sock, _: sock.recv(1)), max_connections=3)
    with serving:
        inside = [Peer(serving.port) for _ in range(3)]
        for peer in inside:
            peer.sock.sendall(REQUEST)
        wait_until(lambda: len(serving_threads()) == 3)
        for _ in range(5):
            with Peer(serving.port) as peer:
                peer.sock.sendall(REQUEST)
                assert peer.response().status == 503
                assert peer.buffer == b""
                assert read_to_end(peer) == b""
        assert logged() == ["http: refused a connection (503): 3 are being served"]
        assert len(serving_threads()) == 3
        inside.pop().sock.close()
        wait_until(lambda: len(serving_threads()) == 2)
        with Peer(serving.port) as peer:
            peer.sock.sendall(REQUEST)
            wait_until(lambda: len(serving_threads()) == 3)
        for peer in inside:
            peer.sock.close()


def cpu(pid: int) -> float:
    """How much of a processor's time a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("over", [False, True])
def test_no_more_descriptors(over: bool) -> None:
    """At the limit of open files, or over it, the server serves whom it has, and does not spin."""
    with Gochat("--read-header-timeout", str(PATIENCE)) as gochat, join(gochat.port) as member:
        pid = gochat.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        limit = 3 if over else gochat.descriptors() + 2
        for soft in (limit, limits[0], limit):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, limits[1]))
            waiting = [Peer(gochat.port) for _ in range(5)]
            before = cpu(pid)
            for peer in waiting:
                peer.sock.sendall(REQUEST)
            if soft == limit:
                threading.Event().wait(0.5)
                assert cpu(pid) - before < 0.1
            else:
                for peer in waiting:
                    assert peer.response().status == 200
            member.send("still here")
            assert member.messages(1) == ["still here"]
            for peer in waiting:
                peer.sock.close()
        member.sock.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert gochat.stop() == 0
        assert gochat.logged("Too many open files")


def test_no_more_descriptors_for_a_request() -> None:
    """Who is connected gets the page at the limit, too; the log has a line and no traceback."""
    with Gochat("--read-header-timeout", str(PATIENCE)) as gochat:
        pid = gochat.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        peers = [Peer(gochat.port) for _ in range(5)]
        for peer in peers:
            peer.sock.sendall(REQUEST[:10])
        wait_until(lambda: len(gochat.threads()) == 2 + len(peers))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (gochat.descriptors(), limits[1]))
        for peer in peers:
            peer.sock.sendall(REQUEST[10:])
            assert peer.response().status == 200
            peer.sock.close()
        wait_until(lambda: gochat.logged("Too many open files"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        assert gochat.stop() == 0
        assert not gochat.logged("Traceback"), gochat.lines


@pytest.mark.parametrize("code", [errno.ENOBUFS, errno.ENOMEM])
def test_no_more_memory_for_a_connection(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system has no memory for a connection, the server does not spin, and goes on."""
    calls: list[float] = []
    accept = socket.socket.accept

    def fail(sock: socket.socket) -> tuple[socket.socket, Any]:
        calls.append(time.monotonic())
        if len(calls) < 4:
            raise OSError(code, os.strerror(code))
        return accept(sock)

    with Serving(hello) as serving:
        monkeypatch.setattr(socket.socket, "accept", fail)
        assert works(serving.port)
        assert len(calls) == 4
        assert calls[3] - calls[0] >= 0.3


def test_a_listener_that_fails() -> None:
    """What else goes wrong with accepting is the caller's to know."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    server.server_close()
    with pytest.raises(OSError) as caught:
        server.get_request()
    assert caught.value.errno == errno.EBADF
    server.shutdown()


# The end.


def test_stop_from_another_thread() -> None:
    """stop, from any thread, makes serve_forever return, and nobody is accepted from then on."""
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


def test_stop_among_many_signals() -> None:
    """It ends even if what wakes it is full of signals that it has not looked at."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    with suppress(BlockingIOError):
        while True:
            os.write(server.wakeup_fd, bytes([signal.SIGUSR1]))
    server.stop()
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
    server.shutdown()


def test_stop_before_it_serves() -> None:
    """A server that is stopped before it serves does not begin to; and twice is once."""
    server = Server(LOCAL, hello, read_header_timeout=PATIENCE)
    server.stop()
    server.stop()
    accepting = threading.Thread(target=server.serve_forever)
    accepting.start()
    accepting.join(PATIENCE)
    assert not accepting.is_alive()
    server.shutdown()
    server.stop()


def test_shutdown_waits_for_who_ends_in_time() -> None:
    """shutdown lets a handler finish, and returns when it has, long before its timeout."""
    heard: list[bytes] = []

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"go on")
        heard.append(sock.recv(100))
        sock.sendall(b"done")

    serving = Serving(taking_over(handler))
    with Peer(serving.port) as peer:
        peer.sock.sendall(REQUEST)
        assert peer.read(5) == b"go on"
        serving.stop()
        closing = threading.Thread(target=serving.server.shutdown, args=(PATIENCE,))
        begin = time.monotonic()
        closing.start()
        peer.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):  # it is not cut
            peer.sock.recv(1)
        assert closing.is_alive()
        peer.sock.settimeout(PATIENCE)
        peer.sock.sendall(b"the rest")
        assert read_to_end(peer) == b"done"
        closing.join(PATIENCE)
    assert not closing.is_alive()
    assert time.monotonic() - begin < PATIENCE / 2
    assert heard == [b"the rest"]
    assert serving_threads() == []


def test_shutdown_cuts_the_others() -> None:
    """At its timeout shutdown cuts who is still served: in a handler, or before its request."""
    heard: list[bytes] = []
    cleared_up = threading.Event()

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"ready")
        heard.append(sock.recv(100))
        cleared_up.wait(0.1)  # what a handler still does then is waited for, too
        heard.append(b"cleared up")

    serving = Serving(taking_over(handler))
    with Peer(serving.port) as taken, Peer(serving.port) as silent, Peer(serving.port) as half:
        half.sock.sendall(b"GET / HT")
        taken.sock.sendall(REQUEST)
        assert taken.read(5) == b"ready"
        wait_until(lambda: len(serving_threads()) == 3)
        serving.stop()
        begin = time.monotonic()
        serving.server.shutdown(0.3)
        assert 0.3 <= time.monotonic() - begin < 5
        assert heard == [b"", b"cleared up"]
        for peer in (taken, silent, half):
            assert read_to_end(peer) == b""
    wait_until(lambda: serving_threads() == [])


def test_shutdown_of_who_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that does not even end when its connection is cut is not waited for any longer."""
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
        serving.stop()
        begin = time.monotonic()
        serving.server.shutdown(0.1)
        assert time.monotonic() - begin < 5
        assert len(serving_threads()) == 1
        assert read_to_end(peer) == b""
        go_on.set()
        wait_until(lambda: serving_threads() == [])


def test_shutdown_with_many() -> None:
    """All of many connections are given back: threads, descriptors, and the port."""
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
    serving.stop()
    serving.server.shutdown()
    wait_until(lambda: serving_threads() == [])
    for peer in peers:
        peer.sock.close()
    wait_until(lambda: descriptors() == files)
    listen(serving.server.addr).close()
