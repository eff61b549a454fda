"""`--processes N`: a parent process that runs N chats on one port.

The parent serves no clients, and has only its main thread. It opens N listening sockets for one
address, and starts one child for each socket. A child runs the same command as the parent; an
environment variable gives the child a Place.

- **Sockets.** The parent keeps all sockets open. If a child dies, its successor accepts the
  connections that are waiting on the child's socket.
- **Reports.** Every second, a child writes to its pipe that its chat is alive. Before it ends, it
  writes that it is ending, or why it has failed. The pipe closes when the child ends, for any
  reason. So the parent waits only for pipes and signals.
- **Deadlines.** The parent kills a child that sends no reports, or that takes too long to start or
  to end. If the parent itself was suspended, for example with its virtual machine, that time does
  not count: see clock.py.
- **Restarts.** A child that dies is restarted: immediately if it had served for a while, otherwise
  after a pause that grows each time. But if a child dies before all children are ready for the
  first time, the whole command ends, because the cause is probably permanent.
- **Signals.** SIGINT or SIGTERM ends the children cleanly; a second signal kills them. SIGUSR1 is
  passed on to the children. Ctrl-C reaches only the parent, because each child has its own session.
- **The parent's death.** If the parent dies, the system sends SIGTERM to each child.

Only Linux distributes connections over the sockets, so other systems are not supported.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import random
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..golang import clock
from ..golang.http.address import join_host_port, page_url
from .signals import handling
from .systemd import notify

__all__ = ["Place", "ProcessError", "find_place", "supervise"]

log = logging.getLogger("gochat")

# The environment variable that holds a child's place: its number, the descriptors of its socket and
# its pipe, and the parent's process id.
_VARIABLE: Final = "GOCHAT_CHILD"

# Variables that systemd sets for the parent. Children must not see them.
_NOT_INHERITED: Final = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

# A child that served for at least this long, in seconds, is restarted without a pause.
_YOUNG: Final = 10.0

# The first and the longest pause before other children are restarted, in seconds.
_PAUSE: Final = (0.1, 10.0)

# How long a child may be silent before it is killed, in seconds.
_SILENCE: Final = 10.0

# How many seconds a child may take to start, in addition to the relay's timeout.
_START: Final = 60.0
# How many seconds a child may take to end, in addition to its shutdown timeout.
_GRACE: Final = 10.0

# How long to wait for a killed child, in seconds. A child may take longer if it waits for a device
# that does not answer.
_DEATH: Final = 10.0

# The signals that the parent handles.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

# Capacity of a pipe, in bytes. Children write whole lines, so a read of this size returns whole
# lines.
_PIPE: Final = 65536

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1


class ProcessError(OSError):
    """Raised if a child could not start, failed during shutdown, or had to be killed."""


class Place(NamedTuple):
    """A child's number, socket and pipe. Thread: the child's main one."""

    #: Counted from 0.
    number: int
    #: The socket that the child listens on.
    listener: socket.socket
    #: The write end of the pipe.
    pipe: int

    def alive(self) -> None:
        """Report that this process is listening and its chat is healthy. Call every second."""
        self._write("+")

    def ending(self) -> None:
        """Report that this process is ending; no more reports follow. Call once."""
        self._write("-")

    def failed(self, reason: str) -> None:
        """Report why this process is about to end. The parent logs it. Call once."""
        self._write(f"!{reason.strip()[:500] or 'no reason'}")

    def _write(self, line: str) -> None:
        # A broken pipe means that the parent is dead, and SIGTERM follows. A full pipe means that
        # the parent was suspended for hours.
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self.pipe, f"{line}\n".encode(errors="backslashreplace"))


def has_place() -> bool:
    """Return whether this is a child that has not called `find_place` yet."""
    return bool(os.environ.get(_VARIABLE))


def find_place() -> Place | None:
    """Return this process's place, or None if the process is not a child. Call once.

    After this call, the process gets SIGTERM when its parent dies. Exits with status 1 if the
    parent is already dead. Thread: the main one.
    """
    found = os.environ.pop(_VARIABLE, "")
    if not found:
        return None
    number, listener, pipe, parent = map(int, found.split(","))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before prctl was called
        raise SystemExit(1)
    os.set_inheritable(pipe, False)
    os.set_blocking(pipe, False)
    return Place(number, socket.socket(fileno=listener), pipe)


@dataclass
class _Child:
    """A child process, or the wait for its next start."""

    number: int
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    #: The read end of the child's pipe, while the child runs.
    pipe: int = -1
    #: Whether the child has reported that it listens.
    ready: bool = False
    #: The reason for the child's end; empty if it is unknown.
    reason: str = ""
    #: When the child was started, a time of clock.py.
    started: float = 0.0
    #: When to start the child or, while it runs, to kill it; a time of clock.py. Each report from
    #: the child postpones its death.
    due: float = 0.0
    #: The reason to report if the child is killed then.
    overdue: str = ""
    killed: bool = False
    #: The pause before the child's next restart, in seconds.
    pause: float = _PAUSE[0]

    def start(self) -> None:
        """Start the child. Raises OSError."""
        # The command line of this process. If another program has called `main`, each child runs
        # that program, which also calls `main`.
        command = [sys.executable, *sys.orig_argv[1:]]
        environ = {name: text for name, text in os.environ.items() if name not in _NOT_INHERITED}
        reading, writing = os.pipe()
        listener = self.listener.fileno()
        environ[_VARIABLE] = f"{self.number},{listener},{writing},{os.getpid()}"
        try:
            self.process = subprocess.Popen(
                command, env=environ, pass_fds=(listener, writing), start_new_session=True
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.pipe, self.ready, self.reason, self.killed = reading, False, "", False
        self.started = clock.now()

    def allow(self, seconds: float, overdue: str) -> None:
        """Kill the child `seconds` from now. overdue: the reason to report then."""
        self.due = clock.after(seconds)
        self.overdue = f"{overdue} {seconds:g} s: killed"

    def signal(self, number: int) -> None:
        """Send a signal to the child, if it runs."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the child, if it runs. Its pipe closes when the child has ended."""
        if self.process is not None:
            self.process.kill()
        self.killed, self.reason = True, self.overdue
        self.due = clock.after(_DEATH)

    def put_off(self) -> float:
        """Schedule the next start. Returns the pause until then, in seconds."""
        wait = 0.0
        if self.ready and clock.now() - self.started >= _YOUNG:
            self.pause = _PAUSE[0]
        else:
            # Random, so that children that died together are not restarted together each time.
            wait = self.pause * (0.5 + random.random() / 2)
            self.pause = min(2 * self.pause, _PAUSE[1])
        self.due = clock.after(wait)
        return wait


