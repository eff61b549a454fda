"""The command `gochat bench`: how much a chat server delivers, and how late.

It talks to any server of the family: a WebSocket whose text messages go to everyone who is
connected, one in a frame or several with newlines between them. Many clients connect and read, a
few of them also send. One thread does it all, with non-blocking sockets.

How much this can measure is decided by what it does for each message, so that is nearly nothing:

- Messages are not read but counted: they are the newlines of a payload, and one.
- A message begins with a mark of its sender, which occurs nowhere else. A sender counts its mark,
  and so knows how many of its own messages have come back.
- Some payloads are chosen by lot, each with the same chance, and the times of all messages in them
  are read. Each of these stands for as many as there were to choose from, so the percentiles are
  those of all messages, but for chance: some ten thousand times are read in a second.
- The maximum is not left to chance. Messages come in order, so the oldest of those that were read
  from a socket at once is the first, and its time is always read.

In a closed loop a sender has a number of messages on their way, and sends the next when one comes
back to it. The server sets the pace, and a server that stops also stops the senders.

At a fixed rate every message has a time at which it is due, and its latency counts from then, even
if it could only be sent later. So a pause shows in all messages that it held up, not only in those
that were on their way: leaving the others out is known as coordinated omission. For the same reason
what is still on its way when the time is over is waited for.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import math
import os
import random
import re
import resource
import select
import selectors
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ..golang.flag import Parser

__all__ = ["add_bench_flags", "bench"]

FIN, TEXT, CLOSE, PING, PONG = 0x80, 1, 8, 9, 10
NEWLINE: Final = 10
# The code of a connection that ended without one, RFC 6455, section 7.4.1.
NO_CODE: Final = 1006

# What a message begins with: "@", 4 hexadecimal digits for the run, 4 for the sender, 12 for the
# time in nanoseconds.
STAMPED: Final = 21
# A client's frame with a 16 bit length can hold it.
LARGEST: Final = 65_535

# So many times are read in a second, about: enough for p99.9, and not much work.
SAMPLES: Final = 20_000
# Seconds between two looks at the clock for other reasons than messages.
TICK: Final = 0.1
# What is read from a socket at once, at most.
BUFFER: Final = 1 << 18

# How long a server has for a handshake, and until everybody is in the room, in seconds.
PATIENCE: Final = 10.0
# How long what is on its way at the end is waited for, and how long a server then has to answer the
# closes, so that it is done with this run before the next one. In seconds.
DRAIN: Final = 2.0
GOODBYE: Final = 2.0

# A generator that is busier than this, in parts of one core, may have measured itself.
BUSY: Final = 0.9

# Connections from one address to another differ in their port only, and of ports there are 28,000.
# On the loopback device every address in 127/8 is this machine's, so there another one serves.
PORTS: Final = 20_000
# Files that are open besides the clients, and some to spare.
FILES: Final = 32


# What is asked for.


class Target(NamedTuple):
    """A server."""

    url: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """From ws://HOST:PORT/PATH, or http:// as the page has. ValueError if it is neither."""
        parts = urlsplit(text)
        if parts.scheme not in ("ws", "http") or not parts.hostname or not text.isprintable():
            raise ValueError("not an address")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        port = parts.port or 80
        path = parts.path if parts.path.strip("/") else "/ws"
        if parts.query:
            path += f"?{parts.query}"
        return cls(f"ws://{host}:{port}{path}", parts.hostname, port, path)

    @property
    def authority(self) -> str:
        """The host and the port, as the header Host has them."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True)
class Load:
    """What a server is put to. Times are in seconds."""

    clients: int = 100
    senders: int = 4
    #: Bytes in a message.
    size: int = 64
    #: Messages that each sender has on their way, in a closed loop.
    window: int = 4
    #: Messages a second, from all senders together. None: a closed loop.
    rate: float | None = None
    seconds: float = 5.0
    warmup: float = 1.0
    #: For the choice of the messages whose times are read.
    seed: int | None = None

    def __str__(self) -> str:
        if self.rate:
            pace = f"fixed rate: {self.rate:,.10g} messages/s from {self.senders} senders"
        else:
            pace = f"closed loop: {self.senders} senders, each {self.window} messages on their way"
        return f"{pace}, {self.size} bytes, {self.seconds:g} s after {self.warmup:g} s of warm-up"


# What is found.


class Latencies:
    """How often each latency came, in nanoseconds. Kept to 1/512, so it needs little room."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.samples = 0
        self.max = 0

    def add(self, value: int, weight: int) -> None:
        shift = max(value.bit_length() - 9, 0)
        # The middle of the values with the same first nine bits.
        self.counts[(value >> shift << shift) + (1 << shift >> 1)] += weight
        self.samples += 1
        self.max = max(self.max, value)

    def percentile(self, percent: float) -> float | None:
        """In milliseconds; None if there are none."""
        left = sum(self.counts.values()) * percent / 100
        for value, weight in sorted(self.counts.items()):
            left -= weight
            if left <= 0:
                return min(value, self.max) / 1e6
        return None


PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True)
class Result:
    """What one run has shown. Times are in seconds, latencies in milliseconds."""

    url: str
    clients: int
    connect_s: float
    #: How long was measured. The rates are of this time.
    seconds: float
    sent_per_s: float
    #: Messages that all clients got.
    deliveries_per_s: float
    frames_per_s: float
    messages_per_frame: float
    #: By "p50" and so on, and "max".
    latency_ms: Mapping[str, float | None]
    #: How many messages' times the percentiles come from.
    samples: int
    #: From the first message of the warm-up to the end: what was sent, what all clients got, and
    #: what those that were not dropped should have got and did not.
    sent: int
    received: int
    undelivered: int
    #: Clients that the server dropped, and how many of them with which close code.
    closes: int
    close_codes: Mapping[int, int]
    #: How much of one core this program took, from 0 to 1.
    generator_cpu: float
    interrupted: bool


class Figure(NamedTuple):
    """A line of the table."""

    name: str
    value: Callable[[Result], float | None]
    format: str = "{:,.0f}"

    def of(self, result: Result) -> str:
        value = self.value(result)
        return "-" if value is None else self.format.format(value)


def latency(name: str) -> Figure:
    return Figure(f"latency {name}, ms", lambda result: result.latency_ms[name], "{:,.2f}")


DELIVERIES: Final = Figure("deliveries/s", lambda result: result.deliveries_per_s)
FIGURES: Final = (
    Figure("connected in, s", lambda result: result.connect_s, "{:,.2f}"),
    Figure("sent/s", lambda result: result.sent_per_s),
    DELIVERIES,
    Figure("frames/s", lambda result: result.frames_per_s),
    Figure("messages a frame", lambda result: result.messages_per_frame, "{:,.1f}"),
    *(latency(name) for name in (*PERCENTILES, "max")),
    Figure("never delivered", lambda result: result.undelivered),
    Figure("clients dropped", lambda result: result.closes),
    Figure("this program's CPU", lambda result: result.generator_cpu, "{:.0%}"),
)
COMPARED: Final = (DELIVERIES, latency("p50"), latency("p99"))


def median(values: Iterable[float | None]) -> float | None:
    """Of those that are known, if any are."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def medians(results: Sequence[Result]) -> Result:
    """The median of each figure, in one Result. What went wrong is summed up instead."""
    middle = {
        name: statistics.median(getattr(result, name) for result in results)
        for name in (
            "connect_s",
            "seconds",
            "sent_per_s",
            "deliveries_per_s",
            "frames_per_s",
            "messages_per_frame",
            "generator_cpu",
        )
    }
    total = {
        name: sum(getattr(result, name) for result in results)
        for name in ("samples", "sent", "received", "undelivered", "closes")
    }
    codes: Counter[int] = Counter()
    for result in results:
        codes.update(result.close_codes)
    return replace(
        results[0],
        **middle,
        **total,
        close_codes=dict(codes),
        latency_ms={
            name: median(result.latency_ms[name] for result in results)
            for name in results[0].latency_ms
        },
        interrupted=any(result.interrupted for result in results),
    )


# The clients.


def masked(payload: bytes, opcode: int, mask: bytes) -> bytes:
    """A client's frame, RFC 6455, section 5.2."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB4s", FIN | opcode, 0x80 | size, mask)
    else:
        head = struct.pack("!BBH4s", FIN | opcode, 0x80 | 126, size, mask)
    # With two large numbers it is one operation, not one for each byte.
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


