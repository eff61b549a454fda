"""The spin model of turns.py, and the real turns under random load."""

from __future__ import annotations

import _thread
import gc
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gochat import Channel, ClosedChannelError, select
from gochat.golang.goroutine import TurnsStatistics
from gochat.golang.runtime.threads.turns import Turns, Waiter, turns

from .support import PATIENCE, ROOT, in_background, wait_until

MODEL = ROOT / "docs" / "turns.pml"


#: Definitions that each put a mistake into turns.pml, and what spin must report for them.
MISTAKES = [
    ("-DLOOK_FIRST", "invalid end state"),
    ("-DCALL_FIRST", "invalid end state"),
    ("-DK=2 -DN=3 -DM=1 -DNO_INTERRUPT -DCALL_ONE", "invalid end state"),
    ("-DKEEP_TURN", "invalid end state"),
    ("-DDIE_IN_TURN", "invalid end state"),
    ("-DTAKE_ANYWAY", "assertion violated"),
    ("-DN=1 -DM=1 -DCLAIM_IN_TWO", "assertion violated"),
    ("-DN=1 -DM=1 -DFORGET_IDLE", "invalid end state"),
    ("-DM=1 -DNO_CLEANUP", "assertion violated"),
    ("-DOFFERS -DLOOK_FIRST", "invalid end state"),
    ("-DOFFERS -DC=2 -DONE_BELL -DTROUBLE=ONE_ALONE", "assertion violated"),
    ("-DOFFERS -DTAKE_FIRST -DTROUBLE=LATE_SENDERS", "invalid end state"),
    ("-DOFFERS -DCLOSE_LAST -DTROUBLE=CLOSED_EARLY", "invalid end state"),
    ("-DOFFERS -DNO_CLEANUP -DTROUBLE=INTERRUPT", "invalid end state"),
    ("-DOFFERS -DCAPACITY=1 -DNO_RECOVERY -DTROUBLE=INTERRUPT", "invalid end state"),
    ("-DOFFERS -DCAPACITY=1 -DS=3 -DROOM_FIRST -DTROUBLE=ONE_ALONE", "assertion violated"),
]

#: Modules that the model describes.
MODULES = ("channel", "turns", "handover")


#: The functions of spin's program in which most of a search takes place.
BUSIEST = re.compile(r"^(?=(new_state|h_store|bstore_reg|d_hash|d_sfh)\()", re.M)


def check_model(
    folder: Path,
    *definitions: str,
    part: int = 0,
    how: Sequence[str] = (),
    optimize: bool = False,
) -> str:
    """Search the model with spin; return spin's report.

    part: size of a hash in bits. spin skips a state whose hash it has seen before. With 0, spin
        visits all states.

    how: further compiler options.

    optimize: whether to optimize the busiest functions. Optimizing the whole program would take as
        long as a search.
    """
    shutil.copy(MODEL, folder)
    subprocess.run(["spin", "-a", *definitions, MODEL.name], cwd=folder, check=True)
    if optimize:
        program = folder / "pan.c"
        attribute = '__attribute__((optimize("O2")))\n'
        program.write_text(BUSIEST.sub(attribute, program.read_text()))
    options, limits = (["-DBITSTATE"], [f"-w{part}"]) if part else (["-DHC4"], [])
    compile_ = ["cc", "-w", "-O0", "-DSAFETY", *options, *how, "-o", "pan", "pan.c"]
    subprocess.run(compile_, cwd=folder, check=True)
    # With too small a depth, the search would miss errors.
    run = subprocess.run(
        ["./pan", "-m1000000", *limits], cwd=folder, check=False, capture_output=True, text=True
    )
    assert "max search depth too small" not in run.stdout
    assert "Search not completed" not in run.stdout or "errors: 1" in run.stdout
    return run.stdout


