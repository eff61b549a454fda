"""Addresses: where a socket can listen, and which texts are not addresses."""

from __future__ import annotations

import socket

import pytest

from gochat.golang.http.address import listen

from .http_support import needs_ipv6
from .support import Peer

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.mark.parametrize(
    ("addr", "host"),
    [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[127.0.0.1]:0", "127.0.0.1"),
        pytest.param("[::1]:0", "::1", marks=needs_ipv6),
    ],
)
def test_listen(addr: str, host: str) -> None:
    """An address is host:port; port 0 means a free port, and the host may be in brackets."""
    with listen(addr) as listener:
        got, port = listener.getsockname()[:2]
        assert got == host
        assert port > 0
        with Peer(port, host), listener.accept()[0]:
            pass


def test_listen_at_a_name() -> None:
    """A host name is resolved, and an IPv4 address is preferred."""
    with listen("localhost:0") as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")
        families = {info[0] for info in socket.getaddrinfo("localhost", 0)}
        if socket.AF_INET in families:
            assert listener.family == socket.AF_INET


def test_no_port_is_any_port() -> None:
    """An empty port means a free port, as in Go."""
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
        "evil\nname.invalid:0",
        "127.0.0.1\n:0",
        ":\n1",
    ],
)
def test_what_is_no_address(addr: str) -> None:
    """A text that is not an address is refused with one line that names it."""
    with pytest.raises((ValueError, OSError)) as caught:
        listen(addr).close()
    text = str(caught.value)
    assert addr in text or repr(addr) in text or addr.encode("unicode_escape").decode() in text
    assert text.isprintable()


def test_a_port_of_very_many_digits() -> None:
    """A port with more digits than Python converts is refused like any port over 65535."""
    with pytest.raises(ValueError, match="65535"):
        listen(":" + "1" * 5000).close()


@pytest.mark.parametrize("addr", ["no-such-host.invalid:0", "192.0.2.1:0"])
def test_an_address_that_is_not_here(addr: str) -> None:
    """A socket cannot listen at an unknown host, or at the address of another machine."""
    with pytest.raises(OSError) as caught:
        listen(addr).close()
    assert f"listen tcp {addr}: " in str(caught.value)
    assert str(caught.value).isprintable()
