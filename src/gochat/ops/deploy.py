"""Sets up everything around a chat: relay, metrics, view, trace, signals and systemd.

`gochat serve` ends in one of four ways:

- After a signal, the server accepts no new clients. Everyone gets their queued messages and a close
  frame. The program exits with status 0 when all clients have left, or at the shutdown timeout.
- After a second signal, the system kills the program immediately.
- If the hub fails, a traceback is logged, and everyone gets a close frame with code 1011. The
  program exits with status 1.
- If the hub does not answer during shutdown, everyone is disconnected at the shutdown timeout. The
  program exits with status 1.

With `--processes`, this is how each child ends; processes.py describes the parent.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from ..client import Client, Settings
from ..golang import http, runtime
from ..golang.http.address import listen_shared, next_port
from ..golang.log import dump_threads
from ..golang.websocket import Upgrader
from ..hub import Hub
from .clients import Clients
from .config import ConfigError
from .health import answers
from .serve import HubError
from .signals import handling
from .systemd import inherited_listeners, notify

if TYPE_CHECKING:
    from typing import TypeAlias

    from ..anyhub import AnyHub
    from ..golang.websocket import Conn
    from ..relay.relay import Relay
    from .config import Config
    from .metrics import Metrics
    from .processes import Place
    from .view.server import View

    # A subclass of Client, or a function that returns a client.
    NewClient: TypeAlias = Callable[[AnyHub, Conn, Settings], Client]

__all__ = ["Deployment", "MakeApp", "supervise"]

log = logging.getLogger("gochat")

# Interval between a child's reports to its parent that it is alive, in seconds.
_ALIVE: Final = 1.0


class MakeApp(Protocol):
    """The type of `make_app` in main.py."""

    def __call__(
        self, hub: AnyHub, *, settings: Settings, upgrader: Upgrader, client_class: NewClient
    ) -> http.Application: ...


class Deployment:
    """Everything around a chat, while its `with` block runs.

    config: the settings. hub: the chat's hub, which must not be running yet.

    Raises ConfigError if the relay's URL has an invalid option, ImportError if a package is
    missing, and the exceptions of the metrics server, the view server and the trace. Thread: the
    main one.
    """

    def __init__(self, config: Config, hub: Hub) -> None:
        self._config: Final = config
        self._own_hub: Final = hub
        # Added to the ports of the metrics and the view.
        number = config.place.number if config.place else 0
        self.relay: Final = _new_relay(config.relay, config, hub) if config.relay else None
        #: The hub that clients use: the relay if there is one.
        self.hub: Final[AnyHub] = self.relay or hub
        with ExitStack() as stack:
            # The signal handlers are removed last, because the metrics and view servers may take a
            # while to end.
            self._signals: Final = stack.enter_context(ExitStack())
            #: Makes the chat's clients, for `serve_ws`.
            self.client_class: NewClient = Client
            if config.trace is not None:
                # Only --trace needs this module.
                from ..trace.probe import tracing  # noqa: PLC0415

                traced = tracing(config.trace, hub, self.hub, config.trace_events)
                self.client_class = stack.enter_context(traced)
            self._clients = Clients(self.client_class)
            self._metrics: Metrics | None = None
            if config.metrics_addr is not None:
                self.client_class = self._clients.new_client
                addr = next_port(config.metrics_addr, number)
                self._metrics = _new_metrics(addr, hub, self._clients, self.relay)
                stack.callback(self._metrics.server.shutdown)
            self._view: View | None = None
            if config.view is not None:
                # Only --view needs this module.
                from .view.server import View  # noqa: PLC0415

                self._view = View(next_port(config.view, number), hub, self._clients, self.relay)
                stack.callback(self._view.server.shutdown)
                self.client_class = self._view.new_client
            self.upgrader: Final = Upgrader(
                allowed_origins=config.allow_origin,
                read_rate=config.rate,
                read_burst=config.burst,
                on_message=self._view.heard if self._view else None,
            )
            self._stack: Final = stack.pop_all()

    def __enter__(self) -> Deployment:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def listen(self, make_app: MakeApp) -> http.Server:
        """Listen, and set up the process: its CPU and its signal handlers.

        After this call, SIGINT and SIGTERM stop the server, and SIGUSR1 writes to stderr what each
        thread is doing. make_app: see main.py. Raises the same exceptions as `Server`.
        """
        config, place = self._config, self._config.place
        app = make_app(
            self.hub,
            settings=config.settings,
            upgrader=self.upgrader,
            client_class=self.client_class,
        )
        server = http.Server(
            place.listener if place else next(iter(inherited_listeners()), config.addr),
            self._view.around(app) if self._view else app,
            read_header_timeout=config.read_header_timeout,
            max_connections=config.max_clients,
            max_connections_per_address=config.max_clients_per_address,
            trusted_proxies=config.trust_proxy,
            on_close=self._clients.closed,
        )
        if runtime.NAME != "threads":
            log.info("running on %s", runtime.NAME)
        runtime.turns.gomaxprocs(config.gomaxprocs)
        runtime.settle(pin=config.pin, cpu=place.number if place else None)
        self._signals.enter_context(handling(_handlers(server, forced=place is None)))
        return server

    def serve(self, server: http.Server) -> None:
        """Serve until SIGINT or SIGTERM. Raises HubError if a thread cannot be started."""
        place = self._config.place
        try:
            if self._metrics:
                self._metrics.start(server, self.upgrader)
            if self._view:
                self._view.start(server.url)
        except RuntimeError as error:
            raise HubError(error) from error
        tell = None
        if place:
            log.info("ready")
            tell = _heartbeat(place, self._own_hub)
        else:
            log.info("listening on %s, open %s", server.addr, server.url)
        notify("READY=1")
        server.serve_forever(_ALIVE, tell)
        if place:
            place.ending()
        log.info("stopping")
        notify("STOPPING=1")


def _heartbeat(place: Place, hub: Hub) -> Callable[[], None]:
    """Return a function that reports to the parent that this child is alive.

    The server calls the function on the main thread, which accepts connections. So a child that
    cannot accept clients sends no reports, and neither does a child whose hub does not answer. The
    function may wait for the hub, because no client can join without the hub.
    """
    place.alive()
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told > _ALIVE / 2 and answers(hub, _ALIVE):
            place.alive()
            told = time.monotonic()

    return tell


def _handlers(server: http.Server, *, forced: bool) -> dict[int, Callable[[int, object], object]]:
    """Return handlers for SIGINT and SIGTERM, which stop the server, and for SIGUSR1.

    forced: whether a second signal kills the process. False for a child, which may get SIGTERM
    twice at shutdown: once from the parent, and once from systemd, which signals all processes of a
    service.
    """

    def stop(*_: object) -> None:
        if forced:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server.stop()

    return {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGUSR1: lambda *_: dump_threads()}


def supervise(config: Config) -> None:
    """Serve in several processes: see processes.py.

    Raises ConfigError if the relay's URL has an invalid option, and ImportError if the relay's
    package is missing. Raises the exceptions of `listen_shared`, `inherited_listeners` and
    `processes.supervise`. Thread: the main one; there must be no other.
    """
    from . import processes  # noqa: PLC0415 - a single process does not need it

    assert config.relay  # parse_flags requires it
    _new_relay(config.relay, config, Hub())  # fails now if it would fail in each child
    count = config.processes
    listeners = inherited_listeners(count) or listen_shared(config.addr, count)
    processes.supervise(listeners, config.shutdown_timeout, config.relay_timeout)


def _new_relay(url: str, config: Config, hub: Hub) -> Relay:
    try:
        from ..relay.relay import Relay  # noqa: PLC0415 - needs an optional package
    except ImportError as error:
        text = "--relay needs the package redis: pip install 'gochat[relay]'"
        raise ImportError(text) from error
    try:
        return Relay(
            hub,
            url,
            room=config.room,
            timeout=config.relay_timeout,
            maxlen=config.relay_maxlen,
            maxbytes=config.relay_maxbytes,
            max_message_size=config.settings.max_message_size,
        )
    except ValueError as error:
        raise ConfigError(f"--relay: {error}") from None


def _new_metrics(addr: str, hub: Hub, clients: Clients, relay: Relay | None) -> Metrics:
    try:
        # Only if needed: importing takes a tenth of a second, and the package is optional.
        from .metrics import Metrics  # noqa: PLC0415
    except ImportError as error:
        text = "--metrics-addr needs the package prometheus-client: pip install 'gochat[metrics]'"
        raise ImportError(text) from error
    return Metrics(addr, hub, clients, relay)
