"""Records what the threads of a chat do, what they wait for, and who sends what to whom.

| the thread waits for                       | state    | recorded by              |
| ------------------------------------------ | -------- | ------------------------ |
| a value                                    | `recv`   | TracedChannel            |
| a receiver that takes its value            | `send`   | TracedChannel            |
| its turn, see golang.runtime               | `turn`   | Send                     |
| input, room for output, or another write   | `socket` | Probe                    |
| the read rate                              | `rate`   | Probe                    |
| the peer's answer to a close frame         | `close`  | Probe                    |

While the hub runs, its state is `register`, `unregister`, `broadcast` or `stop`. While a read pump
runs, its state is `read`; while a write pump runs, its state is `write`.

An arrow shows the path of a value from its sender to its receiver. A TracedChannel queues each
value together with its arrow, but gives only the value to the receiver. To do so, it overrides
methods that Channel has on both threads and greenlets: `try_send`, `close` and `drain`, and the
internal methods that all other operations use, `_send`, `_set_idle` and `_take`. Observers and
statistics work as usual.

With a relay, messages from the relay to the hub are traced, but messages to the relay are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from ..client import Client, Settings
from ..golang.channel import CLOSED, Channel
from ..golang.websocket import CLOSE_MESSAGE, PING_MESSAGE, Conn
from .chrome import write
from .recorder import Arrow, Recorder, Track

if TYPE_CHECKING:
    from pathlib import Path

    from ..anyhub import AnyHub
    from ..hub import Hub

__all__ = ["Probe", "TracedChannel", "tracing"]

T = TypeVar("T")


class Sent(NamedTuple):
    """A value in a traced channel, with its arrow and the time when it was sent."""

    value: Any
    arrow: Arrow
    at: int
    #: The number of the message: see Point.
    message: int = 0


class TracedChannel(Channel[T]):
    """A channel that records which threads wait for it and how values move through it.

    name: the channel's name in the trace. work: the receiver's state after it has received a value.
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
        track.pause("send", {"to": self._name, "arrow": arrow[0]})
        try:
            at = track.next()
            super()._send(cast("T", Sent(value, arrow, at)), deadline)
            track.starts(arrow, at, 0)
        finally:
            track.resume()

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
        """Record that a value has arrived. Thread: the receiver."""
        said: dict[str, Any] = {}
        if isinstance(sent.value, Client):  # health.py sends the hub an object that is not a Client
            said["client"] = sent.value.conn.remote_addr
        elif self._work == "broadcast":  # messages are numbered as the hub receives them
            track.message += 1
            said["message"] = track.message
        track.run(self._work, said)
        track.arrives(sent.arrow, track.next(), said.get("message", 0))

    def _end(self, track: Track) -> None:
        track.leave()


class Send(TracedChannel[bytes]):
    """A client's `send`, the channel from the hub to its write pump."""

    def __init__(self, recorder: Recorder, remote_addr: str, capacity: int) -> None:
        super().__init__(recorder, f"client.send {remote_addr}", "write", capacity, in_turn=True)
        self._client: Final = remote_addr
        # The arrow of the close. It is set before the channel is closed, so the receiver finds it.
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


class Probe:
    """The observer of all connections, which records what the pumps wait for and write."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder

    def waits(self, what: str) -> None:
        """Record that a pump begins to wait for its connection."""
        self._recorder.track().pause(what if what in ("rate", "close") else "socket")

    def works(self) -> None:
        """Record that the wait is over."""
        self._recorder.track().resume()

    def writes(self, message_type: int) -> None:
        """Record that a ping is written. `Send` has already recorded writes of messages."""
        if message_type == PING_MESSAGE:
            self._recorder.track().run("write", {"frame": "ping"})

    def wrote(self, message_type: int) -> None:
        """Record that the write pump begins to wait for the next value."""
        if message_type != CLOSE_MESSAGE:
            self._recorder.track().wait("recv")

    def closed(self) -> None:
        """Record that a pump has ended."""
        self._recorder.track().leave()


@contextmanager
def tracing(path: Path, hub: Hub, limit: int) -> Iterator[type[Client]]:
    """Trace a chat during the block, and write the file when the block ends.

    hub: the chat's hub, which must not be running yet. limit: the maximum number of records; if
    there are more, the oldest are dropped. Yields a class for the chat's clients. Raises OSError if
    the file cannot be opened or written.
    """
    # Open the file first, to report a bad path before the chat starts.
    opened = path.open("w", encoding="utf-8")
    recorder = Recorder(limit)
    probe = Probe(recorder)
    for name in ("broadcast", "register", "unregister", "stop"):
        capacity = getattr(hub, name).capacity
        setattr(hub, name, TracedChannel(recorder, f"hub.{name}", name, capacity))

    class TracedClient(Client):
        def __init__(self, hub: AnyHub, conn: Conn, settings: Settings) -> None:
            super().__init__(hub, conn, settings)
            conn.observer = probe
            self.send = Send(recorder, conn.remote_addr, settings.send_buffer)

        def read_pump(self) -> None:
            recorder.track().run("read")
            super().read_pump()

    try:
        yield TracedClient
    finally:
        try:
            with opened as file:
                write(file, recorder)
        except OSError as failure:
            failure.filename = opened.name
            raise