class Member:
    """A client in the room."""

    def __init__(self, run: Run, sock: socket.socket, mark: bytes) -> None:
        self.run = run
        self.sock = sock
        #: What its own messages begin with; empty if it only reads.
        self.mark = mark
        self.open = True
        self.received = 0
        self.on_their_way = 0
        #: Whether it has got the last message of the roll call.
        self.present = False
        # Bytes that are not yet a whole frame, and how many that takes, as far as is known.
        self.rest = bytearray()
        self.need = 0
        # Of a payload that comes in several frames: what there is of it, if it has to be looked at,
        # and for how many others it stands.
        self.parts: bytearray | None = None
        self.weight = 0
        # What the socket did not take yet.
        self.unsent = bytearray()

    def ready(self, events: int) -> None:
        """The socket can be read from, or written to."""
        if events & selectors.EVENT_WRITE:
            del self.unsent[: self.try_to_send(self.unsent)]
            if not self.unsent:
                self.run.listen(self, selectors.EVENT_READ)
        if events & selectors.EVENT_READ:
            self.read()

    def send(self, frame: bytes) -> None:
        """Send it, now or when the server takes it."""
        if self.unsent:
            self.unsent += frame
        elif (size := self.try_to_send(frame)) < len(frame):
            self.unsent += frame[size:]
            self.run.listen(self, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def try_to_send(self, data: bytes | bytearray) -> int:
        """How much of it is done with."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # Reading notices the end, too, and there may be a close frame to be read first.
            return len(data)

    def read(self) -> None:
        buffer = self.run.buffer
        try:
            size = self.sock.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            self.run.drop(self, NO_CODE)
            return
        now = time.monotonic_ns()
        if self.rest:
            self.receive(memoryview(buffer)[:size], now)
        elif (done := self.take(buffer, size, now)) < size:
            self.rest += buffer[done:size]

    def receive(self, more: bytes | memoryview, now: int) -> None:
        """Take what there is of whole frames, with this behind what there was."""
        self.rest += more
        if len(self.rest) >= self.need:
            done = self.take(self.rest, len(self.rest), now)
            del self.rest[:done]

    def take(self, data: bytearray, end: int, now: int) -> int:
        """Count what is in the whole frames at the begin of data[:end]; returns where they end."""
        run = self.run
        start = frames = messages = 0
        oldest = -1
        self.need = 0
        while end - start > 1:
            head, size = data[start], data[start + 1]
            at = start + 2
            if size > 125:
                if size > 127:
                    # Masked, as no server may. The lengths that follow would mean nothing.
                    run.drop(self, NO_CODE)
                    start = end
                    break
                at += 2 if size == 126 else 8
                if at > end:
                    break
                size = int.from_bytes(data[start + 2 : at], "big")
            stop = at + size
            if stop > end:
                self.need = stop - start
                break
            start = stop
            if oldest < 0 and size >= STAMPED and 0 < head & 0x7F < 3:
                oldest = at
            if head == FIN | TEXT:
                frames += 1
                messages += data.count(NEWLINE, at, stop) + 1
                run.gap -= 1
                if run.gap <= 0 or self.mark:
                    self.look(data[at:stop], run.draw(), now)
            elif head & 0x7F < 3:
                frames += 1
                messages += self.part(head, data[at:stop], now)
            elif self.control(head, bytes(data[at:stop])):
                start = end
                break
        self.received += messages
        run.received += messages
        run.frames += frames
        if oldest >= 0:
            run.see_oldest(data, oldest, now)
        return start

    def part(self, head: int, payload: bytearray, now: int) -> int:
        """A part of a payload, or a binary one. Returns how many messages end in it."""
        run = self.run
        if head & 0x7F:
            run.gap -= 1
            self.weight = run.draw()
            self.parts = bytearray() if self.weight or self.mark else None
        if self.parts is not None:
            self.parts += payload
            if head & FIN:
                self.look(self.parts, self.weight, now)
        return payload.count(NEWLINE) + (head >> 7)

    def look(self, payload: bytearray, weight: int, now: int) -> None:
        """A payload that was chosen, or that may bring back messages of its own."""
        run = self.run
        if run.call:
            self.present |= run.call in payload
        if weight:
            run.see(payload, weight, now)
        if self.mark:
            self.on_their_way = max(self.on_their_way - payload.count(self.mark), 0)

    def control(self, head: int, payload: bytes) -> bool:
        """A frame that brings no messages. Returns whether it is the last one."""
        if head == FIN | PING:
            self.send(masked(payload, PONG, self.run.mask))
        elif head != FIN | PONG:
            # Or something that is not WebSocket, which ends here, too.
            known = head == FIN | CLOSE and len(payload) > 1
            self.run.drop(self, int.from_bytes(payload[:2], "big") if known else NO_CODE)
            return True
        return False


class Counts(NamedTuple):
    """What was counted up to a time."""

    time: int
    cpu: float
    sent: int
    received: int
    frames: int


class Run:
    """One measurement of one server. For one thread.

    tick: called now and then with the seconds that it has been going on, not counting the time it
    took to connect.
    """

    def __init__(self, target: Target, load: Load, tick: Callable[[float], None]) -> None:
        self.target = target
        self.load = load
        self.tick = tick
        self.random = random.Random(load.seed)
        self.buffer = bytearray(BUFFER)
        # Other messages than this run's may be in the room: an earlier run's, or somebody's.
        self.tag = b"@%04x" % self.random.randrange(1 << 16)
        self.stamp = re.compile(self.tag + b"[0-9a-f]{4}([0-9a-f]{12})")
        self.mask = self.random.randbytes(4)
        # Of a message only the begin changes, so only that has to be masked each time.
        message = masked(bytes(STAMPED).ljust(load.size, b"x"), TEXT, self.mask)
        begin = len(message) - load.size
        self.head, self.padding = message[:begin], message[begin + STAMPED :]
        self.key = int.from_bytes(message[begin : begin + STAMPED], "big")
        self.members: list[Member] = []
        self.alive = 0
        # The first file that is opened has a low number, as `select` needs.
        self.selector = selectors.DefaultSelector()

        self.sent = self.received = self.frames = 0
        self.close_codes: Counter[int] = Counter()
        self.latencies = Latencies()
        # Payloads up to the next that is chosen, for how many it stands, and for how many the one
        # after it will.
        self.gap = self.weight = self.stride = 1

        # Points of the monotonic clock, in nanoseconds: time 0 of the stamps, from when on messages
        # count, and when the next is due.
        self.zero = 0
        self.begin = 0
        self.due = 0
        self.turn = 0
        # What was last said in the roll call, while that goes on.
        self.call = b""
        # Senders send; and clients whose connections end were not dropped.
        self.talking = False
        self.leaving = False

    def measure(self) -> Result:
        """Connect, warm up, measure, and leave.

        Raises OSError if the clients cannot connect. After KeyboardInterrupt the result is that of
        the time until then, or it is raised if there was none.
        """
        interrupted = False
        try:
            started = time.monotonic()
            self.connect()
            connected = time.monotonic() - started
            self.call_roll()
            first, last, interrupted = self.talk()
            # After Ctrl-C it was not waited for what is on its way.
            undelivered = 0 if interrupted else self.undelivered()
            if not interrupted:
                self.leave()
        finally:
            for member in self.members:
                member.sock.close()
            self.selector.close()
        seconds = max(last.time - first.time, 1) / 1e9
        frames = last.frames - first.frames
        deliveries = last.received - first.received
        names = {name: self.latencies.percentile(p) for name, p in PERCENTILES.items()}
        return Result(
            url=self.target.url,
            clients=self.load.clients,
            connect_s=connected,
            seconds=seconds,
            sent_per_s=(last.sent - first.sent) / seconds,
            deliveries_per_s=deliveries / seconds,
            frames_per_s=frames / seconds,
            messages_per_frame=deliveries / max(frames, 1),
            latency_ms={**names, "max": self.latencies.max / 1e6 if self.latencies.max else None},
            samples=self.latencies.samples,
            sent=self.sent,
            received=self.received,
            undelivered=undelivered,
            closes=sum(self.close_codes.values()),
            close_codes=dict(sorted(self.close_codes.items())),
            generator_cpu=(last.cpu - first.cpu) / seconds,
            interrupted=interrupted,
        )

    # Connecting and leaving.

    def connect(self) -> None:
        allow_files(self.load.clients + FILES)
        address = (self.target.host, self.target.port)
        for i in range(self.load.clients):
            mark = self.tag + b"%04x" % i if i < self.load.senders else b""
            try:
                sock = socket.create_connection(address, PATIENCE, self.source(i))
            except OSError as error:
                raise self.refused(f"cannot connect to {self.target.authority}", error) from None
            member = Member(self, sock, mark)
            self.members.append(member)
            # All others go where the first went: a name is looked up once.
            address = sock.getpeername()[:2]
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                rest = self.handshake(sock)
            except OSError as error:
                raise self.refused(f"no WebSocket at {self.target.url}", error) from None
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, member)
            self.alive += 1
            member.receive(rest, time.monotonic_ns())

    def call_roll(self) -> None:
        """Return when everybody is in the room, which is a while after the handshake.

        Raises OSError if somebody does not get what is said there.
        """
        now = time.monotonic_ns()
        until, pause, number = now + int(PATIENCE * 1e9), int(TICK * 1e9), 0
        while self.absent():
            if now >= until or self.alive < len(self.members):
                raise ConnectionError(
                    f"{self.absent():,} of {self.load.clients:,} clients at {self.target.url} did"
                    " not get what was said to all: is it a chat?"
                )
            # Who gets this one gets all that is said later. Some may not have got the one before.
            number, pause = number + 1, 2 * pause
            self.call = b"#%b %06d" % (self.tag[1:], number)
            for member in self.members:
                member.present = False
            self.members[0].send(masked(self.call, TEXT, self.mask))
            self.go_on(min(now + pause, until), self.absent)
            now = time.monotonic_ns()
        self.call = b""
        self.received = 0
        for member in self.members:
            member.received = 0

    def absent(self) -> int:
        """How many clients have not got the last message of the roll call."""
        return sum(not member.present for member in self.members)

    def refused(self, what: str, error: OSError) -> ConnectionError:
        """What to raise for a client that could not join."""
        late = isinstance(error, TimeoutError)
        why = f"no answer in {PATIENCE:g} s" if late else error.strerror or error
        return ConnectionError(
            f"{what}: {why}"
            + (f" (for client {self.alive + 1:,} of {self.load.clients:,})" if self.alive else "")
        )

    def source(self, index: int) -> tuple[str, int] | None:
        """Where a client connects from, if that matters."""
        if self.load.clients <= PORTS or not self.target.host.startswith(("127.", "localhost")):
            return None
        return f"127.0.{1 + index // PORTS}.1", 0

    def handshake(self, sock: socket.socket) -> bytes:
        """Become a WebSocket. Returns what the server has sent behind its answer.

        Raises OSError with what it has answered instead.
        """
        key = base64.b64encode(self.random.randbytes(16)).decode()
        sock.sendall(
            f"GET {self.target.path} HTTP/1.1\r\n"
            f"Host: {self.target.authority}\r\n"
            f"Origin: http://{self.target.authority}\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = sock.recv(4096)
            if not more:
                raise ConnectionError("the connection was closed instead of an answer")
            answer += more
            if not answer.startswith(b"HTTP/"[: len(answer)]) or len(answer) > BUFFER:
                raise ConnectionError("the answer is not HTTP")
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2]
        accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        if not status.startswith("101") or base64.b64encode(accept) not in head:
            raise ConnectionError(f"the answer is {status!r}")
        return rest

    def drop(self, member: Member, code: int) -> None:
        """A connection has ended."""
        if not self.leaving:
            self.close_codes[code] += 1
        self.selector.unregister(member.sock)
        member.sock.close()
        member.open = False
        self.alive -= 1

    def listen(self, member: Member, events: int) -> None:
        """What to wait for."""
        self.selector.modify(member.sock, events, member)

    def leave(self) -> None:
        self.leaving = True
        # As a browser that leaves the page: servers do not log it as a mistake.
        frame = masked((1001).to_bytes(2, "big"), CLOSE, self.mask)
        for member in self.members:
            if member.open:
                member.send(frame)
        self.go_on(time.monotonic_ns() + int(GOODBYE * 1e9))

    # Sending.

    def talk(self) -> tuple[Counts, Counts, bool]:
        """Warm up, measure, and wait for what is still on its way.

        Returns what was counted before and after the time measured, and whether it was cut short.
        """
        last: Counts | None = None
        interrupted = False
        self.zero = self.due = time.monotonic_ns()
        self.begin = self.zero + int(self.load.warmup * 1e9)
        end = self.begin + int(self.load.seconds * 1e9)
        self.talking = True
        self.go_on(self.begin)
        first = self.counts()
        try:
            self.go_on(end)
            self.talking = False
            last = self.counts()
            self.go_on(time.monotonic_ns() + int(DRAIN * 1e9), self.undelivered)
        except KeyboardInterrupt:
            interrupted = True
        return first, last or self.counts(), interrupted

    def counts(self) -> Counts:
        return Counts(
            time.monotonic_ns(), time.thread_time(), self.sent, self.received, self.frames
        )

    def undelivered(self) -> int:
        """How many messages are on their way, counting each as often as somebody waits for it."""
        return sum(max(self.sent - m.received, 0) for m in self.members if m.open)

    def go_on(self, until: int, waiting: Callable[[], int] = lambda: 1) -> None:
        """Send and read until this time, or until nothing is waited for or all clients are gone."""
        now = ticked = time.monotonic_ns()
        messages = self.received
        while now < until and self.alive and waiting():
            wait = min(until - now, int(TICK * 1e9))
            if self.talking and self.load.rate:
                # The selector would round up to a millisecond, which is as long as many a latency.
                wait = min(wait, self.send_due(now, self.load.rate))
                select.select([self.selector.fileno()], [], [], max(wait, 0) / 1e9)
                wait = 0
            elif self.talking:
                self.refill()
            for key, events in self.selector.select(wait / 1e9):
                key.data.ready(events)
            now = time.monotonic_ns()
            if now - ticked >= TICK * 1e9:
                speed = (self.received - messages) * 1e9 / (now - ticked)
                ticked, messages = now, self.received
                if self.talking:
                    self.stride = 1 + int(speed / SAMPLES)
                    self.tick((now - self.zero) / 1e9)

    def send_due(self, now: int, rate: float) -> int:
        """Send what is due, a thousand messages at most. Returns how long it is to the next."""
        limit = self.turn + 1000
        while self.due <= now and self.turn < limit:
            member = self.members[self.turn % self.load.senders]
            if member.open:
                self.say(member, self.due)
            self.turn += 1
            self.due = self.zero + int(self.turn * 1e9 / rate)
        return self.due - now

    def refill(self) -> None:
        """In a closed loop: let all senders have as many messages on their way as they may.

        All of them at once, when all that came has been read: otherwise what is sent to the first
        clients in a round comes back before the last ones have been looked at.
        """
        for member in self.members[: self.load.senders]:
            while member.open and member.on_their_way < self.load.window:
                self.say(member, time.monotonic_ns())
                member.on_their_way += 1

    def say(self, member: Member, when: int) -> None:
        """Send a message, with the time from which its latency counts."""
        stamped = int.from_bytes(member.mark + b"%012x" % (when - self.zero), "big") ^ self.key
        member.send(self.head + stamped.to_bytes(STAMPED, "big") + self.padding)
        self.sent += 1

    # Reading.

    def draw(self) -> int:
        """For how many payloads this one stands: 0 if it is not chosen."""
        if self.gap > 0:
            return 0
        weight, self.weight = self.weight, self.stride
        self.gap = self.random.randrange(1, 2 * self.weight)
        return weight

    def see(self, payload: bytearray, weight: int, now: int) -> None:
        """The messages of a payload that was chosen, which came now."""
        for stamp in self.stamp.findall(payload):
            sent = self.zero + int(stamp, 16)
            if sent >= self.begin:
                self.latencies.add(now - sent, weight)

    def see_oldest(self, data: bytearray, at: int, now: int) -> None:
        """The message at this place is the oldest of those that came now."""
        if data.startswith(self.tag, at):
            try:
                sent = self.zero + int(data[at + STAMPED - 12 : at + STAMPED], 16)
            except ValueError:
                return  # It is somebody else's, and begins alike.
            if sent >= self.begin and now - sent > self.latencies.max:
                self.latencies.max = now - sent


def allow_files(count: int) -> None:
    """Have as many files open as needed. OSError if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(
            f"{count - FILES} clients need {count} open files, {hard} are allowed (see ulimit -n)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


# What is shown.


class Bar:
    """The progress, on a terminal; nothing anywhere else."""

    def __init__(self, stream: TextIO, seconds: float) -> None:
        """seconds: how long all runs will take."""
        self.stream = stream if stream.isatty() else None
        self.seconds = seconds
        self.before = 0.0
        self.text = ""

    def begin(self, before: float, text: str) -> None:
        """Another run. before: how much is done, from 0 to 1."""
        self.before, self.text = before, text
        self.show(0)

    def show(self, seconds: float) -> None:
        """So far this run has come."""
        done = int(30 * min(self.before + seconds / self.seconds, 1))
        self.write(f"[{'#' * done}{'.' * (30 - done)}] {self.text}")

    def write(self, line: str = "") -> None:
        """In place of what stood there."""
        if self.stream:
            self.stream.write(f"\r{line}\x1b[K")
            self.stream.flush()


class Report:
    """What was measured: one server, or two in turn; with one number of clients, or several."""

    def __init__(self, load: Load, targets: Sequence[Target]) -> None:
        self.load = load
        #: The servers, by the names they have in a comparison.
        self.targets = dict(zip("AB", targets, strict=False))
        self.runs: list[tuple[str, Result]] = []

    def of(self, server: str, clients: int) -> list[Result]:
        return [run for name, run in self.runs if (name, run.clients) == (server, clients)]

    @property
    def clients(self) -> list[int]:
        """The numbers of clients, in the order in which they were measured."""
        return list(dict.fromkeys(run.clients for _, run in self.runs))

    def medians(self, server: str) -> list[Result]:
        """Of all runs with the same number of clients, as far as there are any."""
        found = [self.of(server, clients) for clients in self.clients]
        return [medians(runs) for runs in found if runs]

    def ratios(self, clients: int, figure: Figure) -> list[float | None]:
        """Of a figure, the first server's over the second's, pair by pair."""
        pairs = zip(self.of("A", clients), self.of("B", clients), strict=False)
        values = [(figure.value(a), figure.value(b)) for a, b in pairs]
        return [a / b if a is not None and b else None for a, b in values]

    def text(self) -> str:
        """For people."""
        if len(self.targets) == 1:
            lines = [self.targets["A"].url, str(self.load), ""]
            measured = {f"{run.clients:,}": run for run in self.medians("A")}
            return "\n".join(lines + table("clients", measured))
        lines = [f"{name}: {target.url}" for name, target in self.targets.items()]
        lines.append(str(self.load))
        for clients in self.clients:
            found = {name: self.of(name, clients) for name in self.targets}
            measured = {name: medians(runs) for name, runs in found.items() if runs}
            lines += ["", *table(f"{clients:,} clients, medians", measured)]
            ratios = [self.ratios(clients, figure) for figure in COMPARED]
            rows = [["A / B", *(figure.name for figure in COMPARED)]]
            for number, pair in enumerate(zip(*ratios, strict=True), 1):
                rows.append([f"pair {number}", *map(shown, pair)])
            rows.append(["median", *(shown(median(column)) for column in ratios)])
            lines += ["", *aligned(rows)]
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """For programs."""
        report = {
            "servers": {name: target.url for name, target in self.targets.items()},
            "loop": "open" if self.load.rate else "closed",
            "load": {k: v for k, v in asdict(self.load).items() if k != "clients"},
            "runs": [{"server": name} | asdict(run) for name, run in self.runs],
        }
        if len(self.targets) > 1:
            report["medians"] = [
                {"server": name} | asdict(run)
                for name in self.targets
                for run in self.medians(name)
            ]
            report["ratios"] = [
                {
                    "clients": clients,
                    "figure": figure.name,
                    "pairs": self.ratios(clients, figure),
                    "median": median(self.ratios(clients, figure)),
                }
                for clients in self.clients
                for figure in COMPARED
            ]
        return report

    def warnings(self) -> list[str]:
        """What makes the figures worth less than they look."""
        lines = []
        for _, run in self.runs:
            where = f"{run.url} with {run.clients:,} clients"
            if run.generator_cpu > BUSY:
                lines.append(
                    f"{where}: this program took {run.generator_cpu:.0%} of a core,"
                    " and may have been slower than the server"
                )
            if self.load.rate and run.sent_per_s < 0.98 * self.load.rate:
                lines.append(f"{where}: only {run.sent_per_s:,.0f} messages/s could be sent")
            if run.undelivered:
                lines.append(
                    f"{where}: {run.undelivered:,} deliveries were missing {DRAIN:g} s after the"
                    " end, so the latencies are too good"
                )
        return lines

    def failure(self) -> str | None:
        """What makes them worth nothing, or what a server should not have done."""
        for _, run in self.runs:
            if run.closes:
                codes = ", ".join(f"{code}: {n:,}" for code, n in run.close_codes.items())
                return f"{run.url} dropped {run.closes:,} of {run.clients:,} clients ({codes})"
        return None


def shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines, with the first column to the left and all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                f"{first:{widths[0]}}",
                *(f"{c:>{max(w, 9)}}" for c, w in zip(rest, widths[1:], strict=True)),
            ]
        )
        for first, *rest in rows
    ]


