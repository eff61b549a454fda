"""The entry point of the command `gochat`.

This is not in the package gochat because importing gochat takes a fifth of a second, during which
Ctrl-C would print a traceback.
"""

import gc
import os
import signal
import sys

__all__ = ["main"]


def main(greenlets: bool = False) -> int:
    """Run the command and return its exit status. Before it begins, Ctrl-C ends it silently.

    Unless something else handles SIGINT, Ctrl-C ends the process with that signal, so that a shell
    can see the cause. Closed standard streams are replaced by /dev/null. greenlets: whether gevent
    patches the process first. Thread: the main one.
    """
    # As in Go: otherwise a socket could get the number of stderr, and with it a line of the log.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not if it is ignored, as under nohup
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if greenlets:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked in ops/greenlets.py
        from gevent import monkey  # noqa: PLC0415 - an extra

        monkey.patch_all(queue=False)
    try:
        # Imported modules stay until the end, so the collector need not look at them: not during
        # the imports, not in a running server, and not when Python ends. That saves a quarter of
        # the time of a short command.
        gc.disable()
        from gochat.ops.command import main as command  # noqa: PLC0415 - under the handler above

        gc.freeze()
        gc.enable()
    except ImportError as error:  # a package is missing, or gevent has patched too much
        print(f"gochat: {error}", file=sys.stderr)
        return 1
    try:
        signal.signal(signal.SIGINT, handler)
        return command(restart=True)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
        raise
