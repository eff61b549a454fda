"""`gochat exercise`: exercises, and checks that report what they saw.

    catalogue.py   Exercise, exercises: the list of exercises
    command.py     the command, its flags, and the time limit for a check
    learner.py     Learner, Task: a learner's file, and its code on threads that can be abandoned
    room.py        Room, Member: a hub on a thread, and clients that consist only of a channel
    peer.py        Peer: the other end of a connection
    checks.py      for each exercise, a function that tests the learner's file
    run.py         one check, in the child process

The folder `starters` has the files that learners begin with. They are programs, not modules: each
imports what it needs from gochat, and nothing imports it. The first line of each docstring has the
exercise's number, level, kind and title; these lines are the only list of exercises.

The rules: command.py and catalogue.py are imported with the command, and the others only in the
child process. Each file imports only from those above it, except the command, which imports run.py
for a check. A check works with real hubs, channels and connections, and a real server on 127.0.0.1.
It returns one line that says what it saw, or raises Refused with such a line, and waits for a
learner's code no longer than WAIT. The child ends after its check, so a check need not clean up,
and its threads are daemons.
"""
