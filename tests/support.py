"""Shared helpers: the real command in its own process, and a client on a bare socket."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from gochat import Conn, Hub, Server, Settings, Upgrader, make_app, running
from gochat.golang import frames
from gochat.golang.http import Hijacker
from gochat.golang.http.address import listen

#: Seconds to wait for anything, at most. Only a failing test waits that long.
PATIENCE = 30.0

#: The seed for all random choices. Failures print it, and GOCHAT_SEED sets it.
SEED = int(os.environ.get("GOCHAT_SEED", str(time.time_ns() % 1_000_000)))

#: The root of the repository.
ROOT = Path(__file__).resolve().parent.parent

#: An address for servers to listen on, with any free port.
LOCAL = "127.0.0.1:0"

COMMAND = str(Path(sys.executable).with_name("gochat"))

#: The example key of RFC 6455, section 1.3, and its answer.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#: An environment without coverage measurement, which slows a program down.
UNMEASURED = {
    name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")
}

#: The headers of a valid handshake.
HANDSHAKE = (
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
)

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


def wait_until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait until a condition holds; raise AssertionError after PATIENCE.

    Some conditions query a server or a browser, so the pauses between checks grow to 50 ms. They
    add at most a tenth to a wait of over 50 ms.
    """
    begin = time.monotonic()
    while not condition():
        waited = time.monotonic() - begin
        assert waited < PATIENCE, f"never came true: {what or condition}"
        time.sleep(min(max(waited / 10, 0.005), 0.05))


def system_call(thread: threading.Thread) -> str:
    """Return the number of the system call in which a thread sleeps, or "running"."""
    return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0]


def signal_main_thread(number: int) -> None:
    """Send a signal to the main thread while that thread sleeps in a system call.

    If the signal arrived just before the system call, it would not end the call, and Python would
    not run the handler before the end of the call.
    """
    main = threading.main_thread()
    wait_until(lambda: system_call(main) != "running", "a main thread that sleeps")
    signal.pthread_kill(main.ident or 0, number)


def free_port(count: int = 1) -> int:
    """Return a free port, or the first of `count` consecutive free ports.

    Linux assigns ports from 32768 up to connections and to listeners on port 0. The returned port
    is below 32768, so it stays free until a program asks for it.
    """
    while True:
        first = random.SystemRandom().randrange(10_000, 32_000)
        with ExitStack() as stack, suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(listen(f"127.0.0.1:{port}"))
            return first


def accepts(port: int) -> bool:
    """Return whether a program listens on this port of 127.0.0.1."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def make_certificate(path: Path, name: str) -> Path:
    """Make a self-signed certificate and return its path.

    name: such as DNS:example.org or IP:127.0.0.1. The key is written next to the certificate, with
    the suffix .key.
    """
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=test", "-addext", f"subjectAltName={name}"),
            *("-keyout", path.with_suffix(".key"), "-out", path),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return path


@contextmanager
def program(*arguments: str | Path) -> Iterator[int]:
    """Run a program from examples/, yield its port, and end it with Ctrl-C.

    arguments: the arguments for Python.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.match(r"open http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found, process.communicate()
        yield int(found[1])
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@contextmanager
def unmeasured() -> Iterator[None]:
    """Stop coverage from tracing this thread and any new threads during the block.

    Traced Python code takes up to five times as long, even if its coverage is not reported.
    """
    mine, others = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        yield
    finally:
        sys.settrace(mine)
        threading.settrace(others)


@contextmanager
def in_background(target: Callable[[], object], name: str | None = None) -> Iterator[None]:
    """Run a function on a thread during the block. The block must cause it to return."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"a thread is left: {name or target}"


def request(
    headers: Iterable[tuple[str, str]] = HANDSHAKE,
    start: str = "GET /ws HTTP/1.1",
    end: str = "\r\n",
) -> bytes:
    """Return an HTTP request, by default a valid handshake.

    end: the line ending.
    """
    lines = [start, *(f"{name}: {value}" for name, value in headers), "", ""]
    return end.join(lines).encode("latin-1")


def reset_socket(sock: socket.socket) -> None:
    """Close a socket with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """The close code in this close frame, or None."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) > 1 else None


def frame(
    payload: bytes | str = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x01\x02\x03\x04",
) -> bytes:
    """Return a client's frame (RFC 6455, section 5.2), or an unmasked frame if `mask` is None."""
    if isinstance(payload, str):
        payload = payload.encode()
    size = len(payload)
    form = 7 if size < 126 else 16 if size < 65536 else 64
    return raw_frame(fin << 7 | rsv << 4 | opcode, size, form, payload, mask)


def raw_frame(
    first: int, length: int, form: int, payload: bytes, mask: bytes | None = b"\x01\x02\x03\x04"
) -> bytes:
    """Return a frame with this first byte and this length, whatever the payload's length.

    form: the size of the length field in bits: 7, 16 or 64.
    """
    bit = 0x80 if mask is not None else 0
    if form == 7:
        head = bytes([first, bit | length & 0x7F])
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, length & 0xFFFF)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length & (1 << 64) - 1)
    if mask is None:
        return head + payload
    return head + mask + frames.mask(payload, mask)


