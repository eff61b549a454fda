"""select: wait for two channels at once."""

from threading import Thread
from types import SimpleNamespace

from gochat import Channel, select

ch = SimpleNamespace(numbers=Channel(), done=Channel())


def count() -> None:
    for number in (1, 2):
        ch.numbers.send(number)
    ch.done.close()


Thread(target=count, name="counter").start()
while True:
    match select(ch.numbers, ch.done):
        case ch.numbers, number, _:
            print("number", number)
        case ch.done, _, _:
            print("done")
            break
