"""Soak-test a real gochat with churn, floods, stuck clients and bad input, all at once.

    python -m tests.soak --minutes 30 --seed 1 --plot docs/run/soak.svg

Once a second, the command checks the server's memory, threads and descriptors, which must not grow.
Every client that reads must get each message once and in order. --plot needs matplotlib, from the
extra `plot`.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gochat.bench.command import import_draw, picture_path

from .chat import WAYS, Chat, Chatter, Voice, chatting
from .fuzz import Attack, Fuzz
from .loop import idle, resources
from .support import PATIENCE, PONG, Gochat, frame, request, wait_until

#: Seconds. The server must read a flood of 500 messages from fuzz.py within the pong wait.
PONG_WAIT, WRITE_WAIT = 15.0, 6.0
RATE, BURST = 60.0, 20
FLAGS = [
    *("--pong-wait", f"{PONG_WAIT:g}", "--ping-period", "4", "--write-wait", f"{WRITE_WAIT:g}"),
    *("--rate", f"{RATE:g}", "--burst", str(BURST)),
    # The default of 256 messages is half a second of talk. A busy machine needs more.
    *("--send-buffer", "2000"),
    *("--max-clients-per-address", "1000"),  # never reached, but the server has to count
]

#: The longest time that the server may take to end a connection, in seconds: the longest deadline,
#: plus time to write queued messages, a second to answer a close, and delays on a busy machine.
LIMIT = PONG_WAIT + WRITE_WAIT + 1.0 + 10.0

#: Numbers of members, flooders and stuck clients. A run may have fewer members.
MEMBERS, FLOODERS, STUCK = 200, 3, 6
PAUSE, FLOOD = 2.0, 15.0
#: Bad inputs started per second.
ATTACKS = 25.0

#: Bytes of a flood that the client's system buffers. The server still reads these at its end.
SEND_BUFFER = 16_384

#: Bytes by which the server's memory may grow between the second quarter of a run and the last.
#: WARM_UP allows for stacks and buffers, which grow to their full size in the first minute: it is
#: for a run of one minute, and divided by the minutes of a longer one. In half an hour, a leak of a
#: few hundred bytes per connection exceeds the limit.
GROWTH, WARM_UP = 4 << 20, 12 << 20

#: Seconds in which the server must release a connection that its client has ended.
WINDING_UP = 10.0

#: Minimum number of points on a line of the plot. There may be twice as many.
POINTS = 600

#: States of connections in /proc/net/tcp that the server has not ended.
OPEN = {"01", "08"}  # ESTABLISHED, CLOSE_WAIT


class Sample(NamedTuple):
    """A measurement."""

    time: float  # seconds since the beginning
    memory: int  # bytes
    threads: int
    descriptors: int
    clients: int  # connections open on this side
    came: int  # connections made so far
    messages: int
    deliveries: int
    bad_input: bool = True  # whether bad input was being sent


def windows(figures: Sequence[float]) -> tuple[float, float]:
    """Return the medians for the second and the last quarter of the run."""
    quarter = max(1, len(figures) // 4)
    early = figures[quarter : 2 * quarter] or figures
    return statistics.median(early), statistics.median(figures[-quarter:])


def judge(samples: Sequence[Sample]) -> None:
    """Raise AssertionError if the memory grows too much."""
    early, late = windows([sample.memory for sample in samples])
    came = (samples[-1].came - samples[0].came) // 2
    assert late - early <= GROWTH + WARM_UP / max(samples[-1].time / 60, 1.0), (
        f"memory grows: {early / 1e6:.1f} MB, then {late / 1e6:.1f} MB,"
        f" {(late - early) / max(came, 1):,.0f} bytes for each connection"
    )


class FloodingChatter(Chatter):
    """A client that sends as fast as TCP allows.

    An answer to a ping would be stuck behind the flood for too long, so the flood contains pongs.
    """

    patient = False

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat, send_buffer=SEND_BUFFER)
        self.begun = time.monotonic()
        self.flooding = False

    @property
    def heard(self) -> int:
        """A lower bound for the number of this client's messages that the server has read."""
        return self.said - len(self.unheard)

    def talk(self) -> None:
        """Start the flood, and decide when to leave."""
        self.flooding = True
        self.loop.after(self.chat.random.expovariate(1 / FLOOD), self.enough)
        self.flood()

    def enough(self) -> None:
        if not self.leaving and not self.chat.quiet:
            self.leave(self.chat.random.choice(WAYS))

    def ready(self, events: int) -> None:
        super().ready(events)
        self.flood()

    def flood(self) -> None:
        while self.flooding and not (
            self._unsent or self.closed or self.leaving or self.chat.quiet
        ):
            text = self.words("x" * self.chat.random.choice([300, 400]))
            self.unechoed.append(text)
            self.send(frame(text) + frame("", PONG))


