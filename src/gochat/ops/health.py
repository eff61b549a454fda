"""Checks whether a hub answers, and collects the hub's statistics."""

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

# The hub ignores this on `unregister`, as it ignores a client that has already unregistered.
_NOBODY: Final[Any] = object()


def answers(hub: Hub, timeout: float) -> bool:
    """Return whether a hub receives a value within `timeout` seconds. Thread: any."""
    try:
        hub.unregister.put(_NOBODY, timeout=timeout)
    except (queue.Full, AbandonedChannelError):
        return False
    return True


@dataclass(frozen=True)
class HubStatistics:
    """The state of a hub: its clients, its thread and its channels."""

    clients: int
    #: Whether the hub's thread waits for a value; None if no thread is named `hub`.
    waits: bool | None
    #: The state of `register`, `unregister`, `broadcast` and `stop`, by name.
    channels: Mapping[str, ChannelStatistics]


def hub_statistics(hub: Hub) -> HubStatistics:
    """Return a hub's statistics. Its thread is the first one named `hub`. Thread: any."""
    thread = next((one.ident for one in threading.enumerate() if one.name == "hub"), None)
    names = ("register", "unregister", "broadcast", "stop")
    return HubStatistics(
        clients=len(hub.clients),
        waits=None if thread is None else waits.get(thread) == "recv",
        channels={name: getattr(hub, name).statistics() for name in names},
    )