@pytest.mark.parametrize(
    "definitions",
    [
        "-DM=1 -DNO_INTERRUPT",
        "-DM=1",
        "-DM=2",
        "-DM=1 -DK=2",
        "-DN=3 -DM=1",
        "-DOFFERS -DS=1 -DV=2",
        "-DOFFERS -DS=1 -DV=2 -DCAPACITY=1",
        "-DOFFERS",
        "-DOFFERS -DCAPACITY=1",
        "-DOFFERS -DS=3 -DCAPACITY=1 -DTROUBLE=ONE_ALONE",
        "-DOFFERS -DC=2 -DTROUBLE=LATE_SENDERS",
        "-DOFFERS -DC=2 -DTROUBLE=INTERRUPT",
    ],
)
def test_model_has_no_error(definitions: str, tmp_path: Path) -> None:
    """In the model, every value sent is received, whatever the order of the steps.

    Larger models have too many states, so spin visits only a few million of each.
    """
    whole = definitions == "-DM=1 -DNO_INTERRUPT" or "-DS=1" in definitions
    said = check_model(tmp_path, *definitions.split(), part=0 if whole else 22, optimize=True)
    assert "errors: 0" in said, said


@pytest.mark.parametrize(("mistake", "what"), MISTAKES)
def test_model_can_tell(mistake: str, what: str, tmp_path: Path) -> None:
    """spin finds each mistake that turns.pml can make."""
    # spin stops at the first error, so optimizing the program would take longer than the search.
    # Some errors are found up to a hundred times faster if the search starts with the last process,
    # or the last transition of each.
    how = []
    if re.search("-DOFFERS.*(NO_CLEANUP|NO_RECOVERY|ROOM_FIRST)|M=1 -DNO_CLEANUP", mistake):
        how.append("-DREVERSE")
    if re.search("M=1 -D(NO_CLEANUP|CLAIM_IN_TWO|FORGET_IDLE)", mistake):
        how.append("-DT_REVERSE")
    said = check_model(tmp_path, *mistake.split(), part=25, how=how)
    assert "errors: 1" in said, said
    assert what in said


def test_every_mistake_is_tried() -> None:
    """Every mistake in turns.pml is tested, and the names in its comments exist in the code."""
    model = MODEL.read_text()
    code = "".join(
        (ROOT / "src/gochat/golang/runtime/threads" / f"{name}.py").read_text() for name in MODULES
    )
    tried = {word for mistake, _ in MISTAKES for word in mistake.split()}
    assert {f"-D{name}" for name in re.findall(r"#ifn?def (\w+_\w+)", model)} <= tried
    for name in re.findall(r"\b_?[A-Z][a-z]+\.(\w+)", model):
        assert name in ("write_pump", "write_message", "close") or re.search(rf"\b{name}\b", code)
    for path in re.findall(r"src/\S+\.py", model):
        assert (ROOT / path).exists()


def free_of(turns: Turns) -> tuple[int, int]:
    """Return the numbers of free turns and of threads in line."""
    now = turns.statistics()
    return now.limit - len(now.holders), len(now.line)


