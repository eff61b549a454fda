"""The list of exercises, read from the first line of each starter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["Exercise", "exercises"]

_FIRST_LINE: Final = re.compile(r'"""Exercise (\d+), (\w+), (\w+): (.+?)\.?\n')


@dataclass(frozen=True)
class Exercise:
    """One exercise."""

    number: int

    #: Name of the exercise's check. The starter's file has this name too, after the number.
    name: str

    #: easy, medium or hard.
    level: str

    #: fix, break or write.
    kind: str

    title: str

    #: Text of the file that the learner begins with.
    starter: str

    @property
    def file(self) -> str:
        """Name of the learner's file."""
        return f"exercise_{self.number:02}.py"


@cache
def exercises() -> list[Exercise]:
    """Return all exercises in numerical order. Thread: any."""
    found = []
    for path in sorted(Path(__file__).with_name("starters").glob("*.py")):
        text = path.read_text("utf-8")
        match = _FIRST_LINE.match(text)
        assert match, path
        number, level, kind, title = match.groups()
        found.append(Exercise(int(number), path.stem[3:], level, kind, title, text))
    return found
