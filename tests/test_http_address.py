"""Addresses: what can be listened on, and what cannot."""

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


def test_no_port_is_any_port() -> None:
    """As in Go, an address may end with its colon."""
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
