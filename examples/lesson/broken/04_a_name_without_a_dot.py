"""Broken: in a case, a name without a dot is a new variable, which matches anything."""

from gochat import Channel, select

numbers, done = Channel(1), Channel(1)
done.send("the end")
match select(numbers, done):
    case numbers, value, _:
        print("number", value)
    case done, _, _:
        print("done")
