"""`gochat serve --processes`: several processes on one port, restarted by their parent."""

from __future__ import annotations

import os
import re
import signal
import socket
import statistics
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from textwrap import dedent

import pytest

from gochat.golang.http.address import listen, listen_shared
from gochat.ops.processes import Place

from .redis_support import Redis
from .support import (
    LOCAL,
    PATIENCE,
    Gochat,
    Peer,
    activated,
    command,
    finished,
    free_port,
    is_one_line,
    is_refused,
    join,
    parted,
    wait_until,
)

# These tests keep a CPU busy, so they run one at a time.
pytestmark = pytest.mark.xdist_group("busy")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def _at_this_redis(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOCHAT_RELAY", redis.url)


#: Python code that makes a child only report that it is ready. Such a child starts faster, and its
#: coverage is not measured.
DUMMY = """
import os, sys, time

os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
if place := os.environ.get("GOCHAT_CHILD"):
    number, _, pipe, _ = map(int, place.split(","))
    os.write(pipe, b"+\\n")
    os.write(2, b"[%d] ready\\n" % number)
    while True:
        time.sleep(0.2)
        os.write(pipe, b"+\\n")
"""


class Family(Gochat):
    """A gochat of several processes, all of which must end with the `with` block."""

    def __init__(
        self,
        count: int,
        *flags: str,
        fault: str = "",
        listener: socket.socket | list[socket.socket] | tuple[()] = (),
    ) -> None:
        super().__init__(f"--processes={count}", *flags, fault=fault, listener=listener)
        self.count = count
        self.all = set(self.children())
        # A child that runs DUMMY reports to the parent before it logs "ready".
        wait_until(lambda: all(self.ready(number) for number in range(count)))

    def __enter__(self) -> Family:
        return self

    def __exit__(self, *error: object) -> None:
        self.all |= set(self.children())
        super().__exit__(*error)
        wait_until(lambda: all(map(has_ended, self.all)), "the end of all children")

    def children(self) -> list[int]:
        """Return the pids of the running children, by child number."""
        found = children_of(self.process.pid)
        self.all = getattr(self, "all", set()) | set(found.values())
        return [found[number] for number in sorted(found)]

    def ready(self, number: int) -> int:
        """Return how often the child with this number has logged "ready"."""
        return sum(line.endswith(f"[{number}] ready") for line in self.lines)

    def numbers_of(self, peers: list[Peer]) -> list[int]:
        """Return the number of the child that serves each peer."""
        owners = {}
        for number, pid in enumerate(self.children()):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    owners[os.readlink(descriptor)] = number
        inodes = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
            if int(local.partition(":")[2], 16) == self.port:
                inodes[int(remote.partition(":")[2], 16)] = inode
        return [owners[f"socket:[{inodes[peer.sock.getsockname()[1]]}]"] for peer in peers]

    def one_each(self, stack: ExitStack) -> list[Peer]:
        """Return one registered client of each child, by child number."""
        peers: dict[int, Peer] = {}
        while len(peers) < self.count:
            peer = stack.enter_context(join(self.port))
            (number,) = self.numbers_of([peer])
            if number in peers:
                peer.sock.close()
            else:
                peers[number] = peer
        return [peers[number] for number in range(self.count)]


def children_of(parent: int) -> dict[int, int]:
    """Return the pids of a parent's children, by number."""
    found = {}
    with suppress(FileNotFoundError, ProcessLookupError):  # if a child ends meanwhile
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            place = re.search(r"\bGOCHAT_CHILD=(\d+),", Path(f"/proc/{pid}/environ").read_text())
            if place:  # otherwise the child has not started the command yet
                found[int(place[1])] = int(pid)
    return found


def has_ended(pid: int) -> bool:
    """Return whether the process is a zombie or no longer exists."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def stop_signal(pid: int) -> None:
    """Stop a process with SIGSTOP, and return when all its threads have stopped."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        stats = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats)

    wait_until(stopped, "a stopped process")


def switches(pid: int) -> int:
    """Return how often the process has voluntarily given up its CPU."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def heard_by(peer: Peer, said: set[str]) -> list[str]:
    """Read until the peer has received each message in `said`; return them as they arrived."""
    heard: list[str] = []
    while len(heard) < len(said):
        texts = peer.read_frame().payload.decode().split("\n")
        heard += [text for text in texts if text in said]
    return heard


# Tests that share four processes and leave them running.


@pytest.fixture(scope="module")
def four(redis: Redis) -> Iterator[Family]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("GOCHAT_RELAY", redis.url)
        flags = ("--read-header-timeout=60", f"--metrics-addr=127.0.0.1:{free_port(4)}")
        with Family(4, "--room=four", *flags) as family:
            yield family
            assert family.stop() == 0
            assert not family.logged("Traceback")


def test_one_room_over_one_port(four: Family) -> None:
    """A message sent to one process reaches the clients of all processes."""
    with ExitStack() as stack:
        peers = four.one_each(stack)
        for number, peer in enumerate(peers):
            peer.send(f"from process {number}")
        said = {f"from process {number}" for number in range(4)}
        heard = [heard_by(peer, said) for peer in peers]
        assert set(heard[0]) == said
        assert heard == [heard[0]] * 4


def test_connections_are_spread(four: Family) -> None:
    """No process gets more than 1.25 times its share of 400 connections.

    The kernel distributes connections at random. One round in about 200 exceeds the bound, but the
    median of five only once in several hundred thousand runs.
    """
    fullest = []
    for _ in range(5):
        with ExitStack() as stack:
            peers = [stack.enter_context(Peer(four.port)) for _ in range(400)]
            for peer in peers:
                peer.sock.sendall(b"G")
            counts: Counter[int] = Counter()

            def all_accepted(peers: list[Peer] = peers, counts: Counter[int] = counts) -> bool:
                counts.clear()
                with suppress(KeyError):  # a connection is not accepted yet
                    counts.update(four.numbers_of(peers))
                return counts.total() == 400

            wait_until(all_accepted, "400 accepted connections")
            fullest.append(max(counts.values()) / 100)
    assert statistics.median(fullest) <= 1.25, fullest


def test_the_log_says_which_process(four: Family) -> None:
    """A child's log lines start with its number; the parent's do not."""
    for number in range(4):
        assert four.ready(number) == 1
    (line,) = [line for line in four.lines if "listening on" in line]
    assert re.fullmatch(
        r"[\d/]+ [\d:]+ 4 processes listening on (127\.0\.0\.1:\d+), open http://\1/", line
    )
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(four.port)) for _ in range(8)]
        for number, peer in enumerate(peers):
            assert peer.request(f"/which{number}").status == 404
    wait_until(lambda: all(four.logged(f"/which{n}") for n in range(8)))
    numbers = [re.findall(rf"\[(\d)\] /which{n}$", "\n".join(four.lines), re.M) for n in range(8)]
    assert all(len(found) == 1 for found in numbers)


def test_the_parent_is_small(four: Family) -> None:
    assert len(four.threads()) == 1
    assert four.descriptors() < 4 * 2 + 12


def test_each_child_has_a_cpu(four: Family) -> None:
    """Each child is pinned to one CPU. With enough CPUs, each has its own."""
    allowed = sorted(os.sched_getaffinity(0))
    for number, pid in enumerate(four.children()):
        cpus = re.search(r"Cpus_allowed_list:\s*(\S+)", Path(f"/proc/{pid}/status").read_text())
        assert cpus
        assert cpus[1] == str(allowed[number % len(allowed)])
    assert os.sched_getaffinity(four.process.pid) == set(allowed)


def test_each_child_has_metrics(four: Family) -> None:
    """Child N serves its metrics on the given port plus N."""
    found = re.findall(
        r"\[(\d)\] metrics at http://127\.0\.0\.1:(\d+)/metrics$", "\n".join(four.lines), re.M
    )
    ports = {int(number): int(port) for number, port in found}
    assert ports == {number: ports[0] + number for number in range(4)}

    def clients(port: int) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            (found,) = re.findall(r"^gochat_clients (\S+)", response.read().decode(), re.M)
        return int(float(found))

    with ExitStack() as stack:
        wait_until(lambda: sum(map(clients, ports.values())) == 0, "an empty room")
        four.one_each(stack)
        wait_until(lambda: all(clients(port) == 1 for port in ports.values()), "one client each")


def test_the_port_is_taken(four: Family) -> None:
    """A port in use by another gochat is refused, however many processes the two have."""
    with listen(LOCAL) as one:  # like a gochat with one process
        for port in (one.getsockname()[1], four.port):
            addr = f"127.0.0.1:{port}"
            for flags in ((), ("--processes=2",)):
                done = finished([*command(), "serve", "--addr", addr, *flags])
                assert done.returncode == 1
                assert done.stderr == f"gochat: listen tcp {addr}: Address already in use\n"


def test_sigusr1_is_handed_on(four: Family) -> None:
    before = sum(" MainThread:" in line for line in four.lines)
    four.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: sum(" MainThread:" in line for line in four.lines) == before + 4)
    with Peer(four.port) as peer:
        assert peer.request().status == 200


# Shutdown.


def test_an_orderly_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all processes receive SIGTERM, every client is disconnected with 1001.

    systemd is told once that the chat is ready, and once that it is stopping.
    """
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        # Greenlets are never pinned, and refuse this flag.
        no_pin = () if os.environ.get("GOCHAT_RUNTIME") == "greenlets" else ("--no-pin",)
        with Family(2, "--shutdown-timeout=60", *no_pin) as family, ExitStack() as stack:
            assert systemd.recv(100) == b"READY=1"
            for pid in family.children():
                assert os.sched_getaffinity(pid) == os.sched_getaffinity(0)
            peers = family.one_each(stack)
            for pid in [family.process.pid, *family.children()]:
                os.kill(pid, signal.SIGTERM)
            wait_until(lambda: is_refused(family.port), "a closed port")
            for peer in peers:
                assert parted(peer).code == 1001
            assert family.wait() == 0, family.lines
            assert systemd.recv(100) == b"STOPPING=1"
            systemd.setblocking(False)
            with pytest.raises(BlockingIOError):
                systemd.recv(100)
        assert sum(line.endswith("stopping") for line in family.lines) == 3
        assert not family.logged("process ")
        with listen(f"127.0.0.1:{family.port}"):
            pass


def test_ctrl_c() -> None:
    """Ctrl-C reaches every process in the group and ends the chat cleanly."""
    fault = """
        import os
        if "GOCHAT_CHILD" not in os.environ:
            os.setpgid(0, 0)
    """
    with Family(2, fault=fault) as family, ExitStack() as stack:
        peers = family.one_each(stack)
        os.killpg(family.process.pid, signal.SIGINT)
        for peer in peers:
            assert parted(peer).code == 1001
        assert family.wait() == 0, family.lines
        assert not family.logged("Traceback")


@pytest.mark.measured
def test_the_second_signal_is_the_last() -> None:
    with Family(2, "--shutdown-timeout=600") as family, ExitStack() as stack:
        family.one_each(stack)  # these clients do not answer the close frame
        family.process.send_signal(signal.SIGINT)
        wait_until(lambda: sum(line.endswith("] stopping") for line in family.lines) == 2)
        assert family.stop() == 1
        assert family.lines[-1] == "gochat: killed at the second signal"
        assert sum("gochat: " in line for line in family.lines) == 1


def test_the_parent_is_killed() -> None:
    with Family(2) as family, ExitStack() as stack:
        peers = family.one_each(stack)
        family.process.kill()
        for peer in peers:
            assert parted(peer).code == 1001
        assert family.wait() == -signal.SIGKILL
    assert is_refused(family.port)


@pytest.mark.measured
def test_a_child_that_does_not_end() -> None:
    """A child that does not end in time at shutdown is killed, and the status is 1."""
    fault = """
        from gochat.ops import processes
        processes._GRACE = 0.0
    """
    with Family(2, "--shutdown-timeout=0.3", fault=fault) as family:
        stop_signal(family.children()[1])
        assert family.stop() == 1
        assert family.lines[-1] == "gochat: the processes did not end in time"


@pytest.mark.measured
def test_a_child_that_fails_at_the_end() -> None:
    """If children fail at shutdown, one error is reported, and the status is 1."""
    fault = """
        import threading
        from gochat import Hub

        Hub.run = lambda self: threading.Event().wait()
    """
    with Family(2, "--shutdown-timeout=0.3", fault=fault) as family:
        assert family.stop() == 1
        assert re.fullmatch("gochat: process [01]: the hub does not answer", family.lines[-1])
        assert sum("does not answer" in line for line in family.lines) == 1


# Start.


def failing(*flags: str, fault: str = "") -> str:
    """Run gochat with two processes, which must fail to start; return its errors."""
    done = finished([*command(fault), "serve", "--addr", LOCAL, "--processes=2", *flags])
    assert done.returncode == 1, done
    return "".join(re.findall(r"^(?!\d{4}/\d\d/\d\d ).*\n", done.stderr, re.M))


def test_a_child_that_cannot_begin() -> None:
    """If a child cannot start, all processes end, and one line says why."""
    port = free_port(2)
    with listen(f"127.0.0.1:{port + 1}"):
        assert failing(f"--metrics-addr=127.0.0.1:{port}") == (
            f"gochat: process 1: listen tcp 127.0.0.1:{port + 1}: Address already in use\n"
        )


@pytest.mark.measured
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ('import sys; sys.executable = "/no/such/python"', "process 0: No such file or directory"),
        ("import os; 'GOCHAT_CHILD' in os.environ and os._exit(0)", "ended with status 0"),
        ("import os; 'GOCHAT_CHILD' in os.environ and os.abort()", "was killed by signal 6"),
        # The child closes its pipe but does not end.
        (
            "import os, time\n"
            "if place := os.environ.get('GOCHAT_CHILD'):\n"
            "    os.close(int(place.split(',')[2]))\n"
            "    time.sleep(600)",
            "was killed by signal 9",
        ),
        (
            "import os, time\n"
            "from gochat.ops import processes\n"
            "processes._START = -29.0\n"  # plus 30 s for the relay, this is 1 s
            "'GOCHAT_CHILD' in os.environ and time.sleep(600)",
            ": not ready after 1 s: killed",
        ),
    ],
)
def test_a_child_that_is_never_ready(fault: str, what: str) -> None:
    """If a child cannot be started or never becomes ready, one line says why."""
    said = failing(fault=fault)
    assert is_one_line(said, what), said