@contextmanager
def no_turn_free() -> Iterator[None]:
    """Give this thread the only turn until the block ends or the thread gives it up."""
    before = turns.gomaxprocs(1)
    turns.waiter().line_up()
    yield
    turns.gomaxprocs(before)
    assert free_of(turns) == (before, 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_message_is_forgotten(seed: int, limit: int) -> None:
    """Receivers at random speeds get all messages, and never hold more turns than allowed."""
    rng = random.Random(seed)
    receivers, messages = 20, 300
    channels: list[Channel[int]] = [Channel(messages, in_turn=True) for _ in range(receivers)]
    received: list[list[int]] = [[] for _ in range(receivers)]
    guard = threading.Lock()
    holding = most = 0

    def count(change: int) -> None:
        nonlocal holding, most
        with guard:
            holding += change
            most = max(most, holding)

    def receive(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        channel = channels[number]
        while True:
            deadline = time.monotonic() + chance.random() / 100 if chance.random() < 0.3 else None
            ready, value, ok = select(channel, deadline=deadline)
            if ready is None:
                continue  # the deadline has passed
            in_turn = not channel._closed  # the values left in a closed channel need no turn
            count(+in_turn)
            if ok:
                received[number] += [value, *channel.drain()]
            count(-in_turn)
            if not ok:
                break
            if chance.random() < 0.2:  # like a pump whose socket is full for a moment
                turns.give_up()
                time.sleep(chance.random() / 1000)
        turns.give_up()

    before = turns.gomaxprocs(limit)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # makes threads switch in unusual places
    try:
        threads = [threading.Thread(target=receive, args=(i,)) for i in range(receivers)]
        for thread in threads:
            thread.start()
        for i in range(messages):
            for channel in channels:
                assert channel.try_send(i)
            if rng.random() < 0.3:
                time.sleep(rng.random() / 1000)
        for channel in channels:
            channel.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"seed {seed}, limit {limit}: a receiver is stuck"
    finally:
        sys.setswitchinterval(interval)
        assert turns.gomaxprocs(before) == limit
    assert received == [list(range(messages))] * receivers, f"seed {seed}, limit {limit}"
    assert most <= limit
    assert free_of(turns) == (before, 0)


def test_turn_is_kept_while_nobody_is_in_line() -> None:
    mine = Turns(1)
    waiter = mine.waiter()
    waiter.line_up()
    waiter.line_up()
    assert free_of(mine) == (0, 0)
    mine.give_up()
    mine.give_up()
    assert free_of(mine) == (1, 0)


def test_turns_are_given_in_the_order_of_the_line() -> None:
    mine = Turns(1)
    mine.waiter().line_up()
    order: list[int] = []

    def work(number: int) -> None:
        mine.waiter().line_up()
        order.append(number)
        mine.give_up()

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_until(lambda: free_of(mine) == (0, len(threads)))
    mine.waiter().line_up()  # last in line
    assert order == [0, 1, 2, 3, 4]
    for thread in threads:
        thread.join(PATIENCE)


def test_gosched_waits_for_those_in_line() -> None:
    """gosched returns after all threads ahead in line have had a turn, and keeps none."""
    mine = Turns(1)
    order: list[str] = []

    def work(name: str, wait: Callable[[], object]) -> None:
        wait()
        order.append(name)
        mine.give_up()

    mine.waiter().line_up()
    threads = []
    for name in ("pump 1", "pump 2", "relay in", "pump 3"):
        wait = mine.gosched if name == "relay in" else (lambda: mine.waiter().line_up())
        threads.append(threading.Thread(target=work, args=(name, wait)))
        threads[-1].start()
        wait_until(lambda: free_of(mine) == (0, len(threads)))
    mine.give_up()
    for thread in threads:
        thread.join(PATIENCE)
    assert order[:2] == ["pump 1", "pump 2"]
    assert sorted(order[2:]) == ["pump 3", "relay in"]  # either first: gosched passes its turn on
    mine.gosched()
    assert free_of(mine) == (1, 0)


def test_wait_that_ends_without_a_turn() -> None:
    """A thread whose wait has timed out has no turn."""
    mine = Turns(1)
    waiter = mine.waiter()
    waiter.line_up()
    waiter.leave()
    waiter.armed.append(waiter)
    assert not waiter.wait(0.01)
    assert free_of(mine) == (1, 0)
    assert not waiter.is_idle()


def test_statistics() -> None:
    """statistics shows which threads hold a turn and, in order, which are in line."""
    turns = Turns(1)
    turns.waiter().line_up()
    threads = []
    for number in range(1, 3):
        thread = threading.Thread(target=lambda: turns.waiter().line_up(), daemon=True)
        thread.start()
        wait_until(lambda number=number: len(turns.statistics().line) == number)  # type: ignore[misc]
        threads.append(thread)
    line = tuple(thread.ident for thread in threads)
    assert turns.statistics() == TurnsStatistics(1, (threading.get_ident(),), line)  # type: ignore[arg-type]
    turns.give_up()
    for thread in threads:
        thread.join(PATIENCE)
    assert turns.statistics() == TurnsStatistics(1, (), ())


def test_number_of_turns_can_be_changed() -> None:
    """Added turns go to threads in line. Removed turns disappear when they are given up."""
    mine = Turns(1)
    assert mine.gomaxprocs(0) == 1
    assert mine.gomaxprocs(3) == 1
    started = threading.Semaphore(0)
    go_on = threading.Semaphore(0)

    def work() -> None:
        mine.waiter().line_up()
        started.release()
        assert go_on.acquire(timeout=PATIENCE)
        mine.give_up()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert started.acquire(timeout=PATIENCE)
    wait_until(lambda: free_of(mine) == (0, 2))
    assert mine.gomaxprocs(4) == 3
    assert started.acquire(timeout=PATIENCE)
    wait_until(lambda: free_of(mine) == (0, 1))
    assert mine.gomaxprocs(1) == 4
    assert free_of(mine) == (-3, 1)
    go_on.release(3)
    wait_until(lambda: free_of(mine) == (0, 1))
    go_on.release(2)
    for thread in threads:
        thread.join(PATIENCE)
    assert free_of(mine) == (1, 0)


class Ending(BaseException):
    """Ends a thread."""


def fail() -> None:
    raise Ending


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("end", [lambda: None, fail, sys.exit], ids=["return", "raise", "exit"])
@pytest.mark.parametrize("start", ["threading", "_thread"])
def test_a_thread_that_ends_hands_its_turn_on(end: Callable[[], Any], start: str) -> None:
    """A thread gives up its turn when it ends, however it ends."""
    mine: Channel[int] = Channel(1, in_turn=True)
    other: Channel[int] = Channel(1, in_turn=True)

    def work() -> None:
        mine.recv()
        end()

    def receive() -> None:
        assert other.recv() == (2, True)
        turns.give_up()

    with in_background(receive):
        mine.send(1)
        if start == "threading":
            thread = threading.Thread(target=work)
            thread.start()
            thread.join(PATIENCE)
        else:
            _thread.start_new_thread(work, ())
        wait_until(lambda: not mine.queue)
        other.send(2)
    wait_until(lambda: free_of(turns) == (turns.gomaxprocs(0), 0))
    assert not turns._line


def test_a_thread_that_ends_in_line() -> None:
    mine = Turns(1)
    waiters: list[Waiter] = []

    def work() -> None:
        waiters.append(mine.waiter())
        waiters[0].armed.append(waiters[0])
        assert waiters[0].wake()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert not waiters[0].wake()
    mine.waiter().line_up()
    assert list(mine._line) == [mine.waiter()]
    mine.give_up()


def test_turns_that_are_dropped() -> None:
    mine = Turns(1)
    mine.waiter().line_up()
    dropped = weakref.ref(mine)
    del mine
    gc.collect()
    assert dropped() is None


def test_woken_for_nothing() -> None:
    channel: Channel[int] = Channel(1, in_turn=True)
    received: list[tuple[int | None, bool]] = []

    def receive() -> None:
        received.append(channel.recv())
        turns.give_up()

    with in_background(receive):
        for _ in range(3):
            wait_until(lambda: bool(channel._idle))
            channel._wake()
        wait_until(lambda: bool(channel._idle))
        assert received == []
        assert channel.try_send(1)
    assert received == [(1, True)]
    assert free_of(turns) == (turns.gomaxprocs(0), 0)


@pytest.mark.parametrize("send", ["send", "try_send"])
def test_close_during_a_hand_over(send: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the channel is closed while a sender wakes the receiver, the send does not succeed."""
    channel: Channel[int] = Channel(in_turn=True)
    received: list[tuple[int | None, bool]] = []
    wake = Waiter.wake

    def wake_and_close(waiter: Waiter) -> bool:
        monkeypatch.undo()
        woken = wake(waiter)
        channel.close()
        wait_until(lambda: bool(received))
        return woken

    with in_background(lambda: received.append(channel.recv())):
        wait_until(lambda: bool(channel._idle) and channel.statistics().receiver_waits)
        monkeypatch.setattr(Waiter, "wake", wake_and_close)
        with pytest.raises(ClosedChannelError):
            getattr(channel, send)(1)
    assert received == [(None, False)]
    assert not channel.queue


class WatchedChannel(Channel[int]):
    """A channel that calls a function just after a receiver has been marked as idle."""

    def __init__(self, happens: Callable[[Channel[int]], object]) -> None:
        super().__init__(1, in_turn=True)
        self.happens = happens

    def _set_idle(self, receiver: Any) -> None:
        super()._set_idle(receiver)
        self.happens(self)


@pytest.mark.parametrize(
    "happens",
    [lambda channel: channel.queue.append(1), lambda channel: channel.try_send(1)],
    ids=["queued, and not woken yet", "queued and woken"],
)
def test_value_between_idle_and_asleep(happens: Callable[[Channel[int]], object]) -> None:
    """A value that arrives when a receiver is idle but not yet asleep is received immediately."""
    assert WatchedChannel(happens).recv() == (1, True)
    turns.give_up()
    assert free_of(turns) == (turns.gomaxprocs(0), 0)


def test_a_closed_channel_needs_no_turn() -> None:
    """Receiving from a closed channel, as thousands of threads do at shutdown, needs no turn."""
    closed: Channel[int] = Channel(2, in_turn=True)
    full: Channel[int] = Channel(2, in_turn=True)
    other: Channel[int] = Channel(1, in_turn=True)
    received: list[Any] = []

    def receive() -> None:
        received.append(select(closed))
        received.extend([select(full), select(full), select(full)])
        received.append(select(other))
        turns.give_up()

    with no_turn_free():
        with in_background(receive):
            wait_until(lambda: bool(closed._idle))
            for value in (1, 2):
                assert full.try_send(value)
            full.close()
            closed.close()
            wait_until(lambda: len(received) == 4)
            assert received == [
                (closed, None, False),
                (full, 1, True),
                (full, 2, True),
                (full, None, False),
            ]
            assert free_of(turns) == (0, 0)
            wait_until(lambda: bool(other._idle))
            assert other.try_send(3)
            wait_until(lambda: free_of(turns) == (0, 1))  # this value needs a turn
            turns.give_up()
        assert received[4] == (other, 3, True)


def test_deadline_while_in_line() -> None:
    """A receiver waiting in line for a turn gets its value even if the deadline passes."""
    channel: Channel[int] = Channel(1, in_turn=True)
    received: list[Any] = []
    deadline = time.monotonic() + 0.2

    def receive() -> None:
        received.append(select(channel, deadline=deadline))
        turns.give_up()

    with no_turn_free():
        with in_background(receive):
            wait_until(lambda: bool(channel._idle))
            assert channel.try_send(1)
            wait_until(lambda: time.monotonic() > deadline + 0.2)
            assert received == []
            turns.give_up()
        assert received == [(channel, 1, True)]


def test_a_waiter_can_be_claimed_once() -> None:
    """A waiter can be woken only once. A second call returns False."""
    mine = Turns(1)
    waiter = mine.waiter()
    assert not waiter.wake()
    waiter.armed.append(waiter)
    assert waiter.is_idle()
    assert waiter.wake()
    assert not waiter.wake()
    assert not waiter.is_idle()
    assert waiter.wait()
    assert waiter.holds
    waiter.give_up()
    assert free_of(mine) == (1, 0)


def test_as_many_turns_as_anybody_could_want() -> None:
    """Changing the number of turns by any amount takes only one step."""
    mine = Turns(1)
    assert mine.gomaxprocs(10**18) == 1
    assert mine.gomaxprocs(1) == 10**18
    assert free_of(mine) == (1, 0)
