"""The parts of Go that the chat needs, in Python: channels, the runtime and packages.

    channel.py   channels, close, select                     the language
    closed.py    the base of both runtimes' channels         the language
    goroutine.py what goroutines are waiting for             goroutines in a traceback
    runtime/     threads, or greenlets instead of threads    package runtime
    turns.py     limits how many write pumps work at a time  the scheduler, GOMAXPROCS
    clock.py     a clock that stops during pauses            the runtime's timers
    flag.py      flags in Go's form                          package flag
    bytes.py     trims Unicode white space                   package bytes
    log.py       the log, and a dump of all threads          package log
    frames.py    WebSocket frames, for servers and clients   package gorilla/websocket
    dial.py      parses the address of a server              package gorilla/websocket
    http/        the server                                  package net/http
    websocket/   handshakes and connections                  package gorilla/websocket

The rules: nothing here knows about the chat or imports from the rest of gochat. Locks, socket
options and deadlines belong here, so that hub.py and client.py stay simple. Imports within this
package:

- `runtime` imports `closed` and `goroutine`.
- `channel` imports `runtime`, `closed` and `goroutine`; `turns` imports `runtime` and `goroutine`.
- `log` imports `runtime`.
- `http` imports `runtime` and `clock`.
- `websocket` imports `runtime`, `clock`, `frames` and `http`.
- `closed` imports `goroutine`.
- The other modules import nothing from this package.
"""
