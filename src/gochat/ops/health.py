"""Checks whether a hub answers."""

from __future__ import annotations

import queue
from typing import Any, Final

from ..golang.channel import AbandonedChannelError
from ..hub import Hub

__all__ = ["answers"]

# The hub ignores this on `unregister`, as it ignores a client that has already unregistered.
_NOBODY: Final[Any] = object()


def answers(hub: Hub, timeout: float) -> bool:
    """Return whether a hub receives a value within `timeout` seconds. Thread: any."""
    try:
        hub.unregister.put(_NOBODY, timeout=timeout)
    except (queue.Full, AbandonedChannelError):
        return False
    return True
