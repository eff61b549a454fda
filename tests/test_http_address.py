"""Addresses to listen on: host:port strings, and sockets that share an address."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack

import pytest

from gochat.golang.http.address import listen, listen_shared, next_port

from .http_support import needs_ipv6
from .support import LOCAL, Peer

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    ("addr", "host"),
    [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[127.0.0.1]:0", "127.0.0.1"),
        ("[::ffff:127.0.0.1]:0", "127.0.0.1"),
        pytest.param("[::1]:0", "::1", marks=needs_ipv6),
    ],
)
def test_listen(addr: str, host: str) -> None:
    """listen accepts host:port, with or without brackets. Port 0 means a free port."""
    with listen(addr) as listener:
        got, port = listener.getsockname()[:2]
        assert got == host
        assert port > 0
        with Peer(port, host), listener.accept()[0]:
            pass


def test_listen_at_a_name() -> None:
    """listen resolves a host name, and prefers an IPv4 address."""
    with listen("localhost:0") as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")
        families = {info[0] for info in socket.getaddrinfo("localhost", 0)}
        if socket.AF_INET in families:
            assert listener.family == socket.AF_INET


def test_no_port_is_any_port() -> None:
    with listen("127.0.0.1:") as listener:
        assert listener.getsockname()[1] > 0


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
        "x." * 127 + ":0",
        "local host:0",
        "me@localhost:0",
        "*:0",
        "evil\nname.invalid:0",
        "127.0.0.1\n:0",
        ":\n1",
    ],
)
def test_what_is_no_address(addr: str) -> None:
    """An invalid address is refused in one line that contains it."""
    with pytest.raises((ValueError, OSError)) as caught:
        listen(addr).close()
    text = str(caught.value)
    assert addr in text or repr(addr) in text or addr.encode("unicode_escape").decode() in text
    assert text.isprintable()


def test_a_port_of_very_many_digits() -> None:
    """A port with too many digits for Python to convert is refused, just as 65536 is."""
    with pytest.raises(ValueError, match="65535"):
        listen(":" + "1" * 5000).close()


@pytest.mark.parametrize("addr", ["no-such-host.invalid:0", "192.0.2.1:0"])
def test_an_address_that_is_not_here(addr: str) -> None:
    """Listening on an unknown host or on another machine's address raises OSError."""
    with pytest.raises(OSError) as caught:
        listen(addr).close()
    assert f"listen tcp {addr}: " in str(caught.value)
    assert str(caught.value).isprintable()


def accepted(listener: socket.socket) -> int:
    """Accept and close all waiting connections; return their number."""
    listener.setblocking(False)
    count = 0
    try:
        while True:
            listener.accept()[0].close()
            count += 1
    except BlockingIOError:
        return count


@pytest.mark.parametrize(
    ("addr", "hosts"),
    [
        (LOCAL, ["127.0.0.1"]),
        pytest.param("[::1]:0", ["::1"], marks=needs_ipv6),
        pytest.param(":0", ["127.0.0.1", "::1"], marks=needs_ipv6),
    ],
)
def test_listen_shared(addr: str, hosts: list[str]) -> None:
    """Several sockets share one address, and each gets some of the connections."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in listen_shared(addr, 3)]
        (port,) = {each.getsockname()[1] for each in listeners}
        for host in hosts:
            # With 100 connections, one of three sockets gets none with a probability of about
            # 1e-17.
            for _ in range(100):
                stack.enter_context(Peer(port, host))
            counts = [accepted(each) for each in listeners]
            assert sum(counts) == 100
            assert all(counts)


def test_nobody_joins_a_shared_address() -> None:
    """Nothing else can listen on a shared address, and an address in use cannot be shared."""
    for count in (1, 2):
        with ExitStack() as stack:
            first = [stack.enter_context(each) for each in listen_shared(LOCAL, count)]
            addr = f"127.0.0.1:{first[0].getsockname()[1]}"
            with pytest.raises(OSError, match="Address already in use"):
                listen(addr)
            with pytest.raises(OSError, match="Address already in use"):
                listen_shared(addr, 2)
    with listen(LOCAL) as listener:
        addr = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(OSError, match=f"^.*listen tcp {addr}: Address already in use$"):
            listen_shared(addr, 2)


def test_a_shared_address_that_fails_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of the sockets cannot be opened, the others are closed again."""
    create = socket.create_server
    ports: list[int] = []

    def fail(*args, **options):  # type: ignore[no-untyped-def]
        if len(ports) == 2:
            raise OSError(24, os.strerror(24))
        made = create(*args, **options)
        ports.append(made.getsockname()[1])
        return made

    monkeypatch.setattr(socket, "create_server", fail)
    with pytest.raises(OSError, match="Too many open files"):
        listen_shared(LOCAL, 3)
    monkeypatch.undo()
    listen(f"127.0.0.1:{ports[0]}").close()


@pytest.mark.parametrize(
    ("addr", "number", "expected"),
    [
        (":9100", 0, ":9100"),
        (":9100", 3, ":9103"),
        ("localhost:9100", 1, "localhost:9101"),
        ("[::1]:9100", 1, "[::1]:9101"),
        ("127.0.0.1:0", 5, "127.0.0.1:0"),
        ("127.0.0.1:", 5, "127.0.0.1:0"),
        (":65535", 1, ":65536"),
    ],
)
def test_next_port(addr: str, number: int, expected: str) -> None:
    """next_port adds a number to the port. Port 0 stays 0.

    The result may be above 65535; `listen` then refuses it.
    """
    assert next_port(addr, number) == expected


@pytest.mark.parametrize("addr", ["", "9100", "localhost", "::1:9100", ":x", ":65536"])
def test_next_port_of_no_address(addr: str) -> None:
    """next_port raises ValueError for an invalid address."""
    with pytest.raises(ValueError):
        next_port(addr, 1)
