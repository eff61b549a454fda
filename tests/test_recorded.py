"""gochat answers as the Go program does, byte for byte.

`recorded/scenarios.json` lists what the clients do, and `recorded/go.json` lists the Go program's
answers. `recorded/differences.json` lists scenarios in which gochat should not answer like Go. In
close frames, only the code is compared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .support import CLOSE, TEXT, Frame, Gochat, Peer, Response, frame, join, wait_until

RECORDED = Path(__file__).with_name("recorded")

Step = dict[str, Any]
Scenario = dict[str, Any]


def load(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


SCENARIOS: list[Scenario] = load("scenarios.json")
DIFFERENCES: list[Scenario] = load("differences.json")
GO: dict[str, list[Any]] = load("go.json")

#: The headers in the recording. Others are up to the HTTP server.
RECORDED_HEADERS = (
    "allow",
    "connection",
    "content-type",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "upgrade",
)


class Replay:
    """Plays the steps of a scenario, and records in `seen` what the clients receive."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.peers: dict[str, Peer] = {}
        self.seen: list[Any] = []

    def play(self, steps: list[Step]) -> list[Any]:
        try:
            for step in steps:
                # A step's first key names a method, and its value is the first argument.
                kind, subject = next(iter(step.items()))
                getattr(self, kind)(subject, step)
        except (EOFError, ConnectionError):
            self.seen.append("closed")
        finally:
            for peer in self.peers.values():
                peer.sock.close()
        return self.seen

    def http(self, request: Step, step: Step) -> None:
        with Peer(self.port) as peer:
            answer = peer.request(
                request["path"], {"Connection": "close"} | request["headers"], request["method"]
            )
            self.see_response(answer, body="nobody" not in step)

    def open(self, name: str, step: Step) -> None:
        peer = self.peers[name] = Peer(self.port)
        headers = {
            field: value and value.replace("{host}", peer.host)
            for field, value in step.get("headers", {}).items()
        }
        then = bytes.fromhex(step.get("then", ""))
        answer = peer.open(step.get("path", "/ws"), headers, then)
        self.see_response(answer, body=answer.status != 101)

    def send(self, name: str, step: Step) -> None:
        self.peers[name].sock.sendall(bytes.fromhex(step["hex"]))

    def text(self, name: str, step: Step) -> None:
        payload = step["data"].encode("latin-1" if step.get("latin1") else "utf-8")
        self.peers[name].sock.sendall(
            frame(
                payload * step.get("times", 1),
                step.get("op", TEXT),
                fin=step.get("fin", True),
                mask=None if step.get("unmasked") else b"\x01\x02\x03\x04",
            )
        )

    def recv(self, name: str, step: Step) -> None:
        messages: list[str] = []
        while len(messages) < step["messages"]:
            got = self.peers[name].read_frame()
            if got.opcode != TEXT:
                self.seen.append(noted(got))
                break
            messages += got.payload.decode().split("\n")
        self.seen.append(messages)

    def frames(self, name: str, step: Step) -> None:
        self.seen.append([noted(self.peers[name].read_frame()) for _ in range(step["n"])])

    def end(self, name: str, _step: Step) -> None:
        self.seen.append([*map(noted, self.peers[name].read_to_end()), "closed"])

    def see_response(self, answer: Response, *, body: bool) -> None:
        headers = {k: v for k, v in answer.headers.items() if k in RECORDED_HEADERS}
        for name in headers.keys() & {"upgrade", "connection"}:
            headers[name] = headers[name].lower()
        if answer.status != 101:
            headers.pop("connection", None)
        seen: dict[str, Any] = {"status": answer.status, "headers": headers}
        if body:
            seen["body"] = answer.body.decode().strip()
        self.seen.append(seen)


def noted(got: Frame) -> list[Any]:
    """Return a frame in the format of the recording."""
    payload = got.payload[:2] if got.opcode == CLOSE else got.payload
    return [got.fin, got.opcode, payload.hex()]


@pytest.fixture(scope="module")
def gochat() -> Iterator[Gochat]:
    with Gochat() as process:
        yield process


@pytest.fixture
def room(gochat: Gochat) -> Iterator[Gochat]:
    """The server, without clients of the previous scenario.

    No message from that scenario can still arrive, because the hub sends a message to all clients
    at once, and a client's threads end only after the hub has released the client.
    """
    sockets = gochat.sockets()
    yield gochat
    tasks = f"/proc/{gochat.process.pid}/task"
    try:
        if gochat.runtime == "greenlets":
            # A client's socket is closed when both its goroutines have ended.
            wait_until(lambda: gochat.sockets() == sockets, "the clients' sockets closed")
        else:
            # Only the main thread and the hub remain.
            wait_until(lambda: len(os.listdir(tasks)) == 2, "the clients' threads ended")
    except AssertionError:
        gochat.kill()  # later scenarios cannot use this server
        raise


def test_recording_is_complete() -> None:
    """The recording has 48 scenarios, each with Go's answers."""
    names = [scenario["name"] for scenario in SCENARIOS]
    assert len(names) == 48
    assert names == list(GO)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
@pytest.mark.parametrize("time", range(10))
def test_answers_as_go_does(room: Gochat, scenario: Scenario, time: int) -> None:  # noqa: ARG001
    """gochat gives the same answers as Go, ten times in a row."""
    assert Replay(room.port).play(scenario["steps"]) == GO[scenario["name"]]


@pytest.mark.parametrize("scenario", DIFFERENCES, ids=lambda scenario: scenario["name"])
def test_answers_better_than_go_does(room: Gochat, scenario: Scenario) -> None:
    """A message that is not UTF-8 disconnects its sender with 1007 and reaches nobody."""
    with join(room.port) as other:
        opened, ended = Replay(room.port).play(scenario["steps"])
        assert opened["status"] == 101
        assert ended == [[True, CLOSE, "03ef"], "closed"]
        other.send("still here")
        assert other.read_frame() == Frame(True, TEXT, b"still here")