def table(title: str, results: Mapping[str, Result]) -> list[str]:
    """A column for each result, with its name above it."""
    rows = [[figure.name, *map(figure.of, results.values())] for figure in FIGURES]
    return aligned([[title, *results], *rows])


# The picture.

# In pixels: of each of the two panels, and of what is around them.
PANEL: Final = (560, 220)
LEFT: Final = 96
TOPS: Final = (96, 392)
SIZE: Final = (860, 672)
# Those who do not see all colours can tell these apart.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


class Line(NamedTuple):
    name: str
    colour: str
    #: As `stroke-dasharray`.
    dashes: str
    #: Numbers of clients, and what was measured with them.
    points: list[tuple[int, float]]


class Scale(NamedTuple):
    """One axis: what it is of, where its ticks are, and whether it is logarithmic."""

    name: str
    ticks: list[float]
    log: bool

    def place(self, value: float) -> float:
        """Where a value is, from 0, the first tick, to 1, the last."""
        low, high = self.ticks[0], self.ticks[-1]
        if low == high:
            return 0.5
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    @classmethod
    def from_zero(cls, name: str, values: Sequence[float]) -> Scale:
        """With round ticks, four to eight of them."""
        top = max(values, default=0) or 1.0
        step = 10 ** math.floor(math.log10(top))
        step *= next(f for f in (0.2, 0.5, 1, 2) if top / (step * f) <= 7)
        return cls(name, [i * step for i in range(math.ceil(top / step) + 1)], False)

    @classmethod
    def by_tens(cls, name: str, values: Sequence[float]) -> Scale:
        """With a tick for each power of ten."""
        low = math.floor(math.log10(min(values, default=1)))
        high = max(math.ceil(math.log10(max(values, default=1))), low + 1)
        return cls(name, [10.0**i for i in range(low, high + 1)], True)


