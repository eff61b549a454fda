"""`recv` also returns whether there was a value. Only a closed, empty channel has none."""


def receive_all(channel):
    values = []
    while True:
        value, ok = channel.recv()
        if not ok:
            return values
        values.append(value)
