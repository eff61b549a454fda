"""The present state of the chat, as the view shows it.

What a thread does is seen from outside: `sys._current_frames` has what each thread executes, and
the function in which a thread is stuck says what it waits for. A thread that is in none of these
functions is at work. So no pump has to say where it is. The threads go on meanwhile, and the
state is what was seen of each at some moment of the look, not one moment's of all.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from heapq import nlargest
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Final

from ...golang.channel import Channel, select
from ...golang.turns import TurnsStatistics, Waiter, turns
from ...golang.websocket.conn import Conn, await_room, send_all
from .client import ViewedChannel, ViewedClient, Watch

if TYPE_CHECKING:
    from ...hub import Hub
    from ...relay.relay import Relay

__all__ = ["DETAILED", "snapshot"]

#: How many clients are shown one by one. Those beyond are shown in sum.
DETAILED: Final = 40

_AT_WORK: Final = "at work"
_IN_LINE: Final = "stands in line for a turn"
_PEER_CLOSES: Final = "waits for the other side to close"

# What a pump does, by the function that it is in; the innermost of these counts.
_PUMP: Final[Mapping[CodeType, str]] = {
    ViewedChannel._slow_down.__code__: "at work, in slow motion",
    ViewedChannel._wait_while_held.__code__: "is held, with one message in its hands",
    Waiter.wait.__code__: _IN_LINE,
    Waiter.line_up.__code__: _IN_LINE,
    Channel._send.__code__: "waits for the hub to take what it has",
    await_room.__code__: "waits for room in the socket",
    send_all.__code__: _AT_WORK,
    Conn._write.__code__: "waits for another write to end",
    Conn._linger.__code__: _PEER_CLOSES,
    Conn.close.__code__: _PEER_CLOSES,
    Conn._keep_rate.__code__: "waits, to keep to the rate",
    Conn.read_message.__code__: "waits for the next message from the socket",
}

_HUB: Final[Mapping[CodeType, str]] = {
    select.__code__: "waits in select for a value on one of its channels",
}


def snapshot(hub: Hub, watch: Watch, relay: Relay | None = None) -> dict[str, Any]:
    """The state, ready for JSON. Any thread.

    The cost grows with the number of clients by their sums and by the list of all threads; only
    `DETAILED` of them are looked at one by one: those that are held or full, then the oldest.
    """
    clients, gone = watch.read()
    frames = sys._current_frames()
    now = turns.statistics()
    line: dict[int | None, int] = {thread: place for place, thread in enumerate(now.line, 1)}
    queued = {client: len(client.send) for client in clients}
    shown = nlargest(
        DETAILED,
        clients,
        key=lambda client: (client.send.held, queued[client], -client.number),
    )
    shown.sort(key=lambda client: client.number)
    others = queued.keys() - shown
    return {
        "hub": {
            "thread": _hub(frames),
            "clients": len(hub.clients),
            "channels": [
                {"name": name, "senders": channel.statistics().senders, "queued": len(channel)}
                for name, channel in _channels(hub, relay)
            ],
        },
        "turns": {
            "number": now.limit,
            "line": len(line),
            "holders": [c.number for c in clients if c.writer in now.holders],
        },
        "pace": watch.pace,
        "clients": [_client(client, queued[client], frames, now, line) for client in shown],
        "others": {
            "clients": len(others),
            "queued": sum(queued[client] for client in others),
            "longest": max((queued[client] for client in others), default=0),
        },
        "gone": [one._asdict() for one in gone],
    }


def _channels(hub: Hub, relay: Relay | None) -> list[tuple[str, Channel[Any]]]:
    """The channels between the pumps and the hub, by their names in the code."""
    names = ("register", "unregister", "broadcast", "stop")
    channels = [(f"hub.{name}", getattr(hub, name)) for name in names]
    if relay is not None:
        channels.append(("relay.broadcast", relay.broadcast))
    return channels


def _hub(frames: Mapping[int, FrameType]) -> str | None:
    """What the hub's thread does; None if it is not there."""
    ident = next((t.ident for t in threading.enumerate() if t.name == "hub"), None)
    return _doing(frames, ident, _HUB)


def _client(
    client: ViewedClient,
    queued: int,
    frames: Mapping[int, FrameType],
    now: TurnsStatistics,
    line: Mapping[int | None, int],
) -> dict[str, Any]:
    place = line.get(client.writer)
    writer = _doing(frames, client.writer, _PUMP)
    if writer == _IN_LINE and place is None:
        # It has been given a turn just now, or it is not to have one.
        writer = "waits for a message" if client.send.statistics().receiver_waits else _AT_WORK
    return {
        "number": client.number,
        "addr": client.conn.remote_addr,
        "reader": _doing(frames, client.reader, _PUMP),
        "writer": writer,
        "has_turn": client.writer in now.holders,
        "place": place,
        "queued": queued,
        "capacity": client.send.capacity,
        "held": client.send.held,
        "reason": client.reason() if client.send.statistics().closed else None,
    }


def _doing(
    frames: Mapping[int, FrameType], ident: int | None, places: Mapping[CodeType, str]
) -> str | None:
    """What a thread does, or waits for; None if it is not there."""
    frame = None if ident is None else frames.get(ident)
    if frame is None:
        return None
    while frame is not None:
        if frame.f_code in places:
            return places[frame.f_code]
        frame = frame.f_back
    return _AT_WORK
