"""Interrupt the operations of channels and turns at every bytecode instruction.

A signal handler can run between two instructions, and then raise an exception, or use the channel
that its thread is using. These tests do both at every step. A trace function raises, or calls a
handler, before the Nth instruction that the calling thread executes in these modules. N counts up
from 1 until the operation takes fewer than N steps. Instructions that cannot give a new outcome are
skipped. Python itself runs signal handlers at only some of the steps.
"""

from __future__ import annotations

import ctypes
import dis
import gc
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from itertools import count, islice, pairwise
from types import CodeType, FrameType
from typing import Any, NamedTuple

import coverage
import pytest

from gochat import Channel, ClosedChannelError, select
from gochat.golang.channel import CLOSED
from gochat.golang.goroutine import Observer
from gochat.golang.runtime.threads.turns import FREE_THREADED, Turns, turns

from .support import PATIENCE, ROOT, signal_main_thread, unmeasured

MODULES = {
    str(sys.modules[f"gochat.golang.{name}"].__file__)
    for name in (
        "closed",
        *(f"runtime.threads.{each}" for each in ("channel", "handover", "turns")),
    )
}

#: For each module, the jumps from line to line that the traces have seen. As in coverage, a
#: function's start and end are the negative of its first line number.
ARCS: dict[str, set[tuple[int, int]]] = {name: set() for name in MODULES}

pytestmark = pytest.mark.skipif(
    FREE_THREADED, reason="only with a GIL are the steps those of one thread at a time"
)


@pytest.fixture(scope="module", autouse=True)
def _arcs_for_coverage() -> Iterator[None]:
    """Report the jumps to coverage, whose own trace function is off while these traces run."""
    yield
    if measuring := coverage.Coverage.current():
        data = coverage.CoverageData(str(measuring.get_option("run:data_file")), suffix=True)
        data.add_arcs(ARCS)
        data.write()


def wait_until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait like `support.wait_until`, but check more often, because most waits here are short."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what or condition}"
        time.sleep(1e-4)


class Interrupt(BaseException):
    """Stands in for an exception raised by a signal handler."""


class Outcome(NamedTuple):
    """The outcome of an operation.

    at: the interrupted step, or None if the operation ended before that step.
    """

    at: str | None
    raised: BaseException | None
    result: Any


#: Instructions that do nothing but push a constant or a local value.
QUIET = re.compile(r"LOAD_(FAST(?!_AND_CLEAR)|CONST|GLOBAL|SMALL_INT)|PUSH_NULL|PRECALL|KW_NAMES")


@cache
def passed_over(code: CodeType) -> frozenset[int]:
    """Return the offsets that can be skipped.

    At a `return`, Python runs no signal handler, and the function has already left its `try`. The
    same holds for a conditional jump in Python 3.14. Other instructions can be skipped if the
    previous one only pushed a value and the same `try` applies to both. Nearly half of all
    instructions can be skipped.
    """
    instructions = list(dis.get_instructions(code))
    found = set()
    for before, last in pairwise(instructions):
        if last.opname in ("RETURN_VALUE", "RETURN_CONST"):
            found.add(last.offset)
            if before.opname in ("LOAD_CONST", "LOAD_FAST", "LOAD_FAST_BORROW", "LOAD_SMALL_INT"):
                found.add(before.offset)
        if sys.version_info >= (3, 14) and before.opname.startswith(
            ("POP_JUMP_IF", "NOT_TAKEN", "NOP")
        ):
            found.add(before.offset)
    # mypy does not know exception_entries.
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    borders = {border for entry in entries for border in (entry.start, entry.end)}
    alike = {
        last.offset
        for before, last in pairwise(instructions)
        if QUIET.match(before.opname)
        and before.offset not in found
        and not last.is_jump_target
        and not any(before.offset < border <= last.offset for border in borders)
    }
    return frozenset(found | alike)


