"""The choice between threads and greenlets, and programs on greenlets.

tests/greenlets.py runs other test files on greenlets.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from gochat.ops.greenlets import start_again

from .greenlets import PATCHED, PLAIN
from .support import COMMAND, LOCAL, PATIENCE, Gochat, finished, join, wait_until
from .test_view import Viewed

PATCH = "from gevent import monkey; monkey.patch_all(queue=False)"
#: Prints the runtime and the modules that define its channel and turns.
SHOW = (
    "from gochat.golang import channel, runtime; from gochat.golang.turns import turns;"
    " print(runtime.NAME, channel.Channel.__module__, type(turns).__module__)"
)
REFUSED = "needs --runtime threads; see docs/run/runtimes.md"


def test_threads_unless_patched() -> None:
    program = f"import sys; {SHOW}; print('gevent' in sys.modules)"
    done = finished([sys.executable, "-c", program])
    names = [f"gochat.golang.runtime.threads.{name}" for name in ("channel", "turns")]
    assert done.stdout.split() == ["threads", *names, "False"], done.stderr


def test_greenlets_if_patched() -> None:
    done = finished([sys.executable, "-c", f"{PATCH}; {SHOW}"])
    names = [f"gochat.golang.runtime.greenlets.{name}" for name in ("channel", "turns")]
    assert done.stdout.split() == ["greenlets", *names], done.stderr


def test_a_thread_keeps_no_stack_of_its_start() -> None:
    """A thread on greenlets does not keep the stack of the greenlet that started it.

    By default, gevent's own greenlets keep that stack.
    """
    program = f"""{PATCH}
        from gevent import getcurrent
        from gochat.golang.runtime import Thread
        thread = Thread(lambda: print(hasattr(getcurrent(), "spawning_stack")), "thread")
        thread.start()
        thread.join()
    """.replace("        ", "")
    done = finished([sys.executable, "-c", program])
    assert done.stdout.split() == ["False"], done.stderr


@pytest.mark.parametrize(
    ("program", "error"),
    [
        (
            "from gevent import monkey; monkey.patch_all(); import gochat",
            "gevent has patched queue, too: call gevent.monkey.patch_all(queue=False)",
        ),
        (
            "from gevent import monkey; monkey.patch_thread(); import gochat",
            "gevent has not patched socket, select, time, subprocess:"
            " call gevent.monkey.patch_all(queue=False)",
        ),
        (
            "from gevent import monkey; monkey.patch_all(thread=False, queue=False); import gochat",
            "gevent has not patched threading: call gevent.monkey.patch_all(queue=False)",
        ),
        (
            f"{PATCH}; import gevent; gevent.__version__ = '24.10.3'; import gochat",
            "gevent 24.10.3 is too old: install 24.11 or later",
        ),
        (
            f"import gochat; {PATCH}; gochat.Server('127.0.0.1:0', lambda *_: [])",
            "gevent has patched this process after gochat was imported: call"
            " gevent.monkey.patch_all(queue=False) in the program's first line",
        ),
    ],
)
def test_patched_in_another_way(program: str, error: str) -> None:
    """If gevent has patched too much, too little or too late, one line says so."""
    done = finished([sys.executable, "-c", program])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"gochat.golang.runtime.PatchError: {error}"


def test_code_that_stops_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEVENT_MONITOR_THREAD_ENABLE", "true")
    program = f"""
        {PATCH}
        import threading, time
        from gevent import events
        reports = []
        def listen(event):
            if isinstance(event, events.EventLoopBlocked):
                reports.append("".join(event.info))
        events.subscribers.append(listen)
        def compute():
            end = time.monotonic() + {PATIENCE}
            while not reports and time.monotonic() < end:
                pass
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        print(*reports)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert re.search("appears to be blocked.*in compute", done.stdout, re.DOTALL)


