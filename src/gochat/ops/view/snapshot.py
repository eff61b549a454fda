"""The current state of a chat, for the view.

The state is made from the `statistics()` of channels, turns and connections, so the pumps do no
work for it. The pumps keep running in the meantime, so the parts of a state are from slightly
different moments.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final

from ...client import Client
from ...golang.goroutine import waits
from ...golang.turns import TurnsStatistics, turns
from ...hub import Hub
from ..clients import Clients, drop_reason, reason
from .hold import Hold, Pace

if TYPE_CHECKING:
    from ...relay.relay import Relay

__all__ = ["DETAILED", "snapshot"]

#: How many clients are shown one by one. For the others, only totals are shown.
DETAILED: Final = 40

_AT_WORK: Final = "at work"

# What a pump waits for, by `golang.websocket.conn.Waiting.what`.
_CONN: Final = {
    "input": "waits for the next message from the socket",
    "rate": "waits, to keep to the rate",
    "room": "waits for room in the socket",
    "lock": "waits for another write to end",
    "close": "waits for the other side to close",
}


def snapshot(hub: Hub, clients: Clients, pace: Pace, relay: Relay | None = None) -> dict[str, Any]:
    """Return the state as an object for the json module. Thread: any.

    Up to `DETAILED` clients are shown one by one: first those that are held, then those with the
    longest queues, then the oldest. So only the totals and the list of threads take longer if there
    are many clients.
    """
    there = clients.there()
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    now = turns.statistics()
    line = {thread: place for place, thread in enumerate(now.line, 1)}
    queued = {number: len(client.send) for number, client in there.items()}
    shown = nlargest(
        DETAILED, there, key=lambda number: (hold_of(there[number]).on, queued[number], -number)
    )
    shown.sort()
    others = [queued[number] for number in there.keys() - shown]
    receivers = {client.send.receiver: number for number, client in there.items()}
    room = hub.statistics()
    channels = {f"hub.{name}": channel for name, channel in room.channels.items()}
    if relay is not None:
        channels["relay.broadcast"] = relay.broadcast.statistics()
    hub_thread = _AT_WORK if "hub" in threads.values() else None
    if room.waits:
        hub_thread = "waits in select for a value on one of its channels"
    return {
        "hub": {
            "thread": hub_thread,
            "clients": room.clients,
            "channels": [
                {"name": name, "senders": channel.senders, "queued": channel.queued}
                for name, channel in channels.items()
            ],
        },
        "turns": {
            "number": now.limit,
            "line": len(line),
            "holders": [receivers[thread] for thread in now.holders if thread in receivers],
        },
        "pace": pace.seconds,
        "clients": [_client(number, there[number], threads, now, line) for number in shown],
        "others": {
            "clients": len(others),
            "queued": sum(others),
            "longest": max(others, default=0),
        },
        "gone": [one._asdict() for one in clients.gone()],
    }


def hold_of(client: Client) -> Hold:
    """Return a client's Hold. The view must have made the client."""
    return next(one for one in client.send.observers if isinstance(one, Hold))


def _client(
    number: int,
    client: Client,
    threads: Container[int | None],
    now: TurnsStatistics,
    line: Mapping[int, int],
) -> dict[str, Any]:
    conn, send, hold = client.conn.statistics(), client.send.statistics(), hold_of(client)
    reader: str | None = None
    if conn.reader_thread is not None and conn.reader_thread in threads:
        reader = _CONN[conn.reader.what] if conn.reader else _AT_WORK
        if waits.get(conn.reader_thread) == "send":
            reader = "waits until its message is taken"
    writer: str | None = None
    place = None
    if send.receiver is not None and send.receiver in threads:
        place = line.get(send.receiver)
        if hold.doing is not None:
            writer = hold.doing
        elif conn.writer is not None:
            writer = _CONN[conn.writer.what]
        elif place is not None:
            writer = "stands in line for a turn"
        else:
            writer = "waits for a message" if send.receiver_waits else _AT_WORK
    return {
        "number": number,
        "name": hold.name.decode(errors="replace"),
        "addr": conn.remote_addr,
        "reader": reader,
        "writer": writer,
        "has_turn": send.receiver in now.holders,
        "place": place,
        "queued": send.queued,
        "capacity": send.capacity,
        "held": hold.on,
        "reason": reason(client, drop_reason(client)) if send.closed else None,
    }
