"""The runtime of greenlets: each goroutine is a greenlet of gevent, all on one thread.

    waiter.py    a greenlet that waits, and its alarm
    turns.py     few write pumps are at work at a time
    channel.py   channels, close, select
    sockets.py   wait for a socket, and a lock
    signals.py   Ctrl-C

The rules: a greenlet runs until it waits. Only `Waiter.park` waits, so whatever stands between two
calls of it is one step, which no other greenlet sees half done. So there is no lock here, no order
in which to look and to wake, and no wake-up that could be lost: a greenlet looks, finds nothing,
and says that it waits before anyone else can run. That is why this is so much shorter than the
runtime of threads, and needs no model.

What interrupts a greenlet, `greenlet.throw` or gevent's `kill`, comes out of `park` and of nothing
else. A signal handler may run at any moment, on whichever greenlet runs then, and must not wait.

gevent resumes the greenlets that are ready in the order in which they became so, for 5 ms, and then
looks at the sockets and clocks. A greenlet that computes stops all others.
"""

from __future__ import annotations

from typing import Final

from .channel import Channel, select
from .signals import sigint_to_caller
from .sockets import RLock, hung_up, nonblocking, readable, settle, stacks, writable
from .turns import DEFAULT_GOMAXPROCS as default_gomaxprocs  # noqa: N811
from .turns import turns

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

NAME: Final[str] = "greenlets"
