"""The metrics of a real server, and the server that exports them."""

from __future__ import annotations

import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gochat import Hub, Settings
from gochat.golang.http.address import listen
from gochat.golang.turns import turns
from gochat.golang.websocket import TEXT_MESSAGE
from gochat.ops.clients import Clients, drop_reason
from gochat.ops.command import main
from gochat.ops.metrics import health_app

from .http_support import read_to_end
from .support import (
    CLOSE,
    LOCAL,
    LONG_MESSAGE,
    PATIENCE,
    Gochat,
    Peer,
    command,
    connected,
    deaf,
    finished,
    frame,
    in_background,
    join,
    reset_socket,
    say_long,
    wait_until,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Values by name. A label's value follows the name, after a space.
Figures = dict[str, float]


class Measured(Gochat):
    """`gochat serve` with metrics, read over HTTP."""

    def __init__(self, *flags: str, fault: str = "") -> None:
        super().__init__("--metrics-addr", LOCAL, "--addr", LOCAL, *flags, fault=fault)
        found = re.search(r"metrics at (http://[\d.]+:(\d+))/metrics$", "\n".join(self.lines), re.M)
        if not found:
            self.kill()
            raise AssertionError(f"no metrics: {self.lines}")
        self.metrics_url = found[1]
        self.metrics_port = int(found[2])

    def __enter__(self) -> Measured:
        return self

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.metrics_url + path, timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def figures(self) -> Figures:
        status, text = self.get("/metrics")
        assert status == 200
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_for(self, **expected: float) -> Figures:
        """Wait until the metrics have these values; return all metrics.

        The names in `expected` are without `gochat_`.
        """
        wanted = {f"gochat_{name}": value for name, value in expected.items()}
        figures: Figures = {}

        def there() -> bool:
            figures.update(self.figures())
            return wanted.items() <= figures.items()

        try:
            wait_until(there)
        except AssertionError:
            assert {name: figures.get(name) for name in wanted} == wanted
            raise
        return figures


@pytest.fixture
def chat() -> Iterator[Measured]:
    with Measured("--send-buffer=5000") as chat:
        yield chat
        assert chat.stop() == 0
        assert not chat.logged("Traceback")


def leave(peer: Peer) -> None:
    peer.send(b"\x03\xe8", CLOSE)
    peer.read_to_end()
    peer.sock.close()


# Metrics of a chat.


def test_before_anything_has_happened(chat: Measured) -> None:
    figures = chat.figures()
    assert figures.pop(f"gochat_runtime {chat.runtime}") == 1.0
    assert set(figures.values()) == {0.0}
    names = {name.partition(" ")[0] for name in figures}
    assert names == {
        "gochat_clients",
        "gochat_clients_dropped_total",
        "gochat_connections_refused_total",
        "gochat_frames_sent_total",
        "gochat_handshakes_refused_total",
        "gochat_messages_per_frame_bucket",
        "gochat_messages_per_frame_count",
        "gochat_messages_per_frame_sum",
        "gochat_messages_received_total",
        "gochat_messages_sent_total",
        "gochat_send_queue_deepest_messages",
        "gochat_send_queue_messages",
        "gochat_write_stalls_total",
    }


@pytest.mark.measured
def test_a_chat(chat: Measured) -> None:
    """The metrics count clients, messages and deliveries. Totals include departed clients."""
    alice = join(chat.port)  # she has received her own greeting
    bob = join(chat.port)
    alice.messages(1)
    chat.wait_for(clients=2, messages_received_total=2, messages_sent_total=3)
    for number in range(3):
        alice.send(f"message\n{number}")
        for peer in (alice, bob):
            assert peer.messages(1) == [f"message {number}"]
    said = {"messages_received_total": 5, "messages_sent_total": 9, "frames_sent_total": 9}
    figures = chat.wait_for(clients=2, **said)
    assert figures["gochat_messages_per_frame_bucket 1.0"] == 9
    leave(alice)
    chat.wait_for(clients=1, **said)
    bob.send("alone")
    assert bob.messages(1) == ["alone"]
    leave(bob)
    said = {"messages_received_total": 6, "messages_sent_total": 10, "frames_sent_total": 10}
    figures = chat.wait_for(clients=0, **said)
    assert sum(figures[name] for name in figures if "dropped" in name or "refused" in name) == 0


def test_a_flood(chat: Measured) -> None:
    flood = [f"message {number}" for number in range(1000)]
    with join(chat.port) as flooder, join(chat.port) as other:
        flooder.messages(1)
        flooder.sock.sendall(b"".join(map(frame, flood)))
        assert flooder.messages(1000) == other.messages(1000) == flood
        figures = chat.wait_for(messages_received_total=1002, messages_sent_total=2003)
    frames = figures["gochat_frames_sent_total"]
    assert 3 <= frames <= 2003
    assert figures["gochat_messages_per_frame_count"] == frames
    assert figures["gochat_messages_per_frame_bucket +Inf"] == frames
    assert figures["gochat_messages_per_frame_sum"] == 2003


def test_messages_per_frame() -> None:
    """A frame is counted in the first bucket that is large enough for its messages."""
    clients = Clients()
    with connected() as (conn, _):
        queue = clients.new_client(Hub(), conn, Settings(send_buffer=5000)).send
        for messages in (1, 2, 3, 4, 5, 256, 257, 5000):
            for _ in range(messages):
                queue.send(b"x")
            assert queue.recv() == (b"x", True)
            assert len(queue.drain()) == messages - 1
        turns.give_up()
        there, totals = clients.read()
        assert totals.frames_out[:14] == [1, 1, 2, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1]
        assert totals.messages_out == 1 + 2 + 3 + 4 + 5 + 256 + 257 + 5000
        assert [client.send for client in there] == [queue]
        clients.closed(conn.sock)
        assert clients.read() == ([], totals)


# Dropped and refused clients.


def test_one_who_stops_reading() -> None:
    """The metrics show a slow client's queue and stalls, then count the client as dropped."""
    flags = (f"--max-message-size={LONG_MESSAGE}", "--send-buffer=100", "--write-wait=1000")
    with Measured(*flags) as chat, join(chat.port) as speaker, deaf(chat.port) as slow:
        chat.wait_for(clients=2)
        say_long(speaker, 90)
        figures = chat.wait_for(messages_received_total=91)
        assert figures["gochat_write_stalls_total"] >= 1
        waiting = figures["gochat_send_queue_messages"]
        assert 0 < waiting <= 90
        assert figures["gochat_send_queue_deepest_messages"] == waiting
        say_long(speaker, 90)
        # The hub has dropped the slow client, but its messages are still queued.
        figures = chat.wait_for(clients=1, messages_received_total=181)
        assert figures["gochat_send_queue_deepest_messages"] == 100
        assert figures["gochat_clients_dropped_total full_send_buffer"] == 0
        got = sum(1 + text.payload.count(b"\n") for text in slow.read_to_end()[:-1])
        chat.wait_for(
            **{"clients_dropped_total full_send_buffer": 1},
            messages_sent_total=181 + got,
            send_queue_messages=0,
        )
        assert chat.stop(signal.SIGINT) == 0


def send_too_long(peer: Peer, _: Gochat) -> None:
    peer.send("x" * (LONG_MESSAGE + 1))
    peer.read_to_end()


def send_unmasked(peer: Peer, _: Gochat) -> None:
    peer.sock.sendall(frame("x", mask=None))
    peer.read_to_end()


def answer_no_ping(peer: Peer, _: Gochat) -> None:
    """Read without answering pings, until the server disconnects the client."""
    peer.read_to_end()


def read_nothing(_: Peer, chat: Gochat) -> None:
    """Do not read while another client talks."""
    with join(chat.port) as speaker:
        say_long(speaker, 150)
        leave(speaker)


@pytest.mark.measured
@pytest.mark.parametrize(
    ("flags", "deed", "reason"),
    [
        ((), send_too_long, "message_too_big"),
        ((), send_unmasked, "protocol_error"),
        (("--pong-wait=0.2",), answer_no_ping, "read_deadline"),
        (("--write-wait=0.2",), read_nothing, "write_deadline"),
        # The send buffer must fill up before the write wait ends.
        (("--write-wait=5", "--send-buffer=3"), read_nothing, "full_send_buffer"),
    ],
)
def test_a_client_is_dropped(
    flags: tuple[str, ...], deed: Callable[[Peer, Gochat], None], reason: str
) -> None:
    with Measured(f"--max-message-size={LONG_MESSAGE}", *flags) as chat:
        with deaf(chat.port) as peer:
            deed(peer, chat)
            figures = chat.wait_for(**{f"clients_dropped_total {reason}": 1}, clients=0)
        assert sum(n for name, n in figures.items() if "clients_dropped" in name) == 1


def gone(peer: Peer) -> None:
    peer.sock.close()


def break_off(peer: Peer) -> None:
    reset_socket(peer.sock)


def test_one_who_goes() -> None:
    """A client that leaves or disappears is not counted as dropped."""
    with Measured("--max-clients=1") as chat:
        for go in (leave, gone, break_off, leave):
            peer = enter_alone(chat)
            go(peer)
        enter_alone(chat).sock.close()
        figures = chat.figures()
        assert sum(n for name, n in figures.items() if "clients_dropped" in name) == 0


def enter_alone(chat: Measured) -> Peer:
    """Join a chat that admits one client, once the previous client has been released."""
    peers: list[Peer] = []

    def is_in() -> bool:
        for peer in peers:
            peer.sock.close()
        peers[:] = [Peer(chat.port)]
        try:
            return peers[0].open().status == 101
        except ConnectionError:  # refused before the handshake was sent
            return False

    wait_until(is_in, "the end of the previous one")
    return peers[0]


def test_a_write_that_is_given_up() -> None:
    """A write that waits for room in the socket is counted as a stall."""
    clients = Clients()
    with connected() as (conn, _):
        client = clients.new_client(Hub(), conn, Settings())
        assert drop_reason(client) is None
        conn.set_write_deadline(time.monotonic() + 0.05)
        with pytest.raises(TimeoutError):
            conn.write_message(TEXT_MESSAGE, bytes(10_000_000))
        assert drop_reason(client) == "write_deadline"
        clients.closed(conn.sock)
        clients.closed(conn.sock)  # has no effect, as for a socket without a client
        _, totals = clients.read()
        assert (totals.stalls, totals.messages_out) == (1, 0)
        assert totals.dropped["write_deadline"] == sum(totals.dropped.values()) == 1


@pytest.mark.measured
def test_handshakes_that_are_refused(chat: Measured) -> None:
    for status, headers in (
        (400, {"Connection": None}),
        (400, {"Sec-WebSocket-Key": "x"}),
        (400, {"Sec-WebSocket-Key": "y"}),
        (403, {"Origin": "https://elsewhere.example"}),
        (426, {"Upgrade": None}),
    ):
        with Peer(chat.port) as peer:
            assert peer.open(headers=headers).status == status
    figures = chat.figures()
    refused = {k.partition(" ")[2]: v for k, v in figures.items() if "handshakes" in k}
    assert refused == {
        "connection": 1,
        "upgrade": 1,
        "method": 0,
        "version": 0,
        "origin": 1,
        "key": 2,
        "body": 0,
        "hijack": 0,
    }
    assert figures["gochat_clients"] == 0


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--max-clients=1", "max_connections"),
        ("--max-clients-per-address=1", "max_connections_per_address"),
    ],
)
def test_connections_that_are_refused(flag: str, reason: str) -> None:
    """A connection refused with 503 is counted under the limit that it exceeded."""
    with Measured(flag) as chat, join(chat.port):
        for _ in range(3):
            with Peer(chat.port) as peer:
                assert peer.request().status == 503

        def refused() -> dict[str, float]:
            figures = chat.figures().items()
            return {name: n for name, n in figures if "connections_refused" in name and n}

        # The server counts a refusal only after answering it.
        wait_until(lambda: refused() == {f"gochat_connections_refused_total {reason}": 3})
        assert chat.figures()["gochat_clients"] == 1


