"""The log, especially when nobody reads it, and the list of threads."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import pytest

from gochat.golang.log import LogHandler, dump_threads, dumping

from .support import CLOSE, Gochat, Peer, in_background, join, logging_to, parted, wait_until


def ask_for_much(port: int, times: int) -> None:
    """Request a missing page `times` times. Each request writes a long line to the log."""
    for _ in range(times):
        with Peer(port) as peer:
            assert peer.request("/" + "x" * 900).status == 404


def test_a_log_that_nobody_takes() -> None:
    """A log that nobody reads delays nothing. Lost lines are counted."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    with open(read, "rb") as log:
        with logging_to(write) as (process, port):
            os.close(write)
            ask_for_much(port, 20)
            with join(port) as peer, join(port) as strange:
                peer.messages(1)
                strange.send(b"\x0b\xb8", CLOSE)  # 3000, a code that is logged
                assert parted(strange).code == 3000
                assert os.read(read, 4096).count(b"\n") < 20
                ask_for_much(port, 1)
                taken = b""
                while b" log lines were not accepted, and are lost\n" not in taken:
                    taken += os.read(read, 4096)
                ask_for_much(port, 20)
                process.terminate()
                assert parted(peer).code == 1001
        assert b"Traceback" not in log.read()


def test_the_threads_are_told() -> None:
    with Gochat() as chat, join(chat.port) as peer:
        before = len(chat.lines)
        chat.process.send_signal(signal.SIGUSR1)
        names = {"MainThread", "hub", f"readPump {peer.addr}", f"writePump {peer.addr}"}
        wait_until(lambda: names == set(re.findall(r"^thread (.+):$", "\n".join(chat.lines), re.M)))
        wait_until(lambda: sum(line == "" for line in chat.lines[before:]) == len(names))
        assert "in read_pump" in "\n".join(chat.lines[before:])
        peer.send("still here")
        assert peer.messages(1) == ["still here"]


def test_the_threads_are_told_to_nobody() -> None:
    """SIGUSR1 does no harm, even if the log is full and the signal is repeated."""
    with Path("/dev/full").open("w") as full, logging_to(full) as (process, port):
        with ExitStack() as stack:
            peers = [stack.enter_context(join(port)) for _ in range(20)]
            for _ in range(500):
                process.send_signal(signal.SIGUSR1)
            peers[0].send("still here")
            assert "still here" in peers[0].messages(20)
        process.terminate()


def test_a_terminal_that_is_stopped() -> None:
    """A terminal that stops accepting output in the middle of a line delays nothing."""
    terminal, stderr = pty.openpty()
    try:
        with logging_to(stderr) as (process, port):
            ask_for_much(port, 30)
            process.send_signal(signal.SIGUSR1)
            with join(port) as peer:
                process.terminate()
                assert parted(peer).code == 1001
    finally:
        os.close(terminal)
        os.close(stderr)


def small_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    return read, write


def small_socket() -> tuple[int, int]:
    """Return a socket pair like that between a systemd service and the journal."""
    read, write = socket.socketpair()
    write.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return read.detach(), write.detach()


@pytest.mark.parametrize("make", [small_pipe, small_socket])
def test_the_threads_are_told_to_nobody_who_reads(make: Callable[[], tuple[int, int]]) -> None:
    """A list of threads that does not fit into the log delays no client."""
    read, write = make()
    with open(read, "rb"), ExitStack() as stack, logging_to(write) as (process, port):
        os.close(write)
        peers = [stack.enter_context(join(port)) for _ in range(10)]
        process.send_signal(signal.SIGUSR1)
        with join(port):
            process.terminate()
            assert parted(peers[0]).code == 1001


