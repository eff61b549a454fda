"""Threads for connections."""

from __future__ import annotations

import threading

from gochat.golang.thread import Thread


def test_a_thread_is_a_thread() -> None:
    """A Thread starts once, has its name, is listed while it runs, and can be joined."""
    gate, names = threading.Event(), list[str]()

    def run() -> None:
        names.append(threading.current_thread().name)
        gate.wait()

    thread = Thread(target=run, name="readPump", daemon=True)
    assert not thread.is_alive()
    thread.start()
    assert thread.is_alive()
    assert thread in threading.enumerate()
    assert thread.ident
    gate.set()
    thread.join()
    assert names == ["readPump"]
    assert not thread.is_alive()


def test_a_thread_keeps_little() -> None:
    """Threads that have started share one event."""
    threads = [Thread(target=lambda: None) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    kept = [vars(thread)["_started"] for thread in threads]
    assert kept[0] is kept[1]
    assert kept[0].is_set()