@pytest.mark.measured
def test_the_end_at_the_begin() -> None:
    """While its children start, the command ends on SIGTERM but not on SIGUSR1."""
    fault = "import os, time; 'GOCHAT_CHILD' in os.environ and time.sleep(600)"
    args = [*command(fault), "serve", "--addr", LOCAL, "--processes=2"]
    with subprocess.Popen(args, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: len(children_of(process.pid)) == 2, "two children")
            children = children_of(process.pid)
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert all(map(has_ended, children.values()))
        finally:
            process.kill()
        assert process.stderr
        assert re.fullmatch(r"[\d/]+ [\d:]+ stopping\n", process.stderr.read())


def test_the_end_while_redis_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat that waits for Redis does not report that it is ready, and ends on SIGTERM."""
    monkeypatch.setenv("GOCHAT_RELAY", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with ExitStack() as stack:
        systemd = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        log = stack.enter_context((tmp_path / "log").open("w+"))
        args = [*command(), "serve", "--addr", LOCAL, "--processes=2", "--relay-timeout=600"]
        process = stack.enter_context(subprocess.Popen(args, stderr=log))
        stack.callback(process.kill)

        def both_wait() -> bool:
            text = (tmp_path / "log").read_text()
            return all(f"[{number}] relay" in text for number in range(2))

        wait_until(both_wait, "two children that wait for Redis")
        process.terminate()
        assert process.wait(PATIENCE) == 0
        assert systemd.recv(100) == b"STOPPING=1"
        with pytest.raises(BlockingIOError):
            systemd.recv(100)
        assert "listening" not in (tmp_path / "log").read_text()


@pytest.mark.measured
@pytest.mark.parametrize("count", [1, 2])
def test_without_the_package(count: int) -> None:
    missing = "import sys; sys.modules['redis'] = None"
    args = [*command(missing), "serve", "--addr", LOCAL, f"--processes={count}"]
    done = finished(args)
    assert (done.returncode, done.stderr) == (
        1,
        "gochat: --relay needs the package redis: pip install 'gochat[relay]'\n",
    )


@pytest.mark.measured
def test_a_child_whose_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child ends if its parent died before the child could watch it."""
    monkeypatch.setenv("GOCHAT_CHILD", "0,3,4,0")
    done = finished([*command(), "serve", "--processes=2"])
    assert (done.returncode, done.stderr) == (1, "")


