"""AnyHub, which describes the part of a hub that a client uses, and a hub's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from .golang.goroutine import ChannelStatistics

if TYPE_CHECKING:
    from .client import Client
    from .golang.channel import Channel
    from .hub import Hub

__all__ = ["AnyHub", "HubStatistics"]


class AnyHub(Protocol):
    """A hub's channels and farewell, which are all that a client uses. Hub and Relay have them."""

    @property
    def broadcast(self) -> Channel[bytes]:
        """Messages for everyone."""

    @property
    def register(self) -> Channel[Client]:
        """Requests to register."""

    @property
    def unregister(self) -> Channel[Client]:
        """Requests to unregister."""

    @property
    def farewell(self) -> bytes:
        """The payload of the close frame that a write pump sends."""


@dataclass(frozen=True)
class HubStatistics:
    """The state of a hub: its clients, its thread and its channels."""

    clients: int
    #: Whether the hub's thread waits for a value.
    waits: bool
    #: The state of `register`, `unregister`, `broadcast` and `stop`, by name.
    channels: Mapping[str, ChannelStatistics]

    @classmethod
    def of(cls, hub: Hub) -> HubStatistics:
        """Return a hub's statistics. Thread: any."""
        names = ("register", "unregister", "broadcast", "stop")
        channels = {name: getattr(hub, name).statistics() for name in names}
        waits = any(channel.receiver_waits for channel in channels.values())
        return cls(len(hub.clients), waits, channels)
