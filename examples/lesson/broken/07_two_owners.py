"""Broken: two threads have the number, and one of two deposits is lost."""

from threading import Barrier, Thread

balance = 0
both_have_read = Barrier(2)  # the worst moment for a switch, so that this run shows it


def save() -> None:
    global balance  # noqa: PLW0603 - that is the mistake
    seen = balance
    both_have_read.wait()
    balance = seen + 10


savers = [Thread(target=save, name=name) for name in ("Ann", "Bob")]
for saver in savers:
    saver.start()
for saver in savers:
    saver.join()
print("the balance is", balance)
