"""Helpers (the second threads of connections), including when threads are scarce."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from gochat import Hub, Server, make_app, running
from gochat.golang.http import helper
from gochat.golang.http.helper import Helper, Helpers
from gochat.golang.runtime import Thread

from .http_support import LOCAL
from .support import PATIENCE, Peer, in_background, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_helper() -> None:
    """A helper runs a function, on a thread with the given name."""
    names: list[str] = []
    hired = Helpers().hire("before")
    assert hired.thread.name == "before"
    hired.go(lambda: names.append(threading.current_thread().name), "after")
    hired.thread.join(PATIENCE)
    assert names == ["after"]


def test_a_helper_that_is_not_needed() -> None:
    hired = Helpers().hire("idle")
    hired.dismiss()
    hired.thread.join(PATIENCE)
    assert not hired.thread.is_alive()


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every helper's thread fail to start."""

    class NoThread(Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helper, "Thread", NoThread)


def wanting(helpers: Helpers, count: int = 1) -> bool:
    return helpers._waiting == count


def hiring(helpers: Helpers, got: list[Helper | str]) -> Callable[[], None]:
    def hire() -> None:
        try:
            got.append(helpers.hire("helper"))
        except RuntimeError as error:
            got.append(str(error))

    return hire


@pytest.mark.usefixtures("no_threads")
def test_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without threads, one connection waits, and the next is refused and lends its thread."""
    monkeypatch.setattr(helper, "_THREAD_WAIT", PATIENCE)
    helpers = Helpers()
    got: list[Helper | str] = []
    with in_background(hiring(helpers, got)):
        wait_until(lambda: wanting(helpers))
        hiring(helpers, got)()
        assert got.pop() == "can't start new thread"
        with in_background(hiring(helpers, got)):  # waits for the thread of the refused connection
            wait_until(lambda: wanting(helpers, 2))
            for _ in range(2):
                lender = Thread(helpers.lend, "lender")
                lender.start()
                wait_until(lambda: len(got) == 1)
                lent = got.pop()
                assert isinstance(lent, Helper)
                assert lent.thread is lender
                lent.dismiss()
                lender.join(PATIENCE)
    helpers.lend()  # returns, because no connection waits for a thread


@pytest.mark.usefixtures("no_threads")
@pytest.mark.parametrize("promised", [False, True])
def test_nobody_lends(promised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that waits for a thread is refused if none is lent in time."""
    monkeypatch.setattr(helper, "_THREAD_WAIT", 0.2 if not promised else 1.0)
    helpers = Helpers()
    got: list[Helper | str] = []
    with in_background(hiring(helpers, got)):
        if promised:
            wait_until(lambda: wanting(helpers))
            hiring(helpers, got)()
    assert got == ["can't start new thread"] * (1 + promised)
    helpers.lend()


@pytest.mark.usefixtures("no_threads")
def test_no_memory_to_lend(monkeypatch: pytest.MonkeyPatch) -> None:
    """If lending fails, the connection goes on waiting, and gets the next thread."""
    monkeypatch.setattr(helper, "_THREAD_WAIT", PATIENCE)
    helpers = Helpers()
    got: list[Helper | str] = []

    def no_memory() -> None:
        raise MemoryError("none")

    with in_background(hiring(helpers, got)):
        wait_until(lambda: wanting(helpers))
        with monkeypatch.context() as patch:
            patch.setattr(helper, "Helper", no_memory)
            with pytest.raises(MemoryError):
                helpers.lend()
        lender = Thread(helpers.lend, "lender")
        lender.start()
        wait_until(lambda: len(got) == 1)
        (lent,) = got
        assert isinstance(lent, Helper)
        lent.dismiss()
        lender.join(PATIENCE)


def test_no_memory_for_a_thread_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread's start raises MemoryError although the thread runs, the thread ends unused."""
    monkeypatch.setattr(helper, "_THREAD_WAIT", 0.1)
    begun: list[threading.Thread] = []

    class NoMemory(Thread):
        def start(self) -> None:
            super().start()
            begun.append(self)
            raise MemoryError("none")

    monkeypatch.setattr(helper, "Thread", NoMemory)
    with pytest.raises(RuntimeError, match="none"):
        Helpers().hire("helper")
    begun[0].join(PATIENCE)
    assert not begun[0].is_alive()


def test_a_burst_when_threads_are_short(
    monkeypatch: pytest.MonkeyPatch, logged: Callable[[], list[str]]
) -> None:
    """If threads are scarce, the clients that are accepted stay and can chat.

    The others get 503, not 101 followed by a close frame.
    """
    hub = Hub()
    server = Server(LOCAL, make_app(hub))
    with running(server, hub), ExitStack() as stack:
        server.start()
        most = threading.active_count() + 11
        count = threading.Lock()

        class Scarce(Thread):
            def start(self) -> None:
                with count:
                    if threading.active_count() >= most:
                        raise RuntimeError("can't start new thread")
                    super().start()

        for module in ("server", "helper"):
            monkeypatch.setattr(f"gochat.golang.http.{module}.Thread", Scarce)
        peers = [stack.enter_context(Peer(server.port)) for _ in range(11)]
        wait_until(lambda: threading.active_count() == most, "a thread for each")
        with Peer(server.port) as late:
            assert late.response().status == 503
        statuses: dict[Peer, int] = {}

        def shake(peer: Peer) -> Callable[[], None]:
            def open_it() -> None:
                statuses[peer] = peer.open().status

            return open_it

        with ExitStack() as hands:
            for peer in peers:
                hands.enter_context(in_background(shake(peer)))
        inside = [peer for peer in peers if statuses[peer] == 101]
        assert len(inside) == 5
        assert sorted(statuses.values()) == [101] * 5 + [503] * 6
        for peer in inside:
            peer.send("still here")
            for other in inside:
                assert other.messages(1) == ["still here"]
        assert server.statistics().refused["threads"] == 7
        assert set(logged()) == {"http: refused a connection (503): can't start new thread"}
