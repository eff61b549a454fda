"""The entry point of the command `gochat`.

It is outside the package, because importing gochat takes a fifth of a second. During that time,
Ctrl-C would print a traceback.
"""

import gc
import os
import signal
import sys

__all__ = ["main"]


def main(greenlets: bool = False) -> int:
    """Run the command and return its exit status. Ctrl-C during the imports ends it silently.

    If no other handler for SIGINT is set, Ctrl-C ends the process by that signal, so that a shell
    sees the cause. Standard streams that are closed become /dev/null. greenlets: whether to patch
    the process with gevent. Thread: the main one.
    """
    # Otherwise, a socket could get the descriptor of stderr, and with it the lines of the log. Go
    # does the same.
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not under nohup, which ignores SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if greenlets:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # blocked in ops/greenlets.py
        from gevent import monkey  # noqa: PLC0415 - an extra

        monkey.patch_all(queue=False)
    try:
        # Imported modules stay until the end. If the collector never visits them, a short command
        # takes a quarter less time.
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