def at_step(number: int, happens: Callable[[], object], operation: Callable[[], Any]) -> Outcome:
    """Run the operation, and call `happens` before its step `number`. `happens` may raise."""
    steps = 0
    at = None
    before = sys.gettrace()
    broken: list[FrameType] = []
    lines: dict[int, int] = {}

    class Local(partial[None]):
        """A frame's trace function. If it raises, Python removes it and stops tracing. Its
        finalizer then turns tracing on again, so that coverage sees what the interrupted functions
        do.
        """

        def __del__(self) -> None:
            if broken:
                sys.settrace(trace)
                frame = broken.pop()
                frame.f_trace = Local(local, frame.f_code, passed_over(frame.f_code))

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call" and frame.f_code.co_filename in MODULES:
            lines[id(frame)] = -frame.f_code.co_firstlineno
            # Returning it is not enough: Python 3.13 would skip opcodes.
            frame.f_trace = Local(local, frame.f_code, passed_over(frame.f_code))
            frame.f_trace_opcodes = True
            return frame.f_trace
        return None

    def local(
        code: CodeType, not_at: frozenset[int], frame: FrameType, event: str, _: object
    ) -> None:
        nonlocal steps, at
        if event in ("line", "return"):
            line = frame.f_lineno if event == "line" else -code.co_firstlineno
            ARCS[code.co_filename].add((lines[id(frame)], line))
            lines[id(frame)] = line
        elif event == "opcode" and at is None and frame.f_lasti not in not_at:
            steps += 1
            if steps == number:
                at = f"{code.co_name}, line {frame.f_lineno}, at {frame.f_lasti}"
                broken.append(frame)
                happens()
                broken.clear()

    result, raised = None, None
    gc.disable()  # finalizers from earlier cases must not be interrupted
    sys._getframe().f_trace_opcodes = True  # otherwise Python 3.12 skips opcodes
    sys.settrace(trace)
    try:
        result = operation()
    except (Interrupt, ClosedChannelError) as error:
        raised = error
    finally:
        sys.settrace(before)
        gc.enable()
    return Outcome(at, raised, result)


def interrupt() -> None:
    raise Interrupt


Operation = Callable[[], Any]

#: A test case is a generator. It yields the operation, is sent the outcome, and checks the result.
#: It can also yield a handler, which is called at the step. Otherwise, Interrupt is raised there.
Case = Generator["Operation | tuple[Operation, Callable[[], None]]", Outcome, None]


def at_every_step(case: Callable[[], Case]) -> int:
    """Run the case once for each step of its operation. Return the number of steps."""
    # The traces report what this thread does. Other tests cover its peers.
    with unmeasured():
        for number in count(1):
            play = case()
            got = next(play)
            operation, happens = got if isinstance(got, tuple) else (got, interrupt)
            outcome = at_step(number, happens, operation)
            try:
                play.send(outcome)
            except StopIteration:
                pass
            except BaseException as failure:
                raise AssertionError(f"at step {number}: {outcome}") from failure
            if not outcome.at:
                break
    return number - 1


