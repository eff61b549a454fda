"""Rules for the layout: what each module may import, and what package docstrings must list."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gochat

from .support import LOCAL, ROOT, command, finished

HOUSE = Path(gochat.__file__).parent

#: For each module, the modules of gochat that it may import at run time. A name includes the
#: modules below it. The longest name that matches a module applies.
RULES = {
    "version": (),
    "golang": ("golang",),
    "golang.clock": (),
    "golang.frames": (),
    "golang.turns": ("golang.goroutine", "golang.runtime"),
    "golang.bytes": (),
    "golang.dial": (),
    "golang.flag": (),
    "golang.closed": ("golang.goroutine",),
    "golang.goroutine": (),
    "golang.channel": ("golang.closed", "golang.goroutine", "golang.runtime"),
    # Only this module knows both runtimes. Neither runtime imports the other.
    "golang.runtime": ("golang.runtime.threads", "golang.runtime.greenlets"),
    "golang.runtime.threads": ("golang.runtime.threads", "golang.closed", "golang.goroutine"),
    "golang.runtime.threads.handover": (
        *("golang.runtime.threads.turns", "golang.closed", "golang.goroutine"),
    ),
    "golang.runtime.threads.turns": ("golang.goroutine",),
    "golang.runtime.threads.processor": ("golang.runtime.threads.turns",),
    "golang.runtime.threads.sockets": (),
    "golang.runtime.threads.thread": ("golang.goroutine",),
    "golang.runtime.greenlets": (
        *("golang.runtime.greenlets", "golang.closed", "golang.goroutine"),
    ),
    "golang.log": ("golang.runtime",),
    "golang.http": ("golang.http", "golang.clock", "golang.runtime"),
    "golang.http.address": (),
    "golang.http.response": (),
    "golang.http.reader": ("golang.clock", "golang.runtime"),
    "golang.http.admission": ("golang.http.address", "golang.runtime"),
    "golang.http.request": ("golang.http.address", "golang.http.reader"),
    "golang.http.helper": ("golang.runtime",),
    "golang.http.connection": ("golang.http.helper", "golang.runtime"),
    "golang.http.handler": (
        *("golang.http.address", "golang.http.connection", "golang.http.reader"),
        *("golang.http.request", "golang.http.response"),
    ),
    "golang.websocket": (
        *("golang.websocket", "golang.clock", "golang.frames", "golang.runtime", "golang.http"),
    ),
    "golang.websocket.protocol": (),
    "golang.websocket.library": (),
    "anyhub": ("golang.goroutine",),
    "hub": ("anyhub", "client", "golang.channel"),
    "client": ("anyhub", "golang"),
    "relay": ("relay", "golang.channel", "golang.clock", "golang.flag", "golang.runtime", "hub"),
    "relay.ledger": ("relay.entry",),
    "relay.bound": (),
    "relay.stream": ("relay.entry", "golang.clock"),
    "relay.entry": (),
    "trace": ("trace.recorder", "trace.chrome", "golang", "hub", "client"),
    "trace.recorder": (),
    "trace.chrome": ("trace.recorder", "version"),
    "trace.svg": ("trace.recorder", "trace.chrome"),
    "trace.command": ("trace.recorder", "trace.chrome", "trace.svg", "golang.flag"),
    "bench": ("bench", "golang.dial", "golang.flag", "golang.frames"),
    "exercise": ("exercise", "golang", "hub", "client"),
    "exercise.catalogue": (),
    "exercise.command": ("exercise.catalogue", "exercise.run", "golang.flag"),
    "exercise.starters": ("", "golang"),
    "talk": (),
    "talk.lines": (),
    "talk.frames": ("golang.frames",),
    "talk.connection": ("talk.frames", "golang.dial"),
    "talk.session": ("talk.connection",),
    "talk.terminal": ("talk.session",),
    "talk.command": ("talk", "golang.dial", "golang.flag"),
    "ops": ("ops", "golang", "anyhub", "hub", "client"),
    # The command is above everything, even main.
    "ops.command": (
        *("main", "ops.config", "ops.deploy", "ops.flags", "ops.processes", "ops.serve"),
        *("ops.greenlets", "golang"),
    ),
    "ops.config": ("client", "golang"),
    "ops.deploy": ("ops", "golang", "hub", "client", "relay", "trace.probe"),
    "ops.serve": ("golang", "hub", "relay"),
    "ops.processes": ("ops.systemd", "ops.signals", "golang.clock", "golang.http.address"),
    "ops.greenlets": ("golang.runtime",),
    "ops.signals": (),
    "ops.health": ("golang", "hub"),
    "ops.flags": ("ops.config", "client", "golang", "version"),
    "ops.page": ("golang.http",),
    "ops.routes": ("golang.http",),
    "ops.view": (
        *("ops.view", "ops.clients", "ops.health", "ops.page", "ops.routes"),
        *("golang", "anyhub", "hub", "client"),
    ),
    "ops.systemd": (),
    "main": ("ops", "client", "anyhub", "hub", "golang"),
    "__main__": (),
    "": ("main", "ops", "client", "anyhub", "hub", "golang", "version"),
}

#: Third-party packages, and the modules that may import them.
GUESTS = {
    "gevent": ("golang.runtime",),
    "greenlet": ("golang.runtime.greenlets",),
    "simple_websocket": ("golang.websocket.library",),
    "wsproto": ("talk.connection",),
    "werkzeug": ("golang.http", "ops.page"),
    "prometheus_client": ("ops.metrics",),
    "matplotlib": ("bench.plot",),
    "redis": ("relay.stream",),
    "docutils": (),
    "furo": (),
    "myst_parser": (),
    "pygments": (),
    "sphinx": (),
    "sphinx_design": (),
    "prompt_toolkit": ("talk.terminal",),
}


def name_of(path: Path) -> str:
    """Return a module's name without "gochat."."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in HOUSE.rglob("*.py")}
