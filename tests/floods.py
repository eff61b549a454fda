"""Flood a real gochat in many ways, measure how long others wait, and print a table.

    python -m tests.floods [--before DIRECTORY]

For each kind of flood, one client and then five clients flood the server for a few seconds, first
without `--rate` and then with it. A flooder sends as fast as the server reads, reads everything,
and reconnects whenever it is disconnected. Meanwhile, one client measures how long its messages
take to come back, and another how long the page takes to load. The table has the longest waits.

--before also measures the checkout in DIRECTORY. --write puts the table into
docs/run/reliability.md, between two comments. --only measures one kind of flood.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final, NamedTuple

from .harm import write_table
from .support import (
    BINARY,
    CONTINUATION,
    HANDSHAKE,
    PATIENCE,
    PING,
    PONG,
    Gochat,
    Peer,
    frame,
    request,
)

BEGIN = "<!-- begin: written by tests/floods.py -->"
END = "<!-- end: written by tests/floods.py -->"

#: Flags of the floods with `--rate`.
RATE = ("--rate=5", "--burst=5")

#: Numbers of flooders.
ONE, MANY = 1, 5


class Flood(NamedTuple):
    """A kind of flood.

    what: its name in the table. head: the request. first: sent once, after the handshake.

    then: sent repeatedly after `first`. If empty, the flooder closes the connection after the
    response and opens another.

    slow: whether to send one byte at a time. connections: how many each flooder has.
    """

    what: str
    then: bytes = b""
    first: bytes = b""
    slow: bool = False
    head: bytes = request()
    connections: int = 1


_BEGIN = frame("", fin=False)
_MORE = frame("", CONTINUATION, fin=False)
_END = frame("", CONTINUATION)
_PING, _PONG = frame("p" * 125, PING), frame("p" * 125, PONG)

#: All kinds of floods, by name.
FLOODS: Final = {
    "continuations": Flood("Empty continuation frames without end", _MORE, _BEGIN),
    "fragments": Flood("Fragments of 1 byte", frame("x", CONTINUATION, fin=False), _BEGIN),
    "fragmented": Flood("Messages of 64 empty fragments", _BEGIN + _MORE * 62 + _END),
    "empty": Flood("Empty messages", frame("")),
    "short": Flood("Messages of 1 byte", frame("x")),
    "binary": Flood("Binary messages of 1 byte", frame("x", BINARY)),
    "long": Flood("Messages of 512 bytes", frame("x" * 512)),
    "bytes": Flood("Messages, one byte at a time", frame("x" * 100), slow=True),
    "pings": Flood("Empty pings", frame("", PING)),
    "long pings": Flood("Pings of 125 bytes", _PING),
    "pongs": Flood("Empty pongs", frame("", PONG)),
    "long pongs": Flood("Pongs of 125 bytes", _PONG),
    "mixed": Flood(
        "All of these mixed", frame("x") + _PING + _PONG + _BEGIN + _MORE + _PING + _END
    ),
    "not text": Flood("Text that is not UTF-8", frame(b"\xff")),
    "too long": Flood("Messages of 513 bytes", frame("x" * 513)),
    "unmasked": Flood("Frames without a mask", frame("x", mask=None)),
    "handshakes": Flood("Handshakes"),
    "many": Flood("Empty pings on 50 connections", frame("", PING), connections=50),
    "pages": Flood("Requests for the page", head=request(HANDSHAKE[:1], "GET / HTTP/1.1")),
}


class FloodError(Exception):
    """A flooder could not connect."""


# The clients. Each runs in its own process.


def flood(begun: Event, port: int, kind: Flood) -> None:
    """Flood the server until the process is killed.

    begun: set when the server has answered on every connection.
    """
    answered = threading.Barrier(kind.connections, begun.set)
    for _ in range(kind.connections):
        threading.Thread(target=flood_connection, args=(answered, port, kind)).start()


def flood_connection(answered: threading.Barrier, port: int, kind: Flood) -> None:
    """Flood the server on one connection, and reconnect whenever it ends."""
    block = kind.then * (65536 // max(1, len(kind.then)))
    first = True
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(PATIENCE)
            sock.sendall(kind.head)
            sock.recv(65536)
            if first:
                answered.wait()
                first = False
            if not kind.then:
                continue
            reader = threading.Thread(target=drain, args=[sock], daemon=True)
            reader.start()
            sock.sendall(kind.first)
            while True:
                if kind.slow:
                    for place in range(len(kind.then)):
                        sock.send(kind.then[place : place + 1])
                else:
                    sock.sendall(block)


def drain(sock: socket.socket) -> None:
    """Read everything. A client that does not read is disconnected."""
    with suppress(OSError):
        while sock.recv(1 << 20):
            pass


def measure_echo(port: int, seconds: float, pause: float) -> float:
    """Send messages for `seconds`; return the longest round-trip time, in seconds.

    pause: seconds between messages. Raises EOFError if the server disconnects this client.
    """
    worst, number = 0.0, 0
    with Peer(port) as peer:
        assert peer.open().status == 101
        end = time.monotonic() + seconds
        while (begin := time.monotonic()) < end:
            number += 1
            mine, got = b"message %d of the client that measures" % number, b""
            peer.send(mine)
            while mine not in got:
                data = peer.sock.recv(1 << 20)
                if not data:
                    raise EOFError
                got = got[-len(mine) :] + data
            worst = max(worst, time.monotonic() - begin)
            time.sleep(pause)
    return worst


def measure_page(port: int, seconds: float) -> float:
    """Load the page repeatedly for `seconds`; return the longest time it took, in seconds."""
    worst, end = 0.0, time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        with Peer(port) as peer:
            peer.sock.sendall(request(HANDSHAKE[:1], "GET / HTTP/1.1"))
            while peer.sock.recv(1 << 20):
                pass
        worst = max(worst, time.monotonic() - begin)
        time.sleep(0.05)
    return worst


@contextmanager
def in_processes(count: int, target: Callable[..., None], *args: object) -> Iterator[None]:
    """Run the target in `count` processes during the block, which starts once all have begun.

    target: called with an event, which it sets when it has begun, and `args`.

    The processes are forked from a fork server that has imported this module, because importing
    takes longer than some floods. A fork of pytest-xdist's process would lack its threads.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    events = [server.Event() for _ in range(count)]
    with ExitStack() as stack:
        for event in events:
            process = server.Process(target=target, args=(event, *args), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.kill)
        for event in events:
            if not event.wait(PATIENCE):
                raise FloodError("a flooder has not begun")
        yield


