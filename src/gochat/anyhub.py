"""AnyHub: the part of a hub that a client uses. Hub and Relay both have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .client import Client
    from .golang.channel import Channel

__all__ = ["AnyHub"]


class AnyHub(Protocol):
    """The channels of a hub that a client uses, and the farewell. See Hub."""

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
        """The payload of a write pump's close frame."""
