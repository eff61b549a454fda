"""One measurement of a server: the clients, the load, and the counters.

One thread drives all clients over non-blocking sockets. To keep up with fast servers, the thread
does little work for each message:

- It counts messages without parsing them: a payload with n newlines contains n + 1 messages.
- Each message begins with a mark that only its sender uses. By counting its own mark in what it
  receives, a sender knows how many of its messages are still in flight.
- Latency is measured on a random sample of reads, from the time stamps in the data. Each sample has
  a weight: the number of reads that it represents.
- The maximum latency is exact. Messages arrive in order, so the first time stamp in the data from a
  read is the oldest, and is always examined.

In a closed loop, each sender keeps a few messages in flight, and sends the next message when one
comes back. So the server sets the pace: if the server stalls, the senders stall too.

At a fixed rate, the latency of a message counts from the time the message is due, even if it is
sent later. So a stall shows in every message that it delays, not only in the few that are in
flight. (Measuring only those few is known as coordinated omission.) For the same reason, a run ends
by waiting for the messages in flight.
"""

from __future__ import annotations

import base64
import random
import re
import select
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Final

from ..golang.dial import Address, reason
from ..golang.frames import accept_key, client_frame, read_header
from .load import PERCENTILES, Latencies, Load, Result

__all__ = ["Run"]

FIN, TEXT, CLOSE, PING, PONG = 0x80, 1, 8, 9, 10
NEWLINE: Final = 10
# Masking with zeros leaves a payload unchanged.
MASK: Final = bytes(4)
# RFC 6455, section 7.4.1.
GOING_AWAY, NO_CODE = 1001, 1006

# The length of a message without its padding, in bytes: "@" and 20 hexadecimal digits, which are 4
# for the run, 4 for the sender, and 12 for the time in nanoseconds.
STAMPED: Final = 21
# The largest payload whose frame has a 16-bit length field, in bytes.
LARGEST: Final = 65_535
# The number of senders that 4 hexadecimal digits can distinguish.
SENDERS: Final = 65_536

# Time stamps to read per second, enough to estimate p99.9.
SAMPLES: Final = 20_000
# The approximate time between two calls to the progress callback, in seconds.
TICK: Final = 0.1
# Bytes to read from a socket in one call.
BUFFER: Final = 1 << 18

# Time limit for each handshake, and for getting all clients into the room, in seconds.
PATIENCE: Final = 10.0
# The longest wait for messages in flight, in seconds.
DRAIN: Final = 2.0
# The longest wait for the server's close frames, in seconds. Frames that are still being sent when
# the next run begins could disturb that run.
GOODBYE: Final = 2.0

# Clients per source address. Linux provides 28,000 ports for each address, and loopback has many
# addresses.
PORTS: Final = 20_000
# Raised by a socket that is not ready to be read or written. Only TLS raises the last two.
NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: A snapshot of the counters: the time and the thread's CPU time, in seconds; messages sent,
#: messages received, and frames received.
Counts = tuple[float, float, int, int, int]

# Open files to allow in addition to the clients' sockets.
FILES: Final = 32