class Peer(threading.Thread):
    """A thread that must end, and keeps its result."""

    def __init__(self, target: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._target_ = target
        self.result: Any = None
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._target_()
        except ClosedChannelError as error:
            self.raised = error

    def end(self) -> Any:
        """Wait for the thread to end, and return the result."""
        self.join(PATIENCE)
        assert not self.is_alive(), "a thread waits forever"
        return self.result


def is_waited_for(channel: Channel[Any]) -> bool:
    receiver = channel._idle
    return receiver is not None and receiver.is_idle()


def receive_all(channel: Channel[Any]) -> list[Any]:
    """Receive until "end" and give up the turn. Return the values before "end"."""
    values: list[Any] = []
    while True:
        value, ok = channel.recv()
        assert ok
        if value == "end":
            turns.give_up()
            return values
        values.append(value)


def check(channel: Channel[Any], *possible: list[Any]) -> None:
    """Check that the channel holds one of these lists of values and still works."""
    receiver = Peer(partial(receive_all, channel))
    if channel.capacity:
        channel.send("more")
    else:
        sender = Peer(partial(channel.send, "more"))
        sender.end()
    wait_until(lambda: not channel.queue and is_waited_for(channel), "an idle receiver")
    assert channel.try_send("and more")
    channel.send("end")
    assert receiver.end() in [[*values, "more", "and more"] for values in possible]
    assert not channel._offers
    assert not turns._line


# Senders.

CAPACITIES = [(0, False), (0, True), (2, False), (2, True)]
SENDS: dict[str, Callable[[Channel[Any]], Any]] = {
    "send": lambda channel: channel.send(1),
    "put": lambda channel: channel.put(1, timeout=PATIENCE),
    "try_send": lambda channel: channel.try_send(1),
}


@pytest.mark.parametrize(("capacity", "in_turn"), CAPACITIES)
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_send_to_an_idle_receiver(
    send: Callable[[Channel[Any]], Any], capacity: int, in_turn: bool
) -> None:
    """An interrupted send takes effect fully or not at all; the receiver gets all later values."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity, in_turn=in_turn)
        receiver = Peer(partial(receive_all, channel))
        wait_until(lambda: is_waited_for(channel))
        outcome = yield lambda: send(channel)
        Peer(partial(channel.send, "end")).end()
        assert receiver.end() in ([1], *([[]] if outcome.at else []))
        check(channel, [])

    assert at_every_step(case) > 10


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_send_with_room(send: Callable[[Channel[Any]], Any], in_turn: bool) -> None:
    def case() -> Case:
        channel: Channel[Any] = Channel(3, in_turn=in_turn)
        channel.send(0)
        outcome = yield lambda: send(channel)
        check(channel, [0, 1], *([[0]] if outcome.at else []))

    assert at_every_step(case) > 5


@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("send", ["send", "put"])
def test_send_that_waits(send: str, capacity: int) -> None:
    """An interrupted send that was waiting either succeeds or withdraws its value."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity)
        if capacity:
            channel.send(0)
        ended = threading.Event()

        def receive() -> list[Any]:
            wait_until(lambda: channel.statistics().senders > 0 or ended.is_set())
            return receive_all(channel)

        receiver = Peer(receive)
        outcome = yield lambda: SENDS[send](channel)
        ended.set()
        Peer(partial(channel.send, "end")).end()
        got = receiver.end()
        assert got in ([0, 1][1 - capacity :], *([[0][:capacity]] if outcome.at else []))
        check(channel, [])

    assert at_every_step(case) > 25


@pytest.mark.parametrize("capacity", [0, 1])
def test_send_that_is_late(capacity: int) -> None:
    """A put interrupted near its timeout leaves nothing behind."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity)
        if capacity:
            channel.send(0)

        def put() -> None:
            with pytest.raises(queue.Full):
                channel.put(1, timeout=1e-3)

        yield put
        assert channel.statistics().senders == 0
        check(channel, [0][:capacity])

    assert at_every_step(case) > 25


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("capacity", [0, 2])
def test_close(capacity: int, in_turn: bool) -> None:
    """An interrupted close takes effect for both receivers and senders, or for neither."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity, in_turn=in_turn)
        for value in range(capacity):
            channel.send(value)
        senders = [Peer(partial(channel.send, "lost")) for _ in range(2)]
        wait_until(lambda: channel.statistics().senders == 2)
        outcome = yield channel.close
        if outcome.raised:
            with suppress(ClosedChannelError):
                channel.close()
        for sender in senders:
            sender.end()
            assert isinstance(sender.raised, ClosedChannelError)
        for value in range(capacity):
            assert channel.recv() == (value, True)
        for _ in range(2):
            assert channel.recv() == (None, False)
        assert not turns._line
        with pytest.raises(ClosedChannelError):
            channel.try_send("late")

    assert at_every_step(case) > 25


@pytest.mark.parametrize("in_turn", [False, True])
def test_close_wakes_the_receiver(in_turn: bool) -> None:
    """If an interrupted close takes effect, the receiver sees the end. If not, it gets values."""

    def case() -> Case:
        channel: Channel[Any] = Channel(1, in_turn=in_turn)

        def receive() -> Any:
            got = channel.recv()
            turns.give_up()
            return got

        receiver = Peer(receive)
        wait_until(lambda: is_waited_for(channel))
        outcome = yield channel.close
        try:
            assert channel.try_send("not closed")
            assert outcome.raised
            assert receiver.end() == ("not closed", True)
        except ClosedChannelError:
            assert receiver.end() == (None, False)
        assert not turns._line

    assert at_every_step(case) > 10


# Receivers.

RECEIVES: dict[str, Callable[[Channel[Any]], list[Any]]] = {
    "recv": lambda channel: [channel.recv()[0]],
    "select": lambda channel: [select(channel)[1]],
    "deadline": lambda channel: [select(channel, deadline=time.monotonic() + PATIENCE)[1]],
    "get": lambda channel: [channel.get()],
    "range": lambda channel: list(islice(channel, 1)),
    "drain": lambda channel: channel.drain(),
}


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_receive_from_the_queue(
    receive: Callable[[Channel[Any]], list[Any]], in_turn: bool
) -> None:
    """An interrupted receive returns the value or leaves it queued, and keeps no turn."""

    def case() -> Case:
        channel: Channel[Any] = Channel(9, in_turn=in_turn)
        for value in (1, 1, 2):
            channel.send(value)
        outcome = yield lambda: receive(channel)
        if outcome.raised:
            assert not turns._line
        else:
            turns.give_up()
        check(channel, [1, 1, 2][len(outcome.result or []) :])

    assert at_every_step(case) > 10


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("capacity", [0, 1])
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
def test_receive_from_the_line(
    receive: Callable[[Channel[Any]], list[Any]], capacity: int, in_turn: bool
) -> None:
    """An interrupted receive returns a sender's value, or the sender keeps waiting."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity, in_turn=in_turn)
        if capacity:
            channel.send(0)
        senders = []
        for value in (1, 2):
            senders.append(Peer(partial(channel.send, value)))
            wait_until(lambda: channel.statistics().senders == len(senders))
        outcome = yield lambda: receive(channel)
        if outcome.raised:
            assert not turns._line
        got = outcome.result or []
        receiver = Peer(partial(receive_all, channel))
        turns.give_up()
        for sender in senders:
            sender.end()
        Peer(partial(channel.send, "end")).end()
        assert got + receiver.end() == [0, 1, 2][1 - capacity :]
        check(channel, [])

    assert at_every_step(case) > 10


@pytest.mark.parametrize(("capacity", "in_turn"), CAPACITIES)
@pytest.mark.parametrize("how", ["send", "try_send", "close"])
@pytest.mark.parametrize("receive", ["recv", "deadline", "get"])
def test_receive_that_waits(receive: str, how: str, capacity: int, in_turn: bool) -> None:
    """A receive interrupted as a value arrives returns the value or leaves it in the channel."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity, in_turn=in_turn)
        ended = threading.Event()

        def send() -> bool:
            wait_until(lambda: is_waited_for(channel) or ended.is_set())
            if how == "try_send":
                return channel.try_send(1)
            (channel.close if how == "close" else partial(channel.send, 1))()
            return True

        sender = Peer(send)
        outcome = yield lambda: RECEIVES[receive](channel)
        ended.set()
        if outcome.raised:
            assert not turns._line
        turns.give_up()
        if how == "close":
            sender.end()
            assert outcome.result in ([None], [CLOSED], None)
            assert channel.recv() == (None, False)
            return
        receiver = Peer(partial(receive_all, channel))
        sent = sender.end()
        Peer(partial(channel.send, "end")).end()
        assert (outcome.result or []) + receiver.end() == [1] * sent
        check(channel, [])

    assert at_every_step(case) > 25


@pytest.mark.parametrize("how", ["send", "close"])
def test_select_of_several(how: str) -> None:
    """An interrupted select returns the value or leaves it, and all its channels still work."""

    def case() -> Case:
        channels: list[Channel[Any]] = [Channel(0), Channel(1), Channel(0)]
        ended = threading.Event()

        def send() -> None:
            wait_until(lambda: all(map(is_waited_for, channels)) or ended.is_set())
            (channels[0].close if how == "close" else partial(channels[0].send, 1))()

        sender = Peer(send)
        outcome = yield lambda: select(*channels)
        ended.set()
        if how == "send":
            assert outcome.result or select(*channels) == (channels[0], 1, True)
            check(channels[0], [])
        else:
            assert select(*channels)[2] is False
        sender.end()
        check(channels[1], [])
        check(channels[2], [])

    assert at_every_step(case) > 25


@pytest.mark.parametrize("in_turn", [False, True])
def test_deadline(in_turn: bool) -> None:
    """A select interrupted near its deadline leaves nothing behind."""

    def case() -> Case:
        channel: Channel[Any] = Channel(1, in_turn=in_turn)
        outcome = yield lambda: select(channel, deadline=time.monotonic() + 1e-3)
        assert outcome.raised or outcome.result == (None, None, False)
        assert not turns._line
        check(channel, [])

    assert at_every_step(case) > 25


# Turns.


@contextmanager
def busy(mine: Turns, count: int) -> Iterator[Callable[[], None]]:
    """Let `count` threads take turns until the block ends or the yielded function is called.

    All must end, and each must get one more turn after the call.
    """
    stop = threading.Event()

    def work() -> None:
        me = mine.waiter()
        while True:
            last = stop.is_set()
            me.line_up()
            time.sleep(0)
            me.give_up()
            if last:
                return

    peers = [Peer(work) for _ in range(count)]
    yield stop.set
    stop.set()
    for peer in peers:
        peer.end()


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("what", ["line_up", "line_up again", "give_up", "gomaxprocs"])
def test_turns(what: str, limit: int) -> None:
    """An interrupted operation neither loses a turn nor duplicates one.

    A thread interrupted while it waits in line has no turn.
    """

    def case() -> Case:
        mine = Turns(limit)
        me = mine.waiter()
        with busy(mine, 2):
            if what != "line_up":
                me.line_up()
            outcome = yield {
                "line_up": me.line_up,
                "line_up again": me.line_up,
                "give_up": mine.give_up,
                "gomaxprocs": lambda: mine.gomaxprocs(limit + 1),
            }[what]
            if outcome.raised and what == "line_up":
                assert me not in mine._line
            me.give_up()
            assert me not in mine._line
        assert not mine._line

    assert at_every_step(case) > 5


def test_another_thread_is_interrupted() -> None:
    """An exception set by another thread ends a receive, and the channel still works."""
    # This needs a process that coverage does not trace. With tracing, CPython 3.11 executes
    # one instruction over and over while such an exception waits for a blocked thread.
    program = "from tests.test_interrupt import interrupt_another as run; run()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=PATIENCE)


def interrupt_another() -> None:
    for in_turn in (False, True):
        channel: Channel[Any] = Channel(1, in_turn=in_turn)
        for _ in range(20):
            raised: list[Interrupt] = []

            def receive(channel: Channel[Any] = channel, raised: list[Any] = raised) -> None:
                try:
                    while True:
                        channel.recv()
                except Interrupt as error:
                    raised.append(error)

            receiver = Peer(receive)
            wait_until(partial(is_waited_for, channel))
            ident = ctypes.c_ulong(receiver.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Interrupt))
            channel.send("wake up")  # the exception alone does not end the wait
            receiver.end()
            assert raised
            assert channel.drain() in ([], ["wake up"])
            check(channel, [])