def plot(report: Report) -> str:
    """A picture, in SVG: throughput and latency over the number of clients."""
    several = len(report.targets) > 1
    throughput, latencies = [], []
    for i, name in enumerate(report.targets):
        runs = report.medians(name)
        points = [(run.clients, run.deliveries_per_s) for run in runs]
        throughput.append(Line(name if several else "all clients", COLOURS[i], "", points))
        for j, percentile in enumerate(["p50", "p99"] if several else PERCENTILES):
            points = [(r.clients, v) for r in runs if (v := r.latency_ms[percentile])]
            latencies.append(
                Line(f"{name} {percentile}", COLOURS[i], "5 4" * j, points)
                if several
                else Line(percentile, COLOURS[j], "", points)
            )
    x = Scale("clients", [float(clients) for clients in sorted(report.clients)], True)
    y = Scale.from_zero("deliveries/s", [v for line in throughput for _, v in line.points])
    z = Scale.by_tens("latency, ms", [v for line in latencies for _, v in line.points])
    servers = ", ".join(
        f"{name}: {target.url}" if several else target.url
        for name, target in report.targets.items()
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE[0]}" height="{SIZE[1]}"'
            f' viewBox="0 0 {SIZE[0]} {SIZE[1]}" font-family="sans-serif" font-size="13">',
            '<rect width="100%" height="100%" fill="#fff"/>',
            words(LEFT, 32, f"gochat bench {servers}", 'font-size="18" font-weight="bold"'),
            words(LEFT, 54, str(report.load), 'fill="#555"'),
            *panel(TOPS[0], "Throughput", x, y, throughput),
            *panel(TOPS[1], "Latency", x, z, latencies),
            "</svg>\n",
        ]
    )


