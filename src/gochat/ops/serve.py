"""Runs a chat's hubs, and shuts the chat down in the right order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ..golang import clock
from ..golang.channel import ClosedChannelError
from ..golang.http import Server
from ..golang.runtime import sigint_to_caller
from ..golang.websocket import (
    CLOSE_GOING_AWAY,
    CLOSE_INTERNAL_SERVER_ERR,
    CLOSE_TRY_AGAIN_LATER,
    format_close_message,
)
from ..hub import Hub

if TYPE_CHECKING:
    from ..relay.relay import Relay

__all__ = ["FAREWELL", "HubError", "running"]

log = logging.getLogger("gochat")

#: The payload of the close frames when the chat ends.
FAREWELL: Final = format_close_message(CLOSE_GOING_AWAY, "server is going away")

#: The payload of the close frames when Redis was unavailable for too long.
SORRY: Final = format_close_message(CLOSE_TRY_AGAIN_LATER, "the relay is away, try again later")

# The minimum time that hubs get to accept the farewell, in seconds.
_FAREWELL_WAIT: Final = 1.0
# How long to wait for one hub before asking the next, in seconds.
_FAREWELL_TURN: Final = 0.1

# How long the hubs' threads may take to end after all clients have left, in seconds.
_HUB_WAIT: Final = 1.0


class HubError(Exception):
    """Raised if a hub ends too early, does not answer, or cannot be started."""


@contextmanager
def running(
    server: Server, *hubs: Hub, timeout: float = 5.0, relay: Relay | None = None
) -> Iterator[Server]:
    """Run hubs during the block, each on a thread named `hub`; then disconnect everyone.

    In the block, call `server.serve_forever()`, or call `server.start()` to accept connections on
    another thread. When the block ends, even with an exception, the server stops listening. All
    clients of these hubs get their queued messages and a close frame with code 1001.

    timeout: how long clients may take to receive all this, in seconds. Clients that remain after
    the timeout are disconnected. Ending then takes at most five seconds for the clients' threads,
    five for the relay, and one for the hubs. relay: the relay of one of the hubs. It starts after
    the hubs.

    If a hub fails or ends too early, its clients get a close frame with code 1011, and the server
    stops, because a chat cannot work without its hub. If a hub does not answer at the end, its
    clients are disconnected at the timeout.

    After that, no thread is left, except those that your own code blocks, for example in a
    subclass. Such a thread is named in the log. It ends when it returns to gochat's code, where
    every send fails and the socket is shut down.

    Raises TypeError if the first argument is not a Server. Raises ValueError if a hub is given
    twice. Raises HubError if a thread cannot be started, if a hub fails or ends too early, or if a
    hub does not answer or end at shutdown. Raises the exceptions of `Relay.start`, and RelayError
    if Redis is unavailable for too long.
    """
    if not isinstance(server, Server):
        raise TypeError(f"running(server, hub) needs a Server, not {server!r}")
    if len(set(hubs)) < len(hubs):
        raise ValueError("a hub can run only once")
    failed: list[Hub] = []
    ending = threading.Event()

    def run(hub: Hub) -> None:
        try:
            hub.run()
            if ending.is_set():
                return
            log.error("the hub has ended, but nobody stopped it")
        except BaseException:  # SystemExit would end this thread silently
            log.exception("the hub has failed")
        failed.append(hub)
        server.stop()
        _see_off(hub)

    threads: dict[Hub, threading.Thread] = {}
    with sigint_to_caller():
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
                server.reserved = relay.descriptors
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
    """Disconnect everyone. Return the hubs that do not answer or do not end.

    The order matters. At the end, a client's write pump sends the queued messages and a close
    frame. Until the peer answers the close frame, the client's read pump must keep reading: if it
    closed the connection first, the last frames would be lost. A read pump can keep reading only
    while the hub and the relay receive its messages. So the hub and the relay end after the
    connections.

    Every wait has a deadline. If an exception such as KeyboardInterrupt interrupts this function,
    the `finally` block still closes each hub's `stop`, which ends the hub's thread.
    """
    deadline = clock.after(timeout)
    farewell = SORRY if relay and relay.error else FAREWELL
    mute: list[Hub] = []
    server.stop()
    try:
        mute = _say_farewell(threads, farewell, max(deadline, clock.after(_FAREWELL_WAIT)))
        for hub in mute:
            _abandon(hub)
        if relay:
            relay.finish(deadline)
        server.shutdown(max(0.0, deadline - clock.now()))
        if relay:
            relay.close()
            relay.join(deadline)
    finally:
        for hub in threads:
            with suppress(ClosedChannelError):
                hub.stop.close()
        deadline = clock.after(_HUB_WAIT)
        for hub, thread in threads.items():
            if hub not in mute and not clock.join(thread, deadline):
                mute.append(hub)
            _abandon(hub)
    return mute


def _abandon(hub: Hub) -> None:
    """Release all threads that wait for a hub that will never receive or send again."""
    for channel in (hub.register, hub.unregister, hub.broadcast):
        channel.abandon()
    for client in list(hub.clients):  # empty, unless the hub is stuck
        with suppress(ClosedChannelError):
            client.send.close()


def _say_farewell(hubs: Iterable[Hub], farewell: bytes, deadline: float) -> list[Hub]:
    """Tell hubs to disconnect their clients. Return the hubs that do not answer by the deadline.

    The hubs are asked in turn, briefly but repeatedly, so that a slow hub does not use up the
    others' time.
    """
    mute = list(hubs)
    with clock.beating():
        while mute and clock.now() < deadline:
            for hub in mute.copy():
                with suppress(queue.Full):
                    with suppress(ClosedChannelError):  # the hub has already ended
                        hub.stop.put(farewell, timeout=_FAREWELL_TURN)
                    mute.remove(hub)
                clock.beat()
    return mute


def _see_off(hub: Hub) -> None:
    """Disconnect everyone in place of a hub that has failed, until `stop` is closed.

    Otherwise, clients would wait for the hub forever. Thread: the hub.
    """
    farewell = hub.farewell = format_close_message(CLOSE_INTERNAL_SERVER_ERR, "the hub has failed")
    clients, hub.clients = hub.clients, {}
    for client in clients:
        with suppress(ClosedChannelError):  # the hub may have closed it before failing
            client.send.close()
    hub.disconnect(farewell)