# Signal handlers that use their own thread's channel.


def look(channel: Channel[Any]) -> None:
    assert 0 <= len(channel) == channel.qsize() <= 5
    assert channel.statistics().senders >= 0
    turns.give_up()
    turns.gomaxprocs(0)


HANDLERS: dict[str, Callable[[Channel[Any]], object]] = {
    "send": lambda channel: channel.send("handler"),
    "try_send": lambda channel: channel.try_send("handler"),
    "drain": lambda channel: channel.drain(),
    "look": look,
}


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_a_handler_in_a_send(handler: Callable[[Channel[Any]], Any], in_turn: bool) -> None:
    def case() -> Case:
        channel: Channel[Any] = Channel(5, in_turn=in_turn)
        channel.send(0)
        taken: list[Any] = []

        def handle() -> None:
            taken.extend(result if isinstance(result := handler(channel), list) else [])

        yield (lambda: channel.send(1)), handle
        left = Peer(partial(receive_all, channel))
        channel.send("end")
        got = taken + left.end()
        assert [value for value in got if value != "handler"] == [0, 1]
        check(channel, [])

    assert at_every_step(case) > 5


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("receive", RECEIVES.values(), ids=RECEIVES)
@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_a_handler_in_a_receive(
    handler: Callable[[Channel[Any]], Any],
    receive: Callable[[Channel[Any]], list[Any]],
    in_turn: bool,
) -> None:
    def case() -> Case:
        channel: Channel[Any] = Channel(5, in_turn=in_turn)
        for value in (1, 2):
            channel.send(value)
        taken: list[Any] = []
        again = Peer(lambda: None)

        def handle() -> None:
            nonlocal again
            taken.extend(result if isinstance(result := handler(channel), list) else [])
            if not len(channel):  # without a value, the receive would rightly wait forever
                again = Peer(partial(channel.send, 3))

        outcome = yield (lambda: receive(channel)), handle
        assert not outcome.raised
        again.end()
        turns.give_up()
        left = Peer(partial(receive_all, channel))
        channel.send("end")
        got = taken + outcome.result + left.end()
        assert sorted(value for value in got if value not in ("handler", 3)) == [1, 2]
        check(channel, [])

    assert at_every_step(case) > 5