# The metrics' own server.


@pytest.mark.measured
def test_what_it_serves(chat: Measured) -> None:
    """/metrics and /healthz have their own address, which serves nothing else."""
    status, text = chat.get("/metrics")
    assert status == 200
    assert "# TYPE gochat_clients gauge\n" in text
    assert "# TYPE gochat_messages_received_total counter\n" in text
    assert "# TYPE gochat_messages_per_frame histogram\n" in text
    assert chat.get("/healthz") == (200, "ok\n")
    for path in ("/", "/ws", "/metrics/", "/nope"):
        assert chat.get(path) == (404, "Not found\n")
    for path in ("/metrics", "/healthz"):
        with Peer(chat.metrics_port) as peer:
            answer = peer.request(path, method="POST")
            assert (answer.status, answer.body) == (405, b"Method not allowed\n")
            assert answer.headers["allow"] == "GET, HEAD"
        with Peer(chat.port) as peer:
            assert peer.request(path).status == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_head(chat: Measured, path: str) -> None:
    answers = []
    for method in ("GET", "HEAD"):
        with Peer(chat.metrics_port) as peer:
            peer.sock.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
            answers.append(read_to_end(peer).partition(b"\r\n\r\n"))
    (get, _, body), (head, _, nothing) = answers
    assert body
    assert not nothing
    assert head.startswith(b"HTTP/1.0 200 OK\r\n")
    lines = [[line for line in h.split(b"\r\n") if b"Date:" not in line] for h in (get, head)]
    assert lines[0] == lines[1]
    assert b"chunked" not in get


