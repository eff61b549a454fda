"""The runtime of threads: each goroutine is an operating system thread.

    channel.py    channels, close, select
    handover.py   how threads sleep and wake for a channel
    turns.py      limits how many write pumps work at the same time
    processor.py  settings of the system's scheduler
    sockets.py    waits for a socket
    thread.py     a thread for a connection

The rules: threads run in any order and can be interrupted anywhere. So data that several threads
use has a lock, or changes in a single step. A thread registers for a wake-up, checks once more
whether it has to wait, and only then sleeps.
"""

from __future__ import annotations

from contextlib import nullcontext as sigint_to_caller  # Ctrl-C always interrupts the main thread
from threading import Lock, RLock
from typing import Final

from .channel import Channel, select
from .processor import settle
from .sockets import hung_up, nonblocking, readable, stacks, writable
from .thread import Thread
from .turns import DEFAULT_GOMAXPROCS as default_gomaxprocs  # noqa: N811
from .turns import turns

__all__ = [
    "NAME",
    "Channel",
    "Lock",
    "RLock",
    "Thread",
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
