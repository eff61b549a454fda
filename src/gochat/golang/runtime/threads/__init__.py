"""The runtime of threads: each goroutine is a thread of the system.

    sockets.py   wait for a socket

Its channels and turns are `golang.channel` and `golang.turns`, and its settings of the system's
scheduler are in `golang.processor`.

The rules: threads run at any moment, in any order, and may be interrupted anywhere. So data that
two threads use has a lock, or changes in a single step; and a thread registers for a wake-up before
it checks for the last time.
"""

from __future__ import annotations

from contextlib import nullcontext as sigint_to_caller  # the main thread gets it in any case
from threading import RLock
from typing import Final

from ...channel import Channel, select
from ...processor import settle
from ...turns import DEFAULT_GOMAXPROCS as default_gomaxprocs  # noqa: N811
from ...turns import turns
from .sockets import hung_up, nonblocking, readable, stacks, writable

__all__ = [
    "NAME",
    "Channel",
    "RLock",
    "default_gomaxprocs",
    "hung_up",
    "nonblocking",
    "readable",
    "select",
    "settle",
    "sigint_to_caller",
    "stacks",
    "turns",
    "writable",
]

NAME: Final[str] = "threads"