class Waits(NamedTuple):
    """The longest waits during a flood, in seconds. Over PATIENCE, a wait is infinite."""

    echo: float
    page: float


def beside(kind: Flood, flooders: int, *flags: str, seconds: float, fault: str = "") -> Waits:
    """Flood a server; return the longest waits of the two measuring clients.

    These two clients send less than `--rate` allows, so the rate does not delay them. The waits are
    infinite if a flooder cannot connect within PATIENCE. fault: see `Gochat`.
    """
    echo = page = float("inf")
    # So large that no flood can fill it, because a dropped client could not measure anything.
    with (
        suppress(FloodError),
        Gochat("--send-buffer=1000000", *flags, fault=fault, measured=False) as gochat,
        in_processes(flooders, flood, gochat.port, kind),
        ThreadPoolExecutor(2) as pool,
    ):
        pages = pool.submit(measure_page, gochat.port, seconds)
        echoes = pool.submit(measure_echo, gochat.port, seconds, 0.25 if flags else 0.01)
        with suppress(OSError, EOFError):
            echo = echoes.result()
        with suppress(OSError):
            page = pages.result()
    return Waits(echo, page)


# The table.

HEAD = (
    "| Flood | 1 flooder | 5 flooders | 1, `--rate` | 5, `--rate` |\n"
    "| --- | --- | --- | --- | --- |"
)


def words(wait: float) -> str:
    """Return a wait in seconds, as text."""
    return f"{wait:.2f}" if wait < PATIENCE else f"over {PATIENCE:.0f}"


def row(name: str, seconds: float, before: Path | None) -> str:
    """Measure one kind of flood; return its row."""
    versions = [""]
    if before is not None:
        versions.insert(0, f"import sys; sys.path.insert(0, {str(before / 'src')!r})")
    cells = []
    for flags in ((), RATE):
        for flooders in (ONE, MANY):
            waits = [
                beside(FLOODS[name], flooders, *flags, seconds=seconds, fault=fault)
                for fault in versions
            ]
            cells.append(" → ".join(f"{words(w.echo)} ({words(w.page)})" for w in waits))
    return f"| {' | '.join([FLOODS[name].what, *cells])} |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.floods", description=__doc__)
    parser.add_argument("--only", choices=FLOODS, metavar="NAME", help=", ".join(FLOODS))
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each flood lasts")
    parser.add_argument("--before", type=Path, metavar="DIRECTORY", help="measure this, too")
    parser.add_argument("--write", action="store_true", help="write the table to the docs")
    args = parser.parse_args(argv)
    if args.write and args.only:
        parser.error("--write needs all kinds of floods, not --only")
    begin, rows = time.monotonic(), []
    print(HEAD, flush=True)
    for name in [args.only] if args.only else FLOODS:
        rows.append(row(name, args.seconds, args.before))
        print(rows[-1], flush=True)
    if args.write:
        command = f"python -m tests.floods --seconds {args.seconds:g}"
        if args.before:
            command += " --before OLD"
        write_table(BEGIN, END, HEAD, rows, command, seconds=time.monotonic() - begin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