@pytest.mark.parametrize("runtime", ["threads", "greenlets"])
def test_the_threads_are_told_while_others_work(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list of threads that nobody reads delays neither new clients nor messages."""
    took = []
    monkeypatch.setenv("GOCHAT_RUNTIME", runtime)
    read, write = small_pipe()
    with open(read, "rb"), logging_to(write) as (process, port):
        os.close(write)
        ask_for_much(port, 30)
        for _ in range(9):
            begin = time.monotonic()
            process.send_signal(signal.SIGUSR1)
            with join(port) as peer:
                peer.send("hello")
                assert peer.messages(1) == ["hello"]
            took.append(time.monotonic() - begin)
        process.terminate()
    assert sorted(took)[4] < 1, took  # waiting for the log takes a second


def test_the_threads_run_while_they_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A thread that runs while the list is made does not change others' entries."""

    def work() -> Generator[None, None, None]:
        yield  # begins
        yield  # runs on

    runs, stays = work(), work()
    next(runs), next(stays)
    walk = traceback.walk_stack

    def walk_and_run(frame: FrameType) -> Iterator[tuple[FrameType, int]]:
        yield from walk(frame)
        next(runs, None)

    frames = [("runs", runs.gi_frame), ("stays", stays.gi_frame)]  # type: ignore[attr-defined]
    path = tmp_path / "stderr"
    with path.open("w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr("gochat.golang.log.stacks", lambda: frames)
        monkeypatch.setattr(traceback, "walk_stack", walk_and_run)
        dump_threads()
    _, _, told = path.read_text().partition("stays:")
    assert "yield  # begins" in told


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_to_tell_the_threads(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no thread can be started to write a long list, the rest of the list is lost.

    The next list is not affected.
    """

    def start(*_: object) -> None:
        raise error

    read, write = small_pipe()
    with open(read, "rb", buffering=0) as log, open(write, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr("gochat.golang.log.start_new_thread", start)
        for _ in range(2):
            dump_threads()
            assert log.read(65536).startswith(b"thread ")


def record(text: str) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": text})


def handler_for(stream: object) -> LogHandler:
    """Return a log handler that writes to this stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        return LogHandler()


def test_lines_that_are_lost_are_counted() -> None:
    """When someone reads the log again, it continues with the number of lost lines."""
    read, write = os.pipe()
    with open(read, "rb") as log, open(write, "wb") as stderr:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 8192)
        handler = handler_for(stderr)
        times = []
        for _ in range(3):
            begin = time.monotonic()
            handler.handle(record("x" * 10_000))
            times.append(time.monotonic() - begin)
        # Only the first record waits for a reader.
        assert [seconds > 0.9 for seconds in times] == [True, False, False], times
        taken = os.read(log.fileno(), 20_000)
        handler.handle(record("y"))
        handler.handle(record("z"))
        taken += os.read(log.fileno(), 20_000)
        handler.close()
    first, *others = taken.decode().split("\n")
    assert first == "x" * 8192
    assert others == ["3 log lines were not accepted, and are lost", "y", "z", ""]


def test_a_log_that_is_read_slowly() -> None:
    read, write = small_pipe()
    ended = threading.Event()
    with open(read, "rb", buffering=0) as log, open(write, "wb") as stderr:

        def take() -> None:
            while not ended.wait(0.3):
                log.read(4096)

        handler = handler_for(stderr)
        with in_background(take):
            for _ in range(20):
                handler.handle(record("x" * 4095))  # fills the pipe
            ended.set()
        if select.select([log], [], [], 0)[0]:  # the thread may have read the last line
            log.read(4096)
        handler.handle(record("end"))
        assert b" log lines were not accepted, and are lost\nend\n" in log.read(4096)
        handler.close()


def test_a_pause_inside_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the process was paused during a line, later lines are soon allowed to wait again."""
    pauses, waits = [3600.0, 10.0, 0.0], list[float]()
    now = 0.0
    handler = handler_for(None)

    def write(data: bytes, patience: float) -> int:
        nonlocal now
        waits.append(patience)
        now += pauses[len(waits) - 1]
        return len(data)

    with monkeypatch.context() as patch:
        patch.setattr("gochat.golang.log.time.monotonic", lambda: now)
        patch.setattr(handler, "_wrote", now)
        patch.setattr(handler._output, "write", write)
        for _ in pauses:
            handler.handle(record("x"))
            now += 5.0
    assert waits == [1.0, 0.5, 0.5]


def test_no_line_is_cut_where_others_may_write() -> None:
    """A long record is written in pieces that each end with a whole line.

    Other processes can write to the same log between two pieces.
    """
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as log, open(write, "wb") as stderr:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, select.PIPE_BUF)  # room for one piece
        handler = handler_for(stderr)
        text = "\n".join([*(f"{number}: {'x' * 100}" for number in range(200)), "y" * 5000, "end"])
        with in_background(lambda: handler.handle(record(text))):
            pieces: list[bytes] = []
            while not b"".join(pieces).endswith(b"end\n"):
                pieces.append(log.read(select.PIPE_BUF))
        handler.close()
    assert b"".join(pieces).decode() == f"{text}\n"
    whole = [piece for piece in pieces if b"y" not in piece]
    assert len(whole) > 4
    assert all(piece.endswith(b"\n") for piece in whole)


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_a_log_that_is_no_file(stream: io.StringIO | None) -> None:
    """If stderr is missing or is not a file, nothing is logged and nothing fails."""
    handler = handler_for(stream)
    handler.handle(record("a line"))
    handler.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        dump_threads()


def test_a_log_in_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        handler = handler_for(file)
        file.write("before\n")
        file.flush()
        handler.handle(record("line"))
        file.write("behind\n")
        handler.close()
    assert (tmp_path / "log").read_text() == "before\nline\nbehind\n"


def test_the_threads_are_told_once_at_a_time(capfd: pytest.CaptureFixture[str]) -> None:
    """A list of threads requested while another is being made is skipped."""
    with dumping:
        dump_threads()
    assert capfd.readouterr().err == ""
    dump_threads()
    assert "thread MainThread:" in capfd.readouterr().err
