"""Turns, observers and statistics, which both runtimes must provide."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import pytest

from gochat import Channel, ClosedChannelError, select
from gochat.golang.channel import CLOSED
from gochat.golang.goroutine import Observer, TurnsStatistics, waits
from gochat.golang.runtime import turns

from .support import PATIENCE, in_background, wait_until


class Pump:
    """A write pump that keeps its turn until the test lets it go on."""

    def __init__(self) -> None:
        self.channel: Channel[int] = Channel(9, in_turn=True)
        self.go_on = threading.Event()
        self.frames: list[list[int]] = []
        self.ident = 0

    def run(self) -> None:
        self.ident = threading.get_ident()
        for value in self.channel:
            self.go_on.wait()  # a real pump must never wait while it has a turn
            self.frames.append([value, *self.channel.drain()])


def test_one_pump_has_the_turn() -> None:
    """While one pump has the turn, another waits, and then gets its messages together."""
    first, second = Pump(), Pump()
    with in_background(first.run), in_background(second.run):
        wait_until(lambda: all(p.channel.statistics().receiver_waits for p in (first, second)))
        assert turns.statistics() == TurnsStatistics(1, (), ())
        first.channel.send(1)
        wait_until(lambda: turns.statistics().holders == (first.ident,))
        second.channel.send(2)
        second.channel.send(3)
        wait_until(lambda: turns.statistics().line == (second.ident,))
        assert first.channel.statistics().receiver == first.ident
        assert not second.channel.statistics().receiver_waits
        second.go_on.set()
        first.go_on.set()
        wait_until(lambda: second.frames == [[2, 3]])
        first.channel.close()
        second.channel.close()
    assert first.frames == [[1]]
    assert turns.statistics() == TurnsStatistics(1, (), ())


def test_gosched_waits_for_those_in_line() -> None:
    """gosched returns once all goroutines already in line have had a turn."""
    turns.gosched()
    assert turns.statistics() == TurnsStatistics(1, (), ())
    pumps = Pump(), Pump()
    seen: list[list[list[int]]] = []

    def yields() -> None:
        turns.gosched()
        seen.append([*pumps[0].frames, *pumps[1].frames])

    with in_background(pumps[0].run), in_background(pumps[1].run):
        wait_until(lambda: all(pump.channel.statistics().receiver_waits for pump in pumps))
        pumps[0].channel.send(0)
        wait_until(lambda: turns.statistics().holders == (pumps[0].ident,))
        pumps[1].channel.send(1)
        wait_until(lambda: turns.statistics().line == (pumps[1].ident,))
        with in_background(yields):
            wait_until(lambda: len(turns.statistics().line) == 2)
            pumps[0].go_on.set()
            pumps[1].go_on.set()
        for pump in pumps:
            pump.channel.close()
    assert seen == [[[0], [1]]]
    assert turns.statistics() == TurnsStatistics(1, (), ())


def test_a_deadline_while_in_line() -> None:
    first = Pump()
    channel: Channel[int] = Channel(1, in_turn=True)
    received: list[Any] = []
    with in_background(first.run):
        wait_until(lambda: first.channel.statistics().receiver_waits)
        first.channel.send(1)
        wait_until(lambda: turns.statistics().holders == (first.ident,))
        channel.send(2)
        deadline = time.monotonic() + 0.5

        def receive() -> None:
            received.append(select(channel, deadline=deadline))
            turns.give_up()

        with in_background(receive):
            wait_until(lambda: len(turns.statistics().line) == 1)
            wait_until(lambda: time.monotonic() > deadline + 0.1)
            assert turns.statistics().holders == (first.ident,)
            assert received == []
            first.go_on.set()
        first.channel.close()
    assert received == [(channel, 2, True)]
    assert turns.statistics() == TurnsStatistics(1, (), ())


def test_goroutines_that_always_have_something_to_do() -> None:
    """Two goroutines that are always busy do not delay the deadline of a third."""
    there: Channel[int] = Channel()
    back: Channel[int] = Channel()
    quiet: Channel[int] = Channel()
    end = threading.Event()

    def serve() -> None:
        while not end.is_set():
            there.send(1)
            back.recv()
        there.close()

    def answer() -> None:
        for value in there:
            back.send(value)

    with in_background(serve), in_background(answer):
        assert select(quiet, deadline=time.monotonic() + 0.05) == (None, None, False)
        end.set()


@pytest.mark.parametrize("end", ["ends", "gives up"])
def test_the_turn_is_handed_on(end: str) -> None:
    ready, go_on = threading.Event(), threading.Event()
    held: Channel[int] = Channel(1, in_turn=True)
    other = Pump()
    other.go_on.set()

    def hold() -> None:
        assert held.recv() == (1, True)
        ready.set()
        go_on.wait()
        if end == "gives up":
            turns.give_up()
            wait_until(lambda: other.frames == [[2]])

    with in_background(other.run):
        with in_background(hold):
            held.send(1)
            ready.wait()
            other.channel.send(2)
            wait_until(lambda: turns.statistics().line == (other.ident,))
            assert not other.frames
            go_on.set()
        wait_until(lambda: other.frames == [[2]])
        other.channel.close()


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_a_subclass_that_receives_in_its_own_way(waits: bool, in_turn: bool) -> None:
    """Every received value goes through `_take`, which the trace overrides."""

    class Doubles(Channel[int]):
        def _take(self, got: list[Any]) -> bool:
            if not super()._take(got):
                return False
            got[0] *= 2
            return True

    channel = Doubles(1, in_turn=in_turn)

    def receive() -> None:
        received.append(channel.recv())
        turns.give_up()

    received: list[Any] = []
    if not waits:
        channel.send(1)
    with in_background(receive):
        if waits:
            wait_until(lambda: channel.statistics().receiver_waits)
            channel.send(1)
    assert received == [(2, True)]


class Log(Observer):
    """Records all events of a channel, without the channel itself."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in vars(Observer) or name.startswith("_"):
            return super().__getattribute__(name)
        return lambda _, *values: self.heard.append((name, *values))

    def new(self) -> list[tuple[Any, ...]]:
        """Return the events since the last call."""
        heard, self.heard = self.heard, []
        return heard