class SeesSends(Observer):
    """Makes `try_send` do all its checks."""

    def sends(self, channel: Any, value: Any) -> None:
        pass


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("how", ["close", "send", "try_send"])
def test_a_handler_that_closes(how: str, in_turn: bool, observed: bool) -> None:
    """If a handler closes the channel, an interrupted send or close completes or raises."""

    def case() -> Case:
        channel: Channel[Any] = Channel(5, in_turn=in_turn)
        if observed:
            channel.observe(SeesSends())
        refused = False

        def handle() -> None:
            nonlocal refused
            try:
                channel.close()
            except ClosedChannelError:
                refused = True
                raise

        outcome = yield (
            channel.close if how == "close" else partial(SENDS[how], channel),
            handle,
        )
        if not outcome.at and how != "close":
            channel.close()
        value, ok = channel.recv()
        assert (value, ok) == ((None, False) if how == "close" or outcome.raised else (1, True))
        assert not ok or channel.recv() == (None, False)
        assert not turns._line

    assert at_every_step(case) > 5


def test_a_handler_that_receives_in_turn() -> None:
    """A handler gets RuntimeError if it receives with a turn while its thread is doing the same."""
    channel: Channel[Any] = Channel(1, in_turn=True)
    other: Channel[Any] = Channel(1, in_turn=True)

    def case() -> Case:
        refused: list[Any] = []

        def handle() -> None:
            turns.give_up()
            try:
                other.send(2)
                assert other.recv() == (2, True)
                turns.give_up()
            except RuntimeError as error:
                refused.append(str(error))
                refused.append(other.drain())

        channel.send(1)
        outcome = yield channel.recv, handle
        assert outcome.result == (1, True)
        assert refused in ([], ["a signal handler receives in turn, while its thread does", [2]])
        turns.give_up()
        assert not turns._line

    assert at_every_step(case) > 5


