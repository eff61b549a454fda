"""One connection to a server. The only module that imports wsproto.

wsproto does no I/O: it turns events into bytes to send, and received bytes into events. This module
gives it one frame at a time, so that each frame can be shown before the messages in it.
"""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from wsproto import ConnectionType, WSConnection, events
from wsproto.connection import ConnectionState
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from ..golang.dial import Address, reason
from .frames import Frame, cut_frame

__all__ = ["Connection", "LostError", "dial"]

#: The longest message accepted from a server, in bytes. A server may join many messages into one;
#: gochat joins up to 256 messages of 512 bytes.
LARGEST: Final = 16 * 1024 * 1024

_GOING_AWAY: Final = 1001
_TOO_BIG: Final = 1009

# What a server means by a close code (RFC 6455, section 7.4.1).
_MEANINGS: Final = {
    1000: "the server closed the connection, as it does when a client reads too slowly",
    1001: "the server is going away or restarting",
    1002: "the server says that the protocol was broken",
    1003: "the server does not take this kind of data",
    1005: "the server closed the connection, as it does when a client reads too slowly",
    1007: "the server got text that is not UTF-8",
    1008: "the server refused this because of its policy",
    1009: "the message was too big for the server",
    1011: "the server failed",
    1012: "the server is restarting",
    1013: "the server is too busy, and asks for another attempt later",
}


class LostError(ConnectionError):
    """Raised if connecting fails or the connection ends. The message says why, in a sentence."""


async def dial(
    address: Address, timeout: float, ping_period: float, trace: Callable[[str, Frame], None]
) -> Connection:
    """Connect and perform the opening handshake (RFC 6455, section 4.1; Go: Dialer.Dial).

    timeout: for connecting and the handshake together, in seconds. ping_period, trace: see
    Connection. Raises LostError.
    """
    where = address.authority
    try:
        return await asyncio.wait_for(_dial(address, ping_period, trace), timeout)
    except TimeoutError:
        raise LostError(f"{where}: no answer within {timeout:g} s") from None
    except OSError as error:  # including LostError
        raise LostError(f"{where}: {reason(error)}") from None


async def _dial(
    address: Address, ping_period: float, trace: Callable[[str, Frame], None]
) -> Connection:
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=address.context()
    )
    protocol = WSConnection(ConnectionType.CLIENT)
    headers = [(name.encode(), value.encode()) for name, value in address.authorization]
    request = events.Request(host=address.authority, target=address.target, extra_headers=headers)
    event: events.Event | None = None
    try:
        writer.write(protocol.send(request))
        # Pass only the answer to wsproto, not the frames that may follow it.
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        event = next(protocol.events(), None)
    except asyncio.IncompleteReadError:
        raise LostError("the server closed the connection without an answer") from None
    except (asyncio.LimitOverrunError, RemoteProtocolError):
        raise LostError("the server does not speak WebSocket there") from None
    finally:
        if not isinstance(event, events.AcceptConnection):
            writer.close()
    if isinstance(event, events.RejectConnection):
        phrase = http.client.responses.get(event.status_code, "")
        path = address.target.partition("?")[0]
        where = f": no chat at {path}" if event.status_code == http.HTTPStatus.NOT_FOUND else ""
        raise LostError(f"the server answered {event.status_code} {phrase}".rstrip() + where)
    return Connection(protocol, reader, writer, ping_period, trace)


