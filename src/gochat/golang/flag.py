"""Flags, based on argparse (Go: package flag)."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

__all__ = ["Parser", "check_fields", "count", "flag", "one_line", "output", "rate", "seconds"]

#: The largest integer that a flag accepts. (Python refuses to convert thousands of digits.)
_MOST: Final = 999_999_999

#: How many characters of a long error message are printed, from its beginning and its end. The
#: message repeats the argument, which may be 128 KiB long.
_BEGIN: Final = 300
_END: Final = 200


def flag(value: Any, text: str, *, needs: str = "", group: str = "") -> Any:
    """Declare a field of a dataclass as a flag, for `Parser.add_flags`.

    value: the default, or a tuple of the default, the converter and the metavar. Without a
    converter, a flag whose default is a float is a time in seconds, and any other is a count. If
    the default is True, the flag is `--no-NAME`, without a value. text, needs: see
    `Parser.add_flag`. group: the title of the group of flags that begins here.
    """
    if not isinstance(value, tuple):
        value = (value, seconds, "S") if isinstance(value, float) else (value, count, "N")
    default, convert, metavar = value
    options = {"convert": convert, "text": text, "metavar": metavar, "needs": needs}
    return dataclasses.field(default=default, metadata=options | {"group": group})


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake on one line, and accepts flags in Go's form (`-addr`).

    The parsed arguments have an attribute `error`: this parser's method, for mistakes that are
    found after parsing.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        # Maps each flag that needs another flag to the other's name and the first's default.
        self._needs: dict[str, tuple[str, Any]] = {}
        super().__init__(*args, **options | {"allow_abbrev": False})  # as in Go
        self._place: argparse._ActionsContainer = self
        self.set_defaults(error=self.error)

    def error(self, message: str) -> NoReturn:
        """Print the message on one line, without passwords, and exit with status 2.

        Removes Redis URLs, except for the examples redis://HOST:PORT/0 and rediss://HOST/0, and
        removes the logins in other URLs.
        """
        message = message.removeprefix("argument ")
        message = re.sub(r"(?s)((?i:rediss?)://)(?!HOST(:PORT)?/0( |$)).*", r"\1...", message)
        # These are two searches, for the first URL and for the last @. A single pattern would look
        # for an @ after each URL, which takes quadratic time.
        if url := re.search(r"\b(wss?|https?)://", message, re.I):
            _, at, rest = message[url.end() :].rpartition("@")
            message = f"{message[: url.end()]}...@{rest}" if at else message
        if len(message) > _BEGIN + _END:  # one_line is slow on a long string
            message = message[:_BEGIN] + message[-_END - 1 :]
        line = one_line(message)
        if len(line) > _BEGIN + _END:
            line = f"{line[:_BEGIN]}...{line[-_END:]}"
        self.exit(2, f"{self.prog}: {line}\n")

    def add_flags(self, of: type) -> None:
        """Add the flags that a dataclass declares with `flag`."""
        for field in dataclasses.fields(of):
            if options := dict(field.metadata):
                if title := options.pop("group"):
                    self.add_group(title)
                name, text = field.name.replace("_", "-"), options["text"]
                if field.default is True:
                    self.add_option(f"no-{name}", dest=field.name, action="store_false", help=text)
                else:
                    self.add_flag(name, default=field.default, **options)

    def add_group(self, title: str) -> None:
        """Begin a group of flags, to which all flags that follow belong."""
        self._place = self.add_argument_group(title)

    def add_option(self, name: str, **options: Any) -> None:
        """Add a flag with argparse's `add_argument`. name: the flag's name, without dashes."""
        self._place.add_argument(f"--{name}", **options)

    def add_flag(
        self,
        name: str,
        convert: Callable[[str], Any],
        default: Any,
        text: str,
        metavar: str = "N",
        *,
        needs: str = "",
    ) -> None:
        """Add a flag that has a value, and state the default in its help text.

        convert: converts the value; the text of its ValueError becomes the error message. If the
        default is a tuple, the flag may be repeated, and `text` must state the default. needs: the
        name of another flag, in one word; `settle` refuses this flag if the other is missing.
        """
        options: dict[str, Any] = {"type": convert, "default": default, "metavar": metavar}
        if isinstance(default, tuple):
            options |= {"action": "append", "default": [*default]}
        if needs:
            text += f"; needs --{needs}"
            # The default is None until `settle`, which must know whether the flag was given.
            self._needs[name] = needs, default
            options["default"] = None
        if "(default" not in text:
            shown = f"{default:g}" if isinstance(default, float) else default
            text += " (default: none)" if default is None else f" (default {shown})"
        self.add_option(name, help=text, **options)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Convert a value. Unlike in argparse, the text of a ValueError becomes the message."""
        if action.type in (None, int):  # the text of int's ValueError is for programmers
            return super()._get_value(action, arg_string)
        try:
            return action.type(arg_string)  # type: ignore[operator]
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Extend argparse's method: for an unknown flag, suggest a similar one and exit with 2."""
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        args[:end] = map(self._with_two_dashes, args[:end])
        return super().parse_known_args(args, namespace)

    def _with_two_dashes(self, arg: str) -> str:
        flags = self._option_string_actions  # argparse has no public attribute for them
        given, equals, value = arg.partition("=")
        name = given.lstrip("-")
        # As in argparse, negative numbers and arguments with spaces are values.
        if given in flags or not given.startswith("-") or re.match(r"-$|-[0-9.]|.* ", given):
            return arg
        if f"--{name}" not in flags:
            # Dashes are left out: they would make all flags similar.
            names = {each.lstrip("-"): each for each in flags}
            near = difflib.get_close_matches(name[:99].lower(), names, 1)
            meant = f"did you mean {names[near[0]]}?" if near else f"{self.prog} --help lists them"
            self.error(f"there is no flag {given}: {meant}")
        return f"--{name}{equals}{value}"

    def settle(self, args: argparse.Namespace) -> None:
        """Check flags that need another flag, and set their defaults.

        Exits with status 2 if a flag was given without the flag that it needs.
        """
        values = vars(args)
        for name, (needed, default) in self._needs.items():
            attribute = name.replace("-", "_")
            if values[attribute] is None:
                values[attribute] = default
            elif values[needed] is None:
                self.error(f"--{name} needs --{needed}")


