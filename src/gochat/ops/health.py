"""The health of a chat: whether its hub receives. Also the hub's statistics."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..golang.channel import AbandonedChannelError
from ..golang.goroutine import ChannelStatistics, waits
from ..hub import Hub

__all__ = ["HubStatistics", "answers", "hub_statistics"]

# Not a client: the hub ignores it on `unregister`, like a client that has already unregistered.
_NOBODY: Final[Any] = object()


def answers(hub: Hub, timeout: float) -> bool:
    """Return whether a hub receives within the timeout, in seconds. Thread: any."""
    try:
        hub.unregister.put(_NOBODY, timeout=timeout)
    except (queue.Full, AbandonedChannelError):
        return False
    return True


@dataclass(frozen=True)
class HubStatistics:
    """The clients in a hub's room, and the state of its thread and its channels."""

    clients: int
    #: Whether the thread named `hub` is waiting for a value; None if there is no such thread.
    waits: bool | None
    #: By name: `register`, `unregister`, `broadcast` and `stop`.
    channels: Mapping[str, ChannelStatistics]


def hub_statistics(hub: Hub) -> HubStatistics:
    """Return a hub's statistics. With several hubs, the thread is the first hub's. Thread: any."""
    thread = next((one.ident for one in threading.enumerate() if one.name == "hub"), None)
    names = ("register", "unregister", "broadcast", "stop")
    return HubStatistics(
        clients=len(hub.clients),
        waits=None if thread is None else waits.get(thread) == "recv",
        channels={name: getattr(hub, name).statistics() for name in names},
    )
