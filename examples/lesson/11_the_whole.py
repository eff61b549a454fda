"""The whole chat: the server, the hub, and two clients with two pumps each."""

from simple_websocket import Client as Browser

import gochat


def say(browser: Browser, text: str, *readers: tuple[str, Browser]) -> None:
    browser.send(text)
    for name, reader in readers:
        print(name, "reads:", reader.receive())


hub = gochat.Hub()
server = gochat.Server("127.0.0.1:0", gochat.make_app(hub))
with gochat.running(server, hub):
    server.start()
    url = server.url.replace("http", "ws") + "ws"
    ann = Browser(url)
    say(ann, "Ann is here", ("Ann", ann))
    bob = Browser(url)
    say(bob, "Bob is here", ("Ann", ann), ("Bob", bob))
    for browser in (ann, bob):
        browser.close()
print("the chat has ended")