PACKAGES = [name for name, path in MODULES.items() if path.name == "__init__.py"]


def at_run_time(node: ast.AST, at_once: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of a module that run outside type checking.

    at_once: whether to leave out those inside functions.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif at_once and isinstance(child, ast.FunctionDef):
            continue
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from at_run_time(child, at_once)


def imports(name: str, *, at_once: bool = False) -> set[str]:
    """Return the full names of the modules that a module imports at run time.

    at_once: whether to leave out those imported inside functions.
    """
    path = MODULES[name]
    package = ["gochat", *name.split(".")] if name else ["gochat"]
    if path.name != "__init__.py":
        package.pop()
    found = set()
    for node in at_run_time(ast.parse(path.read_text()), at_once):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        module = ".".join([*base, *(node.module or "").split(".")]).strip(".")
        for alias in node.names:
            whole = f"{module}.{alias.name}".removeprefix("gochat.")
            found.add(f"gochat.{whole}" if whole in MODULES and node.level else module)
    return found


def own_imports(name: str) -> set[str]:
    return {
        found.partition(".")[2] for found in imports(name) if found.partition(".")[0] == "gochat"
    }


def is_within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_downward(name: str) -> None:
    """A module imports only what RULES allow."""
    rule = max((key for key in RULES if is_within(name, (key,))), key=len, default="")
    for found in own_imports(name):
        assert is_within(found, RULES[rule]), f"{name} may not import {found}"


def test_no_circle() -> None:
    reached = {name: own_imports(name) for name in MODULES}
    for name in MODULES:
        seen: set[str] = set()
        ahead = set(reached[name])
        while ahead:
            found = ahead.pop()
            seen.add(found)
            ahead |= reached.get(found, set()) - seen
        assert name not in seen, f"{name} imports itself"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_guests_have_one_door(name: str) -> None:
    """A third-party package is imported only by the modules in GUESTS."""
    for found in imports(name):
        places = GUESTS.get(found.partition(".")[0])
        assert places is None or is_within(name, places), f"{name} may not import {found}"


@pytest.mark.parametrize(
    "door",
    [
        *("relay", "trace", "ops.processes", "ops.metrics", "ops.view"),
        *("exercise.run", "talk.command"),
    ],
)
def test_what_most_chats_do_not_need(door: str) -> None:
    """Modules that few chats need are imported only inside functions."""
    for name in MODULES:
        if not is_within(name, (door,)):
            for found in imports(name, at_once=True):
                assert not is_within(found.removeprefix("gochat."), (door,)), name


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_says_what_is_in_it(name: str) -> None:
    """A package's docstring lists exactly its files and packages."""
    folder = MODULES[name].parent
    text = ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py", "__main__.py"}
    files -= {"version.py"}
    files |= {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"^    (\w+\.py|\w+/)", text, re.MULTILINE)) == files
    assert name == "" or "The rules" in text, "a package says what may be in it"


