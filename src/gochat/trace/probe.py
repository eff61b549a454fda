"""Records what the threads of a chat do, what they wait for, and who sends what to whom.

| the thread waits for                       | state    | recorded by              |
| ------------------------------------------ | -------- | ------------------------ |
| a value                                    | `recv`   | ChannelProbe, ConnProbe  |
| a receiver that takes its value            | `send`   | HubProbe, RelayProbe     |
| its turn, see golang.runtime               | `turn`   | SendProbe                |
| input, room for output, or another write   | `socket` | ConnProbe                |
| the read rate                              | `rate`   | ConnProbe                |
| the peer's answer to a close frame         | `close`  | ConnProbe                |

While the hub runs, its state is `register`, `unregister`, `broadcast` or `stop`. While a read pump
runs, its state is `read`; while a write pump runs, its state is `write`.

An arrow shows the path of a value from its sender to its receiver. A probe pairs the two ends: in a
client's channel by the order of the values, and in the hub's channels by the value. So if two
threads send the hub the same object at the same time, their arrows may be exchanged.

With a relay, its messages to the hub have arrows, but messages to the relay have none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..client import Client, Settings
from ..golang.channel import CLOSED
from ..golang.goroutine import Observer
from ..golang.websocket import CLOSE_MESSAGE, PING_MESSAGE, Conn
from .chrome import write
from .recorder import Arrow, Recorder, Track

if TYPE_CHECKING:
    from pathlib import Path

    from ..anyhub import AnyHub
    from ..hub import Hub

__all__ = ["tracing"]


class Sent(NamedTuple):
    """A value that was sent or is being sent, and its arrow."""

    value: Any
    arrow: Arrow
    #: When the send began.
    at: int
    #: The number of the message: see Point.
    message: int = 0


class ChannelProbe(Observer):
    """The base class of the probes whose receivers are traced, too."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder

    def waits(self, channel: object) -> None:  # noqa: ARG002
        """Record that the receiver begins to wait. A select reports this for each channel."""
        track = self._recorder.track()
        if track.state is None or track.state.name != "recv":
            track.wait("recv")


