"""Flags, on argparse (Go: package flag)."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = ["Flag", "Parser", "check_fields", "count", "one_line", "output", "rate", "seconds"]

#: The largest integer that a flag takes. Python refuses to convert strings of thousands of digits.
_MOST: Final = 999_999_999

#: How many characters of a long message about a flag are shown, from its beginning and its end. A
#: message repeats the argument, which may be 128 KiB long.
_BEGIN: Final = 300
_END: Final = 200


#: A flag that has a value: its name, converter, metavar and help.
Flag = tuple[str, Callable[[str], Any], str, str]


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, and also accepts each flag in Go's form (`-addr`).

    The parsed arguments have the command's own `error`, for mistakes that are found later.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # Keys: flags that need another flag. Values: the needed flag's name, and the key's default.
        self._needs: dict[str, tuple[str, Any]] = {}
        super().__init__(*args, **options | {"allow_abbrev": False})  # as in Go
        self._place: argparse._ActionsContainer = self
        self.set_defaults(error=self.error)

    def error(self, message: str) -> NoReturn:
        """Print one line that says what is wrong and exit with 2."""
        message = message.removeprefix("argument ")
        if len(message) > _BEGIN + _END:  # one_line is slow on a long string
            message = message[:_BEGIN] + message[-_END - 1 :]
        line = one_line(message)
        if len(line) > _BEGIN + _END:
            line = f"{line[:_BEGIN]}...{line[-_END:]}"
        self.exit(2, f"{self.prog}: {line}\n")

    def add_flags(
        self,
        groups: Mapping[str, Sequence[Flag]],
        defaults: Mapping[str, Any],
        needs: Mapping[str, str],
    ) -> None:
        """Add flags as `add_flag` does; the help shows them under titles.

        defaults: by name, with _ for -; None where missing. needs: for a flag's name, the flag that
        it needs.
        """
        for title, flags in groups.items():
            self._place = self.add_argument_group(title)
            for name, kind, metavar, text in flags:
                default = defaults.get(_attribute(name))
                self.add_flag(name, kind, default, text, metavar, needs=needs.get(name, ""))

    def add_option(self, name: str, **options: Any) -> None:
        """Add a flag with the options of argparse's `add_argument`. name: without dashes."""
        self._place.add_argument(f"--{name}", **options)

    def add_flag(
        self,
        name: str,
        kind: Callable[[str], Any],
        default: Any,
        text: str,
        metavar: str = "N",
        *,
        needs: str = "",
    ) -> None:
        """Add a flag that has a value; its help ends with the default.

        A flag whose default is a tuple may be repeated; for it, `text` must state the default.
        needs: another flag; without it, `settle` refuses this one.
        """
        if isinstance(default, tuple):
            self.add_option(
                name, type=kind, action="append", default=[*default], metavar=metavar, help=text
            )
            return
        if needs:
            text += f"; needs --{needs}"
        if default is not None:
            text += (
                f" (default {default:g})" if isinstance(default, float) else f" (default {default})"
            )
        elif "(default" not in text:
            text += " (default: none)"
        if needs:
            # With None, `settle` can tell whether the flag was given, even with its default value.
            self._needs[name] = needs, default
            default = None
        self.add_option(name, type=kind, default=default, metavar=metavar, help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Extend argparse's method: exit with 2 at an unknown flag and suggest a similar one."""
        if self._subparsers is None:  # each command has a parser for its own flags
            args = list(self._with_two_dashes(sys.argv[1:] if args is None else args))
        return super().parse_known_args(args, namespace)

    def _with_two_dashes(self, args: Sequence[str]) -> Iterator[str]:
        flags = self._option_string_actions  # argparse has no public way to get them
        for i, arg in enumerate(args):
            flag, equals, value = arg.partition("=")
            name = flag.lstrip("-")
            if arg == "--":
                yield from args[i:]
                return
            # Like argparse, treat negative numbers and arguments with spaces as values.
            if flag in flags or not flag.startswith("-") or re.match(r"-$|-[0-9.]|.* ", flag):
                yield arg
            elif f"--{name}" in flags:
                yield f"--{name}{equals}{value}"
            else:
                # The dashes would count as similar.
                names = {each.lstrip("-"): each for each in flags}
                near = difflib.get_close_matches(name[:99].lower(), names, 1)
                meant = (
                    f"did you mean {names[near[0]]}?" if near else f"{self.prog} --help lists them"
                )
                self.error(f"there is no flag {flag}: {meant}")

    def settle(self, args: argparse.Namespace) -> None:
        """Set defaults of flags that need another flag. Exits with 2 if the other is missing."""
        for name, (needed, default) in self._needs.items():
            if getattr(args, _attribute(name)) is None:
                setattr(args, _attribute(name), default)
            elif getattr(args, _attribute(needed)) is None:
                self.error(f"--{name} needs --{needed}")


def _attribute(name: str) -> str:
    return name.replace("-", "_")


def one_line(text: str) -> str:
    """Return the text with unprintable characters and line ends escaped as in Python."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def number(text: str) -> float:
    """Return the value of a number such as 2.5 or 1e-3; NaN for any other text."""
    # float also takes spaces, underscores and the digits of all scripts. Here each character can
    # match in only one way; otherwise the time would be quadratic in the length.
    form = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?"
    return float(text) if re.fullmatch(form, text, re.I) else math.nan


def rate(text: str, most: float = 1e6) -> float:
    """Return a flag's value: a number per second, above 0. Raises ArgumentTypeError."""
    value = number(text)
    if not 1e-6 <= value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.000001 to {most:.0f}")
    return value


def seconds(text: str, zero: bool = False) -> float:
    """Return a flag's value: a time in seconds, above 0. Raises ArgumentTypeError.

    zero: whether 0 is allowed.
    """
    value = number(text)
    if not _is_seconds(value) and not (zero and value == 0):
        raise argparse.ArgumentTypeError(f"{text!r} {_not_seconds(value, zero)}")
    return value


def count(text: str, least: int = 1, most: int = _MOST) -> int:
    """Return a flag's value: an integer from `least` to `most`. Raises ArgumentTypeError."""
    if not re.fullmatch(r"0*[0-9]{1,9}", text) or not least <= int(text[-9:]) <= most:
        raise argparse.ArgumentTypeError(f"{text[:99]!r} {_not_a_count(least, most)}")
    return int(text[-9:])


def output(text: str, *suffixes: str) -> Path:
    """Return a flag's value: a file to write. Raises ArgumentTypeError if it cannot be written.

    suffixes: the allowed suffixes, such as .svg; if none are given, all are allowed.
    """
    path = Path(text)
    if suffixes and path.suffix.lower() not in suffixes:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {', '.join(suffixes)}")
    with suppress(OSError):  # for example, the name is too long
        with suppress(FileNotFoundError):
            path.lstat()  # from Python 3.14 on, `is_dir` and `exists` raise no error
        if not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK):
            return path
    raise argparse.ArgumentTypeError(f"{text!r} cannot be written")


