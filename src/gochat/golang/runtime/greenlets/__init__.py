"""The runtime of greenlets: each goroutine is a greenlet of gevent, all on one thread.

    waiter.py    how a greenlet waits, with a deadline; the line of ready greenlets
    turns.py     limits how many write pumps are ready to run
    channel.py   channels, close, select
    sockets.py   waits for a socket; a lock
    thread.py    a thread for a connection
    signals.py   handles Ctrl-C

The rules: a greenlet runs until it waits, and only `Waiter.park` waits. So the code between two
calls of `park` is one step, which no other greenlet sees half done. No locks are needed, and no
wake-up can be lost: a greenlet looks, finds nothing, and registers its wait before any other
greenlet can run. So this runtime is much shorter than the runtime of threads, and needs no
formal model.

An exception from `greenlet.throw` or gevent's `kill` is raised only in `park`. A signal
handler may run at any moment, on whichever greenlet is running, and must not wait. If it raises
inside a send, the greenlet to be woken may sleep forever; `sigint_to_caller` waits for the send.

Greenlets run in the order in which they became ready. Each switches directly to the next, without
gevent's loop in between. Every 5 ms the loop checks the sockets and timers. A greenlet that
computes delays all others.
"""

from __future__ import annotations

from typing import Final

from .channel import Channel, select
from .signals import sigint_to_caller
from .sockets import Lock, RLock, hung_up, nonblocking, readable, settle, stacks, writable
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

NAME: Final[str] = "greenlets"
