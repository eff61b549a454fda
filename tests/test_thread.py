"""Threads for connections, on either runtime."""

from __future__ import annotations

import threading
import time

import pytest

from gochat.golang.runtime import Thread

from .support import PATIENCE


def test_a_thread_is_a_thread() -> None:
    """A Thread has a name, can start only once, is listed while it runs, and can be joined."""
    gate, names = threading.Event(), list[str]()

    def run() -> None:
        names.append(threading.current_thread().name)
        gate.wait()

    thread = Thread(run, "readPump")
    assert not thread.is_alive()
    assert thread.daemon
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.join()
    thread.start()
    with pytest.raises(RuntimeError, match="only be started once"):
        thread.start()
    assert thread.is_alive()
    assert thread in threading.enumerate()
    assert thread.ident
    assert "readPump, started" in repr(thread)
    gate.set()
    thread.join()
    thread.join()
    assert names == ["readPump"]
    assert not thread.is_alive()
    assert thread not in threading.enumerate()
    assert "readPump, stopped" in repr(thread)


def test_a_reserved_thread() -> None:
    gate, done = threading.Event(), list[bool]()

    def run() -> None:
        assert gate.wait(PATIENCE)
        done.append(True)

    thread = Thread(run, "reserved")
    thread.reserve()
    gate.set()
    thread.begin()
    thread.join(PATIENCE)
    assert done == [True]
    assert not thread.is_alive()


def test_a_join_with_a_timeout() -> None:
    gate = threading.Event()
    thread = Thread(gate.wait, "slow")
    thread.start()
    begin = time.monotonic()
    thread.join(0.05)
    assert time.monotonic() - begin >= 0.05
    assert thread.is_alive()
    waiting = [Thread(lambda: thread.join(PATIENCE), "joins") for _ in range(2)]
    for each in waiting:
        each.start()
    gate.set()
    for each in waiting:
        each.join(PATIENCE)
        assert not each.is_alive()
    assert not thread.is_alive()


def test_a_thread_cannot_wait_for_itself() -> None:
    errors: list[RuntimeError] = []

    def run() -> None:
        try:
            thread.join()
        except RuntimeError as error:
            errors.append(error)

    thread = Thread(run, "alone")
    thread.start()
    thread.join(PATIENCE)
    assert [str(error) for error in errors] == ["cannot join current thread"]


def test_an_exception_ends_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception ends its thread and is passed to threading.excepthook."""
    failed: list[tuple[object, str]] = []

    def hook(args: threading.ExceptHookArgs) -> None:
        assert args.thread is not None
        failed.append((args.exc_type, args.thread.name))

    monkeypatch.setattr(threading, "excepthook", hook)

    def run() -> None:
        raise KeyError

    thread = Thread(run, "fails")
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert failed == [(KeyError, "fails")]


def test_a_thread_keeps_little() -> None:
    """To save memory, started threads share one event and one excepthook function."""
    threads = [Thread(lambda: None, "short") for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    for name in ("_started", "_invoke_excepthook"):
        kept = [vars(thread)[name] for thread in threads]
        assert kept[0] is kept[1]
    assert vars(threads[0])["_started"].is_set()