#: Prints the modules that `import gochat` loads, one per line.
LOADED = """
import sys
import gochat
print(*sorted(sys.modules), sep="\\n")
"""

#: The modules of gochat that a server needs.
NEEDED = {
    "gochat": "anyhub client golang hub main ops version",
    "gochat.golang": (
        "bytes channel clock closed flag frames goroutine http log runtime websocket"
    ),
    "gochat.ops": "clients config deploy health page serve signals systemd",
}


def test_what_an_import_loads() -> None:
    done = finished([sys.executable, "-c", LOADED])
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    for package, names in NEEDED.items():
        found = re.findall(rf"^{re.escape(package)}\.(\w+)$", done.stdout, re.MULTILINE)
        assert found == names.split()
    # asyncio is not in this list, because simple-websocket imports it.
    strangers = {
        "gevent",
        "multiprocessing",
        "redis",
        "prometheus_client",
        "prompt_toolkit",
        "matplotlib",
    }
    assert not loaded & {*strangers, "resource", "termios", "readline", "statistics", "sphinx"}


#: Runs programs without the modules and names that Windows lacks. Other packages are imported
#: first, because they support Windows.
WITHOUT_POSIX = """
import os, runpy, select, signal, socket, sys
import importlib.metadata, simple_websocket, werkzeug.serving

for name in ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, names in (
    (select, "PIPE_BUF epoll poll"),
    (socket, "AF_UNIX MSG_DONTWAIT SO_REUSEPORT"),
    (os, "O_NOCTTY O_NONBLOCK SCHED_BATCH fork getuid sched_getaffinity sched_setscheduler setsid"),
    (signal, "SIGHUP SIGKILL SIGUSR1 pthread_sigmask"),
):
    for name in names.split():
        delattr(module, name)
for program in sys.argv[1:]:
    runpy.run_path(program, run_name="__main__")
"""


def test_the_lesson_needs_no_posix() -> None:
    steps = sorted(ROOT.glob("examples/lesson/0*.py"))
    assert len(steps) == 9
    done = finished([sys.executable, "-c", WITHOUT_POSIX, *map(str, steps)])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.measured
def test_to_serve_needs_posix() -> None:
    """On Windows, `gochat serve` fails with a line that suggests WSL."""
    windows = "import os, gochat.ops.command\nos.name = 'nt'\ndel os.O_NONBLOCK, os.O_NOCTTY"
    done = finished([*command(windows), "serve", "--addr", LOCAL])
    assert done.returncode == 1
    assert done.stderr == "gochat: serve needs POSIX, which Windows does not have: use WSL\n"


#: The maximum number of lines in each twin. The Go files have 53, 137 and 40 lines.
TWINS = {"hub": 60, "client": 150, "main": 60}


@pytest.mark.parametrize("twin", TWINS)
def test_the_twins_stay_plain(twin: str) -> None:
    """The twins of the Go files are short, and have no locks, socket options or metrics."""
    text = MODULES[twin].read_text()
    assert len(text.splitlines()) <= TWINS[twin]
    assert not re.search(r"Lock\(|setsockopt|import socket|import threading|metric", text)


@pytest.mark.parametrize("name", sorted(name for name in MODULES if is_within(name, ("golang",))))
def test_no_variable_hides_an_import(name: str) -> None:
    """No function calls a method of a local variable named like an import.

    If the module imports a name, Python compiles `name.method()` as a call of a module's function.
    For any other object, that code creates a bound method, which doubles the cost of a send.
    """
    tree = ast.parse(MODULES[name].read_text())
    nodes = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    imported = {each.asname or each.name for node in nodes for each in node.names}
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        inside = list(ast.walk(function))
        local = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for node in inside:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                hides = node.value.id in local & imported
                assert not hides, f"{function.name} has a variable {node.value.id}"
