"""The Go example on threads as one would write it first: simple-websocket, Werkzeug, `queue.Queue`.

A thread runs the hub, a reader and a writer serve each client, and simple-websocket has one more
thread for each. As in the Go example, whoever is 256 messages behind is dropped, and what is queued
for a client goes out as one message with newlines in it. Python has no `select`, so one queue
brings the hub everything. simple-websocket always takes compression if a client offers it; the
generator offers none.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from simple_websocket import ConnectionClosed, Server
from werkzeug.serving import BaseWSGIServer, make_server

#: What the hub has to do: ("join", client), ("leave", client) or ("say", message).
todo: queue.Queue[tuple[str, Any]] = queue.Queue()


class Client:
    def __init__(self, ws: Server) -> None:
        self.ws = ws
        self.send: queue.Queue[str | None] = queue.Queue(256)
        #: Set by the hub: nothing more will be queued.
        self.dropped = threading.Event()

    def read_pump(self) -> None:
        try:
            while True:
                message = self.ws.receive()
                todo.put(("say", message.replace("\n", " ").strip()))
        except ConnectionClosed:
            todo.put(("leave", self))

    def write_pump(self) -> None:
        try:
            while not self.dropped.is_set():
                message = self.send.get()
                if message is None:
                    break
                messages = [message]
                while not self.send.empty():
                    message = self.send.get()
                    if message is not None:
                        messages.append(message)
                self.ws.send("\n".join(messages))
            self.ws.close()
        except ConnectionClosed:
            pass


def hub() -> None:
    clients: set[Client] = set()
    while True:
        what, value = todo.get()
        if what == "join":
            clients.add(value)
        elif what == "leave":
            drop(clients, value)
        else:
            for client in list(clients):
                try:
                    client.send.put_nowait(value)
                except queue.Full:
                    drop(clients, client)


def drop(clients: set[Client], client: Client) -> None:
    if client in clients:
        clients.remove(client)
        client.dropped.set()
        # If it is full the writer does not wait, and sees that it was dropped.
        with suppress(queue.Full):
            client.send.put_nowait(None)


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/ws":
        start_response("404 Not Found", [])
        return []
    client = Client(Server(environ, max_message_size=512))
    todo.put(("join", client))
    threading.Thread(target=client.write_pump, daemon=True).start()
    client.read_pump()
    # The connection is over, and Werkzeug is not to write an answer to it.
    raise ConnectionError


def main(port: int) -> None:
    BaseWSGIServer.request_queue_size = 1024
    threading.Thread(target=hub, daemon=True).start()
    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
