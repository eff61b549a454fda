"""Admission: connection limits, proxies, and running out of descriptors or threads."""

from __future__ import annotations

import ipaddress
import os
import resource
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gochat.golang.http import ServerStatistics
from gochat.golang.http.admission import Admission

from .http_support import (
    REQUEST,
    Serving,
    answer,
    hello,
    needs_ipv6,
    read_to_end,
    serving_threads,
    taking_over,
    works,
)
from .support import PATIENCE, Gochat, Peer, effort, join, wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_many_connections(logged: Callable[[], list[str]]) -> None:
    """A connection beyond max_connections gets 503. This is logged at most once a second."""
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


def test_connections_of_one_address(logged: Callable[[], list[str]]) -> None:
    """Each address has its own limit. When a connection ends, its address can connect again."""

    def handler(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"in")
        sock.recv(1)

    app = taking_over(handler)
    with Serving(app, max_connections_per_address=2) as serving:
        with ExitStack() as peers:
            inside = [peers.enter_context(Peer(serving.port)) for _ in range(2)]
            for peer in inside:
                peer.sock.sendall(REQUEST)
                assert peer.read(2) == b"in"
            for _ in range(3):
                with Peer(serving.port) as third:
                    refused = third.request()
                    assert (refused.status, refused.headers["connection"]) == (503, "close")
            with Peer(serving.port, source="127.0.0.2") as other:
                other.sock.sendall(REQUEST)
                assert other.read(2) == b"in"
            inside[0].sock.shutdown(socket.SHUT_WR)
            assert read_to_end(inside[0]) == b""
            with Peer(serving.port) as again:
                again.sock.sendall(REQUEST)
                assert again.read(2) == b"in"
        wait_until(lambda: not serving_threads())
        assert_nothing_counts(serving)
    assert logged() == ["http: refused a connection (503): 2 of 127.0.0.1 are being served"]


def assert_nothing_counts(serving: Serving) -> None:
    admission = serving.server.admission
    assert (admission._open, admission._served, admission._admitted) == ({}, {}, {})


def test_idle_connections_of_one_address(logged: Callable[[], list[str]]) -> None:
    """Connections without a request leave room for others, but are also limited."""
    with Serving(hello, max_connections=20, max_connections_per_address=2) as serving:
        with ExitStack() as peers:
            idle = [peers.enter_context(Peer(serving.port)) for _ in range(8)]
            idle[7].sock.sendall(b"GET / HT")
            wait_until(lambda: len(serving_threads()) == 8)
            with Peer(serving.port) as ninth:
                assert ninth.response().status == 503
            assert idle[0].request().body == b"hello"
            with Peer(serving.port, source="127.0.0.2") as other:
                assert other.request().body == b"hello"
            wait_until(lambda: len(serving_threads()) == 7)
            assert works(serving.port)
            idle[7].sock.sendall(REQUEST[8:])
            assert idle[7].response().body == b"hello"
        wait_until(lambda: not serving_threads())
        assert_nothing_counts(serving)
    assert logged() == ["http: refused a connection (503): 8 of 127.0.0.1 are being served"]


def test_a_thread_that_cannot_be_started(
    logged: Callable[[], list[str]],
) -> None:
    with Serving(hello) as serving:
        threading.stack_size(1 << 46)  # more than any machine has
        try:
            for _ in range(3):
                got = answer(serving.port, REQUEST)
                assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                assert got.endswith(b"\r\n\r\nService Unavailable\n")
        finally:
            threading.stack_size(0)
        assert logged() == ["http: refused a connection (503): can't start new thread"]
        assert works(serving.port)


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.measured
@pytest.mark.parametrize("over", [False, True])
def test_no_more_descriptors(over: bool) -> None:
    """Out of descriptors, the server keeps serving its connections and uses little CPU time."""
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


@pytest.mark.measured
def test_no_more_descriptors_for_a_request() -> None:
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


PROXIES = ("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48")