class Connection:
    """One client's connection. Thread: the run's."""

    def __init__(self, run: Run, sock: socket.socket, mark: bytes) -> None:
        self.run = run
        self.sock = sock
        #: The prefix of this client's messages; empty if the client sends none.
        self.mark = mark
        self.open = True
        self.received = 0
        self.in_flight = 0
        #: Whether the client has received the latest message of the roll call.
        self.present = False
        # The beginning of an incomplete frame.
        self.partial = bytearray()
        # A sender's payload so far, because a fragment may end within a mark.
        self.payload = bytearray()
        self.unsent = bytearray()
        # The events that the selector watches for on the socket.
        self.events = EVENT_READ

    def ready(self, events: int) -> None:
        """Handle events on the socket: send unsent data, and read what has arrived."""
        if events & EVENT_WRITE:
            self.send(b"")
        if not events & EVENT_READ:
            return
        buffer = self.run.buffer
        try:
            # The buffer has room for a whole TLS record (16 KiB), so TLS keeps back no decrypted
            # data that the selector cannot see.
            size = self.sock.recv_into(buffer)
        except NOT_NOW:
            return
        except OSError:
            size = 0
        if size:
            self.feed(memoryview(buffer)[:size])
        else:
            self.run.drop(self, NO_CODE)

    def send(self, frame: bytes) -> None:
        """Send a frame, and keep for later what the socket does not accept."""
        self.unsent += frame
        try:
            del self.unsent[: self.sock.send(self.unsent)]
        except NOT_NOW:
            pass
        except OSError:
            # A read may still return a close frame. If not, it fails too, and the client is
            # dropped.
            self.unsent.clear()
        events = EVENT_READ | (EVENT_WRITE if self.unsent else 0)
        if events != self.events:
            self.events = events
            self.run.selector.modify(self.sock, events, self)

    def feed(self, more: bytes | memoryview) -> None:
        self.partial += more
        del self.partial[: self.parse(self.partial, time.monotonic_ns())]

    def parse(self, data: bytearray, now: int) -> int:
        """Count and time the messages in all complete frames; return where these frames end."""
        run = self.run
        if oldest := run.stamp.search(data):
            sent = run.epoch + int(oldest[1], 16)
            if run.begin <= sent < now - run.latencies.max:
                run.latencies.max = now - sent
        end = self.count(data)
        if run.call:
            self.present |= data.find(run.call, 0, end) >= 0
        if run.random() * run.stride < 1:
            for stamp in run.stamp.findall(data, 0, end):
                sent = run.epoch + int(stamp, 16)
                if sent >= run.begin:
                    run.latencies.add(now - sent, run.stride)
        return end

    def count(self, data: bytearray) -> int:
        start = frames = messages = 0
        while header := read_header(data, start):
            head = data[start]
            at = start + header[0]
            stop = at + header[1]
            if stop > len(data):
                break
            if data[start + 1] > 127:
                # A server must not mask its frames (RFC 6455, section 5.1), so this is not a frame.
                self.run.drop(self, NO_CODE)
                break
            if head & 0x7F < 3:  # a message or a fragment
                frames += 1
                messages += data.count(NEWLINE, at, stop) + (head >> 7)
                if self.mark:
                    self.payload += data[at:stop]
                    if head & FIN:
                        mine = self.payload.count(self.mark)
                        self.in_flight = max(self.in_flight - mine, 0)
                        self.payload.clear()
            elif self.control(head, bytes(data[at:stop])):
                break
            start = stop
        self.received += messages
        self.run.received += messages
        self.run.frames += frames
        return start

    def control(self, head: int, payload: bytes) -> bool:
        """Handle a control frame; return whether it ends the connection."""
        if head == FIN | PING:
            self.send(client_frame(PONG, payload, MASK))
        elif head != FIN | PONG:
            known = head == FIN | CLOSE and len(payload) > 1
            self.run.drop(self, int.from_bytes(payload[:2], "big") if known else NO_CODE)
            return True
        return False