def test_a_child_that_cannot_tell() -> None:
    """Reporting to a parent that has died raises no error in the child."""
    reading, writing = os.pipe()
    os.close(reading)
    with socket.socket() as listener:
        place = Place(0, listener, writing)
        place.alive()
        place.ending()
        place.failed("")
    os.close(writing)


# Children that die.


def test_no_connection_is_lost_that_waits() -> None:
    """Connections in a killed child's queue are served after its restart."""
    with Family(2) as family, ExitStack() as stack:
        children = family.children()
        for pid in children:
            stop_signal(pid)
        peers = [stack.enter_context(Peer(family.port)) for _ in range(200)]
        for peer in peers:
            peer.sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        os.kill(children[0], signal.SIGKILL)
        os.kill(children[1], signal.SIGCONT)
        for peer in peers:
            assert peer.response().status == 200
        wait_until(lambda: family.ready(0) == 2, "a child that is started again")
        assert family.logged("process 0 was killed by signal 9; next start in 0.")
        assert family.ready(1) == 1
        assert family.children()[1] == children[1]
        # The new child is in the same room and on the same port.
        a, b = family.one_each(stack)
        a.send("hello")
        assert heard_by(b, {"hello"}) == ["hello"]


@pytest.mark.measured
def test_a_child_that_keeps_dying() -> None:
    """If a child keeps dying soon after it starts, the parent waits longer before each restart."""
    fault = """
        import subprocess
        from gochat.ops import processes

        popen, calls = subprocess.Popen, []

        def start(*args, **options):
            calls.append(args)
            if len(calls) == 4:
                raise BlockingIOError(11, "no more processes")
            if len(calls) == 5:
                args = ([sys.executable, "-c", "raise SystemExit(3)"],)
            return popen(*args, **options)

        subprocess.Popen = start
    """
    with Family(2, fault=DUMMY + dedent(fault)) as family:
        os.kill(family.children()[1], signal.SIGKILL)
        wait_until(lambda: family.ready(1) == 2, "a second start")
        os.kill(family.children()[1], signal.SIGKILL)
        wait_until(lambda: family.ready(1) == 3, "a start that succeeds")
        found = re.findall(
            r"process 1:? (.*); next start in (\S+) s$", "\n".join(family.lines), re.M
        )
        assert [reason for reason, _ in found] == [
            "was killed by signal 9",
            "was killed by signal 9",
            "no more processes",
            "ended with status 3",
        ]
        for number, (_, pause) in enumerate(found):
            assert 0.05 * 2**number - 0.006 <= float(pause) <= 0.1 * 2**number + 0.006
        assert family.ready(0) == 1
        assert family.stop() == 0