def who(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond with the client's address in the environ and the thread's name."""
    text = f"{environ['REMOTE_ADDR']} {threading.current_thread().name}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


def forwarded(*values: str) -> dict[str, str]:
    """Return headers for `Peer.request` with an X-Forwarded-For line for each value."""
    return {"X-Forwarded-For": "\r\nX-Forwarded-For: ".join(values)} if values else {}


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["2001:DB8::0:7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        ([" \t192.0.2.7\t "], "192.0.2.7"),
        # The client may have made up the first address.
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1,192.0.2.7"], "192.0.2.7"),
        (["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (["nonsense, , 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        # Several proxies.
        (["198.51.100.1, 192.0.2.7, 10.1.2.3"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7, 2001:db8:1::2, 10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7, ::ffff:10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        (["192.0.2.7" + ", 10.1.2.3" * 100], "192.0.2.7"),
        (["2001:0db8:0000:0000:0000:ffff:192.100.200.207"], "2001:db8::ffff:c064:c8cf"),
        (["192.0.2.7, 11.1.2.3"], "11.1.2.3"),
        # Addresses with a port.
        (["192.0.2.7:5000"], "192.0.2.7"),
        (["[2001:db8::7]:5000"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[::ffff:192.0.2.7]:1"], "192.0.2.7"),
        (["[fe80::7%eth0]:5000"], "fe80::7"),
        (["198.51.100.1:1, 192.0.2.7:65535, [2001:db8:1::2]:80, 10.1.2.3:5"], "192.0.2.7"),
        # The zone is removed.
        (["fe80::7%eth0"], "fe80::7"),
        (["fe80::7%\x9b31m"], "fe80::7"),
    ],
)
def test_the_address_behind_a_proxy(values: list[str], client: str) -> None:
    """The client is the last address that is not a trusted proxy."""
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
        ["192.0.2.7:"],
        ["192.0.2.7:port"],
        ["192.0.2.7:500000"],
        ["192.0.2:5000"],
        ["[2001:db8::7"],
        ["[2001:db8::7]5000"],
        ["[2001:db8::7]:"],
        ["[192.0.2.7]:5000"],
        ["[]:5000"],
        ["2001:db8::7]:5000"],
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
        ["192.0.2.7" + ", 10.1.2.3" * 101],
        ["192.0.2.7" + "0" * 100],
    ],
)
def test_a_proxy_that_does_not_say_who(values: list[str]) -> None:
    """If X-Forwarded-For names no client, the proxy counts as the client."""
    with Serving(who, trusted_proxies=PROXIES) as serving, Peer(serving.port) as peer:
        answer = peer.request(headers=forwarded(*values))
        assert answer.body == f"127.0.0.1 serve {peer.addr}".encode()


@pytest.mark.parametrize("part", ["127.0.0.1,", "::1,", ",", ":", " ", "%"])
def test_a_long_list_of_proxies(part: str) -> None:
    proxies = [ipaddress.ip_network(network) for network in ("127.0.0.0/8", "::1")]
    admission = Admission(trusted_proxies=proxies)
    text = part * (1_000_000 // len(part))
    found: list[str] = []
    assert effort(lambda: found.append(admission.forwarded_for([text]))) < 40
    assert found == [""]
    tracemalloc.start()
    try:
        admission.forwarded_for([text])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000


def test_no_other_header_names_the_client() -> None:
    """Of all headers, only X-Forwarded-For can name the client."""
    names = ("Forwarded", "X-Real-IP", "X_Forwarded_For", "X-Forwarded-For-", "Client-IP")
    headers = dict.fromkeys(names, "192.0.2.7") | {"Forwarded": "for=192.0.2.7"}
    with Serving(who, trusted_proxies=PROXIES) as serving, Peer(serving.port) as peer:
        assert peer.request(headers=headers).body == f"127.0.0.1 serve {peer.addr}".encode()


@pytest.mark.parametrize("proxies", [(), ("127.0.0.1",), ("::1", "10.0.0.0/8", "::/0")])
def test_who_is_no_proxy_is_not_believed(proxies: tuple[str, ...]) -> None:
    """X-Forwarded-For is ignored unless it comes from a trusted proxy."""
    with (
        Serving(who, trusted_proxies=proxies) as serving,
        Peer(serving.port, source="127.0.0.2") as peer,
    ):
        answer = peer.request(headers=forwarded("192.0.2.7"))
        assert answer.body == f"127.0.0.2 serve {peer.addr}".encode()


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_proxy_on_a_socket_for_both(host: str) -> None:
    """On a socket for IPv4 and IPv6, proxies are recognized by both kinds of address."""
    proxies = ("127.0.0.1", "::1")
    with Serving(who, ":0", trusted_proxies=proxies) as serving, Peer(serving.port, host) as peer:
        answer = peer.request(headers=forwarded("192.0.2.7"))
        assert answer.body.startswith(b"192.0.2.7 serve 192.0.2.7:")


def test_connections_of_one_address_behind_a_proxy(logged: Callable[[], list[str]]) -> None:
    """Direct and proxied connections of one client count together.

    The proxy's own connections are not limited.
    """
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
        assert serving.server.admission._served == {"127.0.0.2": 2, "192.0.2.7": 2}
        assert serving.server.admission._open == {"127.0.0.2": 1}
        release.set()
        assert [peer.response().body for peer in served] == [b"hello"] * 7
        wait_until(lambda: not serving_threads())
        assert_nothing_counts(serving)
        assert ask(client).response().body == b"hello"
    assert sorted(inside) == ["127.0.0.1"] * 3 + ["127.0.0.2"] * 3 + ["192.0.2.7"] * 2
    assert logged() == ["http: refused a connection (503): 2 of 127.0.0.2 are being served"]


def test_a_malformed_header_of_a_proxy(logged: Callable[[], list[str]]) -> None:
    """A malformed X-Forwarded-For is logged, quoted and shortened, at most once a second."""
    with Serving(hello, trusted_proxies=PROXIES) as serving:
        for value in ("\x9b31m" + "x" * 1000, "unknown"):
            with Peer(serving.port) as peer:
                assert peer.request(headers=forwarded(value)).body == b"hello"
        for values in ([], [""], ["10.0.0.1"]):
            with Peer(serving.port) as peer:
                assert peer.request(headers=forwarded(*values)).body == b"hello"
    text = "'\\x9b31m" + "x" * 96 + "'"
    assert logged() == [f"http: no address in X-Forwarded-For of a proxy: {text}"]


def test_statistics() -> None:
    """statistics counts accepted, open and refused connections.

    A snapshot does not change later.
    """
    with Serving(hello, max_connections=2) as serving:
        statistics = serving.server.statistics
        before = statistics()
        reasons = ("max_connections", "max_connections_per_address", "threads", "descriptors")
        assert before == ServerStatistics(0, 0, dict.fromkeys(reasons, 0))
        with Peer(serving.port), Peer(serving.port):
            wait_until(lambda: statistics().open == 2)
            assert answer(serving.port, REQUEST).startswith(b"HTTP/1.1 503 ")
            wait_until(lambda: statistics().refused["max_connections"] == 1)
        wait_until(lambda: statistics().open == 0)
        assert works(serving.port)
        wait_until(lambda: statistics().open == 0)
        assert statistics() == ServerStatistics(3, 0, {**before.refused, "max_connections": 1})
        assert before.refused["max_connections"] == 0
        with pytest.raises(FrozenInstanceError):
            before.open = 1  # type: ignore[misc]