class _Parent:
    """The parent: its children and its signals. Thread: the main one."""

    def __init__(
        self, listeners: Sequence[socket.socket], shutdown_timeout: float, relay_timeout: float
    ) -> None:
        self.children = [_Child(number, sock) for number, sock in enumerate(listeners)]
        #: How long a child may take to start, in seconds.
        self.start_wait = relay_timeout + _START
        #: How long a child may take to end, in seconds.
        self.end_wait = shutdown_timeout + _GRACE
        self.selector = selectors.DefaultSelector()
        #: Whether all children have been ready at the same time.
        self.begun = False
        self.stopping = False
        #: The first reason for the command to fail; empty if there is none.
        self.failure = ""

    def due(self, child: _Child) -> float:
        """Return when to `act` on a child; infinity if there is nothing left to do."""
        return math.inf if self.stopping and child.process is None else child.due

    def run(self) -> None:
        """Keep the children running until a signal comes, then end them. Raises ProcessError."""
        with ExitStack() as stack:
            stack.enter_context(self.selector)
            woken, wake = map(stack.enter_context, socket.socketpair())
            wake.setblocking(False)
            # Python writes the number of each signal to `wake`. So a signal wakes the selector,
            # even if it arrives just before the selector waits.
            before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
            self.selector.register(woken, selectors.EVENT_READ)
            stack.enter_context(handling(dict.fromkeys(_SIGNALS, lambda *_: None)))
            stack.enter_context(clock.beating())
            while (due := min(map(self.due, self.children))) < math.inf:
                events = self.selector.select(min(clock.BEAT, max(0.0, due - clock.now())))
                clock.beat()
                for key, _ in events:
                    if key.fileobj is woken:
                        self.handle(woken.recv(4096))
                    else:
                        self.hear(key.data)
                for child in self.children:
                    if self.due(child) <= clock.now():
                        self.act(child)
        if self.failure:
            raise ProcessError(self.failure)

    def act(self, child: _Child) -> None:
        """Start a child, kill it, or give it up if it cannot be killed."""
        if child.process is None:
            try:
                child.start()
            except OSError as error:
                self.lost(child, f": {error.strerror}")
            else:
                child.allow(self.start_wait, "not ready after")
                self.selector.register(child.pipe, selectors.EVENT_READ, child)
        elif child.killed:
            self.leave(child, 0.0)
        elif self.stopping:
            self.kill("the processes did not end in time")
        else:
            child.kill()

    def hear(self, child: _Child) -> None:
        lines = os.read(child.pipe, _PIPE).decode().splitlines()
        for line in lines:
            if line.startswith("!"):
                child.reason = line[1:]
            elif self.stopping:
                pass  # `stop` has set the deadline
            elif line == "-":
                child.allow(self.end_wait, "did not end within")
            else:
                child.ready = True
                child.allow(_SILENCE, "silent for")
        if not lines:
            self.leave(child, _DEATH)
        # Not while stopping: a child that gets SIGTERM while waiting for Redis reports that it is
        # ready.
        elif not self.begun and not self.stopping and all(each.ready for each in self.children):
            self.begun = True
            self.say_ready()

    def leave(self, child: _Child, patience: float) -> None:
        """Handle a child that has ended or cannot be killed.

        patience: how long to wait for the child to end, in seconds.
        """
        assert child.process is not None
        child.process.kill()  # it may only have closed its pipe
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = child.process.wait(patience)
        self.selector.unregister(child.pipe)
        os.close(child.pipe)
        child.process = None
        if self.stopping and status in (0, -signal.SIGTERM):  # SIGTERM: it had no handler yet
            return
        if status is None:
            self.lost(child, " cannot be killed")
        elif child.reason:
            self.lost(child, f": {child.reason}")
        elif status < 0:
            self.lost(child, f" was killed by signal {-status}")
        else:
            self.lost(child, f" ended with status {status}")

    def lost(self, child: _Child, how: str) -> None:
        """Restart a child that ended unexpectedly or could not start, or else end the command."""
        what = f"process {child.number}{how}"
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

    def handle(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGUSR1:
                for child in self.children:
                    if child.ready:  # otherwise it has no handler, and would be killed
                        child.signal(number)
            elif number in _SIGNALS and self.stopping:
                self.kill("killed at the second signal")
            elif number in _SIGNALS:
                log.info("stopping")
                notify("STOPPING=1")
                self.stop()

    def stop(self) -> None:
        self.stopping = True
        for child in self.children:
            # If the listener stayed open, clients could connect, but no child would accept them.
            child.listener.close()
        for child in self.children:
            child.allow(self.end_wait, "did not end within")
            child.signal(signal.SIGTERM)

    def kill(self, reason: str) -> None:
        self.failure = self.failure or reason
        for child in self.children:
            child.kill()


def supervise(
    listeners: Sequence[socket.socket], shutdown_timeout: float, relay_timeout: float
) -> None:
    """Run a chat on each socket until SIGINT or SIGTERM.

    listeners: sockets, which are closed at the end. shutdown_timeout, relay_timeout: the children's
    timeouts, in seconds.

    Raises ProcessError if a child could not start, failed during shutdown, or had to be killed.
    Thread: the main one; there must be no other.
    """
    _Parent(listeners, shutdown_timeout, relay_timeout).run()
