"""Channels and `select`, from the chosen runtime.

`runtime/threads/channel.py` lists Go's operations, their Python counterparts, and the differences.
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
