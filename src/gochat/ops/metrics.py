"""The metrics of `--metrics-addr`: values for Prometheus, and the chat's health.

All values come from `statistics()`, and are computed at a scrape: those of the server, upgrader,
the relay, and each client's connection and channel (clients.py). The counters are always on, plain
ints, each written by one thread at a time. A scrape reads them without a lock: a value may be one
message old, but never decreases. `hub.clients` belongs to the hub: only its length is read, in one
step of the interpreter.

The metrics have a separate address, which need not be public. This module
needs the package prometheus-client; deploy.py imports it only with the flag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from ..golang.http import Server
from ..golang.runtime import NAME
from ..golang.websocket import Upgrader
from .clients import Clients
from .health import answers
from .routes import make_routes, say

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from prometheus_client.core import Metric

    from ..hub import Hub
    from ..relay.relay import Relay

__all__ = ["Metrics", "health_app", "metrics_app"]

log = logging.getLogger("gochat")

# The histogram's upper bounds, in messages: powers of two, up to the default send buffer.
# The last bucket has everything larger.
_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_BEYOND: Final = len(_BOUNDS)

# How long the hub may take to answer, in seconds.
_HEALTH_WAIT: Final = 2.0

# How long a request may take, and how many are answered at the same time.
_REQUEST_WAIT: Final = 3.0
_MAX_REQUESTS: Final = 16


class ChatCollector(Collector):
    """The metrics, computed on request. Thread: any, several at the same time."""

    def __init__(
        self,
        hub: Hub,
        clients: Clients,
        server: Server,
        upgrader: Upgrader,
        relay: Relay | None = None,
    ) -> None:
        self._hub = hub
        self._relay = relay
        self._clients = clients
        self._server = server
        self._upgrader = upgrader

    def collect(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily("gochat_runtime", "What runs the chat.", labels=["name"])
        runs.add_metric([NAME], 1)
        yield runs
        there, totals = self._clients.read()
        queued = [len(client.send) for client in there]
        # Of n messages the write pump drains n - 1, and the bit length of that is the index of the
        # first bound that is at least n.
        frames = list(accumulate(totals.frames_out))
        places = [*frames[:_BEYOND], frames[-1]]
        yield GaugeMetricFamily("gochat_clients", "Clients in the room.", len(self._hub.clients))
        yield CounterMetricFamily(
            "gochat_messages_received", "Messages read from clients.", totals.messages_in
        )
        yield CounterMetricFamily(
            "gochat_messages_sent",
            "Messages put into frames for clients, counted for each client.",
            totals.messages_out,
        )
        yield CounterMetricFamily(
            "gochat_frames_sent", "Frames in which the messages were written.", frames[-1]
        )
        bounds = [*(f"{bound:.1f}" for bound in _BOUNDS), "+Inf"]
        yield HistogramMetricFamily(
            "gochat_messages_per_frame",
            "How many messages went out in one frame.",
            buckets=list(zip(bounds, places, strict=True)),
            sum_value=totals.messages_out,
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
            "gochat_write_stalls", "How often a write found the socket full.", totals.stalls
        )
        yield by_reason(
            "gochat_clients_dropped",
            "Clients that were dropped, counted when their connection has ended.",
            totals.dropped,
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
    """Yield the metrics of the relay."""
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
    """Return a counter with a value for each reason."""
    family = CounterMetricFamily(name, text, labels=["reason"])
    for reason, value in values.items():
        family.add_metric([reason], value)
    return family


def metrics_app(collector: Collector, healthz: WSGIApplication) -> WSGIApplication:
    """Return the routes: `/metrics`, for Prometheus, and `/healthz`."""
    registry = CollectorRegistry()
    registry.register(collector)
    # A scrape has the same size at any load: compression is not worth the time.
    metrics: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
    return make_routes({"/metrics": metrics, "/healthz": healthz})


def health_app(
    hub: Hub, relay: Relay | None = None, timeout: float = _HEALTH_WAIT
) -> WSGIApplication:
    """Return a WSGI app: 200 while the hub receives and the relay hears, else 503.

    timeout: how long the hub may take to answer, in seconds.
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
    """The metrics of one chat, and their server, which listens during the `with` block.

    addr: where, see `http.Server`. hub, clients: of the chat. relay: the relay before the hub, if
    any.

    Create, start and exit on one thread. Raises what `Server` raises.
    """

    def __init__(self, addr: str, hub: Hub, clients: Clients, relay: Relay | None = None) -> None:
        self._hub = hub
        self._relay = relay
        self._clients = clients
        # Set by `start`, before the first request is accepted.
        self._app: WSGIApplication
        self._server = Server(
            addr, self._serve, read_header_timeout=_REQUEST_WAIT, max_connections=_MAX_REQUESTS
        )

    def start(self, server: Server, upgrader: Upgrader) -> None:
        """Serve, on the thread `metrics`, until the end of the `with` block.

        server, upgrader: those of the chat.

        Raises RuntimeError if the system has no more threads.
        """
        collector = ChatCollector(self._hub, self._clients, server, upgrader, self._relay)
        self._app = metrics_app(collector, health_app(self._hub, self._relay))
        self._server.start("metrics")
        log.info("metrics at http://%s/metrics", self._server.addr)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._app(environ, start_response)

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
