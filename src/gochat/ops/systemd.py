"""Takes over sockets from systemd, and reports to systemd.

Without systemd, these functions do nothing. docs/run/gochat.service and docs/run/gochat.socket are
example units.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

__all__ = ["inherited_listeners", "notify"]

# The first descriptor that systemd passes: SD_LISTEN_FDS_START.
_FIRST_INHERITED: Final = 3


def inherited_listeners(count: int = 1) -> list[socket.socket]:
    """Return the sockets that systemd has opened for this process: see sd_listen_fds(3).

    Returns an empty list if systemd has opened none. Call only once, because the caller then owns
    the sockets. Raises ValueError if systemd has opened anything but `count` listening TCP sockets.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    fds = os.environ.get("LISTEN_FDS", "")
    listeners: list[socket.socket] = []
    with suppress(OSError):
        for number in range(count if fds == str(count) else 0):
            listeners.append(socket.socket(fileno=_FIRST_INHERITED + number))
        if listeners and all(map(_listens, listeners)):
            return listeners
    for listener in listeners:
        listener.close()
    what = "one TCP socket that listens" if count == 1 else f"{count} TCP sockets that listen"
    raise ValueError(f"LISTEN_FDS={fds}: not {what}, from descriptor 3 on")


def _listens(sock: socket.socket) -> bool:
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
    return is_tcp and bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def notify(state: str) -> None:
    """Report a state of this process to systemd: see sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
