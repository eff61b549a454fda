"""`gochat.running`: how a chat in a user's program starts, runs and ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gochat import Conn, Hub, HubError, Server, Upgrader, make_app, running

from .loop import Frames, Link, Loop
from .redis_support import Redis
from .support import (
    CLOSE,
    PATIENCE,
    TEXT,
    Gochat,
    Peer,
    command,
    finished,
    frame,
    is_refused,
    join,
    parted,
    request,
    wait_until,
)

LOCAL = "127.0.0.1:0"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Check that no thread outlives the test."""
    threads = threading.enumerate()
    yield
    wait_until(lambda: threading.enumerate() == threads, "the threads from before")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as server:
        yield server


def error_of(function: Callable[[], object]) -> Exception | None:
    """Call a function; return the exception it raises, or None."""
    try:
        function()
    except Exception as error:
        return error
    return None


def test_the_end_of_the_block_is_the_end_of_the_chat() -> None:
    """When the block ends, all clients get 1001, and no new clients are accepted."""
    hubs = {"/ws": Hub(), "/ws/other": Hub()}
    apps = {path: make_app(hub) for path, hub in hubs.items()}

    def app(environ, start_response):  # type: ignore[no-untyped-def]
        path, environ["PATH_INFO"] = environ["PATH_INFO"], "/ws"
        return apps[path](environ, start_response)

    closers = []
    with running(Server(LOCAL, app), *hubs.values()) as server:
        server.start()
        peers = [Peer(server.port) for _ in hubs]
        for peer, path in zip(peers, hubs, strict=True):
            assert peer.open(path).status == 101
            peer.send(path)
            assert peer.messages(1) == [path]
            closers.append(threading.Thread(target=lambda p=peer: codes.append(parted(p).code)))
        codes: list[int | None] = []
        for closer in closers:
            closer.start()
    for closer in closers:
        closer.join(PATIENCE)
    assert codes == [1001, 1001]
    assert is_refused(server.port)
    for peer in peers:
        peer.sock.close()


def test_an_exception_in_the_block() -> None:
    """An exception in the block, such as Ctrl-C, ends the chat cleanly."""
    hub = Hub()
    server = Server(LOCAL, make_app(hub))

    def chat() -> None:
        with running(server, hub):
            server.start()
            peers.append(join(server.port))
            closer.start()
            raise KeyboardInterrupt

    peers: list[Peer] = []
    codes: list[int | None] = []
    closer = threading.Thread(target=lambda: codes.append(parted(peers[0]).code))
    with pytest.raises(KeyboardInterrupt):
        chat()
    closer.join(PATIENCE)
    peers[0].sock.close()
    assert codes == [1001]
    assert is_refused(server.port)


def test_a_chat_that_never_accepts() -> None:
    hub = Hub()
    with running(Server(LOCAL, make_app(hub)), hub) as server:
        pass
    assert is_refused(server.port)


def test_a_hub_that_fails() -> None:
    """If a hub fails, its clients get 1011, and the block raises HubError."""

    class Failing(Hub):
        def run(self) -> None:
            client, _ = self.register.recv()
            assert client is not None
            self.clients[client] = True
            self.broadcast.recv()
            raise LookupError("a mistake")

    hub = Failing()
    server = Server(LOCAL, make_app(hub))

    def chat() -> None:
        with running(server, hub):
            server.serve_forever()

    chatting = threading.Thread(target=lambda: errors.append(error_of(chat)))
    errors: list[Exception | None] = []
    chatting.start()
    with Peer(server.port) as peer:
        assert peer.open().status == 101
        peer.send("x")
        peer.send("the hub takes no more")
        assert parted(peer).code == 1011
    chatting.join(PATIENCE)
    (error,) = errors
    assert isinstance(error, HubError)
    assert str(error) == "the hub has failed"


