"""The chat on websockets with a thread per client, as its documentation shows.

websockets has no `broadcast` for threads. The thread that receives a message sends it to one client
after another, and each send blocks until the socket has room for the message.
"""

import socket
import sys
import threading
from contextlib import suppress

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

clients: set[ServerConnection] = set()
lock = threading.Lock()


def chat(connection: ServerConnection) -> None:
    with lock:
        clients.add(connection)
    try:
        for message in connection:
            with lock:
                everyone = list(clients)
            for client in everyone:
                # A client that has left is removed by its own thread.
                with suppress(ConnectionClosed):
                    client.send(message)
    finally:
        with lock:
            clients.remove(connection)


def main(port: int) -> None:
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    with serve(chat, sock=sock, compression=None, max_size=512) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]))
