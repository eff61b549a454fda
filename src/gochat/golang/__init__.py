"""What Go brings along: its language, its runtime and its libraries, for Python.

    channel.py   channels, close, select                     the language
    closed.py    the end of a channel                        the language
    handover.py  how threads sleep and wake for a channel    the runtime's chan.go
    goroutine.py what goroutines do, for those who look      goroutines in a traceback
    runtime/     threads, or greenlets in their place        package runtime
    turns.py     few write pumps are at work at a time       the scheduler, GOMAXPROCS
    clock.py     a clock for deadlines, without pauses       the runtime's timers
    processor.py the CPU that the process stays on           the scheduler's Ps
    thread.py    a thread that keeps little                  goroutines
    flag.py      flags in Go's form                          package flag
    bytes.py     white space as Unicode has it               package bytes
    log.py       the log, and a dump of the threads          package log
    frames.py    frames on the wire, of both sides           package gorilla/websocket
    dial.py      where a client connects to                  package gorilla/websocket
    http/        the server                                  package net/http
    websocket/   handshakes and connections                  package gorilla/websocket

The rules: nothing in here knows of a chat, and nothing in here imports from outside of this
package. `channel` imports `handover`; both import `closed`, `goroutine` and `turns`, which imports
`goroutine`; `processor` imports `turns`, `runtime` imports all of these, `log` imports `runtime`,
`http` imports `runtime`, `thread` and `clock`, `websocket` imports `runtime`, `clock`, `frames` and
`http`; the others import nothing. The cleverness that keeps hub.py and client.py plain belongs in
here: locks, socket options, deadlines.
"""