def test_a_hub_that_does_not_answer() -> None:
    """A stuck hub delays shutdown only until the timeout. The block raises HubError."""
    release = threading.Event()

    class Stuck(Hub):
        def run(self) -> None:
            release.wait()

    server = Server(LOCAL, make_app(Hub()))

    def chat() -> None:
        with running(server, Stuck(), timeout=0.1):
            server.start()

    assert str(error_of(chat)) == "the hub does not answer"
    assert is_refused(server.port)
    release.set()


def test_a_hub_that_hears_the_farewell_and_is_stuck() -> None:
    """A hub that gets stuck during shutdown delays it only until the timeout.

    At the timeout, gochat ends the pumps that wait for the hub, and disconnects their clients.
    """
    release, stuck = threading.Event(), threading.Event()

    class Stuck(Hub):
        def run(self) -> None:
            client, _ = self.register.recv()
            assert client is not None
            self.clients[client] = True
            self.stop.recv()
            stuck.set()
            release.wait()

    hub = Stuck()
    server = Server(LOCAL, make_app(hub))

    def chat() -> None:
        with running(server, hub, timeout=0.1):
            server.start()
            peer = peers[0]
            assert peer.open().status == 101
            peer.send("nobody takes this")

    peers = [Peer(server.port)]
    with peers[0] as peer:
        assert str(error_of(chat)) == "the hub does not answer"
        assert stuck.is_set()
        peer.read_to_end()
        wait_until(lambda: [t.name for t in threading.enumerate() if "Pump" in t.name] == [])
    release.set()