class Run:
    """One measurement of one server.

    Call either `measure` or `look`, and only once. progress: called about ten times per second,
    with the seconds since the warm-up began. Thread: one.
    """

    def __init__(self, target: Address, load: Load, progress: Callable[[float], None]) -> None:
        self.target = target
        self.load = load
        self.progress = progress
        self.buffer = bytearray(BUFFER)
        # The prefix of this run's messages. The room may still contain messages from other runs.
        self.tag = b"@%04x" % random.randrange(1 << 16)
        self.stamp = re.compile(self.tag + b"[0-9a-f]{4}([0-9a-f]{12})")
        # The part of a message's frame before the mark.
        self.head = client_frame(TEXT, bytes(load.size), MASK)[: -load.size]
        # The part of a message's frame after the time stamp.
        self.padding = b"x" * (load.size - STAMPED)
        self.connections: list[Connection] = []
        self.alive = 0
        # Opened before the sockets, because `select` accepts only low descriptor numbers.
        self.selector = DefaultSelector()

        self.sent = self.received = self.frames = 0
        self.close_codes: Counter[int] = Counter()
        self.latencies = Latencies()
        # What is read at once is sampled with probability 1 / stride. The weight of a sample is
        # `stride`.
        self.random = random.random
        self.stride = 1

        # The time when sending began, from which time stamps count, and the time when the warm-up
        # ends. Both are monotonic, in nanoseconds.
        self.epoch = 0
        self.begin = 0
        # At a fixed rate, the number of messages that have been due so far.
        self.turn = 0
        # The latest message of the roll call; empty after the roll call.
        self.call = b""
        self.sending = False

    def look(self) -> None:
        """Connect and leave. Raises OSError if a client cannot connect."""
        try:
            self.connect()
            self.leave()
        finally:
            self.end()

    def measure(self) -> Result:
        """Connect, warm up, measure, and disconnect. Ctrl-C ends the measurement early.

        Raises OSError if a client cannot connect or does not receive the room's messages. Raises
        KeyboardInterrupt on Ctrl-C before the measurement begins.
        """
        try:
            started = time.monotonic()
            self.connect()
            connected = time.monotonic() - started
            self.call_roll()
            first, last, interrupted = self.exchange()
            # A connection that ends from now on was not dropped by the server.
            codes = dict(sorted(self.close_codes.items()))
            # After Ctrl-C, messages in flight do not count as missing.
            undelivered = 0 if interrupted else self.undelivered()
            if not interrupted:
                self.leave()
        finally:
            self.end()
        counts = (after - before for before, after in zip(first, last, strict=True))
        seconds, cpu, sent, deliveries, frames = counts
        seconds = max(seconds, 1e-9)  # it is 0 if all clients were dropped during the warm-up
        names = {name: self.latencies.percentile(p) for name, p in PERCENTILES.items()}
        return Result(
            url=self.target.url,
            clients=self.load.clients,
            connect_s=connected,
            seconds=seconds,
            sent_per_s=sent / seconds,
            deliveries_per_s=deliveries / seconds,
            frames_per_s=frames / seconds,
            messages_per_frame=deliveries / max(frames, 1),
            latency_ms={**names, "max": self.latencies.max / 1e6 if self.latencies.max else None},
            samples=self.latencies.samples,
            sent=self.sent,
            received=self.received,
            undelivered=undelivered,
            closes=sum(codes.values()),
            close_codes=codes,
            generator_cpu=cpu / seconds,
            interrupted=interrupted,
        )

    # Connecting and leaving.

    def connect(self) -> None:
        allow_files(self.load.clients + FILES)
        address, context = (self.target.host, self.target.port), self.target.context()
        for i in range(self.load.clients):
            mark = self.tag + b"%04x" % i if i < self.load.senders else b""
            failed = f"cannot connect to {self.target.authority}"
            try:
                sock = socket.create_connection(address, PATIENCE, self.source(i))
                conn = Connection(self, sock, mark)
                self.connections.append(conn)
                failed = f"no WebSocket at {self.target.url}"
                # The resolved address, so that the host name is looked up only once.
                address = sock.getpeername()[:2]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context:
                    conn.sock = context.wrap_socket(sock, server_hostname=self.target.host)
                rest = self.handshake(conn.sock)
            except OSError as error:
                late = isinstance(error, TimeoutError)
                why = f"no answer in {PATIENCE:g} s" if late else reason(error)
                which = f" (for client {i + 1:,} of {self.load.clients:,})" if i else ""
                raise ConnectionError(f"{failed}: {why}{which}") from None
            conn.sock.setblocking(False)
            self.selector.register(conn.sock, EVENT_READ, conn)
            self.alive += 1
            conn.feed(rest)

    def call_roll(self) -> None:
        """Wait until all clients are in the room. Raises OSError if one does not get there.

        A server may accept a client's handshake before it adds the client to the room.
        """
        now = time.monotonic_ns()
        until, pause, number = now + int(PATIENCE * 1e9), int(TICK * 1e9), 0
        while self.absent():
            if now >= until or self.alive < len(self.connections):
                raise ConnectionError(
                    f"{self.absent():,} of {self.load.clients:,} clients at {self.target.url} did"
                    " not receive a message sent to all: is it a chat?"
                )
            # A client that receives a call also receives everything sent after that call. Clients
            # that were not in the room yet need another call.
            number, pause = number + 1, 2 * pause
            self.call = b"#%b %06d" % (self.tag[1:], number)
            for conn in self.connections:
                conn.present = False
            self.connections[0].send(client_frame(TEXT, self.call, MASK))
            self.poll(min(now + pause, until), self.absent)
            now = time.monotonic_ns()
        self.call = b""
        self.received = 0
        for conn in self.connections:
            conn.received = 0

    def absent(self) -> int:
        """Return how many clients have not received the latest message of the roll call."""
        return sum(not conn.present for conn in self.connections)

    def source(self, index: int) -> tuple[str, int] | None:
        """Return the source address for a client, or None for any address."""
        if self.load.clients <= PORTS or not self.target.host.startswith(("127.", "localhost")):
            return None
        return f"127.0.{1 + index // PORTS}.1", 0

    def handshake(self, sock: socket.socket) -> bytes:
        """Perform the opening handshake; return the bytes after the answer. Raises OSError."""
        key = base64.b64encode(random.randbytes(16)).decode()
        login = "".join(f"{name}: {value}\r\n" for name, value in self.target.authorization)
        sock.sendall(
            f"GET {self.target.target} HTTP/1.1\r\n"
            f"Host: {self.target.authority}\r\n"
            f"Origin: {'https' if self.target.tls else 'http'}://{self.target.authority}\r\n"
            f"{login}"
            "Connection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer:
            more = sock.recv(BUFFER)
            if not more:
                raise ConnectionError("the connection was closed without an answer")
            answer += more
            if not answer.startswith(b"HTTP/"[: len(answer)]) or len(answer) > BUFFER:
                raise ConnectionError("the answer is not HTTP")
        head, _, rest = answer.partition(b"\r\n\r\n")
        status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")[2]
        if not status.startswith("101"):
            raise ConnectionError(f"the answer is {status!r}")
        if accept_key(key) not in head:
            raise ConnectionError("the answer's Sec-WebSocket-Accept does not match the key")
        return rest

    def drop(self, conn: Connection, code: int) -> None:
        """Close a connection that the server has ended. code: the server's close code."""
        self.close_codes[code] += 1
        self.selector.unregister(conn.sock)
        conn.sock.close()
        conn.open = False
        self.alive -= 1

    def leave(self) -> None:
        # Browsers send this code when a user leaves a page, so servers do not log it as an error.
        frame = client_frame(CLOSE, GOING_AWAY.to_bytes(2, "big"), MASK)
        for conn in self.connections:
            if conn.open:
                conn.send(frame)
        self.poll(time.monotonic_ns() + int(GOODBYE * 1e9))

    def end(self) -> None:
        for conn in self.connections:
            conn.sock.close()
        self.selector.close()

    # Sending.

    def exchange(self) -> tuple[Counts, Counts, bool]:
        """Send during the warm-up and the measurement, then wait for messages in flight.

        Returns the counts at the start and at the end of the measurement, and whether Ctrl-C ended
        the measurement early.
        """
        last: Counts | None = None
        interrupted = False
        self.epoch = time.monotonic_ns()
        self.begin = self.epoch + int(self.load.warmup * 1e9)
        end = self.begin + int(self.load.seconds * 1e9)
        self.sending = True
        self.poll(self.begin)
        first = self.counts()
        try:
            self.poll(end)
            self.sending = False
            last = self.counts()
            self.poll(time.monotonic_ns() + int(DRAIN * 1e9), self.undelivered)
        except KeyboardInterrupt:
            interrupted = True
        return first, last or self.counts(), interrupted

    def counts(self) -> Counts:
        return time.monotonic(), time.thread_time(), self.sent, self.received, self.frames

    def undelivered(self) -> int:
        """Return how many deliveries to open connections are still missing."""
        return sum(max(self.sent - c.received, 0) for c in self.connections if c.open)

    def poll(self, until: int, waiting: Callable[[], int] = lambda: 1) -> None:
        """Send and read until the time `until`, or until `waiting()` is 0 or no client is left."""
        now = ticked = time.monotonic_ns()
        messages = self.received
        while now < until and self.alive and waiting():
            wait = min(until - now, int(TICK * 1e9))
            if self.sending and self.load.rate:
                # The selector would round the wait up to whole milliseconds, and many latencies are
                # shorter than a millisecond; `select` does not round. It accepts only descriptors
                # below 1024. The selector was opened first, so its own descriptor is low enough.
                wait = min(wait, self.send_due(now, self.load.rate))
                select.select([self.selector.fileno()], [], [], max(wait, 0) / 1e9)
                wait = 0
            elif self.sending:
                self.refill()
            for key, events in self.selector.select(wait / 1e9):
                key.data.ready(events)
            now = time.monotonic_ns()
            if now - ticked >= TICK * 1e9:
                speed = (self.received - messages) * 1e9 / (now - ticked)
                ticked, messages = now, self.received
                if self.sending:
                    self.stride = 1 + int(speed / SAMPLES)
                    self.progress((now - self.epoch) / 1e9)

    def send_due(self, now: int, rate: float) -> int:
        """Send up to 1,000 messages that are due; return the nanoseconds until the next is due."""
        for _ in range(1000):
            due = self.epoch + int(self.turn * 1e9 / rate)
            if due > now:
                break
            conn = self.connections[self.turn % self.load.senders]
            if conn.open:
                self.send_message(conn, due)
            self.turn += 1
        return due - now

    def refill(self) -> None:
        """In a closed loop, send until every sender has its full window in flight.

        Called only after all sockets have been read. Otherwise, the server would answer the first
        senders before the last clients had been read.
        """
        for conn in self.connections[: self.load.senders]:
            while conn.open and conn.in_flight < self.load.window:
                self.send_message(conn, time.monotonic_ns())
                conn.in_flight += 1

    def send_message(self, conn: Connection, when: int) -> None:
        """Send a message whose latency counts from the time `when`."""
        conn.send(b"%b%b%012x%b" % (self.head, conn.mark, when - self.epoch, self.padding))
        self.sent += 1


def allow_files(count: int) -> None:
    """Raise the limit on open files to at least `count`. Raises OSError if it cannot be raised."""
    import resource  # noqa: PLC0415 - only POSIX has it

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < count:  # on Linux, RLIM_INFINITY is negative
        raise OSError(
            f"{count - FILES} clients need {count} open files; {hard} are allowed (see ulimit -n)"
        )
    if 0 <= soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
