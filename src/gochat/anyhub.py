"""AnyHub: what a client needs of a hub. A Hub has it, and a Relay, which stands before one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .client import Client
    from .golang.channel import Channel

__all__ = ["AnyHub"]


class AnyHub(Protocol):
    """The three channels to a hub, and what it says at the end. See Hub."""

    @property
    def broadcast(self) -> Channel[bytes]:
        """Inbound messages from the clients."""

    @property
    def register(self) -> Channel[Client]:
        """Requests to register."""

    @property
    def unregister(self) -> Channel[Client]:
        """Requests to unregister."""

    @property
    def farewell(self) -> bytes:
        """The payload of the close frame that a write pump sends at the end."""