def test_a_read_pump_that_comes_late(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blocked read pump does not keep shutdown from finishing. The log names it."""
    monkeypatch.setattr("gochat.golang.http.server._CUT_WAIT", 0.1)
    caplog.set_level("INFO")
    release, held = threading.Event(), threading.Event()

    class Slow(Conn):
        def read_message(self) -> tuple[int, bytes]:
            message = super().read_message()
            held.set()
            release.wait()
            return message

    class SlowUpgrader(Upgrader):
        def new_conn(self, _, sock, buffered, remote_addr):  # type: ignore[no-untyped-def]
            return Slow(sock, buffered, remote_addr, self.options)

    hub = Hub()
    server = Server(LOCAL, make_app(hub, upgrader=SlowUpgrader()))
    with running(server, hub, timeout=0.1):
        server.start()
        peer = Peer(server.port)
        assert peer.open().status == 101
        peer.send("hello")
        assert held.wait(PATIENCE)
    name = f"readPump {peer.addr}"
    wait_until(lambda: [t.name for t in threading.enumerate() if "Pump" in t.name] == [name])
    assert caplog.messages[-1] == f"http: threads that do not end: 1 ({name})"
    assert [got.code for got in peer.read_to_end()] == [1001]
    release.set()
    wait_until(lambda: [t.name for t in threading.enumerate() if "Pump" in t.name] == [])
    peer.sock.close()
    assert "Traceback" not in caplog.text


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one hub's thread cannot be started, the other hub and the server are stopped."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def start_once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    server = Server(LOCAL, make_app(Hub()))
    monkeypatch.setattr(threading.Thread, "start", start_once)

    def chat() -> None:
        with running(server, Hub(), Hub()):
            raise AssertionError("the block has begun")

    assert isinstance(error_of(chat), HubError)
    assert not started[0].is_alive()
    assert is_refused(server.port)


def test_a_hub_that_ends_by_itself() -> None:
    """A hub that returns before shutdown has failed."""

    class Short(Hub):
        def run(self) -> None:
            self.broadcast.recv()

    hub = Short()
    server = Server(LOCAL, make_app(hub))

    def chat() -> None:
        with running(server, hub):
            hub.broadcast.send(b"that is all")
            server.serve_forever()

    assert str(error_of(chat)) == "the hub has failed"
    assert is_refused(server.port)


def test_a_hub_runs_once() -> None:
    """A hub that has already run, or that is passed twice, is refused."""
    hub = Hub()
    with running(Server(LOCAL, make_app(hub)), hub):
        pass
    again = Server(LOCAL, make_app(hub))

    def chat() -> None:
        with running(again, hub):
            again.serve_forever()

    assert isinstance(error_of(chat), HubError)
    assert is_refused(again.port)

    def twice() -> None:
        with running(again, Hub(), *[Hub()] * 2):
            raise AssertionError("the block has begun")

    assert isinstance(error_of(twice), ValueError)


def test_a_hub_in_place_of_the_server() -> None:
    """Arguments in the wrong order are an error before any thread starts."""
    hub = Hub()
    with Server(LOCAL, make_app(hub)) as server:
        chat = running(hub, server)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"running\(server, hub\) needs a Server, not <.*Hub"):
            chat.__enter__()
        server.shutdown()


def test_no_time_to_part() -> None:
    hub = Hub()
    with running(Server(LOCAL, make_app(hub)), hub, timeout=0) as server:
        server.start()
        with join(server.port):
            pass
    assert is_refused(server.port)


def test_a_slow_hub_takes_no_time_from_another() -> None:
    release = threading.Event()

    class Slow(Hub):
        def run(self) -> None:
            release.wait()
            super().run()

    slow, hub = Slow(), Hub()
    server = Server(LOCAL, make_app(hub))
    codes: list[int | None] = []

    def chat() -> None:
        with running(server, slow, hub, timeout=2):
            server.start()
            peers.append(join(server.port))
            closer.start()

    peers: list[Peer] = []
    closer = threading.Thread(target=lambda: codes.append(parted(peers[0]).code))
    assert str(error_of(chat)) == "the hub does not answer"
    closer.join(PATIENCE)
    peers[0].sock.close()
    assert codes == [1001]
    release.set()  # lets the slow hub's thread end


def test_ctrl_c_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    server = Server(LOCAL, make_app(hub))
    shutdown = server.shutdown

    def interrupted(timeout: float = 0.0) -> None:
        shutdown(timeout)
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "shutdown", interrupted)

    def chat() -> None:
        with running(server, hub):
            pass

    with pytest.raises(KeyboardInterrupt):
        chat()


def test_a_signal_that_the_main_thread_does_not_get() -> None:
    """Ctrl-C ends the program even if another thread receives the signal."""
    code = """
        import signal, sys, threading
        import gochat

        hub = gochat.Hub()
        server = gochat.Server("127.0.0.1:0", gochat.make_app(hub))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

        def ready():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            print("ready", flush=True)
            threading.Event().wait()

        accept = server._accept

        def accepting(*args):
            threading.Thread(target=ready, daemon=True).start()
            accept(*args)

        server._accept = accepting
        try:
            with gochat.running(server, hub):
                server.serve_forever()
        except KeyboardInterrupt:
            print("parted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE)[0] == "parted\n"
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0


def test_handlers_of_signals_come_back(redis: Redis) -> None:
    code = """
        import os, signal, sys, threading
        from gochat.ops import command

        numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]

        def own(*_):
            raise AssertionError("not while the chat runs")

        for number in numbers:
            signal.signal(number, own)
        # Until the command has set its handlers, the signal would go to the program's own.
        end = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
        if "GOCHAT_CHILD" not in os.environ:
            from gochat.ops import deploy, processes
            deploy.notify = processes.notify = lambda state: state == "READY=1" and end()
        status = command.main(sys.argv[1:])
        assert [signal.getsignal(number) for number in numbers] == [own] * 3
        assert signal.set_wakeup_fd(-1) == -1
        sys.exit(status)
    """
    for flags in ((), ("--processes=2", "--relay", redis.url)):
        done = finished([*command(code), "serve", "--addr", LOCAL, *flags])
        assert done.returncode == 0, done.stderr


# Shutdown with a relay.


class Talker(Link):
    """A client that talks without pause and records the close code."""

    def __init__(self, loop: Loop, port: int, number: int) -> None:
        self.number = number
        self.said = 0
        self.frames: Frames | None = None
        self.log: list[bytes] = []
        self.code: int | None = None
        super().__init__(loop, port, send_buffer=4096)
        self.send(request())

    def got(self, data: bytes) -> None:
        if self.frames is None:
            head, _, data = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.frames = Frames()
        for got in self.frames.take(data):
            assert self.code is None
            if got.opcode == TEXT:
                self.log += got.payload.split(b"\n")
            elif got.opcode == CLOSE:
                self.code = got.code
                self.send(frame(got.payload, CLOSE))

    def ended(self, reset: bool) -> None:
        self.was_reset = reset

    def talk(self) -> None:
        """Send a message, unless one is still unsent."""
        if self.frames is not None and self.code is None and not self._unsent:
            self.said += 1
            self.send(frame(b"%d: %d %s" % (self.number, self.said, b"x" * 50)))


def talk_until_the_end(
    chat: Gochat, count: int, at: Callable[[list[Talker]], object]
) -> list[Talker]:
    """Run talkers until the chat has disconnected them all.

    at: called once each talker has over 100 messages.
    """
    loop = Loop()
    with closing(loop):
        talkers = [Talker(loop, chat.port, number) for number in range(count)]

        def turn() -> None:
            for talker in talkers:
                if not talker.closed:
                    talker.talk()
            loop.after(0, turn)

        turn()
        loop.run_until(lambda: all(len(talker.log) > 100 for talker in talkers), "a busy room")
        at(talkers)
        loop.run_until(lambda: all(talker.closed for talker in talkers), "the end of all")
    return talkers


def test_the_end_of_a_relay_in_the_middle_of_full_load(redis: Redis) -> None:
    """With a relay, all clients get all queued messages in the same order, then 1001."""
    flags = ("--relay", redis.url, "--send-buffer=100000", "--shutdown-timeout=20")
    with Gochat(*flags) as chat:
        talkers = talk_until_the_end(chat, 120, lambda _: chat.process.terminate())
        assert chat.wait() == 0
    assert [talker.code for talker in talkers] == [1001] * 120
    longest = max((talker.log for talker in talkers), key=len)
    assert all(talker.log == longest[-len(talker.log) :] for talker in talkers)


@pytest.mark.parametrize("lost", [True, False])
def test_the_end_of_a_relay_without_redis(redis: Redis, lost: bool) -> None:
    """A client whose read pump is waiting for Redis still receives the last frames.

    lost: whether the chat ends because Redis is away for too long, not on SIGTERM.
    """

    def fail(_: list[Talker]) -> None:
        redis.kill()
        if not lost:
            wait_until(lambda: chat.logged("relay in: ") or chat.logged("relay out: "))
            chat.process.terminate()

    flags = ("--relay", redis.url, "--send-buffer=100000", "--shutdown-timeout=20")
    with Gochat(*flags, f"--relay-timeout={1 if lost else 60}") as chat:
        talkers = talk_until_the_end(chat, 60, fail)
        assert chat.wait() == lost
    assert [talker.code for talker in talkers] == [1013 if lost else 1001] * 60


def test_an_idle_client_takes_little() -> None:
    """An idle client takes at most 23 KB of memory on greenlets and 46 KB on threads.

    The limits are for Python 3.11. Other versions may use 1.4 times as much.
    """
    with Gochat(measured=False) as gochat, ExitStack() as stack:

        def let_in(count: int) -> int:
            for _ in range(count):
                peer = stack.enter_context(Peer(gochat.port))
                peer.open()
            peer.send("the pumps of all clients have begun")
            peer.messages(1)
            return gochat.memory()

        before = let_in(100)
        each = (let_in(500) - before) / 500
    if sys.version_info[:2] != (3, 11):
        each /= 1.4
    assert each < (23_000 if gochat.runtime == "greenlets" else 46_000)
