"""The relay: one room on many processes and machines, through a Redis or Valkey stream.

    relay.py     stands in for the hub; has two threads, `relay out` and `relay in`
    ledger.py    which messages of each process have been seen: duplicates and gaps
    bound.py     how many entries the stream keeps
    stream.py    a connection to the stream; the only module that imports redis-py
    entry.py     the format of a stream entry, and which entries are valid

The rules: modules import only modules below them in this list, golang, and hub. Only `--relay`
imports this package. hub.py and client.py know nothing about it: to a client, the Relay is the hub.
"""