def words(x: float, y: float, text: str, style: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{html.escape(text)}</text>'


def panel(top: int, title: str, x: Scale, y: Scale, lines: Sequence[Line]) -> list[str]:
    """Axes, what was measured, and what is what."""
    width, height = PANEL
    bottom, right = top + height, LEFT + width

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return LEFT + width * x.place(point[0]), bottom - height * y.place(point[1])

    parts = [words(LEFT, top - 12, title, 'font-weight="bold"')]
    for tick in y.ticks:
        _, level = at((x.ticks[0], tick))
        parts += [
            f'<path d="M{LEFT} {level:.1f}H{right}" stroke="#ddd"/>',
            words(LEFT - 8, level + 4, f"{tick:,.10g}", 'text-anchor="end"'),
        ]
    for tick in x.ticks:
        place, _ = at((tick, y.ticks[0]))
        parts += [
            f'<path d="M{place:.1f} {bottom}v5" stroke="#000"/>',
            words(place, bottom + 20, f"{tick:,.0f}", 'text-anchor="middle"'),
        ]
    turned = f'text-anchor="middle" transform="rotate(-90 20 {top + height / 2})"'
    parts += [
        f'<path d="M{LEFT} {top}V{bottom}H{right}" fill="none" stroke="#000"/>',
        words(LEFT + width / 2, bottom + 40, x.name, 'text-anchor="middle"'),
        words(20, top + height / 2, y.name, turned),
    ]
    for i, line in enumerate(lines):
        places = [at(point) for point in line.points]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
        stroke = f'stroke="{line.colour}" stroke-width="2" stroke-dasharray="{line.dashes}"'
        level = top + 10 + 22 * i
        parts += [
            f'<path d="M{path}" fill="none" {stroke}/>' if path else "",
            *(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{line.colour}"/>'
                for px, py in places
            ),
            f'<path d="M{right + 24} {level}h30" fill="none" {stroke}/>',
            words(right + 62, level + 4, line.name, ""),
        ]
    return parts


# The command.


def number(
    kind: Callable[[str], float], least: float, what: str, most: float = math.inf
) -> Callable[[str], float]:
    """What makes a flag's value of its text: a number within bounds, and not infinity."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return parse


def clients(text: str) -> list[int]:
    """A flag's value: numbers of clients, with commas between them."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1 or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from 1, nor several with commas between them"
        )
    return values


