"""Broken: four threads change the same number, and deposits are lost."""

from threading import Thread

balance = 0


def amount() -> int:
    return 1


def save() -> None:
    global balance  # noqa: PLW0603 - this is the mistake
    for _ in range(500_000):
        balance = balance + amount()


savers = [Thread(target=save) for _ in range(4)]
for saver in savers:
    saver.start()
for saver in savers:
    saver.join()
print(f"{2_000_000 - balance} of 2000000 are missing")
