"""The chat on socketify, which combines uWebSockets, a C++ server, with handlers in Python.

Python handles each message, and C++ sends it to all clients as a separate frame. A client is
disconnected when 64 KB are waiting for it, which is the library's default.
"""

import sys
from typing import Any

from socketify import App, OpCode

ROOM = "room"


def main(port: int) -> None:
    app = App()

    def join(ws: Any) -> None:
        ws.subscribe(ROOM)

    def message(_: Any, message: str | bytes, opcode: OpCode) -> None:
        app.publish(ROOM, message, opcode)

    chat = {
        "max_payload_length": 512,
        "close_on_backpressure_limit": True,
        "open": join,
        "message": message,
    }
    app.ws("/ws", chat)
    app.listen({"host": "127.0.0.1", "port": port})
    app.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