def test_another_name_that_leads_here(chat: Measured) -> None:
    """On loopback, only loopback host names are accepted. Elsewhere, any name is."""
    for host in ("evil.example", "127.0.0.1.evil.example", "192.0.2.1", "[", ""):
        for path in ("/metrics", "/healthz", "/nope"):
            with Peer(chat.metrics_port) as peer:
                assert peer.request(path, {"Host": host}).status in (400, 403), host
    mapped = ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]:9100")
    for host in ("localhost", "LOCALHOST:1", "[::1]:9100", "127.0.0.2", "127.0.0.1:1", *mapped):
        with Peer(chat.metrics_port) as peer:
            assert peer.request("/healthz", {"Host": host}).status == 200, host
    with Measured("--metrics-addr", "0.0.0.0:0") as other, Peer(other.metrics_port) as peer:
        assert peer.request("/healthz", {"Host": "chat.example:9100"}).status == 200


def test_its_thread() -> None:
    """The metrics have their own thread, and their clients cannot delay shutdown."""
    with Measured() as chat, Peer(chat.metrics_port) as half:
        half.sock.sendall(b"GET /met")
        chat.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: any(line.endswith(" metrics:") for line in chat.lines))
        assert chat.stop() == 0
        assert half.read_to_end() == []
    listen(f"127.0.0.1:{chat.metrics_port}").close()


