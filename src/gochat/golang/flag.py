"""Flags: what Go has in its package flag, on argparse."""

from __future__ import annotations

import argparse
import math
import re
import threading
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Parser", "count", "number", "one_line", "seconds"]


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the flags in one line, and knows each in Go's form (`-addr`) too."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2, after a line that says what is wrong."""
        self.exit(2, f"{self.prog}: {one_line(message)}\n")

    def add_flag(
        self, name: str, kind: Callable[[str], Any], default: Any, text: str, metavar: str = "N"
    ) -> None:
        """Add a flag that has a value; its help ends with the default, if that is not None."""
        if default is not None:
            shown = default if isinstance(default, str) else f"{default:g}"
            text += f" (default {shown})"
        self.add_argument(
            f"--{name}", f"-{name}", type=kind, default=default, metavar=metavar, help=text
        )


def one_line(text: str) -> str:
    """The text with what does not print, line ends among it, written as in Python."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def number(text: str) -> float:
    """A number in digits, as 2.5 or 1e-3; NaN if the text is none."""
    # float takes spaces, underscores and the digits of all languages, too.
    form = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?"
    return float(text) if re.fullmatch(form, text, re.I) else math.nan


def seconds(text: str, zero: bool = False) -> float:
    """A flag's value: a time in seconds, above 0. Raises ArgumentTypeError.

    zero: whether 0 is a value, too.
    """
    value = number(text)
    if not 0 < value < threading.TIMEOUT_MAX and not (zero and value == 0):
        least = "from" if zero else "above"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds {least} 0")
    return value


def count(text: str, least: int = 1, most: int = 999_999_999) -> int:
    """A flag's value: a whole number within bounds. Raises ArgumentTypeError."""
    # Nine digits at most, as Python refuses to convert thousands of them.
    if not re.fullmatch(r"0*[0-9]{1,9}", text) or not least <= int(text[-9:]) <= most:
        raise argparse.ArgumentTypeError(
            f"{text[:99]!r} is not a whole number from {least} to {most}"
        )
    return int(text[-9:])