def test_a_child_that_fails() -> None:
    """A child that fails is restarted, and the parent logs the reason in one line."""
    fault = """
        from gochat import Hub

        class Clients(dict):
            def __setitem__(self, client, value):
                super().__setitem__(client, value)
                raise LookupError("a mistake")

        init = Hub.__init__

        def start(self):
            init(self)
            self.clients = Clients()

        Hub.__init__ = start
    """
    flag = "--shutdown-timeout=0.3"
    with Family(2, flag, fault=fault) as family, Peer(family.port) as peer:
        assert peer.open().status == 101
        wait_until(lambda: family.logged(": the hub has failed; next start in 0."))
        wait_until(lambda: family.ready(0) + family.ready(1) == 3, "a child that is back")
        assert family.stop() == 0
        assert sum("LookupError: a mistake" in line for line in family.lines) == 1


@pytest.mark.measured
def test_many_restarts() -> None:
    """Restarts leak neither descriptors nor memory.

    A child that ran for a while is restarted without a pause.
    """
    fault = "from gochat.ops import processes\nprocesses._YOUNG = 0.0"
    with Family(4, fault=DUMMY + fault) as family:

        def restart(times: int) -> None:
            for pid in family.children():
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: all(family.ready(number) == times for number in range(4)))

        restart(2)
        descriptors, memory = family.descriptors(), family.memory()
        for times in range(3, 7):
            restart(times)
        # Some descriptors may be closed late, but a leaked one never is.
        wait_until(lambda: family.descriptors() <= descriptors, "no more descriptors")
        assert family.memory() < memory + 1_000_000
        assert sum("next start in 0.00 s" in line for line in family.lines) == 20


