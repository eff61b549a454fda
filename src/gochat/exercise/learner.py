"""A learner's file, and threads that run its code. A check can abandon these threads."""

from __future__ import annotations

import ast
import importlib.util
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ..golang.flag import one_line

__all__ = ["WAIT", "Learner", "Refused", "Task", "shown", "wait_for"]

# The files of gochat's own hub and client, which a learner's classes replace.
_TWINS: Final = {str(Path(__file__).parents[1] / name) for name in ("hub.py", "client.py")}

#: How long a check waits for any one thing that the learner's code must do, in seconds.
WAIT: Final = 2.0


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """Raised if the file is not right yet. The message says in one line what the check saw."""


class Learner:
    """A learner's file.

    Thread: the one that runs the check.
    """

    def __init__(self, path: Path, starter: str) -> None:
        self.path: Final = path
        self.starter: Final = starter
        self._module = ModuleType("exercise")

    def load(self) -> None:
        """Run the file. Raises Refused if the file fails, or does not end within WAIT."""
        spec = importlib.util.spec_from_file_location("exercise", self.path)
        assert spec, "the name ends in .py"
        assert spec.loader, "a file has a loader"
        self._module = sys.modules["exercise"] = importlib.util.module_from_spec(spec)
        Task(self, self.path.name, spec.loader.exec_module, self._module).result()

    def get(self, name: str) -> Any:
        """Return the object with this name in the file. Raises Refused if there is none."""
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise Refused(f"{self.path.name} has no {name}") from None

    def has_changed(self, name: str) -> bool:
        """Return whether the code that defines or uses a name differs from the starter's.

        Comments and layout do not count.
        """
        ours, theirs = (
            [
                ast.dump(node)
                for node in ast.walk(ast.parse(text))
                if name in (getattr(node, "name", None), getattr(node, "id", None))
            ]
            for text in (self.path.read_text(), self.starter)
        )
        return ours != theirs

    def define(self, name: str) -> Any:
        """Execute only the file's imports and the definition of a class, and return the class."""
        tree = ast.parse(self.path.read_text())
        tree.body = [
            node
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom)) or getattr(node, "name", None) == name
        ]
        module = ModuleType("exercise")
        exec(compile(tree, self.path, "exec"), vars(module))
        return getattr(module, name)

    def call(self, name: str, *args: Any) -> Any:
        """Call a function or class of the learner's file. Raises Refused if that fails or hangs."""
        return Task(self, name, self.get(name), *args).result()

    def describe(self, error: BaseException) -> str:
        """Describe an error in one line, with the innermost line of the file in its traceback."""
        text = one_line(traceback.format_exception_only(error)[-1].strip())[:300]
        stack = traceback.extract_tb(error.__traceback__)
        if isinstance(error, SyntaxError):
            stack.append(traceback.FrameSummary(error.filename or "", error.lineno, ""))
        return text + self.line(stack)

    def line(self, stack: traceback.StackSummary) -> str:
        """Return text that names the file's innermost line in a stack, or "" if there is none."""
        for each in reversed(stack):
            if each.filename == str(self.path):
                return f" (line {each.lineno}: {one_line(each.line or '')[:100]})"
        return ""


class Task:
    """A learner's code, running on a new daemon thread.

    The thread starts immediately. If the code never ends, the thread ends with the process.
    """

    def __init__(
        self, learner: Learner, what: str, function: Callable[..., Any], *args: Any
    ) -> None:
        self._learner = learner
        self._what = what
        # The code's result. The thread sets it, and other threads read it after the thread has
        # ended.
        self._value: Any = None
        #: The exception that ended the code, or None. Thread: any.
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self._value = function(*args)
            except BaseException as error:  # even SystemExit is a result
                self.error = error

        self._thread = threading.Thread(target=run, name=what, daemon=True)
        self._thread.start()

    def ended(self, within: float = 0.0) -> bool:
        """Wait at most `within` seconds, and return whether the code has ended. Thread: any."""
        self._thread.join(within)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Return the code's result. Raises Refused if the code fails or runs longer than WAIT."""
        if not self.ended(WAIT):
            raise self.waiting()
        if self.error is not None:
            raise Refused(f"{self._what} died of {self._learner.describe(self.error)}")
        return self._value

    def is_own(self) -> None:
        """Raise Refused if the code is now in gochat's own hub.py or client.py. Thread: any."""
        for each in self._stack():
            if each.filename in _TWINS:
                raise Refused(f"{each.name} is gochat's own, not the one in the file")

    def waiting(self) -> Refused:
        """Return a Refused that names the line where the code is waiting. Thread: any."""
        line = self._learner.line(self._stack())
        return Refused(f"{self._what} is still waiting after {WAIT:g} s{line}")

    def _stack(self) -> traceback.StackSummary:
        # If the thread has just ended, this is the caller's stack, which contains no line from the
        # learner's file, hub.py or client.py.
        return traceback.extract_stack(sys._current_frames().get(self._thread.ident or 0))


def wait_for(condition: Callable[[], bool], within: float = WAIT) -> bool:
    """Wait at most `within` seconds for a condition to hold; return whether it does."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.002)
    return True


def shown(values: Iterable[Any]) -> str:
    """Return values in one short line, for a message to the learner."""
    texts = [value.decode() if isinstance(value, bytes) else repr(value) for value in values]
    return one_line(", ".join(texts))[:200] or "nothing"
