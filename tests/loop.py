"""Many clients on one thread: non-blocking sockets, and the loop that serves them."""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path

from .support import PATIENCE, Frame, Gochat, cut_frame, join, reset_socket, wait_until


def resources(gochat: Gochat) -> tuple[int, int]:
    """Return the number of threads and of descriptors, some of which may be about to end.

    On greenlets, the number of threads is 0, because gevent may still have one that looked up a
    name.
    """
    if os.environ.get("GOCHAT_RUNTIME") == "greenlets":
        return 0, gochat.descriptors()
    tasks = Path(f"/proc/{gochat.process.pid}/task")
    return len(list(tasks.iterdir())), gochat.descriptors()


def idle(gochat: Gochat, threads: int = 2) -> tuple[int, int]:
    """Let a client join and leave; return the server's resources once it is idle again.

    threads: the number in an idle server: the main thread, the hub, and any that a fault adds.
    """
    tasks, descriptors = resources(gochat)
    with join(gochat.port):
        pass
    if tasks:
        wait_until(lambda: resources(gochat)[0] == threads, "an idle server")
    else:
        wait_until(lambda: resources(gochat)[1] == descriptors, "an idle server")
    return resources(gochat)


class Frames:
    """Splits received data into frames."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def take(self, data: bytes) -> list[Frame]:
        """Add received data; return the frames it completes."""
        self.rest += data
        start, frames = 0, []
        while cut := cut_frame(self.rest, start):
            got, start = cut
            frames.append(got)
        del self.rest[:start]
        return frames


class Loop:
    """Serves all links, and makes calls when they are due, on one thread."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        #: The numbers of links opened and closed so far.
        self.opened = self.closed = 0
        self._count = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function on the loop's thread after some seconds."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._count), call))

    def turn(self) -> None:
        """Wait for at most 50 ms; then handle what is ready or due."""
        timeout = 0.05
        if self._due:
            timeout = min(timeout, max(0.0, self._due[0][0] - time.monotonic()))
        for key, events in self.selector.select(timeout):
            key.data.ready(events)
        now, last = time.monotonic(), next(self._count)
        while self._due and self._due[0][0] <= now and self._due[0][1] < last:
            heapq.heappop(self._due)[2]()

    def run_until(self, condition: Callable[[], bool], what: str) -> None:
        """Run the loop until a condition holds; raise AssertionError after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"never came true: {what}"
            self.turn()

    def close(self) -> None:
        """Close all links."""
        for key in list(self.selector.get_map().values()):
            key.data.close()
        self.selector.close()


class Link:
    """A connection to a server on this machine, served by a loop. Subclasses handle its data.

    send_buffer: bytes in the socket's send buffer; 0 for the default.
    """

    def __init__(
        self, loop: Loop, port: int, source: str = "127.0.0.1", *, send_buffer: int = 0
    ) -> None:
        self.loop = loop
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if send_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.sock.setblocking(False)
        self.closed = False
        #: When data last arrived.
        self.read_at = time.monotonic()
        loop.opened += 1
        self._unsent = bytearray()
        self._half = False
        loop.selector.register(self.sock, selectors.EVENT_READ, self)

    def got(self, data: bytes) -> None:
        """Handle data from the server."""
        raise NotImplementedError

    def ended(self, reset: bool) -> None:
        """Handle a connection that the server has ended. The socket is already closed."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send data, immediately or when the socket has room."""
        self._unsent += data
        self._flush()

    def half_close(self) -> None:
        """Send nothing after the data passed so far, but keep reading."""
        self._half = True
        self._flush()

    def close(self, *, reset: bool = False) -> None:
        """Close the socket without a close frame. Unsent data is dropped."""
        if self.closed:
            return
        self.closed = True
        self.loop.closed += 1
        self.loop.selector.unregister(self.sock)
        if reset:
            reset_socket(self.sock)
        else:
            self.sock.close()

    def ready(self, events: int) -> None:
        """Read or write what the socket allows. Called by the loop."""
        if self.closed:
            return
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                self.ended(True)
                return
            if data:
                self.read_at = time.monotonic()
                self.got(data)
            else:
                self.close()
                self.ended(False)

    def _flush(self) -> None:
        if self.closed:
            return
        try:
            while self._unsent:
                del self._unsent[: self.sock.send(self._unsent)]
            if self._half:
                self.sock.shutdown(socket.SHUT_WR)
                self._half = False
        except BlockingIOError:
            pass
        except OSError:
            # Ignore the error. Reading will also notice the end, after any data before it.
            self._unsent.clear()
            self._half = False
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self.loop.selector.get_key(self.sock).events != events:
            self.loop.selector.modify(self.sock, events, self)