@pytest.mark.parametrize("in_turn", [False, True])
def test_an_observer(in_turn: bool) -> None:
    """All observers of a channel get all events, each before the next step of its thread."""
    log, other = Log(), Log()
    channel: Channel[int] = Channel(2, in_turn=in_turn)
    channel.observe(log)
    channel.observe(other)
    assert channel.try_send(1)
    channel.send(2)
    assert not channel.try_send(3)
    with pytest.raises(queue.Full):
        channel.put(4, timeout=0.01)
    sends = [("sends", 1), ("sent", 1), ("sends", 2), ("sent", 2)]
    assert log.new() == [*sends, ("sends", 3), ("refused", 3), ("sends", 4), ("refused", 4)]
    assert channel.recv() == (1, True)
    assert channel.drain() == [2]
    assert channel.drain() == []
    assert log.new() == [("received", 1), ("drained", [2]), ("drained", [])]
    turns.give_up()

    def receive() -> None:
        received.append(channel.recv())

    received: list[tuple[int, bool]] = []
    with in_background(receive):
        wait_until(lambda: channel.statistics().receiver_waits)
        assert log.new() == [("waits",)]
        assert channel.try_send(5)
    assert received == [(5, True)]
    assert sorted(log.new()) == [("received", 5), ("sends", 5), ("sent", 5)]
    channel.close()
    with pytest.raises(ClosedChannelError):
        channel.try_send(6)
    assert not channel.recv()[1]
    assert log.new() == [("closes",), ("sends", 6), ("refused", 6), ("received", CLOSED)]
    assert other.heard[:4] == sends
    assert other.heard[-1] == ("received", CLOSED)