class HubProbe(ChannelProbe):
    """Observes a channel of the hub. name: the channel's name, which becomes the hub's state."""

    def __init__(self, recorder: Recorder, name: str) -> None:
        super().__init__(recorder)
        self._name: Final = name
        # The values on their way, by the number of the arrow. The sender adds its value; the
        # receiver removes it, or the sender if it was refused. A sender can have several values
        # here: its send may return before the hub's thread runs.
        self._sent: Final[dict[int, Sent]] = {}

    def sends(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the sender begins to wait for the hub."""
        track = self._recorder.track()
        name = f"hub.{self._name}"
        arrow = track.new_arrow(self._name, name)
        track.pause("send", {"to": name, "arrow": arrow[0]})
        at = track.next()
        self._sent[arrow[0]] = Sent(value, arrow, at)
        track.starts(arrow, at, 0)

    def sent(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the wait is over."""
        self._recorder.track().resume()

    def refused(self, channel: object, value: object) -> None:
        """Record that the wait is over, and that the arrow has no end."""
        state = self._recorder.track().state
        assert state is not None
        assert state.args is not None
        self._sent.pop(state.args["arrow"], None)
        self.sent(channel, value)

    def received(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the hub begins to work, or that it has ended."""
        track = self._recorder.track()
        if value is CLOSED:
            track.leave()
            return
        said: dict[str, Any] = {}
        if isinstance(value, Client):  # health.py sends the hub an object that is not a Client
            said["client"] = value.conn.remote_addr
        elif self._name == "broadcast":  # messages are numbered as the hub receives them
            track.message += 1
            said["message"] = track.message
        track.run(self._name, said)
        for arrow, sent in self._sent.copy().items():
            if sent.value is value:
                self._sent.pop(arrow, None)
                track.arrives(sent.arrow, track.next(), said.get("message", 0))
                return


class RelayProbe(Observer):
    """Observes the relay's channel, but only its senders. The relay's threads are not traced."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder

    def sends(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the sender begins to wait for the relay."""
        self._recorder.track().pause("send", {"to": "relay.broadcast"})

    def sent(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the wait is over."""
        self._recorder.track().resume()

    refused = sent


class SendProbe(ChannelProbe):
    """Observes a client's `send`, the channel from the hub to its write pump."""

    def __init__(self, recorder: Recorder, remote_addr: str) -> None:
        super().__init__(recorder)
        self._client: Final = remote_addr
        self._name: Final = f"client.send {remote_addr}"
        # The values in the channel, then CLOSED. The sending side appends, and the receiver takes
        # from the left.
        self._sent: Final[deque[Sent]] = deque()
        # What the hub is sending, the number of values that are then in the channel, and the hub's
        # track.
        self._last: Sent
        self._queued: int
        self._track: Track
        self._closed = False

    def sends(self, channel: Sized, value: object) -> None:
        """Note where the arrow starts. value: a message, or CLOSED for the close."""
        track = self._track = self._recorder.track()
        if value is CLOSED:
            self._last = Sent(value, track.new_arrow("close", self._name), track.now())
            self._queued = len(channel)
        else:
            arrow = track.new_arrow("message", self._name)
            self._last = Sent(value, arrow, track.now(), track.message)
            self._queued = len(channel) + 1
        self._sent.append(self._last)

    def sent(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record where the arrow starts."""
        sent = self._last
        self._track.starts(sent.arrow, sent.at, sent.message, self._queued)

    def refused(self, channel: object, value: object) -> None:  # noqa: ARG002
        """Record that the hub drops the client, unless an observer of the hub was sending."""
        self._sent.pop()
        track = self._recorder.track()
        if track.state is not None and track.state.name == "broadcast":
            track.note("dropped", self._client)

    def closes(self, channel: Sized) -> None:
        """Record where the arrow of the close starts."""
        self._closed = True
        self.sends(channel, CLOSED)
        self.sent(channel, CLOSED)

    def received(self, channel: Sized, value: object) -> None:
        """Record that the write pump begins to work."""
        track = self._recorder.track()
        sent = self._sent.popleft()
        if value is CLOSED:
            track.run("write", {"frame": "close"})
        else:
            if not self._closed:  # values left in a closed channel need no turn
                track.waited("turn", since=sent.at)
            track.run("write", {"messages": [sent.message]})
        track.arrives(sent.arrow, track.next(), sent.message, len(channel))

    def drained(self, channel: Sized, values: Sequence[object]) -> None:
        """Record that the write pump adds messages to its frame."""
        track = self._recorder.track()
        for _ in values:
            sent = self._sent.popleft()
            track.note("messages", sent.message)
            track.arrives(sent.arrow, track.now(), sent.message, len(channel))


class ConnProbe:
    """Observes all connections."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder

    def reads(self) -> None:
        """Record that the read pump works, if this is its first message."""
        track = self._recorder.track()
        if track.state is None:
            track.run("read")

    def waits(self, what: str) -> None:
        """Record that a pump begins to wait for its connection."""
        self._recorder.track().pause(what if what in ("rate", "close") else "socket")

    def works(self) -> None:
        """Record that the wait is over."""
        self._recorder.track().resume()

    def writes(self, message_type: int) -> None:
        """Record that a ping is written. SendProbe has already recorded writes of messages."""
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
def tracing(
    path: Path, hub: Hub, chat: AnyHub, limit: int
) -> Iterator[Callable[[AnyHub, Conn, Settings], Client]]:
    """Trace a chat during the block, and write the file when the block ends.

    hub: the chat's hub, which must not be running yet. chat: the hub or relay that clients use.
    limit: the maximum number of records; if there are more, the oldest are dropped. Yields a
    function that makes the chat's clients. Raises OSError if the file cannot be opened or written.
    """
    # Open the file first, to report a bad path before the chat starts.
    opened = path.open("w", encoding="utf-8")
    recorder = Recorder(limit)
    probe = ConnProbe(recorder)
    for name in ("broadcast", "register", "unregister", "stop"):
        getattr(hub, name).observe(HubProbe(recorder, name))
    if chat is not hub:
        chat.broadcast.observe(RelayProbe(recorder))

    def new_client(hub: AnyHub, conn: Conn, settings: Settings) -> Client:
        client = Client(hub, conn, settings)
        conn.observer = probe
        client.send.observe(SendProbe(recorder, conn.remote_addr))
        return client

    try:
        yield new_client
    finally:
        try:
            with opened as file:
                write(file, recorder)
        except OSError as failure:
            failure.filename = opened.name
            raise
