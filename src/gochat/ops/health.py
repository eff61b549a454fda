"""Whether a chat is alive: its hub takes what is sent to it."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any, Final

from ..golang.channel import AbandonedChannelError

if TYPE_CHECKING:
    from ..hub import Hub

__all__ = ["answers"]

# The hub passes over a client that was never there, as it must: clients leave twice.
_NOBODY: Final[Any] = object()


def answers(hub: Hub, timeout: float) -> bool:
    """Whether a hub takes what is sent to it, within that time, in seconds. Any thread."""
    try:
        hub.unregister.put(_NOBODY, timeout=timeout)
    except (queue.Full, AbandonedChannelError):
        return False
    return True