class Connection:
    """A connection after the handshake. Made by `dial`.

    ping_period: after this many seconds without data from the server, the client sends a ping.
    After the same time again without data, the connection counts as lost. trace: called with `<`
    and each frame received, and with `>` and each frame that is about to be sent.
    """

    def __init__(
        self,
        protocol: WSConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ping_period: float,
        trace: Callable[[str, Frame], None],
    ) -> None:
        self._protocol = protocol
        self._reader = reader
        self._writer = writer
        self._ping_period = ping_period
        self._trace = trace
        self._input = bytearray()
        # The parts of the message in progress.
        self._parts: list[str] = []
        # The length of that message so far, in bytes.
        self._size = 0

    async def read(self) -> list[str] | None:
        """Wait for a text message; return the chat messages joined in it.

        Also answers pings and close frames. Returns None when the server has answered this client's
        close frame. Raises LostError if the connection ends in any other way.
        """
        while True:
            frame = await self._read_frame()
            self._trace("<", frame)
            self._protocol.receive_data(frame.data)
            for event in self._protocol.events():
                if isinstance(event, events.CloseConnection):
                    self._closed(event)
                    return None
                if isinstance(event, events.Ping):
                    self._answer(event)
                elif isinstance(event, (events.TextMessage, events.BytesMessage)):
                    data = event.data
                    text = data if isinstance(data, str) else data.decode(errors="replace")
                    self._parts.append(text)
                    self._size += len(frame.payload)
                    if self._size > LARGEST:
                        self._refuse(_TOO_BIG, f"sent a message of over {LARGEST} bytes")
                    if event.message_finished:
                        message = "".join(self._parts)
                        self._parts.clear()
                        self._size = 0
                        return message.split("\n")

    async def _read_frame(self) -> Frame:
        asked = False
        while True:
            try:
                frame = cut_frame(self._input, LARGEST)
            except ValueError as error:
                self._refuse(_TOO_BIG, f"sent {error}")
            if frame:
                return frame
            try:
                data = await asyncio.wait_for(self._reader.read(65536), self._ping_period)
            except TimeoutError:
                if asked:
                    silence = f"{2 * self._ping_period:g} s"
                    raise LostError(f"nothing has come from the server for {silence}") from None
                asked = True
                self._send(events.Ping())
                continue
            except OSError as error:
                raise LostError(f"the connection was lost: {reason(error)}") from None
            if not data:
                raise LostError("the connection was lost: it ended without a close frame")
            asked = False
            self._input += data

    def _answer(self, ping: events.Ping) -> None:
        """Answer a ping, unless too much data is waiting to be sent.

        Otherwise, pongs would pile up if a server sent pings but did not read. RFC 6455, section
        5.5.3, allows a client to omit pongs.
        """
        transport = self._writer.transport
        _, most = transport.get_write_buffer_limits()
        if transport.get_write_buffer_size() <= most:
            self._send(ping.response())

    def _closed(self, event: events.CloseConnection) -> None:
        """Answer a close frame, or close after a protocol error. Raises LostError."""
        state = self._protocol.state
        if state is ConnectionState.CLOSED:
            return
        if state is not ConnectionState.REMOTE_CLOSING:  # how wsproto reports an error
            self._refuse(event.code, f"broke the protocol: {event.reason}")
        self._send(event.response())
        meaning = _MEANINGS.get(event.code, "the server closed the connection")
        why = f": {event.reason}" if event.reason else ""
        raise LostError(f"{meaning} (code {event.code}{why})")

    def _refuse(self, code: int, what: str) -> NoReturn:
        self._send(events.CloseConnection(code))
        raise LostError(f"the server {what}")

    def write(self, text: str) -> None:
        """Send a text message without waiting for room. Call `drain` before the next one.

        The server also sends the message back to this client.
        """
        self._send(events.TextMessage(text))

    async def drain(self) -> None:
        """Wait until there is room for more data to send."""
        with suppress(OSError):  # `read` reports it
            await self._writer.drain()

    def _send(self, event: events.Event) -> None:
        try:
            data = self._protocol.send(event)
        except LocalProtocolError:  # nothing may follow a close frame
            return
        frame = cut_frame(bytearray(data), len(data))
        assert frame is not None, "wsproto sends whole frames"
        self._trace(">", frame)
        self._writer.write(data)

    def close(self) -> None:
        """Start the closing handshake. The code is 1001, as when a browser leaves a page."""
        self._send(events.CloseConnection(_GOING_AWAY))

    def end(self) -> None:
        """Close the socket once all written data has been passed to the system."""
        self._writer.close()
