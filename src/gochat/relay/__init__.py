"""The relay: one room on many processes and machines, through a Redis or Valkey stream.

    relay.py     Relay: stands in for the hub; two threads: `relay out`, `relay in`
    ledger.py    which messages of each process have been seen: duplicates and gaps
    bound.py     how many entries the stream keeps, by number and by bytes
    stream.py    the Redis stream; the only module that imports redis-py
    entry.py     the form of a stream entry, and which entries are valid

The rules: imports go down the list above, and to golang and hub; only `--relay` imports this
package. hub.py and client.py know nothing about it: to a client the Relay is the hub.
"""
