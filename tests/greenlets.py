"""Runs tests on the greenlets runtime: `python -m tests.greenlets [arguments of pytest]`.

The PARTS run at the same time, each in a separate process. gevent patches most of these
processes: in them, the clients and the servers of the tests run on greenlets, and so does each
`gochat serve` that the tests start. In the other processes, only `gochat serve` runs on greenlets.

The tests of the relay use Valkey here; `tests/run` has them use Redis on threads. `--all` uses
both and adds a part. Tests can be named, as in `tests/test_conn.py::test_name`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Final

# Until conftest.py sets a handler, Ctrl-C ends the process: in some places, such as an import's
# callbacks, Python ignores KeyboardInterrupt.
_BEGIN: Final = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
_PYTEST: Final = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"

#: Has gevent patch a process that runs pytest.
PATCHED: Final = (
    "-c",
    _BEGIN + "from gevent import monkey; monkey.patch_all(queue=False); " + _PYTEST,
)

#: Runs pytest in a process that is not patched.
PLAIN: Final = ("-c", _BEGIN + _PYTEST)

#: Files whose tests must pass in every runtime, and how to run them.
PARTS: Final = [
    (
        PATCHED,
        "channel contract thread hub recorded client conn serve delivery "
        "http_admission http_handler http_reader http_request http_server",
    ),
    (PATCHED, "relay relay_faults"),
    (PLAIN, "autobahn faults harm soak"),
]

#: The part that `--all` adds: the tests that depend least on the runtime.
#: Of the others, test_turns.py tests the threads' turns, and test_runtime.py both runtimes.
MORE: Final = (PLAIN, "main metrics nginx processes trace view")

_INSIDE: Final = "it looks inside the threads' channel"
_SPINS: Final = "it polls without waiting, and greenlets are not preempted"

#: The tests in these files that only apply to threads, by reason.
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
        "main.py::test_errors_of_an_address",
        "metrics.py::test_an_address_that_is_taken",
        "view.py::test_an_address_that_is_taken",
    ),
    "it counts threads": (
        "http_admission.py::test_no_more_descriptors_for_a_request",
        "main.py::test_settle",
        "view.py::test_a_held_client_may_leave",
    ),
    "greenlets are not pinned to a CPU": (
        "main.py::test_no_pin",
        "processes.py::test_each_child_has_a_cpu",
    ),
    "a greenlet can always be started, so none is reserved, and none is missing": (
        "harm.py::test_a_little_harm[threads]",
        "http_handler.py::test_a_thread_that_was_reserved",
    ),
    "all greenlets run on one thread": (
        "main.py::test_a_signal_that_does_not_wake_the_main_thread",
        "main.py::test_flags[gomaxprocs",
    ),
    "it takes all threads that the system has": (
        "client.py::test_write_pump_that_cannot_be_started",
        "http_admission.py::test_a_thread_that_cannot_be_started",
        "http_handler.py::test_going_without_a_thread",
        "http_handler.py::test_no_thread_to_reserve",
        "http_server.py::test_a_start_without_a_thread",
    ),
}


#: Since Python 3.12, a fork warns if there are other threads; gevent looks up names on threads.
_FORK: Final = "-Wignore:This process (pid=:DeprecationWarning"


def main(argv: list[str]) -> int:
    """Run the tests and return the exit status: 0 if any ran, and all have passed."""
    whole = "--all" in argv
    named = [each for each in argv if each.startswith("tests/test_")]
    left_out = [
        f"--deselect=tests/test_{test}" for names in THREADS_ONLY.values() for test in names
    ]
    options = [_FORK, *left_out, *(each for each in argv if each not in ("--all", *named))]
    environment = {"GOCHAT_RELAY_SERVER": "" if whole else "valkey", **os.environ}
    environment["GOCHAT_RUNTIME"] = "greenlets"
    statuses = set()
    with ExitStack() as stack:
        running = []
        for python, names in (*PARTS, MORE) if whole or named else PARTS:
            tests = [f"tests/test_{name}.py" for name in names.split()]
            if named:
                tests = [each for each in named if each.partition("::")[0] in tests]
            if tests:
                output = stack.enter_context(tempfile.TemporaryFile())
                command = [sys.executable, *python, *options, *tests]
                process = subprocess.Popen(
                    command, env=environment, stdout=output, stderr=subprocess.STDOUT
                )
                # The processes also get Ctrl-C, but after it they still have servers to stop.
                stack.callback(process.wait)
                running.append((process, output))
        for process, output in running:
            statuses.add(process.wait())
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
    if not running:
        print(f"none of these is in PARTS or MORE of tests/greenlets.py: {' '.join(named)}")
    # The status 5 means that `-k` selects none of a process's tests.
    return int(statuses - {5} != {0})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