def test_the_newest_observer_is_the_first() -> None:
    """If it delays a receiver, the others still see a receiver that waits: see `--view`."""

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def received(self, channel: Any, value: Any) -> None:  # noqa: ARG002
            seen.append(self.name)

    seen: list[str] = []
    channel: Channel[int] = Channel(1)
    channel.observe(Named("old"))
    channel.observe(Named("new"))
    channel.send(1)
    assert channel.recv() == (1, True)
    assert seen == ["new", "old"]


def test_an_observer_of_an_unbuffered_channel() -> None:
    """A waiting send is reported when it begins, and when a receiver has taken its value."""
    log = Log()
    channel: Channel[int] = Channel()
    channel.observe(log)
    with in_background(lambda: channel.send(1)):
        wait_until(lambda: channel.statistics().senders == 1)
        assert log.new() == [("sends", 1)]
        assert select(channel, Channel()) == (channel, 1, True)
    assert sorted(log.new()) == [("received", 1), ("sent", 1)]


@pytest.mark.parametrize("in_turn", [False, True])
def test_an_observer_that_ignores_sends(in_turn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is room, an observer without a method for sends does not slow `try_send` down."""

    class Receives(Observer):
        def received(self, channel: Any, value: Any) -> None:  # noqa: ARG002
            heard.append(value)

    heard: list[int] = []
    channel: Channel[int] = Channel(2, in_turn=in_turn)
    channel.observe(Receives())
    with monkeypatch.context() as patch:
        patch.setattr(Channel, "_observed", None)  # must not be called
        patch.setattr(Channel, "_try_send", None)
        assert channel.try_send(1)
        assert channel.try_send(2)
    assert not channel.try_send(3)
    channel.close()
    with pytest.raises(ClosedChannelError):
        channel.try_send(4)
    assert [channel.recv() for _ in range(3)] == [(1, True), (2, True), (None, False)]
    assert heard == [1, 2, CLOSED]


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_send_while_an_observer_waits(in_turn: bool) -> None:
    """A sender that joins the line before the receiver is marked as waiting wakes the receiver."""

    class Waits(Observer):
        def waits(self, channel: Any) -> None:
            begun.set()
            wait_until(lambda: channel.statistics().senders == 1)

    begun = threading.Event()
    channel: Channel[int] = Channel(in_turn=in_turn)
    channel.observe(Waits())
    received: list[tuple[int, bool]] = []
    with in_background(lambda: received.append(channel.recv())):
        assert begun.wait(PATIENCE)
        channel.put(1, timeout=PATIENCE)
    assert received == [(1, True)]


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_receive_that_its_observer_refuses(in_turn: bool) -> None:
    """If an observer raises, the receive raises the same exception; the value stays queued."""

    class Refuses(Observer):
        def received(self, channel: Any, value: Any) -> None:  # noqa: ARG002
            raise KeyError(value)

        def closes(self, channel: Any) -> None:
            seen.append(channel)

    seen: list[Any] = []
    channel: Channel[int] = Channel(2, in_turn=in_turn)
    channel.observe(Refuses())
    channel.send(1)
    with pytest.raises(KeyError):
        select(channel, deadline=time.monotonic() + 60)
    assert turns.statistics().holders == ()
    channel.close()
    assert seen == [channel]
    channel.observers = ()
    assert channel.drain() == [1]
    assert not channel.recv()[1]


def test_what_a_goroutine_waits_for() -> None:
    """`waits` names the operation in which a goroutine waits, until it continues."""
    channel: Channel[int] = Channel()
    idents: list[int] = []

    def send() -> None:
        idents.append(threading.get_ident())
        channel.send(1)
        channel.recv()

    with in_background(send):
        wait_until(lambda: bool(idents) and waits.get(idents[0]) == "send")
        assert channel.statistics().senders == 1
        assert channel.recv() == (1, True)
        wait_until(lambda: waits.get(idents[0]) == "recv")
        channel.send(2)
        wait_until(lambda: idents[0] not in waits)
