"""One owner instead of a lock: one thread owns the number, and the others send it requests."""

from threading import Thread
from types import SimpleNamespace

from gochat import Channel, select

account = SimpleNamespace(deposit=Channel(), ask=Channel())


def own() -> None:
    balance = 0
    while True:
        match select(account.deposit, account.ask):
            case account.deposit, amount, _:
                balance += amount
            case account.ask, answer, _:
                answer.send(balance)
                return


Thread(target=own, name="owner").start()
savers = [Thread(target=account.deposit.send, args=(10,), name=name) for name in ("Ann", "Bob")]
for saver in savers:
    saver.start()
for saver in savers:
    saver.join()
answer = Channel[int]()
account.ask.send(answer)
print("the balance is", answer.recv()[0])
