"""Channels: queuing, closing, unbuffered channels and select."""

from __future__ import annotations

import itertools
import math
import queue
import random
import resource
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

from gochat import Channel, ClosedChannelError, select
from gochat.golang.channel import CLOSED, AbandonedChannelError, ChannelStatistics
from gochat.golang.goroutine import Observer, waits
from gochat.golang.runtime import NAME, turns
from gochat.golang.runtime.threads.turns import FREE_THREADED

from .support import PATIENCE, in_background, wait_until

if NAME == "threads":
    from gochat.golang.runtime.threads.handover import Bell, Offer

R = TypeVar("R")

#: What `recv` returns on a closed, empty channel.
END: Any = (None, False)


class Task(threading.Thread, Generic[R]):
    """Runs a function on a new thread and keeps its result."""

    def __init__(self, function: Callable[[], R]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._results: list[R] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._results.append(self._function())
        except BaseException as error:  # noqa: BLE001, RUF100 - result raises it
            self._error = error

    def result(self) -> R:
        """Return the function's result, or raise its exception."""
        self.join(PATIENCE)
        assert not self.is_alive(), "still waiting"
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._results[0]

    def switches(self) -> int | None:
        """Return how often the sleeping thread has given up its CPU; None if the thread is awake.

        On greenlets this is always 0: while the caller sleeps, every other greenlet runs until it
        waits.
        """
        if NAME == "greenlets":
            return 0
        status = Path(f"/proc/self/task/{self.native_id}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        return int(fields["voluntary_ctxt_switches"]) if fields["State"][0] == "S" else None

    def wait_until_parked(self) -> None:
        """Return once the thread has slept for 10 ms without waking."""

        def parked() -> bool:
            before = self.switches()
            time.sleep(0.01)
            return before is not None and before == self.switches()

        wait_until(parked, "a thread at rest")


class Tasks:
    """Starts a task when it is called."""

    def __init__(self) -> None:
        self.started: list[Task[Any]] = []

    def __call__(self, function: Callable[[], R]) -> Task[R]:
        task = Task(function)
        self.started.append(task)
        task.start()
        return task

    def parked(self, function: Callable[[], R]) -> Task[R]:
        """Start a task; return once its thread is waiting."""
        task = self(function)
        task.wait_until_parked()
        return task


@pytest.fixture
def start() -> Iterator[Tasks]:
    """Starts tasks. Each must end before the test does, and its error must be checked."""
    tasks = Tasks()
    yield tasks
    for task in tasks.started:
        task.join(PATIENCE)
        assert not task.is_alive(), "a thread is left"
        assert task._error is None


@pytest.fixture
def _seeded() -> Iterator[None]:
    state = random.getstate()
    random.seed(20)
    yield
    random.setstate(state)


@pytest.fixture
def _hasty() -> Iterator[None]:
    """Switch threads as often as possible, to expose races."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(
    params=[
        pytest.param(False, id="GIL", marks=pytest.mark.skipif(FREE_THREADED, reason="no GIL")),
        *([pytest.param(True, id="no GIL")] if NAME == "threads" else ()),
    ]
)
def _threading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test twice: with the code that needs a GIL, and with the code that needs none.

    The latter also works with a GIL.
    """
    for module in ("channel", "turns") if NAME == "threads" else ():
        name = f"gochat.golang.runtime.threads.{module}"
        monkeypatch.setattr(sys.modules[name], "FREE_THREADED", request.param)


def filled(capacity: int, *values: Any) -> Channel[Any]:
    channel: Channel[Any] = Channel(capacity)
    for value in values:
        assert channel.try_send(value)
    return channel


def must(value: R | None) -> R:
    assert value is not None
    return value


def soon() -> float:
    """A deadline that passes only if the test fails."""
    return time.monotonic() + PATIENCE


# All ways to put a value in, and all ways to take one out.
PUTS: dict[str, Callable[[Channel[Any], Any], Any]] = {
    "send": lambda channel, value: channel.send(value),
    "try_send": lambda channel, value: channel.try_send(value),
    "put": lambda channel, value: channel.put(value, timeout=2),
    "put_nowait": lambda channel, value: channel.put_nowait(value),
}
TAKES: dict[str, Callable[[Channel[Any]], Any]] = {
    "recv": lambda channel: channel.recv()[0],
    "select": lambda channel: select(channel)[1],
    "drain": lambda channel: channel.drain()[0],
    "get": lambda channel: channel.get(),
    "get_nowait": lambda channel: channel.get_nowait(),
}


# The queue.


def test_values_come_out_in_their_order() -> None:
    channel: Channel[int] = Channel(100)
    for value in range(100):
        channel.send(value)
    assert [channel.recv() for _ in range(100)] == [(value, True) for value in range(100)]


@pytest.mark.parametrize("capacity", [1, 2, 7])
def test_capacity(capacity: int) -> None:
    channel: Channel[int] = Channel(capacity)
    assert channel.capacity == capacity
    assert len(channel) == 0
    for value in range(capacity):
        assert channel.try_send(value)
        assert len(channel) == value + 1
    assert not channel.try_send(-1)
    assert len(channel) == capacity
    assert channel.drain() == list(range(capacity))
    assert len(channel) == 0


def test_negative_capacity() -> None:
    with pytest.raises(ValueError, match="negative capacity: -1"):
        Channel(-1)


def test_falsy_values_are_values() -> None:
    """None, 0 and other falsy values can be sent and are not mistaken for the end."""
    channel = filled(4, None, 0, b"", False)
    channel.close()
    assert [channel.recv() for _ in range(4)] == [
        (None, True),
        (0, True),
        (b"", True),
        (False, True),
    ]
    assert channel.recv() == END


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_send_waits_for_room(start: Tasks, take: Callable[[Channel[Any]], Any]) -> None:
    channel = filled(2, 1, 2)
    sender = start.parked(lambda: channel.send(3))
    assert len(channel) == 2
    assert take(channel) == 1
    sender.result()
    assert channel.drain()[-1] == 3


def test_each_value_taken_lets_one_sender_go_on(start: Tasks) -> None:
    """Each value received lets one waiting sender continue, until all have sent."""
    channel = filled(1, -1)
    senders = [start.parked(partial(channel.send, value)) for value in range(5)]
    assert channel.recv() == (-1, True)
    assert sorted(must(channel.recv()[0]) for _ in senders) == list(range(5))
    for sender in senders:
        sender.result()


def test_try_send_never_waits(start: Tasks) -> None:
    """try_send returns False immediately if the channel is full."""
    channel = filled(1, "first")
    sender = start.parked(lambda: channel.send("second"))
    assert [channel.try_send("third") for _ in range(1000)] == [False] * 1000
    assert channel.recv() == ("first", True)
    assert channel.recv() == ("second", True)
    sender.result()
    assert channel.try_send("fourth")


def test_drain() -> None:
    """drain returns all values, oldest first, and never waits. A closed channel stays closed."""
    channel = filled(3, 1, 2, 3)
    assert channel.drain() == [1, 2, 3]
    assert channel.drain() == []
    channel.send(4)
    channel.close()
    assert channel.drain() == [4]
    assert channel.drain() == []
    assert channel.recv() == END


# Unbuffered.


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
def test_unbuffered_send_returns_when_received(
    start: Tasks, take: Callable[[Channel[Any]], Any]
) -> None:
    channel: Channel[str] = Channel()
    assert channel.capacity == 0
    sender = start.parked(lambda: channel.send("value"))
    assert sender.is_alive()
    assert take(channel) == "value"
    sender.result()


def test_unbuffered_try_send(start: Tasks) -> None:
    """try_send to an unbuffered channel succeeds only if a receiver is waiting."""
    channel: Channel[int] = Channel()
    assert not channel.try_send(1)
    assert len(channel) == 0
    receiver = start.parked(channel.recv)
    assert channel.try_send(2)
    assert receiver.result() == (2, True)
    assert not channel.try_send(3)


def test_unbuffered_senders_are_received_in_their_order(start: Tasks) -> None:
    channel: Channel[int] = Channel()
    first = start.parked(lambda: channel.send(1))
    second = start.parked(lambda: channel.send(2))
    assert len(channel) == 0
    assert channel.recv() == (1, True)
    first.result()
    second.wait_until_parked()
    assert second.is_alive()
    assert channel.recv() == (2, True)
    second.result()


@pytest.mark.usefixtures("_seeded")
class HeldChannel(Channel[int]):
    """A channel whose receivers wait for a gate before they take a value."""

    def __init__(self, gate: threading.Event, *, in_turn: bool = False) -> None:
        super().__init__(in_turn=in_turn)
        self.gate = gate

    def _take(self, got: list[Any]) -> bool:
        assert self.gate.wait(PATIENCE)
        return super()._take(got)


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_sender_hands_its_value_to_a_receiver_that_waits(start: Tasks, in_turn: bool) -> None:
    """A send succeeds immediately if a receiver is waiting, but the next send waits."""
    gate = threading.Event()
    channel = HeldChannel(gate, in_turn=in_turn)

    def receive() -> list[tuple[int, bool]]:
        received = [channel.recv(), channel.recv()]
        turns.give_up()
        return received

    receiver = start.parked(receive)
    channel.send(1)  # given to the receiver, which has not run yet
    waiting = start.parked(lambda: channel.send(2))
    assert not channel.try_send(3)
    gate.set()
    waiting.result()
    assert receiver.result() == [(1, True), (2, True)]


def test_of_two_channels_one_hands_over(start: Tasks) -> None:
    """A select that waits for two channels returns whichever value is handed over first."""
    gate = threading.Event()
    a, b = HeldChannel(gate), HeldChannel(gate)
    receiver = start.parked(lambda: [select(a, b)[1] for _ in range(2)])
    assert b.try_send(1)
    assert not a.try_send(3)
    waiting = start.parked(lambda: a.send(2))
    gate.set()
    waiting.result()
    assert receiver.result() == [1, 2]


def test_a_deadline_at_the_moment_of_a_send(start: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a value is sent just as the receiver's deadline passes, the receiver gets that value."""
    channel: Channel[int] = Channel()
    end = Bell.end

    def late(bell: Any) -> Any:
        assert channel.try_send(1)
        return end(bell)

    monkeypatch.setattr(Bell, "end", late)
    task = start(lambda: select(channel, deadline=time.monotonic() + 0.01))
    assert task.result() == (channel, 1, True)


def test_a_mark_from_an_earlier_wait(start: Tasks) -> None:
    """A send to an earlier select's channel does not wake a later receive from another channel."""
    a: Channel[int] = Channel(1)
    b: Channel[int] = Channel(1)
    first, second = threading.Event(), threading.Event()

    def receive() -> list[Any]:
        got = [select(a, b)]
        first.set()
        got.append(select(b))
        second.set()
        return got

    receiver = start.parked(receive)
    b.send(1)
    assert first.wait(PATIENCE)
    receiver.wait_until_parked()
    a.send(2)
    receiver.wait_until_parked()
    assert not second.is_set()
    b.send(3)
    assert receiver.result() == [(b, 1, True), (b, 3, True)]
    assert a.recv() == (2, True)


def test_one_thread_over_two_unbuffered_channels(start: Tasks) -> None:
    """select receives the values in the order in which one thread sent them."""
    channels: list[Channel[int]] = [Channel(), Channel()]
    order = [random.randrange(2) for _ in range(500)]

    def send() -> None:
        for value, which in enumerate(order):
            channels[which].send(value)

    sender = start(send)
    received = [select(*channels, deadline=soon()) for _ in order]
    assert [value for _, value, _ in received] == list(range(500))
    assert [channels.index(must(channel)) for channel, _, _ in received] == order
    sender.result()


class SlowChannel(Channel[Any]):
    """A channel that lets other threads run just after a value has been taken."""

    def _take(self, got: list[Any]) -> bool:
        taken = super()._take(got)
        time.sleep(1e-4)
        return taken


@pytest.mark.usefixtures("_threading", "_hasty")
def test_many_threads_over_two_unbuffered_channels(start: Tasks) -> None:
    channels = [SlowChannel(), SlowChannel()]

    def send(who: int) -> None:
        for value in range(100):
            channels[(who + value) % 2].send((who, value))

    senders = [start(partial(send, who)) for who in range(6)]
    seen: list[list[int]] = [[] for _ in senders]
    for _ in range(100 * len(senders)):
        got, item, _ = select(*channels, deadline=soon())
        assert got is not None
        who, value = item
        seen[who].append(value)
    for sender in senders:
        sender.result()
    assert seen == [list(range(100))] * len(senders)


@pytest.mark.usefixtures("_threading", "_hasty")
def test_many_threads_over_one_unbuffered_channel(start: Tasks) -> None:
    """Each value is received exactly once, and each sender's values arrive in order."""
    channel: Channel[tuple[int, int]] = Channel()

    def send(who: int) -> None:
        for value in range(100):
            channel.send((who, value))
            assert len(channel) == 0

    senders = [start(partial(send, who)) for who in range(8)]
    seen: list[list[int]] = [[] for _ in senders]
    for _ in range(800):
        got, (who, value), _ = select(channel, deadline=soon())
        assert got is channel
        seen[who].append(value)
    assert seen == [list(range(100))] * 8
    for sender in senders:
        sender.result()
    assert len(channel) == 0


# Closing.


class SlowToClose(deque[Any]):
    """A queue that lets other threads run in the middle of a close."""

    def append(self, value: Any) -> None:
        if value is CLOSED:
            time.sleep(0.05)
        super().append(value)


@pytest.mark.parametrize("values", [(), (1, 2)])
def test_close_is_one_step(start: Tasks, values: tuple[int, ...]) -> None:
    """During a close, len and drain never count the end as a value."""
    channel: Channel[int] = Channel(2)
    channel.queue = SlowToClose()
    for value in values:
        channel.send(value)
    closer = start(channel.close)
    while closer.is_alive():
        assert len(channel) == len(values)
    closer.result()

    channel = Channel(2)
    channel.queue = SlowToClose()
    for value in values:
        channel.send(value)
    closer = start(channel.close)
    taken = []
    while closer.is_alive():
        taken += channel.drain()
    closer.result()
    assert tuple(taken + channel.drain()) == values
    assert channel.recv() == END


@pytest.mark.parametrize("capacity", [0, 1, 3])
def test_close_of_an_empty_channel(capacity: int) -> None:
    """On a closed, empty channel, all receiving methods report the end."""
    channel: Channel[int] = Channel(capacity)
    channel.close()
    assert len(channel) == 0
    for _ in range(3):
        assert channel.recv() == END
        assert select(channel) == (channel, None, False)
        assert channel.get() is CLOSED
        assert channel.get(timeout=PATIENCE) is CLOSED
        assert channel.get_nowait() is CLOSED
        assert channel.drain() == []


@pytest.mark.parametrize("capacity", [1, 3])
def test_close_fits_a_full_channel(capacity: int) -> None:
    values = range(capacity)
    channel = filled(capacity, *values)
    channel.close()
    assert len(channel) == capacity
    assert [channel.recv() for _ in values] == [(value, True) for value in values]
    assert channel.recv() == END
    assert channel.recv() == END


def test_close_ends_the_senders_that_wait(start: Tasks) -> None:
    """Senders that wait for room raise ClosedChannelError on close. Their values are lost."""
    channel = filled(1, "kept")
    senders = [start.parked(lambda: channel.send("lost")) for _ in range(3)]
    channel.close()
    for sender in senders:
        with pytest.raises(ClosedChannelError, match=r"^send on closed channel$"):
            sender.result()
    assert channel.recv() == ("kept", True)
    assert channel.recv() == END


def test_close_ends_a_waiting_put(start: Tasks) -> None:
    channel = filled(2, 1, 2)
    putter = start.parked(lambda: channel.put(3))
    channel.close()
    try:
        putter.join(2)
        assert not putter.is_alive()
    finally:
        left = channel.drain()  # makes room, so that the thread ends even if the test fails
        with pytest.raises(ClosedChannelError):
            putter.result()
    assert left == [1, 2]


def test_close_of_an_unbuffered_channel_with_senders(start: Tasks) -> None:
    """Senders that wait for a receiver raise ClosedChannelError on close."""
    channel: Channel[int] = Channel()
    senders = [start.parked(partial(channel.send, value)) for value in range(2)]
    channel.close()
    for sender in senders:
        with pytest.raises(ClosedChannelError):
            sender.result()
    assert channel.recv() == END


def test_second_close() -> None:
    """A second close raises an error and changes nothing."""
    channel = filled(2, 1)
    channel.close()
    with pytest.raises(ClosedChannelError, match=r"^close of closed channel$"):
        channel.close()
    assert channel.recv() == (1, True)
    assert channel.recv() == END
    assert len(channel) == 0


@pytest.mark.parametrize("capacity", [0, 1, 2, 3])
@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
def test_send_on_a_closed_channel(
    start: Tasks, put: Callable[[Channel[Any], Any], Any], capacity: int
) -> None:
    """Sending to a closed channel, full or empty, raises an error without waiting."""
    channel = filled(capacity, *[1] * min(capacity, 2))
    channel.close()
    for _ in range(2):
        sender = start(lambda: put(channel, 2))
        with pytest.raises(ClosedChannelError, match=r"^send on closed channel$"):
            sender.result()
        channel.drain()
    assert channel.recv() == END


@pytest.mark.parametrize("take", ["recv", "select", "get"])
def test_close_wakes_the_receiver(start: Tasks, take: str) -> None:
    channel: Channel[int] = Channel(1)
    receiver = start.parked(lambda: TAKES[take](channel))
    channel.close()
    assert receiver.result() in (None, CLOSED)


def test_the_sentinel_has_a_name() -> None:
    """On a closed, empty channel, the inherited get returns a value that prints as CLOSED."""
    assert repr(CLOSED) == "CLOSED"


# The inherited queue.Queue.


def test_it_is_a_queue() -> None:
    """Channel is a subclass of queue.Queue, and the inherited methods work."""
    channel: Channel[int] = Channel(2)
    assert isinstance(channel, queue.Queue)
    assert (channel.qsize(), channel.empty(), channel.full()) == (0, True, False)
    channel.put(1)
    assert (channel.qsize(), channel.empty(), channel.full()) == (1, False, False)
    channel.put_nowait(2)
    assert (channel.qsize(), channel.empty(), channel.full()) == (2, False, True)
    assert len(channel) == 2
    assert channel.get() == 1
    assert channel.get_nowait() == 2
    assert (channel.qsize(), channel.empty(), channel.full()) == (0, True, False)


def test_put_on_a_full_channel() -> None:
    """put raises Full at its timeout, or immediately if told not to wait."""
    channel = filled(1, 1)
    with pytest.raises(queue.Full):
        channel.put_nowait(2)
    with pytest.raises(queue.Full):
        channel.put(2, block=False)
    begin = time.monotonic()
    with pytest.raises(queue.Full):
        channel.put(2, timeout=0.05)
    assert time.monotonic() - begin >= 0.05
    with pytest.raises(ValueError, match="timeout"):
        channel.put(2, timeout=-1)
    with pytest.raises(queue.Full):
        channel.put(2, block=False, timeout=-1)
    assert channel.drain() == [1]


def test_get_on_an_empty_channel() -> None:
    """get raises Empty at its timeout, or immediately if told not to wait."""
    channel: Channel[int] = Channel(1)
    with pytest.raises(queue.Empty):
        channel.get_nowait()
    with pytest.raises(queue.Empty):
        channel.get(block=False)
    begin = time.monotonic()
    with pytest.raises(queue.Empty):
        channel.get(timeout=0.05)
    assert time.monotonic() - begin >= 0.05
    with pytest.raises(ValueError, match="timeout"):
        channel.get(timeout=-1)


def test_a_timeout_of_zero() -> None:
    """With a timeout of 0, put and get succeed if they need not wait."""
    channel: Channel[int] = Channel(1)
    channel.put(1, timeout=0)
    with pytest.raises(queue.Full):
        channel.put(2, timeout=0)
    assert channel.get(timeout=0) == 1
    with pytest.raises(queue.Empty):
        channel.get(timeout=0)


def test_unbuffered_put(start: Tasks) -> None:
    """put on an unbuffered channel waits for a receiver, and withdraws its value at the timeout."""
    channel: Channel[int] = Channel()
    for kwargs in ({"block": False}, {"timeout": 0}, {"timeout": 0.05}):
        with pytest.raises(queue.Full):
            channel.put(1, **kwargs)
    assert select(channel, deadline=time.monotonic() + 0.01) == (None, None, False)
    putter = start.parked(partial(channel.put, 2, timeout=PATIENCE))
    assert channel.recv() == (2, True)
    putter.result()
    receiver = start.parked(channel.recv)
    channel.put(3, block=False)
    assert receiver.result() == (3, True)


def test_received_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """put succeeds if its value is received just as its timeout expires."""
    channel: Channel[int] = Channel()

    class LateGate:
        """A gate that receives the value while the sender waits, then reports a timeout."""

        def pass_(self, timeout: float) -> bool:
            assert timeout > 0
            assert channel.recv() == (1, True)
            return False

        def open(self) -> None:
            """Do nothing. No thread waits here."""

    class LateOffer(Offer[int]):
        def __init__(self, value: int) -> None:
            super().__init__(value)
            self.gate = LateGate()  # type: ignore[assignment, misc]

    monkeypatch.setattr("gochat.golang.runtime.threads.channel.Offer", LateOffer)
    channel.put(1, timeout=PATIENCE)
    assert select(channel, deadline=time.monotonic()) == (None, None, False)


def test_what_was_handed_over_survives_a_close(start: Tasks) -> None:
    """A value accepted by an unbuffered try_send is received even if the channel then closes."""
    for _ in range(20):
        channel: Channel[int] = Channel()

        def receive(channel: Channel[int] = channel) -> list[tuple[int, bool]]:
            return [channel.recv(), channel.recv()]

        receiver = start.parked(receive)
        assert channel.try_send(1)
        assert len(channel) == 0
        channel.close()
        assert receiver.result() == [(1, True), END]


class JustMissed(deque[Any]):
    """A queue that looks empty once, while a sender queues one value and waits to send another."""

    def __init__(self, channel: Channel[int], start: Tasks) -> None:
        super().__init__()
        self.channel, self.start = channel, start
        self.looks = 0

    def __len__(self) -> int:
        self.looks += 1
        if self.looks == 1:
            self.start.parked(self.send)
            return 0
        return super().__len__()

    def __bool__(self) -> bool:
        return len(self) > 0

    def send(self) -> None:
        for value in (1, 2):
            self.channel.send(value)


def test_the_queue_comes_before_the_line(start: Tasks) -> None:
    """Queued values are received before those of waiting senders, even if both just arrived."""
    channel: Channel[int] = Channel(1)
    channel.queue = JustMissed(channel, start)
    assert [channel.recv(), channel.recv()] == [(1, True), (2, True)]


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("take", ["recv", "drain", "try_send"])
def test_an_offer_that_is_withdrawn(start: Tasks, take: str, capacity: int) -> None:
    """A receive or send ignores an offer that has been withdrawn."""
    channel: Channel[int] = Channel(capacity)
    withdrawn: Offer[int] = Offer(0)
    withdrawn.refuse()
    channel._offers.append(withdrawn)
    if take == "drain":
        assert channel.drain() == []
    elif take == "try_send":
        assert channel.try_send(2) == (capacity > 0)
        assert channel.drain() == [2][:capacity]
    receiver = start.parked(channel.recv)
    channel.send(1)
    assert receiver.result() == (1, True)
    assert not channel._offers


@pytest.mark.usefixtures("_threading", "_hasty")
@pytest.mark.parametrize("capacity", [1, 3])
def test_capacity_with_many_senders(start: Tasks, capacity: int) -> None:
    """A channel never exceeds its capacity while many threads send."""
    channel: Channel[int] = Channel(capacity)

    def send() -> None:
        for value in range(300):
            channel.send(value)

    senders = [start(send) for _ in range(6)]
    most = received = 0
    while received < 6 * 300:
        most = max(most, len(channel), channel.qsize())
        received += len(channel.drain()) if received % 3 else channel.recv()[1]
    for sender in senders:
        sender.result()
    assert most == capacity


@pytest.mark.usefixtures("_hasty")
def test_len_beside_a_drain(start: Tasks) -> None:
    """len stays between 0 and the capacity while other threads send and drain."""
    channel: Channel[int] = Channel(4)
    ended = threading.Event()

    def look() -> set[int]:
        seen = set()
        while not ended.is_set():
            seen |= {len(channel), channel.qsize(), channel.statistics().senders}
        return seen

    looker = start(look)

    def send() -> None:
        for value in range(20_000):
            channel.send(value)
        channel.close()

    sender = start(send)
    while channel.recv()[1]:
        channel.drain()
    sender.result()
    ended.set()
    assert looker.result() <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize("put", ["send", "try_send"])
def test_get_is_woken_by_a_send(start: Tasks, put: str) -> None:
    channel: Channel[str] = Channel()
    receiver = start.parked(channel.get)
    PUTS[put](channel, "value")
    assert receiver.result() == "value"


def test_put_is_woken_by_a_receive(start: Tasks) -> None:
    channel = filled(1, 1)
    putter = start.parked(lambda: channel.put(2, timeout=PATIENCE))
    assert channel.recv() == (1, True)
    putter.result()
    assert channel.recv() == (2, True)


# select.


def test_select_of_what_is_there() -> None:
    """select takes one value from one ready channel, and returns that channel and the value."""
    a, b, c = filled(2), filled(2, "b1", "b2"), filled(2)
    assert select(a, b, c) == (b, "b1", True)
    assert select(c, b, a) == (b, "b2", True)
    assert select(a, b, c, deadline=time.monotonic()) == (None, None, False)


@pytest.mark.parametrize("put", PUTS.values(), ids=PUTS)
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("deadline", [None, PATIENCE], ids=["forever", "deadline"])
def test_select_is_woken(
    start: Tasks,
    put: Callable[[Channel[Any], Any], Any],
    which: int,
    deadline: float | None,
) -> None:
    channels: list[Channel[str]] = [Channel(1), Channel(), Channel(5)]
    when = None if deadline is None else time.monotonic() + deadline
    selector = start.parked(lambda: select(*channels, deadline=when))
    put(channels[which], "value")
    assert selector.result() == (channels[which], "value", True)


def test_select_is_woken_by_close(start: Tasks) -> None:
    a: Channel[int] = Channel()
    b: Channel[int] = Channel()
    selector = start.parked(lambda: select(a, b))
    b.close()
    assert selector.result() == (b, None, False)


def test_select_with_a_closed_channel() -> None:
    """A closed channel is always ready, but does not keep select from choosing other channels."""
    closed: Channel[int] = Channel()
    closed.close()
    other = filled(1)
    assert [select(closed, other) for _ in range(3)] == [(closed, None, False)] * 3
    other.send(1)
    got = [select(closed, other) for _ in range(200)]
    assert got.count((other, 1, True)) == 1
    assert got.count((closed, None, False)) == 199


def test_select_takes_a_closed_channels_values_first() -> None:
    channel = filled(2, 1, 2)
    channel.close()
    assert [select(channel) for _ in range(4)] == [
        (channel, 1, True),
        (channel, 2, True),
        (channel, None, False),
        (channel, None, False),
    ]


@pytest.mark.parametrize("ago", [0.0, 1.0, math.inf])
def test_a_deadline_that_has_passed_comes_first(ago: float) -> None:
    """If the deadline has already passed, select takes nothing, even from a ready channel."""
    ready, closed = filled(1, 1), filled(1)
    closed.close()
    for _ in range(50):
        when = time.monotonic() - ago
        assert select(ready, closed, deadline=when) == (None, None, False)
    assert ready.drain() == [1]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_deadline(count: int) -> None:
    """With nothing to receive, select returns at the deadline and not before."""
    channels: list[Channel[int]] = [Channel() for _ in range(count)]
    for wait in (0.0001, 0.0015, 0.01, 0.05):
        deadline = time.monotonic() + wait
        assert select(*channels, deadline=deadline) == (None, None, False)
        assert time.monotonic() >= deadline


@pytest.mark.parametrize("deadline", [1e9, 1e18, math.inf, threading.TIMEOUT_MAX * 2])
def test_a_huge_deadline(start: Tasks, deadline: float) -> None:
    """select accepts a deadline too distant for the system's timeouts, and then waits forever."""
    channel: Channel[int] = Channel()
    selector = start.parked(lambda: select(channel, deadline=deadline))
    channel.send(1)
    assert selector.result() == (channel, 1, True)


@pytest.mark.parametrize("count", [1, 4])
def test_a_select_that_waits_uses_no_cpu(start: Tasks, count: int) -> None:
    channels: list[Channel[int]] = [Channel() for _ in range(count)]

    def cost() -> tuple[float, int]:
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        cpu = time.thread_time()
        assert select(*channels, deadline=time.monotonic() + 0.5) == (None, None, False)
        cpu = time.thread_time() - cpu
        return cpu, resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - switches

    cpu, switches = start(cost).result()
    assert cpu < 0.5 / 4  # polling would use all of this time
    assert switches < 10


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("ready", [*itertools.combinations(range(4), 2), (0, 1, 2, 3)])
def test_select_is_fair(ready: tuple[int, ...]) -> None:
    """select does not starve any ready channel."""
    channels: list[Channel[int]] = [Channel(400) for _ in range(4)]
    for which, value in itertools.product(ready, range(400)):
        channels[which].send(value)
    got = Counter(channels.index(must(select(*channels)[0])) for _ in range(400))
    assert sorted(got) == list(ready)
    assert min(got.values()) >= 50


def test_two_threads_that_receive(start: Tasks) -> None:
    """A second thread that waits for a channel gets RuntimeError; the first keeps waiting."""
    shared: Channel[str] = Channel()
    own: Channel[str] = Channel()
    first = start.parked(lambda: select(shared))
    with pytest.raises(RuntimeError, match="two threads receive from one channel"):
        select(own, shared, deadline=soon())
    shared.send("for the first")
    assert first.result() == (shared, "for the first", True)

    # The failed select has not affected the second thread's other channel.
    receiver = start.parked(lambda: select(own, shared))
    own.send("for anybody")
    assert receiver.result() == (own, "for anybody", True)


def test_two_threads_that_receive_in_turn(start: Tasks) -> None:
    """With in_turn=True, a second thread that waits for the channel also gets RuntimeError."""
    channel: Channel[int] = Channel(1, in_turn=True)

    def receive() -> tuple[int, bool]:
        received = channel.recv()
        turns.give_up()
        return received

    first = start.parked(receive)
    with pytest.raises(RuntimeError, match="two threads receive from one channel"):
        channel.recv()
    channel.send(1)
    assert first.result() == (1, True)


def test_a_bell_that_rings_for_nothing(start: Tasks) -> None:
    channel: Channel[int] = Channel(1)
    receiver = start.parked(channel.recv)
    channel._wake()
    receiver.wait_until_parked()
    channel.send(1)
    assert receiver.result() == (1, True)


def test_receivers_may_change(start: Tasks) -> None:
    a: Channel[int] = Channel()
    b: Channel[int] = Channel()
    for value in range(5):
        receiver = start.parked(lambda: select(a, b))
        (a, b)[value % 2].send(value)
        assert receiver.result()[1] == value


def test_a_bell_that_nobody_waits_for(start: Tasks) -> None:
    """After a select, the channels from which it took no value work as before."""
    a: Channel[int] = Channel(1)
    b: Channel[int] = Channel(1)
    assert select(a, b, deadline=time.monotonic() + 0.01) == (None, None, False)
    a.send(1)
    assert select(a, b) == (a, 1, True)

    selector = start.parked(lambda: select(a, b))
    a.send(2)
    assert selector.result() == (a, 2, True)
    receiver = start.parked(b.recv)
    b.send(3)
    assert receiver.result() == (3, True)


def test_two_values_wake_one_select_each(start: Tasks) -> None:
    """Each select receives one value, even if two arrive while it waits."""
    a: Channel[int] = Channel(1)
    b: Channel[int] = Channel(1)
    selector = start.parked(lambda: [select(a, b)[1] for _ in range(2)])
    a.send(1)
    b.send(2)
    assert sorted(selector.result()) == [1, 2]
    assert select(a, b, deadline=time.monotonic() + 0.01) == (None, None, False)


def test_a_channel_may_be_named_twice(start: Tasks) -> None:
    channel: Channel[int] = Channel()
    selector = start.parked(lambda: select(channel, channel))
    channel.send(1)
    assert selector.result() == (channel, 1, True)


def test_an_interrupted_select_of_a_channel_named_twice() -> None:
    """If a select is interrupted, its value is put back once."""

    class Interrupt(Observer):
        def received(self, channel: Channel[Any], value: Any) -> None:
            channel.observers = ()
            raise KeyboardInterrupt(value)

    channel = filled(2, 1)
    channel.observe(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        select(channel, channel)
    assert channel.drain() == [1]


@pytest.mark.usefixtures("_threading", "_seeded", "_hasty")
def test_no_wake_up_is_lost_in_lock_step(start: Tasks) -> None:
    """A receiver that waits for every value is woken each time."""
    channels: list[Channel[int]] = [Channel(1), Channel(), Channel(3)]
    echo: Channel[int] = Channel(1)
    order = [random.choice(channels) for _ in range(3000)]

    def send() -> None:
        for value, channel in enumerate(order):
            channel.send(value)
            assert select(echo, deadline=soon()) == (echo, value, True)

    sender = start(send)
    for value, channel in enumerate(order):
        assert select(*channels, deadline=soon()) == (channel, value, True)
        echo.send(value)
    sender.result()


@pytest.mark.usefixtures("_threading", "_seeded", "_hasty")
def test_every_value_is_accounted_for(start: Tasks) -> None:
    """select receives every value from many senders once, and in each sender's order."""
    rounds = 1500
    shared: list[Channel[tuple[int, int]]] = [Channel(), Channel(1), Channel(2)]
    own: list[Channel[tuple[int, int]]] = [Channel(), Channel(1), Channel(2), Channel(64)]

    def produce(who: int) -> None:
        chance = random.Random(who)
        for value in range(rounds):
            item = who, value
            channel = chance.choice([own[who], own[who], *shared])
            if channel is own[who] and chance.random() < 0.5 and channel.try_send(item):
                continue
            if chance.random() < 0.5:
                channel.put(item)
            else:
                channel.send(item)

    tasks = [start(partial(produce, who)) for who in range(len(own))]
    channels = own + shared
    seen: dict[tuple[int, int], list[int]] = {}
    expiries = got = 0
    while got < rounds * len(own):
        # Now and then, a short deadline makes select give up just as a sender wakes it.
        short = got % 7 == 0
        now = time.monotonic()
        channel, item, ok = select(*channels, deadline=now + (2e-5 if short else PATIENCE))
        if channel is None:
            assert short, "a wake-up is lost"
            expiries += 1
            assert expiries < 1_000_000
            continue
        assert ok
        who, value = item
        seen.setdefault((who, channels.index(channel)), []).append(value)
        got += 1
    for task in tasks:
        task.result()

    assert all(values == sorted(values) for values in seen.values())
    for who in range(len(own)):
        values = [value for (sender, _), part in seen.items() if sender == who for value in part]
        assert sorted(values) == list(range(rounds))
    assert [len(channel) for channel in channels] == [0] * len(channels)


@pytest.mark.usefixtures("_threading", "_hasty")
def test_close_among_many_senders(start: Tasks) -> None:
    """When senders race with a close, each value is received or its send raises."""
    for capacity in (0, 1, 8):
        for _ in range(25):
            channel: Channel[int] = Channel(capacity)

            def send(channel: Channel[int] = channel) -> int:
                sent = 0
                with suppress(ClosedChannelError):
                    while True:
                        channel.send(1)
                        sent += 1
                return sent

            senders = [start(send) for _ in range(3)]
            received = sum(must(channel.recv()[0]) for _ in range(10))
            channel.close()
            while (got := channel.recv())[1]:
                received += must(got[0])
            assert received == sum(sender.result() for sender in senders)


# Channels with in_turn=True: a receiver needs a turn to continue.


class ShyDeque(deque[Any]):
    """A queue that looks empty at first, as if its value arrived just afterward."""

    looks = 0

    def __len__(self) -> int:
        self.looks += 1
        return 0 if self.looks == 1 else super().__len__()


@pytest.fixture
def _one_turn() -> Iterator[None]:
    """Limit the program to one turn, and give it up at the end of the test."""
    before = turns.gomaxprocs(1)
    yield
    turns.give_up()
    turns.gomaxprocs(before)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.usefixtures("_one_turn")
def test_a_value_between_the_look_and_the_wait(in_turn: bool) -> None:
    """A value that arrives between select's check and its wait is received."""
    channel: Channel[int] = Channel(1, in_turn=in_turn)
    channel.queue = ShyDeque([1])
    assert select(channel, deadline=soon()) == (channel, 1, True)


@pytest.mark.usefixtures("_one_turn")
def test_a_channel_with_turns(start: Tasks) -> None:
    """A channel with in_turn=True sends, receives, drains and closes like any other."""
    channel: Channel[int] = Channel(3, in_turn=True)

    def receive() -> list[Any]:
        try:
            return [channel.recv(), select(channel), channel.drain(), channel.recv()]
        finally:
            turns.give_up()

    receiver = start.parked(receive)
    channel.send(1)
    receiver.wait_until_parked()
    channel.put(2)
    receiver.wait_until_parked()
    channel.close()
    assert receiver.result() == [(1, True), (channel, 2, True), [], END]

    channel = filled(3, 1, 2, 3)
    channel.close()
    assert channel.recv() == (1, True)
    assert channel.drain() == [2, 3]
    assert channel.recv() == END


@pytest.mark.usefixtures("_one_turn")
def test_a_channel_with_turns_is_alone() -> None:
    """A channel with in_turn=True must be the only one in a select."""
    channel: Channel[int] = Channel(in_turn=True)
    with pytest.raises(ValueError, match="only one"):
        select(channel, Channel[int]())


@pytest.mark.usefixtures("_one_turn")
def test_deadlines_with_turns() -> None:
    channel: Channel[int] = Channel(1, in_turn=True)
    for wait in (0.0001, 0.01):
        deadline = time.monotonic() + wait
        assert select(channel, deadline=deadline) == (None, None, False)
        assert time.monotonic() >= deadline
    channel.send(1)
    assert select(channel, deadline=time.monotonic()) == (None, None, False)
    assert select(channel, deadline=math.inf) == (channel, 1, True)


@pytest.mark.usefixtures("_threading", "_one_turn")
def test_receivers_take_turns(start: Tasks) -> None:
    """A receiver whose value has arrived waits for a turn, even beyond its deadline."""
    busy: Channel[int] = Channel(1, in_turn=True)
    channel: Channel[int] = Channel(1, in_turn=True)

    def receive(deadline: float | None) -> Any:
        try:
            return select(channel, deadline=deadline)
        finally:
            turns.give_up()

    for deadline in (None, 1.0):
        when = None if deadline is None else time.monotonic() + deadline
        receiver = start.parked(partial(receive, when))
        busy.send(1)
        assert busy.recv() == (1, True)  # this thread now has the only turn
        channel.send(2)
        receiver.join(0.2 if when is None else when + 0.2 - time.monotonic())
        assert receiver.is_alive()
        turns.give_up()
        got, value, _ = receiver.result()
        assert ([value] if got is channel else channel.drain()) == [2]


@pytest.mark.usefixtures("_threading", "_one_turn", "_hasty")
def test_no_wake_up_is_lost_with_turns(start: Tasks) -> None:
    """Receivers that share one turn receive all values sent to them."""
    channels: list[Channel[int]] = [Channel(4, in_turn=True) for _ in range(8)]
    rounds = 400

    def receive(channel: Channel[int]) -> list[int]:
        values: list[int] = []
        try:
            while True:
                got, value, ok = select(channel, deadline=soon())
                assert got is channel, "a wake-up is lost"
                if not ok:
                    return values
                values += [value, *channel.drain()]
        finally:
            turns.give_up()

    receivers = [start(partial(receive, channel)) for channel in channels]
    for value in range(rounds):
        for channel in channels:
            if not channel.try_send(value):
                channel.send(value)
    for channel in channels:
        channel.close()
    for receiver in receivers:
        assert receiver.result() == list(range(rounds))


# Channels as Python objects.


@pytest.mark.parametrize("capacity", [0, 1, 3])
@pytest.mark.parametrize("in_turn", [False, True])
def test_iteration_ends_with_the_close(start: Tasks, capacity: int, *, in_turn: bool) -> None:
    channel: Channel[int] = Channel(capacity, in_turn=in_turn)

    def receive() -> list[int]:
        values = list(channel)
        turns.give_up()
        return values

    receiver = start(receive)
    for value in range(3):
        channel.put(value, timeout=PATIENCE)
    channel.close()
    assert receiver.result() == [0, 1, 2]
    assert list(channel) == []


def test_iteration_compares_no_values() -> None:
    class Equal:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    channel: Channel[Equal] = Channel(1)
    value = Equal()
    channel.send(value)
    for received in channel:
        assert received is value
        channel.close()


def test_a_channel_is_true() -> None:
    """Even an empty channel is true, so that `channel or other` works."""
    assert Channel()
    assert Channel(1)
    assert filled(1, 1)


@pytest.mark.parametrize("capacity", [0, 1])
def test_full(capacity: int) -> None:
    """full returns whether put_nowait would raise. An unbuffered channel is always full."""
    channel: Channel[int] = Channel(capacity)
    for _ in range(capacity):
        assert not channel.full()
        channel.put_nowait(1)
    assert channel.full()
    with pytest.raises(queue.Full):
        channel.put_nowait(1)


def test_what_a_channel_does_not_have() -> None:
    """The methods of queue.Queue that a channel does not support raise NotImplementedError."""
    channel = filled(2, 1)
    with pytest.raises(NotImplementedError, match="use close"):
        channel.shutdown(immediate=True)
    with pytest.raises(NotImplementedError, match="counts no tasks"):
        channel.task_done()
    with pytest.raises(NotImplementedError, match="counts no tasks"):
        channel.join()
    channel.send(2)
    channel.close()
    assert [channel.recv() for _ in range(3)] == [(1, True), (2, True), END]


def test_statistics(start: Tasks) -> None:
    """statistics counts the values sent, received and refused, and shows who is waiting."""
    channel: Channel[int] = Channel(4)
    receiver = start.parked(channel.recv)
    assert channel.statistics() == ChannelStatistics(
        capacity=4,
        queued=0,
        closed=False,
        senders=0,
        receiver=None,
        receiver_waits=True,
        sent=0,
        received=0,
        refused=0,
        drains=(0,) * 32,
        queued_at_close=0,
    )
    channel.send(1)
    assert receiver.result() == (1, True)
    for value in range(6):
        channel.try_send(value)
    sender = start.parked(partial(channel.send, 6))
    now = channel.statistics()
    assert (now.queued, now.senders, now.receiver_waits) == (4, 1, False)
    assert (now.sent, now.received, now.refused) == (5, 1, 2)
    assert len(channel.drain()) == 4
    sender.result()
    assert channel.drain() == [6]
    assert channel.drain() == []
    channel.send(7)
    channel.close()
    assert channel.get() == 7
    assert channel.recv() == END
    now = channel.statistics()
    assert (now.sent, now.received, now.queued_at_close, now.closed) == (7, 7, 1, True)
    assert now.drains == (1, 1, 0, 1, *[0] * 28)


def test_statistics_of_an_unbuffered_channel(start: Tasks) -> None:
    """A value counts as sent only when it is received."""
    channel: Channel[int] = Channel()
    assert not channel.try_send(0)
    sender = start.parked(lambda: channel.send(1))
    now = channel.statistics()
    assert (now.queued, now.senders, now.sent, now.refused) == (0, 1, 0, 1)
    assert channel.recv() == (1, True)
    sender.result()
    now = channel.statistics()
    assert (now.senders, now.sent, now.received) == (0, 1, 1)


def test_what_a_thread_waits_for(start: Tasks) -> None:
    """`waits` names the operation in which a thread waits, until it continues."""
    channel: Channel[int] = Channel()
    receiver = start.parked(channel.recv)
    assert receiver.ident is not None
    assert waits[receiver.ident] == "recv"
    channel.send(1)
    receiver.result()
    sender = start.parked(lambda: channel.send(2))
    assert sender.ident is not None
    assert waits[sender.ident] == "send"
    assert channel.recv() == (2, True)
    sender.result()
    assert not {receiver.ident, sender.ident} & waits.keys()


# Abandoned channels.


@pytest.mark.usefixtures("_threading")
@pytest.mark.parametrize("capacity", [0, 1])
def test_senders_to_an_abandoned_channel_come_back(start: Tasks, capacity: int) -> None:
    """After abandon, waiting and later sends raise AbandonedChannelError."""
    channel: Channel[int] = Channel(capacity)
    if capacity:
        channel.send(0)
    task = start(lambda: channel.send(1))
    wait_until(lambda: channel.statistics().senders == 1)
    channel.abandon()
    with pytest.raises(AbandonedChannelError):
        task.result()
    for send in (channel.send, channel.try_send, lambda value: channel.put(value, timeout=1)):
        with pytest.raises(AbandonedChannelError):
            send(2)
    channel.abandon()
    assert len(channel) == capacity


def test_a_closed_channel_is_abandoned() -> None:
    """A closed channel that is abandoned keeps its values and stays closed."""
    channel = filled(1, 1)
    channel.close()
    channel.abandon()
    assert list(channel) == [1]
    assert channel.recv() == (None, False)


class SlowSender(Channel[str]):
    """A channel that blocks the thread `sender` after its second check for a waiting receiver."""

    def __init__(self) -> None:
        self.marked: Any = None
        self.looks = 0
        self.looked = threading.Event()
        self.go_on = threading.Event()
        super().__init__(4)

    @property
    def _idle(self) -> Any:
        marked = self.marked
        if threading.current_thread().name == "sender":
            self.looks += 1
            if self.looks == 2:
                self.looked.set()
                self.go_on.wait(PATIENCE)
        return marked

    @_idle.setter
    def _idle(self, receiver: Any) -> None:
        self.marked = receiver


def test_a_slow_sender_and_a_later_wait() -> None:
    """A delayed sender does not use up the wake-up of a later wait.

    The sender sees the receiver waiting, and is held there. A value on another channel ends the
    wait, and the receiver begins a new wait. Now the sender continues, and wakes the earlier wait.
    The next send must still wake the receiver.
    """
    slow, other = SlowSender(), Channel[str](4)
    got: list[str] = []

    def receive() -> None:
        while "b" not in got:
            got.append(select(slow, other)[1])

    with in_background(receive):
        wait_until(lambda: slow.marked is not None and slow.marked.is_idle())
        earlier = slow.marked
        sender = threading.Thread(target=slow.try_send, args=("a",), name="sender")
        sender.start()
        assert slow.looked.wait(PATIENCE)
        other.send("x")
        wait_until(lambda: sorted(got) == ["a", "x"])
        wait_until(lambda: slow.marked is not earlier and slow.marked.is_idle())
        slow.go_on.set()
        sender.join(PATIENCE)
        slow.try_send("b")
