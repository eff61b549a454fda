"""The chat on picows, an asyncio library that implements the protocol in Cython.

picows calls a listener for each frame. The listener writes to the transports of all clients, so
there are no tasks and no queues. Messages for a slow client stay in its transport's buffer.
"""

import asyncio
import sys

from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

clients: set[WSTransport] = set()


class Chat(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        clients.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        clients.discard(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            message = frame.get_payload_as_bytes()
            for client in clients:
                client.send(WSMsgType.TEXT, message)
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()


async def main(port: int) -> None:
    def join(_: WSUpgradeRequest) -> Chat:
        return Chat()

    server = await ws_create_server(join, "127.0.0.1", port, backlog=1024, max_frame_size=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
