"""Traces the Go program in the folder `go`, and reads the trace for a picture.

Go's trace records each change of a goroutine's state, and which goroutine caused it. There are
three states: a goroutine runs, waits for something, or is runnable, which means that it could run
but has no processor yet. In this module, a system call counts as running.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from gochat.trace.chrome import Flow, Span, Trace
from gochat.trace.recorder import RUN, WAIT
from tests.support import PATIENCE, Stream

__all__ = ["GO", "read", "record"]

#: The program `go`; None if it is not installed.
GO: Final = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")

# How many messages A sends. A trace shows how the hub passes a message to B's write pump only if
# the pump is waiting for it. On a busy machine, the pump may still be writing the previous message.
_MESSAGES: Final = 5

# A goroutine's log entry or change of state: the goroutine that logs or causes the change, or -1;
# the time in nanoseconds; and the entry, or the goroutine that changes, its states and the reason.
_EVENT: Final = re.compile(
    r"^M=\S+ P=\S+ G=(-?\d+) (?:Log|StateTransition) Time=(\d+) "
    r'(?:Task=\d+ Category="(.*)" Message="(.*)"|GoID=(\d+) (\w+)->(\w+) Reason="(.*)")$',
    re.MULTILINE,
)

_RUNNING: Final = ("Running", "Syscall")


def record(go: str, folder: Path) -> str:
    """Run the Go program, let A and B talk, and return the events of the trace as text.

    go: the program `go`. folder: where to put files.
    """
    program, path = folder / "chat", folder / "trace"
    subprocess.run([go, "build", "-o", program, "."], cwd=Path(__file__).parent / "go", check=True)
    chat = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert chat.stdin
    assert chat.stdout
    with chat:
        address = "127.0.0.1", int(chat.stdout.readline())
        with socket.create_connection(address, PATIENCE) as a:
            _say(a, Stream(a))
            with socket.create_connection(address, PATIENCE) as b:
                readers = Stream(a), Stream(b)
                _say(b, *readers)
                for _ in range(_MESSAGES):
                    _say(a, *readers)
                chat.stdin.close()
                chat.wait(PATIENCE)
    assert chat.returncode == 0
    command = [go, "tool", "trace", "-d=parsed", str(path)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _say(speaker: socket.socket, *readers: Stream) -> None:
    speaker.sendall(b"hello\n")
    for reader in readers:
        reader.read_until(b"\n")


def read(events: str) -> Trace:
    """Return the trace of the goroutines that have logged something.

    Go does not record messages. It records that a goroutine wakes another: the receiver if it was
    waiting, or else the sender. An arrow is drawn from the sender to the receiver.
    """
    found = [match.groups(default="") for match in _EVENT.finditer(events)]
    first, last = int(found[0][1]), int(found[-1][1])
    names: dict[int, str] = {}
    spans: list[Span] = []
    arrows: list[tuple[int, float, int, float]] = []
    # For each goroutine, its current state, and who woke it and when.
    states: dict[int, Span] = {}
    woken: dict[int, tuple[int, float]] = {}
    for by, at, name, what, changed, before, after, why in found:
        actor, time = int(by), (int(at) - first) / 1000
        if name:
            names[actor] = name
            states[actor] = replace(states[actor], name=what)
            continue
        goroutine, running = int(changed), after in _RUNNING
        if running and before in _RUNNING:
            continue
        state = states.pop(goroutine, None)
        if state:
            spans.append(replace(state, end=time))
        if state and before == "Waiting" and actor >= 0:
            if state.name == "chan send":
                arrows.append((goroutine, state.begin, actor, time))
            else:
                woken[goroutine] = actor, time
        if running and goroutine in woken:
            arrows.append((*woken.pop(goroutine), goroutine, time))
        if after != "NotExist":
            does = "run" if running else why or "runnable"
            end, kind = (last - first) / 1000, RUN if running else WAIT
            states[goroutine] = Span(goroutine, time, end, does, kind, {})
    spans = [span for span in [*spans, *states.values()] if span.thread in names]
    flows = [
        Flow("message", names[way[2]], None, *way) for way in arrows if {way[0], way[2]} <= {*names}
    ]
    spans.sort(key=lambda span: span.begin)
    flows.sort(key=lambda flow: flow.sent)
    return Trace(names, spans, flows, {}, 0)