def cut_frame(data: bytes | bytearray, start: int = 0) -> tuple[Frame, int] | None:
    """Return the server's frame at `start` and where it ends, or None if it is incomplete."""
    begin = start + 2
    if len(data) < begin:
        return None
    first, size = data[start], data[start + 1]
    assert size < 0x80, "a server's frame is not masked"
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < begin + width:
            return None
        size = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    end = begin + size
    if len(data) < end:
        return None
    return Frame(bool(first & 0x80), first & 0x0F, bytes(data[begin:end])), end


class Stream:
    """A socket to read bytes and frames from. Raises EOFError at the end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        sock.settimeout(PATIENCE)

    def fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.buffer += data

    def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self.fill()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def read_until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self.fill()
        data, _, self.buffer = self.buffer.partition(end)
        return bytes(data)

    def read_frame(self) -> Frame:
        while (cut := cut_frame(self.buffer)) is None:
            self.fill()
        got, end = cut
        del self.buffer[:end]
        return got

    def read_to_end(self) -> list[Frame]:
        """Return all frames until the server closes or resets the connection."""
        frames = []
        try:
            while True:
                frames.append(self.read_frame())
        except (EOFError, ConnectionError):
            return frames


def sent_page(name: str, static: Path = ROOT / "static") -> bytes:
    """Return a page as the server sends it, with files inlined and the size limit filled in."""
    original = page = (static / name).read_text()
    for file in static.iterdir():
        link, element = {
            ".css": (f'<link rel="stylesheet" href="{file.name}">\n', "style"),
            ".js": (f'<script src="{file.name}"></script>\n', "script"),
        }.get(file.suffix, (file.name, ""))
        assert original.count(link) == original.count(file.name)
        if element:
            page = page.replace(link, f"<{element}>\n{file.read_text()}</{element}>\n")
    return page.replace('size" content=""', 'size" content="512"').encode()


def handshake_environ(**changes: Any) -> dict[str, Any]:
    """Return the environ of a valid handshake, with these changes. None removes a key.

    Its hijacker is only a placeholder, for handshakes that are refused.
    """
    environ = {
        "gochat.hijacker": object(),
        "REQUEST_METHOD": "GET",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": 5000,
        "HTTP_HOST": "chat.example:8080",
        "HTTP_CONNECTION": "keep-alive, Upgrade",
        "HTTP_UPGRADE": "WebSocket",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "HTTP_SEC_WEBSOCKET_KEY": KEY,
    }
    environ |= changes
    return {key: value for key, value in environ.items() if value is not None}


@contextmanager
def connected(
    upgrader: Upgrader | None = None, buffered: bytes = b"", *, small: bool = False, **changes: Any
) -> Iterator[tuple[Conn, Stream]]:
    """Yield a Conn and its peer, on a socket pair.

    buffered: data that arrived with the handshake. small: whether the sockets hold only a few KB.
    changes: see handshake_environ.
    """
    ours, theirs = socket.socketpair()
    if small:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with ours, theirs:
        environ = handshake_environ(**changes) | {
            "gochat.hijacker": Hijacker(ours, lambda: buffered)
        }
        conn = (upgrader or Upgrader(utf8_only=False)).upgrade(environ)
        peer = Stream(theirs)
        peer.read_until(b"\r\n\r\n")
        conn.set_read_deadline(time.monotonic() + PATIENCE)
        conn.set_write_deadline(time.monotonic() + PATIENCE)
        yield conn, peer


class Response(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Peer(Stream):
    """A WebSocket client that sends exactly what the test says."""

    def __init__(
        self, port: int, host: str = "127.0.0.1", *, receive_buffer: int = 0, source: str = ""
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family)
        if receive_buffer:  # before connect, which announces the window
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        super().__init__(sock)
        if source:
            sock.bind((source, 0))
        sock.connect((host, port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @property
    def addr(self) -> str:
        """The client's address, as in the names of the server's threads."""
        host, port = self.sock.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def request(
        self, path: str = "/", headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Response:
        fields = {"Host": self.host} | dict(headers or {})
        self.sock.sendall(request(fields.items(), f"{method} {path} HTTP/1.1"))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        status, *lines = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        size = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        return Response(int(status.split()[1]), headers, self.read(size))

    def open(
        self,
        path: str = "/ws",
        headers: Mapping[str, str | None] | None = None,
        then: bytes = b"",
    ) -> Response:
        """Send a handshake, followed by `then` in the same packet; return the response.

        headers: headers to change or add. None removes one.
        """
        fields = {**dict(HANDSHAKE), "Host": self.host, **(headers or {})}
        present = [(name, value) for name, value in fields.items() if value is not None]
        self.sock.sendall(request(present, f"GET {path} HTTP/1.1") + then)
        return self.response()

    def send(self, payload: bytes | str = b"", opcode: int = TEXT) -> None:
        self.sock.sendall(frame(payload, opcode))

    def messages(self, count: int) -> list[str]:
        """Return the next `count` messages, in however many frames they come. Answers pings."""
        messages: list[str] = []
        while len(messages) < count:
            messages += self.read_messages()
        assert len(messages) == count, messages
        return messages

    def read_messages(self) -> list[str]:
        """Return the messages in the next text frame. Answers pings before it."""
        while (got := self.read_frame()).opcode == PING:
            self.send(got.payload, PONG)
        assert got.opcode == TEXT, got
        return got.payload.decode().split("\n")


#: Size of the messages of say_long, in bytes.
LONG_MESSAGE = 60_000


def deaf(port: int, source: str = "") -> Peer:
    """Return a registered client that does not read and has a small receive buffer.

    It has received a pong, so its read pump runs, and that starts only after the hub has registered
    the client.
    """
    peer = Peer(port, receive_buffer=4096, source=source)
    assert peer.open().status == 101
    peer.sock.sendall(frame(b"", PING))
    while peer.read_frame().opcode != PONG:
        pass
    return peer


def say_long(speaker: Peer, count: int) -> None:
    """Send `count` long messages, and read each one back before the next.

    150 of them are more than the system can buffer for a deaf peer.
    """
    message = frame(b"x" * LONG_MESSAGE, mask=b"\0\0\0\0")
    for _ in range(count):
        speaker.sock.sendall(message)
        assert len(speaker.messages(1)[0]) == LONG_MESSAGE


def effort(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Return the CPU time of some work, as a multiple of a fixed loop's.

    The loop takes about 10 ms on a machine from 2024. A slow or busy machine slows down both the
    work and the loop, so a bound on the result holds on any machine.

    clock: returns the CPU time of the process that does the work, by default this one.
    """

    def spent(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
        begin = clock()
        work()
        return clock() - begin

    def loop() -> None:
        for _ in range(500_000):
            pass

    before = spent(loop)
    cost = spent(work, clock)
    return cost / min(before, spent(loop))


def is_refused(port: int) -> bool:
    """Return whether a port refuses connections. A reset by a closing listener does not count."""
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


def is_one_line(text: str, what: str = "") -> bool:
    """Return whether the text is one line of the command's output and contains `what`."""
    return (
        text.startswith("gochat")
        and text.endswith("\n")
        and text[:-1].isprintable()
        and what in text
    )


def parted(peer: Peer) -> Frame:
    """Read the server's final close frame, answer it, and return it."""
    while True:
        got = peer.read_frame()
        if got.opcode == CLOSE:
            break
        assert got.opcode == TEXT
    peer.send(got.payload, CLOSE)
    assert peer.read_to_end() == []
    return got


def join(port: int) -> Peer:
    """Return a registered client that has received its own first message.

    Earlier messages are dropped; later ones can still be read.
    """
    peer = Peer(port)
    assert peer.open().status == 101
    hello = f"hello from {peer.addr}"
    peer.send(hello)
    messages: list[str] = []
    while hello not in messages:
        messages = peer.read_messages()
    if behind := messages[messages.index(hello) + 1 :]:
        peer.buffer[:0] = frame("\n".join(behind), mask=None)
    return peer


def activated(descriptor: int, command: Sequence[str], count: str = "1", *more: int) -> list[str]:
    """Return a shell command that passes a socket to `command` like systemd: see sd_listen_fds(3).

    count: the number of sockets to announce. more: descriptors of further sockets.
    """
    moved = " ".join(f"{number}<&{given}" for number, given in enumerate([descriptor, *more], 3))
    script = f'exec {moved}; LISTEN_PID=$$ LISTEN_FDS={count} exec "$@"'
    return ["bash", "-c", script, "bash", *command]


def patch() -> str:
    """Return Python code that applies gevent's patches if GOCHAT_RUNTIME is greenlets."""
    greenlets = os.environ.get("GOCHAT_RUNTIME") == "greenlets"
    return "from gevent import monkey; monkey.patch_all(queue=False)" if greenlets else ""


def command(fault: str = "") -> list[str]:
    """Return the command that runs gochat on this Python.

    fault: Python code that the process runs first, to break something.
    """
    if not fault:
        return [str(Path(sys.executable).with_name("gochat"))]
    code = f"{textwrap.dedent(fault)}\nimport sys, gochat.ops.command as c\nsys.exit(c.main())"
    return [sys.executable, "-c", f"{patch()}\n{code}"]


def finished(
    command: Sequence[str], pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,  # it may compute for seconds
        check=False,
    )


@contextmanager
def logging_to(stderr: int | IO[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run `gochat serve` with this stderr; yield the process and its port.

    The block must terminate the process.
    """
    with listen(LOCAL) as listener:
        process = subprocess.Popen(
            activated(listener.fileno(), [COMMAND, "serve"]),
            pass_fds=[listener.fileno()],
            stderr=stderr,
        )
        try:
            yield process, listener.getsockname()[1]
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait()


class Gochat:
    """The real command, `gochat serve`, in its own process.

    flags: the arguments after `serve`. Without `--addr`, a free port of 127.0.0.1 is used.

    fault: Python code that the process runs first, to break something.

    listener: one or more sockets to pass as systemd does, instead of an address.

    measured: whether to measure coverage, in tests marked `measured`.
    """

    def __init__(
        self,
        *flags: str,
        fault: str = "",
        listener: socket.socket | Sequence[socket.socket] = (),
        measured: bool = True,
    ) -> None:
        listeners = [listener] if isinstance(listener, socket.socket) else listener
        descriptors = [each.fileno() for each in listeners]
        if "--addr" not in flags and not descriptors:
            flags = ("--addr", LOCAL, *flags)
        args = [*command(fault), "serve", *flags]
        if descriptors:
            args = activated(descriptors[0], args, str(len(descriptors)), *descriptors[1:])
        self.process = subprocess.Popen(
            args,
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=(os.environ if measured else UNMEASURED)
            | {"PYTHONDEVMODE": "", "PYTHONUNBUFFERED": "1"},
        )
        #: The lines of the log.
        self.lines: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, name="log of gochat")
        self._reader.start()
        self._listening.wait(PATIENCE)
        found = re.search(r"listening on (\S+):(\d+), open (\S+)$", "\n".join(self.lines), re.M)
        if not found:
            self.kill()
            raise AssertionError(f"gochat does not serve: {self.lines}")
        self.port = int(found[2])
        #: The URL in the log, without the trailing slash.
        self.url = found[3].rstrip("/")
        #: "greenlets" or "threads".
        self.runtime = "greenlets" if self.logged("running on greenlets") else "threads"

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if "listening on" in line:
                self._listening.set()
        self._listening.set()

    def __enter__(self) -> Gochat:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the process to end, and return its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def pause(self) -> None:
        """Stop the process with SIGSTOP; return once all its threads have stopped."""
        self.process.send_signal(signal.SIGSTOP)

        def paused() -> bool:
            stats = Path(f"/proc/{self.process.pid}/task").glob("*/stat")
            return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

        wait_until(paused, "a stopped process")

    def kill(self) -> None:
        """End the process as a crash would."""
        self.process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the process to end; return its exit status. By then, `lines` is complete."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join()
            assert self.process.stderr is not None
            self.process.stderr.close()
        return status

    def logged(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def threads(self) -> list[str]:
        """Return the names under which the system knows the process's threads."""
        names = []
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
                names.append((task / "comm").read_text().strip())
        return names

    def descriptors(self) -> int:
        """Return the number of open file descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def sockets(self) -> int:
        """Return the number of open sockets."""
        found = 0
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # the descriptor has just been closed
                found += descriptor.readlink().name.startswith("socket:")
        return found

    def memory(self) -> int:
        """Return the resident memory of the process, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


class Room:
    """The chat in the test's own process, for tests that need its threads or its hub."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        allowed_origins: Sequence[str] = (),
        read_header_timeout: float = 3.0,
        addr: str = LOCAL,
    ) -> None:
        self.hub = Hub()
        upgrader = Upgrader(allowed_origins=allowed_origins)
        app = make_app(self.hub, settings=settings, upgrader=upgrader)
        self.server = Server(addr, app, read_header_timeout=read_header_timeout)
        self.port = self.server.port
        self._stack = ExitStack()
        self._stack.enter_context(running(self.server, self.hub))
        self.server.start()

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def threads(self) -> list[str]:
        """Return the sorted names of the threads that serve clients."""
        kinds = ("serve", "readPump", "writePump")
        return sorted(t.name for t in threading.enumerate() if t.name.startswith(kinds))
