"""Broken: in a case, a name without a dot is a new variable, which matches anything."""

from gochat import Channel, select

numbers, done = Channel[int](1), Channel[str](1)
done.send("the end")
match select(numbers, done):
    case numbers, value, _:  # type: ignore[misc]  # mypy reports this
        print("number", value)
    case done, _, _:  # type: ignore[misc]  # and this
        print("done")