def check_fields(values: Any, of: type, *, less: tuple[str, str]) -> None:
    """Check each field of a dataclass as its flag would be checked.

    of: the dataclass; fields that a subclass adds are not checked. A field whose default is a float
    is a time in seconds; the others are counts. less: the names of two times, the first of which
    must be less than the second. Raises ValueError, which names the field.
    """
    for field in dataclasses.fields(of):
        value = getattr(values, field.name)
        if isinstance(field.default, float):
            if type(value) not in (int, float) or not _is_seconds(value):
                raise ValueError(f"{field.name}: {value!r} {_not_seconds(value)}")
        elif type(value) is not int or not 1 <= value <= _MOST:
            raise ValueError(f"{field.name}: {value!r} {_not_a_count(1, _MOST)}")
    short, long = (getattr(values, name) for name in less)
    if short >= long:
        first, second = (name.replace("_", " ") for name in less)
        raise ValueError(f"the {first} ({short:g} s) must be under the {second} ({long:g} s)")


def _is_seconds(value: float) -> bool:
    return 0 < value < threading.TIMEOUT_MAX


def _not_seconds(value: Any, zero: bool = False) -> str:
    if type(value) in (int, float) and value >= threading.TIMEOUT_MAX:
        return f"is over the longest time, {threading.TIMEOUT_MAX:.0f} s"
    return f"is not a number of seconds {'from' if zero else 'above'} 0"


def _not_a_count(least: int, most: int) -> str:
    return f"is not a whole number from {least} to {most}"
