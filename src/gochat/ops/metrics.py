"""What `--metrics-addr` serves: figures for Prometheus, and whether the chat is well.

Strategy: nothing here is in the way of a message when the metrics are off. When they are on, the
chat is made of the subclasses below: a MeasuredUpgrader makes each Conn, a MeasuredClient has a
MeasuredChannel. Neither hub.py nor client.py, nor anything that stands for Go's, knows of it.

- A MeasuredConn counts what it reads, and a MeasuredChannel what the write pump takes for a frame:
  plain ints, each written by one thread at a time. A scrape reads them as they are: a figure may be
  one message old, but never goes back.
- `Counts` knows the connections that are open, and the totals of those that have ended. A
  connection comes and goes under the lock of Counts, so it is always in one of the two.
  `hub.clients` is the hub's: only its length is read, which is one step of the interpreter.
- All sums are made at a scrape.

The metrics have an address of their own, which need not be open to the world as the chat's is. The
package prometheus-client is needed to import this; deploy.py does so only with the flag.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeVar

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ..client import Client, Settings
from ..golang.channel import Channel
from ..golang.http import Server
from ..golang.websocket import (
    Conn,
    ConnOptions,
    ProtocolError,
    ReadLimitError,
    Upgrader,
)
from .health import answers
from .routes import make_routes, say

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from prometheus_client.core import Metric

    from ..anyhub import AnyHub
    from ..hub import Hub
    from ..relay.relay import Relay

__all__ = [
    "Counts",
    "MeasuredChannel",
    "MeasuredClient",
    "MeasuredConn",
    "MeasuredUpgrader",
    "Metrics",
    "health_app",
    "metrics_app",
]

T = TypeVar("T")

log = logging.getLogger("gochat")

# The histogram's upper bounds, in messages: powers of two, up to what a send buffer holds by
# default. Behind them comes all that is larger.
_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BEYOND: Final = len(_BOUNDS)

# Why this side drops a client. Each figure is there from the beginning, as 0, so that the first one
# is seen as a rise.
_DROP_REASONS: Final = (
    "full_send_buffer",
    "write_deadline",
    "read_deadline",
    "protocol_error",
    "message_too_big",
)

# How long the hub may take to say that it is there, in seconds.
_HEALTH_WAIT: Final = 2.0

# How long a request may take, and how many are answered at the same time.
_REQUEST_WAIT: Final = 3.0
_MAX_REQUESTS: Final = 16


class MeasuredChannel(Channel[T]):
    """A buffered channel that counts. Any thread may read the counts."""

    def __init__(self, capacity: int, *, in_turn: bool = False) -> None:
        super().__init__(capacity, in_turn=in_turn)
        #: How many values found no room. The sending side's one thread counts.
        self.refused = 0
        #: At place b, how often `drain` has found a number of values that has b bits (0, 1, 2 or 3,
        #: 4 to 7, and so on); and all these values. The receiving thread counts.
        self.drains = [0] * 32
        self.drained = 0

    def no_room(self, value: T) -> bool:
        handed_over = super().no_room(value)
        self.refused += not handed_over
        return handed_over

    def drain(self) -> list[T]:
        values = Channel.drain(self)
        self.drains[len(values).bit_length()] += 1
        self.drained += len(values)
        return values


class MeasuredConn(Conn):
    """A Conn that counts. Any thread may read the counts."""

    # For each message: `Conn.f(self)` is a tenth of a microsecond less than `super().f()`.

    def __init__(
        self, sock: socket.socket, buffered: bytes, remote_addr: str, options: ConnOptions
    ) -> None:
        # The reading thread's alone.
        self.messages_in = 0
        # The writing thread's alone: whether a write was given up.
        self.gave_up = False
        # How often a write found the socket full. Guarded by the write lock.
        self.stalls = 0
        #: What waits to be written. Set once, by the thread of the request, before the hub knows.
        self.queue: MeasuredChannel[bytes] | None = None
        super().__init__(sock, buffered, remote_addr, options)

    def read_message(self) -> tuple[int, bytes]:
        message = Conn.read_message(self)
        self.messages_in += 1
        return message

    def write_message(self, message_type: int, data: bytes) -> None:
        try:
            Conn.write_message(self, message_type, data)
        except TimeoutError:
            self.gave_up = True
            raise

    def await_room(self, deadline: float | None) -> None:
        self.stalls += 1
        super().await_room(deadline)

    def drop_reason(self) -> str | None:
        """Why this side has ended the connection; None if it was not for the peer's fault.

        To be asked when the connection has ended and no pump uses it any more. Several reasons can
        be true, as when the hub drops a client whose last frame cannot be written either. Then the
        answer is what came first: a client that has broken the protocol is read no more, and so may
        overflow; one that overflows is likely to be stuck; and a write that fails ends the reading.
        """
        if isinstance(self.read_error, ReadLimitError):
            return "message_too_big"
        if isinstance(self.read_error, ProtocolError):
            return "protocol_error"
        if self.queue is not None and self.queue.refused:
            return "full_send_buffer"
        if self.gave_up or isinstance(self.write_error, TimeoutError):
            return "write_deadline"
        if isinstance(self.read_error, TimeoutError):
            return "read_deadline"
        return None


@dataclass
class Sums:
    """The totals of some connections."""

    messages_in: int = 0
    #: Messages after the first one in each frame.
    joined_out: int = 0
    #: How many frames had how many messages, by the place of the bound in _BOUNDS.
    frames_out: list[int] = field(default_factory=lambda: [0] * (_BEYOND + 1))
    stalls: int = 0

    def add(self, conn: MeasuredConn) -> None:
        self.messages_in += conn.messages_in
        self.stalls += conn.stalls
        if conn.queue is None:
            return
        self.joined_out += conn.queue.drained
        # Of n messages the write pump drains n - 1, and the bit length of that is the place of the
        # first bound that is not under n.
        for place, frames in enumerate(conn.queue.drains):
            self.frames_out[min(place, _BEYOND)] += frames

    @property
    def messages_out(self) -> int:
        return self.joined_out + sum(self.frames_out)


class Counts:
    """The open connections, and what those have counted that have ended. Any thread."""

    def __init__(self) -> None:
        # Guards the three below. No other lock is waited for while this one is held.
        self._lock = threading.Lock()
        # By their sockets.
        self._open: dict[socket.socket, MeasuredConn] = {}
        self._ended = Sums()
        self._dropped = dict.fromkeys(_DROP_REASONS, 0)

    def opened(self, sock: socket.socket, conn: MeasuredConn) -> None:
        """A connection was upgraded."""
        with self._lock:
            self._open[sock] = conn

    def closed(self, sock: socket.socket) -> None:
        """A connection of the server's has ended, and no thread uses it. Upgraded or not."""
        with self._lock:
            conn = self._open.pop(sock, None)
            if conn is None:
                return
            self._ended.add(conn)
            reason = conn.drop_reason()
            if reason is not None:
                self._dropped[reason] += 1

    def read(self) -> tuple[Sums, list[int], dict[str, int]]:
        """The totals; how much is queued for each open connection; the drops."""
        with self._lock:
            conns = list(self._open.values())
            sums = replace(self._ended, frames_out=self._ended.frames_out.copy())
            dropped = self._dropped.copy()
        # A connection that ends from here on is in the list, and was not in the totals.
        for conn in conns:
            sums.add(conn)
        return sums, [len(c.queue) for c in conns if c.queue is not None], dropped


