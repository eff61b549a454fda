"""The relay: one room on many processes and machines, by a stream of Redis or Valkey.

    relay.py     Relay: the hub as clients see it, and two threads: `relay out`, `relay in`
    ledger.py    which messages of which process have been seen: doubles and gaps
    bound.py     how many entries the stream keeps, by number and by bytes
    stream.py    the stream of Redis; nothing else knows redis-py
    entry.py     what an entry of the stream looks like, and which entries are taken

The rules: imports go down the list above, and to golang and hub; only `--relay` imports this
package. Neither hub.py nor client.py knows of it: to a client the Relay is the hub.
"""