def health(app: WSGIApplication) -> tuple[str, bytes]:
    statuses: list[str] = []

    def start_response(status: str, *_: object) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _: None

    body = b"".join(app({}, start_response))
    return statuses[0], body


def test_health() -> None:
    """The chat is healthy as long as the hub receives from its channels."""
    hub = Hub()
    app = health_app(hub, timeout=PATIENCE)
    with in_background(hub.run, "hub"), closing(hub.stop):
        for _ in range(3):
            assert health(app) == ("200 OK", b"ok\n")
    app = health_app(hub, timeout=0.5)
    assert health(app) == ("503 Service Unavailable", b"the hub does not answer\n")


def test_how_a_hub_is() -> None:
    """statistics shows the hub's clients and channels, and whether this hub is waiting."""
    hub, idle = Hub(), Hub()
    assert not hub.statistics().waits
    with in_background(hub.run, "hub"), closing(hub.stop):
        wait_until(lambda: hub.statistics().waits)
        assert not idle.statistics().waits
        hub.broadcast.send(b"hi")
        wait_until(lambda: hub.statistics().channels["broadcast"].received == 1)
        now = hub.statistics()
        assert now.clients == 0
        assert list(now.channels) == ["register", "unregister", "broadcast", "stop"]


# What goes wrong.


def serve_to_end(*flags: str, fault: str = "") -> tuple[int, str]:
    """Run `gochat serve` with a fault until the command ends; return its status and log."""
    result = finished([*command(fault), "serve", *flags])
    assert result.stdout == ""
    return result.returncode, result.stderr


@pytest.mark.parametrize("name", ["hub", "metrics"])
def test_a_thread_that_cannot_be_started(name: str) -> None:
    fault = f"""
        import threading

        def start(thread, start=threading.Thread.start):
            if thread.name == "{name}":
                raise RuntimeError("can't start new thread")
            start(thread)

        threading.Thread.start = start
    """
    status, log = serve_to_end("--addr", LOCAL, "--metrics-addr", LOCAL, fault=fault)
    said = [line for line in log.splitlines() if not line.endswith("running on greenlets")]
    assert (status, said) == (1, ["gochat: can't start new thread"])


@pytest.mark.measured
def test_without_the_package() -> None:
    missing = "import sys; sys.modules['prometheus_client'] = None"
    assert serve_to_end("--addr", LOCAL, "--metrics-addr", LOCAL, fault=missing) == (
        1,
        "gochat: --metrics-addr needs the package prometheus-client:"
        " pip install 'gochat[metrics]'\n",
    )
    with Gochat(fault=missing) as chat, join(chat.port):
        assert chat.stop() == 0  # without the flag, the package is not needed


def test_off_costs_nothing() -> None:
    fault = """
        import atexit, sys
        atexit.register(lambda: print("prometheus_client" in sys.modules, file=sys.stderr))
    """
    with Gochat(fault=fault) as chat:
        assert chat.stop() == 0
        assert chat.lines[-1] == "False"


@pytest.mark.parametrize("taken", ["--addr", "--metrics-addr"])
def test_an_address_that_is_taken(taken: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        flags = dict.fromkeys(("--addr", "--metrics-addr"), LOCAL)
        listener = stack.enter_context(listen(LOCAL))
        flags[taken] = addr = f"127.0.0.1:{listener.getsockname()[1]}"
        assert main(["serve", *(text for flag in flags.items() for text in flag)]) == 1
    assert capsys.readouterr().err == f"gochat: listen tcp {addr}: Address already in use\n"
