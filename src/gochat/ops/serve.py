"""The life of a chat: the hub's thread, and an orderly end; and the command `gochat serve`.

There are four ways out of the command:

- A signal. Nobody new is accepted, everyone gets what is queued and a close frame, and the program
  ends with the status 0 when all have gone, at the latest at the shutdown timeout.
- A second signal. The system ends the program on the spot.
- The hub fails. Its traceback is in the log, everyone gets a close frame with the code 1011, and
  the program ends with the status 1.
- The hub does not answer at the end. Everyone is cut at the shutdown timeout; the status is 1.

With `--processes` that is the life of each child; processes.py has the life of their parent.
"""

from __future__ import annotations

import argparse
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from ..client import Client, make_upgrader
from ..golang.channel import ClosedChannelError, select
from ..golang.http import Server
from ..golang.http.address import listen_shared, next_port
from ..golang.log import dump_threads
from ..golang.processor import INTERVAL, Processor, settle
from ..golang.turns import turns
from ..golang.websocket import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_TRY_AGAIN_LATER,
    Upgrader,
    format_close_message,
)
from ..hub import Hub
from .health import answers
from .systemd import inherited_listeners, notify

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ..relay.relay import Relay
    from ..trace.probe import Tracing
    from .metrics import Metrics
    from .processes import Place
    from .view.server import View

__all__ = ["FAREWELL", "HubError", "running", "serve"]

log = logging.getLogger("gochat")

#: The close frame with which a chat that ends disconnects everyone.
FAREWELL: Final = format_close_message(CLOSE_GOING_AWAY, "server is going away")

#: The same when the relay is away.
SORRY: Final = format_close_message(CLOSE_TRY_AGAIN_LATER, "the relay is away, try again later")

# How long hubs have at the least to hear that they are to end, and how long each is asked in turn,
# in seconds.
_FAREWELL_WAIT: Final = 1.0
_FAREWELL_TURN: Final = 0.1

# How long the hubs' threads may take to end when all clients have gone, in seconds.
_HUB_WAIT: Final = 1.0


class HubError(Exception):
    """A hub's thread has ended by itself, does not answer, or could not be started."""


