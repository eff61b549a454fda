"""Broken: nobody receives, so main waits forever."""

from gochat import Channel

greetings = Channel[str]()
print("main sends")
greetings.send("hello")
print("main goes on")
