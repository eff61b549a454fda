"""Channels, `close` and `select`, of the runtime in use: see `runtime`.

`runtime/threads/channel.py` has a table of Go's operations, and says where they differ from Go's.
"""

from .closed import CLOSED, AbandonedChannelError, ClosedChannelError
from .goroutine import ChannelStatistics
from .runtime import Channel, select

__all__ = [
    "CLOSED",
    "AbandonedChannelError",
    "Channel",
    "ChannelStatistics",
    "ClosedChannelError",
    "select",
]
