"""The chat on aiohttp, written as its documentation suggests.

aiohttp has no broadcast, so this server calls `send_str` for each client, and each call builds a
frame. All sends start together, so a slow client does not delay the others.
"""

import asyncio
import sys

from aiohttp import WSMsgType, web

CLIENTS = web.AppKey("clients", set[web.WebSocketResponse])


async def chat(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=512, heartbeat=54)
    await ws.prepare(request)
    clients = request.app[CLIENTS]
    clients.add(ws)
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                sends = [client.send_str(message.data) for client in clients]
                await asyncio.gather(*sends, return_exceptions=True)
    finally:
        clients.remove(ws)
    return ws


def main(port: int) -> None:
    app = web.Application()
    app[CLIENTS] = set()
    app.router.add_get("/ws", chat)
    web.run_app(app, host="127.0.0.1", port=port, backlog=1024, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
