"""A straightforward port of the Go example to simple-websocket, Werkzeug and `queue.Queue`.

One thread runs the hub. Each client has a reading thread and a writing thread, and simple-websocket
adds a third. As in the Go example, the hub drops a client that is 256 messages behind, and all
messages queued for a client are joined with newlines and sent as one. Python has no `select` for
queues, so the hub has a single queue.
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

#: The hub's events: ("join", client), ("leave", client) or ("say", message).
events: queue.Queue[tuple[str, Any]] = queue.Queue()


class Client:
    def __init__(self, ws: Server) -> None:
        self.ws = ws
        self.send: queue.Queue[str | None] = queue.Queue(256)
        #: Set when the hub has dropped this client.
        self.dropped = threading.Event()

    def read_pump(self) -> None:
        try:
            while True:
                message = self.ws.receive()
                events.put(("say", message.replace("\n", " ").strip()))
        except ConnectionClosed:
            events.put(("leave", self))

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
        kind, value = events.get()
        if kind == "join":
            clients.add(value)
        elif kind == "leave":
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
        # If the queue is full, the writer is not waiting. So it sees `dropped`, and needs no None.
        with suppress(queue.Full):
            client.send.put_nowait(None)


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/ws":
        start_response("404 Not Found", [])
        return []
    client = Client(Server(environ, max_message_size=512))
    events.put(("join", client))
    threading.Thread(target=client.write_pump, daemon=True).start()
    client.read_pump()
    # Keeps Werkzeug from writing a response to a connection that has ended.
    raise ConnectionError


def main(port: int) -> None:
    BaseWSGIServer.request_queue_size = 1024
    threading.Thread(target=hub, daemon=True).start()
    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