# Children that hang.


def test_a_child_that_is_stopped() -> None:
    """A child that hangs is killed and restarted, and one line says so."""
    with Family(2, fault="from gochat.ops import processes\nprocesses._SILENCE = 4.0") as family:
        stop_signal(family.children()[1])
        wait_until(lambda: family.ready(1) == 2, "a child that is started again")
        (line,) = [line for line in family.lines if "process 1" in line]
        assert re.fullmatch(
            r"[\d/]+ [\d:]+ process 1: silent for 4 s: killed; next start in \S+ s", line
        )
        with ExitStack() as stack:
            family.one_each(stack)
        assert family.stop() == 0


@pytest.mark.measured
@pytest.mark.parametrize("stuck", ["the main thread", "the hub"])
def test_a_child_that_is_stuck(stuck: str) -> None:
    """A child is killed if its main thread or its hub hangs."""
    fault = """
        import os, time
        from gochat import Hub
        from gochat.ops import deploy, processes

        processes._SILENCE = 4.0
        if os.environ.get("GOCHAT_CHILD", "").startswith("1,"):
            stuck = []
            if STUCK == "the hub":
                deploy.dump_threads = lambda: stuck.append(True)
            else:
                deploy.dump_threads = lambda: os.read(os.pipe()[0], 1)
            run = Hub.run

            class Clients(dict):
                def __contains__(self, client):
                    if stuck:
                        time.sleep(600)
                    return super().__contains__(client)

            def run_until_stuck(self):
                self.clients = Clients()
                run(self)

            Hub.run = run_until_stuck
    """
    with Family(2, fault=f"STUCK = {stuck!r}\n{dedent(fault)}") as family:
        os.kill(family.children()[1], signal.SIGUSR1)
        wait_until(lambda: family.ready(1) == 2, "a child that is started again")
        assert family.logged("process 1: silent for 4 s: killed; next start in ")
        assert family.stop() == 0