@contextmanager
def running(
    server: Server, *hubs: Hub, timeout: float = 5.0, relay: Relay | None = None
) -> Iterator[Server]:
    """Run hubs, each on a thread `hub`, for the time of the block; then part with everyone.

    In the block call `server.serve_forever()`, or `server.start()` to accept on another thread. Its
    end, in whatever way, is the end of the chat: the server listens no more, and all clients of
    these hubs get what is queued for them and a close frame with the code 1001.

    timeout: how long clients have for that, in seconds, before they are cut. The block ends a few
    seconds after the timeout at the latest: five for the threads of clients that were cut, five for
    the relay's, one for the hubs'. No thread is left, unless it is held up by other code than
    gochat's, as in a subclass. Such a thread cannot be ended from outside: it is named in the log,
    and ends by itself when it comes back, because nobody takes what it sends, and its socket is
    shut down.

    relay: what stands before one of the hubs, and is started after it.

    Raises ValueError if a hub is given twice; HubError if a thread cannot be started, if a hub
    fails or ends by itself (which also stops the server, because a chat without a hub is deaf), or
    if a hub does not answer at the end, or does not end; what `Relay.start` raises, and RelayError
    if Redis is away for too long.
    """
    if len(set(hubs)) < len(hubs):
        raise ValueError("a hub can run once only")
    failed: list[Hub] = []
    ending = threading.Event()

    def run(hub: Hub) -> None:
        try:
            hub.run()
            if ending.is_set():
                return
            log.error("the hub has ended, and nobody has stopped it")
        except BaseException:  # SystemExit would end this thread without a word
            log.exception("the hub has failed")
        failed.append(hub)
        server.stop()
        _see_off(hub)

    threads: dict[Hub, threading.Thread] = {}
    try:
        for hub in hubs:
            thread = threading.Thread(target=run, args=(hub,), name="hub", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise HubError(error) from error
            threads[hub] = thread
        if relay:
            relay.lost = server.stop
            relay.start(lambda: server.stopping)
        yield server
    finally:
        ending.set()
        mute = _end(server, threads, relay, timeout)
    if failed:
        raise HubError("the hub has failed")
    if mute:
        raise HubError("the hub does not answer")
    if relay and relay.error:
        raise relay.error


def _end(
    server: Server, threads: dict[Hub, threading.Thread], relay: Relay | None, timeout: float
) -> list[Hub]:
    """Disconnect everyone. Returns the hubs that do not hear of it, or do not end.

    The order matters. A client gets what is queued for it, and the close frame, from its write
    pump; its read pump must read on meanwhile, until the peer has answered. If the read pump closed
    the connection first, it would cut off the write pump's last frames. So everything that a read
    pump sends to, the hub and the relay, takes what it sends until the connections have ended.

    Whatever interrupts this, Ctrl-C for one, each hub's channel is closed, which ends its thread.
    Nothing here waits without a deadline.
    """
    deadline = time.monotonic() + timeout
    farewell = SORRY if relay and relay.error else FAREWELL
    mute: list[Hub] = []
    server.stop()
    try:
        mute = _say_farewell(threads, farewell, max(deadline, time.monotonic() + _FAREWELL_WAIT))
        for hub in mute:
            _abandon(hub)
        if relay:
            relay.finish(deadline)
        server.shutdown(max(0.0, deadline - time.monotonic()))
        if relay:
            relay.close()
            relay.join(deadline)
    finally:
        for hub in threads:
            with suppress(ClosedChannelError):
                hub.stop.close()
        deadline = time.monotonic() + _HUB_WAIT
        for hub, thread in threads.items():
            if hub not in mute:
                thread.join(max(0.0, deadline - time.monotonic()))
                if thread.is_alive():
                    mute.append(hub)
            _abandon(hub)
    return mute


def _abandon(hub: Hub) -> None:
    """Let all that wait for a hub come back: it takes nothing more, and sends nothing more."""
    for channel in (hub.register, hub.unregister, hub.broadcast):
        channel.abandon()
    for client in list(hub.clients):  # of a hub that is stuck; any other has done it
        with suppress(ClosedChannelError):
            client.send.close()


def _say_farewell(hubs: Iterable[Hub], farewell: bytes, deadline: float) -> list[Hub]:
    """Have hubs disconnect their clients. Returns those that do not hear of it by the deadline.

    They are asked in turn, for a moment each: a slow hub does not take the time of the others.
    """
    mute = list(hubs)
    while mute and time.monotonic() < deadline:
        for hub in mute.copy():
            with suppress(queue.Full):
                with suppress(ClosedChannelError):  # it has run before
                    hub.stop.put(farewell, timeout=_FAREWELL_TURN)
                mute.remove(hub)
    return mute


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


def serve(
    args: argparse.Namespace, make_app: Callable[..., WSGIApplication], place: Place | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then part with everyone. On the main thread.

    SIGUSR1 writes to stderr what each thread is doing. make_app: main's. place: of a process that a
    parent has started.

    Exits with 2 if an option in the relay's URL makes no sense.

    Raises what Server and Tracing raise; HubError; RelayError; ImportError if the metrics or the
    relay are wanted and their package is missing.
    """
    hub = Hub()
    relay = _new_relay(args, hub) if args.relay else None
    with ExitStack() as stack:
        metrics: Metrics | None = None
        if args.metrics_addr is not None:
            addr = next_port(args.metrics_addr, place.number) if place else args.metrics_addr
            metrics = stack.enter_context(_new_metrics(addr, hub, relay))
        tracing = stack.enter_context(_new_tracing(args, hub)) if args.trace is not None else None
        probes = metrics or tracing  # never both
        view: View | None = None
        new_client: Callable[..., Client] = probes.new_client if probes else Client
        if args.view is not None:
            addr = next_port(args.view, place.number) if place else args.view
            view = stack.enter_context(_new_view(addr, hub, relay, measured=metrics is not None))
            new_client = view.new_client
        upgrader = make_upgrader(
            probes.new_upgrader if probes else Upgrader,
            allowed_origins=args.allow_origin,
            read_rate=args.rate,
            read_burst=args.burst,
        )
        server = Server(
            place.listener if place else (inherited_listeners() or [args.addr])[0],
            make_app(relay or hub, args.settings, upgrader, new_client),
            read_header_timeout=args.read_header_timeout,
            max_connections=args.max_clients,
            max_connections_per_address=args.max_clients_per_address,
            trusted_proxies=args.trust_proxy,
            on_close=metrics.closed if metrics else None,
        )
        turns.gomaxprocs(args.gomaxprocs)
        allowed = settle(pin=args.pin, cpu=place.number if place else None)
        _stop_at_signals(server, forced=place is None)
        with running(server, hub, timeout=args.shutdown_timeout, relay=relay):
            try:
                if metrics:
                    metrics.start(server)
                if view:
                    view.start()
            except RuntimeError as error:
                raise HubError(error) from error
            act = Processor(allowed).follow if len(allowed) > 1 else None
            if place:
                log.info("ready")
                act = _heartbeat(place, hub)
            else:
                log.info("listening on %s, open %s", server.addr, server.url)
            notify("READY=1")
            server.serve_forever(INTERVAL if act else None, act)
            if place:
                place.ending()
            log.info("stopping")
            notify("STOPPING=1")


def _heartbeat(place: Place, hub: Hub) -> Callable[[], None]:
    """What a child calls while it accepts, every INTERVAL at the least, to tell that it is alive.

    On the main thread, so that a child which accepts nobody is silent. It is silent, too, if its
    hub does not answer. For that this waits: the chat is not held up by it, but by its hub.
    """
    place.alive()
    told = time.monotonic()

    def tell() -> None:
        nonlocal told
        if time.monotonic() - told > INTERVAL / 2 and answers(hub, INTERVAL):
            place.alive()
            told = time.monotonic()

    return tell


def supervise(args: argparse.Namespace) -> None:
    """Serve in several processes, see processes.py. On the main thread, which must be the only one.

    Exits with 2 if an option in the relay's URL makes no sense.

    Raises what `listen_shared`, `inherited_listeners` and `processes.supervise` raise; ImportError
    if the relay's package is missing.
    """
    from . import processes  # noqa: PLC0415 - only here: one process has no use for it

    _new_relay(args, Hub())  # raises here what would otherwise be raised in each process
    listeners = inherited_listeners(args.processes) or listen_shared(args.addr, args.processes)
    processes.supervise(listeners, args.shutdown_timeout, args.relay_timeout)


def _new_relay(args: argparse.Namespace, hub: Hub) -> Relay:
    try:
        from ..relay.relay import Relay  # noqa: PLC0415 - a package that others do not need
    except ImportError as error:
        text = "--relay needs the package redis: pip install 'gochat[relay]'"
        raise ImportError(text) from error
    refuse: Callable[[str], NoReturn] = args.error
    try:
        return Relay(
            hub,
            args.relay,
            room=args.room,
            timeout=args.relay_timeout,
            maxlen=args.relay_maxlen,
            maxbytes=args.relay_maxbytes,
            max_message_size=args.max_message_size,
        )
    except ValueError as error:
        refuse(f"--relay: {error}")


def _new_metrics(addr: str, hub: Hub, relay: Relay | None) -> Metrics:
    try:
        # Only here: it takes a tenth of a second, and a package that others do not need.
        from .metrics import Metrics  # noqa: PLC0415
    except ImportError as error:
        text = "--metrics-addr needs the package prometheus-client: pip install 'gochat[metrics]'"
        raise ImportError(text) from error
    return Metrics(addr, hub, relay)


def _new_tracing(args: argparse.Namespace, hub: Hub) -> Tracing:
    from ..trace.probe import Tracing  # noqa: PLC0415 - a chat without a trace has no use for it

    return Tracing(args.trace, hub, args.trace_events)


def _new_view(addr: str, hub: Hub, relay: Relay | None, *, measured: bool) -> View:
    from .view.server import View  # noqa: PLC0415 - only here: a chat that is not viewed needs none

    return View(addr, hub, relay, measured=measured)


def _stop_at_signals(server: Server, *, forced: bool) -> None:
    """From now on SIGINT and SIGTERM end the server.

    forced: whether a second signal ends the process at once. Not so in a child, which may get the
    same SIGTERM twice: from its parent, and from a system that sends one to every process of a
    service. A parent that wants a child's end at once kills it.
    """

    def stop(*_: object) -> None:
        if forced:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server.stop()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, lambda *_: dump_threads())
