"""Runs tests on the runtime of greenlets: `python -m tests.greenlets [arguments of pytest]`.

Runs the tests of FILES in this process, which gevent has patched. So their clients and servers run
on greenlets, and so does each `gochat serve` that they start. `--all` adds the tests of SLOW, and
those of COMMAND, which run in a separate process that is not patched: there only the servers
run on greenlets.
"""

import os

from gevent import monkey

monkey.patch_all(queue=False)
os.environ["GOCHAT_RUNTIME"] = "greenlets"

import subprocess  # noqa: E402
import sys  # noqa: E402
from typing import Final  # noqa: E402

import pytest  # noqa: E402

#: Files with tests that hold in every runtime.
FILES: Final = ("channel", "contract", "hub", "recorded", "client", "delivery", "http_server")

#: The same, for which `tests/run` has no time: they mostly wait.
SLOW: Final = ("conn", "http_admission", "http_handler", "http_reader", "http_request", "serve")

#: What starts a server, and cannot run in a process that is patched.
COMMAND: Final = ("autobahn", "faults", "harm", "metrics", "nginx", "processes", "trace", "view")

_INSIDE: Final = "it looks into the channel of threads"
_SPINS: Final = "it looks at others without waiting: greenlets are not preempted"

#: By reason: the tests in these files that are about threads alone.
THREADS_ONLY: Final = {
    _INSIDE: (
        "channel.py::test_a_sender_hands_its_value_to_a_receiver_that_waits",
        "channel.py::test_of_two_channels_one_hands_over",
        "channel.py::test_a_deadline_at_the_moment_of_a_send",
        "channel.py::test_a_mark_from_an_earlier_wait",
        "channel.py::test_many_threads_over_two_unbuffered_channels",
        "channel.py::test_received_at_the_last_moment",
        "channel.py::test_what_was_handed_over_survives_a_close",
        "channel.py::test_the_queue_comes_before_the_line",
        "channel.py::test_an_offer_that_is_withdrawn",
        "channel.py::test_a_bell_that_rings_for_nothing",
        "channel.py::test_a_bell_that_nobody_waits_for",
        "channel.py::test_a_value_between_the_look_and_the_wait",
        "channel.py::test_a_slow_sender_and_a_later_wait",
    ),
    _SPINS: (
        "channel.py::test_capacity_with_many_senders",
        "channel.py::test_len_beside_a_drain",
    ),
    "a signal handler interrupts whichever greenlet runs, and not the one that writes": (
        "conn.py::test_writes_that_are_interrupted_anywhere",
        "conn.py::test_write_within_a_write",
    ),
    "the channel is no queue.Queue": ("channel.py::test_it_is_a_queue",),
    "it calls the command in this process, which is not patched": (
        "metrics.py::test_an_address_that_is_taken",
        "view.py::test_an_address_that_is_taken",
    ),
    "it counts threads": (
        "http_admission.py::test_no_more_descriptors_for_a_request",
        "view.py::test_a_held_client_may_leave",
    ),
    "greenlets are not pinned to a CPU": ("processes.py::test_each_child_has_a_cpu",),
    "it takes all threads that the system has": (
        "client.py::test_write_pump_that_cannot_be_started",
        "http_admission.py::test_a_thread_that_cannot_be_started",
        "http_handler.py::test_going_without_a_thread",
        "http_handler.py::test_no_thread_to_reserve",
        "http_server.py::test_a_start_without_a_thread",
    ),
}


#: Since Python 3.12 a fork beside another thread warns; gevent has threads, to look up names.
_FORK: Final = "-Wignore:This process (pid=:DeprecationWarning"


def main(argv: list[str]) -> int:
    """Run the tests, and return pytest's exit status."""
    left_out = [
        f"--deselect=tests/test_{test}" for names in THREADS_ONLY.values() for test in names
    ]
    names = (*FILES, *SLOW) if "--all" in argv else FILES
    argv = [each for each in argv if each != "--all"]
    files = [] if any("test_" in each for each in argv) else [f"tests/test_{n}.py" for n in names]
    status = int(pytest.main([_FORK, *left_out, *files, *argv]))
    if status or names is FILES or not files:
        return status
    others = [f"tests/test_{n}.py" for n in COMMAND]
    return subprocess.call([sys.executable, "-m", "pytest", *left_out, *others, *argv])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
