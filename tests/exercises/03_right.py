"""`recv` says whether there was a value; only a closed channel that is empty has none."""


def receive_all(channel):
    values = []
    while True:
        value, ok = channel.recv()
        if not ok:
            return values
        values.append(value)
