"""The two runtimes for goroutines (Go: package runtime).

    threads/     the default: a goroutine is an operating system thread
    greenlets/   a goroutine is a gevent greenlet, and all greenlets run on one thread

This package provides these names from the chosen runtime:

    NAME                the runtime's name: `threads` or `greenlets`
    Channel, select     channels
    turns               the turns of the write pumps; call `turns.give_up()` before a wait
    Thread              a thread for a connection
    Lock                a lock that is held only briefly, and never during a wait
    RLock               a lock that only its owner can release
    readable, writable, hung_up
                        wait for a socket: `readable(sock).poll(milliseconds)`
    nonblocking         returns a socket whose `send(data, MSG_DONTWAIT)` never waits
    settle              sets up the system for the runtime
    sigint_to_caller    a block in which Ctrl-C interrupts the calling goroutine
    stacks              returns the name and the stack of each goroutine
    default_gomaxprocs  the default number of write pumps that work at the same time

The process runs on greenlets if gevent patches it before gochat is imported. `gochat serve
--runtime greenlets` does this:

    from gevent import monkey
    monkey.patch_all(queue=False)
    import gochat

Otherwise, the process runs on threads, and gochat does not import gevent. The choice is made once,
when this package is imported.

The rules: neither runtime imports the other; code that both need is in `golang.closed` and
`golang.goroutine`. Programs import channels from `golang.channel` and turns from `golang.turns`.
The other names are for gochat's own modules.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Final

__all__ = [
    "NAME",
    "OLDEST",
    "Channel",
    "Lock",
    "PatchError",
    "RLock",
    "Thread",
    "check",
    "default_gomaxprocs",
    "hung_up",
    "nonblocking",
    "readable",
    "select",
    "settle",
    "sigint_to_caller",
    "stacks",
    "too_old",
    "turns",
    "writable",
]

# The modules that gevent must patch.
_NEEDED: Final = ("threading", "socket", "select", "time", "subprocess")

#: The oldest supported version of gevent.
OLDEST: Final = (24, 11)


class PatchError(ImportError):
    """gevent has patched the process in a way that gochat does not support."""


def _patched() -> set[str]:
    """Return the names of the modules that gevent has patched, without importing gevent."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return set()
    return {name for name in (*_NEEDED, "queue") if monkey.is_module_patched(name)}


def too_old(version: str) -> bool:
    """Return whether this version of gevent is too old for greenlets."""
    return tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST


def _choose() -> str:
    """Return the name of the runtime."""
    patched = _patched()
    if not patched:
        return "threads"
    import gevent  # noqa: PLC0415 - it is installed

    # gevent does not keep its own version_info up to date.
    if too_old(gevent.__version__):
        raise PatchError(
            f"gevent {gevent.__version__} is too old: install {OLDEST[0]}.{OLDEST[1]} or later"
        )
    if "queue" in patched:
        raise PatchError("gevent has patched queue, too: call gevent.monkey.patch_all(queue=False)")
    if missing := [name for name in _NEEDED if name not in patched]:
        raise PatchError(
            f"gevent has not patched {', '.join(missing)}:"
            " call gevent.monkey.patch_all(queue=False)"
        )
    return "greenlets"


def check() -> None:
    """Raise PatchError if gevent has patched the process since gochat was imported. Thread: any."""
    if NAME == "threads" and _patched():
        raise PatchError(
            "gevent has patched this process after gochat was imported: call"
            " gevent.monkey.patch_all(queue=False) in the program's first line"
        )


NAME: Final = _choose()

if TYPE_CHECKING or NAME == "threads":
    # On threads, Ctrl-C always interrupts the main thread.
    from contextlib import nullcontext as sigint_to_caller
    from threading import Lock, RLock

    from .threads.channel import Channel, select
    from .threads.processor import settle
    from .threads.sockets import hung_up, nonblocking, readable, stacks, writable
    from .threads.thread import Thread
    from .threads.turns import DEFAULT_GOMAXPROCS as default_gomaxprocs  # noqa: N811
    from .threads.turns import turns
else:
    from .greenlets.channel import Channel, select
    from .greenlets.signals import sigint_to_caller
    from .greenlets.sockets import (
        Lock,
        RLock,
        hung_up,
        nonblocking,
        readable,
        settle,
        stacks,
        writable,
    )
    from .greenlets.thread import Thread
    from .greenlets.turns import DEFAULT_GOMAXPROCS as default_gomaxprocs  # noqa: N811
    from .greenlets.turns import turns
