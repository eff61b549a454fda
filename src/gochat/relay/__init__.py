"""The relay: one room on many processes and machines, through a Redis or Valkey stream.

    relay.py     stands in for the hub; has two threads, `relay out` and `relay in`
    ledger.py    finds duplicates and gaps in the messages of each process
    bound.py     calculates how many entries the stream keeps
    stream.py    a connection to the stream; the only module that imports redis-py
    entry.py     the format of a stream entry, and which entries are valid

The rules: each module imports only modules below it in this list, golang, and hub. This package is
imported only with `--relay`. hub.py and client.py know nothing about it: to a client, the Relay is
the hub.
"""
