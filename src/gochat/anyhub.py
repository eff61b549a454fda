"""AnyHub: the part of a hub that a client uses. Hub and Relay both provide it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .client import Client
    from .golang.channel import Channel

__all__ = ["AnyHub"]


class AnyHub(Protocol):
    """A hub's channels and farewell, which are all that a client uses. See Hub."""

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
