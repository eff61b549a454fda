"""`--processes N`: a parent that starts N chats on one port and keeps them running.

The parent has only its main thread and serves no clients. It opens N listening sockets at one
address and starts a child on each: the same command, which finds its place in the environment.

- The parent keeps the sockets open. If a child dies, its successor accepts the connections that are
  still waiting.
- A child reports to the parent through a pipe: every second, that its chat is alive; later, that it
  is about to end, and why. The pipe closes when the child ends, for whatever reason, so the parent
  waits only for pipes and signals.
- A child that is silent for too long is stuck or stopped, and the parent kills it. The time to
  start and the time to end are also limited. If the parent itself has not run for a while, as in a
  paused virtual machine, the children have probably not run either, so that time does not count.
- A child that dies is restarted: immediately if it has served for a while, otherwise after a
  growing pause. But if a child dies before all children have been ready for the first time, the
  whole command ends, because the cause is probably permanent.
- SIGINT and SIGTERM end the children cleanly, and a second signal kills them. SIGUSR1 is passed on
  to the children. Each child has its own session, so Ctrl-C reaches only the parent.
- When the parent dies, in any way, the system sends SIGTERM to each child.

Linux only: other systems do not spread connections over the sockets.
"""

from __future__ import annotations

import ctypes
import logging
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..golang.http.address import join_host_port, page_url
from .signals import handling
from .systemd import notify

__all__ = ["Place", "ProcessError", "find_place", "supervise"]

log = logging.getLogger("gochat")

# The variable in which a child finds its place: its number, the descriptors of its socket and of
# its pipe, and the process id of its parent.
_VARIABLE: Final = "GOCHAT_CHILD"

# The parent's variables from systemd, which the children must not see.
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

# A child that dies after serving for this many seconds is restarted without a pause.
_YOUNG: Final = 10.0

# The first and the longest pause before a child that died sooner is restarted, in seconds.
_PAUSE: Final = (0.1, 10.0)

# Time that a child may be silent before it is killed, in seconds.
_SILENCE: Final = 10.0

# Time allowed for a child to start, in addition to its wait for Redis, and to end, in addition to
# its shutdown timeout, in seconds. A child that takes longer is killed.
_START: Final = 60.0
_GRACE: Final = 10.0

# Time allowed for a killed child to die, in seconds. A child that waits for a device that does not
# answer takes longer.
_DEATH: Final = 10.0

# The longest time between two checks of the children, and how late a check may be before the parent
# concludes that it was paused, in seconds.
_LOOK: Final = 1.0
_LATE: Final = 1.0

# Capacity of a pipe, in bytes. Lines are written whole, so a read of this size gets whole lines.
_PIPE: Final = 65536

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1


class ProcessError(OSError):
    """A child could not start, failed at shutdown, or had to be killed."""


class Place(NamedTuple):
    """The place of a child among its siblings. Thread: the child's main one."""

    #: From 0.
    number: int
    #: The socket that the child listens on.
    listener: socket.socket
    #: The end of the pipe that the child writes to.
    pipe: int

    def alive(self) -> None:
        """Tell the parent that this process listens and its chat is healthy. Call every second."""
        self._write("+")

    def ending(self) -> None:
        """Tell the parent that this process is ending and will be silent from now on. Call once."""
        self._write("-")

    def failed(self, reason: str) -> None:
        """Tell the parent why this process is about to end; the parent reports it. Call once."""
        self._write(f"!{reason.strip()[:500] or 'no reason'}")

    def _write(self, line: str) -> None:
        # If the pipe has no reader, the parent is gone, and SIGTERM is on its way. If the pipe is
        # full, the parent has been stopped for hours.
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self.pipe, f"{line}\n".encode(errors="backslashreplace"))


def has_place() -> bool:
    """Return whether a parent started this process and `find_place` has not been called yet."""
    return bool(os.environ.get(_VARIABLE))


def find_place() -> Place | None:
    """Return the place of this process, if a parent has started it. Thread: the main one, once.

    From then on this process gets SIGTERM when its parent dies. Exits with 1 if the parent is
    already dead.
    """
    found = os.environ.pop(_VARIABLE, "")
    if not found:
        return None
    number, listener, pipe, parent = map(int, found.split(","))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent died before the line above
        raise SystemExit(1)
    os.set_inheritable(pipe, False)
    os.set_blocking(pipe, False)
    return Place(number, socket.socket(fileno=listener), pipe)