def test_ctrl_c_while_a_client_runs() -> None:
    """Ctrl-C ends the program even while another greenlet is running."""
    program = f"""
        {PATCH}
        import gochat, os, signal, threading, urllib.request
        from contextlib import suppress
        def app(environ, start_response):
            os.kill(os.getpid(), signal.SIGINT)
            start_response("204 No Content", [])
            return []
        server = gochat.Server("127.0.0.1:0", app)
        with suppress(KeyboardInterrupt), gochat.running(server, gochat.Hub()):
            threading.Thread(target=urllib.request.urlopen, args=(server.url,), daemon=True).start()
            server.serve_forever()
        print("end", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("end True\n", "")


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("in_turn", [False, True])
def test_ctrl_c_inside_a_send(capacity: int, in_turn: bool) -> None:
    """Ctrl-C at any step of a send raises one exception, in the sender. Later values arrive."""
    program = f"""
        {PATCH}
        import gevent, signal, sys
        from gochat import Channel
        from gochat.golang.runtime import greenlets, sigint_to_caller
        main, steps = gevent.getcurrent(), 0
        folder, signals = greenlets.__path__[0], greenlets.signals.__file__
        def trace(frame, event, _):
            code = frame.f_code.co_filename
            if gevent.getcurrent() is main and code.startswith(folder) and code != signals:
                frame.f_trace, frame.f_trace_opcodes = local, True
                return local
        def local(frame, event, _):
            global left
            if event == "opcode" and gevent.getcurrent() is main:
                left -= 1
                if left == 0:
                    signal.raise_signal(signal.SIGINT)
            return local
        def receive(channel, received):
            for value in channel:
                received.append(value)
        sys._getframe().f_trace_opcodes = True  # or Python 3.12 skips opcodes
        while True:
            steps += 1
            left, interrupts, received = steps, 0, []
            channel = Channel({capacity}, in_turn={in_turn})
            receiver = gevent.spawn(receive, channel, received)
            gevent.sleep(0)
            with sigint_to_caller():
                sys.settrace(trace)
                try:
                    channel.send(1)
                except KeyboardInterrupt:
                    interrupts += 1
                sys.settrace(None)
                try:
                    gevent.sleep(0)
                except KeyboardInterrupt:
                    interrupts += 1
                gevent.spawn(channel.send, "last").join(5)
                with gevent.Timeout(20, False):
                    while received[-1:] != ["last"]:
                        gevent.sleep(0)
                assert received[-1:] == ["last"], (steps, received)
                channel.close()
                receiver.join(5)
                if left > 0:
                    break
                assert interrupts == 1, (steps, interrupts)
        print(steps > 50)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_lock_whose_next_owner_is_killed() -> None:
    program = f"""
        {PATCH}
        import gevent
        from gochat.golang.runtime import RLock
        lock, owners = RLock(), []
        def take(name):
            with lock:
                owners.append(name)
        with lock:
            first, second = gevent.spawn(take, "first"), gevent.spawn(take, "second")
            gevent.sleep(0)
            first.kill(block=False)  # it ends only after the release has woken it
        gevent.joinall([first, second], timeout=5)
        print(*owners)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("second\n", "")


def test_a_signal_handler_that_sends() -> None:
    """A signal handler can call try_send at any moment, and each value is received once."""
    program = f"""
        {PATCH}
        import gevent, signal, time
        from gochat import Channel, select
        pumps = [Channel(50, in_turn=True) for _ in range(4)]
        channels = [*pumps, Channel(50)]
        sent, received, signals = [0] * 5, [0] * 5, 0
        def send(*_):
            global signals
            signals += 1
            for number, channel in enumerate(channels):
                if channel.try_send(1):
                    sent[number] += 1
        def receive(number, *others):
            while True:
                end = time.monotonic() + 20
                channel, value, ok = select(channels[number], *others, deadline=end)
                received[number] += value + sum(channels[number].drain())
        for number in range(5):
            gevent.spawn(receive, number, *([Channel()] if number == 4 else []))
        gevent.sleep(0)
        signal.signal(signal.SIGALRM, send)
        end = time.monotonic() + 20
        while signals < 2000 and time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
            for _ in range(100):
                for number in range(4):
                    if pumps[number].try_send(1):
                        sent[number] += 1
                gevent.sleep(0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            while received != sent and time.monotonic() < end:
                gevent.sleep(1e-3)
        print(received == sent)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("receive", ["drain", "take"])
@pytest.mark.parametrize("channel", ["0", "1", "0, in_turn=True", "2, in_turn=True"])
def test_a_signal_handler_that_closes(channel: str, receive: str) -> None:
    """If a signal handler closes the channel during a receive, each value is received or refused.

    Python may run a signal handler when a function starts, after a call, and at the end of each
    pass of a loop. Trace and profile functions close the channel at each of these points in turn.
    """
    program = f"""
        {PATCH}
        import dis, gevent, sys
        from itertools import pairwise
        from gochat import Channel, ClosedChannelError
        from gochat.golang.runtime.greenlets import channel as module
        def take(channel):
            value, ok = channel.recv()
            return [value] * ok
        def drain(channel):
            return channel.drain()
        def close_at(number):
            channel, sent, steps = Channel({channel}), [], 0
            def send(value):
                try:
                    channel.send(value)
                except ClosedChannelError:
                    return
                sent.append(value)
            senders = [gevent.spawn(send, value) for value in range(4)]
            gevent.sleep(0)
            def step():
                nonlocal steps
                steps += 1
                if steps == number:
                    channel.close()
            def handle(frame, event, _):
                if event in ("call", "c_return") and frame.f_code.co_filename == module.__file__:
                    step()
            def trace(frame, event, _):
                if frame.f_code.co_filename != module.__file__:
                    return None
                offsets = [each.offset for each in dis.get_instructions(frame.f_code)]
                follows, last = dict(pairwise(offsets)), None
                def local(frame, event, _):
                    nonlocal last
                    if event == "opcode":
                        if last is not None and follows.get(last) != frame.f_lasti:
                            step()
                        last = frame.f_lasti
                    return local
                frame.f_trace, frame.f_trace_opcodes = local, True
                return local
            sys._getframe().f_trace_opcodes = True  # or Python 3.12 skips opcodes
            sys.setprofile(handle)
            sys.settrace(trace)
            got = {receive}(channel)
            sys.settrace(None)
            sys.setprofile(None)
            if steps < number:
                channel.close()
            got += channel
            gevent.joinall(senders)
            assert got == sorted(got) == sorted(sent), (number, got, sent)
            return steps >= number
        number = 1
        while close_at(number):
            number += 1
        print(number > 2)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_receive_that_ctrl_c_interrupts() -> None:
    """Interrupting a receive raises an exception in its greenlet and does not block the others."""
    program = f"""
        {PATCH}
        import gevent, signal, time
        from gochat import Channel, select
        main, armed, interrupts, rounds = gevent.getcurrent(), False, 0, 0
        class Interrupt(BaseException):
            pass
        def handle(*_):
            global armed, interrupts
            if armed and gevent.getcurrent() is main:
                armed = False
                interrupts += 1
                raise Interrupt
        there, back, mine = Channel(), Channel(), Channel(1)
        def serve():
            global rounds
            while True:
                there.send(1)
                back.recv()
                rounds += 1
                mine.try_send(1)
        def answer():
            for value in there:
                back.send(value)
        gevent.spawn(serve), gevent.spawn(answer)
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
        end = time.monotonic() + 20
        while interrupts < 1000 and time.monotonic() < end:
            try:
                armed = True
                select(mine)
                armed = False
            except Interrupt:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        before = rounds
        while rounds < before + 10 and time.monotonic() < end:
            gevent.sleep(1e-3)
        print(rounds > before)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_no_timer_is_left() -> None:
    """A pump's timer is removed when its channel closes or the pump ends."""
    program = f"""
        {PATCH}
        import gc, gevent, time
        from gochat import Channel, select
        from gochat.golang.runtime.greenlets.turns import TurnWaiter
        channels = [Channel(1, in_turn=True) for _ in range(2)]
        ping = time.monotonic() + 60
        pumps = [gevent.spawn(select, channel, deadline=ping) for channel in channels]
        gevent.sleep(0)
        channels[0].close()
        pumps[1].kill()
        gevent.joinall(pumps)
        channels = pumps = None
        gevent.sleep(0)
        gc.collect()
        print(sum(isinstance(each, TurnWaiter) for each in gc.get_objects()))
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_dump_on_the_loop() -> None:
    """Dumping greenlets from gevent's loop does not wait for a log that nobody reads."""
    program = f"""
        {PATCH}
        import gevent, os, time
        from gochat.golang.log import dump_threads
        read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            while True:
                os.write(write, bytes(4096))
        except BlockingIOError:
            os.dup2(write, 2)
        begin = time.monotonic()
        gevent.get_hub().loop.run_callback(dump_threads)
        gevent.sleep(0)
        print(time.monotonic() - begin < 0.9)  # waiting for the log would take a second
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_loop_cannot_wait() -> None:
    """A callback on gevent's loop that tries to wait gets BlockingSwitchOutError."""
    program = f"""
        {PATCH}
        import gevent
        from gevent.exceptions import BlockingSwitchOutError
        from gochat import Channel
        from gochat.golang.runtime import RLock, Thread
        refused, lock, thread = [], RLock(), Thread(lambda: gevent.sleep(0.1), "thread")
        def call(wait):
            try:
                wait()
            except BlockingSwitchOutError:
                refused.append(wait)
        waits = [Channel(0).recv, lambda: Channel(0).send(1), lock.acquire, thread.join]
        lock.acquire()
        thread.start()
        for wait in waits:
            gevent.get_hub().loop.run_callback(call, wait)
        thread.join()
        print(refused == waits)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_fork_on_greenlets() -> None:
    """A process with greenlets can fork, in a Thread or in the main greenlet."""
    program = f"""
        {PATCH}
        import gevent, os, threading
        from gevent.monkey import get_original
        from gochat.golang.runtime import Thread
        def fork():
            child = os.fork()
            if not child:
                print({{each.name for each in threading.enumerate()}}, flush=True)
                os._exit(0)
            get_original("os", "waitpid")(child, 0)
        Thread(lambda: gevent.sleep(20), "waits").start()
        thread = Thread(fork, "forks")
        thread.start()
        thread.join()
        fork()
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("{'MainThread'}\n" * 2, "")


def test_the_collector_runs_rarely() -> None:
    """On greenlets, the garbage collector runs only once per 10,000 new objects."""
    program = f"""
        {PATCH}
        import gc
        from gochat.golang.runtime import settle
        settle(pin=False)
        before = sum(each["collections"] for each in gc.get_stats())
        kept = [[] for _ in range(50_000)]
        print(sum(each["collections"] for each in gc.get_stats()) - before < 20)
    """
    done = finished([sys.executable, "-c", textwrap.dedent(program)])
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_serve_on_greenlets(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gochat serve` runs on greenlets and says so. SIGUSR1 dumps the greenlets."""
    if by == "environment":
        monkeypatch.setenv("GOCHAT_RUNTIME", "greenlets")
    with Gochat(*(("--runtime=greenlets",) if by == "flag" else ())) as chat:
        assert chat.logged("running on greenlets")
        with join(chat.port) as peer:
            peer.send("hello")
            assert peer.messages(1) == ["hello"]
            chat.process.send_signal(signal.SIGUSR1)
            for name in ("MainThread", "hub", "readPump", "writePump"):
                wait_until(lambda name=name: bool(chat.logged(f"greenlet {name}")))  # type: ignore[misc]
            assert chat.logged("gevent's loop:")
            assert chat.stop(signal.SIGTERM) == 0


def test_the_view_of_greenlets() -> None:
    """On greenlets, the view shows what each one waits for, and can hold a pump."""
    with Viewed("--runtime=greenlets") as chat:
        assert chat.runtime == "greenlets"
        with join(chat.port) as held, join(chat.port) as other:
            shown = chat.find(held)
            assert shown["reader"] == "waits for the next message from the socket"
            assert shown["writer"] == "waits for a message"
            hub = chat.wait_for(lambda state: state["hub"]["clients"] == 2)["hub"]
            assert hub["thread"] == "waits in select for a value on one of its channels"
            chat.switch("hold", held)
            other.send("one")
            chat.wait_until_held(held)
            other.send("two")
            assert other.messages(2) == ["one", "two"]
            chat.switch("release", held)
            assert held.messages(3)[1:] == ["one", "two"]  # after the greeting of `other`


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--runtime java", "--runtime: 'java' is neither threads nor greenlets"),
        *(
            (f"--runtime greenlets {flag}", f"{name} {REFUSED}")
            for flag, name in (
                ("--no-pin", "--no-pin"),
                ("--gomaxprocs 2", "--gomaxprocs above 1"),
            )
        ),
    ],
)
def test_flags_that_are_refused(flags: str, error: str) -> None:
    done = finished([COMMAND, "serve", "--addr", LOCAL, *flags.split()])
    assert (done.returncode, done.stderr) == (2, f"gochat serve: {error}\n")


@pytest.mark.measured
@pytest.mark.parametrize("flags", ["", "--processes 2 --relay redis://localhost"])
def test_a_program_that_calls_the_command(flags: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that calls the command must apply gevent's patches itself."""
    monkeypatch.setenv("GOCHAT_RUNTIME", "greenlets")
    program = (
        "from gochat.ops.command import main\n"
        f"print(main(['serve', '--addr', {LOCAL!r}, *{flags.split()}]), 'and goes on')"
    )
    done = finished([sys.executable, "-c", program])
    assert done.stdout == "1 and goes on\n"
    assert done.stderr == (
        "gochat: --runtime greenlets: gevent has not patched this program: call"
        " gevent.monkey.patch_all(queue=False) in its first line\n"
    )


def test_a_patched_program_that_calls_the_command() -> None:
    """In a patched program, the command runs on greenlets and returns."""
    with Gochat(fault=PATCH) as chat, join(chat.port):
        assert chat.runtime == "greenlets"
        assert chat.stop() == 0


@pytest.mark.parametrize(
    ("flags", "environment", "named"),
    [
        ("--runtime threads", "", "--runtime threads"),
        ("", "threads", "GOCHAT_RUNTIME=threads"),
    ],
)
def test_threads_in_a_patched_program(
    flags: str, environment: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a patched program asks for threads, the error names the flag or variable."""
    monkeypatch.setenv("GOCHAT_RUNTIME", environment)
    program = (
        f"{PATCH}; from gochat.ops.command import main;"
        f" main(['serve', '--addr', {LOCAL!r}, *{flags.split()}])"
    )
    done = finished([sys.executable, "-c", program])
    error = "gevent has patched this process, so it has no threads"
    assert (done.returncode, done.stderr) == (2, f"gochat serve: {named}: {error}\n")


def test_a_command_that_gevent_starts() -> None:
    """`python -m gevent.monkey gochat` patches too much, and gets a one-line error."""
    start = [sys.executable, "-m", "gevent.monkey"]
    done = finished([*start, COMMAND, "serve", "--addr", LOCAL])
    error = "gevent has patched queue, too: call gevent.monkey.patch_all(queue=False)"
    assert (done.returncode, done.stderr) == (1, f"gochat: {error}\n")
    assert finished([*start, "--no-queue", COMMAND, "--version"]).returncode == 0


@pytest.mark.parametrize("version", ["", "23.9.1"])
def test_without_a_gevent_that_will_do(version: str) -> None:
    """If gevent is missing or too old, one line says what to install."""
    program = (
        "import sys; from importlib import metadata\n"
        f"def version(name, found={version!r}):\n"
        "    if not found: raise metadata.PackageNotFoundError(name)\n"
        "    return found\n"
        "metadata.version = version\n"
        "from gochat_command import main; sys.exit(main())"
    )
    arguments = ["serve", "--addr", LOCAL, "--runtime", "greenlets"]
    done = finished([sys.executable, "-c", program, *arguments])
    assert done.returncode == 1
    needed = "gochat: --runtime greenlets needs gevent 24.11 or later"
    needed += f", not {version}" if version else ""
    assert done.stderr == f"{needed}: pip install 'gochat[greenlets]'\n"


@pytest.mark.parametrize("python", [PATCHED, PLAIN], ids=["patched", "plain"])
def test_ctrl_c_while_tests_are_collected(python: Sequence[str], tmp_path: Path) -> None:
    """Ctrl-C ends a test run even while Python is ignoring exceptions."""
    program = """
        import os, signal
        class Ignored:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
        Ignored()
        def test():
            pass
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(program))
    done = finished([sys.executable, *python, str(tmp_path)])
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_an_unknown_runtime_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "GOCHAT_RUNTIME", "java")
    done = finished([COMMAND, "serve", "--addr", LOCAL])
    error = "gochat serve: GOCHAT_RUNTIME: 'java' is neither threads nor greenlets\n"
    assert (done.returncode, done.stderr) == (2, error)


def test_python_cannot_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """If restarting Python fails, Ctrl-C still works."""
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(FileNotFoundError):
        start_again(["serve"])
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
