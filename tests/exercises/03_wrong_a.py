"""Mistakes a falsy value for the end."""


def receive_all(channel):
    values = []
    while value := channel.recv()[0]:
        values.append(value)
    return values