@dataclass
class _Child:
    """A child that is running, or waits for its next start."""

    number: int
    listener: socket.socket
    #: None while the child is not running.
    process: subprocess.Popen[bytes] | None = None
    #: The reading end of its pipe, while the child is running.
    pipe: int = -1
    #: Whether the child listens.
    ready: bool = False
    #: Why the child ends, if it has said so.
    reason: str = ""
    #: When the child was started, and when it starts next, on the monotonic clock.
    started: float = 0.0
    due: float = 0.0
    #: When the child is killed unless it reports before, on the monotonic clock; and the reason.
    deadline: float = 0.0
    overdue: str = ""
    #: Whether the child was killed.
    killed: bool = False
    #: The next pause before a restart, in seconds.
    pause: float = _PAUSE[0]

    def start(self) -> None:
        """Start the child. Raises OSError if the system cannot."""
        # The parent's own command line. If a program has called main, the child runs that program,
        # which calls main again.
        command = [sys.executable, *sys.orig_argv[1:]]
        environ = {name: text for name, text in os.environ.items() if name not in _NOT_INHERITED}
        reading, writing = os.pipe()
        environ[_VARIABLE] = f"{self.number},{self.listener.fileno()},{writing},{os.getpid()}"
        try:
            self.process = subprocess.Popen(
                command,
                env=environ,
                pass_fds=(self.listener.fileno(), writing),
                start_new_session=True,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.pipe, self.ready, self.reason, self.killed = reading, False, "", False
        self.started = time.monotonic()

    def allow(self, seconds: float, overdue: str) -> None:
        """Give the child this many seconds before it is killed. overdue: the reason to report."""
        self.deadline = time.monotonic() + seconds
        self.overdue = f"{overdue} {seconds:g} s: killed"

    def kill(self, reason: str) -> None:
        """Kill the child. Its pipe closes soon after."""
        assert self.process is not None
        self.process.kill()
        self.killed, self.reason = True, reason
        self.deadline = time.monotonic() + _DEATH

    def leave(self, patience: float) -> int | None:
        """Kill the child and wait until it has ended.

        patience: how long to wait, in seconds. Returns the exit status; None if the child does not
        end.
        """
        assert self.process is not None
        self.process.kill()
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = self.process.wait(patience)
        os.close(self.pipe)
        self.process, self.pipe = None, -1
        return status

    def put_off(self) -> float:
        """Schedule the child's next start. Returns the pause until then, in seconds."""
        now = time.monotonic()
        wait = 0.0
        if self.ready and now - self.started >= _YOUNG:
            self.pause = _PAUSE[0]
        else:
            # Random, so that children that die together do not always restart together.
            wait = self.pause * (0.5 + random.random() / 2)
            self.pause = min(2 * self.pause, _PAUSE[1])
        self.due = now + wait
        return wait


class _Parent:
    """The parent: its children, its selector, and its signals. Thread: the main one."""

    def __init__(
        self, listeners: Sequence[socket.socket], shutdown_timeout: float, relay_timeout: float
    ) -> None:
        self.children = [_Child(number, sock) for number, sock in enumerate(listeners)]
        #: Time allowed for a child to start, and to end, in seconds.
        self.start_wait = relay_timeout + _START
        self.end_wait = shutdown_timeout + _GRACE
        self.selector = selectors.DefaultSelector()
        #: Signals that have not been handled yet. The signal handler appends to this list.
        self.signals: list[int] = []
        #: Whether all children have been ready at the same time.
        self.begun = False
        self.stopping = False
        #: The first permanent failure.
        self.failure = ""

    @property
    def running(self) -> list[_Child]:
        """The children that are running."""
        return [child for child in self.children if child.process is not None]

    def run(self) -> None:
        """Keep the children running until a signal, then end them. Raises ProcessError."""
        with ExitStack() as stack:
            stack.enter_context(self.selector)
            woken, wake = map(stack.enter_context, socket.socketpair())
            wake.setblocking(False)
            # A signal wakes the selector, even if it comes just before the selector waits.
            before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
            self.selector.register(woken, selectors.EVENT_READ)
            numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
            stack.enter_context(handling(dict.fromkeys(numbers, self.signalled)))
            self.start_due()
            looked = time.monotonic()
            while not self.stopping or self.running:
                events = self.selector.select(self.patience())
                now = time.monotonic()
                self.excuse(now - looked)
                looked = now
                for key, _ in events:
                    if key.fileobj is woken:
                        woken.recv(4096)
                    else:
                        self.hear(key.data)
                while self.signals:
                    self.handle(self.signals.pop(0))
                self.kill_overdue(now)
                self.start_due()
        if self.failure:
            raise ProcessError(self.failure)

    def signalled(self, number: int, _: object) -> None:
        """Note a signal. This handles all signals."""
        self.signals.append(number)

    def patience(self) -> float:
        """Return the time until something is due, but at most `_LOOK`, in seconds."""
        due = [child.deadline for child in self.running]
        if not self.stopping:
            due += [child.due for child in self.children if child.process is None]
        return min(_LOOK, max(0.0, min(due) - time.monotonic()))

    def excuse(self, passed: float) -> None:
        """If this process was paused, extend the children's deadlines by that time and more.

        When a whole machine resumes after a pause, this process may run before its children, which
        wrote nothing during the pause; and at first everything is slow. passed: the time since the
        last check, in seconds.
        """
        if passed > _LOOK + _LATE:
            for child in self.running:
                child.deadline += passed + _SILENCE

    def kill_overdue(self, now: float) -> None:
        """Kill the children whose deadline had passed when the last check began.

        A deadline that has passed since then does not count: the next check may find that there was
        a pause.
        """
        for child in self.running:
            if now < child.deadline:
                continue
            if child.killed:
                self.leave(child, 0.0)
            elif self.stopping:
                self.kill("the processes did not end in time")
            else:
                child.kill(child.overdue)

    def start_due(self) -> None:
        """Start the children that are due."""
        for child in self.children:
            if self.stopping or child.process is not None or child.due > time.monotonic():
                continue
            try:
                child.start()
            except OSError as error:
                self.lost(child, f"process {child.number}: {error.strerror}")
            else:
                child.allow(self.start_wait, "not ready after")
                self.selector.register(child.pipe, selectors.EVENT_READ, child)

    def hear(self, child: _Child) -> None:
        """Handle what a child has written to its pipe, or the end of the pipe."""
        lines = os.read(child.pipe, _PIPE).decode().splitlines()
        for line in lines:
            if line.startswith("!"):
                child.reason = line[1:]
            elif self.stopping:
                pass  # it was told to end and has a deadline for that
            elif line == "-":
                child.allow(self.end_wait, "did not end within")
            else:
                child.ready = True
                child.allow(_SILENCE, "silent for")
        if not lines:
            self.leave(child, _DEATH)
        # Skipped while stopping, because a child that is told to end while it waits for Redis is
        # briefly ready.
        elif not self.begun and not self.stopping and all(each.ready for each in self.children):
            self.begun = True
            self.say_ready()

    def leave(self, child: _Child, patience: float) -> None:
        """Reap a child that has ended, or should have. patience: see _Child.leave."""
        self.selector.unregister(child.pipe)
        status = child.leave(patience)
        if self.stopping and status in (0, -signal.SIGTERM):  # SIGTERM if it was still starting
            return
        if status is None:
            how = "cannot be killed"
        else:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        reason = f": {child.reason}" if child.reason and status is not None else f" {how}"
        self.lost(child, f"process {child.number}{reason}")

    def lost(self, child: _Child, what: str) -> None:
        """Handle a child that has ended unexpectedly, or cannot be started."""
        if self.begun and not self.stopping:
            log.error("%s; next start in %.2f s", what, child.put_off())
            return
        self.failure = self.failure or what
        if not self.stopping:
            self.stop()

    def say_ready(self) -> None:
        host, port = self.children[0].listener.getsockname()[:2]
        addr, url = join_host_port(host, port), page_url(host, port)
        log.info("%d processes listening on %s, open %s", len(self.children), addr, url)
        notify("READY=1")

    def handle(self, number: int) -> None:
        """Do what a signal asks for."""
        if number == signal.SIGUSR1:
            # SIGUSR1 would kill a child that has no handler yet.
            self.tell(number, [child for child in self.children if child.ready])
        elif self.stopping:
            self.kill("killed at the second signal")
        else:
            log.info("stopping")
            notify("STOPPING=1")
            self.stop()

    def stop(self) -> None:
        """End the children cleanly."""
        self.stopping = True
        for child in self.running:
            child.allow(self.end_wait, "did not end within")
        for child in self.children:
            # Otherwise new clients would wait until the last child has ended, and then be cut off.
            child.listener.close()
        self.tell(signal.SIGTERM, self.children)

    def kill(self, reason: str) -> None:
        """Kill the remaining children."""
        self.failure = self.failure or reason
        for child in self.running:
            child.kill(reason)

    def tell(self, number: int, children: Sequence[_Child]) -> None:
        """Send a signal to those of the children that are running."""
        for child in children:
            if child.process is not None:
                child.process.send_signal(number)


def supervise(
    listeners: Sequence[socket.socket], shutdown_timeout: float, relay_timeout: float
) -> None:
    """Run a chat on each of the sockets until SIGINT or SIGTERM.

    listeners: closed at the end. shutdown_timeout, relay_timeout: the children's, in seconds.
    Thread: the main one, which must be the only one.

    Raises ProcessError if a child could not start, failed at shutdown, or had to be killed.
    """
    _Parent(listeners, shutdown_timeout, relay_timeout).run()
