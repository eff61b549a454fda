"""What holds for all tests."""

import signal

# A job that a shell has put into the background ignores SIGINT, and so would all that it starts:
# the tests that press Ctrl-C would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
