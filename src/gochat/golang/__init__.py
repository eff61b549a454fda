"""The parts of Go that the chat uses, for Python: language, runtime and packages.

    channel.py   channels, close, select                     the language
    closed.py    the base of both runtimes' channels         the language
    goroutine.py what goroutines are waiting for             goroutines in a traceback
    runtime/     threads, or greenlets in their place        package runtime
    turns.py     limits how many write pumps work at a time  the scheduler, GOMAXPROCS
    clock.py     a clock for deadlines, without pauses       the runtime's timers
    flag.py      flags in Go's form                          package flag
    bytes.py     trims Unicode white space                   package bytes
    log.py       the log, and a dump of the threads          package log
    frames.py    WebSocket frames, for both sides            package gorilla/websocket
    dial.py      the address that a client connects to       package gorilla/websocket
    http/        the server                                  package net/http
    websocket/   handshakes and connections                  package gorilla/websocket

The rules: nothing here knows about a chat or imports from outside this package. Locks, socket
options and deadlines belong here, so that hub.py and client.py stay plain. Imports:

- `runtime` imports `closed` and `goroutine`.
- `channel` imports `runtime`, `closed` and `goroutine`; `turns` imports `runtime` and `goroutine`.
- `log` imports `runtime`.
- `http` imports `runtime` and `clock`.
- `websocket` imports `runtime`, `clock`, `frames` and `http`.
- `closed` imports `goroutine`.
- The others import nothing from this package.
"""