class Stuck(Voice):
    """A client that sends a few messages, then neither reads nor answers pings."""

    def __init__(self, chat: Chat) -> None:
        super().__init__(chat)
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if chat.random.random() < 0.5:
            # A small window and small segments keep the system's buffers small, so they fill long
            # before the pong wait ends.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self.sock.connect(("127.0.0.1", chat.gochat.port))
        self.port = self.sock.getsockname()[1]
        self.begun = time.monotonic()
        words = [self.words("and no more") for _ in range(chat.random.randrange(4))]
        self.sock.sendall(request() + b"".join(map(frame, words)))


def open_ports(port: int) -> set[int]:
    """Return the ports of clients whose connections the server has not ended.

    A client that does not read cannot notice the end, because unread data comes first.
    """
    ports = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, _ = line.split(maxsplit=4)
        if state in OPEN and int(local[9:], 16) == port:
            ports.add(int(remote[9:], 16))
    return ports


class Soak:
    """A run against one server."""

    def __init__(self, chat: Chat, before: tuple[int, int], seed: int, members: int) -> None:
        self.gochat = chat.gochat
        self.chat = chat
        self.members = members
        self.most_flooders = max(2, FLOODERS * members // MEMBERS)
        #: The server's threads and descriptors before any client joins.
        self.before = before
        self.seed = seed
        self.fuzz = Fuzz(self.gochat.port, seed, LIMIT, loop=chat.loop)
        self.attacks = 0
        #: The flooders in the room, and all flooders so far.
        self.flooding: list[FloodingChatter] = []
        self.flooders: list[FloodingChatter] = []
        self.stuck: list[Stuck] = []
        #: Seconds that each disconnected stuck client was connected.
        self.ages: list[float] = []
        self.samples: list[Sample] = []
        self.over = False  # no more bad input is started
        self.begun = time.monotonic()

    # The run.

    def run(
        self, seconds: float, progress: bool = False, enough: Callable[[], bool] | None = None
    ) -> None:
        """Run for `seconds`, then let every client leave. Raises AssertionError if a check fails.

        On a busy machine, a sample takes longer than a second, and too few say nothing about
        memory. So the run continues until it has more than `seconds / 2` samples.

        progress: whether to print samples. enough: called after each sample; the run ends when it
        returns true.
        """
        self.attack()
        while self.elapsed() < seconds or len(self.samples) <= seconds / 2:
            # The last inputs start one pong wait before the end, so that even slow inputs end in
            # time.
            self.over = self.elapsed() > seconds - PONG_WAIT
            self.turn()
            self.look()
            if progress and len(self.samples) % 60 == 0:
                print(self.samples[-1], flush=True)
            if enough is not None and enough():
                break
        self.over = True
        judge(self.judged)
        while self.fuzz.open:
            self.turn()
            self.look_at_stuck()
        for stuck in self.stuck:
            stuck.sock.close()
        assert not self.fuzz.failures, "\n".join(self.fuzz.failures)
        self.chat.part()
        wait_until(lambda: resources(self.gochat) == self.before, "all is released")

    @property
    def judged(self) -> list[Sample]:
        """The samples taken during bad input, or all samples if there was no bad input."""
        return [sample for sample in self.samples if sample.bad_input] or self.samples

    def elapsed(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self.begun

    def turn(self) -> None:
        """Replace clients that have left, and run the loop for a second."""
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            self.flooding = [flooder for flooder in self.flooding if flooder in self.chat.members]
            while len(self.flooding) < self.most_flooders:
                self.flooding.append(FloodingChatter(self.chat))
                self.flooders.append(self.flooding[-1])
            self.chat.fill(self.members + self.most_flooders)
            while len(self.stuck) < STUCK:
                self.stuck.append(Stuck(self.chat))
            self.chat.loop.turn()

    def attack(self) -> None:
        """Send a bad input, and schedule the next one."""
        if not self.over:
            self.fuzz.open += 1
            Attack(self.fuzz, self.attacks)
            self.attacks += 1
            self.chat.loop.after(self.chat.random.expovariate(ATTACKS), self.attack)

    # Checks.

    def look(self) -> None:
        """Take a sample and make all checks."""
        assert self.gochat.process.poll() is None, "\n".join(self.gochat.lines[-100:])
        self.look_at_stuck()
        self.look_at_flooders()
        self.chat.forget()
        threads, descriptors = resources(self.gochat)
        sample = Sample(
            self.elapsed(),
            self.gochat.memory(),
            threads,
            descriptors,
            self.chat.loop.opened - self.chat.loop.closed + len(self.stuck),
            self.chat.loop.opened + len(self.stuck) + len(self.ages),
            self.chat.count,
            self.chat.delivered,
            not self.over,
        )
        self.samples.append(sample)
        serving = sample.came - self.ended(sample.time - WINDING_UP)
        assert threads <= self.before[0] + 2 * serving, f"for {serving} connections: {sample}"
        assert descriptors <= self.before[1] + serving, f"for {serving} connections: {sample}"
        assert not self.fuzz.failures, "\n".join(self.fuzz.failures)

    def ended(self, moment: float) -> int:
        """Return how many connections had ended by this moment."""
        for sample in reversed(self.samples):
            if sample.time <= moment:
                return sample.came - sample.clients
        return 0

    def look_at_stuck(self) -> None:
        """Check that clients that do not read are disconnected in time."""
        # Read the list twice, because it may lack open connections while others come and go.
        still_open = open_ports(self.gochat.port) | open_ports(self.gochat.port)
        now = time.monotonic()
        for stuck in list(self.stuck):
            age = now - stuck.begun
            if stuck.port in still_open:
                assert age <= LIMIT, f"{stuck.id} reads nothing, and stays for {age:.1f} s"
            else:
                self.ages.append(age)
                self.stuck.remove(stuck)
                stuck.sock.close()

    def look_at_flooders(self) -> None:
        """Check that no flooder's messages were read faster than the rate."""
        for flooder in self.flooders:
            most = BURST + RATE * (time.monotonic() - flooder.begun) + 1
            assert flooder.heard <= most, f"{flooder.heard} messages of {flooder}, not {most:.0f}"

    def report(self) -> str:
        """Return a summary of the run."""
        chat, samples = self.chat, self.samples
        early, late = windows([sample.memory for sample in self.judged])
        floods = sum(flooder.heard for flooder in self.flooders)
        bad = sum(outcomes.total() for outcomes in self.fuzz.kinds.values())

        def spread(figures: Sequence[int], unit: float = 1) -> str:
            low, high = min(figures) / unit, max(figures) / unit
            return f"{low:.4g} to {high:.4g}, median {statistics.median(figures) / unit:.4g}"

        return "\n".join(
            [
                f"seed {self.seed}, {samples[-1].time / 60:.1f} minutes",
                f"{samples[-1].came:,} connections, {chat.ids:,} clients, {chat.count:,} messages,"
                f" {chat.delivered:,} deliveries",
                f"{len(self.flooders)} flooders, {floods:,} messages of theirs",
                f"{len(self.ages)} stuck clients, gone after {min(self.ages):.1f} to"
                f" {max(self.ages):.1f} s, median {statistics.median(self.ages):.1f} s",
                f"{bad:,} bad inputs, the longest wait for an end {max(self.fuzz.waits):.1f} s",
                f"memory in MB: {spread([s.memory for s in samples], 1e6)};"
                f" second quarter {early / 1e6:.2f}, last {late / 1e6:.2f}",
                f"threads: {spread([s.threads for s in samples])}",
                f"descriptors: {spread([s.descriptors for s in samples])}",
                f"threads and descriptors before and afterwards: {self.before}",
            ]
        )


def soak(
    seconds: float,
    seed: int,
    *,
    members: int = MEMBERS,
    fault: str = "",
    progress: bool = False,
    enough: Callable[[], bool] | None = None,
) -> Soak:
    """Soak a new server. Raises AssertionError if a check fails.

    members: number of chatting clients. With fewer members, there are also fewer flooders. fault:
    Python code that the server runs first. progress, enough: see Soak.run.
    """
    with Gochat(*FLAGS, fault=fault) as gochat:
        before = idle(gochat)
        with chatting(gochat, seed, pause=PAUSE, strangers=True) as chat:
            run = Soak(chat, before, seed, members)
            try:
                run.run(seconds, progress, enough)
            finally:
                for stuck in run.stuck:
                    stuck.sock.close()
    for number, line in enumerate(gochat.lines):
        assert "Traceback" not in line, "\n".join(gochat.lines[max(0, number - 1) :][:50])
    return run


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Plot memory, threads and descriptors over time."""
    from gochat.bench.plot import picture  # noqa: PLC0415

    shown = samples[:: max(1, len(samples) // POINTS)]
    minutes = [sample.time / 60 for sample in shown]
    panels: dict[str, dict[str, list[float]]] = {
        "memory, MB": {"resident memory": [sample.memory / 1e6 for sample in shown]},
        "threads": {
            "threads": [sample.threads for sample in shown],
            "connections, as the clients see them": [sample.clients for sample in shown],
        },
        "descriptors": {"descriptors": [sample.descriptors for sample in shown]},
    }
    with picture(path, 8.5, 7, "The server, with everything at once") as figure:
        all_axes = figure.subplots(3, sharex=True)
        for axes, (title, lines) in zip(all_axes, panels.items(), strict=True):
            for name, line in lines.items():
                axes.plot(minutes, line, linewidth=1, label=name)
            # Leave room for the legend.
            axes.set(ylabel=title, ylim=(0, 1.1 * max(map(max, lines.values()))))
            if len(lines) > 1:
                axes.legend(loc="lower right", frameon=True, framealpha=1)
        all_axes[-1].set(xlabel="minutes", xlim=(0, minutes[-1]))
        figure.align_ylabels()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--plot", type=picture_path, metavar="FILE.svg", help="plot the samples over time"
    )
    args = parser.parse_args(argv)
    if args.minutes < 1:
        parser.error("--minutes must be at least 1: a shorter run shows nothing")
    if args.plot:
        import_draw(parser.error)
    try:
        run = soak(args.minutes * 60, args.seed, progress=True)
    except AssertionError as error:
        print(f"seed {args.seed}: {error}", file=sys.stderr)
        return 1
    print(run.report())
    if args.plot:
        plot(run.samples, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
