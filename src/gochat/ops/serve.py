"""The life of a chat: the hub's thread, and an orderly shutdown.

`running` can end in three ways:

- The block ends. No new clients are accepted, everyone gets the queued messages and a close frame,
  and `running` ends when everyone has left, or at the timeout.
- The hub fails. Its traceback is logged, and everyone gets a close frame with code 1011.
- The hub does not answer at the end. Everyone is cut off at the timeout.
"""

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

#: The close frame for a chat that ends.
FAREWELL: Final = format_close_message(CLOSE_GOING_AWAY, "server is going away")

#: The close frame when the relay has been away for too long.
SORRY: Final = format_close_message(CLOSE_TRY_AGAIN_LATER, "the relay is away, try again later")

# The minimum time that hubs get to accept the farewell, and the length of each attempt, in seconds.
_FAREWELL_WAIT: Final = 1.0
_FAREWELL_TURN: Final = 0.1

# Time allowed for the hubs' threads to end after all clients have left, in seconds.
_HUB_WAIT: Final = 1.0


class HubError(Exception):
    """A hub's thread has ended too early, does not answer, or could not be started."""


@contextmanager
def running(
    server: Server, *hubs: Hub, timeout: float = 5.0, relay: Relay | None = None
) -> Iterator[Server]:
    """Run hubs, each on a thread `hub`, during the block; then disconnect everyone.

    In the block call `server.serve_forever()`, or `server.start()` to accept on another thread.
    However the block ends, the chat ends: the server stops listening, and all clients of
    these hubs get their queued messages and a close frame with code 1001.

    timeout: how long clients have to receive both, in seconds, before they are cut off. After the
    timeout the shutdown takes a few seconds at most: five for the threads of clients that were cut
    off, five for the relay, one for the hubs. No thread is left, unless other code, such as a
    subclass, blocks it. Such a thread cannot be ended from outside: the log names it, and it ends
    when it returns to gochat's code, because its sends fail and its socket is shut down.

    relay: the relay for one of the hubs; it is started after the hub.

    Raises ValueError if a hub is given twice. Raises HubError if a thread cannot be started, if a
    hub fails or ends too early, or if a hub does not answer or end at shutdown. A hub that fails or
    ends too early also stops the server, because a chat cannot work without its hub. Raises what
    `Relay.start` raises, and RelayError if Redis is away for too long.
    """
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
    """Disconnect everyone. Returns the hubs that do not respond, or do not end.

    The order matters. A client's write pump sends the queued messages and the close frame;
    meanwhile its read pump must keep reading until the peer has answered. If the read pump closed
    the connection first, it would cut off the write pump's last frames. So the hub and the relay,
    to which read pumps send, keep receiving until the connections have ended.

    Even if this is interrupted, as by Ctrl-C, each hub's channel `stop` is closed, which ends the
    hub's thread. Nothing here waits without a deadline.
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
    """Release all threads that wait for a hub, which no longer receives or sends anything."""
    for channel in (hub.register, hub.unregister, hub.broadcast):
        channel.abandon()
    for client in list(hub.clients):  # only a stuck hub still has clients
        with suppress(ClosedChannelError):
            client.send.close()


def _say_farewell(hubs: Iterable[Hub], farewell: bytes, deadline: float) -> list[Hub]:
    """Have hubs disconnect their clients. Returns those that do not respond by the deadline.

    Asks them in turn, briefly and repeatedly, so that a slow hub does not take the others' time.
    """
    mute = list(hubs)
    with clock.beating():
        while mute and clock.now() < deadline:
            for hub in mute.copy():
                with suppress(queue.Full):
                    with suppress(ClosedChannelError):  # this hub has run before
                        hub.stop.put(farewell, timeout=_FAREWELL_TURN)
                    mute.remove(hub)
                clock.beat()
    return mute


def _see_off(hub: Hub) -> None:
    """Stand in for a hub that has failed: disconnect everyone, until `stop` is closed.

    A client that waits for the hub would otherwise wait forever. Thread: the hub.
    """
    farewell = hub.farewell = format_close_message(CLOSE_INTERNAL_SERVER_ERR, "the hub has failed")
    clients, hub.clients = hub.clients, {}
    for client in clients:
        with suppress(ClosedChannelError):  # the hub may have closed it before it failed
            client.send.close()
    hub.disconnect(farewell)
