"""`gochat talk`: a client for the terminal, which can show the frames.

    command.py     the flags, and the life of a talk
    terminal.py    a line editor, on prompt_toolkit
    commands.py    what a typed line does
    session.py     one talk over many connections: what was said, what waits, what may be lost;
                   the form of a name
    connection.py  one connection, on wsproto
    frames.py      frames on the wire, and a line that describes each
    lines.py       lines from a pipe or a file

The rules: all of this is imported only with the command `talk`. Only connection.py imports
wsproto, and only terminal.py imports prompt_toolkit. Modules import only modules further down the
list, and golang's `dial`, `flag` and `frames`. One thread does everything, on asyncio: a client
has one connection and no hub to share it with, and prompt_toolkit needs that loop anyway. So
nothing in here needs a lock, and no other thread may call it.
"""
