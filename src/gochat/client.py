"""A client: the two pumps between a connection and the hub (Go: client.go)."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .anyhub import AnyHub
from .golang import http, websocket
from .golang.bytes import trim_space
from .golang.channel import Channel, select
from .golang.flag import check_fields

__all__ = ["Client", "Settings", "serve_ws"]


@dataclass(frozen=True)
class Settings:
    """The constants of client.go, with its values. Times are in seconds."""

    # A write that takes longer than this ends the connection.
    write_wait: float = 10.0

    # A peer that sends no pong for this long is disconnected.
    pong_wait: float = 60.0

    # Interval between pings to the peer. Must be shorter than pong_wait.
    ping_period: float = 60.0 * 9 / 10

    # The longest message that a peer may send, in bytes.
    max_message_size: int = 512

    # How many messages may wait for a slow client before the hub disconnects that client.
    send_buffer: int = 256

    def __post_init__(self) -> None:
        """Raise ValueError if a value is invalid."""
        check_fields(self, Settings, less=("ping_period", "pong_wait"))


NEWLINE, SPACE = b"\n", b" "
log = logging.getLogger("gochat")
upgrader = websocket.Upgrader(read_buffer_size=1024, utf8_only=True)  # messages go out as text


class Client:
    """Client stands between a WebSocket connection and the hub."""

    def __init__(self, hub: AnyHub, conn: websocket.Conn, settings: Settings) -> None:
        self.hub, self.settings = hub, settings

        # The connection to the peer.
        self.conn = conn

        # Messages for the peer. The hub sends them and closes the channel. Write pumps take turns.
        self.send: Channel[bytes] = Channel(settings.send_buffer, in_turn=True)

    def read_pump(self) -> None:
        """Read messages and send them to the hub, until reading fails.

        Thread: `readPump ADDR`. While this thread waits for the hub, TCP makes the peer wait.
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
                error,
                websocket.CLOSE_GOING_AWAY,
                websocket.CLOSE_ABNORMAL_CLOSURE,
                websocket.CLOSE_NO_STATUS_RECEIVED,  # not in Go: a closed page sends no code
            ):
                log.info("error: %s", error)
        finally:
            self.hub.unregister.send(self)
            self.conn.close()

    def await_pong(self) -> None:
        """Give the peer `pong_wait` seconds to send its next pong. Thread: the read pump's."""
        self.conn.set_read_deadline(time.monotonic() + self.settings.pong_wait)

    def write_pump(self) -> None:
        """Write the hub's messages to the connection, until the hub closes the channel.

        Thread: `writePump ADDR`.
        """
        tick = time.monotonic() + self.settings.ping_period
        try:
            while True:
                match select(self.send, deadline=tick):
                    case self.send, message, ok:
                        self.conn.set_write_deadline(time.monotonic() + self.settings.write_wait)
                        if not ok:
                            # There will be no more messages.
                            self.conn.write_message(websocket.CLOSE_MESSAGE, self.hub.farewell)
                            return
                        # Everything that is queued goes out together, as one frame.
                        messages = [message, *self.send.drain()]
                        self.conn.write_message(websocket.TEXT_MESSAGE, NEWLINE.join(messages))
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
    """Turn a request into a client of the hub: start the client's two pumps and return.

    The read pump runs on the request's thread. The server closes the socket after both pumps end.
    upgrader: the default accepts only UTF-8, because anything else would make every browser in the
    room disconnect. settings: None for Go's values. Thread: the request's, in an `http.Server`.
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
    connection: http.Hijacker = environ["gochat.hijacker"]
    # Not in Go, where a panic ends the program. A subclass's read pump may fail to unregister.
    connection.on_failure.append(lambda _: client.hub.unregister.send(client))
    connection.go(client.write_pump, f"writePump {conn.remote_addr}", closes=True)
    connection.go_on(client.read_pump, f"readPump {conn.remote_addr}", closes=True)
    return []