@pytest.mark.parametrize("capacity", [0, 1])
def test_a_handler_that_receives_the_only_value(capacity: int) -> None:
    """If a handler takes the only value, the interrupted receive finds none."""

    def case() -> Case:
        channel: Channel[Any] = Channel(capacity)
        sender = Peer(partial(channel.send, 1))
        wait_until(lambda: bool(channel.queue or channel._offers))
        got: list[Any] = []

        def handle() -> None:
            got.extend(channel.drain())

        outcome = yield lambda: select(channel, deadline=time.monotonic() + 0.01), handle
        found, value, _ = outcome.result
        # On a busy machine, the deadline may pass before the value is seen.
        assert [*got, *([value] if found is channel else channel.drain())] == [1]
        sender.end()
        check(channel, [])

    assert at_every_step(case) > 5


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_handler_that_sends_at_the_deadline(in_turn: bool) -> None:
    """A value sent by a handler at the receiver's deadline is not lost."""

    def case() -> Case:
        channel: Channel[Any] = Channel(1, in_turn=in_turn)
        sent: list[bool] = []

        def handle() -> None:
            sent.append(channel.try_send(1))

        outcome = yield lambda: select(channel, deadline=time.monotonic() + 1e-3), handle
        found, value, _ = outcome.result
        assert [value] * (found is channel) + channel.drain() == [1] * len(sent)
        turns.give_up()
        assert all(sent)
        check(channel, [])

    assert at_every_step(case) > 10


