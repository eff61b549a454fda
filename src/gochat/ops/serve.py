"""The life of a chat: the hub's thread, and an orderly end; and the command `gochat serve`.

There are four ways out of the command:

- A signal. Nobody new is accepted, everyone gets what is queued and a close frame, and the program
  ends with the status 0 when all have gone, at the latest at the shutdown timeout.
- A second signal. The system ends the program on the spot.
- The hub fails. Its traceback is in the log, everyone gets a close frame with the code 1011, and
  the program ends with the status 1.
- The hub does not answer at the end. Everyone is cut at the shutdown timeout; the status is 1.
"""

from __future__ import annotations

import argparse
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ..client import Client, Settings, make_upgrader
from ..golang.channel import ClosedChannelError, select
from ..golang.http import Server
from ..golang.log import dump_threads
from ..golang.turns import settle, turns
from ..golang.websocket import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_SERVER_ERR,
    Upgrader,
    format_close_message,
)
from ..hub import Hub
from .systemd import inherited_listener, notify

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from .metrics import Metrics

__all__ = ["FAREWELL", "HubError", "running", "serve"]

log = logging.getLogger("gochat")

#: The close frame with which a chat that ends parts with everyone.
FAREWELL: Final = format_close_message(CLOSE_GOING_AWAY, "server is going away")


class HubError(Exception):
    """A hub's thread has ended by itself, does not answer, or could not be started."""


@contextmanager
def running(server: Server, *hubs: Hub, timeout: float = 5.0) -> Iterator[Server]:
    """Run hubs, each on a thread `hub`, for the time of the block; then part with everyone.

    In the block call `server.serve_forever()`, or `server.start()` to accept on another thread. Its
    end, in whatever way, is the end of the chat: the server listens no more, all clients of these
    hubs get what is queued for them and a close frame with the code 1001, and no thread is left.

    timeout: how long clients have for that, in seconds, before they are cut.

    Raises HubError if a thread cannot be started, if a hub fails (which also stops the server, for
    a chat without a hub is deaf), or if one does not answer at the end.
    """
    failed: list[Hub] = []

    def run(hub: Hub) -> None:
        try:
            hub.run()
        except Exception:
            log.exception("the hub has failed")
            failed.append(hub)
            server.stop()
            _see_off(hub)

    threads: dict[Hub, threading.Thread] = {}
    mute = []
    try:
        for hub in hubs:
            thread = threading.Thread(target=run, args=(hub,), name="hub", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise HubError(error) from error
            threads[hub] = thread
        yield server
    finally:
        server.stop()
        deadline = time.monotonic() + timeout
        for hub in threads:
            try:
                hub.stop.put(FAREWELL, timeout=max(0.0, deadline - time.monotonic()))
            except queue.Full:
                mute.append(hub)
        server.shutdown(max(0.0, deadline - time.monotonic()))
        for hub, thread in threads.items():
            if hub not in mute:
                hub.stop.close()
                thread.join()
    if failed:
        raise HubError("the hub has failed")
    if mute:
        raise HubError("the hub does not answer")


def _see_off(hub: Hub) -> None:
    """Stand in for a hub that has failed: send everyone away, until `stop` is closed.

    On the hub's thread. A client that waits for the hub would otherwise wait for ever.
    """
    hub.farewell = format_close_message(CLOSE_INTERNAL_SERVER_ERR, "the hub has failed")
    leaving = list(hub.clients)
    hub.clients.clear()
    while True:
        for client in leaving:
            with suppress(ClosedChannelError):  # the hub, or this, has done that before
                client.send.close()
        channel, value, ok = select(hub.register, hub.unregister, hub.broadcast, hub.stop)
        if channel is hub.stop and not ok:
            return
        leaving = [value] if channel in (hub.register, hub.unregister) else []


def serve(args: argparse.Namespace, make_app: Callable[..., WSGIApplication]) -> None:
    """Serve until SIGINT or SIGTERM, then part with everyone. On the main thread.

    SIGUSR1 writes to stderr what each thread is doing. make_app: main's.

    Raises what Server raises; HubError; ImportError if the metrics are wanted and their package is
    missing.
    """
    hub = Hub()
    with ExitStack() as stack:
        metrics: Metrics | None = None
        if args.metrics_addr is not None:
            metrics = stack.enter_context(_new_metrics(args.metrics_addr, hub))
        upgrader = make_upgrader(
            metrics.new_upgrader if metrics else Upgrader,
            allowed_origins=args.allow_origin,
            read_rate=args.rate,
            read_burst=args.burst,
        )
        settings = Settings(
            write_wait=args.write_wait,
            pong_wait=args.pong_wait,
            ping_period=args.ping_period,
            max_message_size=args.max_message_size,
            send_buffer=args.send_buffer,
        )
        server = Server(
            inherited_listener() or args.addr,
            make_app(hub, settings, upgrader, metrics.new_client if metrics else Client),
            read_header_timeout=args.read_header_timeout,
            max_connections=args.max_clients,
            max_connections_per_address=args.max_clients_per_address,
            trusted_proxies=args.trust_proxy,
            on_close=metrics.closed if metrics else None,
        )
        turns.gomaxprocs(args.gomaxprocs)
        settle(pin=args.pin)
        _stop_at_signals(server)
        with running(server, hub, timeout=args.shutdown_timeout):
            if metrics:
                try:
                    metrics.start(server)
                except RuntimeError as error:
                    raise HubError(error) from error
            log.info("listening on %s, open %s", server.addr, server.url)
            notify("READY=1")
            server.serve_forever()
            signal.set_wakeup_fd(-1)
            log.info("stopping")
            notify("STOPPING=1")


def _new_metrics(addr: str, hub: Hub) -> Metrics:
    try:
        # Only here: it takes a tenth of a second, and a package that others do not need.
        from .metrics import Metrics  # noqa: PLC0415
    except ImportError as error:
        text = "--metrics-addr needs the package prometheus-client: pip install 'gochat[metrics]'"
        raise ImportError(text) from error
    return Metrics(addr, hub)


def _stop_at_signals(server: Server) -> None:
    """From now on SIGINT and SIGTERM end the server, the second one the process."""

    def stop(*_: object) -> None:
        # The first signal ends in order; a second one kills at once.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server.stop()

    signal.set_wakeup_fd(server.wakeup_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: dump_threads())
