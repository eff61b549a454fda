"""One goroutine, one channel, one value."""

from threading import Thread

from gochat import Channel

greetings = Channel[str]()


def greet() -> None:
    greetings.send("hello")


Thread(target=greet, name="greeter").start()
greeting, _ = greetings.recv()
print("main has:", greeting)