# Real signals.


def test_a_real_handler_that_receives_in_turn() -> None:
    """A real signal handler gets the same RuntimeError while its thread waits for a turn."""
    channel: Channel[int] = Channel(1, in_turn=True)
    other: Channel[int] = Channel(1, in_turn=True)
    other.send(2)
    refused: list[str] = []

    def handle(*_: object) -> None:
        with pytest.raises(RuntimeError) as error:
            other.recv()
        refused.append(str(error.value))
        channel.send(1)

    def send_signal() -> None:
        wait_until(lambda: is_waited_for(channel), "a receiver")
        signal_main_thread(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        sender = Peer(send_signal)
        assert channel.recv() == (1, True)
    finally:
        signal.signal(signal.SIGUSR1, before)
        turns.give_up()
    sender.end()
    assert refused == ["a signal handler receives in turn, while its thread does"]


def test_real_signals() -> None:
    """A real signal handler can send to the channel to which its thread is sending."""
    program = """
import signal
from gochat import Channel
channel, handled = Channel(10**7), 0
def handle(*_):
    global handled
    handled += 1
    channel.send(None)
    len(channel)
signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 2e-4, 2e-4)
sent = 0
while handled < 1000:
    channel.send(1)
    sent += 1
signal.setitimer(signal.ITIMER_REAL, 0)
values = channel.drain()
assert (values.count(1), values.count(None)) == (sent, handled), (len(values), sent, handled)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE)


@pytest.mark.parametrize("in_turn", [False, True])
@unmeasured()
def test_real_interrupts(in_turn: bool) -> None:
    """An interrupted receive can be repeated, and no value is lost."""
    channel: Channel[int] = Channel(3, in_turn=in_turn)
    count, handled, armed = 30_000, 0, False
    received: list[int | None] = []

    def handle(*_: object) -> None:
        nonlocal handled, armed
        handled += 1
        if armed:
            armed = False
            raise Interrupt

    def send() -> None:
        for value in range(count):
            channel.send(value)
        channel.close()

    before = signal.signal(signal.SIGALRM, handle)
    sender = Peer(send)
    ok = True
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-3, 1e-3)
        while ok:
            drained: list[int] = []
            pairs: list[tuple[int | None, bool]] = []
            with suppress(Interrupt):
                armed = True
                drained += channel.drain()
                armed = False
            with suppress(Interrupt):
                armed = True
                pairs.append(channel.recv())
                armed = False
            received += drained
            for value, ok in pairs:
                received += [value] if ok else []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        turns.give_up()
    sender.end()
    assert handled
    seen = set(received)
    assert received == [value for value in range(count) if value in seen]
    assert len(received) == count