@pytest.mark.measured
def test_a_pause_of_the_whole_machine() -> None:
    """If all processes are paused together, none is killed after the pause."""
    silence = 4.0
    fault = f"from gochat.ops import processes\nprocesses._SILENCE = {silence}"
    with Family(2, fault=fault) as family:
        children = family.children()
        for pid in [family.process.pid, *children]:
            stop_signal(pid)
        time.sleep(silence + 1)  # the pause that is tested
        # The parent continues first, and checks its children before they can report.
        looks = switches(family.process.pid)
        os.kill(family.process.pid, signal.SIGCONT)
        wait_until(lambda: switches(family.process.pid) > looks + 1, "a check by the parent")
        for pid in children:
            os.kill(pid, signal.SIGCONT)
        with ExitStack() as stack:
            family.one_each(stack)
            # The children are still watched.
            stop_signal(children[0])
            wait_until(lambda: family.ready(0) == 2, "a child that is started again")
        assert family.children()[1] == children[1]
        assert family.stop() == 0


def test_a_child_that_takes_its_time_to_end() -> None:
    """A child that is shutting down is not killed for being silent."""
    fault = """
        import time
        from gochat.ops import processes, serve

        processes._SILENCE = 2.0
        end = serve._end

        def slow(*args):
            time.sleep(4)  # longer than a child may be silent
            return end(*args)

        serve._end = slow
    """
    with Family(2, fault=fault) as family:
        os.kill(family.children()[1], signal.SIGTERM)
        wait_until(lambda: family.ready(1) == 2, "a child that is started again")
        assert family.logged("process 1 ended with status 0; next start in ")
        assert family.stop() == 0


