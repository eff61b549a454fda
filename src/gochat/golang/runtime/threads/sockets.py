"""Sockets that threads wait for, and what each thread is doing."""

from __future__ import annotations

import select
import socket
import sys
import threading
from types import FrameType

__all__ = ["hung_up", "nonblocking", "readable", "stacks", "writable"]


def readable(sock: socket.socket) -> select.poll:
    """Return what waits until there is input. Thread: any."""
    return _poll(sock, select.POLLIN)


def writable(sock: socket.socket | int) -> select.poll:
    """Return what waits until there is room for output. Thread: any."""
    return _poll(sock, select.POLLOUT)


def hung_up(sock: socket.socket) -> select.poll:
    """Return what waits until the connection has ended in both directions. Thread: any."""
    return _poll(sock, 0)


def nonblocking(sock: socket.socket) -> socket.socket:
    """Return the socket whose `send` and MSG_DONTWAIT never wait. Thread: any."""
    return sock


def stacks() -> list[tuple[str, FrameType]]:
    """Return the name of each thread, and what it is doing. Thread: any."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return [(f"thread {names.get(ident, ident)}", frame) for ident, frame in frames]


def _poll(sock: socket.socket | int, events: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, events)
    return poll
