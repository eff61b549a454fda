"""systemd: the socket that it hands over, and the state that it is told.

Without systemd nothing is done here. docs/gochat.service and docs/gochat.socket are units for it.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Final

__all__ = ["inherited_listener", "notify"]

# The first descriptor that systemd gives to a process: SD_LISTEN_FDS_START.
_FIRST_INHERITED: Final = 3


def inherited_listener() -> socket.socket | None:
    """The socket that systemd listens at for this process; None without one: sd_listen_fds(3).

    Raises ValueError if systemd has handed over anything but one listening TCP socket.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    fds = os.environ.get("LISTEN_FDS", "")
    with suppress(OSError):
        listener = socket.socket(fileno=_FIRST_INHERITED)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if fds == "1" and listens and listener.family in (socket.AF_INET, socket.AF_INET6):
            return listener
        listener.close()
    raise ValueError(f"LISTEN_FDS={fds}: not one TCP socket that listens, from descriptor 3 on")


def notify(state: str) -> None:
    """Tell systemd the state of this process, if systemd has asked for that: sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