def address(text: str) -> Target:
    """A flag's value: a server."""
    try:
        return Target.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address such as ws://localhost:8080/ws"
        ) from None


def picture(text: str) -> Path:
    """A flag's value: a file that can be written."""
    path = Path(text)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def add_bench_flags(bench: Parser) -> None:
    """The flags of `gochat bench`."""
    load = Load()
    whole = number(int, 1, "a whole number from 1")
    few = number(int, 1, "a whole number from 1 to 65536", 65536)
    above_zero = number(float, sys.float_info.min, "a number above 0")
    bench.description = (
        "Measures how much a chat server delivers, and how late: any server where what one says"
        " over a WebSocket goes to all. Nobody else should be in the room."
    )
    bench.add_argument(
        "url", type=address, metavar="URL", help="the server, as in ws://localhost:8080/ws"
    )
    for name, kind, value, text, metavar in (
        ("clients", clients, str(load.clients), "clients in the room; each number in turn", "N,N"),
        ("senders", few, load.senders, "clients that send, too", "S"),
        (
            "size",
            number(int, STAMPED, f"a number of bytes from {STAMPED} to {LARGEST}", LARGEST),
            load.size,
            "bytes in a message",
            "BYTES",
        ),
        (
            "window",
            whole,
            load.window,
            "messages a sender has on their way: it sends the next when one comes back",
            "W",
        ),
        (
            "rate",
            above_zero,
            None,
            "instead of that, messages to send in a second, from all senders together. Latency"
            " counts from when a message is due, so a pause shows in all that it holds up",
            "R",
        ),
        ("seconds", above_zero, load.seconds, "seconds to measure", "T"),
        (
            "warmup",
            number(float, 0, "a number of seconds from 0"),
            load.warmup,
            "seconds before that, which do not count",
            "T",
        ),
        ("versus", address, None, "measure this server, too, in turn with the first", "URL"),
        ("pairs", whole, 5, "how often to do that", "N"),
        ("plot", picture, None, "draw throughput and latency over the clients", "FILE.svg"),
        ("seed", int, None, "choose by the same chance as another run with this seed", "N"),
    ):
        bench.add_flag(name, kind, value, text, metavar)
    bench.add_argument("--json", "-json", action="store_true", help="print JSON, for programs")
    bench.set_defaults(error=bench.error)


