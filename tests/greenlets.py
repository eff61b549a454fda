"""Run tests on greenlets: `python -m tests.greenlets [arguments of pytest]`.

The parts in PARTS run at the same time, each in its own process. In most of these processes, gevent
patches pytest itself, so that the clients and servers in the tests run on greenlets. In the others,
only `gochat serve` runs on greenlets.

The relay's tests use Valkey here, and Redis when `tests/run` runs them on threads. `--all` uses
both here, and adds the part MORE. Tests can be named, as in `tests/test_conn.py::test_name`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import Final

# Let Ctrl-C end the process until conftest.py sets a handler. In some places, such as callbacks of
# imports, Python would ignore KeyboardInterrupt.
_BEGIN: Final = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
_PYTEST: Final = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"

#: Runs pytest in a process that gevent patches.
PATCHED: Final = (
    "-c",
    _BEGIN + "from gevent import monkey; monkey.patch_all(queue=False); " + _PYTEST,
)

#: Runs pytest in a process that is not patched.
PLAIN: Final = ("-c", _BEGIN + _PYTEST)

#: Files with tests that must pass on both runtimes, and how to run them.
PARTS: Final = [
    (
        PATCHED,
        "channel contract thread hub recorded client conn serve delivery "
        "http_admission http_handler http_reader http_request http_server",
    ),
    (PATCHED, "relay relay_faults"),
    (PLAIN, "autobahn faults harm soak"),
]

#: The part added by `--all`: tests that depend less on the runtime. No part has test_turns.py,
#: which tests the turns of threads, or test_runtime.py, which tests both runtimes on its own.
MORE: Final = (PLAIN, "main metrics nginx processes trace view")

_INSIDE: Final = "it looks inside the threads' channel"
_SPINS: Final = "it polls without waiting, and greenlets are not preempted"

#: Tests that apply only to threads, by reason.
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


#: Since Python 3.12, fork warns if the process has other threads. gevent has some to look up names.
_FORK: Final = "-Wignore:This process (pid=:DeprecationWarning"


def main(argv: list[str]) -> int:
    """Run the tests; return 0 if any ran and all passed."""
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
                # Ctrl-C also reaches these processes, but they need time to stop their servers.
                stack.callback(process.wait)
                running.append((process, output))
        for process, output in running:
            statuses.add(process.wait())
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout.buffer)
    if not running:
        print(f"none of these is in PARTS or MORE of tests/greenlets.py: {' '.join(named)}")
    # A process whose tests were all deselected by `-k` exits with status 5.
    return int(statuses - {5} != {0})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