@pytest.mark.measured
def test_a_child_that_takes_too_long_to_end() -> None:
    """A child that takes much longer than the shutdown timeout is killed."""
    fault = """
        import time
        from gochat.ops import processes, serve

        processes._GRACE = 0.5
        serve._end = lambda *_: time.sleep(600)
    """
    with Family(2, "--shutdown-timeout=0.5", fault=fault) as family:
        os.kill(family.children()[1], signal.SIGTERM)
        wait_until(lambda: family.ready(1) == 2, "a child that is started again")
        assert family.logged("process 1: did not end within 1 s: killed; next start in ")
        assert family.stop() == 1


@pytest.mark.measured
def test_a_child_that_cannot_be_killed() -> None:
    """If a killed child does not die, the parent starts another."""
    fault = """
        import subprocess
        from gochat.ops import processes

        processes._SILENCE, processes._DEATH = 1.0, 0.5
        subprocess.Popen.kill = lambda self: None
    """
    with Family(2, fault=DUMMY + dedent(fault)) as family:
        pid = family.children()[1]
        stop_signal(pid)
        try:
            wait_until(lambda: family.ready(1) == 2, "a child that is started again")
            assert family.logged("process 1 cannot be killed; next start in ")
        finally:
            os.kill(pid, signal.SIGKILL)
        assert family.stop() == 0


# Sockets from systemd, and flags.


def test_sockets_of_systemd() -> None:
    """Each process listens on one of the sockets from systemd."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(sock) for sock in listen_shared(LOCAL, 2)]
        port = listeners[0].getsockname()[1]
        with Family(2, "--addr=127.0.0.1:1", listener=listeners) as family:
            assert family.port == port
            with ExitStack() as peers:
                family.one_each(peers)
            assert family.stop() == 0
        # While gochat is not running, new clients wait and are not refused.
        Peer(port).sock.close()


def test_one_socket_of_systemd() -> None:
    """If systemd passes fewer sockets than there are processes, a one-line error says so."""
    with listen(LOCAL) as listener:
        args = activated(listener.fileno(), [*command(), "serve", "--processes=2"])
        done = finished(args, [listener.fileno()])
    assert done.returncode == 1
    assert is_one_line(done.stderr, "LISTEN_FDS=1: not 2 TCP sockets that listen"), done.stderr


def test_one_process() -> None:
    with Gochat("--processes=1") as chat:
        assert children_of(chat.process.pid) == {}
        for line in chat.lines:
            assert re.fullmatch(r"[\d/]+ [\d:]+ (running|listening) on .*", line)
        assert chat.stop() == 0


def test_processes_need_a_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOCHAT_RELAY")
    done = finished([*command(), "serve", "--addr", LOCAL, "--processes=2"])
    assert done.returncode == 2
    assert is_one_line(done.stderr, "--processes needs --relay"), done.stderr
