"""The metrics server, for `--metrics-addr`: values for Prometheus, and a health check.

Values are computed when Prometheus asks, from the `statistics()` of the server, the upgrader, the
relay, and each client's connection and channel. Counting is always on. Each counter is an int, and
only one thread at a time increments it, so reading needs no lock: a value may lag by one message,
but never decreases. The only value read from the hub is the number of clients; reading it is a
single step of the interpreter.

The server has its own address, so that it need not be public. This module needs the package
prometheus-client, so deploy.py imports the module only with the flag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ..golang import http
from ..golang.runtime import NAME
from ..golang.websocket import Upgrader
from ..hub import Hub
from .clients import Clients
from .health import answers
from .routes import new_server, say

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from ..relay.relay import Relay

__all__ = ["Metrics", "health_app"]

log = logging.getLogger("gochat")

# Upper bounds of the histogram, in messages. One more bucket counts all larger frames.
_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# How long the hub may take to answer, in seconds.
_HEALTH_WAIT: Final = 2.0


class Metrics(Collector):
    """The metrics of one chat, and a server for them. The constructor makes the server listen.

    addr: where to listen, see `http.Server`. relay: the relay in front of the hub, if there is one.
    Raises the same exceptions as `Server`. Thread: one, for creating, starting and shutting down.
    """

    def __init__(self, addr: str, hub: Hub, clients: Clients, relay: Relay | None = None) -> None:
        self._hub = hub
        self._clients = clients
        self._relay = relay
        # Set by `start`, before the server accepts requests.
        self._chat: http.Server
        self._upgrader: Upgrader
        registry = CollectorRegistry()
        registry.register(self)
        # Responses are small at any load, so compressing them is not worth the time.
        metrics: http.Application = make_wsgi_app(registry, disable_compression=True)
        #: Serves `/metrics` and `/healthz`.
        self.server: Final = new_server(
            addr, {"GET /metrics": metrics, "GET /healthz": health_app(hub, relay)}
        )

    def start(self, chat: http.Server, upgrader: Upgrader) -> None:
        """Serve on a thread named `metrics`. Raises RuntimeError if it cannot be started.

        chat, upgrader: the chat's server and upgrader.
        """
        self._chat, self._upgrader = chat, upgrader
        self.server.start("metrics")
        log.info("metrics at http://%s/metrics", self.server.addr)

    def collect(self) -> Iterator[Metric]:
        """Compute all metrics. Thread: any, even several at the same time."""
        runs = GaugeMetricFamily("gochat_runtime", "Threads or greenlets.", labels=["name"])
        runs.add_metric([NAME], 1)
        yield runs
        there, totals = self._clients.read()
        queued = [len(client.send) for client in there]
        deepest, sent = max(queued, default=0), totals.messages_out
        # A frame's first message is received; the others are drained. A frame of n messages is
        # counted at index (n - 1).bit_length(), which is also the index of the smallest bound that
        # n does not exceed.
        frames = list(accumulate(totals.frames_out))
        yield from gauges(
            ("clients", "Clients in the room.", len(self._hub.clients)),
            ("send_queue_messages", "Messages queued, summed over all clients.", sum(queued)),
            ("send_queue_deepest_messages", "Messages in the longest queue of a client.", deepest),
        )
        yield from counters(
            ("messages_received", "Messages read from clients.", totals.messages_in),
            ("messages_sent", "Messages put into frames, counted once for each client.", sent),
            ("frames_sent", "Frames in which the messages were written.", frames[-1]),
            ("write_stalls", "How often a write found the socket full.", totals.stalls),
        )
        text = "Messages written in one frame."
        counts = [*frames[: len(_BOUNDS)], frames[-1]]
        yield histogram("messages_per_frame", text, _BOUNDS, counts, sent)
        text = "Clients dropped by the server, counted when their connection ends."
        yield by_reason("clients_dropped", text, totals.dropped)
        text = "Handshakes refused, by reason."
        yield by_reason("handshakes_refused", text, self._upgrader.statistics().refused)
        text = "Connections refused with 503, by the limit that was exceeded."
        yield by_reason("connections_refused", text, self._chat.statistics().refused)
        if self._relay is not None:
            yield from relay_figures(self._relay)


def relay_figures(relay: Relay) -> Iterator[Metric]:
    now = relay.statistics()
    yield from gauges(
        ("relay_up", "Whether the relay can read and write the stream.", not now.deaf),
        ("relay_behind_entries", "Entries of the stream that have not been read.", now.behind),
        ("relay_behind_seconds", "How far the relay is behind the stream, in seconds.", now.lag),
        ("relay_echo_seconds", "Time from appending the last batch to reading it.", now.echo),
    )
    yield from counters(
        ("relay_entries_sent", "Batches appended, including repeated ones.", now.entries_out),
        ("relay_entries_repeated", "Batches appended again.", now.repeated),
        ("relay_entries_received", "Entries read from the stream.", now.entries_in),
        ("relay_messages_doubled", "Duplicate messages that were dropped.", now.doubles),
        ("relay_messages_missing", "Messages that the stream has lost.", now.missing),
        ("relay_entries_invalid", "Entries dropped, in whole or in part.", now.invalid),
        ("relay_reconnects", "Outages of Redis that have ended.", now.reconnects),
    )
    batches = list(accumulate(now.batches[1:]))
    bounds = [2**bit - 1 for bit in range(1, len(batches))]
    text = "Messages appended in one batch."
    yield histogram("relay_messages_per_batch", text, bounds, batches, now.messages_out)


def gauges(*figures: tuple[str, str, float]) -> list[Metric]:
    return [GaugeMetricFamily(f"gochat_{name}", text, value) for name, text, value in figures]


def counters(*figures: tuple[str, str, float]) -> list[Metric]:
    return [CounterMetricFamily(f"gochat_{name}", text, value) for name, text, value in figures]


def histogram(
    name: str, text: str, bounds: Sequence[int], counts: Sequence[int], total: int
) -> Metric:
    """Return a histogram. counts: the number of values up to each bound, and the total number."""
    names = [*(f"{bound:.1f}" for bound in bounds), "+Inf"]
    buckets = list(zip(names, counts, strict=True))
    return HistogramMetricFamily(f"gochat_{name}", text, buckets=buckets, sum_value=total)


def by_reason(name: str, text: str, values: Mapping[str, int]) -> Metric:
    """Return a counter labeled by reason."""
    family = CounterMetricFamily(f"gochat_{name}", text, labels=["reason"])
    for reason, value in values.items():
        family.add_metric([reason], value)
    return family


def health_app(
    hub: Hub, relay: Relay | None = None, timeout: float = _HEALTH_WAIT
) -> http.Application:
    """Return a WSGI app that answers 200 while the hub and the relay work, and 503 otherwise.

    timeout: how long the hub may take to answer, in seconds.
    """

    def app(_: http.Environ, start_response: http.StartResponse) -> Iterable[bytes]:
        # Check the hub first: without it, the relay does not work either.
        if not answers(hub, timeout):
            return say(start_response, "the hub does not answer", 503)
        if relay is not None and relay.statistics().deaf:
            return say(start_response, "the relay is away", 503)
        return say(start_response, "ok", 200)

    return app
