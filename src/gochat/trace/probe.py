"""The probes: subclasses of the chat's classes whose threads record what they do and wait for.

| the thread waits for                       | state    | recorded by              |
| ------------------------------------------ | -------- | ------------------------ |
| a value                                    | `recv`   | TracedChannel            |
| a receiver that takes its value            | `send`   | TracedChannel            |
| its turn, see golang.runtime               | `turn`   | Send                     |
| input, or room for output                  | `socket` | TracedConn               |
| the read rate                              | `rate`   | TracedConn               |
| the peer's answer to a close frame         | `close`  | TracedConn               |

A running hub has the state `register`, `unregister`, `broadcast` or `stop`; a read pump `read`; a
write pump `start` or `write`. An arrow starts where a value is sent and arrives where it is
received. In the channel, the value carries the arrow's number; the receiver gets the plain value.

The probes are the same on threads and on greenlets. Of a Channel they override what the Channels of
both runtimes have: `try_send`, `close` and `drain`, and `_send`, `_set_idle` and `_take`, by which
all other operations send, wait and receive.

These classes have the usual statistics, for the metrics and the view. With a relay, messages from
its threads to the hub are traced; its own channel is not.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from ..client import Client, Settings
from ..golang.channel import CLOSED, Channel
from ..golang.websocket import CLOSE_MESSAGE, PING_MESSAGE, Conn, ConnOptions, Upgrader
from .chrome import write
from .recorder import Arrow, Recorder, Track

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed.wsgi import WSGIEnvironment

    from ..anyhub import AnyHub
    from ..hub import Hub

__all__ = ["TracedChannel", "TracedClient", "TracedConn", "tracing"]

T = TypeVar("T")


class Sent(NamedTuple):
    """A value in a traced channel, with its arrow. at: when it was sent."""

    value: Any
    arrow: Arrow
    at: int
    #: See Point.
    message: int = 0


class TracedChannel(Channel[T]):
    """A channel that records who waits for it, and the arrow of each value.

    name: the channel's name. work: the receiver's state once it has a value.
    """

    def __init__(
        self, recorder: Recorder, name: str, work: str, capacity: int = 0, *, in_turn: bool = False
    ) -> None:
        super().__init__(capacity, in_turn=in_turn)
        self._recorder: Final = recorder
        self._name: Final = name
        self._work: Final = work

    def _send(self, value: T, deadline: float | None) -> None:
        track = self._recorder.track()
        arrow = track.new_arrow(self._work, self._name)
        with track.waiting("send", {"to": self._name, "arrow": arrow[0]}):
            at = track.next()
            super()._send(cast("T", Sent(value, arrow, at)), deadline)
            track.starts(arrow, at, 0)

    def _set_idle(self, receiver: Any) -> None:
        track = self._recorder.track()
        if track.state is None or track.state.name != "recv":
            track.wait("recv")
        super()._set_idle(receiver)

    def _take(self, got: list[Any]) -> bool:
        if not super()._take(got):
            return False
        track = self._recorder.track()
        if got[0] is CLOSED:
            self._end(track)
        else:
            sent: Sent = got[0]
            got[0] = sent.value
            self._arrived(sent, track)
        return True

    def _arrived(self, sent: Sent, track: Track) -> None:
        """Record that a value was received. Thread: the receiver."""
        said: dict[str, Any] = {}
        if isinstance(sent.value, Client):  # not the object with which health.py tests the hub
            said["client"] = sent.value.conn.remote_addr
        elif self._work == "broadcast":  # the hub numbers the messages as it takes them
            track.message += 1
            said["message"] = track.message
        track.run(self._work, said)
        track.arrives(sent.arrow, track.next(), said.get("message", 0))

    def _end(self, track: Track) -> None:
        """Record that the end was received. Thread: the receiver."""
        track.leave()


class Send(TracedChannel[bytes]):
    """A client's `send`: from the hub to the write pump."""

    def __init__(self, recorder: Recorder, remote_addr: str, capacity: int) -> None:
        super().__init__(recorder, f"client.send {remote_addr}", "write", capacity, in_turn=True)
        self._client: Final = remote_addr
        # The arrow of the end. Set by the thread that closes, before the receiver can find the end.
        self._last: Arrow

    def try_send(self, value: bytes) -> bool:
        track = self._recorder.track()
        arrow, message = track.new_arrow("message", self._name), track.message
        at, queued = track.now(), len(self.queue) + 1
        if super().try_send(cast("bytes", Sent(value, arrow, at, message))):
            track.starts(arrow, at, message, queued)
            return True
        track.note("dropped", self._client)
        return False

    def close(self) -> None:
        track = self._recorder.track()
        at, queued = track.now(), len(self.queue)
        self._last = track.new_arrow("close", self._name)
        super().close()
        track.starts(self._last, at, 0, queued)

    def drain(self) -> list[bytes]:
        held: Any = super().drain()
        track = self._recorder.track()
        left = len(self)
        for sent in held:
            track.note("messages", sent.message)
            track.arrives(sent.arrow, track.now(), sent.message, left)
        return [sent.value for sent in held]

    def _arrived(self, sent: Sent, track: Track) -> None:
        if not self._closed:  # values left in a closed channel need no turn
            track.waited("turn", since=sent.at)
        track.run("write", {"messages": [sent.message]})
        track.arrives(sent.arrow, track.next(), sent.message, len(self))

    def _end(self, track: Track) -> None:
        track.run("write", {"frame": "close"})
        track.arrives(self._last, track.next(), 0, 0)


