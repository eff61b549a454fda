"""`gochat exercise`: writes the exercises' files, and checks the learner's solutions.

    catalogue.py   Exercise, exercises: the list of exercises
    command.py     the command, its flags, and the time limit for a check
    learner.py     Learner, Task: a learner's file, and its code on threads that can be abandoned
    room.py        Room, Member: a hub on a thread, and clients that consist only of a channel
    peer.py        Peer: the client's side of a connection
    checks.py      for each exercise, a function that checks the learner's file
    run.py         one check, in the child process

The folder `starters` has the files that learners begin with. They are programs: each imports what
it needs from gochat, and no module imports them. The first line of each docstring has the
exercise's number, level, kind and title. These lines are the only list of exercises.

The rules: the command loads command.py and catalogue.py. The other modules are loaded only for a
check. Each module imports only from the modules above it, except that command.py imports
run.py for a check.

A check uses real hubs, channels and connections, and a real server on 127.0.0.1. It returns one
line that says what it saw, or raises Refused with such a line. It waits at most WAIT for each thing
that the learner's code must do. A check does not clean up, because the child process ends after it.
"""
