"""Waiting for sockets, and the stacks of all threads."""

from __future__ import annotations

import select
import socket
import sys
import threading
from types import FrameType

__all__ = ["hung_up", "nonblocking", "readable", "stacks", "writable"]


def readable(sock: socket.socket) -> select.poll:
    """Return a poll object that waits for input. Thread: any."""
    return _poll(sock, select.POLLIN)


def writable(sock: socket.socket | int) -> select.poll:
    """Return a poll object that waits for room in the send buffer. Thread: any."""
    return _poll(sock, select.POLLOUT)


def hung_up(sock: socket.socket) -> select.poll:
    """Return a poll object that waits until both directions have ended. Thread: any."""
    return _poll(sock, 0)


def nonblocking(sock: socket.socket) -> socket.socket:
    """Return a socket whose `send(data, MSG_DONTWAIT)` never waits. Thread: any."""
    return sock


def stacks() -> list[tuple[str, FrameType]]:
    """Return the name and the stack of each thread. Thread: any."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return [(f"thread {names.get(ident, ident)}", frame) for ident, frame in frames]


def _poll(sock: socket.socket | int, events: int) -> select.poll:
    poll = select.poll()
    poll.register(sock, events)
    return poll