def one_line(text: str) -> str:
    """Escape unprintable characters and line ends, as `repr` does."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def number(text: str) -> float:
    """Parse a number such as 2.5 or 1e-3. Return NaN for any other text."""
    # The pattern is needed because `float` also accepts spaces, underscores and the digits of all
    # scripts. Each character can match in only one way, so a match takes linear time.
    form = r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?"
    return float(text) if re.fullmatch(form, text, re.I) else math.nan


def rate(text: str, most: float = 1e6) -> float:
    """Convert a flag's value to a rate per second, from 0.000001 to `most`. Raises ValueError."""
    value = number(text)
    if not 1e-6 <= value <= most:
        raise ValueError(f"{text!r} is not a number from 0.000001 to {most:.0f}")
    return value


def seconds(text: str, zero: bool = False) -> float:
    """Convert a flag's value to a time in seconds, above 0. Raises ValueError.

    zero: whether 0 is allowed.
    """
    return _seconds(number(text), text, zero)


def count(text: str, least: int = 1, most: int = _MOST) -> int:
    """Convert a flag's value to an integer from `least` to `most`. Raises ValueError."""
    value = int(text[-9:]) if re.fullmatch(r"0*[0-9]{1,9}", text) else None
    return _count(value, text, least, most)


def output(text: str, *suffixes: str) -> Path:
    """Convert a flag's value to the path of an output file.

    suffixes: the allowed suffixes, such as .svg; if none are given, any suffix is allowed. Raises
    ValueError if the suffix is not allowed or the file cannot be written.
    """
    path = Path(text)
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"{text!r} does not end in {', '.join(suffixes)}")
    with suppress(OSError):  # raised, for example, if the name is too long
        with suppress(FileNotFoundError):
            path.lstat()  # raises OSError; since Python 3.14, `is_dir` does not
        if not path.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK):
            return path
    raise ValueError(f"{text!r} cannot be written")


def check_fields(values: Any, of: type, *, less: tuple[str, str]) -> None:
    """Check the fields of a dataclass by the rules for flags.

    of: the dataclass; fields that a subclass adds are not checked. Fields whose default is a float
    are times in seconds, and the others are counts. less: the names of two times; the first time
    must be shorter than the second. Raises ValueError with the name of the field.
    """
    for field in dataclasses.fields(of):
        value = getattr(values, field.name)
        check = _seconds if isinstance(field.default, float) else _count
        try:
            check(value, value)
        except ValueError as error:
            raise ValueError(f"{field.name}: {error}") from None
    short, long = (getattr(values, name) for name in less)
    if short >= long:
        first, second = (name.replace("_", " ") for name in less)
        raise ValueError(f"the {first} ({short:g} s) must be under the {second} ({long:g} s)")


def _seconds(value: Any, shown: Any, zero: bool = False) -> float:
    """Return a value if it is a time in seconds. Raises ValueError with the value as shown."""
    if type(value) not in (int, float) or not (value > 0 or (zero and value == 0)):
        raise ValueError(f"{shown!r} is not a number of seconds {'from' if zero else 'above'} 0")
    if value >= threading.TIMEOUT_MAX:
        raise ValueError(f"{shown!r} is over the longest time, {threading.TIMEOUT_MAX:.0f} s")
    return float(value)


def _count(value: Any, shown: Any, least: int = 1, most: int = _MOST) -> int:
    """Return a value if it is an integer from `least` to `most`. Otherwise, raises ValueError."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{shown!r} is not a whole number from {least} to {most}")
    return value
