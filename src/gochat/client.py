"""A client: the two pumps between a connection and the hub (Go: client.go)."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .golang import http, websocket
from .golang.channel import Channel, select
from .golang.flag import check_counts, check_seconds

if TYPE_CHECKING:
    from .anyhub import AnyHub

__all__ = ["Client", "Settings", "serve_ws"]


@dataclass(frozen=True)
class Settings:
    """The constants of client.go, with its values. Times are in seconds."""

    # Time allowed to write a message to the peer.
    write_wait: float = 10.0

    # Time allowed to read the next pong from the peer.
    pong_wait: float = 60.0

    # Pings go to the peer with this period. Must be less than pong_wait.
    ping_period: float = 60.0 * 9 / 10

    # Maximum size of a message from the peer, in bytes.
    max_message_size: int = 512

    # How many messages may wait for a slow reader before the hub drops it.
    send_buffer: int = 256

    def __post_init__(self) -> None:
        """Refuse values that make no sense. Raises ValueError."""
        check_seconds(
            write_wait=self.write_wait, pong_wait=self.pong_wait, ping_period=self.ping_period
        )
        check_counts(max_message_size=self.max_message_size, send_buffer=self.send_buffer)
        if self.ping_period >= self.pong_wait:
            raise ValueError(
                f"the ping period ({self.ping_period:g} s) must be under"
                f" the pong wait ({self.pong_wait:g} s)"
            )


NEWLINE = b"\n"
SPACE = b" "

# Unicode's White_Space, which Go cuts. str.strip would cut U+001C to U+001F, too.
WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

log = logging.getLogger("gochat")


# Binary messages go out as text, so they have to be UTF-8, too.
upgrader = websocket.Upgrader(read_buffer_size=1024, utf8_only=True)


class Client:
    """Client stands between a WebSocket connection and the hub."""

    def __init__(self, hub: AnyHub, conn: websocket.Conn, settings: Settings) -> None:
        self.hub = hub

        # The WebSocket connection.
        self.conn = conn

        # Buffered channel of outbound messages: the hub sends and closes, write_pump receives. The
        # write pumps take turns.
        self.send: Channel[bytes] = Channel(settings.send_buffer, in_turn=True)

        self.settings = settings

    def read_pump(self) -> None:
        """Pump messages from the connection to the hub, until reading fails.

        Runs on the thread `readPump ADDR`, one for each connection. All reads are made from it, so
        a connection has at most one reader. While the pump waits for the hub it reads nothing, and
        TCP holds the peer back.
        """
        try:
            self.conn.set_read_limit(self.settings.max_message_size)
            self.await_pong()
            self.conn.set_pong_handler(self.await_pong)
            while True:
                _, message = self.conn.read_message()
                message = trim_space(message.replace(NEWLINE, SPACE))
                self.hub.broadcast.send(message)
        except OSError as error:
            if websocket.is_unexpected_close_error(
                error, websocket.CLOSE_GOING_AWAY, websocket.CLOSE_ABNORMAL_CLOSURE
            ):
                log.info("error: %s", error)
        finally:
            self.hub.unregister.send(self)
            self.conn.close()

    def await_pong(self) -> None:
        """Give the peer pong_wait from now on to send its next pong. The read pump's thread."""
        self.conn.set_read_deadline(time.monotonic() + self.settings.pong_wait)

    def write_pump(self) -> None:
        """Pump messages from the hub to the connection, until the hub closes the channel.

        Runs on the thread `writePump ADDR`, one for each connection. All messages are written from
        it, so a connection has at most one writer. What the connection writes by itself (a pong,
        the answer to a close) is kept apart by the lock in conn.py.
        """
        tick = time.monotonic() + self.settings.ping_period
        try:
            while True:
                match select(self.send, deadline=tick):
                    case self.send, message, True:
                        # Add queued chat messages to the current WebSocket message.
                        messages = [message, *self.send.drain()]
                        self.conn.set_write_deadline(time.monotonic() + self.settings.write_wait)
                        self.conn.write_message(websocket.TEXT_MESSAGE, NEWLINE.join(messages))
                    case self.send, _, False:
                        # The hub closed the channel.
                        self.conn.set_write_deadline(time.monotonic() + self.settings.write_wait)
                        self.conn.write_message(websocket.CLOSE_MESSAGE, self.hub.farewell)
                        return
                    case _:
                        tick = time.monotonic() + self.settings.ping_period
                        self.conn.set_write_deadline(time.monotonic() + self.settings.write_wait)
                        self.conn.write_message(websocket.PING_MESSAGE, b"")
        except OSError:
            return
        finally:
            self.conn.close()


def serve_ws(
    hub: AnyHub,
    environ: http.Environ,
    start_response: http.StartResponse,
    *,
    upgrader: websocket.Upgrader = upgrader,
    settings: Settings | None = None,
    client_class: Callable[[AnyHub, websocket.Conn, Settings], Client] = Client,
) -> Iterable[bytes]:
    """Handle a WebSocket request from the peer. On the request's thread, of an `http.Server`.

    upgrader: lets only UTF-8 pass unless told otherwise; anything else would make every browser in
    the room disconnect. settings: None for Go's. client_class: the class of the client.

    As in Go this starts two pumps and returns. The write pump gets a new thread. The read pump gets
    the request's own, when the request is over. The server closes the socket when both have ended.
    """
    try:
        conn = upgrader.upgrade(environ)
    except websocket.HandshakeError as error:
        log.log(error.level, "%s", error)
        return error.response(start_response)
    client = client_class(hub, conn, settings or Settings())
    try:
        client.hub.register.put(client, timeout=upgrader.handshake_timeout)
    except queue.Full:  # not in Go, which waits forever
        raise http.UnavailableError("the hub does not answer; is Hub.run running?") from None

    connection = http.hijacker(environ)
    assert connection is not None, "a request that was upgraded has one"
    # Not in Go, where a goroutine that panics ends the program.
    connection.on_failure.append(lambda _: client.hub.unregister.send(client))
    connection.go(client.write_pump, f"writePump {conn.remote_addr}", closes=True)
    connection.go_on(client.read_pump, f"readPump {conn.remote_addr}", closes=True)
    return []


def trim_space(message: bytes) -> bytes:
    """Cut surrounding white space, as Go's bytes.TrimSpace does. Takes any bytes, as that does."""
    text = message.decode(errors="surrogateescape").strip(WHITE_SPACE)
    return text.encode(errors="surrogateescape")
