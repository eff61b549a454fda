"""The command `gochat exercise` and its flags."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from ..golang.flag import Parser, one_line
from .catalogue import Exercise, exercises

__all__ = ["add_flags", "exercise"]

#: Time limit for a check, in seconds. A check takes that long only if the learner's file blocks the
#: process.
LIMIT: Final = 20.0

# Only the end of a learner's output is shown, up to this many bytes and lines.
_PRINTED_BYTES: Final = 4000
_PRINTED_LINES: Final = 20

# Time from the verdict until the child is killed, in seconds. A thread that the learner's file has
# started may keep the child running.
_GRACE: Final = 5.0


def number(text: str) -> Exercise:
    """Return the exercise with this number. Raises ValueError if there is none."""
    for found in exercises():
        if re.fullmatch(f"0*{found.number}", text):
            return found
    raise ValueError(f"there is no exercise {text[:99]!r}: choose one from 1 to {len(exercises())}")


def add_flags(parser: Parser) -> None:
    """Add the flags of `gochat exercise`."""
    parser.set_defaults(run=exercise)
    parser.description = (
        "Lists the exercises. With a number, writes that exercise's file into the current folder,"
        " for you to change."
    )
    parser.add_argument(
        "exercise", nargs="?", type=number, metavar="N", help="number of the exercise"
    )
    parser.add_option(
        "check", action="store_true", help="check your file, and say what your code did"
    )
    parser.add_option(
        "all",
        action="store_true",
        help="with --check: check all your files in this folder, and say how many are right",
    )
    parser.add_option("force", action="store_true", help="start over: overwrite your file")


def exercise(args: argparse.Namespace) -> int:
    """List the exercises, write a file, or check one file or all files.

    Returns the exit status: 1 if a checked file is wrong, or if a file is missing with --all;
    otherwise 0. Exits with status 2 if the flags contradict each other, and with status 130 after
    Ctrl-C.

    Raises FileExistsError instead of overwriting a file, FileNotFoundError if there is no file to
    check, and OSError if the system fails.

    Thread: the main one.
    """
    if args.check and args.force:
        args.error("--check cannot be combined with --force")
    if args.all and not args.check:
        args.error("--all goes with --check: gochat exercise --check --all")
    if args.all and args.exercise:
        args.error(f"--all checks every exercise; leave out the {args.exercise.number}")
    if args.all:
        return check_all()
    if args.exercise is None and (args.check or args.force):
        args.error("say which exercise: gochat exercise N --check")
    if args.exercise is None:
        show_list()
    elif args.check:
        return check(args.exercise)
    else:
        write(args.exercise, force=args.force)
    return 0


def show_list() -> None:
    """Print all exercises, and which of their files are in the current folder."""
    for found in exercises():
        here = found.file if Path(found.file).exists() else ""
        line = f"{found.number:2}  {found.level:6}  {found.kind:5}  {found.title:46}  {here}"
        print(line.rstrip())
    print("\ngochat exercise N writes the file of an exercise; gochat exercise N --check checks it")


def write(chosen: Exercise, *, force: bool) -> None:
    """Write the learner's file. Raises FileExistsError if it exists and `force` is false."""
    try:
        with open(chosen.file, "w" if force else "x", encoding="utf-8") as file:
            file.write(chosen.starter)
    except FileExistsError:
        text = f"{chosen.file} already exists, and was not changed; --force overwrites it"
        raise FileExistsError(text) from None
    print(f"wrote {chosen.file}; change it, then run: gochat exercise {chosen.number} --check")


def check(chosen: Exercise) -> int:
    """Check the learner's file in a child process, and print the verdict in one line.

    Before the verdict, prints the end of the file's output to standard error, with control
    characters escaped. Returns 0 if the file is right, otherwise 1. Raises OSError if there is no
    such file, if no process can be started, or if standard output or standard error is closed.
    """
    if sys.stdout is None or sys.stderr is None:
        raise OSError("stdout and stderr must be open")
    path = Path(chosen.file).absolute()
    if not path.exists():
        text = f"there is no {chosen.file} here: gochat exercise {chosen.number} writes it"
        raise FileNotFoundError(text)
    with TemporaryFile() as printed:
        verdict = run(chosen, path, printed)
        show_printed(printed)
    print(f"exercise {chosen.number}: {verdict}")
    return 0 if verdict.startswith("right: ") else 1


def check_all() -> int:
    """Check the learner's files for all exercises, and print how many are right.

    Returns 0 if all are right, otherwise 1. Raises OSError if no process can be started.
    """
    results: dict[str, list[str]] = {"right": [], "not yet": [], "no file": []}
    for chosen in exercises():
        if Path(chosen.file).exists():
            result = "not yet" if check(chosen) else "right"
        else:
            result = "no file"
            print(f"exercise {chosen.number}: no file: {chosen.file}")
        results[result].append(str(chosen.number))
    right = results.pop("right")
    rest = "".join(f"; {what}: {', '.join(which)}" for what, which in results.items() if which)
    print(f"{len(right)} of {len(exercises())} are right{rest}")
    return 1 if rest else 0


def run(chosen: Exercise, path: Path, printed: IO[bytes]) -> str:
    """Check a file in a child process. Returns a line, which starts with `right: ` or `not yet: `.

    printed: file for the child's output. The child is killed after LIMIT, and on Ctrl-C.

    The child is forked, so it does not import everything again. A fork is safe here, because this
    process has only one thread.
    """
    # Imported here, because only a check needs them.
    import multiprocessing  # noqa: PLC0415

    from .run import main  # noqa: PLC0415

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=main, args=(theirs, chosen.number, path, printed.fileno()))
    child.start()
    theirs.close()
    try:
        if not ours.poll(LIMIT):
            return f"not yet: the check did not finish within {LIMIT:g} s"
        verdict = ours.recv_bytes().decode()
        child.join(_GRACE)
        return verdict
    except EOFError:
        child.join()
        return f"not yet: the program ended during the check, with status {child.exitcode}"
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        child.kill()
        child.join()
        ours.close()


def show_printed(printed: IO[bytes]) -> None:
    """Print the last lines of the learner's output to standard error."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - _PRINTED_BYTES))
    for line in printed.read().decode(errors="replace").splitlines()[-_PRINTED_LINES:]:
        print(f"  | {one_line(line)}", file=sys.stderr)