def bench(args: argparse.Namespace) -> None:
    """Measure, and print what was found. Exits with 130 after Ctrl-C, with what there is then.

    Raises OSError if a server cannot be measured, or did not do what it should.
    """
    if args.senders > min(args.clients):
        args.error(f"{args.senders} senders are more than {min(args.clients)} clients")
    targets = [args.url] if args.versus is None else [args.url, args.versus]
    load = Load(
        senders=args.senders,
        size=args.size,
        window=args.window,
        rate=args.rate,
        seconds=args.seconds,
        warmup=args.warmup,
        seed=args.seed,
    )
    report = Report(load, targets)
    rounds = 1 if args.versus is None else args.pairs
    try:
        measure(report, args.clients, rounds)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        show(report, args.json, args.plot)
    if text := report.failure():
        raise OSError(text)


def measure(report: Report, clients: Sequence[int], rounds: int) -> None:
    """Do all runs, and put into the report what they have shown."""
    load = report.load
    plan = [(number, name) for number in clients for _ in range(rounds) for name in report.targets]
    bar = Bar(sys.stderr, len(plan) * (load.warmup + load.seconds))
    try:
        for done, (number, name) in enumerate(plan):
            target = report.targets[name]

            bar.begin(done / len(plan), f"{target.authority}, {number} clients")
            run = Run(target, replace(load, clients=number), bar.show).measure()
            report.runs.append((name, run))
            if run.interrupted:
                raise KeyboardInterrupt
    finally:
        bar.write()


def show(report: Report, as_json: bool, path: Path | None) -> None:
    """Print what there is, and draw it."""
    if report.runs:
        print(json.dumps(report.json()) if as_json else report.text())
        for line in report.warnings():
            print(f"gochat: warning: {line}", file=sys.stderr)
        if path is not None:
            path.write_text(plot(report))