# The states of a thread that waits for its connection, see `golang.websocket.conn.Waiting`.
_STATES: Final = {"rate": "rate", "room": "socket"}


class TracedConn(Conn):
    """A Conn that records what its threads wait for, and what the writing thread writes."""

    def __init__(
        self,
        recorder: Recorder,
        sock: socket.socket,
        buffered: bytes,
        remote_addr: str,
        options: ConnOptions,
    ) -> None:
        self._recorder: Final = recorder
        super().__init__(sock, buffered, remote_addr, options)

    def _receive(self) -> bytes:
        with self._recorder.track().waiting("socket"):
            return super()._receive()

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        state = _STATES.get(what)
        with (
            super().waiting(what),
            self._recorder.track().waiting(state) if state else nullcontext(),
        ):
            yield

    def write_message(self, message_type: int, data: bytes) -> None:
        if message_type == PING_MESSAGE:
            self._recorder.track().run("write", {"frame": "ping"})
        super().write_message(message_type, data)
        if message_type != CLOSE_MESSAGE:
            self._recorder.track().wait("recv")

    def close(self) -> None:
        track = self._recorder.track()
        track.wait("close")
        try:
            super().close()
        finally:
            track.leave()  # it is the last thing that a pump does


class TracedUpgrader(Upgrader):
    """An Upgrader of TracedConns."""

    def __init__(self, recorder: Recorder, **options: Any) -> None:
        super().__init__(**options)
        self._recorder: Final = recorder

    def new_conn(
        self,
        environ: WSGIEnvironment,  # noqa: ARG002
        sock: socket.socket,
        buffered: bytes,
        remote_addr: str,
    ) -> Conn:
        return TracedConn(self._recorder, sock, buffered, remote_addr, self.options)


class TracedClient(Client):
    """A Client whose pumps record what they do."""

    def __init__(self, recorder: Recorder, hub: AnyHub, conn: Conn, settings: Settings) -> None:
        super().__init__(hub, conn, settings)
        self._recorder: Final = recorder
        self.send = Send(recorder, conn.remote_addr, settings.send_buffer)

    def read_pump(self) -> None:
        with self._recorder.track().life("read"):
            super().read_pump()

    def write_pump(self) -> None:
        with self._recorder.track().life("start"):
            super().write_pump()


@contextmanager
def tracing(
    path: Path, hub: Hub, limit: int
) -> Iterator[tuple[Callable[..., Upgrader], Callable[[AnyHub, Conn, Settings], Client]]]:
    """Trace a chat during the block, and write the file at its end.

    path: the file. hub: the chat's hub, which must not run yet. limit: how many of the latest
    records are kept. Yields the functions that make the chat's upgrader and clients.

    Raises OSError if the file cannot be opened at the beginning, or written at the end.
    """
    # Opened now, so a file that cannot be written is reported before the chat starts.
    opened = path.open("w", encoding="utf-8")
    recorder = Recorder(limit)
    for name in ("broadcast", "register", "unregister", "stop"):
        capacity = getattr(hub, name).capacity
        setattr(hub, name, TracedChannel(recorder, f"hub.{name}", name, capacity))
    try:
        yield partial(TracedUpgrader, recorder), partial(TracedClient, recorder)
    finally:
        try:
            with opened as file:
                write(file, recorder)
        except OSError as failure:
            failure.filename = opened.name
            raise