class MeasuredUpgrader(Upgrader):
    """An Upgrader whose Conns count. Any thread may use it."""

    def __init__(self, counts: Counts, **options: Any) -> None:
        super().__init__(**options)
        self._counts = counts

    def new_conn(
        self,
        environ: WSGIEnvironment,  # noqa: ARG002
        sock: socket.socket,
        buffered: bytes,
        remote_addr: str,
    ) -> Conn:
        conn = MeasuredConn(sock, buffered, remote_addr, self.options)
        self._counts.opened(sock, conn)
        return conn


class MeasuredClient(Client):
    """A Client whose channel counts. Its conn is a MeasuredConn, which gets to know the channel."""

    def __init__(self, hub: AnyHub, conn: Conn, settings: Settings) -> None:
        super().__init__(hub, conn, settings)
        assert isinstance(conn, MeasuredConn)
        self.send = conn.queue = MeasuredChannel(settings.send_buffer, in_turn=True)


class ChatCollector(Collector):
    """The figures, made when they are asked for. Any thread, several at the same time."""

    def __init__(
        self,
        hub: Hub,
        counts: Counts,
        server: Server,
        upgrader: Upgrader,
        relay: Relay | None = None,
    ) -> None:
        self._hub = hub
        self._relay = relay
        self._counts = counts
        self._server = server
        self._upgrader = upgrader

    def collect(self) -> Iterator[Metric]:
        sums, queued, dropped = self._counts.read()
        yield GaugeMetricFamily("gochat_clients", "Clients in the room.", len(self._hub.clients))
        yield CounterMetricFamily(
            "gochat_messages_received", "Messages read from clients.", sums.messages_in
        )
        yield CounterMetricFamily(
            "gochat_messages_sent",
            "Messages put into frames for clients, counted for each client.",
            sums.messages_out,
        )
        frames = list(accumulate(sums.frames_out))
        yield CounterMetricFamily(
            "gochat_frames_sent", "Frames in which the messages were written.", frames[-1]
        )
        bounds = [*(f"{bound:.1f}" for bound in _BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "gochat_messages_per_frame",
            "How many messages went out in one frame.",
            buckets=list(zip(bounds, frames, strict=True)),
            sum_value=sums.messages_out,
        )
        yield GaugeMetricFamily(
            "gochat_send_queue_messages", "Messages that wait, of all clients.", sum(queued)
        )
        yield GaugeMetricFamily(
            "gochat_send_queue_deepest_messages",
            "The longest send queue of any client, in messages.",
            max(queued, default=0),
        )
        yield CounterMetricFamily(
            "gochat_write_stalls", "How often a write found the socket full.", sums.stalls
        )
        yield by_reason(
            "gochat_clients_dropped",
            "Clients that were dropped, counted when their connection has ended.",
            dropped,
        )
        yield by_reason(
            "gochat_handshakes_refused",
            "Handshakes that were refused, by what was wrong.",
            self._upgrader.statistics().refused,
        )
        yield by_reason(
            "gochat_connections_refused",
            "Connections that were answered 503, by what there was too much of.",
            self._server.statistics().refused,
        )
        if self._relay is not None:
            yield from relay_figures(self._relay)


def relay_figures(relay: Relay) -> Iterator[Metric]:
    """What is known of the relay."""
    now = relay.statistics()
    for name, text, level in (
        ("up", "Whether the relay hears, and is heard.", not now.deaf),
        ("behind_entries", "Entries of the stream not read yet.", now.behind),
        ("behind_seconds", "By how much that is behind.", now.lag),
        ("echo_seconds", "How long the last batch took to come back.", now.echo),
    ):
        yield GaugeMetricFamily(f"gochat_relay_{name}", text, level)
    for name, text, value in (
        ("entries_sent", "Batches appended to the stream, again or not.", now.entries_out),
        ("entries_repeated", "Batches appended again.", now.repeated),
        ("entries_received", "Entries read from the stream.", now.entries_in),
        ("messages_doubled", "Messages read twice and dropped once.", now.doubles),
        ("messages_missing", "Messages that the stream has lost.", now.missing),
        ("entries_invalid", "Entries read that were not taken, or not whole.", now.invalid),
        ("reconnects", "How often Redis was away.", now.reconnects),
    ):
        yield CounterMetricFamily(f"gochat_relay_{name}", text, value)
    batches = list(accumulate(now.batches[1:]))
    bounds = [*(f"{2**bit - 1:.1f}" for bit in range(1, len(batches))), "+Inf"]
    yield HistogramMetricFamily(
        "gochat_relay_messages_per_batch",
        "How many messages were appended at once.",
        buckets=list(zip(bounds, batches, strict=True)),
        sum_value=now.messages_out,
    )


def by_reason(name: str, text: str, values: Mapping[str, int]) -> CounterMetricFamily:
    """A counter that has a value for each of some reasons."""
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, value in values.items():
        family.add_metric([reason], value)
    return family


def metrics_app(collector: Collector, healthz: WSGIApplication) -> WSGIApplication:
    """The routes: `/metrics`, for Prometheus, and `/healthz`."""
    registry = CollectorRegistry()
    registry.register(collector)
    # A scrape is as large as ever, whatever is going on: not worth the time to compress it.
    metrics: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
    return make_routes({"/metrics": metrics, "/healthz": healthz})


def health_app(
    hub: Hub, relay: Relay | None = None, timeout: float = _HEALTH_WAIT
) -> WSGIApplication:
    """200 while the hub takes what is sent to it, and the relay hears, 503 otherwise.

    timeout: how long the hub may take for that, in seconds.
    """

    def app(_: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # The hub first: a relay that waits for the hub hears nothing, either.
        if not answers(hub, timeout):
            return say(start_response, "the hub does not answer", 503)
        if relay is not None and relay.statistics().deaf:
            return say(start_response, "the relay is away", 503)
        return say(start_response, "ok", 200)

    return app


class Metrics:
    """The metrics of one chat, and their server. Its `with` block is the time in which it listens.

    addr: where, see `http.Server`. hub: the chat's. relay: what stands before the hub, if any.

    Made, started and left on one thread. Raises what `Server` raises.
    """

    #: What `Client` is in a chat that is not measured.
    new_client = MeasuredClient

    def __init__(self, addr: str, hub: Hub, relay: Relay | None = None) -> None:
        self._hub = hub
        self._relay = relay
        self._counts = Counts()
        # Set by `start`, before the first request is accepted.
        self._app: WSGIApplication
        self._server = Server(
            addr, self._serve, read_header_timeout=_REQUEST_WAIT, max_connections=_MAX_REQUESTS
        )

    def new_upgrader(self, **options: Any) -> Upgrader:
        """What `Upgrader` is in a chat that is not measured."""
        return MeasuredUpgrader(self._counts, **options)

    def closed(self, sock: socket.socket) -> None:
        """For the chat's server, to call at the end of a connection. Any thread."""
        self._counts.closed(sock)

    def start(self, server: Server, upgrader: Upgrader) -> None:
        """Serve, on the thread `metrics`, until the end of the `with` block.

        server, upgrader: the chat's.

        Raises RuntimeError if the system has no more threads.
        """
        collector = ChatCollector(self._hub, self._counts, server, upgrader, self._relay)
        self._app = metrics_app(collector, health_app(self._hub, self._relay))
        self._server.start("metrics")
        log.info("metrics at http://%s/metrics", self._server.addr)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
