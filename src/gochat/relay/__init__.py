"""The relay: one room on many processes and machines, by a stream of Redis or Valkey.

    relay.py     Relay: the hub as clients see it, and two threads: `relay out`, `relay in`
    ledger.py    which messages of which process have been seen: doubles and gaps
    stream.py    the stream of Redis; nothing else knows redis-py

The rules: imports go down the list above, and to golang and hub; only `--relay` imports this
package. Neither hub.py nor client.py knows of it: to a client the Relay is the hub.
"""
